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
from isocost.perf.arch import Floats
from isocost.perf.predict import Spread, groups_of, spread_of
from isocost.size.calibrated import RATIOS, TERMS, Own, own_of

QUANTITIES = ("tpot", "ttft", "throughput")
DECODE = ("base_s", "seq_s", "kv_s_per_tok")
FIRST = ("prefill_s_per_tok", "first_token_s")
"""Terms of a step that the ratio of TPOT moves, and those that the ratio of TTFT moves."""
RELAYS = 2
"""Times that the line of a step is laid again at the load that the last one allows."""
FEWEST, MOST = 2.0, 4096.0
"""Running sequences between which a line is laid."""


class Speed(NamedTuple):
    """How ``n`` set-ups differ from the physics: what was measured of each, and by quantity how others'
    measurements lie about predictions (logarithms, ``(n,)``)."""

    own: tuple[Own | None, ...]
    spreads: Mapping[str, Spread]

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
        return Speed(tuple(self.own[i] for i in at), spreads)


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
    return Speed(tuple(known.get(key) for key in where), spreads)


def loaded(
    lay: Callable[[Floats | None], StepTerms],
    lengths_tok: tuple[float, float],
    limits_s: tuple[float, float],
    used: Callable[[StepTerms], StepTerms] = lambda terms: terms,
) -> tuple[Floats, StepTerms]:
    """Requests a second that each set-up carries within limits in the mean, and its terms where they run.

    ``lay`` gives the terms for so many running sequences (``None``: as many as fit), ``used`` what a load
    makes of them (drafts, cached prompts, a smaller room); the terms returned are those of ``lay``.
    ``lengths_tok`` are a request's prompt and answer, ``limits_s`` those on TTFT and TPOT.
    """
    terms = lay(None)
    for again in range(RELAYS + 1):
        as_used = used(terms)
        rate = goodput(as_used, *lengths_tok, *limits_s)
        if again == RELAYS:
            break
        running = closed_form(as_used, *lengths_tok, rate).running
        running = np.where(np.isfinite(running), running, terms.batch_high)
        terms = lay(np.clip(running, FEWEST, MOST))
    return rate, terms
