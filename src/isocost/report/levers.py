"""Levers as a terminal shows them: the sentence, those that apply by their share, then why others do not."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from isocost.plan.levers import Levers
from isocost.plan.shadow import ShadowPrice
from isocost.prompts.worth import Worth
from isocost.units import money, plural

INDENT = 2
TOLD_FRAC = 0.1
"""Share of the saving from which people and other standing costs in it are told."""


def render(
    found: Levers, width: int = 100, limits: Sequence[ShadowPrice] = (), own: Sequence[Worth] = ()
) -> Group:
    """The levers as lines of at most ``width`` columns; ``own``: what the log's prompts say, best first."""
    applies = [one for one in found.levers if one.applies]
    others = [one for one in found.levers if not one.applies]
    parts: list[RenderableType] = [_line(_headline(found, own), width, "bold")]
    if found.unpriced:
        rows = plural(found.unpriced, "row has", "rows have")
        text = f"{rows} no full price and count nothing in today's dollars, which are then at least these."
        parts.append(_line(text, width))
    if found.error_usd:
        parts.append(_line(f"Shares over sampled orders, each to +/- {money(found.error_usd)}.", width))
    if applies:
        table = _table(
            ("lever", False),
            ("saves alone", True),
            ("lost without", True),
            ("fair share", True),
            ("plan", False),
        )
        for one in applies:
            table.add_row(
                f"{one.label} ({one.id})", money(one.alone_usd), money(one.last_usd), money(one.share_usd),
                "used" if one.in_plan else "-",
            )  # fmt: skip
        table.add_row("all together", "", "", Text(money(found.together_usd), "bold"), "")
        parts += ["", Padding(table, (0, 0, 0, INDENT))]
    text = _standing(found)
    if text:
        parts.append(_line(text, width))
    if found.what_ifs:
        table = _table(("yours to pull, by the tenth", False), ("today", True), ("under the plan", True))
        for step in found.what_ifs:
            table.add_row(f"{step.label} ({step.id})", money(step.today_usd), money(step.plan_usd))
        parts += ["", Padding(table, (0, 0, 0, INDENT))]
    if limits:
        parts += ["", _line("what the limits cost:", width, "bold")]
        parts += [_line(one.text, width, indent=4) for one in limits]
    if others:
        parts += ["", _line("do not apply here:", width, "bold")]
        parts += [_line(f"{one.label} ({one.id}): {one.why_not}", width, indent=4) for one in others]
    parts.append("")
    text = "Fair share: the mean gain over all orders (Shapley), standing costs included; shares sum exactly."
    parts.append(_line(text, width))
    return Group(*parts)


def _headline(found: Levers, own: Sequence[Worth]) -> str:
    base, plan = money(found.same_use_usd), money(found.same_use_usd - found.together_usd)
    if found.together_usd < 0.5 and own:
        best = own[0]
        return (
            f"{found.title}: no other model or provider saves anything at {base} a month; by its "
            f"own prompts, {best.label} saves {money(best.saves.usd)}."
        )
    if found.together_usd < 0.5:
        return f"{found.title}: no lever saves anything on this traffic, at {base} a month."
    moved = found.same_use_usd - found.today_usd
    text = f"{found.title}: all levers together take {base} a month to {plan}"
    if abs(moved) >= 0.005 * max(1.0, found.today_usd):
        text += f" (today's bill is {money(found.today_usd)}: prices and failed calls make the difference)"
    return text + "."


def _standing(found: Levers) -> str:
    """How much of the saving is not of answers; blank where that is next to nothing."""
    if found.together_usd < 0.5 or abs(found.standing_usd) < TOLD_FRAC * found.together_usd:
        return ""
    answers = found.together_usd - found.standing_usd
    parts = {"answers": answers, "people, tools and duties": found.standing_usd}
    said = [
        f"{money(abs(usd))} a month {'less' if usd >= 0 else 'more'} for {name}"
        for name, usd in parts.items()
    ]
    return f"All together that is {' and '.join(said)}."


def _line(text: str, width: int, style: str = "", indent: int = INDENT) -> Text:
    lead = " " * indent
    lines = textwrap.wrap(
        text, width, initial_indent=lead, subsequent_indent=lead + ("  " if indent > INDENT else ""),
        break_on_hyphens=False,
    )  # fmt: skip
    return Text("\n".join(lines), style)


def _table(*heads: tuple[str, bool]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="")
    for head, right in heads:
        table.add_column(head, justify="right" if right else "left", no_wrap=right)
    return table
