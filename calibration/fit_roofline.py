"""Fit the roofline's constants to measured serving speed, with whole model families held out.

Run by hand: ``python calibration/fit_roofline.py DATA/perf/silicon.parquet``. It reads that file and the
catalog, prints held-out errors and, with ``--write``, replaces the fitted ``perf/roofline`` values of
``facts/perf.csv``: constants from all families; low and high from leaving each family out under a loose pull;
intervals from held-out residuals and, with ``--also``, from files that were not fitted, each counting as the
root of its rows.
"""

from __future__ import annotations

import argparse
import csv
import sys
from datetime import date
from pathlib import Path

import numpy as np
from scipy.optimize import least_squares

from isocost.catalog import Catalog
from isocost.perf.constants import Constants, constants_of
from isocost.perf.steady import closed_loop
from isocost.validate.perf import INTERVALS, Points, _select, points_of, predict, read_rows

FITTED = {
    "memory_eff": (0.80, 0.3, 1.0),
    "cache_eff": (0.70, 0.15, 1.0),
    "bf16_eff": (0.60, 0.2, 1.0),
    "fp8_eff": (0.50, 0.1, 1.0),
    "fp4_eff": (0.40, 0.05, 1.0),
    "attention_eff": (0.40, 0.05, 1.0),
    "expert_eff": (0.60, 0.1, 1.0),
    "link_eff": (0.50, 0.1, 1.0),
    "collective_s": (1.2e-5, 1e-6, 4e-5),
    "layer_s": (1.5e-5, 1e-7, 5e-5),
    "moe_layer_s": (2e-5, 1e-7, 1e-4),
    "step_s": (1e-3, 1e-5, 2e-2),
    "sequence_s": (5e-6, 1e-7, 2e-4),
}
"""The constants of a step, fitted to time per output token: a textbook guess, and the physical range."""
FIRST = {"first_token_s": (0.03, 1e-3, 0.3), "burst_frac": (0.1, 0.01, 1.0)}
"""What only the first token sees, fitted to time to first token once a step is known."""
Fit = tuple[Constants, dict[str, Constants]]
TENTHS = (0.1, 0.5, 0.9)
LOOSE_PULL = 1.35
"""The pull under which low and high are found: it lets the data say how little they know of a constant."""
PULL = 8.0
"""Weight of a unit of log distance from the guess, in units of one row's log error. Seven families do not
identify thirteen constants: without a pull, constants trade places and unseen families pay for it."""


def fit(points: Points, start: Constants, pull: float = PULL) -> tuple[Constants, dict[str, Constants]]:
    """The constants of a step; then those of a first token, of all engines together and of each."""
    k = _fit(_of(points, "tpot"), start, FITTED, pull)
    k = _fit(_of(points, "ttft"), k, FIRST, pull)
    engines = sorted(set(points.labels["engine"]))
    return k, {engine: _fit(_of(points, "ttft", engine), k, FIRST, pull) for engine in engines}


def _of(points: Points, quantity: str, engine: str | None = None) -> Points:
    here = points.quantity == quantity
    if engine is not None:
        here &= np.array(points.labels["engine"]) == engine
    return _select(points, np.flatnonzero(here))


def own(k: Constants, each: dict[str, Constants], points: Points) -> Constants:
    """The constants with each point's engine's own, or those of all where it was not fitted."""
    mine = [each.get(engine, k) for engine in points.labels["engine"]]
    return k._replace(**{name: np.array([getattr(one, name) for one in mine]) for name in FIRST})


def _fit(
    points: Points, start: Constants, ranges: dict[str, tuple[float, float, float]], pull: float
) -> Constants:
    """The constants in ``ranges`` that minimise a robust loss of log(predicted / measured)."""
    names = list(ranges)
    weight = balanced(np.array(points.labels["family"]))
    guess, low, high = np.log([ranges[name] for name in names]).T

    def constants(x: np.ndarray) -> Constants:
        return start._replace(**dict(zip(names, np.exp(x).tolist(), strict=True)))

    def residual(x: np.ndarray) -> np.ndarray:
        error = np.log(predict(points, constants(x)) / points.measured) * weight
        return np.concatenate([error, pull * (x - guess)])

    found = least_squares(residual, guess, bounds=(low, high), loss="soft_l1", f_scale=0.1, max_nfev=60)
    return constants(found.x)


def balanced(family: np.ndarray) -> np.ndarray:
    """Weights between those under which every row and those under which every family counts the same."""
    names, counts = np.unique(family, return_counts=True)
    share = dict(zip(names, len(family) / len(names) / counts, strict=True))
    return np.array([share[name] for name in family]) ** 0.25


def tenths(pools: list[np.ndarray]) -> np.ndarray:
    """The tenth, fiftieth and ninetieth percentile over files that count as the root of their rows."""
    values = np.concatenate(pools)
    weight = np.concatenate([np.full(len(pool), len(pool) ** -0.5) for pool in pools])
    weight /= weight.sum()
    order = np.argsort(values)
    return np.interp(TENTHS, np.cumsum(weight[order]) - 0.5 * weight[order], values[order])


def throughput(points: Points) -> np.ndarray:
    """Output tokens a second that both latencies of a configuration imply; NaN on all but one of its rows."""
    first = {
        points.labels["config_id"][i]: points.measured[i] for i in np.flatnonzero(points.quantity == "ttft")
    }
    out = np.full(len(points.measured), np.nan)
    for i in np.flatnonzero(points.quantity == "tpot"):
        ttft = first.get(points.labels["config_id"][i])
        if ttft is not None:
            life = ttft + (points.osl[i] - 1) * points.measured[i]
            out[i] = points.concurrency[i] * points.osl[i] / life
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", type=Path)
    parser.add_argument("--also", type=Path, nargs="*", default=[], help="files for the intervals only")
    parser.add_argument("--facts", type=Path, nargs="*", default=[])
    parser.add_argument("--write", type=Path, help="facts/perf.csv whose perf/roofline rows to replace")
    args = parser.parse_args()
    at = Catalog.load(*args.facts).at(date.today())
    rows = read_rows(args.path)
    seen: dict[tuple, dict] = {}
    for row in rows:
        seen.setdefault(tuple(v for key, v in row.items() if key != "config_id"), row)
    points, left_out, unanswered = points_of(at, list(seen.values()))
    print(f"{len(rows)} rows, {len(seen)} distinct, {len(points.measured)} answered", file=sys.stderr)
    print(dict(left_out), len(unanswered), file=sys.stderr)
    start = constants_of(at)
    family = np.array(points.labels["family"])
    held = np.full(len(family), np.nan)
    rates = np.full(len(family), np.nan)
    folds = []
    for name in np.unique(family):
        inside, outside = np.flatnonzero(family != name), np.flatnonzero(family == name)
        k, each = fit(_select(points, inside), start)
        folds.append(fit(_select(points, inside), start, LOOSE_PULL))
        test = _select(points, outside)
        k = own(k, each, test)
        held[outside] = predict(test, k) / test.measured
        loop = closed_loop(test.arch, test.gpu, test.setup, k, test.concurrency, test.isl, test.osl)
        rates[outside] = loop.output_tok_per_s
        for quantity in ("tpot", "ttft"):
            error = np.abs(held[outside][test.quantity == quantity] - 1)
            if len(error):
                bias = np.median(held[outside][test.quantity == quantity])
                found = f"median {np.median(error):.3f} mape {error.mean():.3f} bias {bias:.2f}"
                print(f"{name:14} {quantity} n={len(error):5} {found}", file=sys.stderr)
    best, engines = fit(points, start)
    mine = own(best, engines, points)
    for quantity in ("tpot", "ttft"):
        here = points.quantity == quantity
        error = np.abs(held[here] - 1)
        inside = np.abs(predict(points, mine)[here] / points.measured[here] - 1)
        print(
            f"HELD OUT {quantity} n={here.sum()} median {np.median(error):.3f} mape {error.mean():.3f}; "
            f"fitted median {np.median(inside):.3f}",
            file=sys.stderr,
        )
    for name in FITTED | FIRST:
        each = [getattr(k, name) for k, _ in folds]
        print(f"{name:22} {getattr(best, name):.4g} ({min(each):.3g} to {max(each):.3g})", file=sys.stderr)
    apart = {q: [1 / held[points.quantity == q]] for q in ("tpot", "ttft")}
    measured = throughput(points)
    stated = np.isfinite(measured)
    apart["throughput"] = [(measured / rates)[stated]]
    error = np.abs((rates / measured)[stated] - 1)
    print(
        f"HELD OUT throughput n={stated.sum()} median {np.median(error):.3f} mape {error.mean():.3f}",
        file=sys.stderr,
    )
    for path in args.also:
        other, _, _ = points_of(at, read_rows(path))
        ratio = other.measured / predict(other, own(best, engines, other))
        for metric, pool in apart.items():
            here = ratio[np.array([INTERVALS.get(q, "throughput") == metric for q in other.quantity])]
            if len(here):
                print(
                    f"{path.stem} {metric} n={len(here)} {np.quantile(here, TENTHS).round(2)}",
                    file=sys.stderr,
                )
                pool.append(here)
    ratios = {metric: tenths(pool) for metric, pool in apart.items()}
    print({q: v.round(3).tolist() for q, v in ratios.items()}, file=sys.stderr)
    if args.write:
        write(args.write, (best, engines), folds, ratios)


def write(path: Path, best: Fit, folds: list[Fit], ratios: dict[str, np.ndarray]) -> None:
    """Replace the fitted values in place; every other row and column stays."""
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        names = list(reader.fieldnames or [])
        rows = list(reader)
    for row in rows:
        name, engine = row["attribute"], row["when"].removeprefix("engine=")
        if row["subject"] != "perf/roofline":
            continue
        if name in FITTED | FIRST:
            each = [getattr(found.get(engine, k), name) for k, found in folds]
            value = getattr(best[1].get(engine, best[0]), name)
            row.update(value=f"{value:.4g}", low=f"{min(*each, value):.4g}", high=f"{max(*each, value):.4g}")
        elif not row["when"] and name.removesuffix("_ratio") in ratios:
            low, middle, high = ratios[name.removesuffix("_ratio")]
            row.update(value=f"{middle:.4g}", low=f"{low:.4g}", high=f"{high:.4g}")
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
