"""Fixtures that several rooms share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from golden import Golden
from isocost.catalog import Catalog

ROOT = Path(__file__).parents[1]

settings.register_profile(
    "isocost", derandomize=True, database=None, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("isocost")
"""The same examples on every machine, however slow it is."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="accept output as it is now")


@pytest.fixture(scope="session")
def golden(request: pytest.FixtureRequest) -> Golden:
    """Expected texts, compared or (``--update-golden``) written."""
    return Golden(update=request.config.getoption("--update-golden"))


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real traces and measured tables, named by ``ISOCOST_DATA``."""
    folder = Path(os.environ.get("ISOCOST_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no data folder at {folder}: set ISOCOST_DATA to run this test")
    return folder


@pytest.fixture(scope="session", autouse=True)
def one_catalog() -> Iterator[None]:
    """Facts that ship with isocost never change: they are read once for all tests, as one command does."""
    shipped, load = Catalog.load(), Catalog.load

    def known(*folders: Path) -> Catalog:
        return load(*folders) if folders else shipped

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Catalog, "load", known)
        yield


@pytest.fixture(scope="session")
def catalog() -> Catalog:
    """The facts that ship with isocost."""
    return Catalog.load()


@pytest.fixture(autouse=True)
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts are compared at one width and without colour, wherever the tests run."""
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("NO_COLOR", "1")
