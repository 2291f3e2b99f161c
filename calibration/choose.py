"""How often the set-up chosen for a limit keeps it, and what it costs: ``python calibration/choose.py DATA``.

Reads ``DATA/perf/silicon.parquet``. A choice is one model, accelerator and pair of lengths; its options are
the set-ups and loads that were measured there. Each family is answered by constants that had not seen it.
Three rules choose: the least predicted accelerator time a token among those whose time of a token keeps the
limit by the upper end of its interval, widened or narrowed; the least of that time and a price of breaking
the limit times the chance of it; and choosing, measuring what was chosen, and choosing again
with what was learnt of that set-up where it broke the limit. How wide, and at what price, is found for each
family on the choices of the *others*: the least that keeps the limit 98 times of 100.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from datetime import date
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.stats import norm
from scipy.stats import t as student

from isocost.catalog import Catalog, CatalogAt
from isocost.perf.anchor import Anchors, Kinship, anchored, kinship_of
from isocost.perf.predict import Load, Spread
from isocost.validate.perf import Points, answer, points_of, select
from isocost.validate.stated import read_rows

LIMIT_S = 0.030
HELD_FRAC = 0.98
WIDER = tuple(np.linspace(0.0, 4.0, 81).tolist())
PRICES = tuple(np.geomspace(0.3, 300.0, 46).tolist())
TENTH_SD = float(norm.ppf(0.9))
DEGREES = 3
"""Degrees of freedom of the errors: some set-ups are far off."""
LEAST_OPTIONS = 4
TRIALS = (1, 2, 3, 5)
DRAWS = 64


class Options(NamedTuple):
    """Everything measured, ``(n,)`` each: its choice, set-up, family and load; times of a token and tokens
    a second an accelerator, measured and said; half the width of the interval in logs."""

    choice: np.ndarray
    setup: np.ndarray
    family: np.ndarray
    load: Load
    tpot: np.ndarray
    rate: np.ndarray
    said: np.ndarray
    half: np.ndarray
    said_rate: np.ndarray


class Chosen(NamedTuple):
    """Of every choice that can be made at all: its family, whether the limit is kept, the cost over the least
    that would have kept it, and how many set-ups were measured."""

    family: np.ndarray
    kept: np.ndarray
    regret: np.ndarray
    measured: np.ndarray


Rule = Callable[[Options, np.ndarray, float], tuple[int, int]]
"""Which of the options at an index is taken at a strictness, and how many were measured for it."""


def options(at: CatalogAt, points: Points) -> Options:
    """The measured set-ups, with what is said of them."""
    said = answer(at, points)
    middle, half = np.log(said.median), np.log(said.high / said.median)
    first: dict[str, int] = {
        points.labels["config_id"][i]: i for i in np.flatnonzero(points.quantity == "ttft").tolist()
    }
    at_tpot = np.flatnonzero(points.quantity == "tpot").tolist()
    pace = np.array([i for i in at_tpot if points.labels["config_id"][i] in first])
    ttft = np.array([first[points.labels["config_id"][i]] for i in pace])
    load, gpus = points.load, points.setup.gpus[pace]
    after = np.maximum(load.osl[pace] - 1.0, 0.0)
    tokens = load.concurrency[pace] * load.osl[pace] / gpus
    choices: dict[object, int] = {}
    setups: dict[object, int] = {}
    choice, setup = [], []
    for i in pace.tolist():
        lengths = (float(load.isl[i]), float(load.osl[i]))
        names = tuple(points.labels[name][i] for name in ("model", "gpu"))
        layout = tuple(
            float(field[i]) for field in (*points.setup[:5], points.setup.ep, points.told.drafts_tok)
        )
        choice.append(choices.setdefault((*names, *lengths), len(choices)))
        setup.append(setups.setdefault((*names, points.labels["stack"][i], *layout, *lengths), len(setups)))
    return Options(
        np.array(choice),
        np.array(setup),
        np.array([points.labels["family"][i] for i in pace]),
        Load(*(field[pace] for field in load)),
        points.measured[pace],
        tokens / (points.measured[ttft] + after * points.measured[pace]),
        np.exp(middle[pace]),
        half[pace],
        tokens / (said.median[ttft] + after * np.exp(middle[pace])),
    )


def with_anchors(of: Options, kin: Kinship) -> Options:
    """The options with one measurement of each set-up, at the load in its middle, which is no option then."""
    said, half, given = of.said.copy(), of.half.copy(), np.zeros(len(of.said), bool)
    for one in np.unique(of.setup):
        here = np.flatnonzero(of.setup == one)
        if len(here) < 2:
            continue
        here = here[np.argsort(of.load.concurrency[here])]
        middle = here[len(here) // 2]
        said[here], half[here] = _moved(of, here, np.array([middle]), kin)
        given[middle] = True
    rate = of.said_rate * of.said / said
    kept = ~given
    fields = (of.choice, of.setup, of.family, of.load, of.tpot, of.rate, said, half, rate)
    return Options(*(Load(*(x[kept] for x in f)) if isinstance(f, Load) else f[kept] for f in fields))


def _moved(of: Options, here: np.ndarray, known: np.ndarray, kin: Kinship) -> tuple[np.ndarray, np.ndarray]:
    """Times of a token at the loads ``here`` of a set-up that was measured at ``known``, and half widths."""
    flat = Spread(np.zeros(len(here)), np.zeros(len(here)), of.half[here])
    anchors = Anchors(Load(*(field[known] for field in of.load)), of.said[known], of.tpot[known])
    found = anchored(of.said[here], flat, Load(*(field[here] for field in of.load)), anchors, kin)
    return found.median, np.log(found.high / found.median)


def by_upper_end(of: Options, here: np.ndarray, wider: float) -> tuple[int, int]:
    """The least said time of accelerators among those whose widened upper end keeps the limit, else the
    fastest."""
    upper = of.said[here] * np.exp(wider * of.half[here])
    able = here[upper <= LIMIT_S]
    return int(able[of.said_rate[able].argmax()] if len(able) else here[upper.argmin()]), 0


def by_price(of: Options, here: np.ndarray, price: float) -> tuple[int, int]:
    """The least of cost, over that of the cheapest that more likely keeps the limit than not, and ``price``
    times the chance that the limit breaks."""
    sd = of.half[here] / TENTH_SD
    breaks = student.sf(np.log(LIMIT_S / of.said[here]) / sd, DEGREES)
    cost = 1.0 / of.said_rate[here]
    likely = breaks <= 0.5
    least = cost[likely].min() if likely.any() else cost[breaks.argmin()]
    return int(here[(cost / least + price * breaks).argmin()]), 0


def by_trial(kin: Kinship, trials: int, wider: float) -> Rule:
    """Choose by the medians (``wider`` 0) or by lower ends (-1), measure, and choose again where the limit
    broke; the price chooses at last."""

    def rule(of: Options, here: np.ndarray, price: float) -> tuple[int, int]:
        said, rate, half = of.said.copy(), of.said_rate.copy(), of.half.copy()
        tried: list[int] = []
        for _ in range(trials):
            left = np.setdiff1d(here, tried)
            if not len(left):
                break
            one, _ = by_upper_end(of._replace(said=said, said_rate=rate, half=half), left, wider)
            tried.append(one)
            if of.tpot[one] <= LIMIT_S:
                return one, len(tried)
            same = here[of.setup[here] == of.setup[one]]
            known = np.array([i for i in tried if of.setup[i] == of.setup[one]])
            said[same], half[same] = _moved(of, same, known, kin)
            rate[same] = of.said_rate[same] * of.said[same] / said[same]
        left = np.setdiff1d(here, tried)
        after = of._replace(said=said, said_rate=rate, half=half)
        return (by_price(after, left, price)[0] if len(left) else tried[-1]), len(tried)

    return rule


def chosen(of: Options, rule: Rule, strict: float) -> Chosen:
    """What a rule chooses wherever at least one option keeps the limit."""
    found = []
    for choice in np.unique(of.choice):
        here = np.flatnonzero(of.choice == choice)
        able = here[of.tpot[here] <= LIMIT_S]
        if not len(able) or len(here) < LEAST_OPTIONS:
            continue
        one, measured = rule(of, here, strict)
        regret = max(of.rate[able].max() / of.rate[one] - 1.0, 0.0)
        found.append((of.family[one], of.tpot[one] <= LIMIT_S, regret, measured))
    return Chosen(*(np.array(column) for column in zip(*found, strict=True)))


def nested(of: Options, rule: Rule, grid: tuple[float, ...]) -> tuple[float, float]:
    """The share of limits kept and the mean regret, as strict as the choices of the other families need."""
    table = [chosen(of, rule, strict) for strict in grid]
    families = table[0].family
    kept: list[bool] = []
    regret: list[float] = []
    for family in np.unique(families):
        mine = families == family
        held = [one.kept[~mine].mean() for one in table]
        at = next((k for k, share in enumerate(held) if share >= HELD_FRAC), len(grid) - 1)
        kept += table[at].kept[mine].tolist()
        regret += table[at].regret[mine].tolist()
    return float(np.mean(kept)), float(np.mean(regret))


def oracle(of: Options, noise_sd: float) -> Chosen:
    """What is chosen by someone who measured every option once, and whose measurements repeat within a
    deviation of ``noise_sd`` of the logarithm: what a measured limit itself cannot say better."""
    random = np.random.default_rng(0)
    found = []
    for _ in range(DRAWS):
        moved = np.exp(noise_sd * random.standard_normal(len(of.tpot)))
        seen = of._replace(said=of.tpot * moved, said_rate=of.rate / moved)
        found.append(chosen(seen, by_upper_end, 0.0))
    return Chosen(*(np.concatenate(column) for column in zip(*found, strict=True)))


def report(of: Options, title: str) -> None:
    """What the two rules do, and the frontier of limits kept against regret."""
    print(f"{title}: {len(chosen(of, by_upper_end, 1.0).kept)} choices")
    for name, rule, grid in (("upper end", by_upper_end, WIDER), ("price", by_price, PRICES)):
        kept, regret = nested(of, rule, grid)
        print(f"  by {name}, as strict as the other families need: kept {kept:.1%}, regret {regret:.1%}")
        shown = grid[:: len(grid) // 9]
        line = (chosen(of, rule, strict) for strict in shown)
        print("    " + "; ".join(f"{one.kept.mean():.0%} at {one.regret.mean():.0%}" for one in line))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    given = parser.parse_args()
    at = Catalog.load().at(date.today())
    points, _, _ = points_of(at, read_rows(given.data / "perf" / "silicon.parquet"))
    points = select(points, np.flatnonzero(points.told.prefill_replicas == 0))
    kin = kinship_of(at, "tpot")
    plain = options(at, points)
    report(plain, "without own measurements")
    report(with_anchors(plain, kin), "with one measurement of each set-up")
    best = oracle(plain, float(np.sqrt(kin.noise)))
    print(f"all measured once, with noise: kept {best.kept.mean():.1%}, regret {best.regret.mean():.1%}")
    print("chosen, measured, and chosen again where it broke the limit")
    for (name, wider), trials in product((("medians", 0.0), ("lower ends", -1.0)), TRIALS):
        one = chosen(plain, by_trial(kin, trials, wider), PRICES[-1])
        print(
            f"  by {name}, at most {trials}: kept {one.kept.mean():.1%}, regret {one.regret.mean():.1%},"
            f" measured {one.measured.mean():.2f} in the mean"
        )


if __name__ == "__main__":
    main()
