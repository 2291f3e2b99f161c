"""Lives of caches, waiting, lengths, retrieval and rules: each against a loop that anyone can read."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from golden import Golden
from isocost.catalog import Catalog
from isocost.catalog.names import resolve
from isocost.cli import main
from isocost.deployment import least_cached_tok, offering_of
from isocost.prompts.lengths import knee
from isocost.prompts.lives import hour_pays_from
from isocost.prompts.make import VIEWS, make
from isocost.prompts.price import Prices, per_month
from isocost.prompts.result import Prompts
from isocost.prompts.sent import read
from isocost.prompts.wait import least_capacity, missed_deadlines
from isocost.prompts.ways import cache_ways
from isocost.prompts.worth import worths
from isocost.replay.prefix import Blocks, blocks, time_to_live
from isocost.replay.reuse import Life, kept, stored
from isocost.trace import example

ON = date(2026, 11, 23)
EXAMPLE = "anthropic/claude-opus-4-6"


@pytest.fixture(scope="module")
def found() -> Prompts:
    return make(example(EXAMPLE), Catalog.load(), ON)


@st.composite
def prompts(draw: st.DrawFn) -> tuple[Blocks, np.ndarray, np.ndarray]:
    rows = draw(st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=4), min_size=1, max_size=12))
    gaps = draw(st.lists(st.integers(0, 900), min_size=len(rows), max_size=len(rows)))
    arrival = np.cumsum(gaps).astype(np.int64) * 10**9
    whole = np.array([100 * len(row) for row in rows], np.int64)
    offsets = np.cumsum([0, *map(len, rows)])
    return blocks(offsets, [i for row in rows for i in row], whole, 100), arrival, whole


@settings(max_examples=80, deadline=None)
@given(prompts(), st.sampled_from([60.0, 300.0, 3600.0]), st.sampled_from([0, 150, 300]))
def test_what_is_kept_is_what_a_loop_keeps(
    drawn: tuple[Blocks, np.ndarray, np.ndarray], life_s: float, least_tok: int
) -> None:
    held, arrival, whole = drawn
    now = kept(held, arrival, whole, Life(life_s, least_tok))
    n = len(whole)
    mine = [held.nodes[held.offsets[i] : held.offsets[i + 1]].tolist() for i in range(n)]
    for i in range(n):
        alive = 0
        for j, node in enumerate(mine[i]):
            last = max((arrival[k] for k in range(i) if node in mine[k]), default=None)
            if last is None or arrival[i] - last > life_s * 1e9:
                break
            alive = 100 * (j + 1)
        alive = alive if alive >= least_tok else 0
        shared = 0
        for j, node in enumerate(mine[i]):
            if not any(node in mine[k] for k in range(n) if k != i):
                break
            shared = 100 * (j + 1)
        assert now.read_tok[i] == alive
        assert now.written_tok[i] == (max(0, shared - alive) if shared >= least_tok else 0)
    assert (now.read_tok + now.written_tok <= whole).all()


@settings(max_examples=60, deadline=None)
@given(prompts())
def test_a_stored_cache_holds_only_what_pays(drawn: tuple[Blocks, np.ndarray, np.ndarray]) -> None:
    held, arrival, _ = drawn
    all_, nothing = stored(held, arrival, 3600.0, 1.0, 0.0)
    assert nothing == 0.0
    assert (all_ == time_to_live(held, arrival, 3600 * 10**9)).all()
    for price in (1e-6, 0.3, 5.0):
        read_tok, usd = stored(held, arrival, 3600.0, 1.0, price)
        assert (read_tok <= all_).all()
        assert usd >= 0.0
    none, free = stored(held, arrival, 3600.0, 1e-9, 1.0)
    assert (none.sum(), free) == (0, 0.0)


def test_ways_are_facts_and_a_model_keeps_its_own_least_prefix(catalog: Catalog) -> None:
    at = catalog.at(ON)
    ways = {way.id: way for way in cache_ways(at)}
    assert (ways["anthropic-5m"].life.life_s, ways["anthropic-1h"].life.life_s) == (300.0, 3600.0)
    assert ways["openai"].short.found_frac < ways["openai"].life.found_frac < ways["openai"].long.found_frac
    assert ways["gemini-explicit"].stored
    opus = resolve(at, "claude-opus-4-6", "anthropic")
    assert ways["anthropic-1h"].serves(opus)
    assert not ways["openai"].serves(opus)
    sizes = [
        least_cached_tok(at, resolve(at, name, "anthropic")) for name in ("claude-opus-4-6", "claude-opus-5")
    ]
    assert sizes == [4096, 512]
    assert least_cached_tok(at, resolve(at, "gpt-5.4", "openai")) == 1024


@pytest.mark.parametrize(
    ("subject", "tok"),
    [
        ("api/aws/global.anthropic.claude-opus-4-6-v1:0", 4096),
        ("api/aws/claude_platform/claude-haiku-4-5", 4096),
        ("api/google/claude-opus-4-7", 2048),
        ("api/openrouter/anthropic/claude-opus-4.5", 4096),
        ("api/openrouter/anthropic/claude-opus-5", 512),
        ("api/openrouter/anthropic/claude-sonnet-4.6", 1024),
        ("api/google/gemini-2.5-flash", 1024),
        ("api/groq/openai/gpt-oss-120b", 0),
    ],
)
def test_who_resells_a_closed_model_keeps_its_makers_least_prefix(
    catalog: Catalog, subject: str, tok: int
) -> None:
    """Of open weights no maker's rule holds: a host runs them on servers of its own."""
    at = catalog.at(ON)
    assert least_cached_tok(at, offering_of(at, subject)) == tok


def test_an_hour_pays_exactly_where_it_costs_less(found: Prompts) -> None:
    assert hour_pays_from(0.1, 1.25, 2.0) == pytest.approx(0.75 / 1.15)
    seen = 0
    for one in found.lives:
        own = {way.id: way for way in one.ways if way.own}
        if one.rereads and one.breakeven:
            short, long = own["anthropic-5m"].usd_per_month, own["anthropic-1h"].usd_per_month
            assert short is not None
            assert long is not None
            assert (long < short) == (one.rereads > one.breakeven)
            seen += 1
    assert seen


def test_shares_of_input_sum_and_ways_stay_below_the_endless_cache(found: Prompts) -> None:
    for one in found.lives:
        again = one.reread
        assert again.within_5m + again.within_1h + again.later + again.never == pytest.approx(1.0)
        for way in one.ways:
            assert way.read_frac <= one.endless_read_frac + 1e-9
            if way.own and way.usd_per_month is not None:
                assert way.saves is not None
                assert one.plain_usd_per_month == pytest.approx(way.usd_per_month + way.saves.usd)


def test_bills_by_the_token_are_the_bill(catalog: Catalog) -> None:
    """Rates of single tokens, summed, are what the exact bill says of the same rows."""
    from isocost.bill import price_columns

    sent = read(example(EXAMPLE), catalog, ON)
    rows = np.arange(2_000)
    usd = Prices(sent).logged(rows)
    table = sent.table
    assert table.cached_tok is not None
    columns = {
        "offering": sent.serves[rows],
        "input_tok": table.input_tok[rows], "output_tok": table.output_tok[rows],
        "cached_tok": table.cached_tok[rows], "arrival_ns": np.full(len(rows), 1_795_435_200 * 10**9),
    }  # fmt: skip
    if table.cache_write_tok is not None:
        columns["cache_write_tok"] = table.cache_write_tok[rows]
    exact = price_columns(catalog, sent.offerings, columns).amount_fusd / 1e15
    assert np.abs(usd - exact).max() < 1e-9


def test_an_interval_holds_its_middle_and_widens_with_its_ends(catalog: Catalog) -> None:
    sent = read(example(EXAMPLE), catalog, ON)
    rows = np.arange(len(sent.table))
    usd = np.random.default_rng(1).exponential(1e-3, len(rows))
    plain = per_month(sent, rows, usd)
    wide = per_month(sent, rows, usd, (0.5 * usd.sum(), 1.5 * usd.sum()))
    assert wide.low_usd < plain.low_usd < plain.usd < plain.high_usd < wide.high_usd
    assert plain.usd == pytest.approx(usd.sum() * sent.months)


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), min_size=2, max_size=30), st.integers(0, 8)
)
def test_the_least_capacity_misses_nothing_and_less_of_it_does(
    load: list[tuple[int, int]], steps: int
) -> None:
    fixed, free = (np.array(part, np.float64) for part in zip(*load, strict=True))
    capacity = least_capacity(fixed, free, steps)
    assert fixed.max() - 1e-6 <= capacity <= (fixed + free).max() + 1e-6
    at = np.flatnonzero(free > 0)
    assert missed_deadlines(fixed, at, free[at], steps, capacity * (1 + 1e-9) + 1e-9) == 0
    if len(at) and capacity > fixed.max() + 0.01:
        assert missed_deadlines(fixed, at, free[at], steps, capacity - 0.01) > 0
    assert least_capacity(fixed, free, steps + 4) <= capacity + 1e-6


def test_work_at_night_fills_the_day(found: Prompts) -> None:
    day = np.array([10.0] * 12 + [0.0] * 12)
    jobs = np.array([6.0] * 12 + [0.0] * 12)
    assert least_capacity(day, jobs, 0) == pytest.approx(16.0)
    assert least_capacity(day, jobs, 24) == pytest.approx(10.0)
    assert all(one.missed == 0 for one in found.filled)


def test_waiting_is_declared_by_the_log_or_by_limits_and_never_guessed_for_talks(found: Prompts) -> None:
    by_name = {one.workload: one for one in found.waiting}
    assert (by_name["summarise"].may, by_name["summarise"].declared_h) == ("declared", 24.0)
    assert by_name["chat"].may == by_name["agent"].may == "unlikely"
    assert by_name["faq"].may == "unknown"
    assert [one.deadline_h for one in by_name["faq"].waits] == [1.0, 6.0, 24.0]
    day = by_name["summarise"].waits[-1]
    assert day.promised
    assert day.saves is not None
    assert by_name["summarise"].usd_per_month is not None
    assert day.saves.usd == pytest.approx(by_name["summarise"].usd_per_month / 2)
    assert by_name["summarise"].waits[0].saves is None


def test_caps_cut_less_as_they_rise_and_the_knee_is_one_of_them(found: Prompts) -> None:
    for one in found.trims:
        tok = [cap.cap_tok for cap in one.caps]
        assert tok == sorted(tok)
        assert [cap.cut_frac for cap in one.caps] == sorted((cap.cut_frac for cap in one.caps), reverse=True)
        assert [cap.cost_frac for cap in one.caps] == sorted(cap.cost_frac for cap in one.caps)
        assert one.knee_saves.usd == pytest.approx(one.caps[one.knee].saves_usd)
    assert knee([0.3, 0.1, 0.01], [0.3, 0.28, 0.03]) == 1


def test_retrieval_is_priced_by_part_against_the_cheapest_cache(found: Prompts) -> None:
    assert found.searched
    for one in found.searched:
        parts = one.model_usd + one.embed_usd + one.rerank_usd + one.store_usd
        assert one.saves.usd == pytest.approx(one.today_usd - parts)
        assert one.then_tok < one.mean_tok
    assert {study.source for study in found.studies} >= {"rag-lc-frenzel", "lara-summary"}


def test_a_classifier_pays_for_itself_and_its_people(found: Prompts) -> None:
    for one in found.simple:
        assert one.own_usd > 0
        for share, usd in one.ladder:
            assert usd == pytest.approx(share * one.short_usd - one.own_usd)
    assert {one.workload: one.repeat_frac for one in found.simple}["faq"] == pytest.approx(0.686, abs=0.01)


def test_levers_take_their_worth_from_the_prompts(found: Prompts) -> None:
    seen = {one.name: one for one in worths(found)}
    assert {"prompt-cache", "batch", "input-cap", "output-cap"} <= seen.keys()
    assert list(seen.values()) == sorted(seen.values(), key=lambda one: -one.saves.usd)
    assert all(one.saves.low_usd <= one.saves.usd <= one.saves.high_usd for one in seen.values())


@pytest.mark.parametrize("columns", [80, 100])
def test_what_a_person_sees(
    columns: int, golden: Golden, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    assert main(["prompts"]) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= columns
    golden.check(f"prompts_{columns}.txt", text)


def test_one_view_alone_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prompts", "--view", "lengths", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["views"] == ["lengths"]
    assert shown["trims"]
    assert shown["lives"] == shown["waiting"] == []


def test_bad_input_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prompts", "--view", "prefix"]) == 2
    assert f"Views: {', '.join(VIEWS)}" in capsys.readouterr().err
    report = tmp_path / "usage.csv"
    report.write_text("timestamp,prompt_tokens,completion_tokens\n2026-11-01T00:00:00Z,0,10\n")
    assert main(["prompts", str(report), "--now", "openai/gpt-5.4"]) == 2
    assert "no request that would be made again" in capsys.readouterr().err
    one = tmp_path / "one.csv"
    one.write_text("timestamp,prompt_tokens,completion_tokens\n2026-11-01T00:00:00Z,100,10\n")
    assert main(["prompts", str(one), "--now", "openai/gpt-5.4"]) == 0
    shown = capsys.readouterr().out
    assert "1 request" in shown
    assert main(["prompts", str(one)]) == 0
    assert "at least" in capsys.readouterr().out


def test_the_result_is_plain_data(found: Prompts) -> None:
    assert msgspec.json.decode(msgspec.json.encode(found), type=Prompts) == found


def test_a_log_without_prices_costs_what_is_not_known(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Unknown is never zero: no dollars where no model of the log has a price."""
    lines = [f"2026-10-01T00:{i:02d}:00Z,nobody/tern-9,900,80" for i in range(30)]
    file = tmp_path / "log.csv"
    file.write_text("\n".join(["timestamp,model,input_tokens,output_tokens", *lines]))
    assert main(["prompts", str(file)]) == 0
    said = capsys.readouterr().out
    assert "at prices that are not known" in said
    assert "$0 a month" not in said
