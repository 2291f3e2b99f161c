"""``isocost why``: a number, its formula with live values, and the facts behind it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.text import Text

from isocost.cli.catalog import load, newest
from isocost.cli.output import show, show_json, wrapped
from isocost.cli.root import Facts, InTok, Json, OutTok, app
from isocost.errors import BadInput, UnknownFact
from isocost.units import plural, tokens

if TYPE_CHECKING:
    from isocost.catalog import CatalogAt
    from isocost.why import Node

DEFAULT_TOK = "1000"
MOST_FACTS = 12
DIGITS = 8
"""Significant digits of a printed value: enough that a printed formula gives the printed result."""


@dataclass(frozen=True)
class Request:
    """The request that a number is for."""

    in_: InTok = None
    out: OutTok = None
    cached: Annotated[str, Parameter(help="Input tokens read from the prompt cache.")] = "0"
    tier: Annotated[str, Parameter(help="standard, batch, priority, flex.")] = "standard"
    ttft_p95: Annotated[float | None, Parameter(help="Limit on the time to first token, s.")] = None
    tpot_p95: Annotated[float | None, Parameter(help="Limit on the time per output token, s.")] = None


@app.command(sort_key=6)
def why(
    name: str,
    /,
    *,
    request: Annotated[Request, Parameter(name="*")] = Request(),
    today: Annotated[str, Parameter(help="What a model's quality is compared with: openai/gpt-4o.")] = "",
    depth: Annotated[int, Parameter(help="How deep formulas are followed.", show_default=True)] = 3,
    ledger: Annotated[
        Path, Parameter(help="The plan that plan.NAME is a part of.", show_default=True)
    ] = Path("ledger.parquet"),
    on: Annotated[date | None, Parameter(help="The date of facts (default: the newest).")] = None,
    facts: Facts = None,
    json: Json = False,
) -> None:
    """Say why a number is what it is: formula, live values, facts with their quotes.

    Parameters
    ----------
    name
        openai/gpt-4o.usd_per_request, self/llama-3.3-70b@4xh100-sxm.usd_per_mtok, llama-3.3-70b.quality,
        selfhost.staff_usd_per_month, a part of the plan in this folder (plan, plan.api-tokens), or a fact:
        gpu/h100-sxm.memory_bytes.
    """
    from isocost.why import Asked
    from isocost.why import why as explained

    if name.endswith(".toml"):
        raise BadInput(
            f"{name} is a file, not a number",
            fix="Type 'isocost why plan' in the folder of its ledger.parquet, or --ledger FILE",
        )
    catalog = load(facts)
    at = catalog.at(on or newest(catalog))
    asked = Asked(
        tokens(request.in_ or DEFAULT_TOK),
        tokens(request.out or DEFAULT_TOK),
        tokens(request.cached),
        request.tier,
        today,
        request.ttft_p95,
        request.tpot_p95,
    )
    whole = name == "plan" or name.startswith("plan.")
    node = _of_plan(ledger, name) if whole else explained(at, name, asked)
    if json:
        cited = [_cited(at, ident) for ident in node.all_facts()]
        return show_json({"on": at.on, "asked": asked._asdict(), "why": node, "facts": cited})
    show(Text(f"{node.name} = {_value(node, at)}", "bold"))
    if node.how:
        show(wrapped(node.how))
    shown: set[str] = set()
    _show_formula(node, 1)
    _show_inputs(node, 1, depth, shown, at)
    _show_facts(node, at)
    return None


def _of_plan(path: Path, name: str) -> Node:
    from isocost.ledger import Ledger
    from isocost.why import of_ledger

    if not path.exists():
        raise BadInput(
            "no such file", where=str(path), fix="Type 'isocost plan LOG', or name another: --ledger FILE"
        )
    return of_ledger(Ledger.read(path), name)


def printed(value: float) -> str:
    """A value as formulas are printed with."""
    return f"{value:.{DIGITS}g}"


def live(node: Node) -> str:
    """A formula with its inputs' values in the place of their names."""
    import ast

    values = {one.name: one.value for one in node.inputs}

    class Live(ast.NodeTransformer):
        def visit_Name(self, name: ast.Name) -> ast.expr:
            return ast.Name(printed(values[name.id])) if name.id in values else name

    return ast.unparse(Live().visit(ast.parse(node.formula, mode="eval")))


def _show_formula(node: Node, level: int) -> None:
    if node.formula:
        show(wrapped(f"= {node.formula}", indent=2 * level))
        show(wrapped(f"= {live(node)}", indent=2 * level))


def _show_inputs(node: Node, level: int, depth: int, shown: set[str], at: CatalogAt) -> None:
    for one in node.inputs:
        key = f"{one.name}={one.value}"
        again = key in shown and bool(one.inputs)
        show(wrapped(f"{one.name} = {_value(one, at)}{_source(one, again)}", indent=2 * level + 2))
        if again:
            continue
        shown.add(key)
        _show_formula(one, level + 2)
        if level < depth:
            _show_inputs(one, level + 1, depth, shown, at)


def _source(node: Node, again: bool) -> str:
    """Where an input comes from, in a few words."""
    if again:
        return "   (as above)"
    if node.how:
        return f"   ({node.how})"
    return f"   {node.facts[0]}" if len(node.facts) == 1 else ""


def _value(node: Node, at: CatalogAt) -> str:
    if node.value != node.value and node.facts:
        from isocost.why import fact_of

        return str(fact_of(at, node.facts[0]).value)
    return f"{printed(node.value)} {'' if node.unit == '1' else node.unit}".strip()


def _cited(at: CatalogAt, ident: str) -> dict[str, object]:
    """A fact with its source; what a plan only estimated has neither value nor source of its own."""
    from isocost.why import fact_of

    try:
        fact = fact_of(at, ident)
    except UnknownFact:
        kind = ident.partition("/")[0]
        known = at.catalog.subjects(f"{kind}/")
        note = f"estimated from facts of {kind}/*: isocost catalog list {kind}" if known else "estimated"
        return {
            "id": ident, "value": None, "unit": "", "low": None, "high": None, "kind": "estimated",
            "checked": None, "quote": "", "note": note, "source": "", "address": "",
        }  # fmt: skip
    source = at.catalog.sources.get(fact.source)
    return {
        "id": ident, "value": fact.value, "unit": fact.unit, "low": fact.low, "high": fact.high,
        "kind": fact.kind, "checked": fact.checked, "quote": fact.quote, "note": fact.note,
        "source": source.title if source else fact.source, "address": source.address if source else "",
    }  # fmt: skip


def _show_facts(node: Node, at: CatalogAt) -> None:
    ids = node.all_facts()
    sources: dict[str, int] = {}
    show("", Text(f"  {plural(len(ids), 'fact')}", "bold"))
    for ident in ids[:MOST_FACTS]:
        fact = _cited(at, ident)
        if fact["value"] is None:
            show(wrapped(f"{ident}, {fact['note']}"))
            continue
        band = f" ({fact['low']} to {fact['high']})" if fact["low"] is not None else ""
        unit = "" if fact["unit"] == "1" else f" {fact['unit']}"
        number = sources.setdefault(
            f"{fact['source']}, checked {fact['checked']}: {fact['address']}", len(sources) + 1
        )
        show(wrapped(f"{ident} = {fact['value']}{unit}{band}, {fact['kind']} [{number}]"))
        for said in (f'"{fact["quote"]}"' if fact["quote"] else "", fact["note"]):
            if said:
                show(Text(wrapped(str(said), indent=6), "dim"))
    if len(ids) > MOST_FACTS:
        show(f"  and {len(ids) - MOST_FACTS} more: --json lists all")
    show("")
    for cited, number in sources.items():
        show(wrapped(cited.removesuffix(": "), f"[{number}] "))
