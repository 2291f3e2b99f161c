"""What a log's prompts say, as a terminal shows it: the sentence, then a table a question, then how sure."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from isocost.prompts.result import Band, Filled, Found, Lives, Prompts, Searched, Simple, Trim, Waiting
from isocost.prompts.worth import Worth
from isocost.units import money, money_range, percent, plural, span

INDENT = 2
MOST_ROWS = 8
WIDE = 92
"""Columns from which tables have all their cells."""


def render(found: Prompts, width: int = 100) -> Group:
    """All that was asked for, in lines of at most ``width`` columns."""
    parts: list[RenderableType] = [_line(_headline(found), width, "bold", 0)]
    least = "at least " if found.at_least else ""
    usd = f"{least}{money(found.usd_per_month)} a month as logged"
    if found.at_least and not found.usd_per_month:
        usd = "at prices that are not known"
    text = f"{plural(found.requests, 'request')} in {span(found.days)}, {usd}."
    text += f" Prices of {found.priced_on}."
    parts.append(_line(text, width))
    for section in (
        _prefixes(found, width), _caches(found.lives, width), _waiting(found.waiting, found.filled, width),
        _retrieval(found, width), _lengths(found.trims, width), _rules(found.simple, width),
    ):  # fmt: skip
        shown = list(section)
        if shown:
            parts += ["", *shown]
    if found.notes:
        parts += ["", *(_line(f"{_capital(note)}.", width) for note in found.notes)]
    text = (
        "In brackets, 80 %: other months like this log (its parts drawn anew), and lives and hits of caches "
        "as their facts have them. One question alone: --view caches."
    )
    parts += ["", _line(text, width)]
    return Group(*parts)


def render_worths(found: Sequence[Worth], width: int = 100) -> Group:
    """What the prompts of a log say each lever is worth."""
    text = "on this log's own prompts, each alone:"
    table = _table(("lever", False), ("saves a month", False))
    for one in found:
        table.add_row(f"{one.label} ({one.ids}){' *' if one.note else ''}", _band(one.saves))
    more = "Where and how: isocost prompts."
    notes = sorted({one.note for one in found if one.note})
    said = f"{more} * {_capital('; '.join(notes))}." if notes else more
    return Group(
        _line(text, width, "bold"), Padding(table, (0, 0, 0, INDENT + 2)), _line(said, width, indent=4)
    )


def _headline(found: Prompts) -> str:
    """The largest saving that was found, in a sentence."""
    choices: list[tuple[float, str]] = []
    if found.found_saves is not None and found.found_saves.usd > 0:
        kinds = list(dict.fromkeys(one.kind for one in found.found if one.saves.usd > 0))
        what = " and ".join(kinds[:2]) + (" …" if len(kinds) > 2 else "")
        choices.append((found.found_saves.usd, f"mending what breaks prefixes ({what})"))
    best = [one.saves.usd for one in found.lives if one.saves is not None and one.saves.usd > 0]
    if best:
        choices.append((sum(best), "the cheapest prompt cache for each workload"))
    late = [one.waits[-1].saves for one in found.waiting if one.may in ("declared", "likely")]
    if worth := sum(one.usd for one in late if one is not None):
        choices.append((worth, "a batch for what may wait a day"))
    if equal := sum(one.repeat_saves.usd for one in found.simple if one.repeat_saves is not None):
        choices.append((equal, "an exact cache of answers"))
    if not choices:
        return f"{found.title}: nothing was found that would make its prompts cheaper."
    usd, what = max(choices)
    return f"{found.title}: {what} saves {money(usd)} a month."


def _prefixes(found: Prompts, width: int) -> Iterator[RenderableType]:
    if "prefixes" not in found.views:
        return
    saves = "" if found.found_saves is None else f": {_band(found.found_saves)} a month to be saved"
    yield _line(f"what breaks prefixes{saves if found.found else ''}", width, "bold")
    if not found.found:
        said = (
            found.known_says if found.lost_frac is None else f"nothing that one change mends: {_lost(found)}"
        )
        yield _line(f"{_capital(said)}.", width)
        return
    rows = found.found[:MOST_ROWS]
    shares = (("requests", True), ("read now", True), ("then", True), ("saves/month", True))
    table = _table(("", False), ("what varies", False), *shares)
    for i, one in enumerate(rows):
        table.add_row(
            f"{i + 1}", _where(one), f"{one.requests:,}", percent(one.read_before_frac),
            percent(one.read_after_frac), money(one.saves.usd),
        )  # fmt: skip
    yield Padding(table, (0, 0, 0, INDENT))
    for i, one in enumerate(rows):
        yield _line(f"{i + 1} {_advice(one)}", width, indent=4)
    yield _line(f"Left over: {_lost(found)}. {_capital(found.known_says)}.", width)


def _lost(found: Prompts) -> str:
    share = percent(found.lost_frac or 0.0)
    return f"{share} of the input was sent before behind another beginning"


def _where(one: Found) -> str:
    place = f", characters {one.first_char}-{one.last_char}" if one.first_char else ""
    part = f" in {one.part}" if one.part and one.part != "tools" else ""
    workload = f" ({one.workload})" if one.workload else ""
    return f"{one.kind}{part}{place}{workload}"


def _advice(one: Found) -> str:
    after = f', after "{one.before}"' if one.before else ""
    once = "" if one.number == 1 else ", counted once the one above is mended"
    worth = f"saves {_band(one.saves)}{once}" if not one.why_nothing else f"saves nothing: {one.why_nothing}"
    return f"{one.kind} behind {one.after_tok:,} tokens of prefix{after}: {one.mend}; {worth}."


def _caches(lives: Sequence[Lives], width: int) -> Iterator[RenderableType]:
    if not lives:
        return
    yield _line("lives of caches: share of input by when its beginning was last sent, $/month", width, "bold")
    known = any(one.logged_usd_per_month is not None for one in lives)
    ages = (("< 5 min", True), ("5-60 min", True), ("later", True), ("new", True))
    now = ("logged" if known else "no cache", True)
    table = _table(("workload", False), *ages, now, ("cheapest", False), ("then", True))
    for one in lives[:MOST_ROWS]:
        best = next((way for way in one.ways if way.id == one.best), None)
        again, plain = one.reread, one.plain_usd_per_month
        plain = plain if one.logged_usd_per_month is None else one.logged_usd_per_month
        shares = (again.within_5m, again.within_1h, again.later, again.never)
        table.add_row(
            one.workload or one.model, *map(percent, shares), "-" if plain is None else money(plain),
            "none" if best is None else best.title,
            "-" if best is None or best.usd_per_month is None else money(best.usd_per_month),
        )  # fmt: skip
    yield Padding(table, (0, 0, 0, INDENT))
    for one in lives[:MOST_ROWS]:
        logged = (
            "" if one.logged_read_frac is None else f"; {percent(one.logged_read_frac)} was read as logged"
        )
        if one.says or logged:
            yield _line(
                f"{one.workload or one.model}: {one.says or 'a cache pays'}{logged}.", width, indent=4
            )
    first = lives[0]
    yield _line(f"Every way on {first.workload or first.model}:", width)
    heads = [("way", False), ("read", True), ("written", True), ("input cost", True), ("$/month", True)]
    heads += [("least", True)] if width >= WIDE else []
    table = _table(*heads, ("saves, or at whose prices", False))
    for way in first.ways:
        usd = "-" if way.usd_per_month is None else money(way.usd_per_month)
        cells = [way.title, percent(way.read_frac), percent(way.written_frac)]
        cells += ["-" if way.input_frac is None else percent(way.input_frac), usd]
        cells += [f"{way.least_tok:,}" if way.least_tok else "-"] if width >= WIDE else []
        table.add_row(*cells, _band(way.saves) if way.saves is not None else way.priced_as)
    yield Padding(table, (0, 0, 0, INDENT + 2))
    yield _line(
        "Input cost: of what the same input costs there without a cache. A way of another provider is only "
        "a measure, as its model is another. What prompts share is marked, no more; least: tokens of a "
        "prefix that is kept.",
        width,
    )


def _waiting(waits: Sequence[Waiting], filled: Sequence[Filled], width: int) -> Iterator[RenderableType]:
    if not waits:
        return
    hours = [one.deadline_h for one in waits[0].waits]
    yield _line("what waiting saves a month, by how long an answer may take", width, "bold")
    deadlines = ((f"{h:g} h", True) for h in hours)
    table = _table(("workload", False), ("may wait", False), ("$/month", True), *deadlines)
    flexible = False
    for one in waits[:MOST_ROWS]:
        cells = []
        for wait in one.waits:
            flexible |= wait.saves is not None and not wait.promised
            mark = "" if wait.promised or wait.saves is None else "*"
            cells.append("-" if wait.saves is None else f"{money(wait.saves.usd)}{mark}")
        usd = "-" if one.usd_per_month is None else money(one.usd_per_month)
        table.add_row(one.workload or "all", one.may, usd, *cells)
    yield Padding(table, (0, 0, 0, INDENT))
    if flexible:
        yield _line("* a flexible tier: cheaper and slower, and no time is promised.", width, indent=4)
    alike: dict[str, list[str]] = {}
    for one in waits[:MOST_ROWS]:
        alike.setdefault(one.because, []).append(one.workload or "all")
    for because, names in alike.items():
        yield _line(f"{', '.join(names)}: {because}.", width, indent=4)
    if not filled:
        return
    late = f"{max(one.missed for one in filled):,} of {filled[0].deferred:,} late in a replay by deadlines"
    least = min(one.capacity_frac for one in filled)
    if least > 0.995:
        text = "waiting spares no capacity, as the busiest minutes are of what may not wait"
    else:
        shares = ", ".join(f"{percent(one.capacity_frac)} at {one.deadline_h:g} h" for one in filled)
        text = f"with what may wait done in quiet hours, so much of the capacity is enough: {shares}"
    yield _line(f"On own replicas {text} ({late}).", width)


def _retrieval(found: Prompts, width: int) -> Iterator[RenderableType]:
    if not found.searched:
        return
    yield _line("retrieval in the place of long prompts, dollars a month", width, "bold")
    heads = [("workload", False), ("long", True), ("tokens", True), ("then", True), ("today", True)]
    heads += [("model", True), ("embed", True), ("rank", True), ("store", True)] if width >= WIDE else []
    table = _table(*heads, ("saves", False))
    for one in found.searched[:MOST_ROWS]:
        table.add_row(one.workload or one.model, *_search_cells(one, width))
    yield Padding(table, (0, 0, 0, INDENT))
    one = found.searched[0]
    text = f"Store: {one.store}, for {one.unique_mtok:,.0f} Mtok of text a month ({one.unique_from})"
    yield _line(f"{text}. Today is with the cheapest cache.", width)
    said = sorted(found.studies, key=lambda study: study.delta_points)
    if said:
        low, high = said[0], said[-1]
        yield _line(
            f"What it does to your answers is not known. Published, retrieval less the whole text: from "
            f"{low.delta_points:+.1f} points ({low.model}, {low.asked_on}) to {high.delta_points:+.1f} "
            f"({high.model}, {high.asked_on}). Grade both ways on a sample: isocost measure.", width,
        )  # fmt: skip


def _search_cells(one: Searched, width: int) -> tuple[str, ...]:
    numbers = (one.model_usd, one.embed_usd, one.rerank_usd, one.store_usd) if width >= WIDE else ()
    lengths = (percent(one.long_frac), f"{one.mean_tok:,.0f}", f"{one.then_tok:,.0f}")
    return (*lengths, money(one.today_usd), *(money(usd) for usd in numbers), _band(one.saves))


def _lengths(trims: Sequence[Trim], width: int) -> Iterator[RenderableType]:
    if not trims:
        return
    yield _line("limits on lengths: tokens of a cap, and what it saves a month", width, "bold")
    shares = (0.01, 0.1) if width >= WIDE else (0.1,)
    heads = [("workload", False), ("cap on", False), *((f"cuts {percent(share)}", True) for share in shares)]
    table = _table(*heads, ("knee", True), ("cuts", True), ("saves there", False))
    ranked = sorted(trims, key=lambda one: -one.knee_saves.usd)[:MOST_ROWS]
    for one in ranked:
        cells = []
        for share in shares:
            cap = min(one.caps, key=lambda cap, share=share: abs(cap.cut_frac - share))  # type: ignore[misc]
            cells.append(f"{cap.cap_tok:,}: {money(cap.saves_usd)}")
        at = one.caps[one.knee]
        cells += [f"{at.cap_tok:,}", percent(at.cut_frac), _band(one.knee_saves)]
        many = len({trim.model for trim in trims if trim.workload == one.workload}) > 1
        name = f"{one.workload} on {one.model.rpartition('/')[2]}" if many and width >= WIDE else one.workload
        table.add_row(name or one.model, one.side, *cells)
    yield Padding(table, (0, 0, 0, INDENT))
    if len(trims) > len(ranked):
        more = f"and {len(trims) - len(ranked)} more that save less (--json has them all)"
        yield _line(more, width, indent=4)
    yield _line(
        "Knee: a stricter cap saves less than its part for each request cut. What is lost by cutting is not "
        "known: grade requests that the cap would cut, whole and cut (isocost measure).", width,
    )  # fmt: skip


def _rules(simple: Sequence[Simple], width: int) -> Iterator[RenderableType]:
    if not simple:
        return
    yield _line("rules or a classifier first", width, "bold")
    table = _table(("workload", False), ("repeats", True), ("cached $", True), ("templated", True),
                   ("short", True), ("their $", True), ("half answered", True))  # fmt: skip
    ranked = sorted(simple, key=lambda one: -one.short_usd)[:MOST_ROWS]
    for one in ranked:
        half = next((usd for share, usd in one.ladder if share == 0.5), None)
        repeat, alike = ("-" if x is None else percent(x) for x in (one.repeat_frac, one.alike_frac))
        kept = "-" if one.repeat_saves is None else money(one.repeat_saves.usd)
        worth = "-" if half is None else money(half, sign=True)
        short = percent(one.short_frac), money(one.short_usd)
        table.add_row(one.workload or "all", repeat, kept, alike, *short, worth)
    yield Padding(table, (0, 0, 0, INDENT))
    own, once = max(one.own_usd for one in simple), simple[0].once_usd
    yield _line(
        "Cached: dollars a month of prompts whose equal was answered within a day. "
        "Short: answers no longer than a label. Half answered: dollars a month with the classifier's own "
        f"costs taken off, some {money(own)} a month (most of it the part of a person who keeps it right), "
        f"beside {money(once)} once. Whether it is right as often as the model, graded samples must say.",
        width,
    )  # fmt: skip


def _band(band: Band) -> str:
    if abs(band.usd) < 0.005:
        return "$0"
    return f"{money(band.usd)} ({money_range(band.low_usd, band.high_usd)})"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _line(text: str, width: int, style: str = "", indent: int = INDENT) -> Text:
    lead = " " * indent
    more = lead + ("  " if indent > INDENT else "")
    lines = textwrap.wrap(text, width, initial_indent=lead, subsequent_indent=more, break_on_hyphens=False)
    return Text("\n".join(lines), style)


def _table(*heads: tuple[str, bool]) -> Table:
    """A table of headings, each with whether it is of numbers; of words, only the last column wraps."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for i, (head, right) in enumerate(heads):
        wraps = not right and (i == len(heads) - 1 or (i == 1 and heads[0][0] == ""))
        table.add_column(head, justify="right" if right else "left", no_wrap=not wraps, overflow="fold")
    return table
