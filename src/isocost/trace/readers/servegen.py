"""Requests generated from ServeGen's fitted clients: ts_s, model, tenant, in_tok, out_tok (Parquet)."""

from __future__ import annotations

from collections.abc import Mapping

from isocost.trace.head import Head
from isocost.trace.ingest import Scan
from isocost.trace.readers import Reader
from isocost.trace.schema import ANCHOR_NS
from isocost.trace.sql import count_ns, number

_COLUMNS = frozenset({"ts_s", "model", "tenant", "in_tok", "out_tok"})


def knows(head: Head) -> bool:
    """Exactly these columns: with more of them another reader has the better claim."""
    return head.kind == "parquet" and set(head.columns) == _COLUMNS


def scan(_head: Head, _mapping: Mapping[str, str]) -> Scan:
    """Times are seconds from the start of the trace."""
    columns = {
        "arrival_ns": count_ns("ts_s", 1, ANCHOR_NS),
        "input_tok": number("in_tok"),
        "output_tok": number("out_tok"),
        "model": "model",
        "tenant": "CAST(tenant AS VARCHAR)",
    }
    spelled = {"arrival_ns": "ts_s", "input_tok": "in_tok", "output_tok": "out_tok"}
    return Scan(columns, clock="relative", spelled=spelled)


def by(_head: Head) -> Mapping[str, str]:
    """Model or tenant may name workloads."""
    return {"model": "model", "tenant": "CAST(tenant AS VARCHAR)"}


READER = Reader("servegen", knows, scan, by)
