"""What must hold (``slo.toml``) and what is already held (``have.toml``), read strictly."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import TypeVar

import msgspec

from isocost.errors import BadLimits
from isocost.units import seconds

T = TypeVar("T")


class Slo(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Limits on one workload. A limit left out is the default's, else none.

    ``wait`` says how long an answer may take before it must be there (``6h``): it opens the batch
    APIs. ``place``: ``own`` keeps every token on replicas of one's own. ``regions``: answer only
    from these. ``spare_replicas``: replicas beyond the load (N+1). ``not_providers``: never these.
    """

    ttft_p95_s: float | None = None
    tpot_p95_s: float | None = None
    e2e_p95_s: float | None = None
    wait: str | None = None
    place: str | None = None
    regions: tuple[str, ...] | None = None
    not_providers: tuple[str, ...] | None = None
    spare_replicas: int | None = None
    quality_margin_points: float | None = None

    def over(self, base: Slo) -> Slo:
        """This, with what it leaves out taken from ``base``."""
        return Slo(**{
            name: getattr(base, name) if getattr(self, name) is None else getattr(self, name)
            for name in self.__struct_fields__
        })  # fmt: skip

    @property
    def wait_s(self) -> float | None:
        """How long an answer may take, in seconds."""
        return None if self.wait is None else seconds(self.wait)


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``slo.toml``: ``[default]``, ``[workload.NAME]`` and limits on the whole plan."""

    default: Slo = Slo()
    workload: dict[str, Slo] = {}
    budget_usd_per_month: float | None = None
    confidence: float | None = None

    def of(self, workload: str) -> Slo:
        """The limits of one workload, its own over the default's."""
        return self.workload.get(workload, Slo()).over(self.default)


class HeldGpus(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """GPUs already paid for until a date: sunk, so that using them costs no more cash."""

    gpu: str
    count: int
    usd_per_gpu_h: float
    until: date


class Have(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``have.toml``: what is already held. ``platform_fte`` are people who already run GPUs."""

    gpus: tuple[HeldGpus, ...] = ()
    platform_fte: float = 0.0

    def on(self, day: date) -> Have:
        """What is still held on a day."""
        return msgspec.structs.replace(self, gpus=tuple(held for held in self.gpus if day < held.until))


def read_limits(path: Path, workloads: tuple[str, ...] = ()) -> Limits:
    """Read ``slo.toml``.

    Raises:
        BadLimits: a typo in a name, a value out of range, a workload that the trace lacks.
    """
    limits = _decode(path, Limits)
    for name, slo in {"default": limits.default, **limits.workload}.items():
        where = f"{path.name} [{name}]"
        for field in ("ttft_p95_s", "tpot_p95_s", "e2e_p95_s", "quality_margin_points"):
            value = getattr(slo, field)
            if value is not None and not value >= 0:
                raise BadLimits(f"{field} = {value}", where=where, fix="Give a number that is not negative")
        if slo.place not in (None, "any", "own"):
            raise BadLimits(f"place = {slo.place!r}", where=where, fix="Use 'any' or 'own'")
        if slo.wait is not None:
            seconds(slo.wait)
    unknown = [name for name in limits.workload if workloads and name not in workloads]
    if unknown:
        raise BadLimits(
            f"no workload {unknown[0]!r} in the trace",
            where=path.name,
            fix=f"It has: {', '.join(sorted(workloads)[:8])}",
        )
    return limits


def read_have(path: Path) -> Have:
    """Read ``have.toml``.

    Raises:
        BadLimits: a typo in a name or a value of the wrong type.
    """
    return _decode(path, Have)


def _decode(path: Path, kind: type[T]) -> T:
    try:
        return msgspec.toml.decode(path.read_bytes(), type=kind)
    except FileNotFoundError:
        raise BadLimits("no such file", where=str(path), fix="Check the path") from None
    except msgspec.DecodeError as wrong:
        raise BadLimits(str(wrong), where=path.name, fix="See docs/limits.md for the names") from None
    except ValueError as wrong:
        raise BadLimits(f"not TOML: {wrong}", where=path.name) from None
