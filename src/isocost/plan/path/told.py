"""What a path says of its quarters: steps, what is signed, what is done when, from when a limit is near."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date

import numpy as np

from isocost.plan.make.draft import DAYS, Draft
from isocost.plan.market.quotas import METERS, others
from isocost.plan.market.terms import Term
from isocost.plan.path.result import Rival, Signing, Step
from isocost.plan.path.steps import Chosen, month_usd, there_is
from isocost.plan.path.study import WORDS, Study
from isocost.plan.path.way import pool_draft
from isocost.plan.path.ways import TODAY
from isocost.plan.solve.problem import Solution
from isocost.units import WEEK_H, count, money, percent

NAMED_MOST = 2
DAY_LONG = 20
"""Busy hours from which a day is busy as a whole."""
NEARLY_ALL = 0.9
"""Share of a week's hours from which no part of it is worth a name."""
ABOVE = "above"
"""What an API is asked for: more than its highest tier."""


def draft_at(study: Study, best: Chosen, q: int, solutions: Sequence[Solution]) -> Draft:
    """Who serves what in a quarter, at today's volume."""
    way = study.way(best.ways[q], q)
    return pool_draft(study.built.prepared, way, solutions) if way.parts else way.draft


def step_of(study: Study, best: Chosen, q: int, draft: Draft, solutions: Sequence[Solution]) -> Step:
    """A quarter in figures."""
    built, stage, way = study.built, study.stages[q], study.way(best.ways[q], q)
    weight = built.prepared.weight_h
    volume = built.prepared.volume.requests * study.multiples[q]
    month = month_usd(study.stages, best, q, study.hours)
    change = change_of(study, best, q)
    if not solutions:
        return Step(
            stage.quarter.label, stage.quarter.months, volume, way.name, 1.0, WEEK_H, "all hours", 0, 0.0, 0,
            month, change, _apis(draft),
        )  # fmt: skip
    requests = api = np.zeros(WEEK_H)
    for serving in draft.servings:
        mine = serving.case.stream.usage.requests
        requests = requests + mine
        api = api + (mine * serving.api_frac if serving.offer is not None else 0.0)
    some = api > 0.005 * requests.max()
    replicas = np.sum([solution.replicas[0] for solution in solutions], axis=0)
    return Step(
        stage.quarter.label, stage.quarter.months, volume, way.name,
        float(api @ weight / (requests @ weight)), int(some.sum()), when(some),
        int(replicas.max()), float(replicas @ weight / weight.sum()), sum(best.committed[q]), month, change,
        _apis(draft),
    )  # fmt: skip


def _apis(draft: Draft) -> str:
    """The APIs of a draft, those that serve most first; of more than two the first and their number."""
    served: dict[str, float] = {}
    for serving in draft.servings:
        if serving.offer is not None and serving.api_frac.any():
            name = serving.offer.api.subject.removeprefix("api/")
            requests = float((serving.case.stream.usage.requests * serving.api_frac).sum())
            served[name] = served.get(name, 0.0) + requests
    names = sorted(served, key=lambda name: (-served[name], name))
    if len(names) > NAMED_MOST:
        return f"{names[0]} and {len(names) - 1} more"
    return " and ".join(names)


def when(hours: np.ndarray) -> str:
    """Hours of the week, (168,) flags, in words.

    >>> flags = np.zeros(168, bool)
    >>> flags[[9, 10, 11, 33, 34, 35]] = True
    >>> when(flags)
    'Mon-Tue 09-12 UTC'
    """
    if hours.all():
        return "all hours"
    if not hours.any():
        return "never"
    days = hours.reshape(7, 24)
    runs: list[tuple[int, int, str]] = []
    for d in range(7):
        edges = np.flatnonzero(np.diff(np.concatenate(([0], days[d].astype(int), [0]))))
        text = ", ".join(f"{a:02d}-{b:02d}" for a, b in zip(edges[::2], edges[1::2], strict=True))
        if runs and runs[-1][2] == text:
            runs[-1] = (runs[-1][0], d, text)
        else:
            runs.append((d, d, text))
    if len([text for _, _, text in runs if text]) > 2 or max(len(text) for _, _, text in runs) > 14:
        most = "" if hours.mean() > NEARLY_ALL else _mostly(days)
        return f"{int(hours.sum())} of {len(hours)} hours of the week{f', mostly {most}' if most else ''}"
    said = [
        f"{DAYS[a].title()}{'' if a == b else '-' + DAYS[b].title()} {text}" for a, b, text in runs if text
    ]
    return "; ".join(said) + " UTC"


def _mostly(days: np.ndarray) -> str:
    """The longest run of hours in which most of the flagged days are flagged, in words; blank where none is.

    >>> flags = np.zeros((7, 24), bool)
    >>> flags[:5, 8:18] = True
    >>> flags[2, 12] = False
    >>> _mostly(flags)
    'Mon-Fri 08-18 UTC'
    """
    parts = {"Mon-Fri": days[:5], "Sat-Sun": days[5:]}
    name = max(parts, key=lambda part: float(parts[part].mean()))
    busy = parts[name].mean(axis=0) > 0.5
    if not busy.any() or busy.all():
        return "" if not busy.any() else name
    # From the first quiet hour on, so that a run through midnight stays one.
    start = int(np.flatnonzero(~busy)[0])
    if busy.sum() >= DAY_LONG:
        return name
    edges = np.flatnonzero(np.diff(np.concatenate(([0], np.roll(busy, -start).astype(int), [0]))))
    begins, ends = max(zip(edges[::2], edges[1::2], strict=True), key=lambda run: run[1] - run[0])
    covered = np.roll(parts[name], -start, axis=1)[:, begins:ends].sum()
    if covered < 0.5 * days.sum():
        return ""
    return f"{name} {(begins + start) % 24:02d}-{(ends + start - 1) % 24 + 1:02d} UTC"


def change_of(study: Study, best: Chosen, q: int) -> str:
    """What is done at the start of a quarter."""
    said = []
    way = study.ways[best.ways[q]]
    if q == 0:
        if way.name != TODAY:
            said.append(f"start {way.name}")
    elif best.ways[q] != best.ways[q - 1]:
        said.append(f"switch to {way.name}")
    said += [f"sign {one.count}x {one.gpu} for {one.term.words}" for one in best.signed if one.step == q]
    if q:
        before, now = study.stages[q - 1].held, study.stages[q].held
        said += [f"{before[g] - now.get(g, 0)}x {g} held end" for g in before if now.get(g, 0) < before[g]]
    return "; ".join(said)


def signings_of(study: Study, best: Chosen) -> list[Signing]:
    """What is held, and what is signed."""
    on = study.built.prepared.request.on
    last = study.stages[-1].quarter
    found = [
        Signing("held", lot.gpu, lot.count, "held", lot.until.isoformat(), lot.usd_per_gpu_h,
                _used(study, best, lot.gpu, None), True)
        for lot in study.built.prepared.request.have.on(on).gpus
    ]  # fmt: skip
    for one in best.signed:
        starts = study.stages[one.step].quarter
        beyond = max(0, starts.first + one.term.months - last.first - last.months)
        found.append(
            Signing(
                starts.label, one.gpu, one.count, one.term.words, _ends(starts.starts, one.term).isoformat(),
                one.usd_per_gpu_h, _used(study, best, one.gpu, one.step), False,
                one.count * one.usd_per_gpu_h * study.hours * beyond,
                one.count * one.usd_per_gpu_h * study.hours * one.term.months,
            )
        )  # fmt: skip
    return found


def _ends(starts: date, term: Term) -> date:
    at = starts.month - 1 + term.months
    return date(starts.year + at // 12, at % 12 + 1, 1)


def _used(study: Study, best: Chosen, gpu: str, step: int | None) -> float:
    """Share of the committed accelerators of a kind that the path's ways run, while they are there."""
    there = used = 0.0
    for q, stage in enumerate(study.stages):
        if step is not None and q < step:
            continue
        total = there_is(study.stages, best.signed, gpu, q)
        mine = sum(
            number * part.gpus
            for part, number in zip(study.ways[best.ways[q]].parts, best.committed[q], strict=True)
            if part.gpu == gpu
        )
        there += total * stage.months
        used += min(total, mine) * stage.months
    return used / there if there else 0.0


def headline_of(study: Study, best: Chosen, rivals: list[Rival]) -> str:
    """The answer in a sentence."""
    months = study.ask.months
    text = f"Over {months} months the least-cost path costs {money(best.usd)} of today's money"
    today = next((r for r in rivals if r.way == TODAY), None)
    if today is not None and today.usd is not None and today.usd > best.usd * 1.001:
        text += f", {money(today.usd - best.usd)} less than staying as today"
    start = study.ways[best.ways[0]].name
    told = [] if start == TODAY else [f"start {start} at once"]
    switches = [q for q in range(1, len(best.ways)) if best.ways[q] != best.ways[q - 1]]
    if switches:
        q = switches[0]
        told.append(f"switch to {study.ways[best.ways[q]].name} in {study.stages[q].quarter.label}")
        signed = [one for one in best.signed if one.step == q]
        if signed:
            said = " and ".join(f"{one.count}x {one.gpu} for {one.term.words}" for one in signed)
            told[-1] += f" and sign {said}"
    elif best.signed:
        first = best.signed[0]
        label = study.stages[first.step].quarter.label
        more = f", the first of {len(best.signed)} commitments" if len(best.signed) > 1 else ""
        told.append(f"sign {first.count}x {first.gpu} for {first.term.words} in {label}{more}")
    else:
        told.append("sign nothing, switch nothing on the way")
    text += f"; {', '.join(told)}"
    return text + "."


def notes_of(study: Study, best: Chosen, drafts: Sequence[Draft]) -> list[str]:
    """What the path supposes."""
    growth, volume = study.ask.growth_per_month, count(study.built.prepared.volume.requests)
    grows = f"Traffic grows {percent(growth)} a month, from {volume} requests a month."
    said = [grows if growth else "Traffic stays as it is (--growth 4%/mo)."]
    if study.ways[best.ways[0]].name != TODAY:
        said.append(
            "A plan of one month spreads what a change takes over the change's life at today's volume, and"
            " may stay where this path changes."
        )
    if study.ask.prices == "flat":
        said.append("Prices of APIs and rents stay as they are today (--prices forecast).")
    else:
        mid = study.ask.months
        parts = [
            f"{WORDS[n].removesuffix(' to come')} {study.ahead.middle(n, mid):.2f}x"
            for n in study.ahead.paths
        ]
        said.append(f"Prices at the end of the horizon, median of the forecast: {', '.join(parts)}.")
    said += _put_off(drafts)
    return said


def _put_off(drafts: Sequence[Draft]) -> list[str]:
    """Work that waits for idle replicas, at its largest share."""
    most: dict[str, float] = {}
    for draft in drafts:
        for serving in draft.servings:
            if serving.case.served is not None:
                most.setdefault(serving.case.stream.workload, 0.0)
    return [f"{name}: what may wait fills idle hours of own replicas." for name in most]


def rate_notes(study: Study, drafts: Sequence[Draft]) -> list[str]:
    """From when an API on the path needs a higher usage tier, or is still asked for more than any."""
    tiers: dict[tuple[str, str], str] = {}
    said, above = [], others(study.built.prepared.at)
    for q, stage in enumerate(study.stages):
        for load in drafts[q].loads(study.built.prepared):
            more = replace(load, asked=load.asked * study.multiples[q])
            key, name = (load.provider, load.model), f"{load.provider}/{load.model}"
            tier = more.tier
            if not load.tiers and load.most is None and not load.shown and key not in tiers:
                tokens = float(more.asked[3].max())
                if tokens > above.middle:
                    most = f"{count(above.low)} to {count(above.high)} for four in five"
                    text = (
                        f"{name} publishes no limit and is taken to have none; from {stage.quarter.label} it"
                    )
                    text += f" is asked for {count(tokens)} tokens a minute, more than half of the limits"
                    said.append(f"{text} that others publish at their highest tier ({most}).")
                    tiers[key] = ABOVE
            if load.tiers and tier is None and tiers.get(key) != ABOVE and not load.shown:
                meter = more.fullest(load.tiers[-1].most)
                asked = f"{count(more.asked[meter].max())} {METERS[meter]} a minute"
                text = f"{name} is asked for {asked} from {stage.quarter.label}, more than any published tier"
                said.append(f"{text} ({count(load.tiers[-1].most[meter])}): agree on it before.")
                tiers[key] = ABOVE
            elif tier is not None and tiers.get(key, tier.tier) not in (tier.tier, ABOVE):
                said.append(f"{name} needs usage tier {tier.tier} from {stage.quarter.label}.")
            if tier is not None:
                tiers[key] = tier.tier
    return said
