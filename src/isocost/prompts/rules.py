"""Rules or a classifier first: how much of the traffic repeats or is answered by a word, and its worth."""

from __future__ import annotations

import numpy as np

from isocost.prompts.breaks import Mended, chained, first_rows
from isocost.prompts.pieces import I64
from isocost.prompts.price import Prices
from isocost.prompts.result import Simple
from isocost.prompts.sent import Sent, taken
from isocost.prompts.wait import by_workload
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
        repeat, alike = _again(sent, rows)
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
        ))  # fmt: skip
    return found


def _again(sent: Sent, rows: I64) -> tuple[float | None, float | None]:
    """Shares of requests whose whole prompt, and nearly all of its text, was sent before; else ``None``."""
    n = len(rows)
    if sent.pieces is not None and sent.tok is not None:
        found, tok = taken(sent.pieces, sent.tok, rows)
        held = chained(Mended(found, tok, np.arange(len(tok))))
        size = np.diff(found.offsets)
        some = np.flatnonzero(size > 0)
        last = found.offsets[1:][some] - 1
        whole = first_rows(held.keys[last] * 1_000_003 + size[some], some) < some
        seen = first_rows(found.ids, held.row) < held.row
        old, all_ = np.bincount(held.row, tok * seen, n), np.bincount(held.row, tok, n)
        alike = (old >= ALIKE * all_) & (all_ > 0)
        return float(whole.sum()) / n, float(alike.sum()) / n
    key = sent.table.prompt_key
    if key is None:
        return None, None
    mine = np.flatnonzero(key[rows] >= 0)
    again = first_rows(key[rows][mine], mine) < mine
    return float(again.sum()) / n, None
