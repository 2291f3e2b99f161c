"""What is paid for existing: replicas by hour of the week, commitments, and standing costs."""

from __future__ import annotations

import msgspec

SPREAD = ", spread"
"""How the words of an outlay end that is spread over its life."""


class Standing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A cost a month that does not follow tokens: an amount booked to one account.

    ``usd_per_month = quantity * unit_price_usd``; ``facts`` are the ids of every fact that the amount
    is proportional to.
    """

    account: str
    what: str
    quantity: float
    unit: str
    unit_price_usd: float
    facts: tuple[str, ...]

    @property
    def is_once(self) -> bool:
        """Whether it is an outlay, spread over the months of its life: paid once, when it happens."""
        return self.what.endswith(SPREAD)

    @property
    def usd_per_month(self) -> float:
        """The amount."""
        return self.quantity * self.unit_price_usd


class PoolSchedule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Replicas of one pool: held, reserved around the clock, and by hour of the week (168 each)."""

    deployment: str
    held: int
    reserved: int
    on_demand: tuple[int, ...]
    spot: tuple[int, ...]
    on_demand_usd_per_h: float
    reserved_usd_per_h: float | None = None
    spot_usd_per_h: float | None = None
    overflow_outstanding: int = -1

    def replicas(self, hour: int) -> int:
        """All replicas in an hour of the week."""
        return self.held + self.reserved + self.on_demand[hour] + self.spot[hour]


class Fleet(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All that exists under a plan."""

    pools: tuple[PoolSchedule, ...] = ()
    standing: tuple[Standing, ...] = ()

    @property
    def standing_usd_per_month(self) -> float:
        """Standing costs a month."""
        return sum(item.usd_per_month for item in self.standing)
