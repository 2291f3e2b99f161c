"""The quality test and the token ratios: cases with numbers of their own, and properties."""

from __future__ import annotations

import math
from datetime import date
from statistics import NormalDist

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isocost.catalog.catalog import Catalog, CatalogAt
from isocost.catalog.evidence import (
    Comparison,
    input_ratio,
    may_quantise,
    may_replace,
    non_inferior,
    output_ratio,
    score_difference,
    standard_error,
    tok_per_char,
)
from isocost.catalog.fact import Fact
from isocost.errors import BadFact, BadInput, UnknownFact

DAY = date(2026, 11, 22)


def fact(
    subject: str,
    attribute: str,
    value: float | str,
    when: str = "",
    low: float | None = None,
    high: float | None = None,
) -> Fact:
    return Fact(
        subject, attribute, when, value, "", low, high, None, None, "test", "", DAY, "assumed", "", ""
    )


def catalog(*facts: Fact) -> CatalogAt:
    return Catalog(facts, {}, {}, "test").at(DAY)


def score(model: str, value: float, benchmark: str = "b", harness: str = "h", more: str = "") -> Fact:
    when = f"benchmark={benchmark};{more}harness={harness}"
    return fact(f"model/{model}", "score", value, when)


def size(n: int, benchmark: str = "b", harness: str = "h") -> Fact:
    return fact(f"benchmark/{benchmark}", "n_questions", float(n), f"harness={harness}")


def domain(kind: str, benchmark: str = "b") -> Fact:
    return fact(f"benchmark/{benchmark}", "domain", kind)


def compared(one: float, two: float, n: int, benchmark: str = "b", kind: str = "rag") -> Comparison:
    return Comparison(benchmark, "h", kind, n, one, two, one - two, standard_error(one, two, n), ())


@pytest.fixture(scope="module")
def shipped() -> CatalogAt:
    return Catalog.load().at(DAY)


# --- the test by hand


def test_a_worked_case() -> None:
    """80 % against 82 % on 10,000 questions: se 0.56 pt, one-sided 95 % bound −2.9 pt."""
    [each] = score_difference(catalog(score("a", 0.80), score("b", 0.82), size(10_000)), "a", "b")
    by_hand = math.sqrt(0.8 * 0.2 / 10_000 + 0.82 * 0.18 / 10_000)
    assert each.difference == pytest.approx(-0.02)
    assert each.se == pytest.approx(by_hand, rel=1e-3)
    verdict = non_inferior([each], 0.02)
    assert verdict.lower == pytest.approx(-0.02 - NormalDist().inv_cdf(0.95) * each.se)
    assert not verdict.passes
    assert verdict.reason == "-2.0 +/- 0.9 pt on 1 benchmark; could be worse by more than 2 pt"
    assert non_inferior([each], 0.03).passes


def test_no_shared_benchmark_fails() -> None:
    facts = (score("a", 0.9, "x"), score("b", 0.1, "y"), size(100, "x"), size(100, "y"))
    assert score_difference(catalog(*facts), "a", "b") == []
    verdict = non_inferior([], 0.02)
    assert (verdict.passes, verdict.reason) == (False, "no shared benchmark")
    assert math.isnan(verdict.lower)


def test_the_same_benchmark_in_another_harness_is_not_shared() -> None:
    facts = (score("a", 0.9, harness="one"), score("b", 0.1, harness="two"), size(99, harness="one"))
    assert score_difference(catalog(*facts), "a", "b") == []


def test_a_benchmark_counts_once() -> None:
    """Releases of a leaderboard share questions: the largest is taken, of equals the newest."""
    sizes_of = {"v1": 100, "v2": 300, "v3": 300, "v4": 200}
    facts = [size(n, harness=harness) for harness, n in sizes_of.items()]
    facts += [score(model, 0.5, harness=harness) for model in "ab" for harness in sizes_of]
    assert [each.harness for each in score_difference(catalog(*facts), "a", "b")] == ["v3"]


def test_a_score_of_another_configuration_does_not_count() -> None:
    facts = (score("a", 0.99, more="effort=high;"), score("b", 0.5), size(1000))
    assert score_difference(catalog(*facts), "a", "b") == []


def test_wide_evidence_fails_even_where_the_candidate_scored_higher() -> None:
    assert not non_inferior([compared(0.60, 0.58, 50)], 0.02).passes
    assert non_inferior([compared(0.60, 0.58, 50_000)], 0.02).passes


def test_the_number_of_questions_decides() -> None:
    verdicts = [non_inferior([compared(0.70, 0.71, n)], 0.02).passes for n in (100, 1_000, 100_000)]
    assert verdicts == [False, False, True]


def test_one_proven_loss_outweighs_a_good_mean() -> None:
    good = [compared(0.9, 0.6, 5_000, f"good{i}") for i in range(5)]
    bad = compared(0.5, 0.6, 5_000, "hard")
    verdict = non_inferior([*good, bad], 0.02)
    assert verdict.difference > 0.2
    assert not verdict.passes
    assert "proven loss on hard (-10.0 pt)" in verdict.reason


def test_every_benchmark_counts_once() -> None:
    """The mean is over benchmarks: a large one cannot hide a small one of another kind of work."""
    large, small = compared(0.62, 0.60, 100_000, "large"), compared(0.50, 0.58, 400, "small", "code")
    assert non_inferior([large, small], 0.02).difference == pytest.approx(-0.03)
    assert not non_inferior([large, small], 0.02).passes
    assert non_inferior([large], 0.02).passes


def test_kinds_of_work_that_are_asked_for_must_be_shown() -> None:
    strong = [compared(0.9, 0.8, 10_000, kind="rag")]
    assert non_inferior(strong, 0.02, domains=["rag"]).passes
    missing = non_inferior(strong, 0.02, domains=["rag", "code"])
    assert (missing.passes, missing.reason) == (False, "no shared benchmark on code")
    narrow = non_inferior(strong, 0.02, min_domains=2)
    assert not narrow.passes
    assert narrow.reason.endswith("only shown for rag")


def test_domains_filter_the_comparisons() -> None:
    here = catalog(
        score("a", 0.9, "x"), score("b", 0.8, "x"), size(9_000, "x"), domain("rag", "x"),
        score("a", 0.1, "y"), score("b", 0.8, "y"), size(9_000, "y"), domain("code", "y"),
        fact("slo/quality", "min_domains", 2.0),
    )  # fmt: skip
    assert [each.domain for each in score_difference(here, "a", "b")] == ["rag", "code"]
    assert may_replace(here, "a", "b", 0.02, domains=("rag",)).passes
    assert not may_replace(here, "a", "b", 0.02).passes


def test_the_same_model_may_always_stay() -> None:
    here = catalog(score("a", 0.5), size(10))
    [each] = score_difference(here, "a", "model/a")
    assert (each.difference, each.se) == (0.0, 0.0)
    assert non_inferior([each], 0.0).passes
    assert may_replace(here, "a", "model/a", 0.0).reason == "same model"
    assert may_replace(catalog(), "new", "new", 0.0).passes


def test_a_perfect_score_is_not_certain() -> None:
    assert standard_error(1.0, 1.0, 20) > 0.05


@pytest.mark.parametrize(("value", "n"), [(1.2, 100), (-0.1, 100), (0.5, 0)])
def test_a_score_that_cannot_be_is_refused(value: float, n: int) -> None:
    with pytest.raises(BadFact):
        score_difference(catalog(score("a", value), score("b", 0.5), size(n)), "a", "b")


def test_a_score_without_its_number_of_questions_is_refused() -> None:
    with pytest.raises(UnknownFact):
        score_difference(catalog(score("a", 0.5), score("b", 0.5)), "a", "b")


@pytest.mark.parametrize(("margin", "confidence"), [(-0.01, 0.95), (0.02, 0.5), (0.02, 1.0), (math.nan, 0.9)])
def test_a_test_that_proves_nothing_is_refused(margin: float, confidence: float) -> None:
    with pytest.raises(BadInput):
        non_inferior([compared(0.5, 0.5, 10)], margin, confidence)


shares = st.floats(0, 1)
sizes = st.integers(1, 100_000)
pairs = st.lists(st.tuples(shares, shares, sizes), min_size=1, max_size=6)


@given(pairs)
def test_swapping_the_models_turns_the_sign(rows: list[tuple[float, float, int]]) -> None:
    there = non_inferior([compared(one, two, n) for one, two, n in rows], 0.02)
    back = non_inferior([compared(two, one, n) for one, two, n in rows], 0.02)
    assert there.difference == pytest.approx(-back.difference, abs=1e-12)
    assert there.lower == pytest.approx(-back.upper, abs=1e-9)


@given(pairs, st.floats(0, 0.3), st.floats(0, 0.3))
def test_a_wider_margin_never_fails_what_passed(
    rows: list[tuple[float, float, int]], one: float, two: float
) -> None:
    comparisons = [compared(a, b, n) for a, b, n in rows]
    strict, lax = sorted((one, two))
    assert non_inferior(comparisons, lax).passes or not non_inferior(comparisons, strict).passes


@given(pairs, st.floats(0.55, 0.999), st.floats(0.55, 0.999))
def test_more_confidence_widens_the_bounds(
    rows: list[tuple[float, float, int]], one: float, two: float
) -> None:
    comparisons = [compared(a, b, n) for a, b, n in rows]
    less, more = sorted((one, two))
    assert non_inferior(comparisons, 0.02, more).lower <= non_inferior(comparisons, 0.02, less).lower


@given(shares, shares, st.integers(1, 50_000))
def test_more_questions_never_widen(one: float, two: float, n: int) -> None:
    assert standard_error(one, two, 2 * n) <= standard_error(one, two, n)


# --- tokens


def ratio(tokenizer: str, low: float, mid: float, high: float) -> Fact:
    return fact(f"tokenizer/{tokenizer}", "ratio_to_o200k", mid, "content=mixed", low, high)


def talks(model: str, mid: float, when: str = "basis=tokens;content=code;ref=r") -> Fact:
    return fact(f"model/{model}", "verbosity_ratio", mid, when, mid * 0.8, mid * 1.25)


TOKENS = (
    ratio("t1", 1, 1, 1),
    ratio("t2", 1.1, 1.2, 1.3),
    ratio("unknown", 0.8, 1.05, 1.6),
    fact("model/a", "tokenizer", "t1"),
    fact("model/b", "tokenizer", "t2"),
    fact("model/c", "tokenizer", "t2"),
    fact("model/unknown", "verbosity_ratio", 1.0, "basis=tokens;content=any;ref=any", 0.5, 3.0),
)


def test_input_ratio_by_hand() -> None:
    here = catalog(*TOKENS)
    there = input_ratio(here, "a", "b")
    assert (there.low, there.mid, there.high) == pytest.approx((1.1, 1.2, 1.3))
    assert there.known
    back = input_ratio(here, "b", "a")
    assert (back.low, back.mid, back.high) == pytest.approx((1 / 1.3, 1 / 1.2, 1 / 1.1))


def test_one_tokenizer_is_exactly_one() -> None:
    here = catalog(*TOKENS)
    for target in ("b", "c"):
        found = input_ratio(here, "b", target)
        assert (found.low, found.mid, found.high, found.known) == (1, 1, 1, True)


def test_an_unknown_tokenizer_widens_and_says_so() -> None:
    found = input_ratio(catalog(*TOKENS), "a", "new")
    assert not found.known
    assert found.low < 1 < found.high
    assert found.high / found.low > 1.5
    assert any("tokenizer/unknown" in each for each in found.facts)


def test_two_unknown_tokenizers_are_not_taken_for_one() -> None:
    found = input_ratio(catalog(*TOKENS), "new", "newer")
    assert not found.known
    assert found.low < 1 < found.high


def test_output_ratio_of_billed_tokens_needs_no_tokenizer() -> None:
    found = output_ratio(catalog(*TOKENS, talks("a", 1.0), talks("b", 2.0)), "a", "b")
    assert found.mid == pytest.approx(2.0)
    assert found.known


def test_output_ratio_of_text_is_converted_to_tokens() -> None:
    when = "basis=text;content=summary;ref=r"
    found = output_ratio(catalog(*TOKENS, talks("a", 1.0, when), talks("b", 2.0, when)), "a", "b")
    assert found.mid == pytest.approx(2.0 * 1.2)
    assert found.known


def test_a_text_ratio_with_an_unknown_tokenizer_is_not_known() -> None:
    when = "basis=text;content=summary;ref=r"
    text = catalog(*TOKENS, talks("a", 1.0, when), talks("new", 2.0, when))
    assert not output_ratio(text, "a", "new").known
    billed = catalog(*TOKENS, talks("a", 1.0), talks("new", 2.0))
    assert output_ratio(billed, "a", "new").known


def test_verbosity_on_other_tasks_is_not_comparable() -> None:
    other = talks("b", 2.0, "basis=tokens;content=chat;ref=s")
    found = output_ratio(catalog(*TOKENS, talks("a", 1.0), other), "a", "b")
    assert (found.low, found.mid, found.high, found.known) == (0.5, 1.0, 3.0, False)


def test_thinking_moves_the_default() -> None:
    usual = "basis=tokens;content=any;ref="
    here = catalog(
        *TOKENS,
        fact("model/unknown", "verbosity_ratio", 1.0, usual + "alike", 0.6, 1.8),
        fact("model/unknown", "verbosity_ratio", 3.0, usual + "without-thinking", 1.5, 10.0),
        *(fact(f"model/{name}", "thinks", "true") for name in "pq"),
        *(fact(f"model/{name}", "thinks", "false") for name in "xy"),
    )
    spans = {pair: output_ratio(here, *pair) for pair in ("xp", "px", "pq", "xy", "xz", "zp")}
    assert not any(each.known for each in spans.values())
    assert [spans[pair].mid for pair in ("xp", "pq", "xy", "xz", "zp")] == [3.0, 1.0, 1.0, 1.0, 1.0]
    assert (spans["px"].low, spans["px"].mid, spans["px"].high) == pytest.approx((0.1, 1 / 3, 1 / 1.5))
    assert spans["xy"].high < spans["xz"].high


def test_the_kind_of_content_is_preferred() -> None:
    chat = "basis=tokens;content=chat;ref=r"
    here = catalog(*TOKENS, talks("a", 1), talks("b", 2), talks("a", 1, chat), talks("b", 8, chat))
    assert output_ratio(here, "a", "b", "chat").mid == pytest.approx(8)
    both = output_ratio(here, "a", "b")
    assert both.mid == pytest.approx(4)
    assert both.low < 2 < 8 < both.high


def test_the_same_model_needs_no_conversion() -> None:
    for convert in (input_ratio, output_ratio):
        found = convert(catalog(), "x", "model/x")
        assert (found.low, found.mid, found.high, found.known) == (1, 1, 1, True)


def test_a_missing_default_is_said_not_guessed() -> None:
    with pytest.raises(UnknownFact):
        output_ratio(catalog(), "x", "y")
    with pytest.raises(UnknownFact):
        input_ratio(catalog(), "x", "y")


def test_tokens_of_a_character(shipped: CatalogAt) -> None:
    """Four characters a token, about; a tokenizer that was not counted borrows o200k's count."""
    counted = tok_per_char(shipped, "gpt-4o")
    borrowed = tok_per_char(shipped, "claude-sonnet-4-5")
    guessed = tok_per_char(shipped, "never-heard-of")
    assert 0.18 < counted.mid < 0.3
    assert borrowed.mid > counted.mid
    assert (counted.known, borrowed.known, guessed.known) == (True, True, False)
    assert guessed.high / guessed.low > counted.high / counted.low


@given(st.floats(0.2, 5), st.floats(0.2, 5))
def test_ratios_there_and_back_cancel(one: float, two: float) -> None:
    here = catalog(*TOKENS, talks("a", one), talks("b", two))
    there, back = output_ratio(here, "a", "b"), output_ratio(here, "b", "a")
    assert there.mid * back.mid == pytest.approx(1)
    assert there.low * back.high == pytest.approx(1)


# --- the facts that ship


def test_the_shipped_scores_can_be_compared(shipped: CatalogAt) -> None:
    """Every score has a size and a kind of work, and the same harness holds open and closed models."""
    scores = [each for each in shipped.catalog.facts if each.attribute == "score"]
    assert len({each.subject for each in scores}) >= 25
    for each in scores:
        parts = dict(part.split("=") for part in each.when.split(";"))
        assert (
            shipped.number(f"benchmark/{parts['benchmark']}", "n_questions", f"harness={parts['harness']}")
            >= 1
        )
        assert shipped.text(f"benchmark/{parts['benchmark']}", "domain")


def test_the_shipped_evidence_is_sane(shipped: CatalogAt) -> None:
    margin = shipped.number("slo/quality", "quality_margin_frac")
    assert not may_replace(shipped, "gpt-4o-mini", "gpt-4o", margin).passes
    assert not may_replace(shipped, "llama-3.1-8b", "gpt-4o", margin).passes
    assert may_replace(shipped, "claude-3-5-sonnet", "gpt-4o-mini", margin).passes


def test_one_narrow_benchmark_proves_no_general_swap(shipped: CatalogAt) -> None:
    verdict = may_replace(shipped, "granite-4.0-h-small", "gpt-4.1", 0.02)
    assert not verdict.passes
    assert verdict.reason.endswith("only shown for rag")
    assert may_replace(shipped, "granite-4.0-h-small", "gpt-4.1", 0.02, domains=("rag",)).passes


def test_quantisation_needs_evidence_too(shipped: CatalogAt) -> None:
    """A model's own measurement counts before the default, and a wide default fails."""
    here = catalog(
        fact("model/unknown", "quantised_recovery_frac", 0.98, "dtype=int4", 0.95, 1.0),
        fact("model/a", "quantised_recovery_frac", 0.993, "dtype=int4", 0.985, 1.0),
    )
    assert may_quantise(here, "a", "int4", 0.02).passes
    guess = may_quantise(here, "b", "int4", 0.02)
    assert (guess.passes, guess.lower) == (False, pytest.approx(-0.05))
    assert guess.reason == "int4 keeps 98.0 % (95.0 to 100.0); could lose more than 2 %"
    with pytest.raises(UnknownFact):
        may_quantise(here, "a", "fp2", 0.02)
    assert may_quantise(shipped, "qwen3-32b", "fp8", 0.02).passes
    assert not may_quantise(shipped, "qwen3-32b", "fp4", 0.02).passes


def test_the_shipped_ratios_are_ordered(shipped: CatalogAt) -> None:
    for target in ("claude-sonnet-4-5", "gemini-2.5-flash", "qwen3-32b", "llama-3.3-70b", "never-heard-of"):
        for found in (input_ratio(shipped, "gpt-4o", target), output_ratio(shipped, "gpt-4o", target)):
            assert 0 < found.low <= found.mid <= found.high
    assert not input_ratio(shipped, "gpt-4o", "never-heard-of").known
    assert not output_ratio(shipped, "gpt-4o", "never-heard-of").known
    assert input_ratio(shipped, "gpt-4o", "claude-sonnet-4-5").low > 1


@pytest.mark.parametrize("shape", ["office", "consumer", "flat"])
def test_the_shipped_shapes_are_means_of_one(shipped: CatalogAt, shape: str) -> None:
    hours = [shipped.number(f"shape/{shape}", "hour_weight", f"hour={hour}") for hour in range(24)]
    week = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
    days = [shipped.number(f"shape/{shape}", "day_weight", f"day={day}") for day in week]
    assert sum(hours) / 24 == pytest.approx(1, abs=2e-3)
    assert sum(days) / 7 == pytest.approx(1, abs=2e-3)


def test_every_account_is_in_one_pillar(shipped: CatalogAt) -> None:
    pillars = list(shipped.each("account/", "pillar"))
    assert len({each.subject for each in pillars}) == len(pillars) >= 40
    assert {each.value for each in pillars} == {"development", "deployment", "sustainability", "value"}
    for each in pillars:
        assert shipped.text(each.subject, "label")
