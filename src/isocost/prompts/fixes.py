"""What breaks prefixes on this log, said in words, and what mending each break saves at today's prices."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from isocost.catalog.names import Offering
from isocost.deployment import least_cached_tok
from isocost.prompts.breaks import Break, Edges, Mended, anchors, breaks, chained, losses
from isocost.prompts.naming import Span, common_bytes, span
from isocost.prompts.pieces import I64
from isocost.prompts.price import Floats, Prices, per_month
from isocost.prompts.result import Band, Found
from isocost.prompts.sent import Sent, prefixes, taken
from isocost.prompts.ways import CacheWay, cache_ways
from isocost.prompts.words import Words, words
from isocost.replay.prefix import Blocks
from isocost.replay.reuse import kept

SAMPLED = 120
"""Prompts of a stream whose words are looked at."""
LEAST_SEEN = 4
LEAST_USD = 0.005


class Step(NamedTuple):
    """A break with the prompts before and after it is mended, as the ``number``-th of its stream."""

    number: int
    broken: Break
    before: Mended
    after: Mended


class _Played(NamedTuple):
    """A way of caching before and after a break is mended: dollars of each request, and the share read.

    ``ends`` are what mending saves with the cache's facts at their low and high ends.
    """

    way: CacheWay
    before: tuple[Floats, float]
    after: tuple[Floats, float]
    ends: tuple[float, float]


class Told(NamedTuple):
    """What breaks prefixes, the dearest first, and what mending all of it saves; ``None``: nothing found.

    ``lost_frac`` of all input was sent before behind another beginning, in no pattern that one change mends;
    ``None`` where that cannot be seen.
    """

    found: list[Found]
    saves: Band | None
    lost_frac: float | None


def fixes(sent: Sent, prices: Prices) -> Told:
    """The breaks of every workload at each of today's models."""
    if sent.pieces is None or sent.tok is None:
        return Told([], None, None)
    ways = cache_ways(sent.catalog.at(sent.on))
    lost, streams = 0, sent.streams()
    seen = _sampled(sent, streams)
    told, saved, known = [], np.zeros(len(sent.table)), False
    for workload, code, rows in streams:
        mine = seen.get((workload, code), {})
        found, states = breaks(*taken(sent.pieces, sent.tok, rows), _Looker(mine).look if mine else None)
        lost += int(losses(chained(states[-1])).lost_tok.sum())
        offering = sent.offerings[code] if code >= 0 else None
        for i, broken in enumerate(found):
            step = Step(i + 1, broken, states[i], states[i + 1])
            places = [
                (mine[row], states[i].parting(broken, row)) for row in broken.rows.tolist() if row in mine
            ]
            one, usd = _told(sent, prices, ways, (workload, offering, rows, step), span(places))
            told.append(one)
            if usd is not None:
                saved[rows] += usd
                known = True
    worth: dict[tuple[str, str], float] = {}
    for one in told:
        worth[one.workload, one.model] = worth.get((one.workload, one.model), 0.0) + one.saves.usd
    told.sort(key=lambda one: (-worth[one.workload, one.model], one.workload, one.model, one.number))
    every = np.arange(len(sent.table))
    share = lost / max(1, int(sent.table.input_tok.sum(dtype=np.int64)))
    return Told(told, Band(*per_month(sent, every, saved)) if known else None, share)


class _Looker(NamedTuple):
    """The words of some prompts of a stream, by their place in it."""

    seen: dict[int, Words]

    def look(self, state: Mended, one: Break) -> Edges:
        """Where what varies at a break begins and ends, to the byte."""
        at = anchors(state, one)
        offsets = state.pieces.offsets
        spans = []
        for row, words_ in self.seen.items():
            if at[row] > offsets[row] + one.depth:
                begins, ends = state.parting(one, row), state.byte(row, int(at[row]))
                if begins < ends:
                    spans.append(words_.data[begins:ends])
        if len(spans) < LEAST_SEEN:
            return Edges(0, 0)
        shortest = min(map(len, spans)) - 1
        head = min(common_bytes(spans), shortest)
        return Edges(head, min(common_bytes([one[::-1] for one in spans]), shortest - head))


def _sampled(sent: Sent, streams: Sequence[tuple[str, int, I64]]) -> dict[tuple[str, int], dict[int, Words]]:
    """The words of some requests of each stream, by their place in it; the log is read once."""
    if sent.trace.texts is None:
        return {}
    wanted: dict[int, tuple[tuple[str, int], int]] = {}
    for workload, code, rows in streams:
        places = np.linspace(0, len(rows) - 1, min(SAMPLED, len(rows))).astype(np.int64)
        for place in places.tolist():
            wanted[int(sent.row[rows[place]])] = (workload, code), place
    found: dict[tuple[str, int], dict[int, Words]] = {}
    for at, text in _numbered(sent.trace.texts()):
        if at in wanted:
            stream, place = wanted[at]
            found.setdefault(stream, {})[place] = words(text)
    return found


def _numbered(lots: Iterator[list[str]]) -> Iterator[tuple[int, str]]:
    at = 0
    for lot in lots:
        for text in lot:
            yield at, text
            at += 1


def _told(
    sent: Sent,
    prices: Prices,
    ways: Sequence[CacheWay],
    of: tuple[str, Offering | None, I64, Step],
    seen: Span | None,
) -> tuple[Found, Floats | None]:
    workload, offering, rows, step = of
    broken = step.broken
    whole = sent.table.input_tok[rows].astype(np.int64)
    output = sent.table.output_tok[rows].astype(np.int64)
    arrival = sent.table.arrival_ns[rows]
    total = max(1, int(whole.sum()))
    before, after = (prefixes(state.pieces, state.tok) for state in (step.before, step.after))
    rates = prices.rates().of(rows)
    plain = rates.bill(whole, output)
    played: list[_Played] = []
    for way in ways:
        if offering is None or way.stored or not way.serves(offering) or not np.isfinite(plain).all():
            continue
        least = least_cached_tok(sent.catalog.at(sent.on), offering)

        def cost(
            prompts: Blocks, which: int, way: CacheWay = way, least: int = least
        ) -> tuple[Floats, float]:
            life = (way.life, way.short, way.long)[which]._replace(least_tok=least)
            now = kept(prompts, arrival, whole, life)
            with_it = rates.bill(whole, output, now, way.write_meter)
            # Who sees that a cache does not pay marks nothing.
            return with_it if with_it.sum() <= plain.sum() else plain, float(now.read_tok.sum()) / total

        ends = tuple(float((cost(before, i)[0] - cost(after, i)[0]).sum()) for i in (1, 2))
        played.append(_Played(way, cost(before, 0), cost(after, 0), (ends[0], ends[1])))
    kind, part, way_said, mend = _said(broken, seen)
    saved: Floats | None = None
    saves, read, cache = Band(0.0, 0.0, 0.0), (0.0, 0.0), ""
    why = "today's model, or a cache of its provider, is not known"
    if played:
        was = min(played, key=lambda one: float(one.before[0].sum()))
        then = min(played, key=lambda one: float(one.after[0].sum()))
        saved = was.before[0] - then.after[0]
        saves = Band(*per_month(sent, rows, saved, then.ends))
        read, cache = (was.before[1], then.after[1]), then.way.title
        short = "prefixes stay too short, or are read again too late, for this provider's cache"
        why = short if saves.usd <= LEAST_USD else ""
    placed = seen is not None and broken.way == "move"
    found = Found(
        workload=workload,
        model="" if offering is None else offering.id,
        number=step.number,
        kind=kind,
        part=part,
        first_char=seen.first_char if seen is not None and placed else 0,
        last_char=seen.last_char if seen is not None and placed else 0,
        after_tok=_depth_tok(step.before, broken),
        before=seen.before if seen is not None and placed else "",
        after=seen.after if seen is not None and placed else "",
        requests=len(broken.rows),
        way=way_said,
        mend=mend,
        read_before_frac=read[0],
        read_after_frac=read[1],
        saves=saves,
        cache=cache,
        why_nothing=why,
    )
    return found, saved


def _depth_tok(state: Mended, broken: Break) -> int:
    """Tokens of the prefix behind which prompts part."""
    if not len(broken.rows) or not broken.depth:
        return 0
    first = int(state.pieces.offsets[broken.rows[0]])
    return int(state.tok[first : first + broken.depth].sum())


def _said(broken: Break, seen: Span | None) -> tuple[str, str, str, str]:
    """Kind, part, way and what to do."""
    part = "" if seen is None else seen.part
    if broken.way == "order":
        what = "tools" if part.startswith("tool") else "passages"
        if part.startswith("tool"):
            part = "tools"
        mend = f"put the {what} in one order, the commonest first"
        return f"order of {what}", part, "order", f"{mend}, where answers stay as good"
    if seen is None:
        return "a part that varies", "", "move", "put it behind the parts that do not vary"
    if seen.kind == "text":
        return "text", part, "move", "put it behind the text that does not vary"
    hint = {
        "timestamp": "put it behind the instructions, or say only the day",
        "identifier": "leave it out, or put it behind the instructions",
    }.get(seen.kind, "put it behind the instructions")
    return seen.kind, part, "move", hint
