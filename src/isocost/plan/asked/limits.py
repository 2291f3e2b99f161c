"""What must hold (``slo.toml``) and what is already held (``have.toml``), read strictly."""

from __future__ import annotations

import difflib
import math
import re
from datetime import date
from pathlib import Path
from typing import TypeVar

import msgspec

from isocost.errors import BadInput, BadLimits
from isocost.toml import BOM, not_utf8
from isocost.units import seconds

T = TypeVar("T")


class Slo(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Limits on one workload. A limit left out is the default's, else none.

    ``wait`` says how long an answer may take before it must be there (``6h``): it opens the batch
    APIs. ``place``: ``own`` keeps every token on replicas of one's own. ``regions``: answer only
    from these. ``spare_replicas``: replicas beyond the load (N+1). ``replicas_per_region``: at least so
    many of a pool for each of ``regions`` (or in all, where there are none). ``not_providers``: never these.
    """

    ttft_p95_s: float | None = None
    tpot_p95_s: float | None = None
    e2e_p95_s: float | None = None
    wait: str | None = None
    place: str | None = None
    regions: tuple[str, ...] | None = None
    not_providers: tuple[str, ...] | None = None
    spare_replicas: int | None = None
    replicas_per_region: int | None = None
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
    """``slo.toml``: ``[default]``, ``[workload.NAME]`` and limits on the whole plan.

    ``commit_months_most``: how long a plan for a month may sign accelerators for, 0 for not at all; left out,
    a quoted year at most.
    """

    default: Slo = Slo()
    workload: dict[str, Slo] = {}
    budget_usd_per_month: float | None = None
    carbon_kg_per_month: float | None = None
    confidence: float | None = None
    commit_months_most: int | None = None

    def of(self, workload: str) -> Slo:
        """The limits of one workload, its own over the default's."""
        return self.workload.get(workload, Slo()).over(self.default)


class HeldGpus(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """GPUs already paid for until a date: sunk, so that using them costs no more cash."""

    gpu: str
    count: int
    usd_per_gpu_h: float
    until: date


class OwnRate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an account may ask of a provider a minute: by its usage tier, or in numbers.

    ``model`` is a family (``gpt-4o``); left out, the limit is each model's of the provider.
    """

    provider: str
    model: str = ""
    tier: str = ""
    requests_per_min: float | None = None
    input_tok_per_min: float | None = None
    output_tok_per_min: float | None = None
    tok_per_min: float | None = None


class OwnFailures(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """How a provider's API fails for this account. What is left out is measured from the log, else a fact.

    ``model`` is a family; left out, all of the provider's. ``error_frac`` of calls outside of incidents end
    in an error after ``error_s``, ``hang_frac`` never answer and are abandoned after ``hang_s``; nobody waits
    for an answer longer than ``timeout_s``. Incidents come every ``outage_every_h``, last ``outage_h`` in the
    mean, and make ``outage_frac`` of all calls fail.
    """

    provider: str
    model: str = ""
    error_frac: float | None = None
    error_s: float | None = None
    hang_frac: float | None = None
    hang_s: float | None = None
    timeout_s: float | None = None
    outage_frac: float | None = None
    outage_every_h: float | None = None
    outage_h: float | None = None


class Have(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``have.toml``: what is already held. ``platform_fte`` are people who already run GPUs."""

    gpus: tuple[HeldGpus, ...] = ()
    platform_fte: float = 0.0
    rate_limits: tuple[OwnRate, ...] = ()
    failures: tuple[OwnFailures, ...] = ()

    def on(self, day: date) -> Have:
        """What is still held on a day."""
        return msgspec.structs.replace(self, gpus=tuple(held for held in self.gpus if day < held.until))


def read_limits(path: Path, workloads: tuple[str, ...] = ()) -> Limits:
    """Read ``slo.toml``.

    Raises:
        BadLimits: a typo in a name, a value out of range, a workload that the trace lacks.
    """
    limits = _decode(path, Limits)
    check(limits, path.name)
    unknown = [name for name in limits.workload if workloads and name not in workloads]
    if unknown:
        raise BadLimits(
            f"no workload {unknown[0]!r} in the trace",
            where=path.name,
            fix=f"It has: {', '.join(sorted(workloads)[:8])}",
        )
    return limits


def check(limits: Limits, where: str) -> None:
    """Refuse values that no limit can have; ``where`` names the file.

    Raises:
        BadLimits: a value out of range.
    """
    budget, sure = limits.budget_usd_per_month, limits.confidence
    if budget is not None and not 0 < budget < math.inf:
        raise BadLimits(f"budget_usd_per_month = {budget:g}", where=where, fix="Give dollars above 0")
    if sure is not None and not 0.5 < sure < 1:
        raise BadLimits(f"confidence = {sure:g}", where=where, fix="Give a share between 0.5 and 1, as 0.95")
    carbon = limits.carbon_kg_per_month
    if carbon is not None and not 0 < carbon < math.inf:
        raise BadLimits(f"carbon_kg_per_month = {carbon:g}", where=where, fix="Give kilograms above 0")
    months = limits.commit_months_most
    if months is not None and months < 0:
        raise BadLimits(f"commit_months_most = {months}", where=where, fix="Give months, 0 or more")
    tables = {"[default]": limits.default} | {f"[workload.{w}]": slo for w, slo in limits.workload.items()}
    for table, slo in tables.items():
        _check_slo(slo, f"{where} {table}")


def _check_slo(slo: Slo, where: str) -> None:
    for field in ("ttft_p95_s", "tpot_p95_s", "e2e_p95_s"):
        value = getattr(slo, field)
        if value is not None and not 0 < value < math.inf:
            raise BadLimits(f"{field} = {value:g}", where=where, fix="Give seconds above 0, or leave it out")
    points = slo.quality_margin_points
    if points is not None and not 0 <= points <= 100:
        raise BadLimits(f"quality_margin_points = {points:g}", where=where, fix="Give points from 0 to 100")
    if slo.spare_replicas is not None and slo.spare_replicas < 0:
        raise BadLimits(
            f"spare_replicas = {slo.spare_replicas}", where=where, fix="Give a count that is not negative"
        )
    if slo.replicas_per_region is not None and slo.replicas_per_region < 0:
        raise BadLimits(
            f"replicas_per_region = {slo.replicas_per_region}", where=where, fix="Give a count, 0 or more"
        )
    if slo.place not in (None, "any", "own"):
        raise BadLimits(f"place = {slo.place!r}", where=where, fix="Use 'any' or 'own'")
    if slo.wait is not None:
        try:
            seconds(slo.wait)
        except BadInput as wrong:
            raise BadLimits(f"wait: {wrong.what}", where=where, fix=wrong.fix) from None


def read_have(path: Path) -> Have:
    """Read ``have.toml``.

    Raises:
        BadLimits: a typo in a name, a value of the wrong type or out of range.
    """
    have = _decode(path, Have)
    if not 0 <= have.platform_fte < math.inf:
        raise BadLimits(
            f"platform_fte = {have.platform_fte:g}", where=path.name, fix="Give people, 0 or more"
        )
    for held in have.gpus:
        where = f"{path.name} [[gpus]] {held.gpu}"
        if held.count < 1:
            raise BadLimits(f"count = {held.count}", where=where, fix="Give at least 1, or leave it out")
        if not 0 <= held.usd_per_gpu_h < math.inf:
            raise BadLimits(f"usd_per_gpu_h = {held.usd_per_gpu_h:g}", where=where, fix="Give 0 or more")
    for rate in have.rate_limits:
        check_rate(rate, f"{path.name} [[rate_limits]] {rate.provider}")
    for one in have.failures:
        check_failures(one, f"{path.name} [[failures]] {one.provider}")
    return have


def check_failures(one: OwnFailures, where: str) -> None:
    """Refuse what cannot be.

    Raises:
        BadLimits: a share beyond 0 to 1, a time below 0, incidents that fail no call or more than all.
    """
    for name in one.__struct_fields__[2:]:
        value = getattr(one, name)
        most = 1.0 if name.endswith("_frac") else math.inf
        if value is not None and not 0 <= value <= most:
            fix = "Give a share from 0 to 1" if most == 1.0 else "Give 0 or more"
            raise BadLimits(f"{name} = {value:g}", where=where, fix=fix)
        if value is not None and name in ("outage_every_h", "outage_h") and not 0 < value < math.inf:
            raise BadLimits(
                f"{name} = {value:g}",
                where=where,
                fix="Give hours above 0; outage_frac = 0.0 is no incidents",
            )
    every_h, length_h, frac = one.outage_every_h, one.outage_h, one.outage_frac
    if every_h is not None and length_h is not None and not every_h > length_h > 0:
        raise BadLimits(
            f"incidents of {length_h:g} h every {every_h:g} h",
            where=where,
            fix="They end before the next begins",
        )
    if None not in (every_h, length_h, frac) and frac > length_h / every_h:  # type: ignore[operator]
        raise BadLimits(
            f"outage_frac = {frac:g} in incidents of {length_h:g} h every {every_h:g} h",
            where=where,
            fix=f"They can fail {length_h / every_h:.2g} of all calls at most",  # type: ignore[operator]
        )


def check_rate(rate: OwnRate, where: str) -> None:
    """Refuse what no limit can be.

    Raises:
        BadLimits: a number that is not above 0, or neither number nor tier.
    """
    names = ("requests_per_min", "input_tok_per_min", "output_tok_per_min", "tok_per_min")
    given = {name: value for name in names if (value := getattr(rate, name)) is not None}
    for name, value in given.items():
        if not 0 < value < math.inf:
            raise BadLimits(f"{name} = {value:g}", where=where, fix="Give a number above 0, or leave it out")
    if not given and not rate.tier:
        raise BadLimits("neither a tier nor a number", where=where, fix=f"Give tier or {', '.join(names)}")


def _decode(path: Path, kind: type[T]) -> T:
    try:
        return msgspec.toml.decode(path.read_bytes().removeprefix(BOM), type=kind)
    except OSError as wrong:
        what = "no such file" if isinstance(wrong, FileNotFoundError) else f"cannot be read: {wrong.strerror}"
        raise BadLimits(what, where=str(path), fix="Check the path") from None
    except msgspec.ValidationError as wrong:
        raise BadLimits(str(wrong), where=path.name, fix=nearest(str(wrong))) from None
    except UnicodeDecodeError as wrong:
        raise BadLimits(not_utf8(wrong), where=path.name, fix="Save it as UTF-8") from None
    except ValueError as wrong:
        raise BadLimits(
            f"not TOML: {wrong}", where=path.name, fix="See docs/limits.md for examples"
        ) from None


def nearest(message: str) -> str:
    """What to type instead of a name that a message calls unknown; else where the names are."""
    found = re.search(r"unknown field `(.+?)`", message)
    names = [
        name
        for kind in (Slo, Limits, HeldGpus, OwnRate, OwnFailures, Have)
        for name in kind.__struct_fields__
    ]
    close = difflib.get_close_matches(found.group(1), names, n=1) if found else []
    return f"Did you mean {close[0]}?" if close else "See docs/limits.md for the names"
