"""Cascades: ask cheap models first, read whether their answers agree, ask the next or accept.

What is read is the pattern of agreement (``A``, ``AA``, ``AB``, ``A-`` where the second gave no answer) and
the task. A fit estimates how reliable each model is on each task, from there how likely each answer is
right, and then, from the last step to the first, whether accepting now is worth more than what asking on
brings and costs (approximate dynamic programming; every estimate is shrunk, so that a few hundred grades
suffice). The result is a table that a person can read and a kernel can run: pattern and task to *accept
this answer* or *ask on*.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from isocost.policy.outcomes import Floats, Ints

Bools = npt.NDArray[np.bool_]

LONGEST = 5
"""Models in a chain at most, the strong one included."""
_FEW_MODEL, _FEW_TASK = 30.0, 10.0
"""Grades that what is known of a model or a task in general counts for, beside the grades of the cell."""
_WRONG_WAYS = 4.0
"""Wrong answers that a wrong model is taken to choose among."""
_PENALTY_SCORE, _PENALTY_CELL = 3.0, 300.0
"""Grades against which the slope of a score, and the effect of one pattern or task, must hold."""
LETTERS = "ABCDEFGH"


@dataclass(frozen=True)
class Part:
    """Some questions, as a choice of models sees them.

    ``quality`` and ``cost`` (n, M), ``answer`` (n, M) codes within a question (-1: none), ``task`` (n,).
    Costs are in units of the strong model's mean cost, which is model ``strong``. ``text`` may be empty.
    """

    quality: Floats
    cost: Floats
    answer: Ints
    task: Ints
    tasks: int
    strong: int
    text: tuple[str, ...] = ()
    has_answers: bool = True

    def __len__(self) -> int:
        return len(self.quality)

    def take(self, rows: Ints) -> Part:
        """Some of the questions."""
        text = tuple(self.text[i] for i in rows) if self.text else ()
        return Part(
            self.quality[rows], self.cost[rows], self.answer[rows], self.task[rows],
            self.tasks, self.strong, text, self.has_answers,
        )  # fmt: skip


@dataclass(frozen=True)
class Chosen:
    """What a policy did: quality and cost (n,) of each question, the model whose answer was given, and
    whether that answer may differ from the strong model's (only then does it need a grade)."""

    quality: Floats
    cost: Floats
    model: Ints
    differs: Bools


def chosen(part: Part, model: Ints, cost: Floats) -> Chosen:
    """The outcome of answering each question with a model's answer at a cost."""
    rows = np.arange(len(part))
    differs = model != part.strong
    if part.has_answers:
        given, strongs = part.answer[rows, model], part.answer[:, part.strong]
        differs &= (given != strongs) | (given < 0)
    quality = np.where(differs, part.quality[rows, model], part.quality[:, part.strong])
    return Chosen(quality, cost, model, differs)


@dataclass(frozen=True)
class Patterns:
    """Agreement along a chain: ``code[d]`` (n,) after d + 1 answers; ``label`` (n, L) the group of each
    answer, in order of appearance, -1 where there is none."""

    code: tuple[Ints, ...]
    label: Ints


def patterns(answer: Ints, chain: Sequence[int]) -> Patterns:
    """Read the answers of a chain in turn.

    >>> patterns(np.array([[7, 7, 3], [5, 2, -1]]), (0, 1, 2)).label.tolist()
    [[0, 0, 1], [0, 1, -1]]
    """
    n, length = len(answer), len(chain)
    label = np.full((n, length), -1, dtype=np.int64)
    groups, code = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.int64)
    codes = []
    for d, model in enumerate(chain):
        mine = answer[:, model]
        found = np.full(n, -1, dtype=np.int64)
        for before in range(d):
            same = (found < 0) & (mine >= 0) & (mine == answer[:, chain[before]])
            found = np.where(same, label[:, before], found)
        new = (found < 0) & (mine >= 0)
        label[:, d] = np.where(new, groups, found)
        groups = groups + new
        code = code * (LONGEST + 2) + label[:, d] + 1
        codes.append(code)
    return Patterns(tuple(codes), label)


def written(code: int, length: int) -> str:
    """A pattern in letters.

    >>> written(1 * 7 + 1, 2), written((1 * 7 + 2) * 7 + 0, 3)
    ('AA', 'AB-')
    """
    out = ""
    for _ in range(length):
        code, label = divmod(code, LONGEST + 2)
        out = ("-" if label == 0 else LETTERS[label - 1]) + out
    return out


@dataclass(frozen=True)
class Step:
    """After one answer more: sorted pattern codes (u,), whether to accept (u, tasks + 1) and which group's
    answer.

    The last column of tasks is for a task that was not seen. A pattern that was not seen is not accepted.
    """

    code: Ints
    accept: Bools
    take: Ints


@dataclass(frozen=True)
class Cascade:
    """Models in the order in which they are asked, the strong one last, and a step for each.

    ``worth`` is the quality that a cost of one mean strong answer must buy, as it was fitted for.
    """

    chain: tuple[int, ...]
    steps: tuple[Step, ...]
    worth: float

    def run(self, part: Part) -> Chosen:
        """Ask along the chain until a pattern is accepted; every question that was asked is paid."""
        n, length = len(part), len(self.chain)
        read = patterns(part.answer, self.chain)
        rows = np.arange(n)
        alive, cost = np.ones(n, dtype=np.bool_), np.zeros(n)
        model = np.full(n, part.strong, dtype=np.int64)
        for d, step in enumerate(self.steps):
            cost = cost + np.where(alive, part.cost[:, self.chain[d]], 0.0)
            at = np.minimum(np.searchsorted(step.code, read.code[d]), len(step.code) - 1)
            known = step.code[at] == read.code[d]
            last = d == length - 1
            accept = (known & step.accept[at, part.task]) | last
            group = np.where(known, step.take[at, part.task], read.label[:, d] if last else -1)
            stop = alive & accept
            first = (read.label[:, : d + 1] == group[:, None]) & (group >= 0)[:, None]
            giver = np.asarray(self.chain)[np.where(first.any(axis=1), first.argmax(axis=1), d)]
            model[rows[stop]] = giver[stop]
            alive = alive & ~accept
        return chosen(part, model, cost)


@dataclass(frozen=True)
class Fixed:
    """Always the same model."""

    model: int

    def run(self, part: Part) -> Chosen:
        """Ask the one model."""
        return chosen(part, np.full(len(part), self.model, dtype=np.int64), part.cost[:, self.model])


@dataclass(frozen=True)
class ByTask:
    """A model for each task; the last entry is for a task that was not seen."""

    models: tuple[int, ...]

    def run(self, part: Part) -> Chosen:
        """Ask each task's model."""
        model = np.asarray(self.models, dtype=np.int64)[part.task]
        return chosen(part, model, part.cost[np.arange(len(part)), model])


def reliability(part: Part) -> Floats:
    """How often each model is right on each task (tasks + 1, M), shrunk towards the model and the task.

    The last row is for a task that was not seen.
    """
    overall = part.quality.mean(axis=0)
    out = np.empty((part.tasks + 1, part.quality.shape[1]))
    out[part.tasks] = overall
    whole = part.quality.mean()
    for task in range(part.tasks):
        mine = part.task == task
        count = int(mine.sum())
        shift = (part.quality[mine].mean() - whole) * count / (count + _FEW_TASK) if count else 0.0
        prior = np.clip(overall + shift, 0.02, 0.98)
        out[task] = (part.quality[mine].sum(axis=0) + _FEW_MODEL * prior) / (count + _FEW_MODEL)
    return np.clip(out, 0.02, 0.98)


def likely(label: Ints, right: Floats) -> list[Floats]:
    """How likely each group's answer is the right one, after each answer: arrays (n, d + 1).

    ``right`` (n, L) is the reliability of each answer's model on the question's task. Models err
    independently here, which they do not; the fit corrects for it on the grades.
    """
    n, length = label.shape
    hit, miss = np.log(right), np.log((1.0 - right) / _WRONG_WAYS)
    none = np.zeros(n)
    log = np.zeros((n, length))
    seen = np.zeros((n, length), dtype=np.bool_)
    out = []
    for d in range(length):
        given = label[:, d] >= 0
        for g in range(d + 1):
            start = np.where(seen[:, g], log[:, g], none)
            added = np.where(label[:, d] == g, hit[:, d], miss[:, d])
            log[:, g] = np.where(given, start + added, start)
            seen[:, g] |= label[:, d] == g
        none = none + np.where(given, miss[:, d], 0.0)
        groups = np.where(seen[:, : d + 1], log[:, : d + 1], -np.inf)
        rest = none + np.log(np.maximum(1.0, _WRONG_WAYS - seen[:, : d + 1].sum(axis=1)))
        top = np.maximum(groups.max(axis=1), rest)
        each = np.exp(groups - top[:, None])
        out.append(each / (each.sum(axis=1) + np.exp(rest - top))[:, None])
    return out


class Reading:
    """A chain's patterns, likelihoods and pay-offs on graded questions: made once, fitted for many worths."""

    def __init__(self, part: Part, chain: Sequence[int], right: Floats | None = None) -> None:
        self.part, self.chain = part, tuple(chain)
        self.right = reliability(part) if right is None else right
        read = patterns(part.answer, self.chain)
        self.codes, self.where = [], []
        self.best: list[Ints] = []
        self.pays: list[Floats] = []
        self.cells: list[Floats] = []
        self._projections: dict[int, Floats] = {}
        self._tables: dict[int, tuple[Floats, Ints, Bools]] = {}
        chances = likely(read.label, self.right[part.task][:, list(self.chain)])
        rows = np.arange(len(part))
        models = np.asarray(self.chain)
        for d, chance in enumerate(chances):
            best = chance.argmax(axis=1)
            first = (read.label[:, : d + 1] == best[:, None]).argmax(axis=1)
            held = (read.label[:, : d + 1] == best[:, None]).any(axis=1)
            self.pays.append(part.quality[rows, models[np.where(held, first, d)]])
            codes, where = np.unique(read.code[d], return_inverse=True)
            self.codes.append(codes)
            self.where.append(where)
            self.best.append(best)
            self.cells.append(self._features(where, len(codes), part.task, chance.max(axis=1)))

    def _features(self, where: Ints, count: int, task: Ints, chance: Floats) -> Floats:
        n, tasks = len(where), self.part.tasks
        odds = np.log(np.clip(chance, 1e-4, 1.0) / np.clip(1.0 - chance, 1e-4, 1.0))
        out = np.zeros((n, 3 + count + 2 * tasks))
        out[:, 0], out[:, 1], out[:, 2] = 1.0, chance, odds
        rows = np.arange(n)
        out[rows, 3 + where] = 1.0
        seen = task < tasks
        out[rows[seen], 3 + count + task[seen]] = 1.0
        out[rows[seen], 3 + count + tasks + task[seen]] = odds[seen]
        return out

    def _projection(self, d: int) -> Floats:
        """What turns pay-offs into weights after answer ``d``: (features, n), made once."""
        if d not in self._projections:
            features = self.cells[d]
            penalty = np.full(features.shape[1], _PENALTY_CELL)
            penalty[:3] = (1e-3, _PENALTY_SCORE, 3 * _PENALTY_SCORE)
            solved = np.linalg.solve(features.T @ features + np.diag(penalty), features.T)
            self._projections[d] = np.asarray(solved, dtype=np.float64)
        return self._projections[d]

    def _values(self, worth: float) -> tuple[Floats, list[Floats]]:
        """Value of each question once the first answer is in, and the weights of each step but the last."""
        value, weights = self.pays[-1], []
        for d in range(len(self.chain) - 2, -1, -1):
            on = value - worth * self.part.cost[:, self.chain[d + 1]]
            mine = self._projection(d) @ (self.pays[d] - on)
            value = np.where(self.cells[d] @ mine >= 0.0, self.pays[d], on)
            weights.append(mine)
        return value, weights[::-1]

    def value(self, worth: float) -> float:
        """Mean quality less the worth of the cost, on the questions of the fit."""
        return float((self._values(worth)[0] - worth * self.part.cost[:, self.chain[0]]).mean())

    def fit(self, worth: float) -> Cascade:
        """The cascade for which a unit of cost is worth so much quality."""
        weights = self._values(worth)[1]
        last = len(self.chain) - 1
        steps = [self._step(d, weights[d] if d < last else None) for d in range(last + 1)]
        return Cascade(self.chain, tuple(steps), worth)

    def _table(self, d: int) -> tuple[Floats, Ints, Bools]:
        """Features of every pattern with every task, which group is likeliest, and patterns without an
        answer."""
        if d not in self._tables:
            codes, tasks = self.codes[d], self.part.tasks
            place = (LONGEST + 2) ** np.arange(d, -1, -1, dtype=np.int64)
            labels = codes[:, None] // place[None, :] % (LONGEST + 2) - 1
            task = np.tile(np.arange(tasks + 1), len(codes))
            every = np.repeat(labels, tasks + 1, axis=0)
            chance = likely(every, self.right[task][:, list(self.chain[: d + 1])])[d]
            where = np.repeat(np.arange(len(codes)), tasks + 1)
            features = self._features(where, len(codes), task, chance.max(axis=1))
            take = chance.argmax(axis=1).reshape(len(codes), tasks + 1)
            blank = np.asarray((labels < 0).all(axis=1), dtype=np.bool_)
            self._tables[d] = (features, np.asarray(take, dtype=np.int64), blank)
        return self._tables[d]

    def _step(self, d: int, weights: Floats | None) -> Step:
        """The table of a step: every pattern seen here, with every task."""
        features, take, blank = self._table(d)
        shape = take.shape
        if weights is None:
            return Step(self.codes[d], np.ones(shape, dtype=np.bool_), take)
        accept = (features @ weights >= 0.0).reshape(shape) & ~blank[:, None]
        return Step(self.codes[d], accept, take)
