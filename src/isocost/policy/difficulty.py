"""Fit a score of how much each question gains from the strong model: ridge on words, length and task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from isocost.policy.agree import Chosen, Part, chosen
from isocost.policy.outcomes import Floats, Ints
from isocost.policy.router import Weights, terms

_STIFF = 6.0
"""Ridge penalty; rows are of unit length."""
_TASK = 0.4
"""How long a task stands beside the words, which are of unit length."""
_ROUNDS = 60
_LENGTHS = (0.0, 0.5, 1.0)
"""Weights of the length against that of the words that are tried, in standard deviations."""
_FOLDS = 4


@dataclass(frozen=True)
class Corpus:
    """Terms of texts as sparse rows: entry k is ``value[k]`` in row ``row[k]`` and column ``column[k]``."""

    row: Ints
    column: Ints
    value: Floats
    names: tuple[str, ...]
    length: Floats

    def __len__(self) -> int:
        return len(self.length)


def corpus(texts: Sequence[str]) -> Corpus:
    """Read texts once; terms that stand in one text only are left out."""
    first: dict[str, int] = {}
    again: dict[str, int] = {}
    rows, columns, values = [], [], []
    for i, text in enumerate(texts):
        for name, value in terms(text).items():
            at = first.setdefault(name, len(first))
            again[name] = again.get(name, 0) + 1
            rows.append(i)
            columns.append(at)
            values.append(value)
    names = list(first)
    keep = np.array([again[name] > 1 for name in names], dtype=np.bool_)
    place = np.cumsum(keep) - 1
    column = np.array(columns, dtype=np.int64)
    use = keep[column] if len(column) else np.zeros(0, dtype=np.bool_)
    length = np.log1p(np.array([len(text) for text in texts], dtype=np.float64))
    return Corpus(
        np.array(rows, dtype=np.int64)[use],
        place[column[use]],
        np.array(values)[use],
        tuple(name for name, kept in zip(names, keep, strict=True) if kept),
        length,
    )


@dataclass(frozen=True)
class Fitted:
    """A linear score of a corpus' columns: weights (columns,), rarity (columns,), task (tasks,), length,
    base."""

    words: Floats
    rarity: Floats
    task: Floats
    length: float
    base: float

    def scores(self, read: Corpus, task: Ints) -> Floats:
        """The score of every row; a task that was not seen adds nothing."""
        of_task = np.append(self.task, 0.0)[np.minimum(task, len(self.task))]
        found = self.base + _of_words(self, read) + self.length * read.length + of_task
        return np.asarray(found, dtype=np.float64)

    def weights(self, read: Corpus, tasks: Sequence[str]) -> Weights:
        """As plain data, for whoever runs it."""
        used = self.rarity > 0
        names = [name for name, kept in zip(read.names, used, strict=True) if kept]
        return Weights(
            self.base,
            self.length,
            dict(zip(names, self.words[used].tolist(), strict=True)),
            dict(zip(names, self.rarity[used].tolist(), strict=True)),
            {name: value for name, value in zip(tasks, self.task.tolist(), strict=False) if value},
        )


def _of_words(fitted: Fitted, read: Corpus) -> Floats:
    value = read.value * fitted.rarity[read.column]
    square = np.bincount(read.row, value * value, len(read))
    total = np.bincount(read.row, value * fitted.words[read.column], len(read))
    return np.asarray(total / np.sqrt(np.maximum(square, 1e-12)), dtype=np.float64)


def fit(read: Corpus, gain: Floats, task: Ints, tasks: int, rows: Ints, unseen: bool = False) -> Fitted:
    """A score of ``gain`` (n,), the strong model's quality less the cheap one's, learned on ``rows``.

    How much the length counts is chosen on held-out folds of ``rows``: folds of whole tasks where the score
    is for tasks that are not ``rows``'s (``unseen``), else of questions.
    """
    folds = _folds(task[rows], unseen)
    share = _LENGTHS[0]
    if len(np.unique(folds)) > 1:
        found = np.zeros(len(rows))
        for fold in range(_FOLDS):
            inner, outer = rows[folds != fold], folds == fold
            if outer.any() and len(inner):
                one = _ridge(read, gain, task, tasks, inner)
                found[outer] = one.scores(read, task)[rows[outer]]
        words, length = _standard(found), _standard(read.length[rows])
        share = max(_LENGTHS, key=lambda each: gained(words + each * length, gain[rows]))
    whole = _ridge(read, gain, task, tasks, rows)
    if not share:
        return whole
    spread = float(np.std(whole.scores(read, task)[rows]))
    slope = share * spread / max(1e-9, float(np.std(read.length[rows])))
    return Fitted(
        whole.words, whole.rarity, whole.task, slope, whole.base - slope * float(read.length[rows].mean())
    )


def gained(score: Floats, gain: Floats) -> float:
    """Mean share of the whole gain that is had when the highest scores go to the strong model (APGR).

    The mean is over every share of questions that may go there; 0.5 is what chance gives, and ties share.

    >>> gained(np.array([3.0, 2.0]), np.array([1.0, 0.0])), gained(np.zeros(2), np.array([1.0, 0.0]))
    (0.75, 0.5)
    """
    whole = float(gain.sum())
    if not whole:
        return 0.5
    _, tied = np.unique(-score, return_inverse=True)
    counts = np.bincount(tied)
    gains = np.repeat(np.bincount(tied, gain) / counts, counts)
    curve = np.concatenate([[0.0], np.cumsum(gains)]) / whole
    return float((curve[1:] + curve[:-1]).mean() / 2)


@dataclass(frozen=True)
class Routed:
    """The cheap model where the score is below a bar, else the strong one. ``scores`` gives those of a
    part."""

    fitted: Fitted
    read: Corpus
    cheap: int
    bar: float

    def run(self, part: Part) -> Chosen:
        """Route each question of a part whose rows are those of ``read``."""
        score = self.fitted.scores(self.read, part.task)
        model = np.where(score >= self.bar, part.strong, self.cheap)
        return chosen(part, model, part.cost[np.arange(len(part)), model])


def rows_of(read: Corpus, rows: Ints) -> Corpus:
    """Some rows of a corpus, its columns kept."""
    place = np.full(len(read), -1, dtype=np.int64)
    place[rows] = np.arange(len(rows))
    use = place[read.row] >= 0
    return Corpus(place[read.row[use]], read.column[use], read.value[use], read.names, read.length[rows])


def _standard(values: Floats) -> Floats:
    return np.asarray((values - values.mean()) / max(1e-9, float(values.std())), dtype=np.float64)


def _folds(task: Ints, whole: bool) -> Ints:
    """Fold of each row, from its place alone: neither chance nor outcomes enter."""
    if whole:
        different = np.unique(task)
        order = np.random.default_rng(len(task)).permutation(len(different))
        return np.asarray(order[np.searchsorted(different, task)] % _FOLDS, dtype=np.int64)
    return np.arange(len(task), dtype=np.int64) % _FOLDS


def _ridge(read: Corpus, gain: Floats, task: Ints, tasks: int, rows: Ints) -> Fitted:
    """Conjugate gradients on the normal equations; the columns are words, then tasks."""
    n, width = len(read), len(read.names)
    mine = np.zeros(n, dtype=np.bool_)
    mine[rows] = True
    use = mine[read.row]
    row, column = read.row[use], read.column[use]
    found = np.bincount(column, minlength=width)
    rarity = np.where(found > 1, np.log((len(rows) + 1) / (found + 1)) + 1.0, 0.0)
    value = read.value[use] * rarity[column]
    size = np.sqrt(np.maximum(np.bincount(row, value * value, n), 1e-12))
    value = value / size[row]
    seen = mine & (task < tasks)
    base = float(gain[rows].mean())
    target = np.where(mine, gain - base, 0.0)

    def times(w: Floats) -> Floats:
        out = np.asarray(np.bincount(row, value * w[column], n), dtype=np.float64)
        out[seen] += _TASK * w[width + task[seen]]
        return out

    def back(u: Floats) -> Floats:
        words = np.bincount(column, value * u[row], width)
        return np.concatenate([words, _TASK * np.bincount(task[seen], u[seen], tasks)])

    weights = np.zeros(width + tasks)
    rest = back(target)
    step = rest.copy()
    size_now = start = float(rest @ rest)
    for _ in range(_ROUNDS):
        if size_now <= 1e-6 * start or start == 0.0:
            break
        image = back(times(step)) + _STIFF * step
        length = size_now / float(step @ image)
        weights = weights + length * step
        rest = rest - length * image
        size_next = float(rest @ rest)
        step = rest + size_next / size_now * step
        size_now = size_next
    return Fitted(weights[:width], rarity, _TASK * weights[width:], 0.0, base)


def bars(score: Floats, count: int = 19) -> Floats:
    """Bars that send even shares of the questions to the strong model."""
    return np.asarray(np.unique(np.quantile(score, np.arange(1, count + 1) / (count + 1))), dtype=np.float64)


__all__ = ["Corpus", "Fitted", "Routed", "bars", "corpus", "fit", "gained", "rows_of"]
