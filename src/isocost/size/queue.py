"""A load on replicas of one set-up: arrivals as bursty as asked, replayed; percentiles and goodput."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from isocost.errors import BadInput
from isocost.replay.queue import BatchLimits, Terms, serve
from isocost.units import PS_PER_S, SECONDS_PER_DAY

SAMPLE = 3000
"""Requests of a replay: the 95th percentile then stands on 150 of them."""
FEWEST = 50
"""Requests of a replay at a low rate."""
LONGEST_S = 2e6
"""How long a replay may last: its times are whole picoseconds in 64 bits."""
SEED = 0


class Need(NamedTuple):
    """What must be carried: requests a second, their mean lengths, and limits on p95 in seconds (``None``:
    the catalog's). ``burst_cv`` is the spread of the gaps between arrivals over their mean (1: Poisson),
    ``prefix_hit_frac`` the share of prompt tokens found cached."""

    rate_per_s: float
    input_tok: int
    output_tok: int
    ttft_p95_s: float | None = None
    tpot_p95_s: float | None = None
    burst_cv: float = 1.0
    prefix_hit_frac: float = 0.0


class Draft(NamedTuple):
    """Speculative decoding: the chance that a draft token is accepted, how many are made a step, and what
    making one takes over a step."""

    accept_frac: float
    depth: int
    step_frac: float


class Step(NamedTuple):
    """The line of a step's time in seconds, what a first token waits outside it, tokens that the cache of
    a replica holds, and ranks that step together."""

    base_s: float
    prefill_s_per_tok: float
    seq_s: float
    kv_s_per_tok: float
    first_token_s: float
    kv_capacity_tok: int
    ranks: int = 1


class Carried(NamedTuple):
    """Times in seconds by percentile, the share of requests within both limits, and of the replicas' time
    the share in steps, with all steps taken and the seconds that the replay lasts."""

    ttft_p50_s: float
    ttft_p95_s: float
    ttft_p99_s: float
    tpot_p50_s: float
    tpot_p95_s: float
    attained_frac: float
    busy_frac: float
    steps: int
    length_s: float


def checked(need: Need) -> None:
    """Refuse a load that cannot be.

    Raises:
        BadInput: a rate or a length that is not positive, a share outside 0 to 1.
    """
    if not (0 < need.rate_per_s < math.inf and need.input_tok > 0 and need.output_tok > 0):
        raise BadInput("rate and lengths must be above zero", fix="Type --rate 5 --isl 2000 --osl 300")
    if need.rate_per_s * LONGEST_S < FEWEST:
        least = FEWEST / LONGEST_S * SECONDS_PER_DAY
        raise BadInput(
            f"{need.rate_per_s:g} requests a second: fewer than {least:.1f} a day cannot be replayed",
            fix="A rate that low may be cheaper from an API: price it there",
        )
    if not 0 <= need.prefix_hit_frac < 1:
        raise BadInput(
            f"prefix hit {need.prefix_hit_frac:g}", fix="A share from 0 to below 1: --prefix-hit 0.4"
        )
    if not need.burst_cv >= 0:
        raise BadInput(f"burst {need.burst_cv:g}", fix="1 is Poisson, 0 is even, 3 is bursty: --burst 3")


def sample_of(rate_per_s: float, most: int = SAMPLE) -> int:
    """How many requests are replayed: fewer where they are so rare that time would run out of digits.

    >>> sample_of(5.0), sample_of(0.001), sample_of(1e-4)
    (3000, 2000, 200)
    """
    return int(min(max(rate_per_s * LONGEST_S, FEWEST), most))


def arrivals_ps(rate_per_s: float, burst_cv: float, n: int) -> NDArray[np.int64]:
    """``n`` arrivals whose gaps are gamma-distributed, as in vLLM's benchmark (burstiness 1 / cv**2).

    >>> [int(x) for x in arrivals_ps(2.0, 0.0, 3)]
    [500000000000, 1000000000000, 1500000000000]
    """
    if burst_cv == 0:
        gaps = np.full(n, PS_PER_S / rate_per_s)
    else:
        shape = 1.0 / burst_cv**2
        random = np.random.Generator(np.random.PCG64(SEED))
        gaps = random.gamma(shape, PS_PER_S / rate_per_s / shape, n)
        # A sample of heavy gaps may be slower than asked: it is brought to the rate.
        gaps *= PS_PER_S / rate_per_s / gaps.mean()
    out: NDArray[np.int64] = np.cumsum(gaps).astype(np.int64)
    return out


def carried(
    need: Need,
    step: Step,
    limits: tuple[int, int],
    replicas: int,
    limits_s: tuple[float, float],
    n: int = SAMPLE,
) -> Carried | None:
    """Replay ``n`` requests or fewer of the load; ``None`` where one does not fit the cache.

    ``limits`` are tokens a step and sequences at once of one replica, ``limits_s`` those on TTFT and TPOT.
    """
    n = sample_of(need.rate_per_s, n)
    hit = math.floor(need.input_tok * need.prefix_hit_frac)
    served = serve(
        arrivals_ps(need.rate_per_s, need.burst_cv, n),
        np.full(n, need.input_tok),
        np.full(n, need.output_tok),
        Terms(*(max(round(value * PS_PER_S), 0) for value in step[:4])),
        BatchLimits(limits[0] * step.ranks, limits[1] * step.ranks, step.kv_capacity_tok),
        n_replicas=replicas,
        cached_tok=np.full(n, hit) if hit else None,
    )
    if (served.status != 0).any():
        return None
    length = float((served.e2e_ps + arrivals_ps(need.rate_per_s, need.burst_cv, n)).max()) / PS_PER_S
    busy = float(served.busy_ps.sum()) / PS_PER_S / (length * replicas)
    return _carried(
        need, served.ttft_ps, served.e2e_ps, step.first_token_s, limits_s, (busy, served.steps, length)
    )


def carried_with_drafts(
    need: Need,
    step: Step,
    limits: tuple[int, int],
    replicas: int,
    limits_s: tuple[float, float],
    draft: Draft,
) -> Carried | None:
    """As :func:`carried`, where each step also checks ``draft.depth`` tokens guessed for each sequence.

    A sequence that is checked costs its share of a step for each token; the drafts themselves take
    ``draft.step_frac`` of a step each.
    """
    from isocost.replay.engine import EngineLimits, Options, StepTerms, serve_engines

    depth = draft.depth
    more = 1.0 + depth * draft.step_frac
    terms = StepTerms(
        round(step.base_s * more * PS_PER_S),
        round(step.prefill_s_per_tok * PS_PER_S),
        round(step.seq_s * (1 + depth) * PS_PER_S),
        round(step.kv_s_per_tok * PS_PER_S),
    )
    n = sample_of(need.rate_per_s)
    hit = math.floor(need.input_tok * need.prefix_hit_frac)
    arrival = arrivals_ps(need.rate_per_s, need.burst_cv, n)
    served = serve_engines(
        arrival,
        np.full(n, need.input_tok),
        np.full(n, need.output_tok),
        terms,
        EngineLimits(limits[0] * step.ranks, limits[1] * step.ranks, max(step.kv_capacity_tok // 16, 1)),
        Options(n_replicas=replicas, accept_frac=tuple(draft.accept_frac ** (j + 1) for j in range(depth))),
        cached_tok=np.full(n, hit) if hit else None,
    )
    if (served.status != 0).any():
        return None
    length = served.end_ps / PS_PER_S
    busy = float((served.prefill_ps + served.decode_ps).sum()) / PS_PER_S / max(length * replicas, 1e-9)
    return _carried(
        need, served.ttft_ps, served.e2e_ps, step.first_token_s, limits_s, (busy, served.steps, length)
    )


def carried_apart(
    need: Need,
    step: Step,
    limits: tuple[int, int],
    replicas: tuple[int, int],
    limits_s: tuple[float, float],
    transfer_s_per_tok: float,
) -> Carried | None:
    """As :func:`carried`, with (prefill, decode) replicas apart and the cache sent between them."""
    from isocost.replay.engine import EngineLimits, Options, StepTerms, serve_disaggregated

    terms = StepTerms(*(round(value * PS_PER_S) for value in step[:4]))
    engine = EngineLimits(limits[0] * step.ranks, limits[1] * step.ranks, max(step.kv_capacity_tok // 16, 1))
    n = sample_of(need.rate_per_s)
    arrival = arrivals_ps(need.rate_per_s, need.burst_cv, n)
    # A cached prefix is not computed again: the prefill pool sees the rest of the prompt.
    prompt = np.full(n, max(1, need.input_tok - math.floor(need.input_tok * need.prefix_hit_frac)))
    first, rest, ttft, e2e = serve_disaggregated(
        arrival, prompt, np.full(n, need.output_tok),
        (terms, engine, Options(n_replicas=replicas[0])), (terms, engine, Options(n_replicas=replicas[1])),
        round(transfer_s_per_tok * PS_PER_S),
    )  # fmt: skip
    if (ttft < 0).any() or (e2e < 0).any():
        return None
    length = max(first.end_ps, rest.end_ps) / PS_PER_S
    worked = float(sum((pool.prefill_ps + pool.decode_ps).sum() for pool in (first, rest))) / PS_PER_S
    busy = worked / max(length * sum(replicas), 1e-9)
    return _carried(need, ttft, e2e, step.first_token_s, limits_s, (busy, first.steps + rest.steps, length))


def _carried(
    need: Need,
    ttft_ps: NDArray[np.int64],
    e2e_ps: NDArray[np.int64],
    first_token_s: float,
    limits_s: tuple[float, float],
    work: tuple[float, int, float],
) -> Carried:
    ttft = ttft_ps / PS_PER_S + first_token_s
    gaps = max(need.output_tok - 1, 1)
    tpot = (e2e_ps - ttft_ps) / PS_PER_S / gaps if need.output_tok > 1 else np.zeros(len(ttft_ps))
    within = float(((ttft <= limits_s[0]) & (tpot <= limits_s[1])).mean())
    first = [float(x) for x in np.percentile(ttft, (50, 95, 99))]
    other = [float(x) for x in np.percentile(tpot, (50, 95))]
    return Carried(
        first[0], first[1], first[2], other[0], other[1], within, min(work[0], 1.0), work[1], work[2]
    )


def holds(found: Carried | None, limits_s: tuple[float, float]) -> bool:
    """Whether the 95th percentiles keep both limits."""
    return found is not None and found.ttft_p95_s <= limits_s[0] and found.tpot_p95_s <= limits_s[1]
