"""When a certificate no longer holds: another model version, another price, another mix of requests."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from isocost.policy.outcomes import Floats, Ints

_DRAWS = 2000
_BANDS = 10
PRICE_MOVED = 0.01
"""A price that moved by less than this share lapses nothing."""
STRANGE_FRAC = 0.01
"""Share of questions of other tasks than were certified that is borne."""
_COSTS = " costs $"
SHIFT_ALPHA = 0.01
"""Level of the test that the mix of requests is another one."""


class Basis(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a certificate rests on.

    ``versions`` and ``prices`` (dollars a million tokens in and out) by model; ``tasks`` counts of certified
    questions by task; ``bands`` edges of the bands of input tokens and ``lengths`` how many questions lie
    in each.
    """

    versions: dict[str, str]
    prices: dict[str, tuple[float, float]]
    tasks: dict[str, int]
    bands: tuple[float, ...]
    lengths: tuple[int, ...]

    @property
    def digest(self) -> str:
        """Content hash of versions, prices and mix."""
        return hashlib.sha256(msgspec.json.encode(self, order="sorted")).hexdigest()[:12]


def basis(
    versions: Mapping[str, str],
    prices: Mapping[str, tuple[float, float]],
    tasks: Sequence[str],
    task: Ints,
    in_tok: Floats,
) -> Basis:
    """The basis of a certificate on questions of these tasks and lengths."""
    counts = np.bincount(task, minlength=len(tasks))
    known = in_tok[np.isfinite(in_tok)]
    edges = np.unique(np.quantile(known, np.arange(1, _BANDS) / _BANDS)) if len(known) else np.zeros(0)
    lengths = np.bincount(np.searchsorted(edges, known, side="right"), minlength=len(edges) + 1)
    return Basis(
        dict(versions),
        {name: (float(a), float(b)) for name, (a, b) in prices.items()},
        {name: int(count) for name, count in zip(tasks, counts, strict=True) if count},
        tuple(edges.tolist()),
        tuple(int(count) for count in lengths),
    )


def lapsed(old: Basis, new: Basis) -> tuple[str, ...]:
    """Why a certificate on ``old`` does not hold for ``new``; empty where it does.

    ``new`` must have the bands of ``old`` (:func:`mix_of`) for its lengths to be compared.
    """
    why = []
    for name in sorted(old.versions):
        if name not in new.versions:
            why.append(f"{name} is no longer there")
        elif old.versions[name] != new.versions[name]:
            was, now = (one.versions[name] or "unnamed" for one in (old, new))
            why.append(f"{name} is another version: {now}, was {was}")
    for name in sorted(old.prices):
        paid, asked = old.prices[name], new.prices.get(name)
        if asked is None:
            why.append(f"the price of {name} is not known")
        elif any(abs(b - a) > PRICE_MOVED * max(a, 1e-12) for a, b in zip(paid, asked, strict=True)):
            why.append(
                f"{name}{_COSTS}{asked[0]:g}/${asked[1]:g} a million tokens, was ${paid[0]:g}/${paid[1]:g}"
            )
    strange = sorted(set(new.tasks) - set(old.tasks))
    share = sum(new.tasks[name] for name in strange) / max(1, sum(new.tasks.values()))
    if share > STRANGE_FRAC:
        some = ", ".join(strange[:3])
        why.append(f"{share:.0%} of the questions are of tasks that were not certified: {some}")
    names = sorted(set(old.tasks) | set(new.tasks))
    tests = [
        ("tasks", [old.tasks.get(name, 0) for name in names], [new.tasks.get(name, 0) for name in names])
    ]
    if len(old.lengths) == len(new.lengths):
        tests.append(("input lengths", list(old.lengths), list(new.lengths)))
    for what, before, after in tests:
        p_value = same_mix_p(before, after)
        if p_value < SHIFT_ALPHA / len(tests) and not (what == "tasks" and share > STRANGE_FRAC):
            why.append(f"the mix of {what} is another one (p {p_value:.2g})")
    return tuple(why)


def is_price(why: str) -> bool:
    """Whether a reason of :func:`lapsed` is another price, which no grade depends on."""
    return _COSTS in why


def mix_of(old: Basis, tasks: Sequence[str], task: Ints, in_tok: Floats) -> Basis:
    """The mix of new questions in the bands of a certificate, whose models and prices are kept."""
    counts = np.bincount(task, minlength=len(tasks))
    known = in_tok[np.isfinite(in_tok)]
    lengths = np.bincount(
        np.searchsorted(np.array(old.bands), known, side="right"), minlength=len(old.bands) + 1
    )
    return Basis(
        old.versions, old.prices,
        {name: int(count) for name, count in zip(tasks, counts, strict=True) if count},
        old.bands, tuple(int(count) for count in lengths),
    )  # fmt: skip


def same_mix_p(before: Sequence[int], after: Sequence[int]) -> float:
    """P-value that two lists of counts are draws from one mix: a permutation test of the likelihood ratio.

    >>> same_mix_p([50, 50], [52, 48]) > 0.5, same_mix_p([90, 10], [10, 90]) < 0.001, same_mix_p([9], [9])
    (True, True, 1.0)
    """
    counts = np.array([before, after], dtype=np.int64)
    counts = counts[:, counts.sum(axis=0) > 0]
    if counts.shape[1] < 2 or (counts.sum(axis=1) == 0).any():
        return 1.0
    first, whole = int(counts[0].sum()), counts.sum(axis=0)
    rng = np.random.default_rng(0)
    drawn = rng.multivariate_hypergeometric(whole, first, size=_DRAWS, method="marginals")
    seen = float(_ratio(counts[0][None, :], whole)[0])
    return float((1 + (_ratio(drawn, whole) >= seen - 1e-9).sum()) / (1 + _DRAWS))


def _ratio(first: Ints, whole: Ints) -> Floats:
    """Likelihood ratio statistic of splits of ``whole`` into ``first`` and the rest."""
    out = np.zeros(len(first))
    total = int(whole.sum())
    for part in (first, whole[None, :] - first):
        size = part.sum(axis=1, keepdims=True)
        with np.errstate(divide="ignore", invalid="ignore"):
            term = part * np.log(part * total / (size * whole[None, :]))
        out += np.where(part > 0, term, 0.0).sum(axis=1)
    return np.asarray(out, dtype=np.float64)


__all__ = ["Basis", "basis", "is_price", "lapsed", "mix_of", "same_mix_p"]
