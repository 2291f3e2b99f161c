"""What the figures of a log under policies rest on, in sentences."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from isocost.catalog.evidence import output_ratio
from isocost.deployment import Cache, Rules
from isocost.plan.market.offers import planned
from isocost.plan.written.attempts import Rows, Traffic, World
from isocost.plan.written.closed import Loop, fewest
from isocost.plan.written.failed import DRAWS
from isocost.plan.written.file import PlanFile
from isocost.plan.written.merged import said_of_counted, said_of_ends
from isocost.plan.written.rerun import today_of
from isocost.policy.rules import Cascade, Router, Rule, Split
from isocost.units import percent

TELLS_FRAC = 0.01
"""A share of requests that is off by less is not worth a sentence."""
TELLS_SD = 3.0
"""Standard deviations of a share of so many requests beyond which it is off by more than chance."""


def idle(plan: PlanFile, parts: Sequence[Traffic]) -> list[str]:
    """Rules that no request meets: a name with a typo is no error, as another log may have it."""
    met = {(part.rule.workload, part.rule.model) for part in parts}
    names = [rule.workload for rule in plan.policies if (rule.workload, rule.model) not in met]
    said = [f"No request meets the policy of {', '.join(map(repr, names))}"] if names else []
    known = {getattr(each, "provider", "") for each in plan.deployments}
    return said + [
        f"Nothing goes to {one.provider}, whose failures are stated"
        for one in plan.failures if one.provider not in known
    ]  # fmt: skip


def foretold(world: World, parts: Sequence[Traffic], loops: Sequence[Loop], is_whole: bool) -> str:
    """What was drawn of a fit, and what its interval holds; ``is_whole``: nothing is played at its ends."""
    seen = [getattr(one.rule.choose, "seen", None) for one in parts]
    least = min((one.questions for one in seen if one is not None), default=0)
    of = f"{'these shares' if least else 'that share'} and of each request's lot"
    held = f"of {DRAWS} draws of {of} four in five lie from low to high"
    if not is_whole:
        held = f"each end holds one draw of {of}"
    if not least:
        said = said_of_counted([one.rule for one in parts])
        return f"An estimate: {said} as often as was counted elsewhere; {held}"
    judged = any(isinstance(one.rule.choose, Cascade | Router) for one in parts)
    judged = judged and any(loop.foretold or loop.lots for loop in loops)
    what = "cheap answers are taken" if judged else "tasks come"
    said = (
        f"An estimate: {what} as often as on the {least:,} questions that the policy was certified on; {held}"
    )
    return (
        said if world.answers is not None else f"{said}. Graded answers of this log (--outcomes) go before it"
    )


def unscored(parts: Sequence[Traffic], unknown: int, lots: int) -> list[str]:
    """Which routers' scores are not known, and why."""
    routed = [one for one in parts if isinstance(one.rule.choose, Router)]
    requests = sum(len(one.rows) for one in routed)
    if not routed:
        return []
    if lots and not unknown:
        return [
            f"Scores of {lots:,} of {requests:,} routed requests are not known (their words, or the tasks "
            "that the score reads, are not in the log): as many go to the strong model as did of the fit's "
            "questions"
        ]
    if not unknown:
        return [f"Routers' scores are those of the words of {requests:,} requests"]
    unnamed = [one for one in routed if not getattr(one.rule.choose, "weights", "")]
    why = (
        "the policy names no weights"
        if len(unnamed) == len(routed)
        else "their words or tasks are not in the log"
    )
    return [
        f"Scores of {unknown:,} of {requests:,} routed requests are not known ({why}): all to one model and "
        "all to the other are played"
    ]


def at_a_budget(parts: Sequence[Traffic], refused: tuple[int, int]) -> list[str]:
    """That ends which a budget stops cost nearly alike, and what tells them apart: how many requests it
    ``refused`` at each."""
    n, few, many = sum(len(one.rows) for one in parts), min(refused), max(refused)
    if few == many:
        return []
    return [
        "A budget holds the bill down, which so says little of what was answered: refused are "
        f"{few:,} to {many:,} of {n:,} requests"
    ]


def uneven(loops: Sequence[Loop]) -> list[str]:
    """Where shares of sessions came to other shares of the requests, by more than chance among requests."""
    notes = []
    for loop in loops:
        for t, one in enumerate(loop.traffics):
            rule, choice = one.rule, one.rule.choose
            steered = rule.sticky or rule.defer or (rule.guard is not None and rule.guard.then)
            if not isinstance(choice, Split) or not choice.by_session or steered:
                continue
            first = _first_of(loop, t, [share.deployment for share in choice.shares])
            n = int((first >= 0).sum())
            off = []
            for k, share in enumerate(choice.shares):
                frac = sum(share.at(hour) for hour in range(168)) / 168
                got = int((first == k).sum()) / max(1, n)
                noise = TELLS_SD * math.sqrt(frac * (1.0 - frac) / max(1, n))
                if len(set(share.frac)) == 1 and abs(got - frac) > max(TELLS_FRAC, noise):
                    off.append(f"{share.deployment} {percent(got)}, not {percent(frac)}")
            if off:
                notes.append(
                    f"Shares are of sessions, few or of uneven length here: of the requests went to "
                    f"{', '.join(off)}"
                )
    return notes


def _first_of(loop: Loop, t: int, names: Sequence[str]) -> Rows:
    """Which of some deployments each request of a rule was put to first (k,), -1 to none."""
    place = np.array([*(names.index(name) if name in names else -1 for name in loop.names), -1], np.int64)
    asked = place[loop.found.deployment[loop.traffic == t]]
    column = np.argmax(asked >= 0, axis=1)
    return np.asarray(asked[np.arange(len(asked)), column], np.int64)


def notes_of(world: World, rules: Sequence[Rule], drawn: bool) -> list[str]:
    """What the figures rest on, in sentences."""
    notes = []
    names = list(dict.fromkeys(name for rule in rules for name in rule.deployments()))
    if drawn and (said := said_of_ends(rules)):
        notes.append(said)
    if world.answers is not None and (absent := [x for x in names if _lacks(world, x)]):
        notes.append(f"OUTCOMES has no answers of {', '.join(absent)}")
    if any(isinstance(rule.choose, Cascade) and rule.choose.checked for rule in rules) and world.answers:
        notes.append("The checker is taken to pass what was graded 0.5 or more: a real one errs")
    if any(rule.guard and rule.guard.most_output_tok is not None for rule in rules):
        notes.append("most_output_tok is held against what was answered: a log says no more")
    if any(rule.shape for rule in rules):
        notes.append("What cutting does to quality is not known")
    if any(rule.cache for rule in rules) and world.table.prompt_key is None:
        notes.append("The log does not say which prompts are equal: the exact cache answers nothing")
    if longer := _supposed(world, rules):
        notes.append(f"Not measured: answers of {longer} as today's")
    for name in (x for x in names if x in world.pools):
        schedule, least = world.pools[name], fewest(world, name)
        if any(schedule.replicas(hour) != least for hour in range(168)):
            notes.append(
                f"{name} waits as with its fewest replicas, {least}; its rent is that of the schedule"
            )
        if schedule.overflow_outstanding >= 0:
            notes.append(f"{name} turns nobody away here: who finds it full waits")
        if world.table.block_ids is not None:
            notes.append(f"{name} reads no prompt from its cache here")
    return notes


def _supposed(world: World, rules: Sequence[Rule]) -> str:
    """How long answers of models are taken to be that nobody measured beside today's."""
    found: dict[str, set[float]] = {}
    names = dict.fromkeys(name for rule in rules for name in rule.deployments())
    for stream in world.streams:
        offering = today_of(world.at, stream)
        today = stream.model if offering is None else offering.serves or stream.model
        for name in names:
            one = world.deployments[name]
            if not isinstance(one, Cache | Rules):
                ratio = output_ratio(world.at, today, one.model)
                if not ratio.known and planned(ratio) != 1.0:
                    found.setdefault(name, set()).add(round(planned(ratio), 1))
    return ", ".join(
        f"{name} {min(each):g}" + (f" to {max(each):g}" if len(each) > 1 else "") + " times as long"
        for name, each in found.items()
    )


def _lacks(world: World, name: str) -> bool:
    assert world.answers is not None
    return name not in world.answers.column and not isinstance(world.deployments[name], Cache)
