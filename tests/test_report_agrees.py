"""One plan told four ways, in the terminal, on the page, on the page to sign and as JSON: the same figures.

Each is read back as a stranger would read it, from its text; none is asked for what it was made from.
"""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from typing import Any, NamedTuple

import msgspec
import pytest
from rich.console import Console

from isocost.plan.result import PlanResult
from isocost.report import render, signing, terminal
from test_report import case

WIDTH = 240
GAP = re.compile(r"\s{2,}")
BAND = re.compile(r"80 ?% band (\$[\d.]+[kM]?) to (\$[\d.]+[kM]?)")


class Told(NamedTuple):
    """What one way of telling says: dollars a month and share by row, the whole, its band, dollars by
    option."""

    usd: dict[str, int]
    share: dict[str, str]
    whole: int
    band: tuple[str, str]
    options: dict[str, int]


class Tables(HTMLParser):
    """Cells of every table, row by row; small print under a cell's first words is left out."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tables: list[list[list[str]]] = []
        self._cell = self._sub = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "table":
            self.tables.append([])
        elif tag == "tr" and self.tables:
            self.tables[-1].append([])
        elif tag in ("td", "th") and self.tables:
            self.tables[-1][-1].append("")
            self._cell = True
        self._sub = tag == "span" and dict(attrs).get("class") == "sub"

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self._cell = False
        self._sub = False

    def handle_data(self, data: str) -> None:
        if self._cell and not self._sub:
            self.tables[-1][-1][-1] += data.strip()


def dollars(text: str) -> int:
    return int(text.replace("$", "").replace(",", ""))


def from_terminal(result: PlanResult) -> Told:
    console = Console(width=WIDTH, no_color=True)
    with console.capture() as shown:
        console.print(terminal.render(result, WIDTH))
    lines = shown.get().splitlines()
    rows = [GAP.split(line.strip()) for line in lines]
    start = next(i for i, row in enumerate(rows) if row[0] == "least-cost plan")
    end = next(i for i in range(start, len(rows)) if rows[i] == [""])
    told = rows[start + 1 : end]
    head = next(i for i, row in enumerate(rows) if row[0] == "all on one")
    options = {}
    for row in rows[head + 1 :]:
        if len(row) < 3 or not re.fullmatch(r"[\d,]+", row[2]):
            break
        options[row[0]] = dollars(row[2])
    band = BAND.search("\n".join(lines))
    assert band is not None
    return Told(
        {row[0]: dollars(row[1]) for row in told}, {row[0]: row[4] for row in told},
        dollars(rows[start][1]), (band[1], band[2]), options,
    )  # fmt: skip


def from_page(result: PlanResult) -> Told:
    html = render(result)
    plan, *rest = Tables(html).tables
    body = [row for row in plan[1:] if not row[0].startswith("Today")]
    pillars = next(table for table in rest if table[0][0] == "" and table[0][1].startswith("Today"))
    total = next(row for row in pillars if row[0].startswith("Total"))
    names = ["today", "API", "hosted", "self-hosted", "small model", "the plan"]
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html))
    band = list(BAND.finditer(text))
    return Told(
        {row[0]: dollars(row[1]) for row in body[:-1]}, {row[0]: row[4] for row in body[:-1]},
        dollars(body[-1][1]), (band[1][1], band[1][2]),
        {name: dollars(cell) for name, cell in zip(names, total[1:], strict=True)},
    )  # fmt: skip


def from_memo(result: PlanResult) -> Told:
    text = signing.page(result, None)
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("| ")
    ][1:]
    band = BAND.search(text)
    assert band is not None
    return Told(
        {row[0]: dollars(row[1]) for row in cells[:-1]}, {row[0]: row[2] for row in cells[:-1]},
        dollars(cells[-1][1]), (band[1], band[2]), {},
    )  # fmt: skip


def from_json(result: PlanResult) -> Told:
    doc: dict[str, Any] = json.loads(msgspec.json.encode(result))
    lines = {one["label"]: one for one in doc["lines"]}
    shares = {name: one["share_frac"] for name, one in lines.items()}
    low, high = (f"${doc['plan_usd'][end] / 1000:.1f}k" for end in ("low", "high"))
    names = {"today": "today", "api": "API", "hosted": "hosted", "selfhost": "self-hosted",
             "slm": "small model", "mix": "the plan"}  # fmt: skip
    return Told(
        {name: round(one["usd_per_month"]) for name, one in lines.items()},
        {name: f"{share:.0%}" if share else "-" for name, share in shares.items()},
        round(doc["plan_usd"]["mid"]), (low, high),
        {names[one["option"]]: round(one["usd_per_month"]["mid"]) for one in doc["options"]},
    )  # fmt: skip


@pytest.fixture(scope="module")
def result() -> PlanResult:
    return case("support")


@pytest.mark.parametrize("tell", [from_terminal, from_page, from_memo])
def test_every_way_of_telling_a_plan_has_its_figures(result: PlanResult, tell: Any) -> None:
    truth, told = from_json(result), tell(result)
    assert told.usd == truth.usd
    assert {name: share.replace("—", "-") for name, share in told.share.items()} == truth.share
    assert told.whole == truth.whole == sum(told.usd.values())
    assert told.band == truth.band
    if told.options:
        assert told.options == truth.options


def test_a_figure_that_is_changed_is_seen(result: PlanResult) -> None:
    """The readings above read the text: a plan of other figures reads differently."""
    first = msgspec.structs.replace(result.lines[1], usd_per_month=result.lines[1].usd_per_month + 700)
    whole = msgspec.structs.replace(result.plan_usd, mid=result.plan_usd.mid + 700)
    lines = [result.lines[0], first, *result.lines[2:]]
    other = msgspec.structs.replace(result, lines=lines, plan_usd=whole)
    for tell in (from_terminal, from_page, from_memo):
        assert tell(other).usd != tell(result).usd
        assert tell(other).usd == from_json(other).usd
