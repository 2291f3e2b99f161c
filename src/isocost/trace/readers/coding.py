"""Coding sessions (Parquet): a request is ``lcp_prev`` 64-token blocks of the one before, then a suffix."""

from __future__ import annotations

from collections.abc import Mapping

from isocost.trace.head import Head
from isocost.trace.ingest import Scan
from isocost.trace.readers import Reader
from isocost.trace.schema import ANCHOR_NS, Finding
from isocost.trace.sql import count_ns, number

BLOCK_TOK = 64

_NAMESPACE = 4_294_967_296
"""Block ids are local to a session tree: its number goes above their 32 bits."""

# A branch's clock starts at zero; it began when its parent request (by number) had been sent.
_BRANCHES = """(
    WITH numbered AS (SELECT *, row_number() OVER () AS place FROM {file}),
    trunk AS (SELECT trace AS tree, seq AS step, t AS sent FROM numbered WHERE coalesce(sub, '') = '')
    SELECT numbered.* EXCLUDE (t), t + coalesce(trunk.sent, 0) AS t
    FROM numbered ASOF LEFT JOIN trunk
    ON numbered.trace = trunk.tree AND (CASE WHEN coalesce(sub, '') = '' THEN -1 ELSE parent_seq END) >=
    trunk.step ORDER BY place
)"""


def knows(head: Head) -> bool:
    """A shared length and a suffix of ids, one session tree to itself or several as tenants."""
    return head.kind == "parquet" and (_single(head) or _team(head))


def _single(head: Head) -> bool:
    return head.has(
        "trace", "sub", "seq", "t", "in_tok", "out_tok", "lcp_prev", "suffix_hash_ids", "parent_seq"
    )


def _team(head: Head) -> bool:
    return head.has(
        "ts_s", "tenant", "session", "in_tok", "out_tok", "lcp_prev_in_session", "suffix_hash_ids"
    )


def scan(head: Head, _mapping: Mapping[str, str]) -> Scan:
    """Whole block lists are rebuilt while reading: the suffix is stored, the shared part is carried over."""
    findings: tuple[Finding, ...] = ()
    if _team(head):
        tree, session, time, shared, call = "tenant", "session", "ts_s", "lcp_prev_in_session", "api_time_s"
        source = "{file}"
    else:
        tree, session, time, shared, call = (
            "trace",
            "trace || '/' || coalesce(sub, '')",
            "t",
            "lcp_prev",
            "api_time",
        )
        source = _BRANCHES
        text = "every session's clock starts at zero, so all seem to start together: concurrency is not real"
        findings = (Finding("doubt", "sessions_start_together", text),)
    columns = {
        "arrival_ns": count_ns(time, 1, ANCHOR_NS),
        "input_tok": number("in_tok"),
        "output_tok": number("out_tok"),
        "model": "CAST(model AS VARCHAR)",
        "tenant": f"CAST({tree} AS VARCHAR)",
        "session": f"CAST({session} AS VARCHAR)",
        "chain_key": f"CAST({session} AS VARCHAR)",
        "shared": f"CAST({shared} AS BIGINT)",
        "blocks": f"list_transform(suffix_hash_ids, lambda x: x::BIGINT + {tree}::BIGINT * {_NAMESPACE})",
        "e2e_s": number(call),
    }
    spelled = {"arrival_ns": time, "input_tok": "in_tok", "output_tok": "out_tok"}
    return Scan(
        columns, clock="relative", block_tok=BLOCK_TOK, source=source, findings=findings, spelled=spelled
    )


def by(head: Head) -> Mapping[str, str]:
    """Model or tenant may name workloads."""
    return {
        "model": "CAST(model AS VARCHAR)",
        "tenant": f"CAST({'tenant' if _team(head) else 'trace'} AS VARCHAR)",
    }


READER = Reader("coding", knows, scan, by)
