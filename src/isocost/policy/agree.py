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
from functools import cached_property

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

    @cached_property
    def means(self) -> tuple[Floats, Floats]:
        """Mean quality of each model, (M,), on the questions that all have a grade on, and mean cost."""
        graded = np.isfinite(self.quality).all(axis=1)
        size = self.quality.shape[1]
        quality = self.quality[graded].mean(axis=0) if graded.any() else np.zeros(size)
        cost = self.cost.mean(axis=0) if len(self) else np.zeros(size)
        return np.asarray(quality, dtype=np.float64), np.asarray(cost, dtype=np.float64)

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
    """The outcome of answering each question with a model's answer at a cost; (n,), or (policies, n)."""
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
        model, cost = run_each((self,), part)
        return chosen(part, model[0], cost[0])


def run_each(cascades: Sequence[Cascade], part: Part) -> tuple[Ints, Floats]:
    """The model whose answer each of some cascades gives and what it costs, (cascades, n) both.

    They differ in what they accept alone, as those of :meth:`Reading.fits` do.
    """
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
        if last:
            return np.where(alive, giver, model), cost
        accept = known & np.stack([one.steps[d].accept for one in cascades])[:, at, part.task]
        model = np.where(alive & accept, giver, model)
        alive &= ~accept
    return model, cost


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
    overall, whole = part.quality.mean(axis=0), part.quality.mean()
    size = len(overall)
    count = np.bincount(part.task, minlength=part.tasks)[: part.tasks]
    right = np.zeros((part.tasks, size))
    order = np.argsort(part.task, kind="stable")[: count.sum()]
    seen = np.flatnonzero(count)
    if len(seen):
        first = (np.cumsum(count) - count)[seen]
        right[seen] = np.add.reduceat(part.quality[order], first, axis=0)
    shift = (right.sum(axis=1) / (np.maximum(1, count) * size) - whole) * count / (count + _FEW_TASK)
    prior = np.clip(overall + shift[:, None], 0.02, 0.98)
    of_task = (right + _FEW_MODEL * prior) / (count + _FEW_MODEL)[:, None]
    return np.asarray(np.clip(np.concatenate([of_task, overall[None]]), 0.02, 0.98), dtype=np.float64)


def _coded(code: Ints, most: int) -> tuple[Ints, Ints]:
    """The codes below ``most`` that occur, in order, and the place of each among them."""
    codes = np.flatnonzero(np.bincount(code, minlength=most))
    place = np.zeros(most, dtype=np.int64)
    place[codes] = np.arange(len(codes))
    return codes, place[code]


def likely(label: Ints, right: Floats) -> Floats:
    """How likely each group's answer is the right one, (L, u, T), after answers of L models in turn.

    ``label`` (u, L) are patterns, ``right`` (T, L) is how reliable the models are on each task. Models err
    independently here, which they do not; the fit corrects for it on the grades.
    """
    said, names = label.T, np.arange(label.shape[1])
    hit, miss = np.log(right.T), np.log((1.0 - right.T) / _WRONG_WAYS)
    mine = said[:, None, :] == names[None, :, None]
    missed = np.where((said >= 0)[:, :, None], miss[:, None, :], 0.0)
    groups = np.where(mine[:, :, :, None], hit[:, None, None, :], missed[:, None]).sum(axis=0)
    seen = mine.any(axis=0)
    rest = missed.sum(axis=0) + np.log(np.maximum(1.0, _WRONG_WAYS - seen.sum(axis=0)))[:, None]
    groups = np.where(seen[:, :, None], groups, -np.inf)
    top = np.maximum(groups.max(axis=0), rest)
    each = np.exp(groups - top)
    return np.asarray(each / (each.sum(axis=0) + np.exp(rest - top)), dtype=np.float64)


class _Depth:
    """Graded questions after the answers of some models in turn, as a fit reads them.

    What is read is a pattern and a task, so all that depends on these alone is worked out once for each of
    the u patterns seen and each of T + 1 tasks, the last of which is any other: ``chance`` (u, T + 1) that
    the likeliest group's answer is right, ``odds`` its log odds, ``take`` the group. ``pay`` (n,) is the
    quality of that answer, ``cell`` (n,) where each question is in such a table.
    """

    def __init__(self, answer: Ints, quality: Floats, task: Ints, right: Floats, before: _Depth | None):
        """Of the answers and grades (L, n) of the models in turn, whose reliability is (T + 1, L); ``before``
        the last of them."""
        length, n = answer.shape
        tasks, mine = len(right), answer[-1]
        found = np.full(n, -1, dtype=np.int64)
        if before is None:
            self.label = np.where(mine >= 0, 0, -1)[None]
            self.code = self.label[0] + 1
        else:
            for d in range(length - 1):
                found = np.where((found < 0) & (mine == answer[d]), before.label[d], found)
            found = np.where(found < 0, before.label.max(axis=0) + 1, found)
            self.label = np.concatenate([before.label, np.where(mine >= 0, found, -1)[None]])
            self.code = before.code * (LONGEST + 2) + self.label[-1] + 1
        self.codes, where = _coded(self.code, (LONGEST + 2) ** length)
        count = len(self.codes)
        self.cell = where * tasks + task
        place = (LONGEST + 2) ** np.arange(length - 1, -1, -1, dtype=np.int64)
        label = self.codes[:, None] // place[None, :] % (LONGEST + 2) - 1
        self.blank = np.asarray((label < 0).all(axis=1), dtype=np.bool_)
        chance = likely(label, right)
        self.take = np.asarray(chance.argmax(axis=0), dtype=np.int64)
        self.chance = np.asarray(chance.max(axis=0), dtype=np.float64)
        held = label.T[:, :, None] == self.take
        giver = np.where(held.any(axis=0), held.argmax(axis=0), length - 1).ravel()
        self.pay = quality[giver[self.cell], np.arange(n)]
        self.shape = count, tasks

    @cached_property
    def odds(self) -> Floats:
        """Log odds of ``chance``."""
        clear, rest = np.maximum(self.chance, 1e-4), np.maximum(1.0 - self.chance, 1e-4)
        return np.asarray(np.log(clear / rest), dtype=np.float64)

    @cached_property
    def _blocks(self) -> tuple[Floats, Floats, Floats]:
        """The squares of the features with their penalty, in blocks: of score and pattern (3 + u, 3 + u),
        less what the tasks take up; of these by the tasks' (3 + u, 2 T); the tasks' alone, the inverse as
        (2, 2, T)."""
        count, tasks = self.shape
        many = np.bincount(self.cell, minlength=count * tasks).reshape(count, tasks).astype(np.float64)
        score = np.stack([np.ones_like(many), self.chance, self.odds])
        much = score * many
        head = np.zeros((3 + count, 3 + count))
        head[:3, :3] = much.reshape(3, -1) @ score.reshape(3, -1).T
        head[:3, 3:] = much.sum(axis=2)
        head[3:, :3] = head[:3, 3:].T
        on = np.arange(3 + count)
        head[on[3:], on[3:]] = head[0, 3:]
        head[on, on] += (1e-3, _PENALTY_SCORE, 3 * _PENALTY_SCORE, *(_PENALTY_CELL,) * count)
        # Features of a task are its questions and the score on it: T of the one, then T of the other.
        of_task = much[[0, 2], :, :-1].transpose(1, 0, 2)
        side = np.concatenate([
            (score[:, :, None, :-1] * of_task).sum(axis=1).reshape(3, -1), of_task.reshape(count, -1)
        ])  # fmt: skip
        plain, odd, square = side[0, : tasks - 1], side[0, tasks - 1 :], side[2, tasks - 1 :]
        plain, square = plain + _PENALTY_CELL, square + _PENALTY_CELL
        # A task's two features meet no other task's: solved one task at a time, and taken out of the rest.
        inverse = np.array([[square, -odd], [-odd, plain]]) / (plain * square - odd * odd)
        through = _times(inverse, side)
        return head - through @ side.T, through, inverse

    def gains(self, gain: Floats) -> Floats:
        """What accepting is expected to gain, (worths, u, T + 1), as ridge regression of ``gain``
        (worths, n) on the score, the pattern, the task and the score on that task has it."""
        count, tasks = self.shape
        summed = np.array([np.bincount(self.cell, one, count * tasks) for one in gain])
        summed = summed.reshape(-1, count, tasks)
        by_odds = summed * self.odds
        head = np.concatenate([
            summed.sum(axis=(1, 2))[:, None], (summed * self.chance).sum(axis=(1, 2))[:, None],
            by_odds.sum(axis=(1, 2))[:, None], summed.sum(axis=2),
        ], axis=1)  # fmt: skip
        of_task = np.concatenate([summed[:, :, :-1].sum(axis=1), by_odds[:, :, :-1].sum(axis=1)], axis=1)
        left, through, inverse = self._blocks
        first = np.linalg.solve(left, (head - of_task @ through.T).T).T
        second = _times(inverse, of_task) - first @ through
        out = first[:, 0, None, None] + self.chance * first[:, 1, None, None]
        out += self.odds * first[:, 2, None, None] + first[:, 3:, None]
        out[:, :, :-1] += second[:, None, : tasks - 1] + self.odds[:, :-1] * second[:, None, tasks - 1 :]
        return np.asarray(out, dtype=np.float64)


def _times(blocks: Floats, rows: Floats) -> Floats:
    """Rows (r, 2 T), as T of one feature and T of the other, by symmetric blocks (2, 2, T)."""
    half = rows.shape[1] // 2
    one, other = rows[:, :half], rows[:, half:]
    return np.concatenate(
        [one * blocks[0, 0] + other * blocks[1, 0], one * blocks[0, 1] + other * blocks[1, 1]], axis=1
    )


class Graded:
    """Graded questions on which chains are read: what chains that begin alike share is made once.

    Tasks of fewer than five questions are one with those that were not seen. ``right`` is the models'
    reliability, as :func:`reliability` has it on these questions or on others.
    """

    def __init__(self, part: Part, right: Floats | None = None) -> None:
        self.part = part
        known = np.flatnonzero(np.bincount(part.task, minlength=part.tasks)[: part.tasks] >= _LEAST_TASK)
        self.place = np.full(part.tasks + 1, len(known))
        self.place[known] = np.arange(len(known))
        self.right = (reliability(part) if right is None else right)[[*known, part.tasks]]
        self.task = self.place[part.task]
        self.answer, self.quality = np.ascontiguousarray(part.answer.T), np.ascontiguousarray(part.quality.T)
        self.cost = np.ascontiguousarray(part.cost.T)
        self._after: dict[tuple[int, ...], _Depth] = {}

    def after(self, asked: tuple[int, ...]) -> _Depth:
        """What is read once these models have answered in turn."""
        if asked not in self._after:
            models = list(asked)
            self._after[asked] = _Depth(
                self.answer[models], self.quality[models], self.task, self.right[:, models],
                self.after(asked[:-1]) if asked[1:] else None,
            )  # fmt: skip
        return self._after[asked]


class Reading:
    """A chain's patterns, likelihoods and pay-offs on graded questions: made once, fitted for many worths."""

    def __init__(self, ground: Graded | Part, chain: Sequence[int]) -> None:
        self.ground = ground if isinstance(ground, Graded) else Graded(ground)
        self.chain = tuple(chain)
        self.depths = [self.ground.after(self.chain[: d + 1]) for d in range(len(self.chain))]

    def _swept(self, worths: Floats) -> tuple[Floats, list[Bools]]:
        """Value of each question once the first answer is in, (worths, n), and for each step but the last
        whether to accept, (worths, patterns, tasks)."""
        value = np.repeat(self.depths[-1].pay[None], len(worths), axis=0)
        tables: list[Bools] = []
        for d in range(len(self.chain) - 2, -1, -1):
            depth = self.depths[d]
            on = value - self.ground.cost[self.chain[d + 1]] * worths[:, None]
            accept = np.asarray(depth.gains(depth.pay - on) >= 0.0, dtype=np.bool_)
            value = np.where(accept.reshape(len(worths), -1)[:, depth.cell], depth.pay, on)
            tables.append(accept)
        return value, tables[::-1]

    def values(self, worths: Sequence[float]) -> Floats:
        """Mean quality less the worth of the cost, on the questions of the fit, (worths,)."""
        each = np.asarray(worths, dtype=np.float64)
        first = float(self.ground.cost[self.chain[0]].mean())
        return np.asarray(self._swept(each)[0].mean(axis=1) - each * first, dtype=np.float64)

    def fit(self, worth: float) -> Cascade:
        """The cascade for which a unit of cost is worth so much quality."""
        return self.fits((worth,))[0]

    def fits(self, worths: Sequence[float]) -> list[Cascade]:
        """The cascade of each worth: they differ in what they accept alone."""
        tables = self._swept(np.asarray(worths, dtype=np.float64))[1]
        last = len(self.chain) - 1
        steps = [self._steps(d, tables[d] if d < last else None, len(worths)) for d in range(last + 1)]
        return [
            Cascade(self.chain, tuple(step[k] for step in steps), worth) for k, worth in enumerate(worths)
        ]

    def _steps(self, d: int, table: Bools | None, count: int) -> list[Step]:
        """The table of a step for each worth: every pattern seen here, with every task."""
        depth, place = self.depths[d], self.ground.place
        every = depth.take[:, place]
        if table is None:
            return [Step(depth.codes, np.ones(every.shape, dtype=np.bool_), every)] * count
        accept = (table & ~depth.blank[:, None])[:, :, place]
        return [Step(depth.codes, each, every) for each in accept]
