"""``plan.toml``: fleet, policy, limits and price basis, readable by a person, run by ``isocost replay``."""

from __future__ import annotations

import math
from datetime import date
from pathlib import Path
from typing import Any

import msgspec
import tomli_w

from isocost.deployment import Deployment, Pool
from isocost.errors import BadLimits
from isocost.fleet import Fleet, PoolSchedule, Standing
from isocost.plan.asked.limits import Limits, OwnFailures, OwnRate, check, check_failures, check_rate
from isocost.policy.route import Route, RoutePolicy, Share
from isocost.policy.rules import Fixed, Policies, Rule, named

FORMAT = 1
MOST_USD = 1000.0
"""A request costs no more: of it a million are summed exactly in 64 bits."""
MOST_S = 86_400.0
"""No single answer or look takes longer; times are whole picoseconds in 64 bits."""
_FIX = "Compare it with one that isocost plan wrote"
HEAD = """\
# A plan of isocost: what exists (pools, standing costs) and what each request tries (routes).
# Hours of the week start on Monday 00:00 UTC; a list written "3x2 165x1" is 2 for three hours, then 1.
# Run it on any log:  isocost replay LOG --plan plan.toml

"""


class Basis(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a plan was made from: trace, date and content of the prices, and business as usual."""

    title: str
    trace: str
    priced_on: str
    price_basis: str
    now: str
    today_usd_per_month: float
    plan_usd_per_month: float


class PlanFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A plan as it is written and run."""

    basis: Basis
    limits: Limits
    deployments: tuple[Deployment, ...]
    routes: tuple[Route, ...]
    fleet: Fleet
    policies: tuple[Rule, ...] = ()
    """What requests try beyond a route: cascades, guards, retries (docs/routing.md). A policy goes before a
    route."""
    failures: tuple[OwnFailures, ...] = ()
    """How APIs fail for this account, where it is stated (docs/replay.md)."""
    rate_limits: tuple[OwnRate, ...] = ()
    """What this account may ask of APIs a minute: what is above is refused."""


def dumps(plan: PlanFile) -> str:
    """The plan as TOML; :func:`loads` gives the same plan back."""
    doc: dict[str, Any] = {
        "format": FORMAT,
        "basis": msgspec.to_builtins(plan.basis),
        "limits": _known(msgspec.to_builtins(plan.limits)),
        "deployment": [_known(msgspec.to_builtins(each)) for each in plan.deployments],
        "route": [
            {
                **_known({"workload": r.workload, "model": r.model, "provider": r.provider or None}),
                **_known({"cache": r.cache or None, "fallback": r.fallback or None, "wait_s": r.wait_s}),
                **({"serve": _runs(r.serve)} if r.serve else {}),
                **({"by_session": True} if r.by_session else {}),
                "share": [{"deployment": s.deployment, "frac": _runs(s.frac)} for s in r.shares],
            }
            for r in plan.routes
        ],
        **({"policy": [_written(rule) for rule in plan.policies]} if plan.policies else {}),
        "pool": [
            {**_known(msgspec.to_builtins(p)), "on_demand": _runs(p.on_demand), "spot": _runs(p.spot)}
            for p in plan.fleet.pools
        ],
        "standing": [_known(msgspec.to_builtins(item)) for item in plan.fleet.standing],
        **{
            name: [_known(msgspec.to_builtins(item)) for item in items]
            for name, items in (("failure", plan.failures), ("rate_limits", plan.rate_limits))
            if items
        },
    }
    return HEAD + tomli_w.dumps(doc)


def loads(text: str, where: str = "plan.toml") -> PlanFile:
    """Read a plan.

    Raises:
        BadLimits: not TOML, a name with a typo, or a value of the wrong type.
    """
    try:
        doc = msgspec.toml.decode(text)
        if doc.pop("format", None) != FORMAT:
            raise BadLimits(
                "not a plan of this version", where=where, fix=f"It starts with format = {FORMAT}"
            )
        if "certificate" in doc and "basis" not in doc:
            raise BadLimits(
                "policies of isocost policy fit, without a plan around them",
                where=where,
                fix="Put each [[policy]] into a plan.toml (isocost plan LOG), with a [[deployment]] for each "
                "model that it names",
            )
        routes = [
            {
                **{name: value for name, value in route.items() if name not in ("share", "serve")},
                **({"serve": _list(route["serve"], float, (168,))} if "serve" in route else {}),
                "shares": [
                    {**share, "frac": _list(share["frac"], float, (1, 168))} for share in route["share"]
                ],
            }
            for route in doc.pop("route", [])
        ]
        pools = [
            {**p, **{name: _list(p.get(name, "168x0"), int, (168,)) for name in ("on_demand", "spot")}}
            for p in doc.pop("pool", [])
        ]
        whole = {
            "basis": doc.pop("basis"),
            "limits": doc.pop("limits", {}),
            "deployments": doc.pop("deployment", []),
            "routes": routes,
            "policies": doc.pop("policy", []),
            "failures": doc.pop("failure", []),
            "fleet": {"pools": pools, "standing": doc.pop("standing", [])},
            **doc,
        }
        plan = msgspec.convert(whole, PlanFile)
    except BadLimits as wrong:
        raise BadLimits(wrong.what, where=where, fix=wrong.fix) from None
    except KeyError as wrong:
        raise BadLimits(f"{wrong} is missing", where=where, fix=_FIX) from None
    except (TypeError, AttributeError):
        raise BadLimits(
            "a table stands where a list of tables must, or the reverse", where=where, fix=_FIX
        ) from None
    except msgspec.ValidationError as wrong:
        raise BadLimits(str(wrong), where=where, fix=_FIX) from None
    except msgspec.DecodeError as wrong:
        raise BadLimits(f"not TOML: {wrong}", where=where, fix=_FIX) from None
    check(plan.limits, where)
    for failures in plan.failures:
        check_failures(failures, f"{where} [[failure]] {failures.provider}")
    for rate in plan.rate_limits:
        check_rate(rate, f"{where} [[rate_limits]] {rate.provider}")
    RoutePolicy(plan.routes)
    Policies(plan.policies)
    named(plan.policies, {each.id: each for each in plan.deployments})
    for rule in plan.policies:
        _no_circle(rule)
    for one in plan.deployments:
        _check_numbers(one, f"{where} [[deployment]] {one.id}")
    for schedule in plan.fleet.pools:
        _check_numbers(schedule, f"{where} [[pool]] {schedule.deployment}")
    try:
        date.fromisoformat(plan.basis.priced_on)
    except ValueError:
        raise BadLimits(
            f"priced_on = {plan.basis.priced_on!r}", where=f"{where} [basis]", fix="Write YYYY-MM-DD"
        ) from None
    return plan


def read(path: Path) -> PlanFile:
    """Read a plan from a file.

    Raises:
        BadLimits: no such file, or as :func:`loads` does.
    """
    try:
        return loads(path.read_text(encoding="utf-8-sig"), path.name)
    except OSError as wrong:
        what = "no such file" if isinstance(wrong, FileNotFoundError) else f"cannot be read: {wrong.strerror}"
        raise BadLimits(what, where=str(path), fix="Make one: isocost plan LOG") from None
    except UnicodeDecodeError:
        raise BadLimits("not text in UTF-8", where=str(path), fix="Make one: isocost plan LOG") from None


def _check_numbers(one: Deployment | PoolSchedule, where: str) -> None:
    """Amounts and times are numbers from 0 on that can be summed; a pool has something to run on."""
    for name, value in msgspec.structs.asdict(one).items():
        if isinstance(value, bool) or not isinstance(value, int | float) or name in _MAY_BE_NEGATIVE:
            continue
        most = {"usd_per_request": MOST_USD, "answer_s": MOST_S, "look_s": MOST_S}.get(name, math.inf)
        if not 0 <= value < math.inf or value > most:
            fix = "Give a number, 0 or more" if most == math.inf else f"Give a number from 0 to {most:,.0f}"
            raise BadLimits(f"{name} = {value:g}", where=where, fix=fix)
        if isinstance(one, Pool) and name in _AT_LEAST_1 and value < 1:
            raise BadLimits(f"{name} = {value:g}", where=where, fix="Give 1 or more")


_AT_LEAST_1 = ("gpus", "tp", "kv_capacity_tok", "max_seqs", "prefill_budget_tok")
_MAY_BE_NEGATIVE = ("overflow_outstanding",)


def _no_circle(rule: Rule) -> None:
    """Nothing that failed is fallen back to, and nothing is hedged by itself."""
    choice = rule.choose
    tried = [choice.deployment] if isinstance(choice, Fixed) else list(getattr(choice, "ask", ()))
    fallback = list(rule.recover.fallback) if rule.recover is not None else []
    again = [name for k, name in enumerate(fallback) if name in tried or name in fallback[:k]]
    if again:
        raise BadLimits(
            f"{again[0]!r} falls back to itself: a circle",
            where=f"[[policy]] of {rule.workload!r} recover",
            fix="Name each once, or write retries",
        )
    if rule.hedge is not None and rule.hedge.deployment in tried:
        raise BadLimits(
            f"{rule.hedge.deployment!r} is hedged by itself",
            where=f"[[policy]] of {rule.workload!r} hedge",
            fix="Name another deployment",
        )


def _written(rule: Rule) -> dict[str, Any]:
    """A policy without what is as it is by default."""
    plain = msgspec.to_builtins(rule)
    return {
        name: _known(value) if isinstance(value, dict) else value for name, value in plain.items() if value
    }


def _known(doc: dict[str, Any]) -> dict[str, Any]:
    """Without what is unset: TOML has no null."""
    return {k: _known(v) if isinstance(v, dict) else v for k, v in doc.items() if v is not None}


def _runs(values: tuple[float, ...] | tuple[int, ...]) -> str:
    """Values with repeats counted.

    >>> _runs((1, 1, 2))
    '2x1 1x2'
    """
    runs: list[list[Any]] = []
    for value in values:
        if runs and runs[-1][1] == value:
            runs[-1][0] += 1
        else:
            runs.append([1, value])
    return " ".join(f"{count}x{value}" for count, value in runs)


def _list(text: object, kind: type[int] | type[float], lengths: tuple[int, ...]) -> list[int | float]:
    """What :func:`_runs` wrote; a plain number is the same in every hour.

    >>> _list("2x1 1x2", int, (3,))
    [1, 1, 2]
    """
    if isinstance(text, int | float) and not isinstance(text, bool):
        text = f"{max(lengths)}x{text}"
    found: list[int | float] = []
    for run in str(text).split():
        count, _, value = run.partition("x")
        try:
            found += [kind(value)] * int(count)
        except ValueError:
            raise BadLimits(f"{run!r} in a list of hours", fix="Write COUNTxVALUE, as 168x1") from None
    if len(found) not in lengths:
        raise BadLimits(
            f"{len(found)} hours in a list",
            fix=f"A week has {max(lengths)} hours: write {max(lengths)}xVALUE",
        )
    if not all(0 <= value < math.inf for value in found):
        raise BadLimits(f"{text!r} has a value that cannot be", fix="Shares and replicas are 0 or more")
    return found


__all__ = ["Basis", "PlanFile", "PoolSchedule", "Share", "Standing", "dumps", "loads", "read"]
