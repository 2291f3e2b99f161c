"""How often the set-up chosen for a limit keeps it, and what it costs: ``python calibration/choose.py DATA``.

Reads ``DATA/perf/silicon.parquet``. A choice is one model, accelerator and pair of lengths; its options are
the set-ups and loads that were measured there. Chosen is the least predicted accelerator time a token among
those whose time of a token keeps the limit by the upper end of its interval. The interval is widened by the
factor at which the choices of the *other* families keep the limit 98 times of 100. Each family is answered by
constants that had not seen it. Printed without own measurements, and with one of each set-up (the load in its
middle).
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from datetime import date
from pathlib import Path
from typing import NamedTuple

import numpy as np

from isocost.catalog import Catalog, CatalogAt
from isocost.perf.anchor import Anchors, anchored, kinship_of
from isocost.perf.predict import Load, Spread
from isocost.validate.perf import Points, answer, points_of, select
from isocost.validate.stated import read_rows

LIMIT_S = 0.030
HELD_FRAC = 0.98
WIDER = np.linspace(0.0, 4.0, 81)


class Options(NamedTuple):
    """Everything measured: which choice it belongs to, times of a token and of an answer, accelerators."""

    choice: np.ndarray
    family: np.ndarray
    tpot: np.ndarray
    rate: np.ndarray
    said: np.ndarray
    high: np.ndarray
    said_rate: np.ndarray


def options(at: CatalogAt, points: Points, with_anchor: bool) -> Options:
    """The measured set-ups, with what is said of them; those given as anchors are no options."""
    said = answer(at, points)
    middle, high = np.log(said.median), np.log(said.high)
    given = np.zeros(len(middle), dtype=bool)
    is_pace = points.quantity == "tpot"
    if with_anchor:
        setups: dict[tuple[object, ...], list[int]] = defaultdict(list)
        for i in np.flatnonzero(is_pace).tolist():
            layout = (
                float(field[i]) for field in (*points.setup[:4], points.setup.ep, points.told.drafts_tok)
            )
            lengths = (float(points.load.isl[i]), float(points.load.osl[i]))
            names = (points.labels[name][i] for name in ("model", "gpu", "stack"))
            setups[(*names, *layout, *lengths)].append(i)
        kin = kinship_of(at, "tpot")
        for members in setups.values():
            here = np.array(sorted(members, key=lambda i: float(points.load.concurrency[i])))
            if len(here) < 2:
                continue
            one = here[[len(here) // 2]]
            given[one] = True
            flat = Spread(np.zeros(len(here)), np.zeros(len(here)), high[here] - middle[here])
            anchor = Anchors(
                Load(*(field[one] for field in points.load)), np.exp(middle[one]), points.measured[one]
            )
            there = Load(*(field[here] for field in points.load))
            found = anchored(np.exp(middle[here]), flat, there, anchor, kin)
            middle[here], high[here] = np.log(found.median), np.log(found.high)
    first: dict[str, int] = {
        points.labels["config_id"][i]: i for i in np.flatnonzero(points.quantity == "ttft").tolist()
    }
    pace = np.array([i for i in np.flatnonzero(is_pace).tolist() if points.labels["config_id"][i] in first])
    pace = pace[~given[pace]]
    ttft = np.array([first[points.labels["config_id"][i]] for i in pace])
    load, gpus = points.load, points.setup.gpus[pace]
    life = points.measured[ttft] + (load.osl[pace] - 1.0) * points.measured[pace]
    thought = said.median[ttft] + (load.osl[pace] - 1.0) * np.exp(middle[pace])
    tokens = load.concurrency[pace] * load.osl[pace] / gpus
    keys = [
        (points.labels["model"][i], points.labels["gpu"][i], float(load.isl[i]), float(load.osl[i]))
        for i in pace
    ]
    code: dict[object, int] = {}
    return Options(
        np.array([code.setdefault(key, len(code)) for key in keys]),
        np.array([points.labels["family"][i] for i in pace]),
        points.measured[pace],
        tokens / life,
        np.exp(middle[pace]),
        np.exp(high[pace]),
        tokens / thought,
    )


def chosen(of: Options, wider: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of every choice that can be made at all: its family, whether the limit is kept, and the cost over the
    least that would have kept it."""
    families, kept, regret = [], [], []
    for choice in np.unique(of.choice):
        here = np.flatnonzero(of.choice == choice)
        able = here[of.tpot[here] <= LIMIT_S]
        upper = np.exp(np.log(of.said[here]) + wider * (np.log(of.high[here]) - np.log(of.said[here])))
        wanted = here[upper <= LIMIT_S]
        if not len(able) or len(here) < 4:
            continue
        # Where nothing keeps the limit by its upper end, the fastest is taken.
        one = wanted[of.said_rate[wanted].argmax()] if len(wanted) else here[upper.argmin()]
        families.append(of.family[one])
        kept.append(of.tpot[one] <= LIMIT_S)
        regret.append(max(of.rate[able].max() / of.rate[one] - 1.0, 0.0))
    return np.array(families), np.array(kept), np.array(regret)


def report(of: Options, title: str) -> None:
    """The share of limits kept and the mean regret, with the interval as it is and widened by the others."""
    table = [chosen(of, wider) for wider in WIDER]
    families, kept, regret = chosen(of, 1.0)
    print(
        f"{title}: {len(kept)} choices; by the upper end: kept {kept.mean():.1%}, regret {regret.mean():.1%}"
    )
    held, cost = [], []
    for family in np.unique(families):
        inside = [kept[names != family].mean() for names, kept, _ in table]
        wider = next((k for k, share in enumerate(inside) if share >= HELD_FRAC), len(WIDER) - 1)
        names, kept, regret = table[wider]
        held += kept[names == family].tolist()
        cost += regret[names == family].tolist()
    print(
        f"    widened by what the other families need: kept {np.mean(held):.1%}, regret {np.mean(cost):.1%}"
    )
    names, kept, regret = table[0]
    print(f"    by the median alone: kept {kept.mean():.1%}, regret {regret.mean():.1%}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    given = parser.parse_args()
    at = Catalog.load().at(date.today())
    points, _, _ = points_of(at, read_rows(given.data / "perf" / "silicon.parquet"))
    points = select(points, np.flatnonzero(points.told.prefill_replicas == 0))
    report(options(at, points, False), "without own measurements")
    report(options(at, points, True), "with one measurement of each set-up")


if __name__ == "__main__":
    main()
