"""Failures of APIs in a replay: what is stated, measured or published, and what policies bring against it."""

from __future__ import annotations

import datetime
import itertools
import random
from pathlib import Path

import numpy as np
import pytest

from isocost.catalog import Catalog
from isocost.errors import BadLimits, BadTrace
from isocost.plan.asked.limits import OwnFailures, read_have
from isocost.plan.written import failed
from isocost.plan.written.failed import Failures
from isocost.plan.written.failing import _drawn, _rates, episodes, rates_of
from isocost.plan.written.file import PlanFile, dumps, loads
from isocost.plan.written.review import review
from isocost.plan.written.told import police
from isocost.replay.faults import renewed
from isocost.trace import Trace, open_trace
from isocost.units import NS_PER_S
from test_policed_seen import BASIS, BIG, SMALL, cascade, seen_of

OPUS = "anthropic/claude-opus-4-5"
RULE = '\n[[policy]]\nworkload = "*"\n{more}[policy.choose]\nkind = "fixed"\ndeployment = "{name}"\n'
STATED = '\n[[failure]]\nprovider = "openai"\n{what}\n'
N = 4000


def plan(more: str = "", failures: str = "", name: str = BIG) -> PlanFile:
    return loads(BASIS + RULE.format(more=more, name=name) + failures)


def log(path: Path, failing: float = 0.0, down: tuple[float, float] | None = None) -> Trace:
    """4,000 requests over four days; a share fails, and in an incident (hours) nine in ten."""
    rng, at, rows = random.Random(1), datetime.datetime(2026, 11, 1), []
    for i in range(N):
        t = at + datetime.timedelta(seconds=i * 86.4)
        in_incident = down is not None and down[0] <= i * 86.4 / 3600 < down[1]
        bad = rng.random() < (0.9 if in_incident else failing)
        rows.append(f"{t.isoformat()}Z,{BIG},1000,100,0.5,{3.5 if bad else 2.0},{'error' if bad else 'ok'}")
    path.write_text(
        "timestamp,model,input_tokens,output_tokens,ttft_s,e2e_s,status\n" + "\n".join(rows) + "\n"
    )
    return open_trace(path)


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Trace:
    return log(tmp_path_factory.mktemp("log") / "log.csv")


def fails(trace: Trace, made: PlanFile, catalog: Catalog) -> Failures:
    found = police(trace, made, catalog)[0].failures
    assert found is not None
    return found


def test_a_log_without_failures_is_not_taken_to_have_none(clean: Trace, catalog: Catalog) -> None:
    found = fails(clean, plan(), catalog)
    assert [(one.deployment, one.source) for one in found.rates] == [(BIG, "published")]
    assert 0.97 < found.availability_frac.value < 0.9999
    assert found.availability_frac.low < found.availability_frac.value < found.availability_frac.high
    assert found.usd.value == found.usd.high == 0.0  # what fails costs nothing
    assert found.unpaid_usd.value > 0


def test_what_is_stated_is_played(clean: Trace, catalog: Catalog) -> None:
    stated = STATED.format(what="error_frac = 0.1\nerror_s = 1.0\nhang_frac = 0.0\noutage_frac = 0.0")
    alone = fails(clean, plan("", stated), catalog)
    assert alone.rates[0].source == "stated"
    assert alone.availability_frac.value == pytest.approx(0.9, abs=0.01)
    again = fails(clean, plan("recover = { retries = 2, pause_s = 1.0 }\n", stated), catalog)
    assert again.availability_frac.value == pytest.approx(0.999, abs=0.001)
    assert again.failed.value > alone.failed.value
    other = fails(clean, plan(f'recover = {{ fallback = ["{OPUS}"] }}\n', stated), catalog)
    assert other.availability_frac.value > 0.99
    assert other.usd.value > 0  # a tenth goes to what is dearer
    assert again.usd.value == pytest.approx(0.0, abs=1e-9)
    waits = police(clean, plan("recover = { retries = 2, pause_s = 1.0 }\n", stated), catalog)[0].most.waiting
    assert waits is not None
    assert waits.e2e_p95_s == 2.0
    assert again.e2e_p95_s is not None
    assert again.e2e_p95_s.value == pytest.approx(4.0)  # a second to fail, a second's pause, the answer


def test_the_logs_own_failures_measure_them(tmp_path: Path, catalog: Catalog) -> None:
    trace = log(tmp_path / "log.csv", failing=0.05)
    found = fails(trace, plan(), catalog)
    assert (found.rates[0].source, found.rates[0].calls) == ("measured", N)
    assert found.rates[0].error_frac == pytest.approx(0.05, abs=0.01)
    assert found.availability_frac.value == pytest.approx(0.95, abs=0.01)
    assert found.kinds["outage"] == 0
    # Whoever the log does not know fails as published.
    other = fails(trace, plan(name=OPUS), catalog)
    assert other.rates[0].source == "published"


def test_incidents_in_a_log_are_bursts_that_retries_do_not_mend(tmp_path: Path, catalog: Catalog) -> None:
    trace = log(tmp_path / "log.csv", failing=0.01, down=(20.0, 26.0))
    retry = "recover = { retries = 2, pause_s = 1.0 }\n"
    found = fails(trace, plan(retry), catalog)
    assert found.kinds["outage"] > 5 * found.kinds["error"]
    share = 6 / 96 * 0.9**3
    assert 1 - found.availability_frac.value == pytest.approx(share, rel=0.3)
    assert found.availability_frac.low < found.availability_frac.high
    elsewhere = fails(trace, plan(f'recover = {{ fallback = ["{OPUS}"] }}\n'), catalog)
    assert 1 - elsewhere.availability_frac.value < 0.2 * share


def test_scattered_failures_are_no_incident() -> None:
    at = np.arange(20_000) * 30 * NS_PER_S
    for seed in range(5):
        failed = np.random.default_rng(seed).random(20_000) < 0.05
        assert len(episodes(at, failed)) <= 1
    failed[5000:5020] = True
    found = episodes(at, failed)
    assert any(first <= at[5005] <= last and share > 0.5 for first, last, share in found)


def test_a_quota_of_the_plan_refuses_and_a_fallback_takes_what_is_over(
    clean: Trace, catalog: Catalog
) -> None:
    """A request every 86 s, 1,100 tokens: half of a quota's 380 tokens a minute are not enough."""
    none = "error_frac = 0.0\nhang_frac = 0.0\noutage_frac = 0.0"
    quota = STATED.format(what=none) + '\n[[rate_limits]]\nprovider = "openai"\ntok_per_min = {most}\n'
    tight = fails(clean, plan("", quota.format(most=1100 / 86.4 * 60 / 2 + 1100)), catalog)
    assert tight.availability_frac.value == 1.0  # a bucket of two minutes' worth fills in time
    tight = fails(clean, plan("", quota.format(most=400)), catalog)
    assert tight.availability_frac.value == 0.0  # no request ever fits
    assert tight.kinds["refused"] == N
    both = plan(f'recover = {{ fallback = ["{OPUS}"] }}\n', quota.format(most=400))
    assert fails(clean, both, catalog).availability_frac.value > 0.98


def test_an_answer_past_the_time_limit_is_cut_and_partly_billed(clean: Trace, catalog: Catalog) -> None:
    none = "error_frac = 0.0\nhang_frac = 0.0\noutage_frac = 0.0\ntimeout_s = 1.25"
    found = fails(clean, plan("", STATED.format(what=none)), catalog)
    assert found.kinds["cut"] == N
    assert found.lost.value == N
    input_usd, output_usd = 1000 * 2.5e-6, 100 * 15e-6
    left = N * (output_usd * (1 - 0.75 / 1.5))
    assert found.unpaid_usd.value == pytest.approx(left, rel=1e-6), input_usd


def test_a_hedge_is_paid_for_what_it_made(clean: Trace, catalog: Catalog) -> None:
    """Two seconds an answer, half of one to its first token; a hedge is begun after a quarter of one."""
    hedge = f'hedge = {{ deployment = "{SMALL}", after_s = 0.25 }}\n'
    found, _ = police(clean, plan(hedge), catalog)
    by = {row.deployment: row for row in found.most.answered}
    alone = police(clean, plan(name=SMALL), catalog)[0].most.usd
    assert by[SMALL].attempts == N
    assert 0 < by[SMALL].usd < alone
    assert by[BIG].requests > 0
    assert by[BIG].requests + by[SMALL].requests == N


def test_draws_of_a_fit_and_of_failures_go_together(clean: Trace, catalog: Catalog) -> None:
    found, _ = police(clean, loads(BASIS + cascade(seen_of(0.7, 400))), catalog)
    assert found.likely is not None
    assert found.failures is not None
    assert found.failures.draws == 21
    again, _ = police(clean, loads(BASIS + cascade(seen_of(0.7, 400))), catalog)
    assert again.failures == found.failures


def test_a_plan_of_routes_is_played_too(clean: Trace, catalog: Catalog) -> None:
    route = (
        f'\n[[route]]\nworkload = "log"\nmodel = "*"\nshare = [{{ deployment = "{BIG}", frac = "1x1" }}]\n'
    )
    found = review(clean, loads(BASIS + route), catalog)
    assert found.failures is not None
    assert found.failures.requests == N
    assert found.failures.availability_frac.value < 1
    with_fallback = route.replace("share =", f'fallback = "{OPUS}"\nshare =')
    better = review(clean, loads(BASIS + with_fallback), catalog).failures
    assert better is not None
    assert better.availability_frac.value > found.failures.availability_frac.value
    assert better.usd.value > 0


def test_plans_keep_what_is_stated() -> None:
    made = plan(
        "",
        STATED.format(what="error_frac = 0.1") + '[[rate_limits]]\nprovider = "openai"\ntok_per_min = 9e4\n',
    )
    assert loads(dumps(made)) == made
    assert made.failures[0].error_frac == 0.1


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("error_frac = 1.2", "error_frac"),
        ("timeout_s = -1", "timeout_s"),
        ("outage_every_h = 1\noutage_h = 2", "2 h every 1 h"),
        ("outage_every_h = 100\noutage_h = 1\noutage_frac = 0.5", "outage_frac = 0.5"),
        ("errors = 0.1", "errors"),
        ("outage_h = 0.0", "outage_h = 0"),
        ("outage_every_h = 0.0", "outage_every_h = 0"),
        ("outage_every_h = inf", "outage_every_h = inf"),
    ],
)
def test_what_cannot_be_is_refused(what: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(BadLimits, match=said):
        plan("", STATED.format(what=what))
    have = tmp_path / "have.toml"
    have.write_text(STATED.format(what=what).replace("[[failure]]", "[[failures]]"))
    with pytest.raises(BadLimits, match=said):
        read_have(have)


def test_every_provider_has_a_rate_above_zero(catalog: Catalog, clean: Trace) -> None:
    from datetime import date

    from isocost.deployment import apis
    from isocost.plan.written.attempts import World

    at = catalog.at(date(2026, 11, 22))
    every = {api.id: api for api in apis(at)}
    world = World(catalog, date(2026, 11, 22), clean, clean.requests(), (), every, {}, None)
    rates = rates_of(world, plan())
    assert len(rates) > 100
    for one in rates.values():
        assert one.error.value > 0
        assert one.outage.value > 0
        assert one.hang.value > 0
        assert one.error.low < one.error.high


def test_a_hedge_on_an_unknown_time_is_said(clean: Trace, catalog: Catalog) -> None:
    hedge = 'hedge = { deployment = "openai/gpt-5-mini", after_s = 1.0 }\n'
    notes = police(clean, plan(hedge), catalog)[0].notes
    assert any("gpt-5-mini" in note and "at once" in note for note in notes)


def logged(path: Path, rows: list[tuple[float, str, str]]) -> Trace:
    """A log of calls: seconds, model, status."""
    at = datetime.datetime(2026, 11, 1)
    lines = [
        f"{(at + datetime.timedelta(seconds=s)).isoformat()}Z,{model},1000,100,0.5,2.0,{status}"
        for s, model, status in rows
    ]
    head = "timestamp,model,input_tokens,output_tokens,ttft_s,e2e_s,status\n"
    path.write_text(head + "\n".join(lines) + "\n")
    return open_trace(path)


def one_in(n: int, name: str = BIG) -> list[tuple[float, str, str]]:
    """2,000 calls, every ``n``-th of which fails and then bears ``name``."""
    return [
        (k * 86.4, name if k % n == 7 else BIG, "error" if k % n == 7 else "ok") for k in range(2000)
    ]  # fmt: skip


def test_few_calls_say_little(tmp_path: Path, catalog: Catalog) -> None:
    """One call that was answered is no reason to expect a quarter to fail."""
    rows = one_in(1000)
    rows[11] = (rows[11][0], SMALL, "ok")
    rate = fails(logged(tmp_path / "log.csv", rows), plan(name=SMALL), catalog).rates[0]
    assert (rate.source, rate.calls) == ("measured", 1)
    assert 0.001 < rate.error_frac < 0.01


def test_what_is_stated_leaves_the_rest_as_measured(tmp_path: Path, catalog: Catalog) -> None:
    trace = logged(tmp_path / "log.csv", one_in(20))
    measured = fails(trace, plan(), catalog).rates[0]
    assert measured.error_frac == pytest.approx(0.05, rel=0.05)
    for frac in (0.0, 0.01):
        stated = fails(trace, plan("", STATED.format(what=f"outage_frac = {frac}")), catalog).rates[0]
        assert (stated.source, stated.outage_source) == ("measured", "stated")
        assert (stated.error_frac, stated.outage_frac) == (measured.error_frac, frac)
    stated = fails(trace, plan("", STATED.format(what="error_frac = 0.02")), catalog).rates[0]
    assert (stated.source, stated.outage_source, stated.error_frac) == ("stated", "measured", 0.02)


def test_a_stated_share_of_incidents_leaves_errors_as_published(clean: Trace, catalog: Catalog) -> None:
    usual = fails(clean, plan(), catalog).rates[0]
    stated = fails(clean, plan("", STATED.format(what="outage_frac = 0.01")), catalog).rates[0]
    assert stated.error_frac == usual.error_frac > 0
    assert (stated.source, stated.outage_source) == ("published", "stated")


def test_failed_calls_without_a_name_are_spread(tmp_path: Path, catalog: Catalog) -> None:
    named = fails(logged(tmp_path / "a.csv", one_in(10)), plan(), catalog).rates[0]
    blank = fails(logged(tmp_path / "b.csv", one_in(10, "")), plan(), catalog).rates[0]
    assert (named.unnamed, blank.unnamed) == (0, 200)
    assert blank.error_frac == named.error_frac == pytest.approx(0.1, rel=0.05)
    # Over two models, by their calls.
    rows = [
        (s, SMALL if k % 4 == 0 and model else model, how) for k, (s, model, how) in enumerate(one_in(10, ""))
    ]
    both = fails(
        logged(tmp_path / "c.csv", rows), plan(f'recover = {{ fallback = ["{SMALL}"] }}\n'), catalog
    ).rates
    assert sum(one.unnamed for one in both) == 200
    for one in both:
        assert one.error_frac == pytest.approx(0.1, rel=0.4)


@pytest.mark.parametrize(
    ("what", "fix"),
    [
        ("outage_frac = 0.5", "outage_h too, 67.7 or more"),
        ("outage_h = 500.0", "outage_every_h too, more than 500"),
        ("outage_frac = 0.1\noutage_h = 1.0", "outage_every_h too, 10 or less"),
        ("outage_every_h = 1.0", "outage_h too, less than 1"),
    ],
)
def test_incidents_that_do_not_fit_are_refused(what: str, fix: str, clean: Trace, catalog: Catalog) -> None:
    with pytest.raises(BadLimits) as wrong:
        police(clean, plan("", STATED.format(what=what)), catalog)
    assert fix in str(wrong.value)


def test_a_stated_share_of_incidents_is_kept_in_every_draw(clean: Trace, catalog: Catalog) -> None:
    """Times that are published give way to it, as long as a draw makes them."""
    at = catalog.at(datetime.date(2026, 11, 22))
    rng = np.random.default_rng(0)
    for own in (
        OwnFailures("openai", outage_frac=0.015),
        OwnFailures("openai", outage_frac=0.015, outage_h=3.0),
        OwnFailures("openai", outage_frac=0.8, outage_every_h=3.0),
        OwnFailures("openai", outage_frac=0.9, outage_every_h=1.0, outage_h=0.95),
    ):
        one = _rates(at, "openai", own, None, None)
        for _ in range(200):
            every_h, length_h, share = _drawn(one, rng.standard_normal(5))
            assert every_h > length_h > 0
            assert share * length_h / every_h == pytest.approx(own.outage_frac)


def test_the_interval_of_errors_keeps_its_lower_half(catalog: Catalog) -> None:
    one = _rates(catalog.at(datetime.date(2026, 11, 22)), "openai", None, None, None).error
    assert 0 < one.at(-2.0) < one.at(-1.0) < one.value < one.at(1.0)


def test_incidents_do_not_depend_on_the_span() -> None:
    for every_h in (3.0, 2000.0):
        found = []
        for span_h in (600, 620, 1400):
            random = np.random.default_rng((1, 5))
            random.standard_normal(5)
            found.append(renewed(every_h, 1.0, 1.0, span_h * 3600 * 10**12, random))
        for short, long in itertools.pairwise(found):
            k = len(np.asarray(short.from_ps))
            assert np.array_equal(np.asarray(short.from_ps), np.asarray(long.from_ps)[:k])
            assert np.array_equal(np.asarray(short.to_ps), np.asarray(long.to_ps)[:k])


def test_a_log_without_an_answer_is_refused(tmp_path: Path, catalog: Catalog) -> None:
    trace = logged(tmp_path / "log.csv", [(k * 60.0, BIG, "error") for k in range(100)])
    with pytest.raises(BadTrace, match="no call was answered"):
        police(trace, plan(), catalog)


NONE = "error_frac = 0.0\nhang_frac = 0.0\noutage_frac = 0.0"


def busy(path: Path, gap_s: float, n: int, head: str, *, cells: str) -> Trace:
    """A log of ``n`` calls at even steps; ``cells`` follow the time."""
    at, lines = datetime.datetime(2026, 11, 1), []
    for k in range(n):
        when = (at + datetime.timedelta(seconds=k * gap_s)).isoformat()
        own = cells.format(big=40_000 if k % 10 == 3 else 3000, model=(BIG, SMALL)[k % 2])
        lines.append(f"{when}Z,{own}")
    path.write_text(f"timestamp,{head},output_tokens,ttft_s,e2e_s,status\n" + "\n".join(lines) + "\n")
    return open_trace(path)


def test_cached_input_counts_against_a_quota_only_where_the_provider_says(
    tmp_path: Path, catalog: Catalog
) -> None:
    """60 calls a minute of 10,000 tokens, 500 of them not cached: within 60,000 a minute at Anthropic."""
    cells = f"{OPUS},10000,9500,100,0.5,2.0,ok"
    trace = busy(tmp_path / "log.csv", 1.0, 600, "model,input_tokens,cached_tokens", cells=cells)
    quota = f'\n[[failure]]\nprovider = "anthropic"\n{NONE}\n[[rate_limits]]\nprovider = "anthropic"\n'
    found = fails(trace, plan("", f"{quota}input_tok_per_min = 60000\n", OPUS), catalog)
    assert found.availability_frac.value == 1.0
    found = fails(trace, plan("", f"{quota}input_tok_per_min = 20000\n", OPUS), catalog)
    assert found.availability_frac.value == pytest.approx(2 / 3, abs=0.1)


def test_budgets_apart_do_not_double_a_quota(tmp_path: Path, catalog: Catalog) -> None:
    """Two calls a second, half of them of each policy, against one a second."""
    trace = busy(tmp_path / "log.csv", 0.5, 2000, "model,input_tokens", cells="{model},1000,100,0.5,2.0,ok")
    quota = STATED.format(what=NONE) + '\n[[rate_limits]]\nprovider = "openai"\nrequests_per_min = 60\n'
    shares = []
    for budgets in (("", ""), ("x", "y")):
        text = ""
        for model, budget in zip((BIG, SMALL), budgets, strict=True):
            guard = f'guard = {{ usd = 1e6, budget = "{budget}" }}\n' if budget else ""
            rule = RULE.format(more=guard, name=BIG)
            text += rule.replace('workload = "*"\n', f'workload = "*"\nmodel = "{model}"\n')
        shares.append(fails(trace, loads(BASIS + text + quota), catalog).availability_frac.value)
    assert shares[0] == pytest.approx(0.53, abs=0.02)
    assert shares[1] == pytest.approx(shares[0], abs=0.02)


def test_a_part_of_a_long_log_is_not_refused_what_fits(
    tmp_path: Path, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """120 calls a minute, each tenth of 40,000 tokens, far below a quota of 3 million tokens."""
    cells = f"{BIG},{{big}},100,0.5,2.0,ok"
    trace = busy(tmp_path / "log.csv", 0.5, 6001, "model,input_tokens", cells=cells)
    quota = STATED.format(what=NONE) + '\n[[rate_limits]]\nprovider = "openai"\ninput_tok_per_min = {most}\n'
    route = (
        f'\n[[route]]\nworkload = "log"\nmodel = "*"\nshare = [{{ deployment = "{BIG}", frac = "1x1" }}]\n'
    )
    for most, share in (("3e6", 1.0), ("4.2e5", 0.5)):
        made = loads(BASIS + route + quota.format(most=most))
        whole = review(trace, made, catalog).failures
        monkeypatch.setattr(failed, "MOST_PLAYED", 860)
        part = review(trace, made, catalog).failures
        monkeypatch.undo()
        assert whole is not None
        assert part is not None
        assert (whole.requests, part.requests) == (6001, 6001)
        assert part.availability_frac.value >= whole.availability_frac.value - 0.15
        assert (part.availability_frac.value == 1.0) == (share == 1.0)


def test_what_replicas_would_add_is_said(catalog: Catalog) -> None:
    """An accelerator's hours between stops, over those of the replica, and what it takes to answer again."""
    from datetime import date

    from isocost.plan.written.failed import down, down_frac

    at = catalog.at(date(2026, 11, 23))
    every_h, restart_h = (at.number("replica/any", name) for name in ("failure_every_h", "restart_h"))
    shares = [down_frac(gpus, every_h, restart_h) for gpus in (1, 8, 64)]
    assert shares == sorted(shares)
    assert 0 < shares[-1] < 0.001
    assert down_frac(8, every_h, 0.0) == 0.0
    eight = down(at, "own", 8)
    assert eight.down_frac.value == shares[1]
    assert eight.down_frac.low < shares[1] / 3 < 3 * shares[1] < eight.down_frac.high
    assert eight.every_h.low < eight.every_h.value == every_h / 8 < eight.every_h.high
