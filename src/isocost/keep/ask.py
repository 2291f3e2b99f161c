"""``keep.toml``: what is to be kept. Read strictly; what is left out is not there, or is a fact's value."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from isocost.develop import Tune
from isocost.toml import read_toml

Option = Literal["api", "hosted", "selfhost", "slm"]
Risk = Literal["minimal", "limited", "high", "product"]
Rule = Literal["peak", "use", "shapley"]
OWN: tuple[Option, ...] = ("selfhost", "slm")
"""Options whose replicas are one's own."""
MOST_TEAMS = 12
"""Teams for which Shapley's value, over every group of them, is computed."""


class Traffic(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Answers a month, and the tokens of one."""

    requests_per_month: float = 1e6
    input_tok: float = 1500.0
    output_tok: float = 500.0


class Knowledge(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Documents that are searched: ``mtok`` million tokens of them. What is None is a fact's value."""

    mtok: float
    database: str | None = None
    embedding: str | None = None
    dimensions: float | None = None
    chunk_tok: float | None = None
    overlap_frac: float | None = None
    changed_frac_per_month: float | None = None
    reindex_per_year: float | None = None
    searched_frac: float = 1.0


class Own(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Own replicas: how many accelerators, how busy, whose building, and what is left to port to."""

    gpus: float = 1.0
    gpu: str = "h100-sxm"
    busy_frac: float = 0.5
    on_premises: bool = False
    port_to: str | None = None


class Law(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the law looks at: places of the users, role, class of risk, personal data, duties met already."""

    role: Literal["provider", "deployer"] = "deployer"
    risk: Risk = "limited"
    places: tuple[str, ...] = ()
    personal_data: bool = True
    decides_on_people: bool = False
    set_up: tuple[str, ...] = ()


class Upkeep(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Retraining, and what is graded. What is None is a fact's value."""

    automated: bool = False
    retrain_per_year: float | None = None
    judge: str | None = None


class Made(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An own small model: how large, how it is made, on what (``None``: where it will run).

    A plan takes ``params`` from the open weights that it would start from: ``base``, else the cheapest.
    ``tune`` is as in ``slm.toml``. ``graded_points`` is what it gained over today's model on one's own
    graded samples, in points, with its standard error: without it nothing speaks for the model.
    """

    way: Literal["lora", "full", "distil", "hosted"] = "lora"
    params: float = 8e9
    params_active: float | None = None
    gpu: str | None = None
    tune: Tune = Tune()
    base: str | None = None
    graded_points: float | None = None
    graded_error_points: float | None = None

    def __post_init__(self) -> None:
        """Refuse a grade without its error, and sizes that no model has."""
        if (self.graded_points is None) != (self.graded_error_points is None):
            raise ValueError("graded_points goes with graded_error_points, its standard error")
        if self.graded_error_points is not None and not 0.0 < self.graded_error_points < 100.0:
            raise ValueError(f"graded_error_points is {self.graded_error_points}: give points above 0")
        if not 1e6 <= self.params <= 1e15:
            raise ValueError(f"made.params is {self.params:g}: write 8e9 for 8 billion")


class Device(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Models that run at the users: how many users, and on how many platforms."""

    users: float
    platforms: float = 1.0


class Team(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A team that shares: its load hour by hour (any number of hours, in any unit), or its use and peak."""

    name: str
    load: tuple[float, ...] = ()
    use: float | None = None
    peak: float | None = None


class Ask(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file. ``carbon_usd_per_tonne`` is a price of carbon that one's own house has set."""

    option: Option = "api"
    region: str = "us"
    model: str | None = None
    services: int = 1
    providers: int = 1
    held_fte: float = 0.0
    carbon_usd_per_tonne: float = 0.0
    share_by: Rule = "use"
    traffic: Traffic = Traffic()
    knowledge: Knowledge | None = None
    own: Own = Own()
    law: Law = Law()
    upkeep: Upkeep = Upkeep()
    made: Made = Made()
    device: Device | None = None
    teams: tuple[Team, ...] = ()

    def __post_init__(self) -> None:
        """Refuse amounts below 0, shares above 1, and teams that cannot be told apart or measured."""
        for table in (self, self.traffic, self.knowledge, self.own, self.upkeep, self.device, *self.teams):
            for name in table.__struct_fields__ if table is not None else ():
                amount = getattr(table, name)
                if isinstance(amount, bool) or not isinstance(amount, int | float):
                    continue
                if not 0.0 <= amount < float("inf"):
                    raise ValueError(f"{name} is {amount}: give 0 or more")
                if name in ("overlap_frac", "changed_frac_per_month", "busy_frac", "searched_frac"):
                    most = 0.9 if name == "overlap_frac" else 1.0
                    if amount > most:
                        raise ValueError(f"{name} is {amount}: give 0 to {most:g}")
        if self.services < 1:
            raise ValueError("services is 0: give 1 or more")
        if self.knowledge is not None and self.knowledge.chunk_tok == 0:
            raise ValueError("chunk_tok is 0: give more")
        if self.traffic.requests_per_month <= 0:
            raise ValueError("requests_per_month is 0: give more")
        names = [team.name for team in self.teams]
        if len(set(names)) != len(names):
            raise ValueError("two teams have one name")
        if len(self.teams) > MOST_TEAMS and self.share_by == "shapley":
            raise ValueError(f"{len(self.teams)} teams: Shapley's value is for {MOST_TEAMS} at most")
        for team in self.teams:
            if any(part < 0 for part in team.load):
                raise ValueError(f"team {team.name!r}: a load is below 0")
            if not team.load and (team.use is None if self.share_by == "use" else team.peak is None):
                raise ValueError(f"team {team.name!r}: give its load, or its use and peak")
        if self.teams and self.share_by == "shapley" and len({len(team.load) for team in self.teams}) > 1:
            raise ValueError("for Shapley's value every team has a load of as many hours, or none has")


def read(file: Path) -> Ask:
    """Read a keep file.

    Raises:
        BadInput: it is absent, is not TOML, or has a field that is unknown or wrong.
    """
    return read_toml(file, Ask, "See docs/keep.md for the fields")
