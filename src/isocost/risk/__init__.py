"""How sure, and what it is worth to be surer: ledgers re-costed under scenarios of the facts they rest on."""

from isocost.risk.choice import Choice, Regret, Worth, choose, crossing, evpi_usd, evppi_usd, regret, weigh
from isocost.risk.horizon import Surface, path_of, surface
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
    swings,
    totals,
    with_families,
)

__all__ = [
    "CENTRAL", "JOIN", "SCENARIOS", "Band", "Choice", "Driver", "Regret", "Surface", "Swing", "Worth", "band",
    "cheaper_frac", "choose", "crossing", "drawn", "draws", "evpi_usd", "evppi_usd", "grouped", "path_of",
    "regret", "scenarios", "surface", "swings", "totals", "weigh", "with_families",
]  # fmt: skip
