"""Our block caches against an oracle's hit tokens.

A file has the columns of ``COLUMNS``: one policy at one capacity on one trace a row, hit tokens
counted after ``warmup_requests``. The traces lie beside it, or in ``traces`` of the folder that
``ISOCOST_DATA`` names: ``mooncake_conversation.jsonl`` (blocks of 512 tokens, the last one shorter),
``ragpulse.parquet`` (requests in order of time; blocks are its typed ids in the order of its columns, and
the prompt is spread evenly over them), and any other log with hashes of blocks that ``isocost trace``
reads, by the name of its file. A row passes where our hit tokens are the same to the token.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from isocost.errors import BadInput
from isocost.replay.prefix import Blocks, belady, blocks, blocks_of, fifo, infinite, lru
from isocost.units import plural
from isocost.validate.table import rows_of

COLUMNS = ("trace", "window", "policy", "capacity_blocks", "hit_tokens", "total_tokens", "warmup_requests")
POLICIES: Mapping[str, Callable[[Blocks, int], NDArray[np.int64]]] = {
    "lru": lru,
    "fifo": fifo,
    "belady": belady,
    "optimal": belady,
    "opt": belady,
    "infinite": lambda prompts, _: infinite(prompts),
}
ENDLESS = frozenset({"infinite"})
"""Policies without a capacity: whatever a row says of it is not read."""
TYPED = ("sys_prompt", "passages_ids", "history", "web_search", "user_input")
MIXED = "mixes two meanings of a block"
UNKNOWN_TRACE = "its trace is not beside the file"
NOT_STATED = "a count is not stated"
TOO_LONG = "its warm-up is longer than its trace"
COUNTS = COLUMNS[3:]
ENDINGS = (".jsonl", ".parquet", ".csv", ".jsonl.gz", ".csv.gz")


class PrefixReport(msgspec.Struct, frozen=True):
    """How the caches did: rows of the file, compared, equal, ids of the others, rows left out by rule."""

    path: str
    rows: int
    answered: int
    passed: int
    failed: tuple[str, ...]
    left_out: dict[str, int]
    notes: tuple[str, ...] = ()


def validate_prefix(path: Path | str) -> PrefixReport:
    """Replay every row's policy and compare hit tokens.

    Left out, counted: rows whose ``window`` says that their published figures mix flat blocks with
    chained ones, rows of a trace that is not beside the file, and rows with a blank count or a warm-up
    beyond their trace. A policy that we do not have fails, and a note says so.

    Raises:
        BadInput: the file is absent, lacks a column, or holds a value that cannot be read; no row is left.
    """
    file = Path(path)
    rows = _rows(file)
    left_out: Counter[str] = Counter()
    failed: list[str] = []
    unknown: Counter[str] = Counter()
    traces: dict[str, Blocks | None] = {}
    passed = 0
    for row in rows:
        name = row["trace"]
        if name not in traces:
            traces[name] = next(
                (found for folder in _folders(file) if (found := read_blocks(folder, name)) is not None), None
            )
        prompts = traces[name]
        rule = _rule(row, prompts)
        if rule is not None or prompts is None:
            left_out[rule or UNKNOWN_TRACE] += 1
            continue
        said = row["policy"].strip().lower()
        policy = POLICIES.get(said)
        if policy is None:
            unknown[said] += 1
        capacity, wanted, total_tok, warm = (
            _count(row[count]) if count in _needed(row) else 0 for count in COUNTS
        )
        hits = None if policy is None else policy(prompts, capacity)[warm:].sum()
        total = prompts.tok[prompts.offsets[warm] :].sum()
        if (hits, total) == (wanted, total_tok):
            passed += 1
        else:
            failed.append(f"{name}/{row['policy']}/{row['capacity_blocks']}")
    answered = len(rows) - left_out.total()
    if not answered:
        why = "; ".join(f"{rule}: {count}" for rule, count in left_out.items())
        raise BadInput(
            f"no row to compare ({why})", where=str(file), fix="Put the traces beside it, or set ISOCOST_DATA"
        )
    notes = tuple(
        f"{plural(many, 'row')} of a policy that is not among {', '.join(POLICIES)}: {said or 'none'}"
        for said, many in unknown.items()
    )
    return PrefixReport(str(file), len(rows), answered, passed, tuple(failed), dict(left_out), notes)


def _folders(file: Path) -> tuple[Path, ...]:
    """Where the traces of a file are looked for."""
    data = os.environ.get("ISOCOST_DATA")
    return (file.parent, *([Path(data) / "traces"] if data else []))


def _rule(row: Mapping[str, str], prompts: Blocks | None) -> str | None:
    """The name of the rule that leaves a row out, if one does."""
    if "mixed" in row["window"]:
        return MIXED
    if prompts is None:
        return UNKNOWN_TRACE
    if any(not row[name].strip() for name in _needed(row)):
        return NOT_STATED
    return TOO_LONG if _count(row["warmup_requests"]) >= prompts.offsets.size else None


def read_blocks(folder: Path, trace: str) -> Blocks | None:
    """The prompts of a named trace as chained blocks, or ``None`` where the folder does not hold it."""
    import duckdb

    mooncake, ragpulse = folder / f"mooncake_{trace}.jsonl", folder / f"{trace}.parquet"
    with duckdb.connect() as db:
        if mooncake.is_file():
            query = "SELECT input_length, hash_ids FROM read_json(?, format='newline_delimited')"
            prompt, ids = db.execute(query, [str(mooncake)]).fetchnumpy().values()
            return _blocks(np.asarray(prompt), list(ids), 512)
        if trace != "ragpulse" or not ragpulse.is_file():
            return _other(folder, trace)
        joined = " || ".join(f"coalesce({name}, [])" for name in TYPED)
        query = f"SELECT ts_s, in_tok, {joined} AS ids FROM read_parquet(?)"
        at, prompt, ids = db.execute(query, [str(ragpulse)]).fetchnumpy().values()
        order = np.argsort(at, kind="stable")
        return _blocks(np.asarray(prompt)[order], [ids[i] for i in order], None)


def _other(folder: Path, trace: str) -> Blocks | None:
    """The prompts of any other log of that name with hashes of blocks, in order of arrival."""
    names = (f"{stem}{ending}" for stem in (trace, f"mooncake_{trace}") for ending in ENDINGS)
    file = next((folder / name for name in names if trace and (folder / name).is_file()), None)
    if file is None:
        return None
    from isocost.trace import open_trace

    log = open_trace(file)
    table = log.table()
    return blocks_of(table, np.arange(len(table)), table.input_tok, log.block_tok)


def _blocks(prompt: NDArray[np.int64], ids: list[NDArray[np.int64]], block_tok: int | None) -> Blocks:
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in ids])])
    return blocks(offsets, np.concatenate(ids), prompt, block_tok)


def _rows(file: Path) -> list[dict[str, str]]:
    """The file's rows, with their columns and integers checked."""
    rows = rows_of(file, COLUMNS)
    for row, where in rows:
        for name in _needed(row):
            if row[name].strip() and _count(row[name]) < 0:
                raise BadInput(f"{name} is {row[name]!r}, not a count", where=where)
    return [row for row, _ in rows]


def _needed(row: Mapping[str, str]) -> tuple[str, ...]:
    """The counts that a row has to state."""
    is_endless = row["policy"].strip().lower() in ENDLESS
    return tuple(name for name in COUNTS if not (is_endless and name == "capacity_blocks"))


def _count(cell: str) -> int:
    """A whole number, also where a table wrote it as ``6.0``; -1 where it is none.

    >>> [_count(cell) for cell in ("6", " 6.0", "6.5", "many", "-2")]
    [6, 6, -1, -1, -1]
    """
    whole = re.fullmatch(r"(\d+)(?:\.0*)?", cell.strip())
    return int(whole[1]) if whole else -1
