"""How APIs fail: errors, calls that hang, outages, refusals above a quota, and what is billed of it.

Failures come in bursts: within an outage a provider fails far more often than outside of it, so that trying
again at once brings little and another provider brings much; independent draws would say the reverse. An
outage is a window of time with its own chance of failing, shared by all deployments of a provider.

A quota is a bucket for each limit (requests, input, output, all tokens) that holds a minute of it and fills
evenly, as providers describe theirs; who finds too little in any of them is refused and takes nothing.

Whether an attempt fails depends on a seed, the request, the deployment and how often that was asked before,
and on nothing else: every rule meets the same failures, so that differences between rules are theirs.
A failure before the first token is not billed. What is given up (a hedge that lost, an answer past its time
limit) is billed as the provider bills it: ``made``, its input and what was made until then; ``whole``; or
``nothing``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple
from zlib import crc32

import numpy as np
from numpy.typing import ArrayLike, NDArray

from isocost.errors import BadLimits
from isocost.units import PS_PER_S

if TYPE_CHECKING:
    from isocost.replay import closed_kernel as kernel

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
GivenUp = Literal["made", "whole", "nothing"]
GIVEN_UP: tuple[GivenUp, ...] = ("made", "whole", "nothing")
KINDS = ("refused", "outage", "error", "hang", "cut", "given up")
"""Why an attempt failed: what :class:`isocost.replay.closed.Closed` numbers from 1."""
PARTS = 2.0**31
NEVER_PS = 2**62
NO_LIMIT = 1e18
TIMES = 64
"""Equally likely times of failing that the kernel holds."""
FEW = 64
"""Incidents drawn at once beyond those that a span is likely to hold."""


class Failing(NamedTuple):
    """How one deployment fails.

    ``error_frac`` of attempts outside of outages end in an error after one of ``error_s`` (k,), in order and
    equally likely; ``hang_frac`` never answer and are abandoned after ``hang_s``. An answer that is not whole
    after ``timeout_s`` is given up. ``limit`` names the quota that attempts count against; a refusal comes
    after ``refused_s``.
    """

    error_frac: float = 0.0
    error_s: ArrayLike = (0.0,)
    hang_frac: float = 0.0
    hang_s: float = 0.0
    timeout_s: float = np.inf
    outages: Outages | None = None
    limit: str = ""
    refused_s: float = 0.0
    given_up: GivenUp = "made"


class Outages(NamedTuple):
    """Windows in which a deployment fails: (m,) start and end (exclusive), in order, apart, and the share of
    attempts that fail."""

    from_ps: ArrayLike
    to_ps: ArrayLike
    frac: ArrayLike


class Faults(NamedTuple):
    """How deployments fail, by name; who is not named does not.

    ``limits``: a minute's requests, input, output and all tokens, infinite where there is no limit, and
    ``holds`` what their buckets hold, a minute's where it says nothing; ``asks`` (n,) input and output tokens
    of a deployment that has a limit. ``row`` (n,): numbers of the requests that
    draws depend on, by default their places.
    """

    failing: Mapping[str, Failing] = {}
    limits: Mapping[str, tuple[float, float, float, float]] = {}
    asks: Mapping[str, tuple[ArrayLike, ArrayLike]] = {}
    row: ArrayLike | None = None
    seed: int = 0
    holds: Mapping[str, tuple[float, float, float, float]] = {}


def renewed(
    every_h: float, length_h: float, frac: float, span_ps: int, random: np.random.Generator
) -> Outages:
    """Outages over a span: exponential times between them and lengths, ``every_h`` from start to start.

    Whether one is on at the start is drawn too, as often as there is one at any time.

    >>> random = np.random.default_rng(0)
    >>> one = renewed(every_h=1, length_h=0.1, frac=0.5, span_ps=1000 * 3600 * 10**12, random=random)
    >>> round(float(np.sum(np.subtract(one.to_ps, one.from_ps))) / (1000 * 3600e12), 1)
    0.1
    """
    if not (every_h > length_h > 0 and 0 <= frac <= 1):
        raise BadLimits("outages come apart, last a while and fail a share", where="outages")
    up_h = every_h - length_h
    count = int(span_ps / (every_h * 3600 * PS_PER_S) * 1.5 + FEW)
    found: list[I64] = []
    at = 0.0 if random.random() < length_h / every_h else random.exponential(up_h)
    while not found or found[-1][1, -1] < span_ps:
        # Down and up by turns: a longer span goes on where a shorter one ends.
        downs, ups = (random.exponential(size=(count, 2)) * (length_h, up_h)).T
        starts = at + np.concatenate([[0.0], np.cumsum(downs + ups)[:-1]])
        at = float(starts[-1] + downs[-1] + ups[-1])
        both = np.stack([starts, starts + downs]) * 3600.0 * PS_PER_S
        found.append(np.minimum(both, NEVER_PS).astype(np.int64))
        if at * 3600.0 * PS_PER_S > span_ps:
            break
    whole = np.concatenate(found, axis=1)
    whole = whole[:, whole[0] < span_ps]
    return Outages(whole[0], whole[1], np.full(whole.shape[1], frac))


def shifted(outages: Outages, by_ps: int, span_ps: int) -> Outages:
    """The same outages later by ``by_ps``, those beyond the span at its start: bursts stay as they are."""
    start, end = np.asarray(outages.from_ps, np.int64), np.asarray(outages.to_ps, np.int64)
    frac = np.asarray(outages.frac, np.float64)
    start, end = start + by_ps, end + by_ps
    back = start >= span_ps
    start, end = np.where(back, start - span_ps, start), np.where(back, end - span_ps, end)
    # One that straddles the end goes on at the start.
    over = np.flatnonzero(end > span_ps)
    start = np.concatenate([start, np.zeros(len(over), np.int64)])
    end = np.concatenate([np.minimum(end, span_ps), end[over] - span_ps])
    frac = np.concatenate([frac, frac[over]])
    order = np.argsort(start, kind="stable")
    return Outages(start[order], end[order], frac[order])


def laid_faults(faults: Faults, names: Sequence[str], n: int) -> kernel.Faults:
    """The tables that the kernel works on.

    Raises:
        BadLimits: a share beyond 0 to 1, windows out of order, a quota that is not there.
    """
    from isocost.replay import closed_kernel as kernel

    each = [faults.failing.get(name, Failing()) for name in names]
    for name, one in zip(names, each, strict=True):
        _check(name, one, faults)
    # As many equally likely times of each: some repeated, or left out where there are more.
    times = [np.asarray(one.error_s, np.float64) for one in each]
    error_ps = np.stack([_ps(one[np.arange(TIMES) * len(one) // TIMES]) for one in times])
    windows = [one.outages or Outages((), (), ()) for one in each]
    limits = list(faults.limits)
    most = np.array([faults.limits[name] for name in limits], np.float64).reshape(len(limits), kernel.METERS)
    holds = np.array([faults.holds.get(name, faults.limits[name]) for name in limits], np.float64)
    most, holds = np.minimum(most, NO_LIMIT), np.minimum(holds.reshape(len(limits), kernel.METERS), NO_LIMIT)
    rows = np.arange(n) if faults.row is None else np.ascontiguousarray(faults.row, np.int64)
    asks = np.zeros((2, n if limits else 0, len(names)), np.int64)
    for d, (name, one) in enumerate(zip(names, each, strict=True)):
        if one.limit:
            asks[:, :, d] = np.stack([np.asarray(values, np.int64) for values in faults.asks[name]])
    return kernel.Faults(
        int(bool(faults.failing)),
        int(faults.seed) & 0x7FFFFFFF,
        rows,
        np.array([crc32(name.encode()) & 0x7FFFFFFF for name in names], np.int64),
        np.array([int(one.error_frac * PARTS) for one in each], np.int64),
        error_ps,
        np.array([int(one.hang_frac * PARTS) for one in each], np.int64),
        _ps([one.hang_s for one in each]),
        _ps([one.timeout_s for one in each]),
        np.cumsum([0, *(np.size(one.from_ps) for one in windows)]).astype(np.int64),
        np.concatenate([np.asarray(one.from_ps, np.int64) for one in windows] or [np.zeros(0, np.int64)]),
        np.concatenate([np.asarray(one.to_ps, np.int64) for one in windows] or [np.zeros(0, np.int64)]),
        np.concatenate([np.asarray(one.frac, np.float64) * PARTS for one in windows] or [np.zeros(0)]).astype(
            np.int64
        ),
        np.array([limits.index(one.limit) if one.limit else -1 for one in each], np.int32),
        _ps([one.refused_s for one in each]),
        most,
        holds,
        holds.copy(),
        np.zeros(len(limits), np.int64),
        asks,
    )


def billed_of(faults: Faults, names: Sequence[str]) -> NDArray[np.int8]:
    """What is billed of what is given up, (D,), as the kernel numbers it."""
    each = [faults.failing.get(name, Failing()) for name in names]
    return np.array([GIVEN_UP.index(one.given_up) for one in each], np.int8)


def _ps(seconds: ArrayLike) -> I64:
    values: F64 = np.asarray(seconds, np.float64) * PS_PER_S
    return np.asarray(np.rint(np.minimum(values, NEVER_PS)), np.int64)


def _check(name: str, one: Failing, faults: Faults) -> None:
    shares = (one.error_frac, one.hang_frac, *np.asarray((one.outages or Outages((), (), ())).frac).tolist())
    if not all(0.0 <= share <= 1.0 for share in shares):
        raise BadLimits("a share of failures beyond 0 to 1", where=name)
    if not np.size(one.error_s) or min(np.min(one.error_s), one.hang_s, one.timeout_s, one.refused_s) < 0:
        raise BadLimits("failing takes no negative time", where=name)
    if one.outages is not None:
        ends = np.stack([np.asarray(one.outages.from_ps), np.asarray(one.outages.to_ps)], axis=1).ravel()
        if np.any(np.diff(ends) < 0):
            raise BadLimits("outages are out of order or meet", where=name)
    if one.limit and (one.limit not in faults.limits or name not in faults.asks):
        raise BadLimits(f"no quota {one.limit!r}, or no tokens that count against it", where=name)
