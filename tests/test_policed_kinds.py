"""Every kind of policy on a log so small that what it comes to is counted by hand."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path

import pytest

from isocost.catalog import Catalog
from isocost.errors import BadLimits
from isocost.plan.written.file import PlanFile, dumps, loads
from isocost.plan.written.told import Played, Policed, police
from isocost.trace import open_trace

ROOT = Path(__file__).parents[1]
PLAN = (ROOT / "examples" / "policy.toml").read_text()
BASIS = PLAN[: PLAN.index("# Summaries")]
MINI, SMALL, BIG = "openai/gpt-5-mini", "openai/gpt-4.1-mini", "openai/gpt-5.4"
BATCH = """
[[deployment]]
type = "api"
id = "batch/big"
subject = "api/openai/gpt-5.4"
provider = "openai"
model = "gpt-5.4"
option = "api"
tier = "batch"

[[deployment]]
type = "exact-cache"
id = "exact"
ttl_s = 600.0
"""
USD = {BIG: (1000 * 2.5 + 100 * 15.0) / 1e6}
"""What a request of 1,000 tokens in and 100 out costs at the model that the log is of."""
MINI_USD = (1000 * 0.25 + 1000 * 2.0) / 1e6
"""At the small one, which thinks: ten times the output."""
HEAD = "timestamp,model,workload,session_id,prompt_hash,deadline_s,input_tokens,output_tokens,ttft_s,e2e_s"
FIXED = f'choose = {{ kind = "fixed", deployment = "{BIG}" }}'


def log(path: Path, rows: Sequence[dict[str, object]]) -> Path:
    """A request a minute to the dear model: its first token after half a second, its last after two."""
    lines = [HEAD]
    for i, row in enumerate(rows):
        one: dict[str, object] = {
            "timestamp": f"2026-11-02T{i // 60:02}:{i % 60:02}:00Z", "model": BIG, "workload": "all",
            "session_id": f"s{i}", "prompt_hash": f"p{i}", "deadline_s": "", "input_tokens": 1000,
            "output_tokens": 100, "ttft_s": 0.5, "e2e_s": 2.0, **row,
        }  # fmt: skip
        lines.append(",".join(str(one[name]) for name in HEAD.split(",")))
    path.write_text("\n".join(lines) + "\n")
    return path


def plan(policy: str, workload: str = "*") -> PlanFile:
    made = loads(f'{BASIS}{BATCH}\n[[policy]]\nworkload = "{workload}"\n{policy}\n')
    assert loads(dumps(made)) == made
    return made


def played(
    path: Path, rows: Sequence[dict[str, object]], policy: str, catalog: Catalog, outcomes: Path | None = None
) -> Policed:
    return police(open_trace(log(path / "log.csv", rows)), plan(policy), catalog, outcomes)[0]


def counts(way: Played) -> dict[str, tuple[int, int]]:
    """(attempts, answers taken) by deployment."""
    return {row.deployment: (row.attempts, row.requests) for row in way.answered}


def test_split(tmp_path: Path, catalog: Catalog) -> None:
    """Three quarters and a quarter, spread evenly: of 40 within one of 30 and 10."""
    text = (
        'choose = { kind = "split", shares = [\n'
        f'{{ deployment = "{BIG}", frac = [0.75] }}, {{ deployment = "{MINI}", frac = [0.25] }}] }}'
    )
    found = played(tmp_path, [{}] * 40, text, catalog).most
    by = counts(found)
    assert abs(by[BIG][1] - 30) <= 1
    assert by[BIG][1] + by[MINI][1] == 40
    assert found.usd == pytest.approx(by[BIG][1] * USD[BIG] + by[MINI][1] * MINI_USD)


def test_by_task(tmp_path: Path, catalog: Catalog) -> None:
    """Without graded outcomes a request's task is its workload."""
    text = f'choose = {{ kind = "by-task", tasks = {{ faq = "{MINI}", "*" = "{BIG}" }} }}'
    rows = [{"workload": name} for name in ("faq", "faq", "law", "chat")]
    assert counts(played(tmp_path, rows, text, catalog).most) == {BIG: (2, 2), MINI: (2, 2)}


def test_exact_cache(tmp_path: Path, catalog: Catalog) -> None:
    """Equal prompts within ten minutes of the answer that was kept: the eleventh minute is too late."""
    rows = [{"prompt_hash": "a"} for _ in range(12)]
    found = played(tmp_path, rows, f'cache = "exact"\n{FIXED}', catalog).most
    assert counts(found) == {"exact": (12, 10), BIG: (2, 2)}
    assert found.usd == pytest.approx(2 * USD[BIG])
    assert found.waiting is not None
    assert found.waiting.ttft_p50_s == 0.0


def test_stickiness(tmp_path: Path, catalog: Catalog) -> None:
    """A session stays where it began; sessions begin in turn at either."""
    text = (
        f'sticky = {{ among = ["{BIG}", "{MINI}"] }}\n'
        'choose = { kind = "split", shares = [\n'
        f'{{ deployment = "{BIG}", frac = [0.5] }}, {{ deployment = "{MINI}", frac = [0.5] }}] }}'
    )
    rows = [{"session_id": name} for name in "abcdaabbccdd"]
    plain = played(tmp_path, rows, text.partition("\n")[2], catalog).most
    assert counts(plain) == {BIG: (6, 6), MINI: (6, 6)}
    # a, b, c, d begin at big, small, big, small (the golden ratio's order); each goes on there.
    found = played(tmp_path, rows, text, catalog).most
    assert counts(found) == {BIG: (6, 6), MINI: (6, 6)}
    rows = [{"session_id": "a"}] * 6
    assert counts(played(tmp_path, rows, text, catalog).most) == {BIG: (6, 6)}


def test_defer_to_batch_by_deadline(tmp_path: Path, catalog: Catalog) -> None:
    """Who may wait a day goes to the batch at half the price, who must have it sooner does not."""
    rows = [{"deadline_s": d} for d in ("", 3600, 86_400, 172_800)]
    text = f'defer = {{ deployment = "batch/big", wait_s = 86400 }}\n{FIXED}'
    found = played(tmp_path, rows, text, catalog).most
    assert counts(found) == {BIG: (2, 2), "batch/big": (2, 2)}
    assert found.deferred == 2
    assert found.usd == pytest.approx(2 * USD[BIG] + 2 * USD[BIG] / 2)
    # What waits is no part of percentiles.
    assert found.waiting is not None
    assert found.waiting.e2e_p95_s == pytest.approx(2.0)


def test_rules_first(tmp_path: Path, catalog: Catalog) -> None:
    """A classifier that answers half of the questions; what it passes on is asked of the model."""
    (tmp_path / "o.csv").write_text(
        "qid,model,quality,pred\n"
        + "".join(f"{i},{BIG},1,x\n" for i in range(80))
        + "".join(f"{i},{MINI},{1 if i < 40 else ''},{'x' if i < 40 else ''}\n" for i in range(80))
    )
    text = f'first = {{ deployment = "{MINI}" }}\n{FIXED}'
    found = played(tmp_path, [{}] * 80, text, catalog, tmp_path / "o.csv")
    assert found.is_known
    assert counts(found.most) == {MINI: (80, 40), BIG: (40, 40)}


def test_a_cascade_waits_for_what_it_reads(tmp_path: Path, catalog: Catalog) -> None:
    """An escalated answer is shown after both: the first's last token, then the second's first."""
    text = f'choose = {{ kind = "cascade", ask = ["{BIG}", "{SMALL}"], checked = true }}'
    found = played(tmp_path, [{}] * 4, text, catalog)
    least, most = found.least.waiting, found.most.waiting
    assert least is not None
    assert most is not None
    # Accepted by a checker: shown once it is whole.
    assert least.ttft_p50_s == pytest.approx(2.0)
    first_s = catalog.at(date(2026, 11, 22)).number("api/openai/gpt-4.1-mini", "ttft_p50_s")
    assert most.ttft_p50_s == pytest.approx(2.0 + first_s)
    assert counts(found.most) == {BIG: (4, 0), SMALL: (4, 4)}


def test_a_hedge_shows_who_answers_first(tmp_path: Path, catalog: Catalog) -> None:
    """The second begins a second later where the first has not answered; each is paid for."""
    rows = [{"e2e_s": 0.9, "ttft_s": 0.2}, {"e2e_s": 60.0, "ttft_s": 50.0}]
    text = f'hedge = {{ deployment = "{MINI}", after_s = 1.0 }}\n{FIXED}'
    found = played(tmp_path, rows, text, catalog).most
    by = counts(found)
    assert by[BIG] == (2, 1)
    assert by[MINI] == (1, 1)


def test_trim_and_cap(tmp_path: Path, catalog: Catalog) -> None:
    """Input beyond 400 tokens and output beyond 50 are not paid."""
    text = f"shape = {{ trim_input_tok = 400, cap_output_tok = 50 }}\n{FIXED}"
    found = played(tmp_path, [{}] * 3, text, catalog).most
    assert found.usd == pytest.approx(3 * (400 * 2.5 + 50 * 15.0) / 1e6)


def test_guards_say_what_they_stopped(tmp_path: Path, catalog: Catalog) -> None:
    """One too long, and once three are paid of the others the budget is spent."""
    rows = [{"input_tokens": 9000}, *[{}] * 5]
    text = f'guard = {{ most_input_tok = 5000, budget = "b", usd = {3 * USD[BIG]} }}\n{FIXED}'
    found = played(tmp_path, rows, text, catalog).most
    told = {stop.why: (stop.requests, round(stop.usd, 6)) for stop in found.stopped}
    assert told == {
        "input": (1, round((9000 * 2.5 + 100 * 15.0) / 1e6, 6)),
        "budget": (2, round(2 * USD[BIG], 6)),
    }
    assert found.usd == pytest.approx(3 * USD[BIG])


def test_all_of_it_at_once(tmp_path: Path, catalog: Catalog) -> None:
    """Cache, batch, stickiness, cascade and guard in one policy: each request goes the first way there is."""
    text = f"""
cache = "exact"
guard = {{ most_input_tok = 5000 }}
sticky = {{ among = ["{MINI}"] }}
defer = {{ deployment = "batch/big", wait_s = 86400 }}
choose = {{ kind = "cascade", ask = ["{MINI}", "{BIG}"], checked = true }}
"""
    rows: list[dict[str, object]] = [
        {"prompt_hash": "a"}, {"prompt_hash": "a"}, {"deadline_s": 90_000}, {"input_tokens": 6000}, {},
    ]  # fmt: skip
    found = played(tmp_path, rows, text, catalog)
    assert counts(found.least) == {"exact": (4, 1), "batch/big": (1, 1), MINI: (2, 2)}
    assert counts(found.most) == {"exact": (4, 1), "batch/big": (1, 1), MINI: (2, 0), BIG: (2, 2)}
    assert [stop.why for stop in found.most.stopped] == ["input"]


def test_limits_on_lengths_say_what_they_cut(tmp_path: Path, catalog: Catalog) -> None:
    """Two answers of four are longer than the cap, one prompt than its limit; each is told in dollars."""
    text = f"shape = {{ trim_input_tok = 1500, cap_output_tok = 60 }}\n{FIXED}"
    rows = [{"output_tokens": n} for n in (50, 60, 100, 200)]
    rows[0]["input_tokens"] = 4000
    found = played(tmp_path, rows, text, catalog).most
    cut = {one.why: one for one in found.stopped}
    assert (cut["capped"].requests, cut["capped"].tok) == (2, 180)
    assert cut["capped"].usd == pytest.approx(180 * 15.0 / 1e6)
    assert (cut["trimmed"].requests, cut["trimmed"].tok) == (1, 2500)
    assert cut["trimmed"].usd == pytest.approx(2500 * 2.5 / 1e6)
    assert found.usd == pytest.approx((1500 + 3 * 1000) * 2.5 / 1e6 + (50 + 60 + 60 + 60) * 15.0 / 1e6)
    # An answer of 200 tokens took 1.5 s after its first: of 60 it takes 59 / 199 of that.
    assert found.waiting is not None
    assert found.waiting.e2e_p95_s == pytest.approx(2.0, abs=0.1)
    rows = [{"output_tokens": 200}] * 4
    waiting = played(tmp_path, rows, f"shape = {{ cap_output_tok = 60 }}\n{FIXED}", catalog).most.waiting
    assert waiting is not None
    assert waiting.e2e_p50_s == pytest.approx(0.5 + 1.5 * 59 / 199)


RULES = """
[[deployment]]
type = "rules"
id = "rules/faq"
usd_per_request = 0.0001
answer_s = 0.02
"""


def test_rules_of_one_s_own_answer_as_often_as_was_counted(tmp_path: Path, catalog: Catalog) -> None:
    """They cost what they are said to, whether they answer or not; what they pass on begins later by them."""
    made = f'[[policy]]\nworkload = "*"\nfirst = {{ deployment = "rules/faq", measured = {{ requests = 1000000, hits = 400000 }} }}\n{FIXED}\n'  # noqa: E501
    rows: list[dict[str, object]] = [{}] * 500
    found, _ = police(open_trace(log(tmp_path / "log.csv", rows)), loads(BASIS + RULES + made), catalog)
    assert found.likely is not None
    by = counts(found.likely)
    assert by["rules/faq"][0] == 500
    assert by["rules/faq"][1] / 500 == pytest.approx(0.4, abs=0.06)
    assert found.likely.usd == pytest.approx(500 * 0.0001 + by[BIG][1] * USD[BIG])
    assert found.likely.waiting is not None
    assert found.likely.waiting.e2e_p95_s == pytest.approx(2.02)
    assert any("rules that are asked first answer as often as was counted" in note for note in found.notes)
    # Without a count both ends, and that is said; as a model they are refused.
    plain = made.replace(", measured = { requests = 1000000, hits = 400000 }", "")
    found, _ = police(open_trace(tmp_path / "log.csv"), loads(BASIS + RULES + plain), catalog)
    assert (found.least.usd, found.most.usd) == pytest.approx((0.05, 0.05 + 500 * USD[BIG]))
    assert any("how often rules answer" in note for note in found.notes)
    wrong = '[[policy]]\nworkload = "*"\nchoose = { kind = "fixed", deployment = "rules/faq" }\n'
    with pytest.raises(BadLimits, match="is no model"):
        police(open_trace(tmp_path / "log.csv"), loads(BASIS + RULES + wrong), catalog)
    assert loads(dumps(loads(BASIS + RULES + made))) == loads(BASIS + RULES + made)
