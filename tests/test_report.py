"""The page of a plan: what it says, what it may reach, and that its parts sum to the whole."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from isocost import report
from isocost.plan.result import Band, BreakEven, Hours, Lever, Line, PlanResult, Sure, TraceNote, Turn
from isocost.report import sections, words
from isocost.report.chart import Chart
from isocost.report.charts import BUILDERS
from isocost.report.charts.breakeven import at, sliders
from isocost.report.charts.odds import turns
from isocost.report.charts.waterfall import steps

CASES = Path(__file__).parent / "cases" / "report"
ORDER = ["isoquant", "breakeven", "frontier", "latency", "hours", "waterfall", "tornado", "band"]


def case(name: str) -> PlanResult:
    return msgspec.json.decode((CASES / f"{name}.json").read_bytes(), type=PlanResult)


class Page(HTMLParser):
    """Elements, their attributes, and the text outside scripts and styles."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._silent = False
        self.feed(html)
        self.text = re.sub(r"\s+", " ", " ".join(self.words))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._silent = tag in ("script", "style")

    def handle_endtag(self, tag: str) -> None:
        if tag in ("script", "style"):
            self._silent = False

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.words.append(data)

    def ids(self) -> list[str]:
        return [attrs["id"] for tag, attrs in self.elements if tag == "section" and attrs.get("id")]


@pytest.fixture(scope="module")
def support() -> PlanResult:
    return case("support")


@pytest.fixture(scope="module")
def html(support: PlanResult) -> str:
    return report.render(support)


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


def test_reading_order(page: Page) -> None:
    assert page.ids() == [
        "plan",
        *["isoquant", "breakeven", "turns", "frontier", "latency", "hours", "waterfall", "pillars"],
        *["life", "tornado", "band", "cheapest", "limits", "unproven", "facts", "trace", "next"],
    ]


def test_the_headline_and_every_line_are_there(page: Page, support: PlanResult) -> None:
    assert support.headline in page.text
    for line in support.lines:
        assert words.usd(line.usd_per_month) in page.text
    for figure in (
        "$118k",
        "$79.0k",
        "80% band $71.0k to $90.0k",
        "$39.0k",
        "$468k a year",
        "4 of 5",
        "1 unverified",
        "0.4%",
    ):
        assert figure in page.text
    for fact in support.facts:
        assert fact.source in page.text
        assert fact.quote in page.text
    for text in support.rebuild.values():
        assert text in page.text
    for finding in support.trace.findings:
        assert finding.replace("`", "")[:20].split("chat")[0] in page.text


def test_lines_sum_to_the_plan(support: PlanResult) -> None:
    assert sum(line.usd_per_month for line in support.lines) == pytest.approx(support.plan_usd.mid)
    assert sections.rest(support) == ""
    short = replace(support, lines=support.lines[:-1])
    assert sections.rest(short) == "$17,000"


def test_levers_reach_the_plan_or_say_what_is_left(support: PlanResult) -> None:
    gap = support.plan_usd.mid - support.today_usd.mid
    assert sum(delta for _, delta in steps(support)) == pytest.approx(gap)
    fewer = replace(support, levers=support.levers[:-1])
    assert sum(delta for _, delta in steps(fewer)) == pytest.approx(gap)
    assert steps(fewer)[-1][0] == "not attributed to one lever"


def test_pillars_and_accounts_sum_to_their_option(support: PlanResult) -> None:
    for option in support.options:
        assert sum(option.by_pillar.values()) == pytest.approx(option.usd_per_month.mid)
        assert sum(option.by_account.values()) == pytest.approx(option.usd_per_month.mid)
    found = sections.matrix(support)
    assert found is not None
    for j, option in enumerate(support.options):
        shown = [cells[j] for _, cells in found.pillars if cells[j] != words.DASH]
        assert sum(float(x.strip("$").replace(",", "")) for x in shown) == option.usd_per_month.mid


def test_nil_and_absent_are_dashes(support: PlanResult) -> None:
    found = sections.matrix(support)
    assert found is not None
    accounts = dict(found.accounts)
    assert accounts["egress"][0] == words.DASH, "booked as nil"
    assert accounts["idle"][0] == words.DASH, "not booked"
    assert "$0" not in {cell for _, cells in found.accounts for cell in cells}


def test_an_unknown_figure_is_never_zero(support: PlanResult) -> None:
    rows = sections.limit_rows(support)
    assert {r["status"]: r["found"] for r in rows}["unverified"] == words.DASH
    assert [r["settle"] for r in sections.unproven_rows(support)] == [
        "not known: there is nothing to size a sample from",
        "400 graded samples",
    ]
    chart = report.charts(support)["frontier"]
    unknown = next(row for row in chart.table.rows if row[0] == "mini-api")
    assert unknown[2:4] == [words.DASH, words.DASH]


def test_charts_state_a_finding_a_unit_and_a_table(support: PlanResult) -> None:
    found = report.charts(support)
    assert list(found) == ORDER
    for chart in found.values():
        assert len(chart.title) > 20
        assert chart.subtitle
        assert chart.table.rows
        assert all(
            len(row) == len(chart.table.columns) == len(chart.table.numeric) for row in chart.table.rows
        )
        text = json.dumps(chart.spec)
        assert "var(--" not in text
        assert '"theta"' not in text, "no pies"
        assert "independent" not in json.dumps(chart.spec.get("resolve", {}).get("scale", {}).get("y", "")), (
            "no dual axes"
        )
    assert found["waterfall"].title.startswith(
        "Prompt cache fixed (stable prefix first) saves $16.3k a month"
    )
    assert found["breakeven"].title == (
        "At 2.6M requests a month, big-api, prompt cache fixed costs least of what is allowed ($97.2k); "
        "3 cheaper ones are ruled out"
    )
    assert found["band"].title == "The plan is cheaper than today across the whole of both 80% bands"
    assert "$14.9k less than the API alone" in found["isoquant"].title


def test_every_chart_has_a_table_and_a_picture_that_needs_no_script(html: str) -> None:
    for name in ORDER:
        part = html[html.index(f'<section id="{name}"') :]
        part = part[: part.index("</section>")]
        assert "<svg" in part
        assert "<details>" in part
        assert "<table" in part


def test_isoquant_points_lie_on_or_above_the_chosen_line(support: PlanResult) -> None:
    found = support.isoquant
    assert found is not None
    best = found.points[found.chosen]
    for p in found.points:
        cost = p.gpu_h_per_month * found.usd_per_gpu_h + p.api_mtok_per_month * found.usd_per_api_mtok
        assert cost + found.fixed_usd_per_month == pytest.approx(p.usd_per_month, abs=1)
        assert p.usd_per_month >= best.usd_per_month


def test_replica_hours_are_busy_or_idle(support: PlanResult) -> None:
    spec = report.charts(support)["hours"].spec
    parts = spec["vconcat"][1]["layer"][0]["data"]["values"]
    for h in (0, 40, 167):
        here = [row for row in parts if row["h"] == h]
        assert sum(row["n"] for row in here) == pytest.approx(support.hours.replicas[0][h])
        assert [row["fill"].startswith("url(#hatch-selfhost") for row in here] == [False, True]


def test_neutral_sliders_leave_the_curves_alone(support: PlanResult) -> None:
    found = sliders(support)
    assert found is not None
    assert support.breakeven is not None
    for series, usd in zip(found["series"], support.breakeven.usd_per_month, strict=True):
        assert series["usd"] == usd
        assert 0 <= series["fixed"] <= min(c for c in usd if c is not None)
        assert series["api"] + series["gpu"] == pytest.approx(1)
    by_label = {s["label"]: s for s in found["series"]}
    assert by_label["big-api, prompt cache fixed"]["api"] == 1
    assert by_label["open-70b on own H100 pool (ruled out)"]["gpu"] == 1


def test_a_staircase_steps_up_and_a_line_runs_straight(support: PlanResult) -> None:
    found = support.breakeven
    assert found is not None
    v = found.requests_per_month
    middle = (v[30] + v[31]) / 2
    assert at(found, 2, middle) == found.usd_per_month[2][31]
    low, high = found.usd_per_month[0][30], found.usd_per_month[0][31]
    assert low is not None
    assert high is not None
    assert at(found, 0, middle) == pytest.approx((low + high) / 2)
    assert at(found, 3, v[-1]) is None


def test_the_page_reaches_for_nothing(page: Page, html: str, support: PlanResult) -> None:
    cited = {fact.address for fact in support.facts}
    for tag, attrs in page.elements:
        for name in ("src", "href", "action", "srcset", "data"):
            value = attrs.get(name) or ""
            assert "//" not in value or (tag == "a" and value in cited), (tag, value)
        assert tag not in ("link", "img", "iframe", "object", "base")
        assert not any(name.startswith("on") for name in attrs)
    style = html[html.index("<style>") : html.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style


def test_only_the_pages_own_scripts_may_run(page: Page, html: str) -> None:
    policy = next(a["content"] for t, a in page.elements if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-eval" not in policy
    assert "http" not in policy
    scripts = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    assert len(scripts) == 2
    for text in scripts:
        assert base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() in policy


def test_a_break_even_is_told_against_what_it_was_held_against(support: PlanResult) -> None:
    later = Turn("api", "a/b", "the plan", True, Band(9e3, 9e3, 9e3), 0.0, 0.0, None, 1.0)
    sooner = Turn("mix", "the plan", "as today", True, Band(8e3, 8e3, 8e3), 0.0, 0.0, None, 1.0)
    sure = Sure(1, 1.0, [], 0.0, [], [later, sooner], None)
    drawn = turns(replace(support, sure=sure))
    assert isinstance(drawn, Chart)
    assert drawn.title == "The plan costs less than today's way from 8.0k requests a month"
    assert "less than the plan (the plan: than today's way)" in drawn.subtitle


def hostile(result: PlanResult) -> PlanResult:
    evil = "<script>alert(1)</script>\"'`</script><!--"
    lines = [replace(line, label=evil, workloads=[evil], quality=evil) for line in result.lines]
    assert result.breakeven is not None
    assert result.isoquant is not None
    return replace(
        result,
        title=evil,
        headline=evil,
        lines=lines,
        limits=[replace(x, workload=evil, evidence=evil) for x in result.limits],
        unproven=[replace(x, label=evil, evidence=evil) for x in result.unproven],
        levers=[replace(x, label=evil) for x in result.levers],
        swings=[replace(x, label=evil) for x in result.swings],
        frontier=[replace(x, label=evil) for x in result.frontier],
        options=[replace(x, label=evil, why_not=evil) for x in result.options],
        hours=replace(result.hours, labels=[evil] * len(result.hours.labels)),
        breakeven=replace(result.breakeven, labels=[evil] * len(result.breakeven.labels)),
        isoquant=replace(result.isoquant, pool=evil, api=evil),
        facts=[
            replace(x, id=evil, quote=evil, address="javascript:alert(1)", source=evil) for x in result.facts
        ],
        rebuild={"command": evil},
        next=[evil],
    )


def test_text_from_a_log_stays_text(support: PlanResult) -> None:
    html = report.render(hostile(support))
    page = Page(html)
    assert sum(tag == "script" for tag, _ in page.elements) == 4, "specs, sliders, library, own"
    assert "<script>alert" not in html
    assert not [a for t, a in page.elements if t == "a"], "an address that is not of the web is no link"
    assert page.ids()[-1] == "next"
    for name in ("specs", "slider-data"):
        text = re.search(rf'<script type="application/json" id="{name}">(.*?)</script>', html, re.DOTALL)
        assert text is not None
        json.loads(text[1])
    assert "javascript:" not in " ".join(str(a.get("href")) for _, a in page.elements)


def test_same_result_same_bytes(support: PlanResult, html: str) -> None:
    assert report.render(support) == html


def test_infeasible_says_so_and_leaves_out_what_it_cannot_draw() -> None:
    result = case("infeasible")
    assert report.charts(result) == {}
    html = report.render(result)
    page = Page(html)
    assert "≥ $260" in page.text
    assert "no plan meets the limits" in page.text
    assert "0 of 2" in page.text
    assert "Not every limit holds: 2 missed" in page.text
    assert page.ids()[0] == "limits"
    for builder in BUILDERS.values():
        absent = builder(result)
        assert getattr(absent, "reason", "") in page.text
    assert result.range is not None
    assert result.range.text in page.text
    assert "$0" not in page.text
    assert "nan" not in page.text.lower().split()


def test_a_plan_without_replicas(support: PlanResult) -> None:
    bought = replace(
        support,
        isoquant=None,
        breakeven=None,
        hours=replace(support.hours, replicas=[[0] * 168] * 4, idle_frac=[[0.0] * 168] * 4),
    )
    found = report.charts(bought)
    assert list(found) == ["frontier", "latency", "hours", "waterfall", "tornado", "band"]
    assert "nothing is rented by the hour" in found["hours"].title
    text = Page(report.render(bought)).text
    assert "so there is no mix to draw" in text
    assert "so nothing breaks even" in text


def test_pictures(support: PlanResult, tmp_path: Path) -> None:
    one = replace(support, isoquant=None, frontier=[], swings=[], levers=[], breakeven=None)
    written = report.pngs(one, tmp_path / "png")
    assert [p.name for p in written] == ["01-hours.png", "02-band.png"]
    for path in written:
        data = path.read_bytes()
        assert data.startswith(b"\x89PNG")
        assert int.from_bytes(data[16:20]) > 1200, "twice the width in pixels"


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


@pytest.mark.parametrize("scheme", ["LIGHT", "DARK"])
def test_accents_stand_out_from_their_ground(scheme: str) -> None:
    from isocost.report import palette

    colours: dict[str, str] = getattr(palette, scheme)
    for name in (*palette.OPTIONS, "good", "bad", "soft", "ink"):
        a, b = sorted((luminance(colours[name]), luminance(colours["paper"])), reverse=True)
        least = 4.5 if name in ("soft", "ink") else 3.0
        assert (a + 0.05) / (b + 0.05) >= least, (scheme, name)
    assert len(set(colours.values())) == len(colours)


def test_render_is_quick_enough_to_end_every_plan_with(support: PlanResult) -> None:
    report.render(support)
    start = time.process_time()
    report.render(support)
    assert time.process_time() - start < 5.0


def test_lines_of_a_plan_that_changes_no_model(support: PlanResult) -> None:
    lines: list[Line] = [replace(line, same_model=True) for line in support.lines]
    assert sections.plan_sentence(replace(support, lines=lines)) == "Every request keeps its model"


def test_trace_without_findings(support: PlanResult) -> None:
    clean: TraceNote = replace(support.trace, findings=[])
    assert sections.trace_sentence(replace(support, trace=clean)).endswith("nothing doubtful was found")


def test_palette_names_every_option() -> None:
    from typing import get_args

    from isocost.plan.result import Option
    from isocost.report.palette import OPTIONS

    assert set(OPTIONS) == set(get_args(Option))


def spec_strings(node: Any) -> list[str]:
    if isinstance(node, dict):
        return [s for value in node.values() for s in spec_strings(value)]
    if isinstance(node, list):
        return [s for value in node for s in spec_strings(value)]
    return [node] if isinstance(node, str) else []


def test_every_colour_of_a_chart_is_of_the_palette(support: PlanResult) -> None:
    from isocost.report import palette

    known = set(palette.variables(palette.LIGHT).values())
    for name, chart in report.charts(support).items():
        used = {s for s in spec_strings(chart.spec) if re.fullmatch(r"#[0-9a-f]{6}", s)}
        assert used, name
        assert used <= known, name


LONG = "open weights with a rather long name (8 x H200, fp8, tp8, region eu-west-3) on a rented pool"


def odd_results(support: PlanResult) -> dict[str, PlanResult]:
    """Results at the edges: nothing costs anything, one of everything, long names, crowded frontier."""
    assert support.breakeven is not None
    assert support.isoquant is not None
    nil = Band(0, 0, 0)
    crowd = [
        replace(p, id=f"{p.id}-{i}", usd_per_month=p.usd_per_month * (1 + i / 40))
        for i in range(6)
        for p in support.frontier
    ]
    return {
        "free": replace(
            support,
            today_usd=nil,
            plan_usd=nil,
            levers=[Lever("a", "a", 0.0)],
            breakeven=BreakEven([0.0, 2e5], ["api"], ["x"], [[0.0, 0.0]], []),
            frontier=[replace(p, usd_per_month=0.0) for p in support.frontier],
            swings=[replace(s, low_usd=0.0, high_usd=0.0) for s in support.swings],
            options=[replace(o, usd_per_month=nil) for o in support.options],
        ),
        "one of everything": replace(
            support,
            breakeven=BreakEven([1e5, 2e5], ["api"], ["x"], [[10.0, None]], []),
            frontier=support.frontier[:1],
            swings=support.swings[:1],
            levers=support.levers[:1],
            options=support.options[:1],
            isoquant=replace(support.isoquant, points=support.isoquant.points[:1], chosen=0),
            limits=[],
            facts=[],
            next=[],
        ),
        "long names": replace(
            support,
            options=[replace(o, label=LONG) for o in support.options],
            swings=[replace(s, label=LONG) for s in support.swings],
            levers=[replace(s, label=LONG) for s in support.levers],
            hours=replace(support.hours, labels=[LONG] * 4),
            breakeven=replace(support.breakeven, labels=[LONG] * 4),
            isoquant=replace(support.isoquant, pool=LONG, api=LONG),
            frontier=crowd,
        ),
        "stay": replace(support, verdict="stay", plan_usd=support.today_usd, levers=[], gap_frac=0.0),
    }


@pytest.mark.parametrize("name", ["free", "one of everything", "long names", "stay"])
def test_results_at_the_edges_still_make_a_page(support: PlanResult, name: str) -> None:
    result = odd_results(support)[name]
    text = Page(report.render(result)).text
    assert result.headline in text
    assert " nan" not in text.lower()
    assert "inf " not in text.lower()


def test_long_names_fit_and_stay_apart(support: PlanResult) -> None:
    found = report.charts(odd_results(support)["long names"])
    names = [row["label"] for row in found["tornado"].spec["data"]["values"][::2]]
    assert len(set(names)) == len(names)
    assert all(len(name) <= 46 for name in names)


def test_a_crowded_frontier_leaves_labels_to_its_table(support: PlanResult) -> None:
    result = odd_results(support)["long names"]
    chart = report.charts(result)["frontier"]
    labels = [
        x
        for x in chart.spec["vconcat"][0]["layer"]
        if isinstance(x["mark"], dict) and x["mark"]["type"] == "text"
    ]
    assert 1 <= len(labels) < len(result.frontier)
    assert len(chart.table.rows) == len(result.frontier)


def test_the_volume_of_a_trace_outside_the_table_is_said(support: PlanResult) -> None:
    far = replace(support, trace=replace(support.trace, requests_per_month=1e12))
    assert "outside what was tabulated" in report.charts(far)["breakeven"].title


def times(matrix: tuple[tuple[float, ...], ...], vector: list[float]) -> list[float]:
    return [sum(m * x for m, x in zip(row, vector, strict=True)) for row in matrix]


KINDS = {
    "protan": (
        (0.152286, 1.052583, -0.204868),
        (0.114503, 0.786281, 0.099216),
        (-0.003882, -0.048116, 1.051998),
    ),
    "deutan": (
        (0.367322, 0.860646, -0.227968),
        (0.280085, 0.672501, 0.047413),
        (-0.011820, 0.042940, 0.968881),
    ),
}
CONES = (
    (0.41222147, 0.53633254, 0.05144599),
    (0.21190350, 0.68069955, 0.10739696),
    (0.08830246, 0.28171884, 0.62997870),
)
LAB = (
    (0.21045426, 0.79361779, -0.00407205),
    (1.97799850, -2.42859221, 0.45059371),
    (0.02590404, 0.78277177, -0.80867577),
)


def seen_by(colour: str, kind: str) -> list[float]:
    """A colour in OKLab (Ottosson 2020) as the colour-blind see it (Machado, Oliveira, Fernandes 2009)."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    seen = [min(max(c, 0.0), 1.0) for c in times(KINDS[kind], linear)]
    return times(LAB, [c ** (1 / 3) for c in times(CONES, seen)])


@pytest.mark.parametrize("scheme", ["LIGHT", "DARK"])
@pytest.mark.parametrize("kind", ["protan", "deutan"])
def test_accents_stay_apart_for_the_colour_blind(scheme: str, kind: str) -> None:
    from isocost.report import palette

    colours: dict[str, str] = getattr(palette, scheme)
    served = [n for n in palette.OPTIONS if n != "mix"]
    for i, a in enumerate(served):
        for b in served[:i]:
            pair = zip(seen_by(colours[a], kind), seen_by(colours[b], kind), strict=True)
            assert sum((x - y) ** 2 for x, y in pair) ** 0.5 > 0.07, (scheme, kind, a, b)


def test_many_deployments_of_one_option_share_a_band(support: PlanResult) -> None:
    n = 11
    series = [[float(i + 1)] * 168 for i in range(n)]
    many = Hours(
        deployments=[f"d{i}" for i in range(n)],
        labels=[f"api {i}" for i in range(n)],
        options=["api"] * n,
        requests_per_h=series,
        replicas=[[0] * 168] * n,
        idle_frac=[[0.0] * 168] * n,
    )
    chart = report.charts(replace(support, hours=many))["hours"]
    rows = [row for row in chart.spec["layer"][0]["data"]["values"] if row["h"] == 5]
    assert [row["label"] for row in rows] == ["api 10", "api 9", "api 8", "8 more (api)"]
    assert sum(row["requests"] for row in rows) == sum(s[5] for s in series)
    assert len(chart.table.columns) == n + 2, "the table has each"


def test_an_option_without_a_deployment_has_no_cost(support: PlanResult) -> None:
    nil = Band(0, 0, 0)
    none = replace(
        support.options[3],
        id="",
        label="",
        feasible=False,
        why_not="no replica carries this traffic",
        usd_per_month=nil,
        by_pillar={},
        by_account={},
    )
    result = replace(support, options=[*support.options[:3], none])
    found = sections.matrix(result)
    assert found is not None
    assert found.totals[3] == words.DASH
    assert found.heads[3].standing == "none found"
    assert len(report.charts(result)["band"].table.rows) == 4
    assert "Self-hosted has no deployment: no replica carries" in Page(report.render(result)).text


def test_the_detail_stands_under_the_headline(support: PlanResult) -> None:
    html = report.render(replace(support, detail="Answers cost $62k of it <b>."))
    assert html.index("</h1>") < html.index("Answers cost $62k of it &lt;b&gt;.") < html.index('class="four"')


def test_a_plan_that_changes_nothing_has_no_bill_to_step_down(support: PlanResult) -> None:
    """A lever of a rounding error saves nothing, and no title says that it does."""
    same = replace(
        support,
        today_usd=support.plan_usd,
        levers=[Lever("same-prices", "same use at the plan's prices", -2.5e-13)],
    )
    page = Page(report.render(same))
    assert "The plan pulls no lever" in page.text
    assert "e−13" not in page.text
    assert "e-13" not in page.text
