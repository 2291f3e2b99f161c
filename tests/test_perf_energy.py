"""Energy: power between idle and busy, and what a token takes."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np
import pytest

from isocost.catalog import Catalog
from isocost.perf import gpu_id_of
from isocost.perf.energy import energy_j_per_tok, power_of, replica_power_w

AT = Catalog.load().at(date(2026, 11, 22))


def test_power_lies_between_idle_and_the_limit() -> None:
    power = power_of(AT)
    watts = replica_power_w(power, 700.0, 8.0, np.linspace(0, 1, 5))
    assert (np.diff(watts) > 0).all()
    assert watts[0] == pytest.approx(5600 * power.idle_power_frac)
    assert watts[-1] <= 5600
    assert replica_power_w(power, 700.0, 8.0, 2.0) == watts[-1]


def test_energy_of_a_token_is_power_over_throughput() -> None:
    assert energy_j_per_tok(1000.0, 500.0) == 2.0
    assert np.isinf(energy_j_per_tok(1000.0, 0.0))


def test_busy_power_is_near_what_was_measured(data_dir: Path) -> None:
    duckdb = pytest.importorskip("duckdb")
    path = data_dir / "perf" / "mlenergy.parquet"
    rows = duckdb.sql(
        f"select gpu, n_gpu::double, value::double from '{path}' where metric = 'power'"
    ).fetchall()
    share = [watts / count / AT.number(f"gpu/{gpu_id_of(AT, gpu)}", "tdp_w") for gpu, count, watts in rows]
    assert power_of(AT).busy_power_frac == pytest.approx(np.median(share), abs=0.02)
