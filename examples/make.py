"""Write the example logs of this folder: ``python examples/make.py [FOLDER]``.

Both files are generated from the parameters below: made-up traffic, no one's log. ``litellm_spendlogs.csv``
has the columns of LiteLLM's LiteLLM_SpendLogs table that matter here, ``key_alias`` joined from its keys,
and the flaws of a real export: failed calls and their repeats, rows twice, rows without tokens, an outage
without rows, rows in the order in which calls ended. ``spend`` is left blank, as where LiteLLM knows no
price. ``azure_like.csv`` has the three columns of the Azure LLM inference traces.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np

from isocost.trace.schema import NS_PER_S, Chunk
from isocost.trace.workload import (
    Latency,
    Parameters,
    PromptCache,
    Spread,
    Workload,
    example_parameters,
    generate,
)

SEED = 41
START = date(2026, 10, 30)
DAYS = 21

WORKLOADS = (
    Workload("support-faq", 110, "office", 55, 190, Spread(0.5, 0.5, 2.0), system_tok=5120, repeat_frac=0.6,
             prompts=120, zipf=1.1),
    Workload("chat-assistant", 120, "office", 160, 420, Spread(0.9, 0.7, 2.0), system_tok=7168, turns=3.2,
             think_s=50),
    Workload("extraction", 85, "office", 9500, 320, Spread(0.6, 0.4, 6.0), system_tok=1664, structured=True),
    Workload("doc-summaries", 110, "night", 60_000, 1400, Spread(0.5, 0.4, 4.0), system_tok=384),
    Workload("coding-helper", 125, "office", 4200, 640, Spread(0.7, 0.9, 2.0), system_tok=22_016, turns=11,
             think_s=12, tools=True),
    Workload("sales-email", 35, "office", 2900, 380, Spread(0.5, 0.4, 2.0), system_tok=1536),
)  # fmt: skip

MODELS = {
    "support-faq": (("gpt-4.1-mini", 0.6), ("gpt-5-mini", 0.4)),
    "chat-assistant": (("gpt-6-sol", 0.5), ("gpt-4.1", 0.3), ("claude-sonnet-5", 0.2)),
    "extraction": (("claude-haiku-4-5", 0.5), ("gpt-5.4-mini", 0.5)),
    "doc-summaries": (("claude-opus-4-5", 0.6), ("gpt-5.4", 0.4)),
    "coding-helper": (("claude-opus-5", 0.65), ("claude-sonnet-4-6", 0.35)),
    "sales-email": (("gpt-4o", 1.0),),
}
"""Which models each key calls, and how often; a session stays on one."""

REASONING_FRAC = {"gpt-5-mini": 0.45, "gpt-6-sol": 0.35, "gpt-5.4-mini": 0.3, "gpt-5.4": 0.3}
"""Share of output that is reasoning."""

FAILED_FRAC = 0.012
FAILED_AGAIN_FRAC = 0.15
TWICE = 40
WITHOUT_TOKENS = 4
OUTAGE = (datetime(2026, 11, 10, 13, 0, tzinfo=UTC), datetime(2026, 11, 10, 16, 30, tzinfo=UTC))

COLUMNS = (
    "request_id", "call_type", "key_alias", "spend", "total_tokens", "prompt_tokens", "completion_tokens",
    "startTime", "endTime", "completionStartTime", "model", "custom_llm_provider", "metadata", "cache_hit",
    "request_tags", "team_id", "session_id", "status",
)  # fmt: skip


def spend_logs() -> Chunk:
    """The requests behind the LiteLLM log, before failures and flaws."""
    shapes = example_parameters().shapes
    parameters = Parameters(
        "litellm example", SEED, DAYS, WORKLOADS, shapes, start=START, block_tok=64, tenants=9,
        tenant_zipf=1.0, latency=Latency(0.42, 30e-6, 0.012, 0.4), cache=PromptCache(0.45, 1024, 128),
    )  # fmt: skip
    return generate(parameters).table()


def rows(table: Chunk) -> Iterator[tuple[int, dict[str, object]]]:
    """Rows of the log with the time (ns) at which LiteLLM wrote them."""
    rng = np.random.Generator(np.random.PCG64(SEED + 1))
    assert table.workload is not None
    assert table.session is not None
    assert table.tenant is not None
    assert table.cached_tok is not None
    assert table.ttft_s is not None
    assert table.e2e_s is not None
    begin, end = (int(at.timestamp()) * NS_PER_S for at in OUTAGE)
    seen: set[int] = set()
    for i in range(len(table)):
        at = int(table.arrival_ns[i])
        workload = WORKLOADS[int(table.workload[i])].name
        session = int(table.session[i])
        first_turn = session not in seen
        seen.add(session)
        pick = (
            np.random.Generator(np.random.PCG64([SEED, session])).random() if session >= 0 else rng.random()
        )
        model = _choose(MODELS[workload], pick)
        failures = 0
        if rng.random() < FAILED_FRAC:
            failures = 2 if rng.random() < FAILED_AGAIN_FRAC else 1
        if begin <= at < end:
            continue
        link = f"s{session}" if session >= 0 else (f"r{i}" if failures else "")
        for attempt in range(failures):
            done = at + int(rng.uniform(0.3, 8.0) * NS_PER_S)
            yield done, _row(f"{i:05x}f{attempt}", workload, model, at, done, link, table, i) | {
                "status": "failure", "prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0,
                "metadata": "{}",
            }  # fmt: skip
            at = done + int(rng.uniform(0.5, 3.0) * NS_PER_S)
        done = at + int(float(table.e2e_s[i]) * NS_PER_S)
        row = _row(f"{i:05x}", workload, model, at, done, link, table, i)
        if rng.random() < 0.6:  # streamed, so that the first token's time is known
            row["completionStartTime"] = _time(at + int(float(table.ttft_s[i]) * NS_PER_S))
        usage: dict[str, object] = {}
        if table.cached_tok[i]:
            usage["prompt_tokens_details"] = {"cached_tokens": int(table.cached_tok[i])}
        if model.startswith("claude") and workload == "coding-helper" and first_turn:
            usage["cache_creation_input_tokens"] = int(table.input_tok[i]) // 128 * 128
            usage.pop("prompt_tokens_details", None)
        if model in REASONING_FRAC:
            thought = int(int(table.output_tok[i]) * REASONING_FRAC[model] * rng.random() * 2)
            usage["completion_tokens_details"] = {"reasoning_tokens": min(thought, int(table.output_tok[i]))}
        row["metadata"] = json.dumps({"usage_object": usage}, separators=(",", ":")) if usage else "{}"
        yield done, row


def _choose(shares: tuple[tuple[str, float], ...], pick: float) -> str:
    for model, share in shares:
        pick -= share
        if pick < 0:
            return model
    return shares[-1][0]


def _row(
    ident: str, workload: str, model: str, at: int, done: int, link: str, table: Chunk, i: int
) -> dict[str, object]:
    assert table.tenant is not None
    prompt, completion = int(table.input_tok[i]), int(table.output_tok[i])
    return {
        "request_id": f"c-{ident}", "call_type": "acompletion", "key_alias": workload, "spend": "",
        "total_tokens": prompt + completion, "prompt_tokens": prompt, "completion_tokens": completion,
        "startTime": _time(at), "endTime": _time(done), "completionStartTime": _time(done), "model": model,
        "custom_llm_provider": "anthropic" if model.startswith("claude") else "openai", "metadata": "{}",
        "cache_hit": "False", "request_tags": json.dumps([workload.partition("-")[0]]),
        "team_id": f"team-{int(table.tenant[i]) + 1}", "session_id": link, "status": "success",
    }  # fmt: skip


def _time(at_ns: int) -> str:
    moment = datetime(1970, 1, 1) + timedelta(milliseconds=at_ns // 1_000_000)
    return moment.isoformat(sep=" ", timespec="milliseconds")


def write_spend_logs(path: Path) -> int:
    """Write the LiteLLM log with its flaws; returns the rows written."""
    rng = np.random.Generator(np.random.PCG64(SEED + 2))
    written = [row for _, row in sorted(rows(spend_logs()), key=lambda one: one[0])]
    for i in np.sort(rng.choice(len(written), WITHOUT_TOKENS, replace=False)):
        written[i] = {
            **written[i],
            "prompt_tokens": "",
            "completion_tokens": "",
            "total_tokens": "",
            "metadata": "",
        }
    for i in np.sort(rng.choice(len(written) - 50, TWICE, replace=False))[::-1]:
        written.insert(int(i) + int(rng.integers(1, 40)), written[i])
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(written)
    return len(written)


def write_azure_like(path: Path) -> int:
    """Write an hour of chat traffic in the columns of the Azure traces; returns the rows written."""
    chat = Workload("chat", 48_000, "flat", 1050, 210, Spread(0.9, 0.8, 4.0))
    shapes = {"flat": (1.0,) * 168}
    table = generate(
        Parameters("azure-like", SEED, 1 / 24, (chat,), shapes, start=date(2026, 11, 16))
    ).table()
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("TIMESTAMP", "ContextTokens", "GeneratedTokens"))
        for at, prompt, completion in zip(table.arrival_ns, table.input_tok, table.output_tok, strict=True):
            moment = datetime(1970, 1, 1) + timedelta(microseconds=int(at) // 1000)
            stamp = moment.isoformat(sep=" ", timespec="microseconds")
            writer.writerow((f"{stamp}+00:00", prompt, completion))
    return len(table)


def main(folder: Path) -> None:
    """Write every example log into ``folder``."""
    for name, write in (("litellm_spendlogs.csv", write_spend_logs), ("azure_like.csv", write_azure_like)):
        path = folder / name
        n = write(path)
        sys.stdout.write(f"{path}: {n:,} rows, {path.stat().st_size / 1e6:.1f} MB\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
