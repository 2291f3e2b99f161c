"""Fit a score of how much each question gains from the strong model: ridge on words, form and task."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import msgspec
import numpy as np
import numpy.typing as npt

from isocost.policy.agree import Chosen, Part, chosen
from isocost.policy.outcomes import Floats, Ints
from isocost.policy.router import FAR, Weights, form, terms

_STIFF = 6.0
"""Ridge penalty; rows are of unit length."""
_TASK = 0.4
"""How long a task stands beside the words, which are of unit length."""
_STIFF_ALONE = 50.0
"""Ridge penalty of the form where it is fitted by itself, features one standard deviation long."""
_ROUNDS, _CLOSE = 200, 1e-8
"""Rounds at most, and the squared residual, of the first one's, at which no bar of a score is moved by how a
machine rounds sums."""
_FORM = 0.35
"""How long a feature of the form of one standard deviation stands beside the words."""


@dataclass(frozen=True)
class Corpus:
    """Terms of texts as sparse rows: entry k is ``value[k]`` in row ``row[k]`` and column ``column[k]``, the
    entries of a row together; ``form`` (n, features) as :data:`isocost.policy.router.FORM` names them."""

    row: Ints
    column: Ints
    value: Floats
    names: tuple[str, ...]
    form: Floats

    def __len__(self) -> int:
        return len(self.form)

    @property
    def length(self) -> Floats:
        """Logarithm of the characters of each text (n,)."""
        return np.asarray(self.form[:, 0], dtype=np.float64)

    @cached_property
    def spans(self) -> tuple[Ints, Ints]:
        """The rows that have entries, as they stand, and where each begins, with the end of the last."""
        first = np.flatnonzero(np.diff(self.row, prepend=-1))
        return self.row[first], np.append(first, len(self.row))


def corpus(texts: Sequence[str]) -> Corpus:
    """Read texts once; terms that stand in one text only are left out."""
    first: dict[str, int] = {}
    again: list[int] = []
    columns: array[int] = array("q")
    values: array[float] = array("d")
    sizes = np.zeros(len(texts), dtype=np.int64)
    for i, text in enumerate(texts):
        mine = terms(text)
        sizes[i] = len(mine)
        for name in mine:
            at = first.setdefault(name, len(again))
            if at == len(again):
                again.append(1)
            else:
                again[at] += 1
            columns.append(at)
        values.extend(mine.values())
    keep = np.array(again, dtype=np.int64) > 1
    place = np.cumsum(keep) - 1
    column = np.frombuffer(columns, dtype=np.int64) if columns else np.zeros(0, dtype=np.int64)
    use = keep[column] if len(column) else np.zeros(0, dtype=np.bool_)
    return Corpus(
        np.repeat(np.arange(len(texts)), sizes)[use],
        place[column[use]],
        np.array(values, dtype=np.float64)[use],
        tuple(name for name, kept in zip(first, keep, strict=True) if kept),
        np.array([form(text) for text in texts], dtype=np.float64).reshape(len(texts), -1),
    )


@dataclass(frozen=True)
class Fitted:
    """A linear score of a corpus' columns: weights (columns,), rarity (columns,), task (tasks,), base; of the
    form mean, spread, weight and weight of the square, the latter two again for tasks that were not ``seen``
    (tasks,) (features, 6)."""

    words: Floats
    rarity: Floats
    task: Floats
    seen: npt.NDArray[np.bool_]
    form: Floats
    base: float

    def of_words(self, read: Corpus) -> Floats:
        """What the words alone add to the score of every row, (n,)."""
        value = read.value * self.rarity[read.column]
        square = _summed(value * value, read.spans, len(read))
        value *= self.words[read.column]
        total = _summed(value, read.spans, len(read))
        return np.asarray(total / np.sqrt(np.maximum(square, 1e-12)), dtype=np.float64)

    def scores(self, read: Corpus, task: Ints, of_words: Floats | None = None) -> Floats:
        """The score of every row; of a task that was not seen the form says more. ``of_words`` is what
        :meth:`of_words` gives, where that is already known."""
        place = np.minimum(task, len(self.task))
        of_task, seen = np.append(self.task, 0.0)[place], np.append(self.seen, False)[place]
        away = _away(read.form, self.form)
        known, other = (away @ self.form[:, k] + (away * away) @ self.form[:, k + 1] for k in (2, 4))
        said = self.of_words(read) if of_words is None else of_words
        found = self.base + said + np.where(seen, known, other) + of_task
        return np.asarray(found, dtype=np.float64)

    def weights(self, read: Corpus, tasks: Sequence[str]) -> Weights:
        """As plain data, for whoever runs it."""
        used = self.rarity > 0
        names = [name for name, kept in zip(read.names, used, strict=True) if kept]
        return Weights(
            self.base,
            dict(zip(names, self.words[used].tolist(), strict=True)),
            dict(zip(names, self.rarity[used].tolist(), strict=True)),
            {name: float(self.task[k]) for k, name in enumerate(tasks) if self.seen[k]},
            msgspec.convert(self.form.tolist(), tuple[tuple[float, float, float, float, float, float], ...]),
        )


def _away(form: Floats, fitted: Floats) -> Floats:
    """Features in standard deviations from their mean, the far ones cut."""
    return np.asarray(np.clip((form - fitted[:, 0]) / fitted[:, 1], -FAR, FAR), dtype=np.float64)


def _summed(values: Floats, spans: tuple[Ints, Ints], n: int) -> Floats:
    """Sums of the entries of each row, (n,)."""
    out, (rows, ends) = np.zeros(n), spans
    if len(rows):
        out[rows] = np.add.reduceat(values, ends[:-1])
    return out


def fit(read: Corpus, gain: Floats, task: Ints, tasks: int, rows: Ints) -> Fitted:
    """A score of ``gain`` (n,), the strong model's quality less the cheap one's, learned on ``rows``.

    Ridge, by conjugate gradients on the normal equations; the columns are words, tasks, and the features of
    the form with their squares. For tasks that are not in ``rows`` the form is fitted again by itself, so
    that it also says what differs between tasks.
    """
    n, width = len(read), len(read.names)
    mine = np.zeros(n, dtype=np.bool_)
    mine[rows] = True
    use = mine[read.row]
    column = read.column[use]
    found = np.bincount(column, minlength=width)
    rarity = np.where(found > 1, np.log((len(rows) + 1) / (found + 1)) + 1.0, 0.0)
    # A term that these rows have once weighs nothing, nor does it in any sum below: the others are numbered.
    kept = np.flatnonzero(found > 1)
    place = np.zeros(width, dtype=np.int64)
    place[kept] = np.arange(len(kept))
    use[use] = found[column] > 1
    row, column = read.row[use], place[read.column[use]]
    value = read.value[use] * rarity[kept][column]
    width = len(kept)
    first = np.flatnonzero(np.diff(row, prepend=-1))
    by_row = row[first], np.append(first, len(row))
    size = np.sqrt(np.maximum(_summed(value * value, by_row, n), 1e-12))
    value = value / size[row]
    known = np.bincount(task[rows][task[rows] < tasks], minlength=tasks) > 0
    seen = mine & (task < tasks)
    spread = read.form[rows].std(axis=0)
    scale = np.stack([read.form[rows].mean(axis=0), np.where(spread > 1e-9, spread, 1.0)], axis=1)
    away = _away(read.form[rows], scale)
    centre = (away * away).mean(axis=0)
    shape = _FORM * np.concatenate([away, away * away - centre], axis=1)
    base = float(gain[rows].mean())
    target = np.where(mine, gain - base, 0.0)

    def times(w: Floats) -> Floats:
        out = _summed(value * w[column], by_row, n)
        out[seen] += _TASK * w[width + task[seen]]
        out[rows] += shape @ w[width + tasks :]
        return out

    def back(u: Floats) -> Floats:
        words = np.bincount(column, value * u[row], width)
        return np.concatenate([words, _TASK * np.bincount(task[seen], u[seen], tasks), u[rows] @ shape])

    weights = _solved(times, back, target)
    of_form = (_FORM * weights[width + tasks :]).reshape(2, -1)
    alone = np.linalg.solve(
        shape.T @ shape + _FORM**2 * _STIFF_ALONE * np.eye(shape.shape[1]), shape.T @ target[rows]
    )
    of_form = np.concatenate([of_form, (_FORM * alone).reshape(2, -1)])
    words = np.zeros(len(read.names))
    words[kept] = weights[:width]
    # Squares were fitted from their mean; a task that was seen takes up what the two fits differ by there.
    lift = float(centre @ (of_form[3] - of_form[1]))
    of_task = np.where(known, _TASK * weights[width : width + tasks] + lift, 0.0)
    return Fitted(
        words, rarity, of_task, known, np.concatenate([scale, of_form.T], axis=1),
        base - float(centre @ of_form[3]),
    )  # fmt: skip


def _solved(times: Callable[[Floats], Floats], back: Callable[[Floats], Floats], target: Floats) -> Floats:
    """Ridge weights of ``target`` by conjugate gradients: ``times`` and ``back`` are the columns and their
    transpose."""
    rest = back(target)
    weights, step = np.zeros(len(rest)), rest.copy()
    size_now = start = float(rest @ rest)
    for _ in range(_ROUNDS):
        if size_now <= _CLOSE * start or start == 0.0:
            break
        image = back(times(step)) + _STIFF * step
        length = size_now / float(step @ image)
        weights = weights + length * step
        rest = rest - length * image
        size_next = float(rest @ rest)
        step = rest + size_next / size_now * step
        size_now = size_next
    return weights


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
    """The cheap model where the score is below a bar, else the strong one. ``read`` holds the words of the
    questions, ``of_words`` what these add to the score, where that is known."""

    fitted: Fitted
    read: Corpus
    cheap: int
    bar: float
    of_words: Floats | None = None

    def run(self, part: Part) -> Chosen:
        """Route each question of a part whose rows are those of ``read``."""
        score = self.fitted.scores(self.read, part.task, self.of_words)
        model = np.where(score >= self.bar, part.strong, self.cheap)
        return chosen(part, model, part.cost[np.arange(len(part)), model])


def rows_of(read: Corpus, rows: Ints) -> Corpus:
    """Some rows of a corpus, each once, its columns kept."""
    if np.array_equal(rows, np.arange(len(read))):
        return read
    place = np.full(len(read), -1, dtype=np.int64)
    place[rows] = np.arange(len(rows))
    of, ends = read.spans
    kept = np.flatnonzero(place[of] >= 0)
    sizes = (ends[1:] - ends[:-1])[kept]
    start = np.cumsum(sizes) - sizes
    use = np.repeat(ends[kept] - start, sizes) + np.arange(sizes.sum())
    return Corpus(
        np.repeat(place[of[kept]], sizes), read.column[use], read.value[use], read.names, read.form[rows]
    )


def bars(score: Floats, count: int = 19) -> Floats:
    """Bars that send even shares of the questions to the strong model."""
    return np.asarray(np.unique(np.quantile(score, np.arange(1, count + 1) / (count + 1))), dtype=np.float64)


__all__ = ["Corpus", "Fitted", "Routed", "bars", "corpus", "fit", "gained", "rows_of"]
