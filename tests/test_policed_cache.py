"""A semantic cache in a plan: off without a certificate, played by hand's count, never across scopes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import msgspec
import pytest

from golden import Golden
from isocost.catalog import Catalog
from isocost.cli import main
from isocost.errors import BadInput, BadLimits
from isocost.plan.written.certified import drawn_otherwise
from isocost.plan.written.file import PlanFile, dumps, loads
from isocost.plan.written.near import Verifier, in_force, named_verifiers, sessions_of, visits_of
from isocost.plan.written.told import Policed, police
from isocost.policy.proven import Proven, upper
from isocost.policy.semantic import Weights, taken_apart
from isocost.policy.semantic_index import Index
from isocost.policy.semantic_lapse import features_digest, lapsed
from isocost.policy.semantic_study import digest
from isocost.trace import open_trace

ROOT = Path(__file__).parents[1]
PLAN = (ROOT / "examples" / "policy.toml").read_text()
BASIS = PLAN[: PLAN.index("# Summaries")]
BIG, MINI = "openai/gpt-5.4", "openai/gpt-5-mini"
EACH_USD = (1000 * 2.5 + 100 * 15.0) / 1e6
LOOK_S = 0.001
"""As the catalog has it."""


def verifier() -> Weights:
    """Scores a pair by its likeness alone."""
    index = Index({}, 1.0)
    index.add(taken_apart("where is my card"), "")
    (near,) = index.near(taken_apart("where is my card"))
    size = len(near.features)
    first = (1.0, *(0.0,) * (size - 1))
    return Weights({}, 1.0, (0.0,) * size, (1.0,) * size, first, (0.0,) * 4096, 0.0, {}, 1e300)


FILE = msgspec.json.encode(verifier())
VERIFIERS = {"v.json": Verifier(verifier(), digest(FILE))}


def certificate(**change: Any) -> Proven:
    plain = Proven(
        0.6, 0.02, 0.95, 1000, 400, 10, upper(10, 1000, 0.95), 500, "2026-11-23", features_digest(),
        digest(FILE), {"gpt-5.4": "a"}, unit="request",
    )  # fmt: skip
    return msgspec.structs.replace(plain, **change)


def plan(more: str = "", *, found: Proven | None = None, cache: str = "", ttl_s: float = 3600) -> PlanFile:
    """All to the dear model behind a semantic cache that lives an hour."""
    text = f"""{BASIS}
[[deployment]]
type = "semantic-cache"
id = "near"
ttl_s = {ttl_s:.1f}
most_entries = 100
{cache}

[[deployment]]
type = "exact-cache"
id = "exact"
ttl_s = 3600.0

[[policy]]
workload = "*"
{more}
choose = {{ kind = "fixed", deployment = "{BIG}" }}
semantic = {{ cache = "near", verifier = "v.json" }}
"""
    made = loads(text)
    held = msgspec.structs.replace(made.policies[0].semantic, certificate=found or certificate())
    return msgspec.structs.replace(made, policies=(msgspec.structs.replace(made.policies[0], semantic=held),))


def log(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    """A request a minute: 1,000 tokens in, 100 out."""
    plain = {"model": "gpt-5.4", "temperature": 0.0, "system": "Be kind.", "user": "acme"}
    lines = []
    for i, row in enumerate(rows):
        one = plain | row
        messages = [
            {"role": "system", "content": one.pop("system")},
            *one.pop("before", []),
            {"role": "user", "content": one.pop("asks")},
        ]
        at = 1_793_000_000 + 60 * i + one.pop("later", 0)
        usage = {"prompt_tokens": 1000, "completion_tokens": 100}
        lines.append(json.dumps({"created": at, "messages": messages, "usage": usage, **one}))
    path.write_text("\n".join(lines) + "\n")
    return path


def played(path: Path, rows: Sequence[dict[str, Any]], made: PlanFile, catalog: Catalog) -> Policed:
    trace = open_trace(log(path, rows), prompts=True)
    return police(trace, made, catalog, verifiers=VERIFIERS)[0]


def hits(found: Policed) -> tuple[int, int]:
    """(looks, answered) of the semantic cache."""
    return next(((r.attempts, r.requests) for r in found.most.answered if r.deployment == "near"), (0, 0))


CARD, CARD2, PIN = "Where is my new card?", "where is my new card", "How do I change the pin?"


def test_a_small_log_by_hand(tmp_path: Path, catalog: Catalog) -> None:
    """Asked, asked again in nearly the same words, something else, and the first again: two hits of four."""
    rows = [{"asks": CARD}, {"asks": CARD2}, {"asks": PIN}, {"asks": CARD2}]
    found = played(tmp_path / "a.jsonl", rows, plan(), catalog)
    assert hits(found) == (4, 2)
    look_usd = LOOK_S * 0.05 / 3600
    assert found.most.usd == pytest.approx(2 * EACH_USD + 4 * look_usd, rel=1e-9)
    assert found.most.attempts_per_request == 0.5  # a cache is no attempt
    assert found.is_known
    waiting = found.most.waiting
    assert waiting is not None
    assert waiting.ttft_known_frac == 0.5  # the log has no times of the model; a hit takes a look
    assert waiting.ttft_p50_s == pytest.approx(LOOK_S)
    assert any("cache near answered 2 of 4 looks (50%)" in note for note in found.notes)
    assert found.without is not None
    assert found.without.usd == pytest.approx(4 * EACH_USD)
    # 10 of 400 certified hits were wrong: a wrong answer loses at most all of it.
    assert found.most.quality is not None
    assert found.most.quality.mean == pytest.approx(-0.5 * 10 / 400)


def test_a_miss_begins_a_look_later(tmp_path: Path, catalog: Catalog) -> None:
    rows = "\n".join(
        json.dumps({
            "created": 1_793_000_000 + 60 * i, "model": "gpt-5.4",
            "messages": [{"role": "user", "content": text}],
            "usage": {"prompt_tokens": 1000, "completion_tokens": 100}, "ttft_s": 0.5, "e2e_s": 2.0,
        })
        for i, text in enumerate([CARD, PIN])
    )  # fmt: skip
    (tmp_path / "a.jsonl").write_text(rows)
    trace = open_trace(tmp_path / "a.jsonl", prompts=True)
    waiting = police(trace, plan(), catalog, verifiers=VERIFIERS)[0].most.waiting
    assert waiting is not None
    assert waiting.ttft_p50_s == pytest.approx(0.5 + LOOK_S)
    assert waiting.e2e_p50_s == pytest.approx(2.0 + LOOK_S)


@pytest.mark.parametrize(
    "change",
    [
        {"user": "other"},
        {"system": "Be curt."},
        {"tools": [{"type": "function", "function": {"name": "search"}}]},
        {"temperature": 1.0},
        {"response_format": {"type": "json_object"}},
        {"model": "gpt-5-mini"},
        {"before": [{"role": "user", "content": "I lost one"}, {"role": "assistant", "content": "Oh."}]},
    ],
    ids=lambda change: next(iter(change)),
)
def test_nothing_crosses_a_scope(change: dict[str, Any], tmp_path: Path, catalog: Catalog) -> None:
    """The very same words, in another scope, are another question."""
    rows = [{"asks": CARD}, {"asks": CARD, **change}]
    assert hits(played(tmp_path / "a.jsonl", rows, plan(), catalog)) == (2, 0)
    assert hits(played(tmp_path / "b.jsonl", [rows[0], rows[0]], plan(), catalog)) == (2, 1)


def test_answers_age_and_room_is_bounded(tmp_path: Path, catalog: Catalog) -> None:
    """An answer lives an hour from when it was kept, and is not kept longer for being given."""
    rows = [{"asks": CARD}, {"asks": CARD2, "later": 3000}, {"asks": CARD, "later": 3600}]
    assert hits(played(tmp_path / "a.jsonl", rows, plan(), catalog)) == (3, 1)
    small = plan()
    one = msgspec.structs.replace(small.deployments[-2], most_entries=1)  # type: ignore[type-var]
    small = msgspec.structs.replace(small, deployments=(*small.deployments[:-2], one, small.deployments[-1]))
    rows = [{"asks": CARD}, {"asks": PIN}, {"asks": CARD2}, {"asks": CARD2}]
    assert hits(played(tmp_path / "b.jsonl", rows, small, catalog)) == (4, 1)
    assert hits(played(tmp_path / "c.jsonl", rows, plan(), catalog)) == (4, 2)


def test_an_exact_cache_goes_before_it(tmp_path: Path, catalog: Catalog) -> None:
    """Equal prompts, by their words, are the exact cache's; nearly equal ones the semantic cache's."""
    from isocost.plan.written.caches import keyed

    rows = [{"asks": CARD}, {"asks": CARD}, {"asks": CARD2}, {"asks": PIN}]
    trace = keyed(open_trace(log(tmp_path / "a.jsonl", rows), prompts=True))
    found, _ = police(trace, plan('cache = "exact"'), catalog, verifiers=VERIFIERS)
    by = {row.deployment: (row.attempts, row.requests) for row in found.most.answered}
    assert by == {"exact": (4, 1), "near": (3, 1), BIG: (2, 2)}


def test_it_composes_with_a_cascade_and_a_guard(tmp_path: Path, catalog: Catalog) -> None:
    """What it misses goes on down the cascade, both ends of it; what is too long is not even looked up."""
    made = plan("guard = { most_input_tok = 2000 }")
    rule = msgspec.structs.replace(
        made.policies[0],
        choose=loads(
            f'{BASIS}\n[[policy]]\nworkload = "*"\n[policy.choose]\nkind = "cascade"\nchecked = true\n'
            f'ask = ["{MINI}", "{BIG}"]\n'
        ).policies[0].choose,
    )  # fmt: skip
    made = msgspec.structs.replace(made, policies=(rule,))
    rows = [
        {"asks": CARD},
        {"asks": CARD2},
        {"asks": PIN, "usage": {"prompt_tokens": 9000, "completion_tokens": 9}},
    ]
    found = played(tmp_path / "a.jsonl", rows, made, catalog)
    assert hits(found) == (2, 1)
    assert (found.least.attempts_per_request, found.most.attempts_per_request) == (0.5, 1.0)
    (stop,) = found.most.stopped
    assert (stop.why, stop.requests) == ("input", 1)


def test_off_without_a_certificate_or_where_it_lapsed(tmp_path: Path, catalog: Catalog) -> None:
    rows = [{"asks": CARD}, {"asks": CARD2}]
    for wrong in ({"features": "older"}, {"verifier": "another"}):
        found = played(tmp_path / "a.jsonl", rows, plan(found=certificate(**wrong)), catalog)
        assert hits(found) == (0, 0)
        assert any("is off: its certificate lapsed" in note for note in found.notes)
    made = plan()
    bare = msgspec.structs.replace(made.policies[0].semantic, certificate=None)
    made = msgspec.structs.replace(made, policies=(msgspec.structs.replace(made.policies[0], semantic=bare),))
    found = played(tmp_path / "a.jsonl", rows, made, catalog)
    assert found.most.usd == pytest.approx(2 * EACH_USD)
    assert any("it has no certificate" in note for note in found.notes)


def test_a_log_without_words_is_refused_or_plays_what_was_counted(tmp_path: Path, catalog: Catalog) -> None:
    lines = [f"2026-11-01T00:{i // 60:02}:{i % 60:02}Z,{BIG},1000,100" for i in range(400)]
    (tmp_path / "a.csv").write_text("timestamp,model,input_tokens,output_tokens\n" + "\n".join(lines) + "\n")
    trace = open_trace(tmp_path / "a.csv", prompts=True)
    with pytest.raises(BadInput, match=r"no words of prompts.*Log the messages.*hits = 400"):
        police(trace, plan(), catalog, verifiers=VERIFIERS)
    made = plan()
    counted = msgspec.json.decode(b'{"requests": 200, "hits": 80}', type=type(loads_counted()))
    held = msgspec.structs.replace(made.policies[0].semantic, measured=counted)
    made = msgspec.structs.replace(made, policies=(msgspec.structs.replace(made.policies[0], semantic=held),))
    found, _ = police(trace, made, catalog, verifiers=VERIFIERS)
    assert not found.is_known
    assert found.likely is not None
    assert found.least.usd < found.likely.usd < found.most.usd
    # Four in five draws: the share's own spread and that of 400 lots, about 5 points together.
    share = 1.0 - found.likely.usd / (400 * EACH_USD)
    assert 0.33 < share < 0.47
    assert found.most.usd - found.least.usd < 0.2 * 400 * EACH_USD
    assert any("An estimate: the semantic cache answers as often as was counted" in n for n in found.notes)


def loads_counted() -> Any:
    from isocost.policy.proven import Counted

    return Counted(1, 1)


def test_a_plan_reads_back_and_what_cannot_be_is_refused() -> None:
    made = plan()
    assert loads(dumps(made)).policies == made.policies
    with pytest.raises(BadLimits, match="prove at most"):
        loads(dumps(plan(found=certificate(wrong=30))))
    with pytest.raises(BadLimits, match="something else too"):
        plan('cache = "near"')
    with pytest.raises(BadLimits, match="thresold"):
        loads(dumps(made).replace("threshold =", "thresold ="))


def test_why_a_certificate_lapses() -> None:
    plain = certificate()
    assert lapsed(plain, verifier=plain.verifier, versions={"gpt-5.4": "a"}, drift_p=0.5) == ()
    assert "another version" in lapsed(plain, versions={"gpt-5.4": "b"})[0]
    assert "never graded" in lapsed(plain, versions={"other": "b"})[0]
    assert "p 0.001" in lapsed(plain, drift_p=0.001)[0]
    assert "features" in lapsed(msgspec.structs.replace(plain, features="x"))[0]
    kept, notes = in_force(plan(found=msgspec.structs.replace(plain, features="x")).policies, VERIFIERS)
    assert kept[0].semantic is None
    assert len(notes) == 1


def test_a_verifier_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no such file"):
        named_verifiers(plan().policies, tmp_path)
    (tmp_path / "v.json").write_text("{}")
    with pytest.raises(BadInput, match="no verifier"):
        named_verifiers(plan().policies, tmp_path)


@pytest.mark.parametrize("width", [80, 120])
def test_what_a_person_sees(
    width: int, golden: Golden, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.chdir(tmp_path)
    asks = [CARD, CARD2, PIN, "how can i change my pin", CARD, "What does a transfer cost?"]
    log(tmp_path / "log.jsonl", [{"asks": text} for text in asks])
    (tmp_path / "v.json").write_bytes(FILE)
    (tmp_path / "plan.toml").write_text(dumps(plan('cache = "exact"')))
    assert main(["replay", "log.jsonl"]) == 0
    golden.check(f"replay_semantic_{width}.txt", capsys.readouterr().out)


DEBIT = "Where is my new debit card?"


def test_equal_words_come_to_a_model_once(tmp_path: Path, catalog: Catalog) -> None:
    """What the semantic cache answered the exact one does not hold: asked again a model answers, asked a
    third time the exact cache does. Without one the semantic cache gives the words' own answer."""
    from isocost.plan.written.caches import keyed

    rows = [{"asks": CARD}, {"asks": DEBIT}, {"asks": DEBIT}, {"asks": DEBIT}]
    trace = keyed(open_trace(log(tmp_path / "a.jsonl", rows), prompts=True))
    both, _ = police(trace, plan('cache = "exact"'), catalog, verifiers=VERIFIERS)
    assert hits(both) == (3, 1)
    assert both.most.usd == pytest.approx(2 * EACH_USD, rel=1e-3)
    alone = played(tmp_path / "a.jsonl", rows, plan(), catalog)
    assert hits(alone) == (4, 2)
    assert alone.most.usd == pytest.approx(2 * EACH_USD, rel=1e-3)


def test_a_session_is_given_as_many_answers_as_its_certificate_says(tmp_path: Path, catalog: Catalog) -> None:
    """One of a session; of others their own. A log without sessions is played as if each were alone."""
    tallies = ((1, 0, 990), (1, 1, 10))
    drawn = certificate(
        unit="session", units=1000, most_each=1, tallies=tallies, wrong_most_frac=upper(10, 1000, 0.95)
    )
    rows = [{"asks": CARD}, *({"asks": f"{CARD[:-1]} {word}"} for word in ("please", "today", "now"))]
    told = [row | {"session_id": one} for row, one in zip(rows, ("a", "b", "b", "c"), strict=True)]
    assert hits(played(tmp_path / "a.jsonl", told, plan(found=drawn), catalog)) == (4, 2)
    assert hits(played(tmp_path / "a.jsonl", rows, plan(found=drawn), catalog)) == (4, 3)
    assert hits(played(tmp_path / "a.jsonl", told, plan(), catalog)) == (4, 3)


def test_people_without_sessions_pay_visits(tmp_path: Path, catalog: Catalog) -> None:
    """Where the log names many tenants and no sessions, half an hour of silence ends a visit."""
    visits = visits_of(catalog.at(date(2026, 11, 23)))
    assert (visits.people, visits.gap_s) == (300, 1800.0)
    rows = [{"asks": CARD, "user": f"u{k}"} for k in range(300)]
    rows += [{"asks": PIN, "user": "u299"}, {"asks": PIN, "user": "u299", "later": 3600}]
    trace = open_trace(log(tmp_path / "a.jsonl", rows), prompts=True)
    found = sessions_of(trace.requests(), visits)
    assert found.unit == "visit"
    assert len(set(found.number.tolist())) == 301
    few = open_trace(log(tmp_path / "b.jsonl", rows[:100]), prompts=True)
    assert sessions_of(few.requests(), visits).unit == "request"
    named = open_trace(
        log(tmp_path / "c.jsonl", [row | {"session_id": f"s{k % 7}"} for k, row in enumerate(rows)]),
        prompts=True,
    )
    assert sessions_of(named.requests(), visits).unit == "session"
    assert drawn_otherwise(named, certificate(), visits) == (
        "it took requests one by one, and the log has sessions",
    )
    assert drawn_otherwise(few, certificate(unit="session"), visits) == (
        "it counts on sessions, and the log names none",
    )
    assert drawn_otherwise(few, certificate(), visits) == ()
