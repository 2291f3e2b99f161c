"""What keeping an application costs: sums, intervals, duties, shares, and what a person sees."""

from __future__ import annotations

import json
from datetime import date
from fractions import Fraction
from itertools import permutations
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from golden import Golden
from isocost.catalog import Catalog, CatalogAt
from isocost.cli import main
from isocost.cli.catalog import load
from isocost.errors import BadInput, IsocostError, UnknownFact
from isocost.keep.ask import Ask, Device, Knowledge, Law, Own, Team, Traffic, Upkeep, read
from isocost.keep.book import Keep
from isocost.keep.change import gone_within, keep_moving, lives, loss_usd, seen_in
from isocost.keep.kept import Kept, keep
from isocost.keep.people import needed_fte, steps
from isocost.keep.pooled import exactly, peak_of, shapley, shared
from isocost.keep.stores import chunks, index_of, product, products
from isocost.keep.upkeep import runs_to_pay

EXAMPLES = Path(__file__).parents[1] / "examples"
DAY = date(2026, 11, 23)
FULL = Ask(
    option="slm",
    region="de",
    carbon_usd_per_tonne=80.0,
    services=3,
    knowledge=Knowledge(mtok=200),
    own=Own(gpus=16, on_premises=True, port_to="rocm"),
    upkeep=Upkeep(automated=True),
    device=Device(users=1e5, platforms=2),
)
"""An ask that books every account of its option."""


@pytest.fixture(scope="module")
def at() -> CatalogAt:
    return Catalog.load().at(DAY)


ASKS = {
    "api": Ask(),
    "api with documents": Ask(region="eu", knowledge=Knowledge(mtok=400)),
    "hosted": Ask(option="hosted", region="us", model="openai/gpt-5-mini"),
    "self-hosted": Ask(option="selfhost", region="fr", own=Own(gpus=4, on_premises=True)),
    "everything": FULL,
}


@pytest.mark.parametrize("name", ASKS)
def test_parts_sum_to_the_whole(at: CatalogAt, name: str) -> None:
    kept = keep(at, ASKS[name])
    charges = [charge for line in kept.lines for charge in line.charges]
    assert sum(charge.usd for charge in charges) == pytest.approx(kept.total.mid_usd)
    assert sum(line.band.mid_usd for line in kept.lines) == pytest.approx(kept.total.mid_usd)
    assert sum(band.mid_usd for band in kept.pillars.values()) == pytest.approx(kept.total.mid_usd)
    for charge in charges:
        assert charge.quantity * charge.unit_price_usd == pytest.approx(charge.usd, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("name", ASKS)
def test_every_account_is_booked_or_says_why_not(at: CatalogAt, name: str) -> None:
    kept = keep(at, ASKS[name])
    chart = {
        fact.subject.partition("/")[2]
        for fact in at.each("account/", "pillar")
        if fact.value in ("deployment", "sustainability")
    }
    booked = {line.account for line in kept.lines}
    assert booked | set(kept.absent) == chart
    assert not booked & set(kept.absent)
    assert all(kept.absent.values())
    for line in kept.lines:
        assert line.pillar == at.text(f"account/{line.account}", "pillar")


@pytest.mark.parametrize("name", ASKS)
def test_bands_hold_the_middle(at: CatalogAt, name: str) -> None:
    kept = keep(at, ASKS[name])
    for band in (kept.total, *(line.band for line in kept.lines)):
        assert 0.0 < band.low_usd <= band.mid_usd * (1 + 1e-9) <= band.high_usd * (1 + 2e-9)
    assert kept.total.low_usd < kept.total.mid_usd < kept.total.high_usd


def test_a_full_ask_books_every_account_of_its_option(at: CatalogAt) -> None:
    kept = keep(at, FULL)
    answers = {name for name, why in kept.absent.items() if why.startswith("comes with the answers")}
    assert set(kept.absent) - answers == {"api-change-risk"}
    assert kept.automation is not None
    assert kept.porting


def test_what_is_stated_does_not_move(at: CatalogAt) -> None:
    guessed = keep(at, Ask(option="slm"))
    stated = keep(at, Ask(option="slm", upkeep=Upkeep(retrain_per_year=4.0)))
    assert stated.total.mid_usd == pytest.approx(guessed.total.mid_usd)
    widths = [
        one.band.high_usd - one.band.low_usd
        for kept in (guessed, stated)
        for one in kept.lines
        if one.account == "retraining"
    ]
    assert widths[1] < widths[0]


def test_more_of_anything_costs_no_less(at: CatalogAt) -> None:
    base = keep(at, replace(FULL, traffic=Traffic(1e6))).total.mid_usd
    more = [
        replace(FULL, traffic=Traffic(1e7)),
        replace(FULL, traffic=Traffic(1e6), services=9),
        replace(FULL, traffic=Traffic(1e6), own=replace(FULL.own, gpus=64)),
        replace(FULL, traffic=Traffic(1e6), knowledge=Knowledge(mtok=20_000)),
        replace(FULL, traffic=Traffic(1e6), device=Device(users=1e7, platforms=3)),
    ]
    assert all(keep(at, ask).total.mid_usd > base for ask in more)
    fewer = replace(FULL, traffic=Traffic(1e6), held_fte=1.0)
    assert keep(at, fewer).total.mid_usd < base


def _moved(folder: Path, day: str) -> Catalog:
    folder.mkdir(exist_ok=True)
    (folder / "moved.csv").write_text(
        "subject,attribute,value,source,checked,kind,note\n"
        f"duty/eu-ai-act-high-risk,applies_from,{day},assumption,2026-11-23,assumed,a moved date\n"
    )
    return load(folder)


def test_a_changed_date_is_a_changed_row(tmp_path: Path) -> None:
    """The same duty, in force or to come by one row of facts; the month pays for it only in force."""
    ask = Ask(region="eu", law=Law(risk="high"))
    early, late = (keep(_moved(tmp_path / day, day).at(DAY), ask) for day in ("2026-08-02", "2028-12-02"))

    def of(kept: Kept) -> tuple[bool, float]:
        duty = next(one for one in kept.duties if one.id == "eu-ai-act-high-risk")
        return duty.counts, duty.usd_per_year

    assert of(early) == (True, of(late)[1])
    assert of(late)[0] is False
    assert early.total.mid_usd - late.total.mid_usd > of(late)[1] / 12.0


def test_roles_places_and_classes_of_duties(at: CatalogAt) -> None:
    def ids(law: Law, region: str = "eu", option: str = "api") -> set[str]:
        ask = Ask(region=region, law=law, option=option)  # type: ignore[arg-type]
        return {one.id for one in keep(at, ask).duties}

    assert "eu-ai-act-watermark" in ids(Law(role="provider"))
    assert "eu-ai-act-watermark" not in ids(Law(role="deployer"))
    assert "eu-ai-act-transparency" not in ids(Law(risk="minimal"))
    assert "gdpr" not in ids(Law(personal_data=False))
    assert {"gdpr", "eu-ai-act-literacy"} <= ids(Law(), region="de")
    assert {"gdpr", "ccpa"} <= ids(Law(places=("eu", "us-ca")))
    assert "ccpa-admt" in ids(Law(decides_on_people=True), region="us")
    assert "ccpa-admt" not in ids(Law(), region="us")
    assert "terms-review" not in ids(Law(), option="selfhost")
    assert ids(Law(), region="gb") == {"terms-review"}


def test_a_provider_has_more_to_do_than_a_deployer(at: CatalogAt) -> None:
    def once(role: str) -> float:
        law = Law(role=role, risk="high")  # type: ignore[arg-type]
        found = keep(at, Ask(region="eu", law=law)).duties
        return next(one.setup_usd for one in found if one.id == "eu-ai-act-high-risk")

    assert once("provider") > 2.0 * once("deployer")


def test_a_duty_that_is_set_up_costs_its_years_alone(at: CatalogAt) -> None:
    ask = Ask(region="eu")
    done = replace(ask, law=Law(set_up=("gdpr",)))
    gdpr = next(one for one in keep(at, ask).duties if one.id == "gdpr")
    spared = keep(at, ask).total.mid_usd - keep(at, done).total.mid_usd
    once = Keep("api", at).once().value
    assert spared == pytest.approx(gdpr.setup_usd * once)


def test_people_who_are_there_are_not_paid_again(at: CatalogAt) -> None:
    some, all_of_them = (keep(at, Ask(option="selfhost", held_fte=held)) for held in (0.5, 3.0))
    assert some.people_fte == pytest.approx(keep(at, Ask(option="selfhost")).people_fte - 0.5)
    assert all_of_them.people_fte == 0.0
    assert "held_fte" in all_of_them.absent["operations-staff"]


def test_open_weights_change_hosts_unless_a_model_is_named(at: CatalogAt) -> None:
    assert keep(at, Ask(option="hosted")).change is None
    named = keep(at, Ask(option="hosted", model="openai/gpt-5-mini")).change
    assert named is not None
    assert named.usd_per_year > 0.0


def test_few_searches_set_databases_further_apart(at: CatalogAt) -> None:
    """Whole nodes are paid for idle, searches are not: public prices differ by hundreds."""
    quiet = keep(at, Ask(traffic=Traffic(1e4), knowledge=Knowledge(mtok=10))).databases
    assert quiet[-1].usd_per_month > 400 * quiet[0].usd_per_month


def test_an_unknown_name_says_what_is_known(at: CatalogAt) -> None:
    wrong = {
        "atlantis": Ask(region="atlantis"),
        "sqlite-vss": Ask(knowledge=Knowledge(mtok=1, database="sqlite-vss")),
        "no/model": Ask(model="no/model"),
        "vacuum": Ask(option="selfhost", own=Own(gpu="vacuum")),
        "abacus": Ask(option="selfhost", own=Own(port_to="abacus")),
        "no/embedding": Ask(knowledge=Knowledge(mtok=1, embedding="no/embedding")),
        "no/judge": Ask(upkeep=Upkeep(judge="no/judge")),
    }
    for name, ask in wrong.items():
        with pytest.raises(IsocostError) as found:
            keep(at, ask)
        assert name in str(found.value)
        assert found.value.fix


# Documents


def test_an_index_by_hand(at: CatalogAt) -> None:
    knowledge = Knowledge(
        mtok=1.0, chunk_tok=100, overlap_frac=0.0, dimensions=1000, changed_frac_per_month=0.1,
        reindex_per_year=0.0,
    )  # fmt: skip
    index = index_of(Keep("api", at), knowledge, 1000.0)
    assert index.elements == 10_000 * 1000
    assert index.raw_gb == pytest.approx(10_000 * (4 * 1000 + 1000) / 1e9)
    assert index.written_gb == pytest.approx(0.1 * index.raw_gb)
    found = product(at, "vectordb/opensearch", index)
    assert found.usd_per_month == pytest.approx(4 * 0.24 * 730.5)


def test_databases_lie_far_apart_and_the_unnamed_spans_them(at: CatalogAt) -> None:
    ask = Ask(knowledge=Knowledge(mtok=400))
    kept = keep(at, ask)
    low, high = kept.databases[0].usd_per_month, kept.databases[-1].usd_per_month
    assert high > 50 * low
    line = next(one for one in kept.lines if one.account == "vector-database")
    assert line.band.low_usd == pytest.approx(low, rel=0.02)
    assert line.band.high_usd == pytest.approx(high, rel=0.02)
    assert low < line.band.mid_usd < high


@pytest.mark.parametrize("mtok", [0.1, 3.0, 100.0, 5_000.0])
@pytest.mark.parametrize("times", [1.0, 1.7, 40.0])
def test_a_larger_index_costs_no_less(at: CatalogAt, mtok: float, times: float) -> None:
    book = Keep("api", at)
    small, large = (
        {one.name: one for one in products(at, index_of(book, Knowledge(mtok=size), 1e6))}
        for size in (mtok, mtok * times)
    )
    for name, one in small.items():
        assert one.usd_per_month <= large[name].usd_per_month * (1 + 1e-12)
        assert one.low_usd_per_month <= one.usd_per_month <= one.high_usd_per_month


def test_chunks_without_overlap_are_a_division() -> None:
    assert chunks(1e6, 400.0, 0.0) == 2500.0
    assert chunks(1e6, 400.0, 0.2) == pytest.approx(3125.0)


# People


@given(st.floats(0, 100), st.floats(0.01, 1))
def test_steps_are_whole_and_enough(amount: float, step: float) -> None:
    found = steps(amount, step)
    assert found >= amount - 1e-6 * max(1.0, amount)
    assert found - amount < step * (1 + 1e-6)
    assert found / step == pytest.approx(round(found / step), abs=1e-6)


def test_people_grow_in_steps_by_services() -> None:
    people = [needed_fte(0.5, 0.25, services, 2.0, 0.0) for services in range(1, 6)]
    assert people == [0.5, 0.75, 0.75, 1.0, 1.0]


# Change


def test_a_share_seen_often_is_sure() -> None:
    few, many = seen_in(3, 10), seen_in(300, 1000)
    assert few.low < many.low < 0.3 < many.high < few.high
    assert seen_in(0, 5).low == 0.0
    assert seen_in(5, 5).high == pytest.approx(1.0)


def test_old_models_go_sooner() -> None:
    ages = [1.0, 1.2, 1.4, 2.5]
    assert gone_within(ages, 0.1).mid < gone_within(ages, 0.5).mid
    assert gone_within(ages, 0.5, events=2.0).high > gone_within(ages, 0.5).high
    assert gone_within([], 0.5) == seen_in(0, 0)


def test_nobody_loses_more_than_a_move_costs() -> None:
    assert loss_usd([10.0, 100.0], 1e6, 50.0) == 50.0
    assert loss_usd([1.1], 100.0, 50.0) == pytest.approx(10.0)
    assert loss_usd([], 1e6, 50.0) == 0.0


def test_a_model_without_a_price_has_no_risk_told_in_place_of_an_unknown_one(at: CatalogAt) -> None:
    with pytest.raises(UnknownFact, match="input_usd_per_mtok"):
        keep_moving(Keep("api", at), Ask(), "nobody/no-such-model")


def test_lives_are_of_dated_models(at: CatalogAt) -> None:
    found, days = lives(at)
    assert len(found) >= 20
    assert 0.5 < min(found) < max(found) < 5.0
    assert 5 < days < len(found)


def test_an_announced_end_is_certain(at: CatalogAt) -> None:
    near = keep(at, Ask(model="openai/gpt-5-mini")).change
    unknown = keep(at, Ask(model="mistral/mistral-large-latest")).change
    assert near is not None
    assert unknown is not None
    assert near.retires_on == "2026-12-11"
    assert near.retired == (1.0, 1.0, 1.0)
    assert unknown.retires_on == ""
    assert 0.0 < unknown.retired.low < unknown.retired.mid < unknown.retired.high < 1.0
    before = keep(Catalog.load().at(date(2025, 9, 1)), Ask(model="openai/gpt-5-mini")).change
    assert before is not None
    assert before.retired.mid == 0.0


# Upkeep


def test_automation_pays_from_its_break_even(at: CatalogAt) -> None:
    rare = keep(at, Ask(option="slm", upkeep=Upkeep(retrain_per_year=1)))
    often = keep(at, Ask(option="slm", upkeep=Upkeep(retrain_per_year=12)))
    assert rare.automation is not None
    assert often.automation is not None
    assert rare.automation.runs_to_pay == pytest.approx(often.automation.runs_to_pay)
    assert (rare.automation.pays, often.automation.pays) == (False, True)
    assert runs_to_pay(100.0, 0.0) == float("inf")
    for runs in (1.0, 12.0):
        hand, auto = (
            keep(at, Ask(option="slm", upkeep=Upkeep(retrain_per_year=runs, automated=done)))
            for done in (False, True)
        )
        assert auto.automation is not None
        assert (auto.total.mid_usd < hand.total.mid_usd) == auto.automation.pays


def test_energy_follows_the_grid_and_the_building(at: CatalogAt) -> None:
    def of(region: str, on_premises: bool = True, busy: float = 0.5) -> Kept:
        own = Own(gpus=8, on_premises=on_premises, busy_frac=busy)
        return keep(at, Ask(option="selfhost", region=region, own=own))

    german, french = of("de"), of("fr")
    assert german.energy.kwh == french.energy.kwh
    assert german.energy.kg_co2e[1] / french.energy.kg_co2e[1] == pytest.approx(380 / 52)
    idle, busy = (of("de", busy=share).energy.kwh[1] for share in (0.0, 1.0))
    assert 0.0 < idle < german.energy.kwh[1] < busy
    assert "energy" in of("de", on_premises=False).absent
    assert "energy" not in german.absent


# Sharing

loads = st.lists(st.lists(st.integers(0, 50), min_size=3, max_size=3), min_size=1, max_size=5)


@settings(deadline=None)
@given(loads)
def test_shapley_is_the_mean_over_every_order(hours: list[list[int]]) -> None:
    exact = [[Fraction(one) for one in load] for load in hours]
    n = len(exact)
    orders = list(permutations(range(n)))
    expected = [Fraction(0)] * n
    for order in orders:
        for position, i in enumerate(order):
            before = [exact[j] for j in order[:position]]
            expected[i] += (peak_of([*before, exact[i]]) - peak_of(before)) / len(orders)
    assert shapley(exact) == expected
    assert sum(expected) == peak_of(exact)


@settings(deadline=None)
@given(loads, st.sampled_from(["use", "peak", "shapley"]), st.integers(0, 10**20))
def test_shares_sum_to_the_last_femto_dollar(hours: list[list[int]], rule: str, whole: int) -> None:
    teams = [Team(f"t{i}", tuple(float(x) for x in load)) for i, load in enumerate(hours)]
    parts = shared(whole, teams, rule)  # type: ignore[arg-type]
    assert sum(part.amount_fusd for part in parts) == whole
    assert all(part.amount_fusd >= 0 for part in parts)
    for i, one in enumerate(hours):
        for j, two in enumerate(hours):
            if one == two:
                assert abs(parts[i].amount_fusd - parts[j].amount_fusd) <= 1


def test_teams_that_never_meet_share_the_peak_that_they_share() -> None:
    day = Team("day", (9.0, 0.0))
    night = Team("night", (0.0, 9.0))
    both = shared(100, [day, night], "shapley")
    assert [part.amount_fusd for part in both] == [50, 50]
    assert both[0].apart_frac == 1.0
    assert exactly(7, [Fraction(0), Fraction(0)]) == [4, 3]


def test_the_whole_is_shared(at: CatalogAt) -> None:
    teams = (Team("a", use=3.0), Team("b", use=1.0))
    kept = keep(at, Ask(teams=teams))
    assert [one.frac for one in kept.shares] == pytest.approx([0.75, 0.25])
    assert sum(one.usd for one in kept.shares) == pytest.approx(kept.total.mid_usd)


# The file and the command


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("colour = 1", "colour"),
        ("option = 'cloud'", "cloud"),
        ("services = 0", "services"),
        ("[traffic]\nrequests_per_month = -1", "requests_per_month"),
        ("[own]\nbusy_frac = 2.0", "busy_frac"),
        ("[knowledge]\ndatabase = 'qdrant'", "mtok"),
        ("[law]\nrole = 'judge'", "judge"),
        ("[[teams]]\nname = 'a'\nuse = 1.0\n[[teams]]\nname = 'a'\nuse = 1.0", "one name"),
        ("[[teams]]\nname = 'a'", "load"),
        (
            "share_by = 'shapley'\n[[teams]]\nname='a'\nload=[1.0]\n[[teams]]\nname='b'\nload=[1.0, 2.0]",
            "hours",
        ),
        ("[[teams", "TOML"),
    ],
)
def test_a_wrong_file_says_what_is_wrong(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "keep.toml"
    file.write_text(text)
    with pytest.raises(BadInput) as wrong:
        read(file)
    assert says.lower() in str(wrong.value).lower() or "malformed" in str(wrong.value).lower()
    assert wrong.value.where == str(file)


def test_the_fields_of_the_page_are_those_of_the_file() -> None:
    page = (EXAMPLES.parent / "docs" / "keep.md").read_text()
    code = page.split("```toml\n")[1].split("```")[0]
    msgspec.toml.decode(code, type=Ask)
    for kind in (Ask, Traffic, Knowledge, Own, Law, Upkeep, Device, Team):
        for name in kind.__struct_fields__:
            if name not in ("use", "peak"):
                assert name in code, name


def test_what_a_person_sees(
    golden: Golden, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for columns in ("80", "120"):
        monkeypatch.setenv("COLUMNS", columns)
        assert main(["keep", str(EXAMPLES / "keep.toml"), "--date", "2026-11-23"]) == 0
        golden.check(f"keep_{columns}.txt", capsys.readouterr().out)


def test_options_go_before_the_file(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--option", "selfhost", "--region", "fr", "--requests", "2M/mo", "--in", "1k", "--out", "100"]
    assert main(["keep", str(EXAMPLES / "keep.toml"), *words, "--date", "2026-11-23", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["ask"]["traffic"] == {"requests_per_month": 2e6, "input_tok": 1000.0, "output_tok": 100.0}
    assert (found["ask"]["option"], found["ask"]["region"]) == ("selfhost", "fr")
    assert found["total"]["low_usd"] < found["total"]["mid_usd"] < found["total"]["high_usd"]
    assert sum(one["band"]["mid_usd"] for one in found["lines"]) == pytest.approx(found["total"]["mid_usd"])


@pytest.mark.parametrize(
    "words", [["--date", "soon"], ["--requests", "many"], ["--requests", "1M..2M/mo"], ["absent.toml"]]
)
def test_a_wrong_word_ends_with_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["keep", *words]) == 2
    assert capsys.readouterr().err.count("\n") == 1
