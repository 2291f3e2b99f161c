"""``isocost keep``: what it costs to keep an application running, beside its answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from isocost.cli.catalog import load
from isocost.cli.output import grid, show, show_json, wrapped
from isocost.cli.root import Facts, InTok, Json, OutTok, app
from isocost.errors import BadInput
from isocost.units import count, money, money_range, percent, tokens, volume_per_month

if TYPE_CHECKING:
    from isocost.keep.ask import Ask
    from isocost.keep.kept import Kept
    from isocost.risk import Band

ACCOUNTS: Mapping[str, str] = {
    "operations-staff": "people who run it",
    "api-change-risk": "change of the API",
    "api-infrastructure": "gateway",
    "redundancy": "load balancing",
    "autonomous-updates": "automated updates",
    "vector-database": "vector database",
    "edge": "edge and devices",
    "porting": "leaving CUDA",
    "inference-compute": "inference compute",
    "idle-compute": "idle compute",
    "latency-headroom": "latency head-room",
    "api-tokens": "API tokens",
}
"""Accounts of the chart in the words of this page."""
DRIVERS: Mapping[str, str] = {
    "fte": "how many people it takes",
    "usd_per_year": "pay, and advice from outside",
    "loading_ratio": "employer's cost over pay",
    "setup_h": "hours to set duties up",
    "deployer_setup_h": "hours to set duties up",
    "yearly_h": "hours of duties a year",
    "deployer_yearly_h": "hours of duties a year",
    "hours_per_year": "working hours of a year",
    "usd_per_service": "cost of moving a service",
    "within a year": "chance that the model is retired",
    "rises within a year": "chance that prices rise",
    "samples_per_month": "answers graded",
    "usd_per_sample": "price of grading an answer",
    "graded_frac": "share of answers that a model grades",
    "judge_tok_per_sample": "tokens of a judge",
    "product": "which vector database",
    "prices": "plan of the vector database",
    "usd_per_month": "tools and gateways",
    "clean_usd_per_mtok": "reading and cleaning documents",
    "changed_frac_per_month": "share of documents that change",
    "reindex_per_year": "how often all is embedded again",
    "retention_months": "how long logs are kept",
    "usd_per_h": "price of an hour",
    "usd_per_gb": "price of a gigabyte",
    "sampled_frac": "share of requests traced",
    "weeks": "weeks to leave CUDA",
    "usd_per_kwh": "price of electricity",
    "pue": "the building's share of power",
    "host_power_ratio": "the host's share of power",
    "gco2e_per_kwh": "the grid",
    "setup_weeks": "weeks to automate",
    "upkeep_h_per_year": "hours to keep a pipeline working",
    "manual_h_per_run": "hours of a retraining by hand",
    "automated_h_per_run": "hours of an automated retraining",
    "retrain_per_year": "how often it is retrained",
    "fte_per_platform": "people for each platform",
    "one_off_amortisation_months": "life of what is made once",
    "wire_ratio": "bytes on the wire",
    "model_gb": "size of the model",
}
"""Drivers by the attribute of their fact."""
STAFF_OF: Mapping[str, str] = {"staff": "pay of an engineer", "duty": "advice from outside", "ops": "tools"}
NAMED = 3
"""Accounts that the headline names beside people."""
SHOWN = 5
"""Drivers that are shown."""
LEAST_FRAC = 0.01
"""Accounts below this share of the whole are shown together."""


@dataclass(frozen=True)
class Said:
    """What the file does not say, or what to put in its place."""

    requests: Annotated[str | None, Parameter(help="Answers: 1M/mo, 30k/day.")] = None
    in_: InTok = None
    out: OutTok = None
    option: Annotated[
        Literal["api", "hosted", "selfhost", "slm"] | None, Parameter(help="How answers are made.")
    ] = None
    region: Annotated[
        str | None, Parameter(help="Where machines and, if no places are named, users are: us, eu, de …")
    ] = None
    model: Annotated[str | None, Parameter(help="The API's model, as openai/gpt-5-mini.")] = None


NOTHING = Said()
"""The file as it is."""


@app.command(sort_key=8)
def keep(
    asked: Annotated[Path | None, Parameter(help="A keep file; without one, what the options say.")] = None,
    /,
    *,
    said: Annotated[Said, Parameter(name="*")] = NOTHING,
    on: Annotated[date | None, Parameter(name="--date", help="Facts of another day, YYYY-MM-DD.")] = None,
    facts: Facts = None,
    json: Json = False,
) -> None:
    """What it costs to keep an application: people, storage, search, duties, energy, change."""
    from isocost.keep.kept import keep as kept

    found = kept(load(facts).at(on or date.today()), _asked(asked, said))
    if json:
        return show_json(_plain(found))
    _show(found)
    return None


def _asked(file: Path | None, said: Said) -> Ask:
    from msgspec.structs import replace

    from isocost.keep.ask import Ask, read

    ask = read(file) if file else Ask()
    traffic = ask.traffic
    if said.requests:
        volume = volume_per_month(said.requests)
        if volume.low != volume.high:
            raise BadInput("a range of volumes", where="--requests", fix="Give one, like 1M/mo")
        traffic = replace(traffic, requests_per_month=volume.low)
    if said.in_:
        traffic = replace(traffic, input_tok=float(tokens(said.in_)))
    if said.out:
        traffic = replace(traffic, output_tok=float(tokens(said.out)))
    return replace(
        ask,
        traffic=traffic,
        option=said.option or ask.option,
        region=said.region or ask.region,
        model=said.model or ask.model,
    )


def _plain(part: object) -> object:
    """Named parts by their names, all the way down."""
    if isinstance(part, tuple):
        named = getattr(part, "_asdict", None)
        return _plain(named()) if named else [_plain(one) for one in part]
    if isinstance(part, dict):
        return {name: _plain(one) for name, one in part.items()}
    return part


def _show(found: Kept) -> None:
    show(wrapped(_headline(found), indent=0), "")
    _show_accounts(found)
    _show_duties(found)
    _show_energy(found)
    _show_risks(found)
    _show_shares(found)
    _show_swings(found)
    _show_absent(found)
    how = "people, duties and moves are mostly assumptions: state your own in keep.toml (docs/keep.md)."
    law = "A list of duties is not legal advice."
    show(wrapped(f"{how} {law}", "how sure: "))


def _headline(found: Kept) -> str:
    total = found.total
    whole = total.mid_usd or 1.0
    rest = sorted(
        (
            (sum(one.usd for one in line.charges if not _is_pay(one.price_fact)) / whole, line.account)
            for line in found.lines
        ),
        reverse=True,
    )
    parts = [f"{percent(found.people_frac)} people, whatever their account"] if found.people_frac else []
    parts += [f"{percent(frac)} {_account(name)}" for frac, name in rest[:NAMED] if frac >= LEAST_FRAC]
    each = total.mid_usd / found.ask.traffic.requests_per_month
    head = (
        f"Keeping it costs {money(total.mid_usd)} a month beside its answers (80%: {_band(total)}), "
        f"{money(each)} an answer: {', '.join(parts)}."
    )
    due = [one for one in found.duties if one.counts]
    if due:
        yearly = money(sum(one.usd_per_year for one in due))
        last = due[-1].applies_from
        head += f" {yearly} a year is due because of {_duties(len(due))} in force, the last since {last}."
    later = [one for one in found.duties if not one.counts]
    if later:
        first = [one for one in later if one.applies_from == later[0].applies_from]
        more = sum(one.usd_per_year for one in first)
        once = sum(one.setup_usd for one in first)
        head += f" From {later[0].applies_from} it is {money(more)} a year more, and {money(once)} once."
    return head


def _is_pay(price_fact: str) -> bool:
    return "staff/" in price_fact and ".usd_per_year" in price_fact


def _show_accounts(found: Kept) -> None:
    table = grid(("account", "l"), ("a month", "r"), ("share", "r"), ("80% band", "r"), ("driven by", "w"))
    whole = found.total.mid_usd or 1.0
    small = []
    for pillar in ("deployment", "sustainability"):
        lines = [line for line in found.lines if line.pillar == pillar]
        if not lines:
            continue
        own = found.pillars[pillar]
        table.add_row(pillar, money(own.mid_usd), percent(own.mid_usd / whole), _band(own), "")
        for line in lines:
            share = line.band.mid_usd / whole
            if share < LEAST_FRAC and line.band.high_usd < LEAST_FRAC * whole:
                small.append(f"{_account(line.account)} {money(line.band.mid_usd)}")
                continue
            table.add_row(
                f"  {_account(line.account)}", money(line.band.mid_usd), percent(share), _band(line.band),
                _driver(line.driver),
            )  # fmt: skip
    show(table)
    if small:
        show(wrapped(", ".join(small), "too small for a line: "))


def _show_duties(found: Kept) -> None:
    if not found.duties:
        return
    table = grid(
        ("from", "l"), ("duty", "w"), ("once, h", "r"), ("a year, h", "r"), ("a year", "r"), ("", "l")
    )
    for one in found.duties:
        state = ("in force, set up" if one.is_set_up else "in force") if one.counts else "to come"
        moved = f" (moved from {one.moved_from})" if one.moved_from else ""
        table.add_row(
            one.applies_from, one.title + moved, _hours(one.setup_h), _hours(one.yearly_h),
            money(one.usd_per_year), state,
        )  # fmt: skip
    show("", wrapped(f"duties of a {found.ask.law.role}, as hours (80%)", indent=0), table)


def _show_energy(found: Kept) -> None:
    energy = found.energy
    kwh, kg = (_amount(part[1]) for part in (energy.kwh, energy.kg_co2e))
    band = f"{_amount(energy.kg_co2e[0])} to {_amount(energy.kg_co2e[2])}"
    pue = f", PUE {energy.pue:.2f}" if energy.pue else ""
    said = f"{kwh} kWh and {kg} kg CO2e a month (80%: {band} kg) in {energy.region}"
    show("", wrapped(f"{said}, {energy.grid_g_per_kwh:.0f} g/kWh{pue}: {energy.boundary}.", "energy: "))


def _show_risks(found: Kept) -> None:
    if found.databases:
        low, high = found.databases[0], found.databases[-1]
        times = high.usd_per_month / low.usd_per_month if low.usd_per_month else float("inf")
        each = ", ".join(f"{one.name} {money(one.usd_per_month)}" for one in found.databases)
        show(wrapped(f"{each}: {times:,.0f} times apart for the same documents.", "vector databases: "))
    change = found.change
    if change is not None:
        if change.retires_on:
            end = f"{change.model} ends on {change.retires_on}, as announced"
        else:
            sure = f"80%: {percent(change.retired.low)} to {percent(change.retired.high)}"
            odds = f"a chance of {percent(change.retired.mid)} ({sure})"
            end = f"{change.model} is retired within a year with {odds}"
        rise = f"its list price rises within a year with a chance of {percent(change.rises.mid)}"
        move = f"moving costs {money(change.move_usd)}"
        if change.bill_usd_per_year:
            move += f", less than staying from a rise of {percent(change.moves_at_ratio - 1.0)}"
        show(
            wrapped(f"{end}; {rise}; {move}. The risk costs {money(change.usd_per_year)} a year.", "change: ")
        )
    pays = found.automation
    if pays is not None:
        needs = (
            "never pays"
            if pays.runs_to_pay == float("inf")
            else f"pays from {pays.runs_to_pay:.1f} runs a year"
        )
        verdict = "it does" if pays.pays else "it does not"
        show(
            wrapped(
                f"{money(pays.usd_per_year)} a year saves {pays.saves_h_per_run:.0f} hours"
                f" ({money(pays.saves_usd_per_run)}) a run and {needs}; at {pays.runs_per_year:g} {verdict}.",
                "automating retraining: ",
            )
        )
    if found.porting:
        silicon = "where a host sells tokens of custom silicon, nothing is ported"
        show(wrapped(f"{found.porting}, once; {silicon}.", "leaving CUDA: "))


def _show_shares(found: Kept) -> None:
    if not found.shares:
        return
    rules = {"use": "by use", "peak": "by peak", "shapley": "by Shapley's value of the peak"}
    table = grid(("team", "l"), ("a month", "r"), ("share", "r"), ("own peak over all's", "r"))
    for one in found.shares:
        apart = percent(one.apart_frac) if one.apart_frac is not None else "-"
        table.add_row(one.team, money(one.usd), percent(one.frac), apart)
    show("", wrapped(f"shared {rules[found.ask.share_by]}", indent=0), table)
    peaks = [one.apart_frac for one in found.shares if one.apart_frac is not None]
    if len(peaks) == len(found.shares) > 1:
        more = sum(peaks) - 1.0
        rest = f"apart, each for its own peak, they would need {percent(more)} more capacity"
        show(
            wrapped(
                rest if more > LEAST_FRAC else "apart they would need as much capacity: they peak at once"
            )
        )


def _show_swings(found: Kept) -> None:
    show("", wrapped("what would change it, alone, from the low to the high end of its 80%:", indent=0))
    table = grid(("", "l"), ("", "r"))
    for swing in found.swings[:SHOWN]:
        table.add_row(f"  {_driver(swing.name)}", money_range(swing.low_usd, swing.high_usd))
    show(table)


def _show_absent(found: Kept) -> None:
    reasons: dict[str, list[str]] = {}
    for name, why in found.absent.items():
        reasons.setdefault(why, []).append(_account(name))
    said = "; ".join(f"{', '.join(names)}: {why}" for why, names in reasons.items())
    show("", wrapped(said + ".", "not counted: "))


def _duties(number: int) -> str:
    return f"{number} {'duty' if number == 1 else 'duties'}"


def _account(name: str) -> str:
    return ACCOUNTS.get(name, name)


def _driver(name: str) -> str:
    """A driver in words, by its fact's attribute; a price a year by whose it is."""
    subject, _, attribute = name.partition("[")[0].rpartition(".")
    if attribute == "usd_per_year":
        return STAFF_OF.get(subject.partition("/")[0], DRIVERS[attribute])
    return DRIVERS.get(attribute.removesuffix(" stated"), attribute or name)


def _band(band: Band) -> str:
    return money_range(band.low_usd, band.high_usd)


def _hours(ends: tuple[float, float, float]) -> str:
    low, mid, high = ends
    return f"{mid:g} ({low:g}-{high:g})"


def _amount(value: float) -> str:
    return count(value) if value >= 10 else f"{value:.2g}"
