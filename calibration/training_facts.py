"""Restate the inputs of the published costing of training runs as facts.

    python calibration/training_facts.py CHECKOUT

CHECKOUT is a clone of github.com/epoch-research/training-cost-trends (Cottier et al. 2024,
arXiv:2405.21015). Read from its ``data`` folder: the price index as of June 2025 (the vintage of the
published results, commit 5e8c5c4), specifications of accelerators, prices of buying and renting them,
and which accelerator each model of its database was trained on. Written to ``catalog/facts``:
``training_chips.csv``, ``training_rental.csv`` and ``training_index.csv``. Costs that the project
publishes are not read.
"""

from __future__ import annotations

import csv
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pandas as pd
from facts_file import COLUMNS, write

SOURCE, CHECKED = "epoch-training-cost", "2026-11-23"
INDEX_COMMIT, INDEX = "5e8c5c4", "PCU518210518210"
FIRST_MONTH, LAST_MONTH = "2010-01-01", "2025-05-01"
CLASSES = (
    "A100",
    "V100",
    "H100",
    "P100",
    "K80",
    "K40",
    "Titan X",
    "GTX 580",
    "GTX TITAN",
    "Titan Black",
    "H200",
)
"""Names by which the method finds one price of purchase for all variants of an accelerator."""
PEAKS = (
    ("Tensor-FP16/BF16 performance (FLOP/s)", False),
    ("TF32 (TensorFloat-32) performance (FLOP/s)", False),
    ("FP16 (half precision) performance (FLOP/s)", True),
    ("FP32 (single precision) performance (FLOP/s)", False),
)
"""Throughput in the method's order of preference; the flag marks what counts for TPUs alone."""
TERMS = {
    "on_demand": "Price per chip-hour (on-demand)",
    "1y": "Price per chip-hour (1-year CUD)",
    "3y": "Price per chip-hour (3-year CUD)",
}
VENDORS = {
    "Amazon Web Services": "aws",
    "Microsoft Azure": "azure",
    "Google Cloud": "google",
    "Lambda Labs": "lambda",
}
RENTED = ("K80", "P100", "V100", "A100", "H100", "TPU")
BOUGHT = "Price (hardware purchase)"
TPU_V4_TDP_W = 373
FIRST_YEAR = 2012


def slug(name: str) -> str:
    """A name as part of a subject: ``nvidia-a100-sxm4-40-gb``."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def fact(subject: str, attribute: str, value: object, unit: str = "", **more: str) -> dict[str, str]:
    row = dict.fromkeys(COLUMNS, "")
    row |= {"subject": subject, "attribute": attribute, "value": str(value), "unit": unit}
    return row | {"source": SOURCE, "checked": CHECKED, "kind": "published"} | more


def peak(row: pd.Series) -> float | None:
    name = str(row["Hardware name"])
    if "TPU v1" in name:
        return float(row["INT8 performance (OP/s)"])
    for column, tpu_only in PEAKS:
        if (not tpu_only or "TPU" in name) and pd.notna(row[column]):
            return float(row[column])
    return None


def purchase(prices: pd.DataFrame, name: str) -> pd.Series | None:
    """The price that the method takes for a class: the earliest of a whole server, else the earliest."""
    held = prices.dropna(subset=[BOUGHT, "Price date"]).sort_values("Price date")
    found = held[held["Hardware model"].str.contains(rf"\b{name}")]
    if found.empty:
        return None
    servers = found[found["Notes"].fillna("").str.contains("DGX")]
    return (servers if len(servers) else found).iloc[0]


def class_of(name: str, priced: Callable[[str], bool]) -> str:
    return next((one for one in CLASSES if one in name and priced(one)), "")


def chips(hardware: pd.DataFrame, prices: pd.DataFrame, models: pd.DataFrame) -> list[dict[str, str]]:
    used = Counter(one for text in models["Training hardware"].dropna() for one in text.split(","))
    rows, classes = [], {name: purchase(prices, name) for name in CLASSES}
    for _, row in hardware.iterrows():
        name, flop_per_s = str(row["Hardware name"]), peak(row)
        if not used[name] or flop_per_s is None:
            continue
        subject, is_tpu = f"chip/{slug(name)}", "TPU" in name
        rows.append(fact(subject, "name", name))
        rows.append(fact(subject, "kind", "tpu" if is_tpu else "gpu", kind="derived"))
        rows.append(
            fact(
                subject,
                "flop_per_s",
                f"{flop_per_s:.10g}",
                "FLOP/s",
                boundary="dense, at the format that the method prefers",
            )
        )
        if pd.notna(row["Release date"]):
            rows.append(fact(subject, "released", str(row["Release date"])[:10]))
        if pd.notna(row["TDP (W)"]):
            rows.append(fact(subject, "tdp_w", f"{row['TDP (W)']:g}", "W"))
        elif "TPU v4" in name:
            note = "from its performance per watt over that of TPU v3, as the method estimates it"
            rows.append(fact(subject, "tdp_w", TPU_V4_TDP_W, "W", kind="derived", note=note))
        found = class_of(name, lambda one: classes[one] is not None)
        if found and not is_tpu:
            rows.append(fact(subject, "purchase_class", slug(found), kind="derived"))
    for name, price in {
        "Google TPU v1": 5463,
        "Google TPU v2": 5054,
        "Google TPU v3": 5276,
        "Google TPU v4": 5167,
    }.items():
        rows.append(
            fact(
                f"chip/{slug(name)}",
                "usd_per_chip",
                price,
                "USD",
                low=f"{price / 3:.0f}",
                high=f"{price * 3:.0f}",
                kind="derived",
                boundary="one chip, without its server",
                note="never sold: the method's equivalent of a purchase price",
            )
        )
    for name, row in classes.items():
        if row is None:
            continue
        single = "single-unit" in str(row["Notes"]).lower()
        subject = f"chip-class/{slug(name)}"
        where = "one chip, without its server" if single else "a chip's part of a whole server"
        rows.append(fact(subject, "usd_per_chip", f"{row[BOUGHT]:.10g}", "USD", boundary=where))
        rows.append(fact(subject, "priced_on", str(row["Price date"])[:10]))
        rows.append(fact(subject, "includes_server", "false" if single else "true", kind="derived"))
    rows += usual(models)
    return rows


def usual(models: pd.DataFrame) -> list[dict[str, str]]:
    """The accelerator that most models of a year were trained on: GPUs, else TPUs; ties by name."""
    rows = []
    known = models.dropna(subset=["Training hardware", "Publication date"])
    years = pd.to_datetime(known["Publication date"]).dt.year
    for year in sorted(set(years)):
        texts = known["Training hardware"][years == year]
        gpus = texts[~texts.str.contains("TPU")]
        counts = Counter(one for text in (gpus if len(gpus) else texts) for one in text.split(","))
        most = min(counts, key=lambda one: (-counts[one], one))
        if year >= FIRST_YEAR:
            rows.append(
                fact(
                    "training/usual-chip",
                    "chip",
                    slug(most),
                    valid_from=f"{year}-01-01",
                    valid_to=f"{year + 1}-01-01",
                    kind="derived",
                    note=f"{counts[most]} of {sum(counts.values())} mentions among models of the year"
                    " whose hardware is known",
                )
            )
    rows[-1]["valid_to"] = ""
    return rows


def rentals(prices: pd.DataFrame) -> list[dict[str, str]]:
    rows: dict[tuple[str, str, str], dict[str, str]] = {}
    held = prices[prices["Vendor"].isin(VENDORS) & prices["Price date"].notna()]
    for _, row in held.sort_values("Price date", kind="stable").iterrows():
        name = str(row["Hardware model"])
        if not any(one in name for one in RENTED):
            continue
        subject, day = f"training-rental/{VENDORS[row['Vendor']]}/{slug(name)}", str(row["Price date"])[:10]
        for term, column in TERMS.items():
            if pd.notna(row[column]):
                rows.setdefault(
                    (subject, term, day),
                    fact(
                        subject,
                        "usd_per_chip_h",
                        f"{row[column]:.10g}",
                        "USD/h",
                        when=f"term={term}",
                        valid_from=day,
                    ),
                )
    return dated([rows[key] for key in sorted(rows)])


def dated(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """Each price in force until the next of its key; equal ones that follow each other as one."""
    kept: list[dict[str, str]] = []
    for row in rows:
        before = kept[-1] if kept else row
        same = (before["subject"], before["when"]) == (row["subject"], row["when"]) and before is not row
        if same and before["value"] == row["value"]:
            continue
        if same:
            before["valid_to"] = row["valid_from"]
        kept.append(row)
    return kept


def index(checkout: Path) -> list[dict[str, str]]:
    shown = ["git", "-C", str(checkout), "show", f"{INDEX_COMMIT}:data/{INDEX}.csv"]
    text = subprocess.run(shown, capture_output=True, text=True, check=True).stdout
    levels = [
        line for line in csv.reader(text.splitlines()[1:]) if line and FIRST_MONTH <= line[0] <= LAST_MONTH
    ]
    rows = []
    for (month, level), (after, _) in zip(levels, [*levels[1:], ("", "")], strict=True):
        rows.append(
            fact(
                "index/data-processing",
                "level",
                f"{float(level):.10g}",
                "1",
                valid_from=month,
                valid_to=after,
                source="fred-ppi-518210",
                boundary="producer prices of data processing and hosting, 2000-12 = 100; values of the last"
                " months were revised later",
            )
        )
    return rows


def main(checkout: Path) -> None:
    data = checkout / "data"
    models = pd.read_csv(data / "All ML Systems - full view.csv")
    hardware = pd.read_csv(data / "Chip dataset-Grid view.csv")
    prices = pd.read_csv(data / "Hardware prices.csv")
    write("training_chips.csv", chips(hardware, prices, models))
    write("training_rental.csv", rentals(prices))
    write("training_index.csv", index(checkout))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
