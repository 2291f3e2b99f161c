"""What a model costs to make: parts sum, limiting cases hold, what is unknown stays unknown."""

from __future__ import annotations

import json
import math
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from golden import Golden
from isocost.catalog import Catalog, CatalogAt
from isocost.cli import main
from isocost.develop import WAYS, Ask, Prices, Serve, Tune, laws, optima, programme, read_ask, way
from isocost.develop.hardware import busy_for_own, purchase_term, rent_term
from isocost.develop.optimum import life_optimal, point, prices_of, usd_per_nat, worth
from isocost.develop.posterior import next_of, t_quantile
from isocost.develop.published import (
    ANY,
    Run,
    acquisition_usd,
    amortised_usd,
    chip_hours,
    energy_usd,
    hardware_usd,
    purchase_usd,
    rent_usd,
    start_of,
    value_usd,
)
from isocost.develop.scaling import best_params, budget_for, law, loss, tokens_for
from isocost.errors import BadInput, UnknownFact
from isocost.why.names import Asked, why

ROOT = Path(__file__).parents[1]
DAY = date(2026, 11, 23)
EVEN = Prices(1.0, 1.0)
EXAMPLE = Ask(params=8e9, tokens=100e9)


@pytest.fixture(scope="module")
def at(catalog: Catalog) -> CatalogAt:
    return catalog.at(DAY)


@pytest.mark.parametrize("name", WAYS)
def test_accounts_sum_to_the_whole_and_bands_hold_their_middle(at: CatalogAt, name: str) -> None:
    made = programme(at, EXAMPLE, name)
    assert math.fsum(line.band.mid_usd for line in made.accounts) == pytest.approx(
        made.total.mid_usd, abs=1e-9
    )
    assert made.boundaries[-1].band == made.total
    for one in (made.total, *(line.band for line in made.accounts)):
        assert 0 <= one.low_usd <= one.mid_usd <= one.high_usd


def test_boundaries_differ_as_the_literature_says(at: CatalogAt) -> None:
    """Hardware by use costs less than rent, rent less than buying, and none is the whole."""
    use = {one.name: one.band for one in programme(at, EXAMPLE).boundaries}
    amortised, rented = use["hardware by use + energy"], use["final run, rented"]
    assert amortised is not None
    assert rented is not None
    assert amortised.mid_usd < rented.mid_usd < use["whole programme"].mid_usd  # type: ignore[union-attr]


def test_no_price_of_purchase_is_unknown_not_zero(at: CatalogAt) -> None:
    made = programme(at, Ask(params=8e9, tokens=1e9, gpu="b200"))
    unknown = [one for one in made.boundaries if one.band is None]
    assert len(unknown) == 2
    assert made.own is None
    assert all("not known" in one.note for one in unknown)


def test_what_is_stated_does_not_move(at: CatalogAt) -> None:
    ask = Ask(params=8e9, tokens=100e9, gpu_hours=1000.0, usd_per_gpu_h=2.0)
    final = programme(at, ask).boundaries[0].band
    assert final is not None
    assert final.low_usd == final.mid_usd == final.high_usd == 2000.0


def test_experts_cost_what_they_activate(at: CatalogAt) -> None:
    """The weights' work follows active parameters; what memory holds follows all of them."""
    sparse = programme(at, Ask(params=100e9, params_active=8e9, tokens=1e12, context_tok=0.0))
    dense = programme(at, Ask(params=8e9, tokens=1e12, context_tok=0.0))
    assert sparse.flop == dense.flop == 6 * 8e9 * 1e12
    full = way(at, Ask(params=100e9, params_active=8e9), "full")
    assert full is not None
    assert full.gpus > 16


def test_lora_takes_less_work_and_memory_than_full(at: CatalogAt) -> None:
    made = {one.name: one for one, _ in programme(at, EXAMPLE).ways}
    ratio = made["lora"].gpu_h / made["full"].gpu_h
    fact = {name: at.number(f"slm/{name}", "flop_per_param_tok") for name in ("lora", "full")}
    many = at.number("slm/lora", "examples") / at.number("slm/any", "examples")
    assert ratio == pytest.approx(fact["lora"] / fact["full"] * many)
    assert made["lora"].gpus < made["full"].gpus


def test_the_teacher_is_priced_from_the_catalog(at: CatalogAt) -> None:
    ask = Ask(params=8e9, tune=Tune(teacher="openai/gpt-4o", examples=1000, tok_per_example=1000))
    dear = way(at, ask, "distil")
    assert dear is not None
    written = [charge.usd for charge in dear.book.charges if "writes" in charge.meter]
    assert written == [pytest.approx(1000 * at.number("slm/any", "teacher_tok_per_example") * 10.0 / 1e6)]
    assert "openai/gpt-4o" in dear.note


def test_buying_states_the_month(at: CatalogAt) -> None:
    ask = Ask(params=8e9, serve=Serve(api="openai/gpt-4o", input_mtok_per_month=10, output_mtok_per_month=1))
    bought = way(at, ask, "buy")
    assert bought is not None
    assert "$35 a month" in bought.note


@settings(max_examples=20, deadline=None)
@given(st.floats(1e8, 1e12), st.floats(1e9, 1e13), st.floats(1.1, 10.0))
def test_more_work_never_costs_less(at: CatalogAt, params: float, tok: float, times: float) -> None:
    less, more = (
        way(at, Ask(params=params, tokens=tok * factor, gpu="h100-sxm"), "scratch") for factor in (1.0, times)
    )
    assert less is not None
    assert more is not None
    assert less.book.ledger.total_usd < more.book.ledger.total_usd
    assert less.gpu_h < more.gpu_h


@pytest.mark.parametrize(
    ("field", "says"),
    [
        ("params = 8", "less than a million"),
        ("params = 8e9\ntokens = 100", "less than a million"),
        ("params = 8e9\nmfu_frac = 40", "not a share"),
        ("params = 8e9\nparams_active = 9e9", "between 0 and params"),
        ("params = 8e9\ntoken = 1e9", "unknown field `token`"),
        ("tokens = 1e9", "missing required field `params`"),
        ("params = 8e9\n[tune]\nteacherr = 'x'", "unknown field `teacherr`"),
    ],
)
def test_a_wrong_file_says_what_is_wrong(tmp_path: Path, field: str, says: str) -> None:
    (tmp_path / "slm.toml").write_text(field)
    with pytest.raises(BadInput, match=says):
        read_ask(tmp_path / "slm.toml")


def test_the_example_is_read_and_costed(at: CatalogAt) -> None:
    ask = read_ask(ROOT / "examples" / "slm.toml")
    assert {one.name for one, _ in programme(at, ask).ways} == set(WAYS)


def test_an_unknown_accelerator_or_region_is_refused(at: CatalogAt) -> None:
    with pytest.raises(UnknownFact, match="no accelerator"):
        programme(at, Ask(params=8e9, tokens=1e9, gpu="h1000"))
    with pytest.raises(UnknownFact, match="no region"):
        programme(at, Ask(params=8e9, tokens=1e9, region="atlantis"))


def test_rent_and_purchase_bracket_what_is_quoted(at: CatalogAt) -> None:
    rent = rent_term(at, "h100-sxm")
    assert rent.low_ratio <= 1.0 <= rent.high_ratio
    bought = purchase_term(at, "h100-sxm")
    assert bought is not None
    assert bought.value * bought.high_ratio == pytest.approx(at.number("chip-class/h100", "usd_per_chip"))
    assert busy_for_own(1.0, 1.0, 0.5) == math.inf


# Scaling laws


@pytest.mark.parametrize("name", ["hoffmann-3", "hoffmann-3-precise", "besiroglu", "kaplan"])
def test_the_best_size_is_the_best_of_its_neighbours(at: CatalogAt, name: str) -> None:
    one = law(at, name)
    for flop in (1e20, 1e23):
        best = best_params(one, flop)
        there = loss(one, best, flop / 6 / best)
        for other in (best * 1.02, best / 1.02):
            assert there <= loss(one, other, flop / 6 / other) + 1e-12
        assert best_params(one, budget_for(one, best)) == pytest.approx(best, rel=1e-5)


@settings(max_examples=30, deadline=None)
@given(st.floats(1e9, 1e11), st.floats(1e10, 1e14))
def test_a_whole_life_never_costs_more_than_training_for_its_own_sake(
    at: CatalogAt, params: float, served: float
) -> None:
    one = law(at, "hoffmann-3-precise")
    trained = point(one, params, budget_for(one, params) / 6 / params, served, EVEN)
    best = life_optimal(one, trained.loss, served, EVEN)
    assert best.flop <= trained.flop * (1 + 1e-9)
    assert best.loss == pytest.approx(trained.loss, abs=1e-9)
    assert best.params <= trained.params * (1 + 1e-6)


def test_without_serving_the_whole_life_is_training(at: CatalogAt) -> None:
    one = law(at, "besiroglu")
    trained = point(one, 8e9, budget_for(one, 8e9) / 6 / 8e9, 0.0, EVEN)
    assert life_optimal(one, trained.loss, 0.0, EVEN).params == pytest.approx(8e9, rel=1e-3)


def test_the_published_figure_of_serving_is_reproduced(at: CatalogAt) -> None:
    """Sardana et al. 2023, Figure 1: 13B served 2T tokens is best replaced by about 7B, 17 % saved."""
    one = law(at, "hoffmann-3-precise")
    trained = point(one, 13e9, budget_for(one, 13e9) / 6 / 13e9, 2e12, EVEN)
    best = life_optimal(one, trained.loss, 2e12, EVEN)
    assert round(best.params / 1e9) == 7
    assert round(1 - best.flop / trained.flop, 2) == 0.17


def test_a_size_out_of_reach_needs_infinite_tokens(at: CatalogAt) -> None:
    assert tokens_for(law(at, "hoffmann-3"), 1e7, 1.8) == math.inf


def test_more_is_worth_it_until_the_next_hundredth_costs_its_worth(at: CatalogAt) -> None:
    one, prices = law(at, "besiroglu"), prices_of(at, "h100-sxm")
    stop = worth(one, prices, 1000.0, 0.01)
    assert usd_per_nat(one, stop, prices.train_usd_per_flop) * 0.01 == pytest.approx(1000.0, rel=1e-3)
    assert worth(one, prices, 2000.0, 0.01) > stop


def test_laws_without_a_loss_say_an_allocation_alone(at: CatalogAt) -> None:
    found = {one.law.name: one for one in optima(at, 1e12, EVEN, params=8e9)}
    assert set(found) == {one.name for one in laws(at)}
    assert all((one.lived is None) == (not one.law.has_loss) for one in found.values())
    by_loss = optima(at, 1e12, EVEN, target_loss=2.1)
    assert all(one.law.has_loss and one.trained.loss == pytest.approx(2.1, abs=1e-6) for one in by_loss)


# The published methods


@pytest.fixture
def run() -> Run:
    return Run("X", "Someone", date(2023, 6, 1), "nvidia-a100-sxm4-80-gb", 1000.0, 500.0, None, 1e24)


def test_amortised_is_hardware_and_energy(catalog: Catalog, run: Run) -> None:
    assert amortised_usd(catalog, run) == pytest.approx(hardware_usd(catalog, run) + energy_usd(catalog, run))


def test_costs_follow_hours_and_chips(catalog: Catalog, run: Run) -> None:
    import msgspec

    twice = msgspec.structs.replace(run, chips=2000.0)
    for cost in (acquisition_usd, rent_usd, amortised_usd):
        assert cost(catalog, twice) == pytest.approx(2 * cost(catalog, run))
    assert chip_hours(catalog, run) == 500_000.0


def test_worth_falls_until_training_starts(catalog: Catalog, run: Run) -> None:
    usd, since = purchase_usd(catalog, run)
    assert since <= start_of(catalog, run) < run.published
    assert value_usd(catalog, run) < usd
    early = Run("Y", "Someone", date(2019, 1, 1), run.chip, run_h=24.0)
    assert value_usd(catalog, early) == pytest.approx(purchase_usd(catalog, early)[0])


def test_hours_follow_from_compute_where_they_are_hidden(catalog: Catalog, run: Run) -> None:
    import msgspec

    hidden = msgspec.structs.replace(run, chips=None, run_h=None)
    peak = catalog.at(ANY).number(f"chip/{run.chip}", "flop_per_s")
    assert chip_hours(catalog, hidden) == pytest.approx(1e24 / (peak * 0.375) / 3600)
    with pytest.raises(UnknownFact, match="number of chips"):
        acquisition_usd(catalog, hidden)
    with pytest.raises(UnknownFact, match="neither hours nor compute"):
        chip_hours(catalog, msgspec.structs.replace(hidden, flop=None))


def test_a_run_without_hardware_has_that_of_its_year(catalog: Catalog) -> None:
    unknown = Run("Z", "Someone", date(2024, 3, 1), flop=1e25)
    named = Run("Z", "Someone", date(2024, 3, 1), "nvidia-a100", flop=1e25)
    assert amortised_usd(catalog, unknown) == amortised_usd(catalog, named)


# Posteriors


def test_quantiles_of_student_against_scipy() -> None:
    stats = pytest.importorskip("scipy.stats")
    for degrees in (1, 2, 5, 38):
        for level in (0.9, 0.95):
            assert t_quantile(level, degrees) == pytest.approx(stats.t.ppf(level, degrees), rel=1e-3)


def test_the_next_of_many_alike_is_alike() -> None:
    low, high = next_of([2.0, 2.001, 1.999, 2.0], 0.9)
    assert 1.99 < low < 2.0 < high < 2.01


# The terminal


@pytest.mark.parametrize(
    ("name", "argv"),
    [
        ("develop", ["develop", "--params", "8e9", "--tokens", "100e9"]),
        ("develop_lora", ["develop", str(ROOT / "examples" / "slm.toml"), "--way", "lora"]),
        ("develop_optimum", ["develop", "optimum", "--inference-tokens", "2e12", "--params", "8e9"]),
    ],
)
def test_terminal(name: str, argv: list[str], golden: Golden, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*argv, "--date", DAY.isoformat()]) == 0
    golden.check(f"{name}.txt", capsys.readouterr().out)


def test_json_is_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["develop", "--params", "8B", "--tokens", "100B", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    charged = math.fsum(one["usd"] for one in found["charges"])
    assert charged == pytest.approx(
        found["total"]["mid_usd"] if isinstance(found["total"], dict) else found["total"][1]
    )
    assert main(["develop", "optimum", "--inference-tokens", "1T", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["optima"]


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["develop"], "no model to cost"),
        (["develop", "--params", "many"], "not a count"),
        (["develop", "--params", "8e9", "--way", "scratch"], "needs tokens"),
        (["develop", "nowhere.toml"], "no such file"),
        (["develop", "optimum", "--inference-tokens", "1T", "--params", "8B", "--loss", "2"], "both state"),
        (["develop", "optimum", "--inference-tokens", "1T", "--loss", "0.001"], "no law reaches"),
    ],
)
def test_wrong_words_get_one_line(argv: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 2
    said = capsys.readouterr()
    assert says in said.err
    assert said.out == ""


@pytest.mark.parametrize("quantity", ["flop", "gpu_h", "kwh", "tco2e", "usd"])
def test_why_prints_formulas_that_give_their_numbers(at: CatalogAt, quantity: str) -> None:
    tree = why(at, f"develop/8e9x100e9@h100-sxm.{quantity}", Asked(1, 1))
    for node in tree.walk():
        assert node.evaluate() == pytest.approx(node.value, rel=1e-9)
    assert tree.all_facts()


def test_why_and_the_command_say_one_number(at: CatalogAt) -> None:
    tree = why(at, "develop/8e9x100e9@h100-sxm.usd", Asked(1, 1))
    final = programme(at, EXAMPLE).boundaries[0].band
    assert final is not None
    assert tree.value == pytest.approx(final.mid_usd, rel=1e-9)


def test_an_accelerator_without_a_quote_asks_for_its_rent(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["develop", "--params", "8e9", "--tokens", "1e9", "--gpu", "rtx-4090"]
    assert main(words) == 2
    assert "--usd-per-gpu-h" in capsys.readouterr().err
    assert main([*words, "--usd-per-gpu-h", "0.4"]) == 0


def test_hours_are_as_sure_as_utilisation(at: CatalogAt) -> None:
    low, high = programme(at, EXAMPLE).hours_range
    fact = at.fact("development/posterior", "mfu_frac", "chip=h100")
    assert fact.low is not None
    assert high / low == pytest.approx(fact.high / fact.low)  # type: ignore[operator]
    stated = programme(at, Ask(params=8e9, tokens=1e11, gpu_hours=5000.0))
    assert stated.hours_range == (5000.0, 5000.0)


def test_a_student_never_beats_a_perfect_reach_of_its_teacher(at: CatalogAt) -> None:
    """More data bring a student nearer to its teacher; the teacher's own loss is the floor of the law."""
    found = [programme(at, Ask(params=8e9, tokens=tok)).distilled for tok in (1e10, 1e11, 1e13)]
    nats = [one.distilled_nats for one in found if one is not None]
    assert nats == sorted(nats, reverse=True)
    assert all(one.distilled_nats > one.teacher_nats for one in found if one is not None)
