"""Mooncake traces (FAST'25): timestamp in ms, input_length, output_length, hash_ids of 512-token blocks."""

from __future__ import annotations

from collections.abc import Mapping

from isocost.trace.head import Head
from isocost.trace.ingest import Scan
from isocost.trace.readers import Reader, no_columns
from isocost.trace.readers.names import value
from isocost.trace.schema import ANCHOR_NS
from isocost.trace.sql import count_ns, number

BLOCK_TOK = 512


def knows(head: Head) -> bool:
    """The four keys, and no chat ids (those are Qwen-Bailian's, with other units)."""
    keys = ("timestamp", "input_length", "output_length", "hash_ids")
    return head.kind == "jsonl" and head.has(*keys) and not head.has("chat_id")


def scan(head: Head, _mapping: Mapping[str, str]) -> Scan:
    """A hash id stands for a block and all before it, so ids are prefixes as they are."""
    columns = {
        "arrival_ns": count_ns(value(head, "timestamp"), 1e3, ANCHOR_NS),
        "input_tok": number(value(head, "input_length")),
        "output_tok": number(value(head, "output_length")),
        "blocks": "TRY_CAST(json->'$.hash_ids' AS BIGINT[])",
    }
    spelled = {"arrival_ns": "timestamp", "input_tok": "input_length", "output_tok": "output_length"}
    return Scan(columns, clock="relative", block_tok=BLOCK_TOK, spelled=spelled)


READER = Reader("mooncake", knows, scan, no_columns)
