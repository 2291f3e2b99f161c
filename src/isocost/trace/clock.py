"""What the arrival times alone give reason to doubt: coarse ticks and holes."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from isocost.trace.schema import Clock, Finding, utc
from isocost.units import NS_PER_H, NS_PER_S

_COARSE_NS = NS_PER_S // 2
_HOLE_REQUESTS = 20.0
"""A hole counts where this many requests were to be expected: by chance (Poisson) once in e^20."""


def clock_findings(arrivals: Iterable[npt.NDArray[np.int64]], clock: Clock) -> list[Finding]:
    """Fold over sorted arrivals (ns, in chunks): ticks of half a second or more, and gaps.

    A gap counts where at least 20 requests were to be expected in it. Over two days or more the expectation
    is the mean of the same hour of the day (from two weeks on: of the week), and 20 is multiplied by how much
    hours vary about it (variance over mean). A shorter trace has its mean rate only, so there a gap must
    also be ten times the usual long gap (the 99.9th percentile).
    """
    ties, total = 0, 0
    shortest: list[float] = []
    middle: list[float] = []
    last: int | None = None
    start = 0
    gaps: list[tuple[int, int]] = []
    usual: list[float] = []
    hours: list[npt.NDArray[np.int64]] = []
    for arrival_ns in arrivals:
        if not len(arrival_ns):
            continue
        if last is None:
            start = int(arrival_ns[0])
            steps = np.diff(arrival_ns)
            before = arrival_ns[:-1]
        else:
            steps = np.diff(arrival_ns, prepend=last)
            before = np.concatenate(([last], arrival_ns[:-1]))
        total += len(arrival_ns)
        last = int(arrival_ns[-1])
        moved = steps[steps > 0]
        ties += len(steps) - len(moved)
        if len(moved):
            # Ticks jitter by a millisecond in some logs, so the shortest steps are asked, not a common
            # divisor.
            shortest.append(float(np.quantile(moved, 0.01)))
            middle.append(float(np.median(moved)))
        if len(steps):
            usual.append(float(np.quantile(steps, 0.999)))
            for i in np.argsort(steps)[-20:]:
                gaps.append((int(steps[i]), int(before[i])))
        hours.append(np.bincount((arrival_ns - start) // NS_PER_H))
    if last is None or total < 2:
        return []
    findings = []
    groups = total - ties
    tick_ns = round(min(middle, default=0.0) / 1e6) * 1e6
    if min(shortest, default=0.0) >= _COARSE_NS and total > 1.2 * groups:
        text = (
            f"times come in ticks of {tick_ns / NS_PER_S:g} s ({total / groups:.1f} requests at a time):"
            " bursts inside a tick are an artefact of the log, and queueing is overstated"
        )
        findings.append(Finding("doubt", "coarse_clock", text, total))
    return findings + _holes(gaps, max(usual, default=0.0), hours, start, last, total, clock)


def _holes(
    gaps: list[tuple[int, int]], usual_ns: float, hours: list[npt.NDArray[np.int64]], start: int, last: int,
    total: int, clock: Clock,
) -> list[Finding]:  # fmt: skip
    span_ns = max(1, last - start)
    per_ns = total / span_ns
    by_hour = np.zeros((last - start) // NS_PER_H + 1)
    for part in hours:
        by_hour[: len(part)] += part
    period = next((hours for hours in (168, 24) if len(by_hour) >= 2 * hours), 0)
    cycle, varies = None, 1.0
    if period:
        whole = len(by_hour) // period
        counts = by_hour[: whole * period].reshape(whole, period)
        usual_h = counts.mean(axis=0)
        varies = max(1.0, float(((counts - usual_h) ** 2).mean() / usual_h.mean()))
        cycle = usual_h / NS_PER_H
    found = []
    for gap_ns, at_ns in sorted(set(gaps), reverse=True)[:20]:
        if cycle is None and gap_ns < 10 * usual_ns:
            continue
        if cycle is None:
            expected = per_ns * gap_ns
        else:
            covered = np.arange((at_ns - start) // NS_PER_H, (at_ns + gap_ns - start) // NS_PER_H + 1)
            expected = float(cycle[covered % period].mean()) * gap_ns
        if expected >= _HOLE_REQUESTS * varies:
            found.append((gap_ns, at_ns, expected))
    if not found:
        return []
    gap_ns, at_ns, expected = found[0]
    when = (
        f"at {utc(at_ns):%Y-%m-%d %H:%M} UTC" if clock == "utc" else f"{(at_ns - start) / NS_PER_H:.1f} h in"
    )
    lost = sum(one[2] for one in found)
    gaps_said = "1 gap" if len(found) == 1 else f"{len(found)} gaps, the longest"
    text = (
        f"{gaps_said} of {gap_ns / NS_PER_H:.1f} h {when}: about {lost:,.0f} requests were to be expected;"
        " rows may be missing"
    )
    return [Finding("doubt", "gaps", text, round(lost))]
