"""BurstGPT: Timestamp (s), Model, Request tokens, Response tokens, Log Type; later Session ID …"""

from __future__ import annotations

from collections.abc import Mapping

from isocost.trace.head import Head
from isocost.trace.ingest import Scan
from isocost.trace.readers import Reader
from isocost.trace.readers.names import text
from isocost.trace.schema import ANCHOR_NS, Finding
from isocost.trace.sql import count_ns, ident, number


def knows(head: Head) -> bool:
    """The spaced column names."""
    return head.kind == "csv" and head.has(
        "Timestamp", "Model", "Request tokens", "Response tokens", "Log Type"
    )


def scan(head: Head, _mapping: Mapping[str, str]) -> Scan:
    """A row with no response tokens is a failed call: that is how the data set marks it."""
    spelled = {
        "arrival_ns": head.column("Timestamp") or "",
        "input_tok": head.column("Request tokens") or "",
        "output_tok": head.column("Response tokens") or "",
    }
    output = number(ident(spelled["output_tok"]))
    columns = {
        "arrival_ns": count_ns(ident(spelled["arrival_ns"]), 1, ANCHOR_NS),
        "input_tok": number(ident(spelled["input_tok"])),
        "output_tok": output,
        "model": text(ident(head.column("Model") or "")),
        "failed": f"CASE WHEN {output} = 0 THEN 1 ELSE 0 END",
    }
    session, elapsed = head.column("Session ID"), head.column("Elapsed time")
    if session is not None:
        columns["session"] = text(ident(session))
    if elapsed is not None:
        columns["e2e_s"] = number(ident(elapsed))
    found = Finding("guessed", "no_response_failed", "a row without response tokens counts as a failed call")
    return Scan(columns, clock="relative", findings=(found,), spelled=spelled)


def by(head: Head) -> Mapping[str, str]:
    """API calls and conversations are two workloads; so may be the models."""
    return {
        "log_type": text(ident(head.column("Log Type") or "")),
        "model": text(ident(head.column("Model") or "")),
    }


READER = Reader("burstgpt", knows, scan, by, prefer=("log_type",))
