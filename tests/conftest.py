"""Fixtures that several rooms share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from isocost.catalog import Catalog

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real traces and measured tables, named by ``ISOCOST_DATA``."""
    folder = Path(os.environ.get("ISOCOST_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no data folder at {folder}: set ISOCOST_DATA to run this test")
    return folder


@pytest.fixture(scope="session")
def catalog() -> Catalog:
    """The facts that ship with isocost."""
    return Catalog.load()
