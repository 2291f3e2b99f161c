"""Our block caches against an oracle's hit tokens.

A file has the columns of ``COLUMNS``: one policy at one capacity on one trace a row, hit tokens
counted after ``warmup_requests``. The traces lie beside it: ``mooncake_conversation.jsonl`` (blocks of
512 tokens, the last one shorter) and ``ragpulse.parquet`` (requests in order of time; blocks are its
typed ids in the order of its columns, and the prompt is spread evenly over them). A row passes where
our hit tokens are the same to the token.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from isocost.errors import BadInput
from isocost.replay.prefix import Blocks, belady, blocks, fifo, lru
from isocost.validate.table import rows_of

COLUMNS = ("trace", "window", "policy", "capacity_blocks", "hit_tokens", "total_tokens", "warmup_requests")
POLICIES: Mapping[str, Callable[[Blocks, int], NDArray[np.int64]]] = {
    "lru": lru,
    "fifo": fifo,
    "belady": belady,
    "optimal": belady,
}
TYPED = ("sys_prompt", "passages_ids", "history", "web_search", "user_input")
MIXED = "mixes two meanings of a block"
UNKNOWN_TRACE = "its trace is not beside the file"


class PrefixReport(msgspec.Struct, frozen=True):
    """How the caches did: rows of the file, compared, equal, ids of the others, rows left out by rule."""

    path: str
    rows: int
    answered: int
    passed: int
    failed: tuple[str, ...]
    left_out: dict[str, int]


def validate_prefix(path: Path | str) -> PrefixReport:
    """Replay every row's policy and compare hit tokens.

    Left out, counted: rows whose ``window`` says that their published figures mix flat blocks with
    chained ones, and rows of a trace that is not beside the file. A policy that we do not have fails.

    Raises:
        BadInput: the file is absent, lacks a column, or holds a value that cannot be read.
    """
    file = Path(path)
    rows = _rows(file)
    left_out: Counter[str] = Counter()
    failed: list[str] = []
    traces: dict[str, Blocks | None] = {}
    passed = 0
    for row in rows:
        name = row["trace"]
        if name not in traces:
            traces[name] = read_blocks(file.parent, name)
        prompts = traces[name]
        if "mixed" in row["window"] or prompts is None:
            left_out[MIXED if "mixed" in row["window"] else UNKNOWN_TRACE] += 1
            continue
        policy = POLICIES.get(row["policy"])
        warm = int(row["warmup_requests"])
        hits = None if policy is None else policy(prompts, int(row["capacity_blocks"]))[warm:].sum()
        total = prompts.tok[prompts.offsets[warm] :].sum()
        if (hits, total) == (int(row["hit_tokens"]), int(row["total_tokens"])):
            passed += 1
        else:
            failed.append(f"{name}/{row['policy']}/{row['capacity_blocks']}")
    answered = len(rows) - left_out.total()
    return PrefixReport(str(file), len(rows), answered, passed, tuple(failed), dict(left_out))


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
            return None
        joined = " || ".join(f"coalesce({name}, [])" for name in TYPED)
        query = f"SELECT ts_s, in_tok, {joined} AS ids FROM read_parquet(?)"
        at, prompt, ids = db.execute(query, [str(ragpulse)]).fetchnumpy().values()
        order = np.argsort(at, kind="stable")
        return _blocks(np.asarray(prompt)[order], [ids[i] for i in order], None)


def _blocks(prompt: NDArray[np.int64], ids: list[NDArray[np.int64]], block_tok: int | None) -> Blocks:
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in ids])])
    return blocks(offsets, np.concatenate(ids), prompt, block_tok)


def _rows(file: Path) -> list[dict[str, str]]:
    """The file's rows, with their columns and integers checked."""
    rows = rows_of(file, COLUMNS)
    for row, where in rows:
        for name in COLUMNS[3:]:
            if not row[name].strip().isdecimal():
                raise BadInput(f"{name} is {row[name]!r}, not a count", where=where)
    return [row for row, _ in rows]
