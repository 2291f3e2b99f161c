"""Qwen-Bailian traces: chat_id, parent_chat_id, timestamp (s), lengths, type, turn, hash_ids of 16 tokens."""

from __future__ import annotations

from collections.abc import Mapping

from isocost.trace.head import Head
from isocost.trace.ingest import Scan
from isocost.trace.readers import Reader
from isocost.trace.readers.names import text, value
from isocost.trace.schema import ANCHOR_NS
from isocost.trace.sql import count_ns, number

BLOCK_TOK = 16

# A chat names its parent, -1 for none; the first chat of the line is the session. A parent that the file
# does not hold (it came before the trace began) leaves its child as the first.
_SOURCE = """(
    WITH RECURSIVE chat AS (
        SELECT json, row_number() OVER () AS place, CAST(json->>'$.chat_id' AS BIGINT) AS id,
               CAST(json->>'$.parent_chat_id' AS BIGINT) AS parent
        FROM {file}
    ), line AS (
        SELECT id, id AS first FROM chat WHERE parent NOT IN (SELECT id FROM chat WHERE id IS NOT NULL)
        UNION ALL
        SELECT chat.id, line.first FROM chat JOIN line ON chat.parent = line.id AND chat.id <> line.id
    )
    SELECT chat.json, line.first FROM chat LEFT JOIN line ON line.id = chat.id ORDER BY place
)"""


def knows(head: Head) -> bool:
    """The chat ids beside the block hashes."""
    keys = ("chat_id", "parent_chat_id", "timestamp", "input_length", "output_length", "hash_ids")
    return head.kind == "jsonl" and head.has(*keys)


def scan(head: Head, _mapping: Mapping[str, str]) -> Scan:
    """Hashes are of each block alone, so they are chained into prefixes."""
    columns = {
        "arrival_ns": count_ns(value(head, "timestamp"), 1, ANCHOR_NS),
        "input_tok": number(value(head, "input_length")),
        "output_tok": number(value(head, "output_length")),
        "session": "CAST(first AS VARCHAR)",
        "blocks": "TRY_CAST(json->'$.hash_ids' AS BIGINT[])",
    }
    spelled = {"arrival_ns": "timestamp", "input_tok": "input_length", "output_tok": "output_length"}
    return Scan(
        columns, clock="relative", block_tok=BLOCK_TOK, chained=False, source=_SOURCE, spelled=spelled
    )


def by(head: Head) -> Mapping[str, str]:
    """The type of a request (text, search, image, file) names its workload."""
    return {"type": text(value(head, "type"))}


READER = Reader("bailian", knows, scan, by, prefer=("type",))
