"""Write ``price_history.csv``: how prices moved, from tables that were published at the time.

    python calibration/price_history.py RELEASES EFFICIENCY OUT

``RELEASES`` is a folder of litellm packages, one a release, named ``YYYY-MM.whl`` (or ``.tar.gz``) by
the month of its publication: each holds the list prices of its day. ``EFFICIENCY`` is a checkout of
epoch-research/llm-benchmark-efficiency: fits and points of the cheapest price at a fixed score.

A list price counts once a model, class (maker or host) and window. Left out, by rule: names that point
to whatever is newest, zero prices, and ratios that are a power of ten or beyond twenty either way, which
are mended units and not prices. Rental points are written by hand, each from the page it names.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from facts_file import write

CHECKED = "2026-11-23"
WINDOWS = (("2023-12", "2024-11"), ("2024-11", "2025-11"), ("2025-11", "2026-11"))
MAKERS = {
    "openai", "text-completion-openai", "anthropic", "gemini", "vertex_ai-language-models",
    "vertex_ai-chat-models", "mistral", "cohere", "cohere_chat", "deepseek", "xai", "ai21", "moonshot",
    "minimax", "zai", "dashscope", "amazon_nova", "perplexity", "meta_llama", "inception", "writer",
}  # fmt: skip
"""Providers of the table that sell models of their own; the others resell or host."""
POINTER = re.compile(r"latest|nightly|preview|beta|@default")
REGION = re.compile(r"^(?:us-gov|us|eu|apac|au|jp|global)\.")
MENDED = 20.0
Z_90, Z_80 = 1.6448536, 1.2815516


def prices(file: Path) -> dict[str, tuple[str, float]]:
    """Provider and output price, USD a million tokens, of each chat model of a release."""
    wanted = "model_prices_and_context_window"
    if file.suffix == ".whl":
        with zipfile.ZipFile(file) as held:
            name = next(one for one in held.namelist() if wanted in one and one.endswith(".json"))
            table = json.loads(held.read(name))
    else:
        with tarfile.open(file) as packed:
            member = next(one for one in packed.getnames() if wanted in one and one.endswith(".json"))
            table = json.load(packed.extractfile(member) or io.BytesIO(b"{}"))
    return {
        name: (str(row.get("litellm_provider")), float(row["output_cost_per_token"]) * 1e6)
        for name, row in table.items()
        if isinstance(row, dict)
        and row.get("mode") in ("chat", "completion")
        and row.get("output_cost_per_token")
    }


def moved(
    before: dict[str, tuple[str, float]], after: dict[str, tuple[str, float]]
) -> dict[str, dict[str, float]]:
    """Ratio of the later to the earlier price by model, for makers and for hosts."""
    found: dict[str, dict[str, float]] = {"maker": {}, "host": {}}
    for name, (provider, usd) in before.items():
        if name not in after or POINTER.search(name.lower()):
            continue
        ratio = after[name][1] / usd
        tens = abs(math.log10(ratio))
        if ratio >= MENDED or ratio <= 1 / MENDED or (tens > 0.95 and abs(tens - round(tens)) < 0.005):
            continue
        model = REGION.sub("", name.lower().rpartition("/")[2])
        kind = "maker" if provider in MAKERS else "host"
        owner = provider.partition("_")[0].partition("-")[0]
        found[kind].setdefault(f"{owner}/{model}", ratio)
    return found


def list_rows(releases: Path) -> Iterator[list[object]]:
    """One row a window and class with the count of models, one for each price that changed."""
    tables = {file.name[:7]: file for file in sorted(releases.iterdir()) if file.name[:2] == "20"}
    for start, end in WINDOWS:
        for kind, ratios in moved(prices(tables[start]), prices(tables[end])).items():
            when = f"from={start};to={end}"
            yield row(
                f"prices/list-{kind}", "skus", len(ratios), "count", when, "litellm-releases", kind="measured"
            )
            for model, ratio in sorted(ratios.items()):
                if abs(ratio - 1.0) > 0.005:
                    name = f"{when};model={model}"
                    yield row(
                        f"prices/list-{kind}", "price_ratio", f"{ratio:.4g}", "1",
                        ";".join(sorted(name.split(";"))), "litellm-releases", kind="measured",
                    )  # fmt: skip


def capability_rows(folder: Path) -> Iterator[list[object]]:
    """Published fits with their interval drawn in to 80 %, and the points that they go through."""
    made = folder / "results" / "default" / "lowest_price_models_above_previous_frontier"
    with (made / "lowest_price_models_results.csv").open(encoding="utf-8", newline="") as lines:
        for fit in csv.DictReader(lines):
            low, high = (
                float(end) for end in fit["price_reduction_factor_per_year_90_ci"].strip("[]").split(",")
            )
            centre = math.log(float(fit["price_reduction_factor_per_year"]))
            ends = [math.exp(centre + (math.log(end) - centre) * Z_80 / Z_90) for end in (low, high)]
            yield row(
                series(fit), "price_fall_per_year", f"{math.exp(centre):.5g}", "1", "", "epoch-price-trends",
                ends, kind="published",
                note=f"{fit['sample_size']} models; published 90 % interval {low:.3g} to {high:.3g}",
            )  # fmt: skip
    points: dict[str, list[tuple[str, float]]] = {}
    with (made / "lowest_price_models_data.csv").open(encoding="utf-8", newline="") as lines:
        for point in csv.DictReader(lines):
            day, usd = point["Release Date"][:10], float(point["USD per 1M Tokens"])
            points.setdefault(series(point), []).append((day, usd))
    for name, found in points.items():
        days = sorted(found)
        for (day, usd), after in zip(days, [*(one for one, _ in days[1:]), ""], strict=True):
            yield row(
                name, "cheapest_usd_per_mtok", f"{usd:.6g}", "USD/Mtok", "", "epoch-price-trends",
                valid=(day, after), kind="published", note="input and output as the source blends them",
            )  # fmt: skip


def series(of: dict[str, str]) -> str:
    """``prices/capability/<benchmark>/<score of>``."""
    words = [
        re.sub(r"[^a-z0-9.]+", "-", of[name].lower()).strip("-") for name in ("bench", "threshold_model")
    ]
    return f"prices/capability/{words[0]}/{words[1]}"


def row(
    subject: str,
    attribute: str,
    value: object,
    unit: str,
    when: str,
    source: str,
    ends: list[float] | None = None,
    *,
    valid: tuple[str, str] = ("", ""),
    kind: str = "published",
    note: str = "",
) -> list[object]:
    """One fact in the order of ``COLUMNS``."""
    low, high = (f"{end:.5g}" for end in ends) if ends else ("", "")
    return [subject, attribute, when, value, unit, low, high, *valid, source, "", CHECKED, kind, "", note]


def main(releases: Path, efficiency: Path, out: Path) -> None:
    """Replace the generated rows of a facts file; rows of other sources stay."""
    made = {"litellm-releases", "epoch-price-trends"}
    kept: list[list[object]] = []
    if out.exists():
        with out.open(encoding="utf-8", newline="") as lines:
            kept = [list(one) for one in list(csv.reader(lines))[1:] if one[9] not in made]
    write(out, [*list_rows(releases), *capability_rows(efficiency), *kept])


if __name__ == "__main__":
    main(*(Path(word) for word in sys.argv[1:4]))
