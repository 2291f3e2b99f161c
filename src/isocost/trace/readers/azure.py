"""Azure LLM inference traces, 2023 and 2024: TIMESTAMP, ContextTokens, GeneratedTokens."""

from __future__ import annotations

from collections.abc import Mapping

from isocost.trace.head import Head
from isocost.trace.ingest import Scan
from isocost.trace.readers import Reader, no_columns
from isocost.trace.sql import ident, number, utc_ns


def knows(head: Head) -> bool:
    """The three columns, in a CSV or Parquet file."""
    return head.kind in ("csv", "parquet") and head.has("TIMESTAMP", "ContextTokens", "GeneratedTokens")


def scan(head: Head, _mapping: Mapping[str, str]) -> Scan:
    """Times of 2023 carry no zone, those of 2024 do; both are UTC."""
    names = {
        "arrival_ns": head.column("TIMESTAMP") or "",
        "input_tok": head.column("ContextTokens") or "",
        "output_tok": head.column("GeneratedTokens") or "",
    }
    columns = {
        "arrival_ns": utc_ns(ident(names["arrival_ns"])),
        "input_tok": number(ident(names["input_tok"])),
        "output_tok": number(ident(names["output_tok"])),
    }
    return Scan(columns, spelled=names)


READER = Reader("azure", knows, scan, no_columns)
