"""How alike the errors of one set-up are: ``python calibration/fit_anchor.py DATA``.

Reads ``DATA/perf/{silicon,mlenergy,trtllm}.parquet``. Every fitted family is answered by constants that had
not seen it; the logarithms of measured over predicted of one set-up (model,
accelerator, layout, format, stack) form a Gaussian process over its loads, whose variances maximise a
robust likelihood. Prints them (facts ``perf/anchor``) and the errors of the other loads with one anchor.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterable
from datetime import date
from pathlib import Path

import numpy as np
from scipy.optimize import minimize

from isocost.catalog import Catalog
from isocost.perf.anchor import Anchors, Kinship, anchored
from isocost.perf.predict import Load, Spread
from isocost.validate.perf import points_of, predict, select
from isocost.validate.stated import read_rows

FILES = ("silicon", "mlenergy", "trtllm")
QUANTITIES = {"tpot": ("tpot", "step"), "ttft": ("ttft",), "throughput": ("throughput",)}
LEAST_ROWS = 4
HEAVY_TAIL = 4
"""Degrees of freedom of the likelihood: a set-up whose errors are odd counts less."""
Group = tuple[Load, np.ndarray]


def groups(paths: Iterable[Path], quantities: tuple[str, ...], by_length: bool) -> list[Group]:
    """Loads and log ratios of every set-up (and engine version and lengths) with rows enough."""
    at = Catalog.load().at(date.today())
    found = []
    for path in paths:
        rows = read_rows(path)
        version = {row["config_id"]: row["engine_version"] for row in rows}
        points, _, _ = points_of(at, rows)
        points = select(points, np.flatnonzero(points.told.prefill_replicas == 0))
        ratio = np.log(points.measured / predict(points))
        members: dict[tuple[object, ...], dict[tuple[float, ...], int]] = defaultdict(dict)
        for i in np.flatnonzero(np.isin(points.quantity, quantities)).tolist():
            where = tuple(
                float(field[i]) for field in (*points.setup[:4], points.setup.ep, points.told.drafts_tok)
            )
            key: tuple[object, ...] = (*(points.labels[n][i] for n in ("model", "gpu", "stack")), where)
            load = tuple(float(field[i]) for field in points.load[:3])
            if by_length:
                key = (*key, version[points.labels["config_id"][i]], load[1:])
            members[key][(*load, round(float(ratio[i]), 6))] = i
        for one in members.values():
            at_rows = np.array(list(one.values()))
            if len(at_rows) >= (LEAST_ROWS - by_length):
                found.append((Load(*(field[at_rows] for field in points.load)), ratio[at_rows]))
    return found


def loss(x: np.ndarray, members: list[Group]) -> float:
    """Minus the logarithm of a Student process's likelihood, up to a constant."""
    common, local, noise, reach = np.exp(x)
    total = 0.0
    for load, ratio in members:
        place = np.log(np.maximum(np.stack(load[:3], axis=1), 1.0))
        apart = ((place[:, None] - place[None]) ** 2).sum(axis=2)
        among = common + local * np.exp(-0.5 * apart / reach**2) + noise * np.eye(len(ratio))
        _, size = np.linalg.slogdet(among)
        fit = ratio @ np.linalg.solve(among, ratio)
        total += 0.5 * size + 0.5 * (len(ratio) + HEAVY_TAIL) * np.log1p(fit / HEAVY_TAIL)
    return float(total)


def one_anchor(members: list[Group], kin: Kinship) -> tuple[np.ndarray, np.ndarray]:
    """Errors of all loads but the middle one, without it and with it as the anchor."""
    without, with_one = [], []
    for load, ratio in members:
        place = np.log(np.maximum(np.stack(load[:3], axis=1), 1.0))
        i = int(((place - np.median(place, axis=0)) ** 2).sum(axis=1).argmin())
        rest = np.arange(len(ratio)) != i
        flat = Spread(*(np.zeros(len(ratio)) for _ in range(3)))
        anchor = Anchors(Load(*(field[[i]] for field in load)), np.ones(1), np.exp(ratio[[i]]))
        said = anchored(np.ones(len(ratio)), flat, load, anchor, kin).median
        without += (np.abs(np.exp(-ratio) - 1.0)[rest]).tolist()
        with_one += (np.abs(said / np.exp(ratio) - 1.0)[rest]).tolist()
    return np.array(without), np.array(with_one)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    args = parser.parse_args()
    paths = [args.data / "perf" / f"{name}.parquet" for name in FILES]
    for name, quantities in QUANTITIES.items():
        members = groups(paths, quantities, by_length=False)
        start = np.log([0.02, 0.01, 0.003, 1.5])
        found = np.exp(minimize(loss, start, args=(members,), method="Nelder-Mead").x)
        kin = Kinship(*found)
        deviations = np.sqrt(found[:3]).round(3).tolist()
        print(f"{name}: {len(members)} set-ups; common, local, noise sd {deviations}, reach {found[3]:.2f}")
        for title, by_length in (("any load of the set-up", False), ("its lengths and version", True)):
            some = groups(paths[:1], quantities, by_length)
            if not some:
                continue
            print(f"  silicon, {title}: mean and median error")
            for side, error in zip(("without", "with one anchor"), one_anchor(some, kin), strict=True):
                print(f"    {side:16} n {len(error):5}  {error.mean():.3f}  {np.median(error):.3f}")


if __name__ == "__main__":
    main()
