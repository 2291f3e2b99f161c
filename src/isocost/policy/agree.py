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
_LEAST_TASK = 5
"""Questions from which a task is told apart from any other."""
LETTERS = "ABCDEFGH"


@dataclass(frozen=True)
class Part:
    """Some questions, as a choice of models sees them.

    ``quality`` and ``cost`` (n, M), ``answer`` (n, M) codes within a question (-1: none), ``task`` (n,).
    Costs are in units of the strong model's mean cost, which is model ``strong``. ``text`` may be empty.
    ``whole``: every grade of the file that they are of is 0 or 1 (``None``: as these grades are).
    """

    quality: Floats
    cost: Floats
    answer: Ints
    task: Ints
    tasks: int
    strong: int
    text: tuple[str, ...] = ()
    has_answers: bool = True
    whole: bool | None = None

    def __len__(self) -> int:
        return len(self.quality)

    def take(self, rows: Ints) -> Part:
        """Some of the questions."""
        text = tuple(self.text[i] for i in rows) if self.text else ()
        return Part(
            self.quality[rows], self.cost[rows], self.answer[rows], self.task[rows],
            self.tasks, self.strong, text, self.has_answers, self.whole,
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
        return run_each((self,), part)[0]


def run_each(cascades: Sequence[Cascade], part: Part) -> list[Chosen]:
    """Run cascades that differ in what they accept alone, as those of :meth:`Reading.fits` do."""
    chain, steps = cascades[0].chain, cascades[0].steps
    n, count, length = len(part), len(cascades), len(chain)
    read, models = patterns(part.answer, chain), np.asarray(chain)
    alive, cost = np.ones((count, n), dtype=np.bool_), np.zeros((count, n))
    model = np.full((count, n), part.strong, dtype=np.int64)
    for d, step in enumerate(steps):
        cost += np.where(alive, part.cost[:, chain[d]], 0.0)
        at = np.minimum(np.searchsorted(step.code, read.code[d]), len(step.code) - 1)
        known = step.code[at] == read.code[d]
        last = d == length - 1
        group = np.where(known, step.take[at, part.task], read.label[:, d] if last else -1)
        first = (read.label[:, : d + 1] == group[:, None]) & (group >= 0)[:, None]
        giver = models[np.where(first.any(axis=1), first.argmax(axis=1), d)]
        accept = np.stack([(known & one.steps[d].accept[at, part.task]) | last for one in cascades])
        model = np.where(alive & accept, giver, model)
        alive &= ~accept
    return [chosen(part, model[k], cost[k]) for k in range(count)]


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
    hit, miss = np.log(right.T), np.log((1.0 - right.T) / _WRONG_WAYS)
    # Answers by row: numpy is slow along an axis of few.
    groups, none = np.full((length, n), -np.inf), np.zeros(n)
    out = []
    for d in range(length):
        mine = label[:, d]
        given = mine >= 0
        start = np.where(np.isneginf(groups[: d + 1]), none, groups[: d + 1])
        is_mine = mine == np.arange(d + 1)[:, None]
        seen = ~np.isneginf(groups[: d + 1]) | is_mine
        start = np.where(given, start + np.where(is_mine, hit[d], miss[d]), start)
        groups[: d + 1] = np.where(seen, start, -np.inf)
        none = none + np.where(given, miss[d], 0.0)
        rest = none + np.log(np.maximum(1.0, _WRONG_WAYS - seen.sum(axis=0)))
        top = np.maximum(groups[: d + 1].max(axis=0), rest)
        each = np.exp(groups[: d + 1] - top)
        out.append((each / (each.sum(axis=0) + np.exp(rest - top))).T)
    return out


class Reading:
    """A chain's patterns, likelihoods and pay-offs on graded questions: made once, fitted for many worths.

    Tasks of fewer than five questions are one with those that were not seen.
    """

    def __init__(self, part: Part, chain: Sequence[int], right: Floats | None = None) -> None:
        self.part, self.chain = part, tuple(chain)
        known = np.flatnonzero(np.bincount(part.task, minlength=part.tasks)[: part.tasks] >= _LEAST_TASK)
        self.kept = len(known)
        self.place = np.full(part.tasks + 1, self.kept)
        self.place[known] = np.arange(self.kept)
        self.right = (reliability(part) if right is None else right)[[*known, part.tasks]]
        task = self.place[part.task]
        read = patterns(part.answer, self.chain)
        self.codes, self.where = [], []
        self.best: list[Ints] = []
        self.pays: list[Floats] = []
        self.cells: list[Floats] = []
        self._squares: dict[int, Floats] = {}
        self._tables: dict[int, tuple[Floats, Ints, Bools]] = {}
        chances = likely(read.label, self.right[task][:, list(self.chain)])
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
            self.cells.append(self._features(where, len(codes), task, chance.max(axis=1)))

    def _features(self, where: Ints, count: int, task: Ints, chance: Floats) -> Floats:
        n, tasks = len(where), self.kept
        odds = np.log(np.clip(chance, 1e-4, 1.0) / np.clip(1.0 - chance, 1e-4, 1.0))
        out = np.zeros((n, 3 + count + 2 * tasks))
        out[:, 0], out[:, 1], out[:, 2] = 1.0, chance, odds
        rows = np.arange(n)
        out[rows, 3 + where] = 1.0
        seen = task < tasks
        out[rows[seen], 3 + count + task[seen]] = 1.0
        out[rows[seen], 3 + count + tasks + task[seen]] = odds[seen]
        return out

    def _weights(self, d: int, gain: Floats) -> Floats:
        """Ridge weights after answer ``d``, (features, worths), of what accepting gains, (n, worths)."""
        features = self.cells[d]
        if d not in self._squares:
            penalty = np.full(features.shape[1], _PENALTY_CELL)
            penalty[:3] = (1e-3, _PENALTY_SCORE, 3 * _PENALTY_SCORE)
            self._squares[d] = np.asarray(features.T @ features + np.diag(penalty), dtype=np.float64)
        return np.asarray(np.linalg.solve(self._squares[d], features.T @ gain), dtype=np.float64)

    def _swept(self, worths: Floats) -> tuple[Floats, list[Floats]]:
        """Value of each question once the first answer is in, (n, worths), and the weights of each step but
        the last."""
        value, weights = np.repeat(self.pays[-1][:, None], len(worths), axis=1), []
        for d in range(len(self.chain) - 2, -1, -1):
            on = value - self.part.cost[:, self.chain[d + 1], None] * worths[None, :]
            pay = self.pays[d][:, None]
            mine = self._weights(d, pay - on)
            value = np.where(self.cells[d] @ mine >= 0.0, pay, on)
            weights.append(mine)
        return value, weights[::-1]

    def values(self, worths: Sequence[float]) -> Floats:
        """Mean quality less the worth of the cost, on the questions of the fit, (worths,)."""
        each = np.asarray(worths, dtype=np.float64)
        first = float(self.part.cost[:, self.chain[0]].mean())
        return np.asarray(self._swept(each)[0].mean(axis=0) - each * first, dtype=np.float64)

    def fit(self, worth: float) -> Cascade:
        """The cascade for which a unit of cost is worth so much quality."""
        return self.fits((worth,))[0]

    def fits(self, worths: Sequence[float]) -> list[Cascade]:
        """The cascade of each worth: they differ in what they accept alone."""
        weights = self._swept(np.asarray(worths, dtype=np.float64))[1]
        last = len(self.chain) - 1
        steps = [self._steps(d, weights[d] if d < last else None, len(worths)) for d in range(last + 1)]
        return [
            Cascade(self.chain, tuple(step[k] for step in steps), worth) for k, worth in enumerate(worths)
        ]

    def _table(self, d: int) -> tuple[Floats, Ints, Bools]:
        """Features of every pattern with every task, which group is likeliest, and patterns without an
        answer."""
        if d not in self._tables:
            codes, tasks = self.codes[d], self.kept
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

    def _steps(self, d: int, weights: Floats | None, count: int) -> list[Step]:
        """The table of a step for each worth: every pattern seen here, with every task."""
        features, take, blank = self._table(d)
        every = take[:, self.place]
        if weights is None:
            return [Step(self.codes[d], np.ones(every.shape, dtype=np.bool_), every)] * count
        accept = (features @ weights >= 0.0).T.reshape(count, *take.shape) & ~blank[None, :, None]
        return [Step(self.codes[d], each[:, self.place], every) for each in accept]
