"""Prompts: what breaks a prefix is found by its place and kind, and mending it saves what replay says."""

from __future__ import annotations

import functools
import gzip
import json
import random
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isocost.catalog import Catalog
from isocost.prompts.breaks import Mended, breaks, chained, losses
from isocost.prompts.make import make
from isocost.prompts.naming import kind_of
from isocost.prompts.pieces import MOST_BYTES, Pieces, as_blocks, pieces
from isocost.prompts.price import Prices
from isocost.prompts.result import Prompts
from isocost.prompts.sent import prefixes, read
from isocost.prompts.ways import cache_ways
from isocost.prompts.words import words
from isocost.replay.prefix import infinite
from isocost.replay.reuse import kept
from isocost.trace import Trace, example, open_trace

ON = date(2026, 11, 23)
REQUESTS = 300
Row = dict[str, Any]


_LETTERS = random.Random(0)
VOCABULARY = tuple(
    "".join(_LETTERS.choice("abcdefghijklmnoprstuv") for _ in range(_LETTERS.randrange(2, 9)))
    for _ in range(800)
)


def _text(rng: random.Random, count: int) -> str:
    return " ".join(rng.choices(VOCABULARY, k=count))


@functools.cache
def _arrivals() -> tuple[list[float], list[int]]:
    table = example().table()
    return (table.arrival_ns[:REQUESTS] / 1e9).tolist(), table.output_tok[:REQUESTS].tolist()


def _log(path: Path, change: Callable[[Row, random.Random, float], None], model: str = "gpt-5.4") -> Path:
    """A log of the bundled trace's arrivals with one system prompt of 1,500 words, changed row by row."""
    rng = random.Random(7)
    arrivals, outputs = _arrivals()
    system = _text(rng, 1_200)
    tools = [
        {"type": "function", "function": {"name": f"t{i}", "description": _text(rng, 40)}} for i in range(6)
    ]
    lines = []
    for i in range(REQUESTS):
        at = arrivals[i]
        row: Row = {
            "created": at, "model": model, "provider": "anthropic" if "claude" in model else "openai",
            "messages": [{"role": "system", "content": f"You answer for Acme. {system}"},
                         {"role": "user", "content": _text(rng, 30)}],
            "tools": list(tools), "usage": {"completion_tokens": outputs[i]},
        }  # fmt: skip
        change(row, rng, at)
        text = msgspec.json.encode([row["tools"], row["messages"]])
        row["usage"]["prompt_tokens"] = len(text) // 4
        lines.append(msgspec.json.encode(row))
    path.write_bytes(b"\n".join(lines))
    return path


def _nothing(_row: Row, _rng: random.Random, _at: float) -> None:
    """The prompts as they should be."""


def _stamped(row: Row, _rng: random.Random, at: float) -> None:
    when = datetime.fromtimestamp(at, tz=UTC).isoformat(timespec="seconds")
    system = row["messages"][0]["content"]
    row["messages"][0]["content"] = system.replace(
        "You answer for Acme. ", f"You answer for Acme. Now: {when}. "
    )


def _uuid(row: Row, rng: random.Random, _at: float) -> None:
    digits = "".join(rng.choice("0123456789abcdef") for _ in range(32))
    parts = (digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:])
    row["messages"][0]["content"] = f"Request {'-'.join(parts)}\n{row['messages'][0]['content']}"


def _shuffled(row: Row, rng: random.Random, _at: float) -> None:
    rng.shuffle(row["tools"])


def _both(row: Row, rng: random.Random, at: float) -> None:
    _shuffled(row, rng, at)
    _stamped(row, rng, at)


def _made(trace: Trace, catalog: Catalog) -> Prompts:
    return make(trace, catalog, ON, views=("prefixes", "caches"))


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _log(tmp_path_factory.mktemp("prompts") / "log.jsonl", _nothing)


def test_nothing_is_found_where_nothing_breaks(clean: Path, catalog: Catalog) -> None:
    found = _made(open_trace(clean, prompts=True), catalog)
    assert found.known == "words"
    assert found.found == []
    assert found.lives[0].reread.never < 0.2


def test_a_timestamp_is_found_by_its_place_and_kind(tmp_path: Path, catalog: Catalog) -> None:
    found = _made(open_trace(_log(tmp_path / "log.jsonl", _stamped), prompts=True), catalog)
    assert [(one.kind, one.part) for one in found.found] == [("timestamp", "system")]
    one = found.found[0]
    start = len("You answer for Acme. Now: ") + 1
    assert (one.first_char, one.last_char) == (start, start + len("2026-10-19T00:00:00+00:00") - 1)
    assert one.requests > 0.9 * REQUESTS
    assert one.before.endswith("Acme. Now:")
    assert one.read_before_frac < 0.4 < one.read_after_frac
    assert one.saves.low_usd <= one.saves.usd <= one.saves.high_usd


@pytest.mark.parametrize("model", ["gpt-5.4", "claude-sonnet-4-5"])
def test_what_mending_saves_is_what_replay_of_the_mended_log_costs_less(
    tmp_path: Path, catalog: Catalog, model: str
) -> None:
    """The oracle writes the log anew with the time behind the instructions, and replays both."""

    def mended(row: Row, rng: random.Random, at: float) -> None:
        _stamped(row, rng, at)
        system = row["messages"][0]["content"]
        head, _, rest = system.partition(" Now: ")
        stamp, _, tail = rest.partition(". ")
        row["messages"][0]["content"] = f"{head} {tail}"
        row["messages"][1]["content"] += f"\nNow: {stamp}."

    usd = []
    for name, change in (("broken", _stamped), ("mended", mended)):
        trace = open_trace(_log(tmp_path / f"{name}.jsonl", change, model), prompts=True)
        sent = read(trace, catalog, ON)
        assert sent.pieces is not None
        assert sent.tok is not None
        rates = Prices(sent).rates()
        whole, output = sent.table.input_tok.astype(np.int64), sent.table.output_tok.astype(np.int64)
        cheapest = float(rates.bill(whole, output).sum())
        for way in cache_ways(catalog.at(ON)):
            if way.serves(sent.offerings[0]) and not way.stored:
                life = way.life._replace(least_tok=1024)
                prompts = prefixes(sent.pieces, sent.tok)
                now = kept(prompts, sent.table.arrival_ns, whole, life)
                cheapest = min(cheapest, float(rates.bill(whole, output, now, way.write_meter).sum()))
        usd.append(cheapest * sent.months)
    found = _made(open_trace(tmp_path / "broken.jsonl", prompts=True), catalog)
    assert found.found_saves is not None
    assert found.found_saves.usd == pytest.approx(usd[0] - usd[1], rel=0.02)
    assert found.found_saves.usd == pytest.approx(sum(one.saves.usd for one in found.found))


def test_an_identifier_and_an_order_of_tools_are_told_apart(tmp_path: Path, catalog: Catalog) -> None:
    found = _made(open_trace(_log(tmp_path / "a.jsonl", _uuid), prompts=True), catalog)
    assert [(one.kind, one.part, one.first_char) for one in found.found] == [("identifier", "system", 9)]
    found = _made(open_trace(_log(tmp_path / "b.jsonl", _shuffled), prompts=True), catalog)
    assert [(one.kind, one.way) for one in found.found] == [("order of tools", "order")]


def test_each_template_of_a_workload_is_mended_by_itself(tmp_path: Path, catalog: Catalog) -> None:
    other = _text(random.Random(9), 900)

    def mixed(row: Row, rng: random.Random, at: float) -> None:
        if rng.random() < 0.5:
            _stamped(row, rng, at)
        else:
            _uuid(row, rng, at)
            row["messages"][0]["content"] = row["messages"][0]["content"].split("\n")[0] + "\n" + other

    found = _made(open_trace(_log(tmp_path / "log.jsonl", mixed), prompts=True), catalog)
    assert {one.kind for one in found.found} == {"timestamp", "identifier"}


def test_two_breaks_are_mended_one_after_the_other(tmp_path: Path, catalog: Catalog) -> None:
    found = _made(open_trace(_log(tmp_path / "log.jsonl", _both), prompts=True), catalog)
    assert [(one.number, one.kind) for one in found.found] == [(1, "order of tools"), (2, "timestamp")]
    assert found.found[1].part == "system"
    assert found.found[0].read_after_frac == pytest.approx(found.found[1].read_before_frac)


def test_no_words_of_what_varies_are_shown(tmp_path: Path, catalog: Catalog) -> None:
    def named(row: Row, rng: random.Random, _at: float) -> None:
        name = rng.choice(["Ada Byron", "Kurt Wolf", "Rosa Blum", "Ines Roth", "Olga Petrova", "Jan Kowal"])
        row["messages"][0]["content"] = (
            f"You talk to {name}{rng.randrange(100)}. {row['messages'][0]['content']}"
        )

    found = _made(open_trace(_log(tmp_path / "log.jsonl", named), prompts=True), catalog)
    assert found.found
    shown = msgspec.json.encode(found).decode()
    assert not any(name in shown for name in ("Byron", "Wolf", "Blum", "Roth", "Petrova", "Kowal"))


def test_ids_of_parts_show_documents_in_another_order(catalog: Catalog, data_dir: Path) -> None:
    """RAGPulse names parts by themselves; shuffled among one another they are put back in one order."""
    trace = open_trace(data_dir / "traces" / "ragpulse.parquet", prompts=True)
    assert not trace.chained
    sent = read(trace, catalog, ON, "openai/gpt-5.4")
    assert sent.kind == "parts"
    real = make(trace, catalog, ON, now="deepseek/deepseek-v4-flash", views=("prefixes",))
    assert [one.kind for one in real.found] == ["order of passages"]
    assert real.found[0].read_after_frac > 1.5 * real.found[0].read_before_frac
    assert real.lost_frac is not None
    rng = np.random.default_rng(3)
    documents = np.arange(1, 9, dtype=np.int64)
    rows = [np.concatenate(([100], rng.permutation(documents), [1_000 + i])) for i in range(200)]
    offsets = np.arange(0, 10 * 201, 10, dtype=np.int64)
    found = Pieces(offsets, np.concatenate(rows), np.full(2_000, 64, np.int32))
    told, states = breaks(found, np.full(2_000, 64, np.int32))
    assert [one.way for one in told] == ["order"]
    after = losses(chained(states[-1])).read_tok.sum()
    assert after == 199 * 9 * 64


def test_chained_hashes_say_that_a_break_cannot_be_seen(catalog: Catalog) -> None:
    found = make(example("anthropic/claude-opus-4-6"), catalog, ON, views=("prefixes",))
    assert found.known == "prefixes"
    assert "chained hashes" in found.known_says
    assert found.found == []


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(max_size=900), min_size=1, max_size=6))
def test_pieces_are_the_prompt_and_equal_text_is_cut_alike(prompts: list[bytes]) -> None:
    found = pieces(prompts)
    for i, prompt in enumerate(prompts):
        size = found.size[found.offsets[i] : found.offsets[i + 1]]
        assert size.sum() == len(prompt)
        assert (size <= MOST_BYTES).all()
    twice = pieces([*prompts, *prompts])
    m = int(found.offsets[-1])
    assert (twice.ids[:m] == twice.ids[m:]).all()
    tok = np.array([len(prompt) // 3 for prompt in prompts], np.int64)
    spread = as_blocks(found, tok)
    row = np.repeat(np.arange(len(prompts)), np.diff(found.offsets))
    assert (np.bincount(row, spread.tok, len(prompts)) == np.where(np.diff(found.offsets) > 0, tok, 0)).all()


def test_a_word_more_moves_no_cut_behind_it() -> None:
    rng = random.Random(1)
    text = _text(rng, 800).encode()
    one = pieces([text, b"a word more " + text])
    first, second = (set(one.ids[one.offsets[i] : one.offsets[i + 1]].tolist()) for i in range(2))
    assert len(first & second) >= len(first) - 4


def test_losses_are_what_another_order_would_read() -> None:
    """One prompt begins with a word of its own: all behind it is lost."""
    ids = np.array([1, 2, 3, 9, 1, 2, 3], np.int64)
    found = Pieces(np.array([0, 3, 7]), ids, np.full(7, 10, np.int32))
    seen = losses(chained(Mended(found, np.full(7, 10, np.int32), np.arange(7))))
    assert seen.read_tok.tolist() == [0, 0]
    assert seen.lost_tok.tolist() == [0, 30]
    assert infinite(prefixes(found, np.full(7, 10, np.int32))).tolist() == [0, 0]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("2026-11-23", "timestamp"), ("Monday, 23 November 2026 at 14:05 UTC", "timestamp"),
        ("1763877073", "timestamp"),
        ("14:05:33", "timestamp"), ("9f86d081884c7d65", "identifier"), ("req_8Hk2mPq91", "identifier"),
        ("10.2.33.4", "address"), ("Olga Petrova", "name"), ("17", "number"),
        ("why is the sky blue at noon", "text"),
    ],
)  # fmt: skip
def test_kinds(text: str, kind: str) -> None:
    assert kind_of(text) == kind


@pytest.mark.parametrize(
    ("raw", "labels"),
    [
        ('{"t": null, "s": "S", "m": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]}',
         ("system", "message 1 (user)")),
        ('{"t": "[{\\"name\\": \\"a\\"}]", "s": null, "m": "plain words"}', ("tool 1", "prompt")),
        ('{"s": "[]", "m": "{\\"messages\\": [{\\"role\\": \\"system\\", \\"content\\": \\"x\\"}]}"}',
         ("system",)),
        ("", ()),
    ],
)  # fmt: skip
def test_words_of_logs_are_put_in_the_order_that_a_provider_reads(raw: str, labels: tuple[str, ...]) -> None:
    assert words(raw).labels == labels


def test_langfuse_and_spans_and_tables_have_words(tmp_path: Path, catalog: Catalog) -> None:
    system, rows, spans = _text(random.Random(2), 500), [], []
    for i in range(12):
        stamp = datetime.fromtimestamp(1_763_800_000 + 60 * i, tz=UTC).isoformat()
        said = [
            {"role": "system", "content": f"Now {stamp} {system}"},
            {"role": "user", "content": f"Question {i}"},
        ]
        usage = {"input": 1500, "output": 20}
        row = {"id": f"o{i}", "type": "GENERATION", "startTime": stamp, "model": "gpt-5.4"}
        rows.append({**row, "input": said, "usageDetails": usage})
        text = msgspec.json.encode(said).decode()
        attributes = [
            {"key": "gen_ai.usage.input_tokens", "value": {"intValue": "1500"}},
            {"key": "gen_ai.usage.output_tokens", "value": {"intValue": "20"}},
            {"key": "gen_ai.request.model", "value": {"stringValue": "gpt-5.4"}},
            {"key": "gen_ai.input.messages", "value": {"stringValue": text}},
        ]
        ns = str(1_763_800_000 * 10**9 + 60 * i * 10**9)
        spans.append({"startTimeUnixNano": ns, "endTimeUnixNano": ns, "attributes": attributes})
    logs = {
        "langfuse.jsonl": b"\n".join(msgspec.json.encode(row) for row in rows),
        "spans.json": msgspec.json.encode({"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}),
        "table.csv": b"timestamp,model,prompt_tokens,completion_tokens,prompt\n" + b"\n".join(
            f'{row["startTime"]},gpt-5.4,1500,20,"{row["input"][0]["content"]}"'.encode() for row in rows
        ),
    }  # fmt: skip
    quoted = [msgspec.json.encode(row["input"]).decode().replace('"', '""') for row in rows]
    logs["litellm.csv"] = (
        b"request_id,spend,startTime,endTime,prompt_tokens,completion_tokens,model,messages\n"
    )
    logs["litellm.csv"] += "\n".join(
        f'r{i},0.01,{row["startTime"]},{row["startTime"]},1500,20,gpt-5.4,"{said}"'
        for i, (row, said) in enumerate(zip(rows, quoted, strict=True))
    ).encode()
    for name, data in logs.items():
        (tmp_path / name).write_bytes(data)
        trace = open_trace(tmp_path / name, prompts=True)
        found = make(trace, catalog, ON, views=("prefixes",))
        assert found.known == "words", name
        assert [one.kind for one in found.found] == ["timestamp"], name
        assert open_trace(tmp_path / name).texts is None


def test_a_log_of_long_prompts_is_read_some_megabytes_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Words come in the order of arrival, whatever the order of lines, the size of lots, and the packing."""
    from isocost.trace import words as kept

    lines = [
        json.dumps({
            "timestamp": f"2026-11-02T10:{59 - i % 60:02d}:00Z", "model": "gpt-4.1",
            "request": {"messages": [{"role": "user", "content": f"{i} " + "wörter " * (3 + (i % 7) ** 4)}]},
            "usage": {"prompt_tokens": 10, "completion_tokens": 1},
        }, ensure_ascii=False)
        for i in range(60)
    ]  # fmt: skip
    log = tmp_path / "log.jsonl"
    log.write_text("\n".join(lines) + "\n", encoding="utf-8")
    packed = tmp_path / "log2.jsonl.gz"
    packed.write_bytes(gzip.compress(log.read_bytes()))
    whole = [text for lot in (open_trace(log, prompts=True).texts or list)() for text in lot]
    held = [json.loads(text)["m"] for text in whole]
    asked = [(json.loads(one) if isinstance(one, str) else one)[0]["content"] for one in held]
    assert [int(text.split()[0]) for text in asked] == list(range(59, -1, -1))
    monkeypatch.setattr(kept, "LOT_BYTES", 50_000)
    monkeypatch.setattr(kept, "TEXT_BYTES", 30_000)
    for file in (log, packed):
        lots = list((open_trace(file, prompts=True).texts or list)())
        assert len(lots) > 3
        assert [text for lot in lots for text in lot] == whole


def test_equal_prompts_are_worth_what_an_exact_cache_would_keep(tmp_path: Path) -> None:
    """Of 300 requests that cost the same, 100 repeat one of within a day; 50 come two days later, 50 are of
    another tenant."""
    rows = []
    for i in range(300):
        seconds = i * 60 + (2 * 86_400 if i >= 250 else 0)
        messages = [{"role": "user", "content": f"Question {i % 100}: " + "why? " * 40}]
        rows.append({"created": 1_793_577_600 + seconds, "model": "gpt-5.4", "messages": messages,
                     "user": "b" if 200 <= i < 250 else "a",
                     "usage": {"prompt_tokens": 60, "completion_tokens": 30}})  # fmt: skip
    (tmp_path / "log.jsonl").write_text("\n".join(json.dumps(row) for row in rows) + "\n")
    trace = open_trace(tmp_path / "log.jsonl", prompts=True)
    (one,) = make(trace, Catalog.load(), ON, views=["rules"]).simple
    assert one.repeat_frac == pytest.approx(200 / 300)
    assert one.repeat_saves is not None
    each = (60 * 2.5 + 30 * 15.0) / 1e6
    span_days = (299 * 60 + 2 * 86_400) / 86_400
    assert one.repeat_saves.usd == pytest.approx(100 * each * 365.25 / 12 / span_days, rel=0.01)
