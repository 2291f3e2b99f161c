"""Limits on lengths: what each cap on input or output would cut and save here, and where the knee is.

What an answer loses by it no log tells: the caps say what there is to gain, and so what is worth grading.
"""

from __future__ import annotations

import numpy as np

from isocost.prompts.price import Floats, Prices, per_month
from isocost.prompts.result import Band, Cap, Trim
from isocost.prompts.sent import Sent
from isocost.replay.reuse import Kept

CUT = (0.3, 0.2, 0.15, 0.1, 0.07, 0.05, 0.03, 0.02, 0.01, 0.005)
"""Shares of requests that the caps which are tried would cut."""


def trims(sent: Sent, prices: Prices) -> list[Trim]:
    """Curves of every workload at each of today's models: first of input, then of output."""
    found = []
    for workload, code, rows in sent.streams():
        if code < 0 or len(rows) < 50:
            continue
        rates = prices.rates().of(rows)
        whole = sent.table.input_tok[rows].astype(np.int64)
        output = sent.table.output_tok[rows].astype(np.int64)
        cached = sent.table.cached_tok
        read = np.zeros_like(whole) if cached is None else cached[rows].astype(np.int64)
        none = np.zeros_like(whole)
        today = rates.bill(whole, output, Kept(read, none))
        if not np.isfinite(today).all():
            continue
        for side, length in (("input", whole), ("output", output)):
            caps: list[Cap] = []
            usd: list[Floats] = []
            for share in CUT:
                cap = int(np.quantile(length, 1.0 - share, method="higher"))
                if cap < 1 or (caps and cap == caps[-1].cap_tok):
                    continue
                ins = np.minimum(whole, cap) if side == "input" else whole
                outs = np.minimum(output, cap) if side == "output" else output
                # A prompt is cut at its new text: what was read from a cache stands first and stays.
                then = rates.bill(ins, outs, Kept(np.minimum(read, ins), none))
                saved = today - then
                usd.append(saved)
                total = float(today.sum())
                caps.append(Cap(
                    cap, float((length > cap).mean()), float(then.sum()) / total if total else 1.0,
                    float(saved.sum()) * sent.months,
                ))  # fmt: skip
            if caps:
                at = knee([one.cut_frac for one in caps], [1.0 - one.cost_frac for one in caps])
                band = Band(*per_month(sent, rows, usd[at]))
                found.append(Trim(workload, sent.offerings[code].id, side, caps, at, band))
    return found


def knee(cut_frac: list[float], saved_frac: list[float]) -> int:
    """Where a further share of requests cut begins to save less than its part of the most that is saved.

    The point farthest above the line from nothing to the strictest cap, in shares of each.

    >>> knee([0.5, 0.1, 0.01], [0.6, 0.5, 0.05])
    1
    """
    x, y = np.array([*cut_frac, 0.0]), np.array([*saved_frac, 0.0])
    if x.max() <= 0.0 or y.max() <= 0.0:
        return len(cut_frac) - 1
    return int(np.argmax((y / y.max() - x / x.max())[:-1]))
