"""How sure, and what it is worth to be surer: ledgers re-costed under scenarios of the facts they rest on."""

from isocost.risk.choice import Choice, Regret, Worth, choose, crossing, evpi_usd, evppi_usd, regret, weigh
from isocost.risk.horizon import SCENARIOS_OF_A_CELL, Surface, path_of, payback, surface
from isocost.risk.scenarios import (
    CENTRAL,
    JOIN,
    SCENARIOS,
    Band,
    Driver,
    Swing,
    band,
    cheaper_frac,
    drawn,
    draws,
    grouped,
    scenarios,
    share,
    swings,
    totals,
    wilson,
    with_families,
)

__all__ = [
    "CENTRAL", "JOIN", "SCENARIOS", "SCENARIOS_OF_A_CELL", "Band", "Choice", "Driver", "Regret",
    "Surface", "Swing", "Worth", "band", "cheaper_frac", "choose", "crossing", "drawn", "draws",
    "evpi_usd", "evppi_usd", "grouped", "path_of", "payback", "regret", "scenarios", "share", "surface",
    "swings", "totals", "weigh", "wilson", "with_families",
]  # fmt: skip
