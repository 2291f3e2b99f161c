"""Every account, unit costs, margins, energy and the pillars over a horizon, as the page draws them."""

from __future__ import annotations

import re

import pytest
from msgspec.structs import replace

from isocost import report
from isocost.plan.result import (
    Account,
    Band,
    Energy,
    Life,
    LifeLine,
    PlanMargin,
    PlanResult,
    Turn,
    UnitCost,
    UnitCosts,
)
from isocost.report import costs, words
from isocost.report.chart import Absent, Chart
from isocost.report.charts.life import life
from test_report import Page, case

UNSTATED = "not stated: documents that are searched, in keep.toml"
UNMADE = "no model is made"
BOUNDARY = "boards, their hosts and the building (PUE); not training"


def _life(result: PlanResult) -> Life:
    def line(i: int, usd: float, ahead: float | None) -> LifeLine:
        one = result.options[i]
        pillars = {"development": 0.1 * usd, "deployment": 0.8 * usd, "sustainability": 0.1 * usd}
        return LifeLine(
            one.option, one.label, one.feasible, pillars, Band(0.8 * usd, usd, 1.3 * usd), usd / 5e6, ahead
        )

    return Life(36, 0.04, "forecast", 5e6, [line(0, 4e6, None), line(1, 3e6, 0.0), line(2, 5e6, None),
                                            line(3, 2e6, 7.25)])  # fmt: skip


@pytest.fixture(scope="module")
def whole() -> PlanResult:
    """A plan with every part that the page draws, and one option that has no deployment."""
    result = case("support")
    none = replace(result.options[2], id="", label="", feasible=False, by_pillar={}, by_account={})
    result = replace(result, options=[*result.options[:2], none, *result.options[3:]])
    n = len(result.options)

    def row(name: str, pillar: str, label: str, usd: float | None, why: str) -> Account:
        reasons = ["nothing serves this way" if i == 2 else why for i in range(n)]
        amounts = [None if i == 2 else usd if i != 1 else (usd and usd / 2) for i in range(n)]
        return Account(name, pillar, label, amounts, reasons)

    energy = Energy(Band(20.0, 60.0, 600.0), Band(2.0, 21.5, 260.0), BOUNDARY)
    return replace(
        result,
        verdict="switch",
        accounts=[
            row("data", "development", "Data: cleaning, test sets", 0.0, UNMADE),
            row("api-tokens", "deployment", "API tokens and requests", 4000.4, ""),
            row("pipelines", "deployment", "Pipelines: chunk, embed", None, UNSTATED),
            row("carbon", "sustainability", "Carbon <b>on premises</b>", 0.25, ""),
        ],
        unit_costs=UnitCosts(
            2e6, 0.0402, 0.0301,
            [UnitCost("chat", 1.5e6, 60300.0, 45150.0, 90000.0), UnitCost("", 5e5, 20100.0, 15050.0, 0.0)],
            [UnitCost(f"<i>{k}</i>", 1e4, 402.0, 301.0, 600.0) for k in range(12)],
            40, 0.37, True, 0.06,
        ),
        margins=[
            PlanMargin("team", 38, 7000.0, 5200.0, 4100.0, 0.257, 0.414, 9, 4),
            PlanMargin("all", 40, 8000.0, 6000.0, 4800.0, 0.25, 0.4, 9, 4),
        ],
        energies=[None if i in (0, 2) else energy for i in range(n)],
        life=_life(result),
    )  # fmt: skip


@pytest.fixture(scope="module")
def page(whole: PlanResult) -> Page:
    return Page(report.render(whole))


def test_the_sections_stand_in_order(page: Page) -> None:
    ids = page.ids()
    assert ids[ids.index("pillars") : ids.index("tornado") + 1] == [
        "pillars", "units", "margins", "life", "energy", "tornado",
    ]  # fmt: skip


def test_every_account_has_an_amount_or_a_reason(whole: PlanResult) -> None:
    found = costs.accounts(whole)
    assert found is not None
    rows = {row.name: row for pillar in found.pillars for row in pillar.rows}
    assert list(rows) == ["Data", "API tokens and requests", "Pipelines", "Carbon <b>on premises</b>"]
    assert len(rows) == len(whole.accounts)
    assert [cell.text for cell in rows["API tokens and requests"].cells[:4]] == [
        "4,000",
        "2,000",
        "—",
        "4,000",
    ]
    assert rows["Data"].cells[0].text == "0", "nil is said"
    assert rows["Pipelines"].cells[0].text == words.DASH, "what is not known is never nil"
    assert rows["Carbon <b>on premises</b>"].cells[0].text == "<1", "and a little is not nil either"
    for row in rows.values():
        for option, cell in zip(whole.options, row.cells, strict=True):
            assert bool(cell.nth) == bool(cell.why and option.id)
            if cell.nth:
                assert found.reasons[cell.nth - 1].endswith(f": {cell.why}")
    assert found.reasons == [f"Data: {UNMADE}", f"Pipelines: {UNSTATED}"]
    assert "2 of 4" in found.said


def test_the_sums_of_a_pillar_are_those_of_the_options(whole: PlanResult) -> None:
    found = costs.accounts(whole)
    assert found is not None
    deployment = next(one for one in found.pillars if one.name == "Deployment and scaling")
    for option, shown in zip(whole.options, deployment.sums, strict=True):
        want = f"{option.by_pillar.get('deployment', 0.0):,.0f}" if option.id else words.DASH
        assert shown == want


def test_accounts_are_folded_and_say_why_on_hover(page: Page, whole: PlanResult) -> None:
    assert ("details", {"id": "accounts"}) in page.elements, "folded until it is opened"
    titles = [attrs["title"] for tag, attrs in page.elements if tag == "td" and "title" in attrs]
    assert titles.count(UNMADE) == len(whole.options) - 1
    assert titles.count("nothing serves this way") == len(whole.accounts)
    assert "Data: cleaning, test sets" in [a.get("title") for t, a in page.elements if t == "th"]
    assert ("b", {}) not in page.elements, "a label stays text"


def test_unit_costs_and_the_ten_dearest_customers(whole: PlanResult, page: Page) -> None:
    found = costs.units(whole)
    assert found is not None
    assert found.said == "An answer costs $0.03 under the plan, $0.04 today, and brings $0.06"
    (_, (every,)), (features, named), (customers, first) = found.groups
    assert every.cells == ["2.0M", "$80,400", "$60,200", "$0.04", "$0.03", "$120,000", "50%"]
    assert (features, customers) == ("2 features", "40 customers, the dearest 10")
    assert [one.name for one in named] == ["chat", "not named"]
    assert named[1].cells[-2:] == ["$0", words.DASH], "what brings nothing has no margin"
    assert len(first) == 10
    assert all(len(row.cells) == len(found.heads) for _, rows in found.groups for row in rows)
    assert "the dearest tenth cause 37%" in page.text
    assert "<i>9</i>" in page.text
    assert "<i>10</i>" not in page.text


def test_a_plan_that_moves_nothing_has_one_column_of_costs(whole: PlanResult) -> None:
    assert whole.unit_costs is not None
    features = [replace(one, revenue_usd=None) for one in whole.unit_costs.features]
    bare = replace(whole.unit_costs, revenue_usd=None, features=features, customers=[], customers_count=0)
    found = costs.units(replace(whole, verdict="stay", unit_costs=bare))
    assert found is not None
    assert found.heads == ["Requests a month", "$ a month", "An answer"]
    assert found.said == "An answer costs $0.03"
    assert "customer" not in found.note
    assert costs.units(replace(whole, verdict="infeasible")) is None


def test_margins_by_price_plan(whole: PlanResult, page: Page) -> None:
    team, every = costs.margins(whole)
    assert team == {
        "name": "team", "customers": "38", "brings": "$7,000", "today": "$5,200", "today_margin": "26%",
        "plan": "$4,100", "plan_margin": "41%", "loss": "9 today, then 4",
    }  # fmt: skip
    assert every["plan_margin"] == "40%"
    assert "$8.0k a month leaves a margin of 40%, 25% today; 4 customers of 40 at a loss" in page.text


def test_energy_of_every_option_with_what_is_counted(whole: PlanResult, page: Page) -> None:
    rows = costs.energies(whole)
    assert [row.kwh for row in rows] == ["—", "60", "—", *["60"] * (len(rows) - 3)]
    wh = 60_000 / whole.trace.requests_per_month
    assert float(rows[1].wh_per_request) == pytest.approx(wh, rel=0.06)
    assert (rows[1].kg, rows[1].kg_band) == ("22", "2 to 260")
    unknown, counted, none = costs.boundaries(whole)
    assert unknown == "Today: not known: the energy of its models is not."
    assert counted.endswith(f"The plan: counted is {BOUNDARY}.")
    assert none == "Hosted open weights: nothing serves this way."
    assert BOUNDARY in page.text
    assert "The plan's answers take 60 kWh a month and cause 22 kg CO2e (2 to 260)" in page.text


def test_the_pillars_over_a_horizon(whole: PlanResult, page: Page) -> None:
    found = life(whole)
    assert isinstance(found, Chart)
    assert found.title.startswith("Over 36 months ")
    cheapest = min((x for x in _life(whole).lines if x.feasible), key=lambda x: x.usd.mid)
    assert words.usd_short(cheapest.usd.mid) in found.title
    ahead = [row[found.table.columns.index("Ahead of today")] for row in found.table.rows]
    assert ahead == [words.DASH, "at once", "never", "month 7.2"]
    bars = found.spec["layer"][0]["data"]["values"]
    for i, line in enumerate(_life(whole).lines):
        assert sum(bar["usd"] for bar in bars[3 * i : 3 * i + 3]) == pytest.approx(line.usd.mid)
    texts = [row["text"] for row in found.spec["layer"][2]["data"]["values"]]
    assert "never ahead of today" in texts[2]
    assert "left out" not in page.text[page.text.index("The cost over a horizon") :][:60]
    assert "life" in report.charts(whole)


def test_nothing_ahead_of_today_is_said(whole: PlanResult) -> None:
    assert whole.life is not None
    lines = [whole.life.lines[0], replace(whole.life.lines[0], option="mix")]
    found = life(replace(whole, life=replace(whole.life, lines=lines)))
    assert isinstance(found, Chart)
    assert found.title == "Over 36 months nothing that is allowed costs less than today, $4.0M"
    assert [row[7] for row in found.table.rows] == [words.DASH] * 2


def test_break_evens_stand_under_the_pillars(whole: PlanResult) -> None:
    from isocost.plan.result import Sure

    turn = Turn("slm", "own", "the plan", True, Band(2e6, 5e6, 1e7), 0.2, 1e5, Band(3, 12, 40), 0.1)
    text = Page(report.render(replace(whole, sure=Sure(500, 0.9, [], 0.0, [], [turn], None)))).text
    line = re.search(r"Break-even: small model costs less than the plan from ([^;]+);", text)
    assert line is not None
    assert line[1] == "5.0M (2.0M to 10M) requests a month"


def test_results_without_these_parts_leave_them_out() -> None:
    result = case("support")
    assert costs.accounts(result) is None
    assert costs.units(result) is None
    assert costs.energies(result) == []
    assert isinstance(life(result), Absent)
    assert not {"units", "margins", "energy"} & set(Page(report.render(result)).ids())
