"""Every account by option, what an answer costs and brings, and energy: of one plan with all of it."""

from __future__ import annotations

import io
import re
from contextlib import redirect_stdout
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from golden import Golden
from isocost.catalog import Catalog
from isocost.cli import main
from isocost.errors import BadInput
from isocost.keep.ask import Ask, Knowledge, Law, Own
from isocost.plan.asked.limits import Have, Limits
from isocost.plan.market.prepare import Request
from isocost.plan.result import PlanResult
from isocost.plan.run import Outcome, make_plan, totals_of
from isocost.plan.tell.unit import Spent, spent
from isocost.report.accounts import brief, every
from isocost.trace import open_trace
from isocost.value.ask import PricePlan, Value
from isocost.value.planned import customers_of, priced

LOG = Path(__file__).parents[1] / "examples" / "litellm_spendlogs.csv"
OWN_MODEL = LOG.parent / "slm_vs_api.toml"
DAY = date(2026, 11, 23)
STATED = Ask(
    region="eu",
    knowledge=Knowledge(mtok=50),
    law=Law(places=("eu",)),
    own=Own(on_premises=True, busy_frac=0.3),
    carbon_usd_per_tonne=80.0,
)
PRICES = Value(plans=(PricePlan("team", usd_per_month=99, usd_per_request=0.5), PricePlan("all", 2000)))


def _plan(keep: Ask | None) -> Outcome:
    return make_plan(Request(open_trace(LOG), Catalog.load(), DAY, Limits(), Have(), keep=keep))


@pytest.fixture(scope="module", params=["a log alone", "stated"])
def outcome(request: pytest.FixtureRequest) -> Outcome:
    return _plan(STATED if request.param == "stated" else None)


def test_every_account_of_cost_is_there_once_and_sums_to_its_option(outcome: Outcome) -> None:
    result = outcome.result
    at = Catalog.load().at(DAY)
    chart = {
        f.subject.partition("/")[2]: f.value for f in at.each("account/", "pillar") if f.value != "value"
    }
    assert [one.id for one in result.accounts] == list(dict.fromkeys(one.id for one in result.accounts))
    assert {one.id: one.pillar for one in result.accounts} == chart
    for i, option in enumerate(result.options):
        amounts = [one.usd_per_month[i] for one in result.accounts]
        assert sum(usd or 0.0 for usd in amounts) == pytest.approx(option.usd_per_month.mid, abs=0.01)
        for one, usd in zip(result.accounts, amounts, strict=True):
            assert bool(one.why[i]) == (not usd), (one.id, option.option)
            if not option.id:
                assert usd is None


def test_what_nobody_stated_is_not_nil(outcome: Outcome) -> None:
    documents = [one for one in outcome.result.accounts if one.id in ("pipelines", "vector-database")]
    plan = [option.option for option in outcome.result.options].index("mix")
    if outcome.built.prepared.request.keep is None:
        assert all(one.usd_per_month[plan] is None for one in documents)
    else:
        assert all((one.usd_per_month[plan] or 0.0) > 0.0 for one in documents)
        carbon = next(one for one in outcome.result.accounts if one.id == "carbon")
        assert all(usd is None or usd > 0.0 for usd in carbon.usd_per_month)


def test_answers_features_and_customers_sum_to_the_month(outcome: Outcome) -> None:
    costs = outcome.result.unit_costs
    assert costs is not None
    for attribute, whole in (("today_usd", outcome.result.today_usd), ("plan_usd", outcome.result.plan_usd)):
        each = getattr(costs, attribute)
        assert each * costs.requests_per_month == pytest.approx(whole.mid, rel=1e-6)
        for parts in (costs.features, costs.customers):
            assert sum(getattr(one, attribute) for one in parts) == pytest.approx(whole.mid, rel=1e-6)
    assert sum(one.requests_per_month for one in costs.features) == pytest.approx(costs.requests_per_month)


def _spent(outcome: Outcome) -> Spent:
    return spent(outcome.built, totals_of(outcome).today)


def test_margins_are_of_the_customers_of_the_log(outcome: Outcome) -> None:
    result = priced(outcome.result, _spent(outcome), PRICES)
    *plans, whole = result.margins
    assert sum(one.customers for one in plans) == whole.customers == len(_spent(outcome).customers)
    assert sum(one.revenue_usd for one in plans) == pytest.approx(whole.revenue_usd)
    assert whole.plan_usd == pytest.approx(result.plan_usd.mid, rel=1e-6)
    assert whole.today_usd == pytest.approx(result.today_usd.mid, rel=1e-6)
    assert whole.plan_margin_frac == pytest.approx(1.0 - whole.plan_usd / whole.revenue_usd)
    costs = result.unit_costs
    assert costs is not None
    assert costs.revenue_usd is not None
    assert costs.revenue_usd * costs.requests_per_month == pytest.approx(whole.revenue_usd)
    assert sum(one.revenue_usd or 0.0 for one in costs.features) == pytest.approx(whole.revenue_usd)


def test_who_is_not_named_is_shared_and_nobody_named_is_refused(outcome: Outcome) -> None:
    found = _spent(outcome)
    moved = replace(found, **{name: _unnamed(getattr(found, name)) for name in ("requests", "plan_usd")})
    of = customers_of(moved, moved.plan_usd, 0.0)
    assert of.usd.sum() == pytest.approx(found.plan_usd.sum())
    assert of.requests.sum() == pytest.approx(found.requests.sum())
    with pytest.raises(BadInput, match="names no customer"):
        customers_of(replace(found, customers=()), found.plan_usd, 0.0)


def _unnamed(table: np.ndarray) -> np.ndarray:
    """The same with half of each customer's moved to the row of nobody."""
    half = table.copy()
    half[-1] += table[:-1].sum(axis=0) / 2
    half[:-1] /= 2
    return half


def test_energy_has_a_boundary_and_an_interval(outcome: Outcome) -> None:
    known = [one for one in outcome.result.energies if one is not None]
    assert len(known) >= 3
    for one in known:
        for band in (one.kwh_per_month, one.kg_co2e_per_month):
            assert 0.0 < band.low < band.mid < band.high
        assert "not training" in one.boundary


@pytest.mark.parametrize("width", [80, 120])
def test_all_of_it_fits_a_terminal(outcome: Outcome, width: int) -> None:
    result = priced(outcome.result, _spent(outcome), PRICES)
    text = _shown(result, width)
    assert max(len(line) for line in text.splitlines()) <= width
    assert "vector database" in text
    assert "price plan" in text
    for one in result.accounts:
        assert one.id.replace("-", " ").replace("api", "API") in text


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the plan of an own small model against an API says, from its pillars over the horizon on."""
    folder, shown = tmp_path_factory.mktemp("own"), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(shown):
        patch.setenv("COLUMNS", "100")
        patch.setenv("NO_COLOR", "1")
        words = ["plan", str(OWN_MODEL), "--on", DAY.isoformat(), "--no-report", "--to", str(folder)]
        assert main(words) == 0
    text = shown.getvalue()
    return text[text.index("  all on one ") : text.index("  Wrote:")]


def test_an_own_small_model_against_an_api(own: str, golden: Golden) -> None:
    golden.check("slm_vs_api.txt", own[: own.index("  Over 36 months")])
    assert "small model  self/qwen3-8b" in own
    assert "switch to qwen3-8b" in own, "traffic grows until an own model pays"


def test_the_page_shows_what_the_example_prints(own: str) -> None:
    page = (OWN_MODEL.parents[1] / "docs" / "develop.md").read_text(encoding="utf-8")
    block = page.split("<!-- slm_vs_api -->\n```text\n")[1].split("```")[0]
    told, found = _rows(block), _rows(own[own.index("  the three pillars") :])
    assert {"today", "hosted", "self-hosted", "small", "the"} <= set(told)
    for name, amounts in told.items():
        assert found[name] == pytest.approx(amounts, rel=0.1), f"{name}: the page is older than what it shows"


def _rows(text: str) -> dict[str, list[float]]:
    """Totals by option of the table over the horizon, to the thousand."""
    scale = {"k": 1e3, "M": 1e6, "": 1.0}
    found: dict[str, list[float]] = {}
    for line in text.splitlines():
        amounts = re.findall(r"\$([\d.,]+)([kM]?)", line)
        if len(amounts) > 4:
            totals = [float(number.replace(",", "")) * scale[unit] for number, unit in amounts[:4]]
            found[line.split()[0]] = [round(usd, -3) for usd in totals]
    return found


def _shown(result: PlanResult, width: int) -> str:
    console = Console(width=width, record=True, no_color=True, highlight=False)
    with console.capture() as shown:
        console.print(*brief(result, width), *every(result, width), sep="\n")
    return shown.get()
