"""RAGPulse (Parquet): ts_s, in_tok, out_tok, session, and lists of typed ids of the prompt's parts."""

from __future__ import annotations

from collections.abc import Mapping

from isocost.trace.head import Head
from isocost.trace.ingest import Scan, count_ns, number
from isocost.trace.readers import Reader, no_columns
from isocost.trace.readers.names import key_of
from isocost.trace.schema import ANCHOR_NS, Finding

_PARTS = ("sys_prompt", "passages_ids", "history", "web_search", "user_input")


def knows(head: Head) -> bool:
    """The lengths, a session and the parts."""
    return head.kind == "parquet" and head.has("ts_s", "in_tok", "out_tok", "session", *_PARTS)


def scan(_head: Head, _mapping: Mapping[str, str]) -> Scan:
    """The parts' ids say which parts two prompts share, not how many tokens a part holds.

    So equal prompts are known (all ids equal), and prefix blocks are not: they would need each part's size.
    """
    whole = f"[{', '.join(f'CAST({part} AS VARCHAR)' for part in _PARTS)}]"
    columns = {
        "arrival_ns": count_ns("ts_s", 1, ANCHOR_NS),
        "input_tok": number("in_tok"),
        "output_tok": number("out_tok"),
        "session": "CAST(session AS VARCHAR)",
        "prompt_key": key_of(f"CAST({whole} AS VARCHAR)"),
    }
    text = "prompt parts carry ids but no sizes: exact repeats are known, prefix reuse in tokens is not"
    spelled = {"arrival_ns": "ts_s", "input_tok": "in_tok", "output_tok": "out_tok"}
    return Scan(
        columns, clock="relative", findings=(Finding("doubt", "no_block_sizes", text),), spelled=spelled
    )


READER = Reader("ragpulse", knows, scan, no_columns)
