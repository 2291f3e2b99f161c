"""Names of accelerators: counts, sockets, memory, machines of clouds; slices are other parts."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from isocost.catalog import Catalog, CatalogAt
from isocost.cli.catalog import newest
from isocost.errors import UnknownFact
from isocost.perf.hardware import counted, gpu_id_of, gpu_of, machine_of, others_of
from isocost.perf.predict import groups_of, spread_of
from isocost.size.answer import Wanted, size
from isocost.size.queue import Need
from isocost.size.setups import Ask

with (Path(__file__).parent / "cases" / "accelerator_names.csv").open(newline="") as file:
    NAMES = list(csv.DictReader(file))


@pytest.fixture(scope="module")
def at(catalog: Catalog) -> CatalogAt:
    return catalog.at(newest(catalog))


@pytest.mark.parametrize("row", NAMES, ids=lambda row: row["name"])
def test_a_name_means_the_part_that_it_says_or_is_refused(at: CatalogAt, row: dict[str, str]) -> None:
    if not row["means"]:
        with pytest.raises(UnknownFact):
            gpu_id_of(at, row["name"])
        return
    assert gpu_id_of(at, row["name"]) == row["means"]
    assert counted(row["name"])[0] == (int(row["count"]) if row["count"] else None)


def test_a_machine_holds_so_many_of_one_accelerator(at: CatalogAt) -> None:
    assert machine_of(at, "p5.48xlarge") == ("h100-sxm", 8)
    assert machine_of(at, "standard_nc48ads_a100_v4") == ("a100-80-pcie", 2)
    assert machine_of(at, "h100-sxm") is None
    seen: dict[str, str] = {}
    for fact in at.each("gpu/", "instances"):
        for one in str(fact.value).split("|"):
            machine, _, count = one.partition("=")
            assert int(count) >= 1
            assert seen.setdefault(machine.lower(), fact.subject) == fact.subject


def test_a_short_name_says_what_else_it_might_mean(at: CatalogAt) -> None:
    assert set(others_of(at, "A100")) >= {"a100-40-sxm", "a100-80-pcie"}
    assert others_of(at, "8xH100") == others_of(at, "h100")
    for exact in ("a100-40-sxm", "A100 80GB PCIe", "B200", "l4"):
        assert others_of(at, exact) == ()


def test_no_name_is_of_two_accelerators(at: CatalogAt) -> None:
    seen: dict[str, str] = {}
    for fact in at.each("gpu/", "aliases"):
        for alias in {fact.subject.removeprefix("gpu/"), *str(fact.value).lower().split("|")}:
            assert seen.setdefault(alias, fact.subject) == fact.subject


def test_every_accelerator_has_what_a_sizing_needs(at: CatalogAt) -> None:
    ids = [fact.subject.removeprefix("gpu/") for fact in at.each("gpu/", "memory_bytes")]
    gpus = gpu_of(at, ids)
    assert all(np.isfinite(column).all() for column in gpus)
    assert min(float(column.min()) for column in gpus[:3]) > 0
    for name in ids:
        assert at.number(f"gpu/{name}", "tdp_w") > 0
        assert at.text(f"gpu/{name}", "vendor")


@pytest.mark.parametrize("gpu", ["gb10", "jetson-thor", "m3-ultra", "ascend-910b", "tpu-v7", "inferentia2"])
def test_what_nobody_timed_is_answered_as_extrapolated_with_a_wide_band(at: CatalogAt, gpu: str) -> None:
    found = size(at, "llama-3.1-8b", Need(0.2, 500, 100), (20.0, 0.5), Ask((gpu,), (1,)), Wanted(top=1))
    (row,) = found.rows
    assert row.nearest.is_extrapolated
    assert row.tpot_p95_s.high / row.tpot_p95_s.low > 3
    assert any("assumed" in note for note in found.notes)
    usual = spread_of(at, ["tpot"], groups_of(at, ["h100-sxm"], ["closed"]))
    wide = spread_of(at, ["tpot"], groups_of(at, [gpu], ["closed"]))
    assert (wide.high - wide.low)[0] > 2 * (usual.high - usual.low)[0]
