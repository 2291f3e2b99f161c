"""Routers in a replay: scores are those of the words of a log, and unknown where it has none."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import msgspec
import numpy as np
import pytest

from isocost.catalog import Catalog
from isocost.cli import main
from isocost.errors import BadInput
from isocost.plan.written.file import PlanFile, loads
from isocost.plan.written.scores import named_weights, question
from isocost.plan.written.told import Policed, police
from isocost.policy.difficulty import corpus, fit
from isocost.policy.router import Weights, score
from isocost.policy.rules import Router
from isocost.trace import Trace, open_trace

PLAN = (Path(__file__).parents[1] / "examples" / "policy.toml").read_text()
BASIS = PLAN[: PLAN.index("# Summaries")]
MINI, BIG = "openai/gpt-5-mini", "openai/gpt-5.4"
HARD, EASY = "prove the integral of lemma {}", "tell the colour of thing {}"


@pytest.fixture(scope="module")
def weights() -> Weights:
    """Fitted: what is to be proven gains from the strong model, colours do not."""
    texts = [(HARD if i % 2 else EASY).format(i % 50) for i in range(400)]
    gain = np.array([float(i % 2) for i in range(400)])
    read = corpus(texts)
    return fit(read, gain, np.zeros(400, dtype=np.int64), 1, np.arange(400)).weights(read, ("",))


def texts() -> list[str]:
    return [(HARD if i % 3 == 0 else EASY).format(1000 + i) for i in range(60)]


def log(path: Path, words: list[str] | None, *, backwards: bool = False) -> Path:
    """60 requests to the strong model; the file may hold the last first."""
    rows = []
    for i in range(60):
        row: dict[str, object] = {"timestamp": f"2026-11-01T00:{i:02}:00Z", "model": BIG}
        row |= {"input_tokens": 1000, "output_tokens": 100}
        if words is not None and words[i]:
            row["messages"] = [
                {"role": "system", "content": "prove every integral lemma briefly"},
                {"role": "user", "content": "an earlier turn of the talk"},
                {"role": "assistant", "content": "prove the integral"},
                {"role": "user", "content": [{"type": "text", "text": words[i]}]},
            ]
        rows.append(json.dumps(row))
    path.write_text("\n".join(reversed(rows) if backwards else rows) + "\n")
    return path


def plan_text(bar: float, file: str = "router-all.json") -> str:
    return (
        f'{BASIS}\n[[policy]]\nworkload = "*"\n[policy.choose]\nkind = "router"\ncheap = "{MINI}"\n'
        f'strong = "{BIG}"\nbar = {bar}\nweights = "{file}"\n'
    )


def plan(bar: float) -> PlanFile:
    return loads(plan_text(bar))


def requests(name: str, found: Policed) -> int:
    return next((row.requests for row in found.most.answered if row.deployment == name), 0)


def worded(path: Path) -> Trace:
    return open_trace(path, prompts=True)


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("share", [0.1, 0.33, 0.7])
def test_each_request_goes_where_the_rule_alone_would_send_it(
    share: float, backwards: bool, weights: Weights, catalog: Catalog, tmp_path: Path
) -> None:
    each = [score(weights, text) for text in texts()]
    bar = float(np.quantile(each, 1 - share))
    trace = worded(log(tmp_path / "log.jsonl", texts(), backwards=backwards))
    found, _ = police(trace, plan(bar), catalog, weights={"router-all.json": weights})
    assert found.is_known
    assert requests(BIG, found) == sum(one >= bar for one in each)
    assert requests(BIG, found) + requests(MINI, found) == 60
    assert "Routers' scores are those of the words of 60 requests" in found.notes


def test_what_separates_easy_from_hard_is_the_last_question(
    weights: Weights, catalog: Catalog, tmp_path: Path
) -> None:
    trace = worded(log(tmp_path / "log.jsonl", texts()))
    found, _ = police(trace, plan(0.5), catalog, weights={"router-all.json": weights})
    assert (requests(BIG, found), requests(MINI, found)) == (20, 40)


def test_without_words_both_ends_are_played_and_said(
    weights: Weights, catalog: Catalog, tmp_path: Path
) -> None:
    bare = open_trace(log(tmp_path / "bare.jsonl", None))
    found, _ = police(bare, plan(0.5), catalog, weights={"router-all.json": weights})
    assert not found.is_known
    assert requests(BIG, found) == 60
    assert any("Scores of 60 of 60 routed requests are not known" in note for note in found.notes)
    some = [text if i % 2 else "" for i, text in enumerate(texts())]
    trace = worded(log(tmp_path / "some.jsonl", some))
    found, _ = police(trace, plan(0.5), catalog, weights={"router-all.json": weights})
    assert any("Scores of 30 of 60 routed requests are not known" in note for note in found.notes)
    known = sum(score(weights, text) >= 0.5 for text in some if text)
    assert requests(BIG, found) == 30 + known
    assert next(row.requests for row in found.least.answered if row.deployment == BIG) == known


def test_outcomes_have_the_words_that_a_log_lacks(weights: Weights, catalog: Catalog, tmp_path: Path) -> None:
    with (tmp_path / "o.csv").open("w") as out:
        write = csv.writer(out)
        write.writerow(["qid", "model", "quality", "query"])
        for i, text in enumerate(texts()):
            write.writerow([i, MINI, i % 2, text])
            write.writerow([i, BIG, 1, text])
    bare = open_trace(log(tmp_path / "bare.jsonl", None))
    found, _ = police(bare, plan(0.5), catalog, tmp_path / "o.csv", {"router-all.json": weights})
    assert found.is_known
    assert requests(BIG, found) == 20
    quality = found.most.quality
    assert quality is not None
    # Of the cheap model's questions, those that three does not divide, half are right; of the others all.
    assert quality.mean == pytest.approx((20 + 20) / 60)


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ('{"m": "Why?"}', "Why?"),
        ('{"m": "[{\\"role\\": \\"user\\", \\"content\\": \\"Why?\\"}]"}', "Why?"),
        ('{"m": {"model": "x", "messages": [{"role": "user", "content": "Why?"}]}}', "Why?"),
        ('{"m": [{"role": "user", "parts": [{"text": "Why?"}, {"text": "Now."}]}]}', "Why?\nNow."),
        ('{"m": [{"role": "user", "content": "Why?"}, {"role": "tool", "content": "ok"}]}', "Why?"),
        (
            '{"m": [{"role": "user", "content": "Why?"}, {"role": "user", "content": [{"type": "tool_result",'
            ' "content": "no"}]}]}',
            "Why?",
        ),
        ('{"m": [{"role": "assistant", "content": "So."}]}', ""),
        ('{"m": null, "s": "Be brief."}', ""),
        ('{"m": "[not json"}', "[not json"),
        ("", ""),
    ],
)  # fmt: skip
def test_the_question_is_what_the_user_asked_last(text: str, asked: str) -> None:
    assert question(text) == asked


def test_the_command_reads_the_score_beside_the_plan(
    weights: Weights, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "plan.toml").write_text(plan_text(0.5))
    words = ["replay", str(log(tmp_path / "log.jsonl", texts())), "--plan", str(tmp_path / "plan.toml")]
    assert main(words) == 2
    assert "router-all.json" in capsys.readouterr().err
    (tmp_path / "router-all.json").write_bytes(msgspec.json.encode(weights))
    assert main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["policy"]["is_known"]
    assert {row["deployment"]: row["requests"] for row in found["policy"]["most"]["answered"]} == {
        BIG: 20, MINI: 40,
    }  # fmt: skip


def test_a_fitted_router_replays_as_it_decides(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """policy fit of questions without answers to compare, its [[policy]] in plan.toml, a log with words."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(1)
    with Path("o.csv").open("w") as out:
        write = csv.writer(out)
        write.writerow(["qid", "model", "quality", "query", "in_tok", "out_tok"])
        for i in range(3000):
            text = (HARD if (hard := random.random() < 0.4) else EASY).format(random.integers(1000, 9999))
            for name, right in ((MINI, 0.3 if hard else 0.97), (BIG, 0.95)):
                write.writerow([i, name, int(random.random() < right), text, 1000, 100])
    assert main(["policy", "fit", "o.csv", "--strong", BIG]) == 0
    made = Path("policy.toml").read_text()
    rule = made[made.index("[[policy]]") : made.index("[[certificate]]")]
    Path("plan.toml").write_text(BASIS + rule)
    capsys.readouterr()
    assert main(["replay", str(log(tmp_path / "log.jsonl", texts())), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["policy"]
    choice = loads(BASIS + rule).policies[0].choose
    assert isinstance(choice, Router)
    fitted = msgspec.json.decode(Path(choice.weights).read_bytes(), type=Weights)
    strong = sum(score(fitted, text, "") >= choice.bar for text in texts())
    assert found["is_known"]
    assert {row["deployment"]: row["requests"] for row in found["most"]["answered"]}[BIG] == strong == 20
    assert choice.seen is not None
    assert choice.seen.chance["strong"] == pytest.approx(0.4, abs=0.05)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"{", "no fitted score"),
        (b'{"base": 1, "words": {}, "rarity": {}, "tasks": {}, "more": 1}', "unknown field"),
        (b'{"base": "x", "words": {}, "rarity": {}, "tasks": {}}', "no fitted score"),
        (b'{"base": 1, "words": {}, "rarity": {}, "tasks": {}, "form": [[0, 1, 0, 0, 0, 0]]}', "are read"),
        (b"\xff\xfe", "no fitted score"),
    ],
)
def test_a_score_is_read_strictly(text: bytes, why: str, tmp_path: Path) -> None:
    (tmp_path / "router-all.json").write_bytes(text)
    with pytest.raises(BadInput, match=why):
        named_weights(plan(0.5).policies, tmp_path)
