"""Rules or a classifier first: how much of the traffic repeats or is answered by a word, and its worth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from isocost.prompts.breaks import Mended, chained, first_rows
from isocost.prompts.pieces import I64
from isocost.prompts.price import Prices, per_month
from isocost.prompts.result import Band, Simple
from isocost.prompts.sent import Sent, taken
from isocost.prompts.wait import by_workload
from isocost.replay.reuse import exact_hits
from isocost.units import WEEKS_PER_YEAR

LADDER = (0.25, 0.5, 0.75, 1.0)
ALIKE = 0.9
"""Share of a prompt's text that others sent before from which it is a template with a few words in it."""
MONTHS_PER_YEAR = 12


def simple(sent: Sent, prices: Prices) -> list[Simple]:
    """What rules or a classifier could take over, workload by workload."""
    at = sent.catalog.at(sent.on)
    short_tok = at.number("classifier/any", "short_answer_tok")
    each_usd = at.number("classifier/any", "usd_per_request")
    pay = at.number("staff/ml-engineer", "usd_per_year") * at.number("staff/any", "loading_ratio")
    upkeep = at.number("classifier/any", "fte") * pay / MONTHS_PER_YEAR
    once = at.number("classifier/any", "labels") * at.number("ops/evaluation", "usd_per_sample")
    once += at.number("classifier/any", "weeks") * pay / WEEKS_PER_YEAR
    found = []
    for workload, rows in by_workload(sent):
        usd = np.nan_to_num(prices.logged(rows))
        short = sent.table.output_tok[rows] <= short_tok
        worth, many = float(usd[short].sum()) * sent.months, float(short.sum()) * sent.months
        keys, alike = _again(sent, rows)
        mine = np.full(0, -1) if keys is None else keys[keys >= 0]
        repeat = None if keys is None else 1.0 - (len(np.unique(mine)) + len(keys) - len(mine)) / len(keys)
        found.append(Simple(
            workload=workload,
            requests=len(rows),
            repeat_frac=repeat,
            alike_frac=alike,
            short_frac=float(short.mean()),
            short_usd=worth,
            # All short ones pass through it, whatever share it answers.
            ladder=[(x, x * worth - each_usd * many - upkeep) for x in LADDER] if worth else [],
            own_usd=each_usd * many + upkeep,
            once_usd=once,
            repeat_saves=None if keys is None else _kept(sent, rows, keys, usd),
        ))  # fmt: skip
    return found


def _kept(sent: Sent, rows: I64, keys: I64, usd: npt.NDArray[np.float64]) -> Band:
    """Dollars a month of requests whose whole prompt a cache of answers still holds."""
    ttl_s = sent.catalog.at(sent.on).number("planning/exact-cache", "ttl_s")
    whole = np.full(len(sent.table), -1, np.int64)
    whole[rows] = keys
    hits = exact_hits(replace(sent.table, prompt_key=whole), rows, ttl_s)
    return Band(*per_month(sent, rows, usd * (0.0 if hits is None else hits)))


def _again(sent: Sent, rows: I64) -> tuple[I64 | None, float | None]:
    """A number equal where whole prompts and models are, -1 unknown (n,); share of requests of which nearly
    all text was sent before; else ``None``."""
    n = len(rows)
    if sent.pieces is not None and sent.tok is not None:
        found, tok = taken(sent.pieces, sent.tok, rows)
        held = chained(Mended(found, tok, np.arange(len(tok))))
        size = np.diff(found.offsets)
        some = np.flatnonzero(size > 0)
        last = found.offsets[1:][some] - 1
        keys = np.full(n, -1, np.int64)
        keys[some] = np.unique(held.keys[last] * 1_000_003 + size[some], return_inverse=True)[1]
        seen = first_rows(found.ids, held.row) < held.row
        old, all_ = np.bincount(held.row, tok * seen, n), np.bincount(held.row, tok, n)
        alike = (old >= ALIKE * all_) & (all_ > 0)
        return _by_model(sent, rows, keys), float(alike.sum()) / n
    key = sent.table.prompt_key
    if key is None:
        return None, None
    keys = np.full(n, -1, np.int64)
    known = key[rows] >= 0
    keys[known] = np.unique(key[rows][known], return_inverse=True)[1]
    return _by_model(sent, rows, keys), None


def _by_model(sent: Sent, rows: I64, keys: I64) -> I64:
    """Keys that also tell models apart."""
    if sent.table.model is None:
        return keys
    model = sent.table.model[rows].astype(np.int64) + 1
    return np.where(keys < 0, -1, keys * (int(model.max(initial=0)) + 1) + model)
