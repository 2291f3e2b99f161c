"""Questions that are nearly the same: what answering them from a cache might save, before any certificate.

No verifier is fitted: a question counts where one asked before in its scope is as alike as facts say, which
on a public set gave about one wrong answer in a hundred requests. What is true of this log only grades can
say, so the figure is marked unproven; equal prompts are left to an exact cache.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import numpy as np

from isocost.catalog import Catalog
from isocost.plan.written.near import words_of
from isocost.policy.semantic import Weights, rarity_of, taken_apart
from isocost.policy.semantic_cache import SemanticCache
from isocost.prompts.price import Prices, per_month
from isocost.prompts.result import Band
from isocost.prompts.sent import read
from isocost.prompts.worth import Worth
from isocost.trace.schema import Trace
from isocost.units import NS_PER_S, SECONDS_PER_H

KIND = "semantic-cache"
MOST = 5000
"""Requests that are looked up, the last ones: each look takes about a millisecond."""
GIGA = 1e9


def nearly(trace: Trace, catalog: Catalog, on: date, *, now: str = "") -> Worth | None:
    """What a semantic cache might save on a log with words; ``None``: it has none, or nothing is alike.

    ``trace`` is one that ``open_trace(..., prompts=True)`` read.
    """
    if trace.texts is None:
        return None
    sent = read(replace(trace, texts=None), catalog, on, now)
    at, prices = catalog.at(on), Prices(sent)
    whole = trace.requests()
    mask = np.zeros(len(whole), np.bool_)
    first = max(0, len(sent.row) - MOST)
    mask[sent.row[first:]] = True
    words = words_of(trace, whole, mask) or {}
    if not words:
        return None
    # Taken apart twice: the parts of all questions together would be a hundred times their words.
    past = (taken_apart(one.question) for one in words.values() if one.question)
    room = int(at.number(f"{KIND}/any", "most_entries"))
    plain = Weights(*rarity_of(past), (), (), (), (), 0.0)
    cache = SemanticCache(plain, at.number("planning/exact-cache", "ttl_s"), room)
    bar = at.fact(f"{KIND}/any", "alike_frac")
    bars = [float(x) for x in (bar.value, bar.low or bar.value, bar.high or bar.value)]
    # Kept as if it answered at the middle bar; the ends say how many more or fewer are as alike.
    hits = np.zeros((3, len(sent.row)))
    seen: set[tuple[bytes, int]] = set()
    for place in range(first, len(sent.row)):
        i = int(sent.row[place])
        told = words.get(i)
        if told is None or not told.question or (told.scope, told.exact) in seen:
            continue
        seen.add((told.scope, told.exact))
        question = taken_apart(told.question)
        now_s = int(whole.arrival_ns[i]) / NS_PER_S
        near = cache.near(told.scope, question, now_s)
        alike = max((one.features[0] for one in near if not one.against), default=0.0)
        hits[:, place] = [alike >= one for one in bars]
        if alike < bars[0]:
            cache.keep(told.scope, question, "", now_s)
    rows = np.arange(len(sent.row))
    usd = np.nan_to_num(prices.logged(rows))
    scale = len(rows) / max(1, len(rows) - first)
    look = at.number(f"{KIND}/words", "look_s") * at.number(f"{KIND}/any", "usd_per_core_h") / SECONDS_PER_H
    each = at.number(f"{KIND}/words", "bytes_per_entry") + at.number(f"{KIND}/any", "answer_bytes")
    held = min(room, round(scale * len(cache)))
    store = each * held / GIGA * at.number(f"{KIND}/any", "usd_per_gb_month") / max(sent.months, 1e-12)
    paid = look + store / len(rows)
    saved, more, fewer = (scale * hit * usd - paid for hit in hits)
    band = Band(*per_month(sent, rows, saved, (float(fewer.sum()), float(more.sum()))))
    if not hits[0].any():
        return None
    share = scale * float(hits[0].sum()) / len(rows)
    label = f"a semantic cache ({share:.0%} nearly asked before)"
    note = "unproven: certify it first (isocost measure LOG --cache)"
    return Worth("L6", "semantic-cache", label, band, note)
