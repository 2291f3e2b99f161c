"""``isocost develop``: what a model costs to make, and which size is worth making."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, Parameter

from isocost.cli.catalog import load
from isocost.cli.output import grid, show, show_json, working, wrapped
from isocost.cli.root import Facts, Json, app
from isocost.errors import BadInput
from isocost.units import count, money, money_range, percent, tokens

if TYPE_CHECKING:
    from isocost.catalog import CatalogAt
    from isocost.develop import Ask, Optimum, Programme, Way
    from isocost.develop.optimum import Point
    from isocost.risk import Band

develop = app.command(
    App(
        name="develop",
        help="What a model costs to make, by account and boundary, and the ways there.",
        help_format="plaintext",
        sort_key=5,
        default_parameter=Parameter(negative="", show_default=False),
    )
)

Size = Annotated[str | None, Parameter(help="Parameters: 8e9, 8B.")]
Gpu = Annotated[str | None, Parameter(help="Accelerator: h100-sxm, b200 …")]
On = Annotated[date | None, Parameter(name="--date", help="Facts of another day, YYYY-MM-DD.")]
ACCOUNTS: Mapping[str, str] = {
    "development-staff": "people",
    "experiments": "experiments and failed runs",
    "training-from-scratch": "the final run",
    "fine-tuning": "the run that is kept",
    "distillation": "the run that is kept, and the teacher's tokens",
    "compute-infrastructure": "storage, network, idle",
    "data": "data and labels",
    "safety-evaluation": "evaluation and safety",
    "acquisition": "connecting an API",
    "training-cluster": "hardware",
    "training-energy": "energy",
}
"""Accounts of the chart in the words of this page."""
DRIVERS: Mapping[str, str] = {
    "core_fte_years": "size of the core team (person-years)",
    "experiments_ratio": "compute of experiments over the final run",
    "mfu_frac": "utilisation of the accelerators",
    "usd_per_gpu_h": "rent of an accelerator-hour",
    "staff_over_compute": "people who come with compute",
    "loading_ratio": "employer's cost over pay",
    "engineer_weeks": "weeks of an engineer",
    "usd_per_year": "pay of an engineer",
    "usd_per_label": "price of a label",
    "examples": "examples needed",
    "eval_examples": "answers graded",
    "experiments": "runs for each one that is kept",
    "usd_per_sample": "price of grading an answer",
    "checked_frac": "share of examples that people check",
    "teacher_tok_per_example": "length of the teacher's answers",
    "tok_per_example": "tokens of an example",
    "data_usd_per_mtok": "price of cleaned text",
    "infrastructure_over_compute": "storage, network and idle time",
    "launch_weeks": "weeks until an API serves",
}
"""Drivers by the attribute of their fact."""
HOW: Mapping[str, str] = {
    "full": "by full fine-tuning",
    "lora": "by LoRA fine-tuning",
    "distil": "distilled from a teacher",
    "hosted": "tuned by a host",
    "buy": "bought as an API",
}
"""Ways in a sentence."""
MACHINES = frozenset(
    {"training-from-scratch", "fine-tuning", "distillation", "experiments", "compute-infrastructure"}
)
"""Accounts that are not people, labels and graded answers."""
NAMED = 3
"""Accounts that the headline names."""
LEAST_NAMED = 0.001
"""Share of the cost from which an account is named in the first sentence."""
LEAST_SHARE = 0.001
"""Shares below it are printed as such."""
NEVER = 1e15
"""Dollars beyond which a law sees no end."""


@dataclass(frozen=True)
class Model:
    """What is to be made, where no file says it, or in place of what it says."""

    params: Size = None
    active: Annotated[str | None, Parameter(help="Parameters a token passes (mixture of experts).")] = None
    tokens: Annotated[str | None, Parameter(help="Tokens of training from scratch: 100e9, 100B.")] = None
    gpu: Gpu = None
    gpu_hours: Annotated[float | None, Parameter(help="Hours of the final run, where they are known.")] = None
    usd_per_gpu_h: Annotated[
        float | None, Parameter(help="Rent of an accelerator-hour, where it is known.")
    ] = None
    region: Annotated[str | None, Parameter(help="Price and carbon of electricity: us, eu, de, fr …")] = None


@dataclass(frozen=True)
class Quality:
    """The quality to reach, as one of these; a compute-optimal 8B where none is given."""

    params: Annotated[str | None, Parameter(help="That of a compute-optimal model of a size: 8e9, 8B.")] = (
        None
    )
    flop: Annotated[float | None, Parameter(help="That of a training budget in operations.")] = None
    budget: Annotated[float | None, Parameter(help="That of a training budget in dollars.")] = None
    loss: Annotated[float | None, Parameter(help="A loss in nats a token.")] = None


@develop.default
def cost(
    file: Annotated[Path | None, Parameter(help="What is to be made: slm.toml (docs/develop.md).")] = None,
    /,
    *,
    model: Annotated[Model, Parameter(name="*")] = Model(),
    way: Annotated[
        Literal["scratch", "full", "lora", "distil", "hosted", "buy"] | None,
        Parameter(help="The way that the headline is of."),
    ] = None,
    on: On = None,
    facts: Facts = None,
    json: Json = False,
) -> None:
    """Cost a model under each boundary and by account, and compare the ways there."""
    from isocost.develop import programme

    ask = _asked(file, model)
    with working("costing"):
        at = load(facts).at(on or date.today())
        made = programme(at, ask, way or "")
    if json:
        return show_json(_plain(made))
    return _show(at, made)


@develop.command
def optimum(
    *,
    inference_tokens: Annotated[
        str, Parameter(help="Tokens read and written in the model's life: 2e12, 2T.")
    ],
    quality: Annotated[Quality, Parameter(name="*")] = Quality(),
    gpu: Gpu = None,
    worth: Annotated[float | None, Parameter(help="Dollars that a hundredth of a nat is worth.")] = None,
    on: On = None,
    facts: Facts = None,
    json: Json = False,
) -> None:
    """Say which size and data cost least, for training alone and for the whole life, by each scaling law."""
    import msgspec

    from isocost.develop import optima
    from isocost.develop.optimum import prices_of

    served = _number(inference_tokens)
    given = [name for name in ("params", "flop", "budget", "loss") if getattr(quality, name) is not None]
    if len(given) > 1:
        raise BadInput(
            f"{' and '.join(f'--{name}' for name in given)} both state the quality", fix="Give one"
        )
    at = load(facts).at(on or date.today())
    prices = prices_of(at, gpu or "h100-sxm")
    work = quality.flop if quality.budget is None else quality.budget / prices.train_usd_per_flop
    size = _number(quality.params) if quality.params else (8e9 if not given else None)
    found = optima(
        at, served, prices, params=size, flop=work, target_loss=quality.loss, usd_per_hundredth=worth
    )
    if json:
        return show_json({"inference_tok": served, "prices": prices, "optima": msgspec.to_builtins(found)})
    said = (
        f"the quality of a compute-optimal {_size(size)}" if size
        else f"a loss of {quality.loss:g} nats" if quality.loss
        else f"the quality of {work:.2g} operations of training"
    )  # fmt: skip
    return _show_optimum(found, served, said, worth)


def _asked(file: Path | None, model: Model) -> Ask:
    """A file, with what is given on the command line in place of its fields; else the latter alone.

    Raises:
        BadInput: neither a file nor a size.
    """
    import msgspec

    from isocost.develop.ask import Ask, checked, read_ask

    stated: dict[str, Any] = {
        "params": _number(model.params) if model.params else None,
        "params_active": _number(model.active) if model.active else None,
        "tokens": _number(model.tokens) if model.tokens else None,
        "gpu": model.gpu,
        "gpu_hours": model.gpu_hours,
        "usd_per_gpu_h": model.usd_per_gpu_h,
        "region": model.region,
    }
    stated = {name: value for name, value in stated.items() if value is not None}
    if file is not None:
        return checked(msgspec.structs.replace(read_ask(file), **stated), str(file))
    if "params" not in stated:
        raise BadInput(
            "no model to cost",
            fix="Type 'isocost develop --params 8e9 --tokens 100e9', or give examples/slm.toml",
        )
    return checked(Ask(**stated))


def _show(at: CatalogAt, made: Programme) -> None:
    ask, chosen, lines = made.ask, made.chosen, made.accounts
    total = made.total
    shares = [(line.band.mid_usd / total.mid_usd, _account(line.account)) for line in lines[:NAMED]]
    parts = [f"{percent(share)} {account}" for share, account in shares if share >= LEAST_NAMED]
    size = _size(ask.params)
    what = ask.name or f"{_article(size).capitalize()} {size}"
    read = f"on {count(ask.tokens)} tokens" if ask.tokens else "from scratch"
    how = read if chosen.name == "scratch" else HOW[chosen.name]
    band = f"80%: {money(total.low_usd)} to {money(total.high_usd)}"
    sentence = f"{what} {how} costs {money(total.mid_usd)} to make ({band}): {', '.join(parts)}."
    show(wrapped(sentence, indent=0))
    if chosen.gpu_h:
        final = made.boundaries[0].band
        assert final is not None
        low, high = (_hours(one) for one in made.hours_range)
        sure = f" ({low} to {high})" if low != high else ""
        unit = "hour" if _hours(chosen.gpu_h) == "1" else "hours"
        took = f"{_hours(chosen.gpu_h)}{sure} {unit} of {_gpu(at, ask)}"
        run = f"The final run takes {took}, {_days(chosen)} on {chosen.gpus:,}"
        rest = f"{money(final.mid_usd)} for it is {_share(final.mid_usd / total.mid_usd)} of the whole."
        show(wrapped(f"{run}: {rest}"))
    _show_boundaries(made)
    _show_accounts(made)
    _show_ways(made)
    _show_swings(made)
    _show_notes(made)


def _show_boundaries(made: Programme) -> None:
    table = grid(("what is counted", "l"), ("cost", "r"), ("80% band", "r"), ("", "w"))
    for boundary in made.boundaries:
        table.add_row(boundary.name, *_cells(boundary.band), boundary.note)
    show("", table)


def _show_accounts(made: Programme) -> None:
    table = grid(("account", "l"), ("cost", "r"), ("share", "r"), ("80% band", "r"))
    for line in made.accounts:
        share = line.band.mid_usd / made.total.mid_usd if made.total.mid_usd else 0.0
        table.add_row(_account(line.account), money(line.band.mid_usd), _share(share), _band(line.band))
    show("", table)


def _show_ways(made: Programme) -> None:
    table = grid(
        ("way there", "l"), ("cost", "r"), ("80% band", "r"), ("machines", "r"), ("GPU-h", "r"), ("kWh", "r"),
        ("kg CO2", "r"),
    )  # fmt: skip
    for way, band in made.ways:
        cells = ["-", "-", "-"]
        if way.gpu_h:
            cells = [_hours(way.gpu_h), _hours(way.kwh), _hours(way.tco2e * 1e3)]
        machines = way.book.of(MACHINES).mid_usd
        cost = (money(band.mid_usd), _band(band), money(machines) if machines else "-")
        table.add_row(way.title, *cost, *cells)
    show("", table)
    for way, _ in made.ways:
        if way.note:
            show(wrapped(way.note, f"{way.title}: "))
    show(wrapped("rent, hosted training and a teacher's tokens, without people and labels", "machines: "))


def _show_swings(made: Programme) -> None:
    show("", wrapped("what would change it, alone, from the low to the high end of its 80%:", indent=0))
    table = grid(("", "l"), ("", "r"))
    for swing in made.swings:
        table.add_row(f"  {_driver(swing.name)}", money_range(swing.low_usd, swing.high_usd))
    show(table)


def _show_notes(made: Programme) -> None:
    show("")
    if made.chosen.name == "scratch":
        show(wrapped(_multiplier(made), "whole over final run: "))
    if made.own is not None:
        own = made.own
        busy = (
            f"an own one pays where it is busy more than {percent(own.busy_frac)} of its life"
            if own.busy_frac < 1
            else "an own one never pays"
        )
        rented = f"${own.rent_usd_per_gpu_h:.2f} rented"
        hours = f"an hour costs ${own.own_usd_per_gpu_h:.2f} owned and always busy, {rented}"
        show(wrapped(f"{hours}: {busy}.", "own or rented: "))
    one = made.shared
    show(
        wrapped(
            f"{one.sites:g} sites and {one.rounds:g} rounds add {money(one.full.mid_usd)}"
            f" ({_band(one.full)}) to exchange all weights, {money(one.adapter.mid_usd)} for an adapter.",
            "federated: ",
        )
    )
    if made.distilled is not None and made.chosen.name == "scratch":
        found = made.distilled
        worth = "helps" if found.worth else "does not help"
        teacher = f"a teacher of {count(found.teacher_params)} that exists {worth}"
        losses = f"{found.distilled_nats:.2f} nats a token of it, {found.alone_nats:.2f} alone"
        doubt = " (Busbridge 2025, constants from memory)" if found.kind == "assumed" else " (Busbridge 2025)"
        show(wrapped(f"{teacher} on so many tokens: {losses}{doubt}.", "distilling from scratch: "))
    if made.chosen.name == "scratch":
        low, middle, high = (percent(part) for part in made.later_frac)
        show(
            wrapped(f"in a year the same loss takes {middle} of this compute ({low} to {high}).", "waiting: ")
        )
    show(
        wrapped(
            "utilisation and experiments are posteriors of disclosed runs; team, data and labels are"
            " assumptions: state your own in slm.toml (docs/develop.md).",
            "how sure: ",
        )
    )
    ask = made.ask
    name = f"develop/{ask.params:.3g}x{ask.tokens or 1e9:.3g}@{ask.gpu}.usd".replace("+", "")
    chain = f"isocost why {name}   isocost develop optimum --inference-tokens 2e12"
    show(wrapped(chain, "next: "))


def _multiplier(made: Programme) -> str:
    """How often the run that is kept goes into the whole, beside what frontier programmes imply."""
    bands = {one.name: one.band for one in made.boundaries}
    times = [
        f"{made.total.mid_usd / band.mid_usd:,.3g}x its {words}"
        for name, words in (
            ("final run, rented", "rent"),
            ("hardware by use + energy", "hardware and energy"),
        )
        if (band := bands.get(name)) is not None and band.mid_usd
    ]
    low, high = made.disclosed_multipliers
    known = f"four frontier programmes were {low:.1f} to {high:.1f}x their hardware and energy"
    return f"{', '.join(times)}; {known}: the smaller the run, the more people weigh."


def _show_optimum(found: tuple[Optimum, ...], served: float, quality: str, worth: float | None) -> None:
    lived = [(one, one.lived) for one in found if one.lived is not None]
    if not found or not lived:
        raise BadInput("no law reaches that quality", fix="Ask for a higher loss, or give --params 8e9")
    sizes = sorted(point.params for _, point in lived)
    saved = sorted(1.0 - point.usd / one.trained.usd for one, point in lived)
    show(
        wrapped(
            f"For {quality} and {count(served)} tokens served, a model of {_size(sizes[0])} to"
            f" {_size(sizes[-1])} trained for longer costs {percent(max(saved[0], 0.0))} to"
            f" {percent(saved[-1])} less over its life, as the law says.",
            indent=0,
        )
    )
    table = grid(
        ("scaling law", "l"), ("best to train", "r"), ("best to live with", "r"), ("saves", "r"),
        ("next 0.01 nat", "r"), ("worth until", "r"),
    )  # fmt: skip
    for one in found:
        cells = ["-", "-", "-", "-"]
        if one.lived is not None:
            stop = money(one.worth_usd) if one.worth_usd < NEVER else "no end"
            saves = percent(1.0 - one.lived.usd / one.trained.usd)
            cells = [_on(one.lived), saves, money(one.usd_per_hundredth), stop]
        table.add_row(one.law.title + _star(one), _on(one.trained), *cells)
    show("", table)
    rule = (
        f"the next hundredth of a nat costs {money(worth)}"
        if worth
        else "a doubling gains less than a hundredth of a nat"
    )
    show(
        "",
        wrapped(f"training beyond which {rule}; state what it is worth with --worth.", "worth until: "),
        wrapped(
            "laws without a loss advise an allocation alone; nats of different laws are of different texts.",
            "mind: ",
        ),
    )
    if any(_star(one) for one in found):
        show(wrapped("constants that are remembered, not read at the source.", "*: "))


def _on(one: Point) -> str:
    return f"{_size(one.params)} on {count(one.training_tok)}"


def _star(one: Optimum) -> str:
    return " *" if one.law.kind == "assumed" else ""


def _plain(made: Programme) -> dict[str, object]:
    """The programme as plain data: bands as low, mid, high; each way with its accounts and charges."""
    ways = [
        {
            "way": way.name, "title": way.title, "band": band, "gpu_h": way.gpu_h,
            "gpus": way.gpus, "days": way.days,
            "kwh": way.kwh, "tco2e": way.tco2e, "note": way.note, "accounts": _accounts(way),
        }
        for way, band in made.ways
    ]  # fmt: skip
    charges = [
        {"account": c.account, "what": c.meter, "usd": c.usd, "drivers": c.price_fact}
        for c in made.chosen.book.charges
    ]
    return {
        "ask": made.ask, "way": made.chosen.name, "total": made.total,
        "people_frac": made.people_frac, "flop": made.flop,
        "mfu_frac": made.mfu_frac, "gpu_h_range": made.hours_range, "boundaries": made.boundaries,
        "accounts": _accounts(made.chosen), "charges": charges,
        "ways": ways, "swings": made.swings, "own": made.own, "federated": made.shared,
        "distilled": made.distilled,
        "compute_in_a_year_frac": made.later_frac,
        "disclosed_multipliers": made.disclosed_multipliers,
    }  # fmt: skip


def _accounts(way: Way) -> dict[str, object]:
    return {line.account: line.band for line in way.book.lines()}


def _number(text: str) -> float:
    try:
        return float(tokens(text))
    except BadInput:
        raise BadInput(f"{text!r} is not a count", fix="Type a number like 8e9, 8B or 2T") from None


def _cells(band: Band | None) -> tuple[str, str]:
    return ("unknown", "-") if band is None else (money(band.mid_usd), _band(band))


def _band(band: Band) -> str:
    return money_range(band.low_usd, band.high_usd)


def _account(name: str) -> str:
    return ACCOUNTS.get(name, name)


def _driver(name: str) -> str:
    plain = name.partition("[")[0].partition("@")[0]
    return DRIVERS.get(plain.rpartition(".")[2], plain)


def _gpu(at: CatalogAt, ask: Ask) -> str:
    from isocost.develop.hardware import accelerator

    return accelerator(at, ask.gpu).name


def _hours(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}" if math.isfinite(value) else "-"


def _days(way: Way) -> str:
    return f"{way.days:.0f} days" if way.days >= 2 else f"{_hours(way.days * 24.0)} hours"


def _size(params: float) -> str:
    """A size as people call it: 8B, 1.5B, 135M."""
    letter, scale = ("B", 1e9) if params >= 1e9 else ("M", 1e6)
    return f"{params / scale:.3g}{letter}"


def _share(frac: float) -> str:
    return percent(frac) if frac >= LEAST_SHARE or not frac else "< 0.1%"


def _article(words: str) -> str:
    return "an" if words[:1] in "8" or words[:2] in ("11", "18") else "a"
