"""Any CSV, JSONL or Parquet: columns named by the user, or guessed from what people call them."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches

from isocost.errors import BadTrace
from isocost.trace.head import Head
from isocost.trace.ingest import COUNTS, TIMES, Scan
from isocost.trace.readers import Reader, names
from isocost.trace.schema import NAMED, Finding
from isocost.trace.sql import number

_NEEDED = ("arrival", "input_tok", "output_tok")


def knows(_head: Head) -> bool:
    """Always: it is tried last."""
    return True


def scan(head: Head, mapping: Mapping[str, str]) -> Scan:
    """Our columns from the mapping (``{"input_tok": "prompt", "arrival": "ts:ms"}``), the rest guessed.

    Raises:
        BadTrace: a mapping to nothing, or no column for time, input or output.
    """
    chosen, units, guessed = _choose(head, mapping)
    findings = []
    arrival, clock, said = names.arrival(head, chosen["arrival"], units.get("arrival", ""))
    if guessed:
        pairs = ", ".join(f"{role}={chosen[role]}" for role in sorted(guessed))
        findings.append(Finding("guessed", "columns", f"columns by their names: {pairs}"))
    if said:
        findings.append(Finding("guessed", "time_unit", said))
    columns = {"arrival_ns": arrival}
    for role, column in chosen.items():
        sql = names.value(head, column)
        if role in ("input_tok", "output_tok", "billed_usd", *COUNTS):
            columns[role] = number(sql)
        elif role in TIMES:
            columns[role] = names.seconds(head, column, units.get(role, ""))
        elif role == "tier":
            columns[role] = names.tier(sql)
        elif role in NAMED or role == "request_id":
            columns[role] = names.text(sql)
        elif role == "prompt_key":
            columns[role] = names.key_of(sql)
        elif role == "status":
            columns["failed"] = names.failed(sql)
    if "failed" in columns:
        # A failed call often has no counts: that is no unreadable row.
        bad = f"({columns['failed']}) > 0"
        for role in ("input_tok", "output_tok"):
            columns[role] = f"CASE WHEN {bad} THEN coalesce({columns[role]}, 0) ELSE {columns[role]} END"
    if names.plain(chosen.get("cached_tok", "")) == "cache_read_input_tokens" and (
        names.plain(chosen["input_tok"]) == "input_tokens"
    ):
        # Anthropic's usage names: there input_tokens leaves out what was read from or written to the cache,
        # while our input_tok counts all input.
        parts = [
            f"coalesce({columns[part]}, 0)" for part in ("cached_tok", "cache_write_tok") if part in columns
        ]
        columns["input_tok"] = " + ".join([columns["input_tok"], *parts])
        text = "input_tokens leaves out cached tokens (Anthropic's meaning); they are added"
        findings.append(Finding("guessed", "exclusive_input", text))
    spelled = {("arrival_ns" if role == "arrival" else role): column for role, column in chosen.items()}
    return Scan(columns, clock=clock, findings=tuple(findings), spelled=spelled)


def _choose(head: Head, mapping: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str], list[str]]:
    chosen: dict[str, str] = {}
    units: dict[str, str] = {}
    for role, target in mapping.items():
        if role not in names.NAMES:
            near = get_close_matches(role, names.NAMES, n=1)
            raise BadTrace(
                f"--map knows no column {role!r}",
                where=str(head.path),
                fix=f"Did you mean {near[0]}?" if near else f"It knows: {', '.join(names.NAMES)}",
            )
        column, _, unit = target.rpartition(":")
        if target in head.columns or not column:
            column, unit = target, ""
        elif not names.is_unit(unit):
            raise BadTrace(
                f"--map {role}={target}: {unit!r} is no time unit", fix="Use ns, us, ms, s, min or h"
            )
        spelled = head.column(column)
        if spelled is None and not (head.kind in ("jsonl", "json") and names.samples(head, column)):
            raise BadTrace(
                f"--map {role}={target}: no such column",
                where=str(head.path),
                fix=f"Columns found: {', '.join(head.columns)}",
            )
        chosen[role] = spelled or column
        units[role] = unit
    guessed = []
    for role in names.NAMES:
        if role not in chosen:
            column_ = names.guess(head, role)
            if column_ is not None and column_ not in chosen.values():
                chosen[role] = column_
                guessed.append(role)
    lacking = [role for role in _NEEDED if role not in chosen]
    if lacking:
        example = ",".join(f"{role}=COLUMN" for role in lacking)
        raise BadTrace(
            f"no column found for {', '.join(lacking)} among: {', '.join(head.columns)}",
            where=str(head.path),
            fix=f"Name them: --map {example}",
        )
    return chosen, units, guessed


def by(head: Head) -> Mapping[str, str]:
    """Every column may name workloads."""
    mine = {name: names.text(names.value(head, name)) for name in head.columns}
    for role in NAMED:
        column = names.guess(head, role)
        if column is not None:
            mine.setdefault(role, names.text(names.value(head, column)))
    return mine


READER = Reader("generic", knows, scan, by, prefer=("workload",))
