"""How fast set-ups are taken to be, and how sure that is: one answer for ``size`` and for plans.

The physics says the terms of a step. What was measured moves them: one's own measurements of the set-up
(:mod:`isocost.size.calibrated`), else the middle of what others measured over predicted on accelerators of
that maker. The interval is of measured over what is then stated.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from isocost.catalog import CatalogAt
from isocost.perf import StepTerms, closed_form, goodput
from isocost.perf.anchor import Anchors, Kinship, anchored, kinship_of
from isocost.perf.arch import Floats
from isocost.perf.predict import Spread, groups_of, load_of, spread_of
from isocost.risk.scenarios import Z_CENTRAL
from isocost.size.calibrated import RATIOS, TERMS, Anchor, Own, own_of

QUANTITIES = ("tpot", "ttft", "throughput")
DECODE = ("base_s", "seq_s", "kv_s_per_tok")
FIRST = ("prefill_s_per_tok", "first_token_s")
"""Terms of a step that the ratio of TPOT moves, and those that the ratio of TTFT moves."""
RELAYS = 2
"""Times that the line of a step is laid again at the load that the last one allows."""
FEWEST, MOST = 2.0, 4096.0
"""Running sequences between which a line is laid."""


class Speed(NamedTuple):
    """How ``n`` set-ups differ from the physics: what was measured of each, by quantity how others'
    measurements lie about predictions (logarithms, ``(n,)``), and how alike the errors of one set-up are."""

    own: tuple[Own | None, ...]
    spreads: Mapping[str, Spread]
    kin: Mapping[str, Kinship] = {}

    def near(self, running: Floats, isl: float, osl: float) -> Speed:
        """The same at a load: runs of one's own say more of loads that are near theirs."""
        own = list(self.own)
        for i, one in enumerate(own):
            if one is None or not one.is_exact or one.step is not None or not any(one.anchors.values()):
                continue
            load = (float(running[i]), isl, osl)
            said = {
                name: ratio_at(runs, load, self.spreads[name], i, self.kin[name])
                for name, runs in one.anchors.items()
                if runs
            }
            own[i] = one._replace(tpot=said.get("tpot", one.tpot), ttft=said.get("ttft", one.ttft))
        return self._replace(own=tuple(own))

    def moved(self, terms: StepTerms) -> StepTerms:
        """The terms of the same set-ups as measurements have them; those fitted to requests replace all."""
        tpot, ttft = (np.exp(self.spreads[name].middle) for name in ("tpot", "ttft"))
        columns = {name: np.array(getattr(terms, name), dtype=np.float64) for name in (*DECODE, *FIRST)}
        fitted: dict[int, Mapping[str, float]] = {}
        for i, own in enumerate(self.own):
            if own is None:
                continue
            tpot[i], ttft[i] = own.tpot[0] if own.tpot else tpot[i], own.ttft[0] if own.ttft else ttft[i]
            if own.is_exact and own.step is not None:
                fitted[i] = own.step
        for name, column in columns.items():
            column *= tpot if name in DECODE else ttft
        for i, step in fitted.items():
            for name in TERMS:
                columns[name][i] = step[name]
        return terms._replace(**columns)

    def frac(self, quantity: str, i: int) -> tuple[float, float]:
        """The central 80 % of measured over stated of a quantity of set-up ``i``."""
        own = self.own[i]
        if own is not None and own.tpot is not None:
            value, low, high = own.ttft if quantity == "ttft" and own.ttft is not None else own.tpot
            return (value / high, value / low) if quantity == "throughput" else (low / value, high / value)
        spread = self.spreads[quantity]
        middle = float(spread.middle[i])
        return math.exp(float(spread.low[i]) - middle), math.exp(float(spread.high[i]) - middle)

    def says(self, i: int) -> str:
        """``calibrated`` where one's own measurements are used for set-up ``i``, and which; else blank."""
        own = self.own[i]
        if own is None or not own.is_own:
            return ""
        return "calibrated" if own.is_exact else "calibrated on another set-up of it"

    def select(self, index: Sequence[int]) -> Speed:
        """The set-ups at ``index``."""
        at = np.asarray(index, dtype=np.intp)
        spreads = {name: Spread(*(part[at] for part in one)) for name, one in self.spreads.items()}
        return Speed(tuple(self.own[i] for i in at), spreads, self.kin)


def ratio_at(
    runs: Sequence[Anchor], load: tuple[float, float, float], spread: Spread, i: int, kin: Kinship
) -> tuple[float, float, float]:
    """Measured over predicted at a load (requests in flight, prompt, answer), with its central 80 %.

    ``spread`` is what others' measurements say of set-up ``i`` without any run. Where that is wider than the
    errors of one set-up are, the rest is what its maker's accelerators have in common.
    """
    table = np.array(runs, dtype=np.float64)
    prior = Spread(*(part[[i]] for part in spread))
    sd = float((prior.high - prior.low)[0]) / (2.0 * Z_CENTRAL)
    kin = kin._replace(common=max(kin.common, sd**2 - kin.local - kin.noise))
    there = load_of(table[:, 0], table[:, 1], table[:, 2])
    anchors = Anchors(there, np.ones(len(table)), table[:, 3])
    here = load_of(np.array([load[0]]), np.array([load[1]]), np.array([load[2]]))
    found = anchored(np.ones(1), prior, here, anchors, kin)
    return float(found.median[0]), float(found.low[0]), float(found.high[0])


def speed_of(catalog_at: CatalogAt, where: Sequence[tuple[str, str, str]]) -> Speed:
    """How set-ups differ from the physics; ``where`` names the model, the accelerator and the
    :func:`~isocost.size.calibrated.condition` of each.

    Raises:
        UnknownFact: the catalog has no accelerator of that name, or no spread at all.
    """
    kinds = list(dict.fromkeys(gpu for _, gpu, _ in where))
    groups = groups_of(catalog_at, kinds, ["closed"] * len(kinds))
    place = {kind: i for i, kind in enumerate(kinds)}
    each = np.array([place[gpu] for _, gpu, _ in where], dtype=np.intp)
    spreads = {}
    for name in QUANTITIES:
        table = spread_of(catalog_at, [name] * len(kinds), groups)
        spreads[name] = Spread(*(part[each] for part in table))
    measured = {fact.subject for name in RATIOS for fact in catalog_at.each("calibration/", name)}
    known = {
        key: own_of(catalog_at, *key)
        for key in dict.fromkeys(where)
        if f"calibration/{key[0]}/{key[1]}" in measured
    }
    has_runs = any(own is not None and any(own.anchors.values()) for own in known.values())
    kin = {name: kinship_of(catalog_at, name) for name in ("tpot", "ttft")} if has_runs else {}
    return Speed(tuple(known.get(key) for key in where), spreads, kin)


def loaded(
    lay: Callable[[Floats | None], StepTerms],
    speed: Speed,
    lengths_tok: tuple[float, float],
    limits_s: tuple[float, float],
    used: Callable[[StepTerms], StepTerms] = lambda terms: terms,
) -> tuple[Floats, StepTerms, Speed]:
    """Requests a second that each set-up carries within limits in the mean, its terms and its speed there.

    ``lay`` gives the physics' terms for so many running sequences (``None``: as many as fit), ``used`` what a
    load makes of them once moved (drafts, cached prompts, a smaller room); the terms returned are moved, but
    not used. ``lengths_tok`` are a request's prompt and answer, ``limits_s`` those on TTFT and TPOT.
    """
    terms = speed.moved(lay(None))
    here = speed
    for again in range(RELAYS + 1):
        as_used = used(terms)
        rate = goodput(as_used, *lengths_tok, *limits_s)
        if again == RELAYS:
            break
        running = closed_form(as_used, *lengths_tok, rate).running
        running = np.where(np.isfinite(running), running, terms.batch_high)
        running = np.clip(running, FEWEST, MOST)
        here = speed.near(running, *lengths_tok)
        terms = here.moved(lay(running))
    return rate, terms, here
