"""The one page that goes to whoever signs: the answer, what it commits to, how sure, what would change it.

The page is made of blocks, written as Markdown or as one HTML file that needs no network.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files

from isocost.plan.path.result import PathResult, Rival, Step
from isocost.plan.result import PlanResult
from isocost.report import palette
from isocost.report.sections import limit_name, quantity
from isocost.report.words import sure
from isocost.units import count, money, money_range, percent

LINES_MOST = 6
SWINGS_MOST = 3
RIVALS_MOST = 3
MEASURED_MOST = 4
VOLUMES_MOST = 4
STEPS_MOST = 6
TODAY = "as today"


@dataclass(frozen=True)
class Heading:
    """A heading; level 1 is the page's own."""

    text: str
    level: int = 2


@dataclass(frozen=True)
class Para:
    """A paragraph; ``strong`` is the answer, ``fine`` the small print."""

    text: str
    strong: bool = False
    fine: bool = False


@dataclass(frozen=True)
class Table:
    """Rows under their heads; ``right`` are the columns of figures."""

    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    right: frozenset[int]


@dataclass(frozen=True)
class Points:
    """A list."""

    items: tuple[str, ...]


@dataclass(frozen=True)
class Sign:
    """The lines to sign on."""

    fields: tuple[str, ...]


Block = Heading | Para | Table | Points | Sign


def page(result: PlanResult, path: PathResult | None) -> str:
    """The page as Markdown."""
    return "\n\n".join(_markdown(block) for block in blocks(result, path)) + "\n"


def html(result: PlanResult, path: PathResult | None) -> str:
    """The page as one HTML file."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    env = Environment(
        loader=PackageLoader("isocost.report"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    style = files("isocost.report").joinpath("assets", "signing.css").read_text(encoding="utf-8")
    shown = [(type(block).__name__.lower(), block) for block in blocks(result, path)]
    return env.get_template("signing.html.j2").render(
        title=f"{result.title}: what to run", blocks=shown, style=style, colours=palette.css()
    )


def blocks(result: PlanResult, path: PathResult | None) -> list[Block]:
    """What the page says, in order."""
    trace = result.trace
    found: list[Block] = [Heading(f"{result.title}: what to run", 1)]
    if path is None:
        found += [Para(result.headline, strong=True), Para(f"{_now(result)} {result.detail}")]
        found += [_lines(result)]
    else:
        found += [Para(path.headline, strong=True), Para(_ahead(result, path))]
        found += _to_sign(path)
        found += [Heading("What runs, and what it costs"), _steps(path)]
        if said := _dates(path):
            found.append(Points(said))
        found += [Heading("How sure, and what being wrong costs"), _rivals(path)]
        found += _cheapest(path)
    if first := _measure(result, path):
        found += [Heading("What to measure before signing"), Points(first)]
    found += [Heading("What would change it"), Points(_swings(result, path))]
    if held := _held(result):
        found.append(Para(held))
    found.append(Sign(("Approved by", "Date", "Up to, in $ a month")))
    rests = (
        f"Rests on {len(result.facts)} facts, {result.stale_facts} of them old; prices of {result.priced_on}"
    )
    rests += f", basis {result.price_basis}; {count(trace.requests_per_month)} requests a month, trace"
    found.append(Para(f"{rests} {trace.digest}; isocost {result.version}.", fine=True))
    return found


def _now(result: PlanResult) -> str:
    """The month's band, and whether it is surely cheaper than today."""
    text = f"80 % band {money_range(result.plan_usd.low, result.plan_usd.high)} a month"
    if result.sure is None or result.plan_usd.mid >= result.today_usd.mid:
        return f"{text}."
    return f"{text}; cheaper than today in {sure(result.sure.plan_cheaper_frac)} of scenarios."


def _ahead(result: PlanResult, path: PathResult) -> str:
    """The path in figures: its band, today's month beside it, its growth and prices."""
    today = next((one for one in path.rivals if one.way == TODAY), None)
    said = [f"80 % band {money_range(path.band.low, path.band.high)}."]
    if today is not None and today.usd is not None and today.usd > path.usd * 1.001:
        said.append(f"Staying as today would cost {money(today.usd)}.")
    said.append(f"Today's month costs {money(result.today_usd.mid)}.")
    grows = f"Traffic is taken to grow {percent(path.growth_per_month)} a month"
    prices = "prices to move as forecast" if path.prices == "forecast" else "prices to stay"
    said.append(f"{grows}, {prices}; future money counts at today's value.")
    return " ".join(said)


def _lines(result: PlanResult) -> Table:
    """What runs now, and all that it costs: the rows sum to the last one."""
    served = [line for line in result.lines if line.option != "people"]
    rest = served[LINES_MOST:]
    shown = served[:LINES_MOST] + [line for line in result.lines if line.option == "people"]
    rows = [_row(line.label, line.usd_per_month, line.share_frac, line.quality) for line in shown]
    if rest:
        usd, share = (sum(getattr(line, name) for line in rest) for name in ("usd_per_month", "share_frac"))
        rows.insert(LINES_MOST, _row(f"{len(rest)} more", usd, share, ""))
    if rows:
        rows.append(_row("in all", sum(line.usd_per_month for line in result.lines), 0.0, ""))
    return Table(("what runs", "$/month", "share", "quality"), tuple(rows), frozenset({1, 2}))


def _row(label: str, usd: float, share_frac: float, quality: str) -> tuple[str, ...]:
    return label, f"{usd:,.0f}", percent(share_frac) if share_frac else "-", quality or "-"


def _to_sign(path: PathResult) -> list[Block]:
    """The commitments, and all that they promise."""
    if not path.signings:
        return [Heading("What to sign"), Para("Nothing is to be signed.")]
    rows = []
    for one in path.signings:
        when = "held already" if one.held else one.label
        rows.append(
            (when, f"{one.count}x {one.gpu}", "-" if one.held else one.term, one.until,
             f"{one.usd_per_gpu_h:.2f}", "-" if one.held else money(one.usd), percent(one.used_frac))
        )  # fmt: skip
    found: list[Block] = [
        Heading("What to sign"),
        Table(("when", "accelerators", "term", "until", "$/GPU-h", "in all", "used"), tuple(rows),
              frozenset({4, 5, 6})),
    ]  # fmt: skip
    owed = sum(one.beyond_usd for one in path.signings)
    if owed:
        found.append(Para(f"{money(owed)} of it is still owed when the horizon ends."))
    if all(one.held for one in path.signings):
        found.append(Para("Nothing new is to be signed."))
    return found


def _steps(path: PathResult) -> Table:
    """Quarters, those alike in one row."""
    groups: list[list[Step]] = []
    for step in path.steps:
        last = groups[-1][-1] if groups else None
        if last is not None and step.way == last.way and step.committed == last.committed:
            groups[-1].append(step)
        else:
            groups.append([step])
    while len(groups) > STEPS_MOST:
        at = min(range(len(groups) - 1), key=lambda i: len(groups[i]) + len(groups[i + 1]))
        groups[at : at + 2] = [groups[at] + groups[at + 1]]
    rows = []
    for group in groups:
        first, last = group[0], group[-1]
        many = len(group) > 1
        ways = list(dict.fromkeys(step.way for step in group))
        rows.append(
            (
                first.label.replace(" ", "\u00a0"),
                "; then ".join(ways),
                count(first.requests_per_month) + (f" to {count(last.requests_per_month)}" if many else ""),
                money(first.usd_per_month) + (f" to {money(last.usd_per_month)}" if many else ""),
                _replicas(group),
                percent(max(step.api_frac for step in group)),
            )
        )
    heads = ("from", "what runs", "requests a month", "$ a month", "replicas at most", "to an API, at most")
    return Table(heads, tuple(rows), frozenset({2, 3, 4, 5}))


def _replicas(group: list[Step]) -> str:
    """The most replicas of some quarters, and how many of them are committed."""
    most = max(group, key=lambda step: step.peak)
    if not most.peak:
        return "-"
    return f"{most.peak}, {most.committed} signed" if most.committed else str(most.peak)


def _dates(path: PathResult) -> tuple[str, ...]:
    """What happens when: changes, the hours of APIs, limits that growth meets."""
    said = [f"{step.label}: {step.change}." for step in path.steps if step.change]
    mixed = [step for step in path.steps if step.peak and step.api_hours]
    if mixed:
        one = max(mixed, key=lambda step: step.api_frac)
        said.append(f"{one.label}: {percent(one.api_frac)} goes to {one.api}, {one.api_when}.")
    for met in path.met:
        cost = f"{money(met.usd)} over the horizon" if met.usd >= 1.0 else "nothing more"
        said.append(f"{met.since}: {met.what}: {met.instead}; it costs {cost}.")
    return tuple(said)


def _rivals(path: PathResult) -> Table:
    """Each way kept throughout, beside the path."""
    band = money_range(path.band.low, path.band.high)
    rows = [("the path", money(path.usd), band, "", "")]
    shown: list[Rival] = path.rivals[:RIVALS_MOST]
    shown = shown + [one for one in path.rivals[RIVALS_MOST:] if one.way == TODAY]
    for one in shown:
        low_high = "-" if one.band is None else money_range(one.band.low, one.band.high)
        usd = "-" if one.usd is None else money(one.usd)
        name = f"{one.way} ({one.why_not})" if one.why_not else one.way
        rows.append((name, usd, low_high, sure(one.cheapest_frac), money(one.regret_usd)))
    heads = ("kept throughout", "cost", "80 % band", "cheapest in", "cost of being wrong")
    return Table(heads, tuple(rows), frozenset({1, 2, 3, 4}))


def _cheapest(path: PathResult) -> list[Block]:
    """Who is cheapest by volume and horizon, in a few rows; one sentence where it is always the same."""
    if not path.cells:
        return []
    volumes = sorted({cell.requests_per_month for cell in path.cells})
    ways = {cell.way for cell in path.cells}
    if len(ways) == 1:
        least = min(cell.frac for cell in path.cells)
        way, low, high = ways.pop(), count(volumes[0]), count(volumes[-1])
        text = f"From {low} to {high} requests a month {way} is the cheapest, in {sure(least)} of scenarios"
        return [Para(f"{text} or more, over every horizon.")]
    step = max(1, len(volumes) // VOLUMES_MOST)
    some = volumes[::step]
    horizons = sorted({cell.months for cell in path.cells})
    at = {(cell.requests_per_month, cell.months): cell for cell in path.cells}
    rows = tuple(
        (
            count(volume),
            *(f"{at[volume, months].way}, {sure(at[volume, months].frac)}" for months in horizons),
        )
        for volume in some
    )
    heads = ("cheapest at a steady volume of", *(f"over {months} months" for months in horizons))
    return [Table(heads, rows, frozenset())]


def _measure(result: PlanResult, path: PathResult | None) -> tuple[str, ...]:
    """What is worth knowing first, in dollars."""
    if path is None:
        return tuple(
            f"{one.label} would save {money(one.saves_usd_per_month)} a month, if it passes on your answers; "
            f"today: {one.evidence}."
            for one in result.unproven[:1]
        )
    found = [(one.usd, f"Know {one.label}: worth up to {money(one.usd)}.") for one in path.worths]
    for proof in path.proofs:
        odds = "how likely is not published" if proof.odds is None else f"{sure(proof.odds)} likely to pass"
        text = (
            f"Grade {proof.samples:,} answers of {proof.way} (about {money(proof.grading_usd)}): worth up to "
            f"{money(proof.worth_usd)}; it saves {money(proof.saves_usd)} if it passes, {odds}."
        )
        found.append((proof.worth_usd, text))
    return tuple(text for _, text in sorted(found, key=lambda one: -one[0])[:MEASURED_MOST])


def _swings(result: PlanResult, path: PathResult | None) -> tuple[str, ...]:
    said = [
        f"{swing.label}: the month of the plan costs {money(swing.low_usd)} to {money(swing.high_usd)}."
        for swing in result.swings[:SWINGS_MOST]
    ]
    if path is not None and path.falling is not None:
        one = path.falling
        said.append(
            "Prices of one quality: were it always bought where it is cheapest, as such prices have fallen, "
            f"APIs alone would cost {money(one.usd)} ({money_range(one.band.low, one.band.high)}); the path "
            f"is cheaper in {sure(one.path_wins_frac)} of scenarios. A long commitment bets on one model."
        )
    return tuple(said)


def _held(result: PlanResult) -> str:
    """What is promised, to whom, and what became of it."""
    status: dict[str, dict[str, list[str]]] = {}
    for limit in result.limits:
        if limit.status == "no limit":
            continue
        target = f"{limit_name(limit.name)} {quantity(limit.target, limit.unit)}"
        status.setdefault(limit.status, {}).setdefault(target, []).append(limit.workload)
    said = (
        f"{word}: " + "; ".join(f"{target} for {', '.join(whom)}" for target, whom in targets.items())
        for word, targets in status.items()
    )
    return "".join(f"Limits {one}. " for one in said).strip()


def _markdown(block: Block) -> str:
    match block:
        case Heading():
            return f"{'#' * block.level} {block.text}"
        case Para():
            return f"**{block.text}**" if block.strong else f"_{block.text}_" if block.fine else block.text
        case Points():
            return "\n".join(f"- {item}" for item in block.items)
        case Sign():
            return "## To sign\n\n" + "    ".join(f"{name}: ____________________" for name in block.fields)
        case Table():
            edges = ["---:" if i in block.right else "---" for i in range(len(block.heads))]
            lines = [block.heads, tuple(edges), *block.rows]
            return "\n".join("| " + " | ".join(line) + " |" for line in lines).replace("| ---", "|---")
