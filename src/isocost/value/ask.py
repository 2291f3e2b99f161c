"""``value.toml``: what customers pay, and what an own model would take and save. Read strictly."""

from __future__ import annotations

from pathlib import Path

import msgspec

from isocost.errors import BadInput
from isocost.toml import read_toml


class PricePlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one customer pays a month, and how much they get for it.

    A subscription has a fee; usage-based pricing has prices a request or a million tokens; a hybrid has
    both, with ``included_requests`` before the price a request begins. Requests beyond ``cap_requests``
    are refused: neither paid for nor served. ``data_usd_per_request`` is income from elsewhere, such as
    data that customers agree to share. A premium plan is one more plan of the list.
    """

    name: str
    usd_per_month: float = 0.0
    included_requests: float = 0.0
    usd_per_request: float = 0.0
    input_usd_per_mtok: float = 0.0
    output_usd_per_mtok: float = 0.0
    cap_requests: float | None = None
    data_usd_per_request: float = 0.0

    def __post_init__(self) -> None:
        """Refuse negative amounts and a plan that nobody pays for."""
        amounts = {
            name: getattr(self, name)
            for name in self.__struct_fields__
            if isinstance(getattr(self, name), int | float)
        }
        for name, amount in amounts.items():
            if amount < 0:
                raise ValueError(f"plan {self.name!r}: {name} is {amount}, below 0")
        if not any(amount for name, amount in amounts.items() if "usd" in name):
            raise ValueError(f"plan {self.name!r} has no price: give usd_per_month or a usd_per_...")


class Own(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An own model: what it takes at once, what it saves a month, how long it lasts."""

    outlay_usd: float
    saves_usd_per_month: float
    life_months: float = 24.0

    def __post_init__(self) -> None:
        """Refuse an outlay below 0 and a life of no time."""
        if not 0.0 <= self.outlay_usd < float("inf"):
            raise ValueError(f"outlay_usd is {self.outlay_usd}: give 0 or more")
        if not 0.0 < self.life_months < float("inf"):
            raise ValueError(f"life_months is {self.life_months}: give more than 0")


class Value(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file: price plans, what else serving costs a month, the margin wanted, an own model."""

    plans: tuple[PricePlan, ...] = ()
    target_margin_frac: float | None = None
    other_usd_per_month: float = 0.0
    own_model: Own | None = None

    def __post_init__(self) -> None:
        """Refuse a margin of all or more, and two plans of one name."""
        if self.target_margin_frac is not None and not 0.0 <= self.target_margin_frac < 1.0:
            raise ValueError(f"target_margin_frac is {self.target_margin_frac}: give 0 to below 1")
        names = [plan.name for plan in self.plans]
        if len(set(names)) != len(names):
            raise ValueError("two plans have one name")
        if not 0.0 <= self.other_usd_per_month < float("inf"):
            raise ValueError(f"other_usd_per_month is {self.other_usd_per_month}: give 0 or more")


def read(file: Path) -> Value:
    """Read a value file.

    Raises:
        BadInput: it is absent, is not TOML, or has a field that is unknown or wrong.
    """
    found = read_toml(file, Value, "See docs/value.md for the fields")
    if not found.plans and found.own_model is None:
        raise BadInput(
            "no price plan and no own model", where=str(file), fix="Add [[plans]] with a name and a price"
        )
    if found.target_margin_frac is not None and not found.plans:
        raise BadInput("a margin to price for, and no plan", where=str(file), fix="Add [[plans]]")
    return found
