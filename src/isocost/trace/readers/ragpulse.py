"""RAGPulse (Parquet): ts_s, in_tok, out_tok, session, and lists of typed ids of the prompt's parts."""

from __future__ import annotations

from collections.abc import Mapping

from isocost.trace.head import Head
from isocost.trace.ingest import Scan
from isocost.trace.readers import Reader, no_columns
from isocost.trace.readers.names import key_of
from isocost.trace.schema import ANCHOR_NS, Finding
from isocost.trace.sql import count_ns, number

_PARTS = ("sys_prompt", "passages_ids", "history", "web_search", "user_input")


def knows(head: Head) -> bool:
    """The lengths, a session and the parts."""
    return head.kind == "parquet" and head.has("ts_s", "in_tok", "out_tok", "session", *_PARTS)


def scan(head: Head, _mapping: Mapping[str, str]) -> Scan:
    """The parts' ids, in the order of their columns, are the prompt's blocks.

    The data say which parts two prompts share, not how many tokens a part holds: each is taken to hold the
    mean of the first rows. An id names a part, not all before it.
    """
    whole = f"[{', '.join(f'CAST({part} AS VARCHAR)' for part in _PARTS)}]"
    parts = " || ".join(f"coalesce({part}, [])" for part in _PARTS)
    columns = {
        "arrival_ns": count_ns("ts_s", 1, ANCHOR_NS),
        "input_tok": number("in_tok"),
        "output_tok": number("out_tok"),
        "session": "CAST(session AS VARCHAR)",
        "prompt_key": key_of(f"CAST({whole} AS VARCHAR)"),
        "blocks": f"CAST({parts} AS BIGINT[])",
    }
    held = sum(len(row[part] or ()) for row in head.sample for part in _PARTS)
    block_tok = max(1, round(sum(float(row["in_tok"] or 0) for row in head.sample) / max(1, held)))
    text = (
        f"prompt parts carry ids but no sizes: each is taken to hold {block_tok} tokens, the mean of the "
        "first rows, so that reuse in tokens is about right, and right in parts"
    )
    spelled = {"arrival_ns": "ts_s", "input_tok": "in_tok", "output_tok": "out_tok"}
    found = (Finding("guessed", "block_sizes", text),)
    return Scan(
        columns, clock="relative", block_tok=block_tok, chained=False, findings=found, spelled=spelled
    )


READER = Reader("ragpulse", knows, scan, no_columns)
