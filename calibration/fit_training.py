"""Fit the posteriors of training: utilisation, experiments for each final run, whole programmes.

    python calibration/fit_training.py CHECKOUT GROUND_TRUTH

CHECKOUT is a clone of github.com/epoch-research/training-cost-trends, whose ``data`` folder states the
utilisation of runs. GROUND_TRUTH is a table of published runs (columns ``case_id, kind, inputs,
published``): where both hours and compute are disclosed they imply a utilisation, which is lower than
what people state, as it holds restarts and idle time. Intervals are checked with each organisation left
out in turn. Multipliers come from the disclosures in ``catalog/facts``. Written to
``catalog/facts/training_posterior.csv``: the median and the central 80 % of the next run, a Student t on
the log scale.
"""

from __future__ import annotations

import csv
import json
import math
import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from facts_file import COLUMNS, FACTS_DIR, write
from scipy import stats

from isocost.catalog import Catalog, CatalogAt
from isocost.develop.published import ANY
from isocost.validate.training_rows import chip_id

CHECKED = "2026-11-23"
LEAST, MOST = 0.02, 0.8
"""Utilisations beyond these are mistakes of a number format."""
FIRST_YEAR = 2018
PULL = 4.0
"""Runs that the mean of all counts for, when a family's own mean is estimated."""
USUAL = 0.375
"""The utilisation that the database assumes where none is known: hours made with it say nothing."""


def plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def predictive(logs: np.ndarray, centre: float | None = None) -> tuple[float, float, float]:
    """Median and central 80 % of the next value."""
    n = len(logs)
    spread = logs.std(ddof=1) * math.sqrt(1 + 1 / n) * stats.t.ppf(0.9, n - 1)
    middle = logs.mean() if centre is None else centre
    return math.exp(middle), math.exp(middle - spread), math.exp(middle + spread)


def implied(at: CatalogAt, path: Path) -> pd.DataFrame:
    """Utilisations that disclosed hours and compute imply: name, organisation, hardware, mfu."""
    rows = {}
    for row in csv.DictReader(path.open(encoding="utf-8")):
        if row["kind"] not in ("training_cost_epoch", "gpu_hours"):
            continue
        have = json.loads(row["inputs"])
        hardware = have.get("hardware") or have.get("gpu") or ""
        flop = have.get("flop") or 6.0 * (have.get("active_params") or 0) * (have.get("tokens") or 0)
        hours = have.get("chip_hours") or (float(row["published"]) if row["kind"] == "gpu_hours" else None)
        chip = at.find(f"chip/{chip_id(hardware)}", "flop_per_s")
        peak = have.get("peak_dense_bf16") or (float(chip.value) if chip else None)
        if not (flop and hours and peak):
            continue
        mfu = flop / (peak * hours * 3600.0)
        name = row["case_id"].partition(":")[2]
        if LEAST < mfu < MOST and abs(mfu / USUAL - 1) > 1e-6:
            rows[plain(name)] = {
                "name": name,
                "org": have.get("org") or name.split()[0],
                "hardware": hardware,
                "mfu": mfu,
            }
    return pd.DataFrame(rows.values())


def stated(checkout: Path, taken: set[str]) -> pd.DataFrame:
    """Utilisations that sources state, of runs that do not imply one."""
    table = pd.read_csv(checkout / "data" / "All ML Systems - full view.csv")
    table["mfu"] = table["Hardware utilization (MFU)"]
    year = pd.to_datetime(table["Publication date"]).dt.year
    known = table[table["mfu"].between(LEAST, MOST) & (year >= FIRST_YEAR)]
    known = known[[plain(name) not in taken for name in known["Model"]]]
    return pd.DataFrame(
        {
            "name": known["Model"],
            "org": known["Organization"].fillna(""),
            "hardware": known["Training hardware"].fillna(""),
            "mfu": known["mfu"],
        }
    )


def fitted(at: CatalogAt, runs: pd.DataFrame) -> dict[str, tuple[float, float, float]]:
    """Median and central 80 % of all runs ('') and of each family of accelerators."""
    logs = np.log(runs["mfu"].to_numpy())
    found = {"": predictive(logs)}
    own = logs.copy()
    for here in families(at, runs).values():
        own[here] -= centre(logs, here)
    for family, here in families(at, runs).items():
        found[family] = predictive(own, centre(logs, here))
    return found


def centre(logs: np.ndarray, here: np.ndarray) -> float:
    return float((logs[here].sum() + PULL * logs.mean()) / (here.sum() + PULL))


def families(at: CatalogAt, runs: pd.DataFrame) -> dict[str, np.ndarray]:
    found = {}
    for subject in at.catalog.subjects("chip-family/"):
        words = at.text(subject, "words").split(";")
        found[subject.partition("/")[2]] = np.array(
            [any(word in name.lower() for word in words) for name in runs["hardware"]]
        )
    return found


def coverage(at: CatalogAt, runs: pd.DataFrame) -> float:
    """Share of utilisations inside 90 % of a fit that never saw their organisation."""
    inside = []
    groups = families(at, runs)
    for org in sorted(set(runs["org"])):
        out = (runs["org"] == org).to_numpy()
        fit = fitted(at, runs[~out])
        for i in np.flatnonzero(out):
            family = next((name for name, here in groups.items() if here[i]), "")
            middle, low, high = fit[family]
            wider = 1.6449 / 1.2816
            inside.append(
                middle * (low / middle) ** wider <= runs["mfu"].iloc[i] <= middle * (high / middle) ** wider
            )
    return float(np.mean(inside))


def row(
    attribute: str,
    values: tuple[float, float, float],
    note: str,
    when: str = "",
    source: str = "epoch-training-cost",
) -> dict[str, str]:
    middle, low, high = (f"{value:.4g}" for value in values)
    found = {
        "subject": "development/posterior",
        "attribute": attribute,
        "when": when,
        "value": middle,
        "unit": "1",
        "low": low,
        "high": high,
        "source": source,
        "checked": CHECKED,
        "kind": "derived",
        "note": note,
    }
    return {**dict.fromkeys(COLUMNS, ""), **found}


def main(checkout: Path, truth: Path) -> None:
    at = Catalog.load().at(ANY)
    hours = implied(at, truth)
    runs = pd.concat([hours, stated(checkout, {plain(name) for name in hours["name"]})], ignore_index=True)
    print(
        f"{len(hours)} implied and {len(runs) - len(hours)} stated utilisations; organisations left out"
        f" in turn: {coverage(at, runs):.0%} of all inside 90 %, of the implied {coverage(at, hours):.0%}"
    )
    rows, groups = [], families(at, hours)
    for family, values in fitted(at, hours).items():
        count = len(hours) if not family else int(groups[family].sum())
        note = f"{count} runs whose hours and compute are disclosed" + (
            "" if not family else "; their mean pulled to that of all as if by 4 runs, spread of all"
        )
        rows.append(row("mfu_frac", values, note, f"chip={family}" if family else ""))
    multipliers = np.array([float(fact.value) for fact in at.each("disclosed/", "compute_multiplier")])
    note = f"{len(multipliers)} disclosed programmes, from 1.5 to 10: recent ones are at the upper end"
    rows.append(
        row(
            "experiments_ratio",
            predictive(np.log(multipliers - 1.0)),
            note + "; one less than the multiplier",
            source="epoch-rnd-compute-2026",
        )
    )
    programmes = {fact.subject: float(fact.value) for fact in at.each("disclosed/", "programme_multiplier")}
    totals = np.log(np.array(list(programmes.values())))
    rows.append(
        row(
            "programme_multiplier",
            predictive(totals),
            "four disclosed programmes, 3.2 to 4.7: a programme with staff over hardware and energy of the"
            " final run",
            source="epoch-development-cost",
        )
    )
    for i, name in enumerate(programmes):
        _, low, high = predictive(np.delete(totals, i))
        print(f"{name}: {math.exp(totals[i]):.2f}; 80 % of the other three {low:.2f} to {high:.2f}")
    write("training_posterior.csv", rows)
    print((FACTS_DIR / "training_posterior.csv").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
