"""The economics of a cache's life: what each way reads of this traffic, what it costs, which to take."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from isocost.catalog.names import Offering, resolve
from isocost.catalog.prices import rates
from isocost.deployment import least_cached_tok
from isocost.errors import UnknownModel
from isocost.prompts.pieces import I64
from isocost.prompts.price import Floats, Prices, per_month
from isocost.prompts.result import Band, CacheCost, Lives, Reread
from isocost.prompts.sent import Sent
from isocost.prompts.ways import CacheWay, cache_ways
from isocost.replay.prefix import Blocks, infinite, time_to_live
from isocost.replay.reuse import Kept, Life, kept, stored
from isocost.units import NS_PER_S, percent

SHORT_S, LONG_S = 300, 3600
"""The two lives between which what is read again is told apart: Anthropic's."""


class Cached(NamedTuple):
    """A stream with its cheapest way of caching: what that reads and writes, ``None`` where none pays."""

    told: Lives
    code: int
    rows: I64
    kept: Kept | None
    write_meter: str


def lives(sent: Sent, prices: Prices) -> list[Cached]:
    """Each way of caching on each workload at each of today's models, the one with most tokens first.

    Prefixes are shared by all of one model's requests, whatever their workload.
    """
    at = sent.catalog.at(sent.on)
    ways = cache_ways(at)
    by_model: dict[int, tuple[I64, Blocks | None]] = {}
    found = []
    for _, offering, rows in sent.streams(by_workload=False):
        by_model[offering] = np.sort(rows), sent.blocks_of(np.sort(rows))
    used: dict[tuple[int, str, int], Kept] = {}
    held: dict[tuple[int, str], tuple[Kept, float] | None] = {}
    for workload, code, rows in sent.streams():
        all_rows, prompts = by_model[code]
        if prompts is None or code < 0:
            continue
        place = np.searchsorted(all_rows, rows)
        stream = _Stream(sent, prices, workload, code, rows, (all_rows, place, prompts), used, held)
        told = stream.told(ways)
        best = next((way for way in ways if way.id == told.best), None)
        now = None if best is None else stream.keeps(best)
        found.append(Cached(told, code, rows, now, "input" if best is None else best.write_meter))
    return found


class _Stream(NamedTuple):
    """One workload at one of today's models; ``of_model`` are the rows of all its workloads, where this one's
    stand among them, and their prompts; ``used`` and ``held`` keep what was replayed."""

    sent: Sent
    prices: Prices
    workload: str
    code: int
    rows: I64
    of_model: tuple[I64, I64, Blocks]
    used: dict[tuple[int, str, int], Kept]
    held: dict[tuple[int, str], tuple[Kept, float] | None]

    @property
    def today(self) -> Offering:
        """Who serves it today."""
        return self.sent.offerings[self.code]

    @property
    def input_tok(self) -> I64:
        """Tokens of input of each of its requests."""
        return self.sent.table.input_tok[self.rows].astype(np.int64)

    def told(self, ways: tuple[CacheWay, ...]) -> Lives:
        """All ways on this stream."""
        _, place, prompts = self.of_model
        arrival, whole = self._arrival(), self._whole()
        total = max(1, int(self.input_tok.sum()))
        plain = self._usd(None, None, "input")
        costs = [one for way in ways if (one := self._cost(way)) is not None]
        own = [one for one in costs if one.usd_per_month is not None]
        best = min(own, key=lambda one: one.usd_per_month or 0.0, default=None)
        plain_usd = float(np.nansum(plain)) * self.sent.months
        pays = best is not None and (best.usd_per_month or 0.0) < plain_usd * (1.0 - 1e-9)
        name = best.id if best is not None and pays else "none"
        reread = _reread(prompts, arrival, whole, place, total)
        breakeven, rereads = _breakeven(self.sent, self.today, costs)
        logged, billed_usd = self.sent.table.cached_tok, None
        saves = best.saves if best is not None and pays else None
        if logged is not None:
            billed_usd = float(np.nansum(self.prices.logged(self.rows))) * self.sent.months
            less = plain_usd - billed_usd
            if saves is not None:
                saves = Band(saves.usd - less, saves.low_usd - less, saves.high_usd - less)
        costs.sort(key=lambda one: (not one.own, 9.9 if one.input_frac is None else one.input_frac))
        return Lives(
            workload=self.workload,
            model=self.today.id,
            requests=len(self.rows),
            input_tok=total,
            logged_read_frac=None if logged is None else float(logged[self.rows].sum(dtype=np.int64)) / total,
            logged_usd_per_month=billed_usd,
            endless_read_frac=1.0 - reread.never,
            plain_usd_per_month=plain_usd if np.isfinite(plain).all() else None,
            reread=reread,
            ways=costs,
            best=name,
            breakeven=breakeven,
            rereads=rereads,
            saves=saves,
            says=_says(name, costs, reread, breakeven, rereads),
        )

    def keeps(self, way: CacheWay) -> Kept:
        """What one of the provider's own ways reads and writes of it."""
        if way.stored and (at_rest := self._stored_at(way, self.today)) is not None:
            read, written = at_rest[0]
            return Kept(read[self.of_model[1]], written[self.of_model[1]])
        return self._keep(way, 0, least_cached_tok(self.sent.catalog.at(self.sent.on), self.today))

    def _arrival(self) -> I64:
        return self.sent.table.arrival_ns[self.of_model[0]]

    def _whole(self) -> I64:
        return self.sent.table.input_tok[self.of_model[0]].astype(np.int64)

    def _keep(self, way: CacheWay, which: int, least: int) -> Kept:
        name = (self.code, f"{way.id}@{least}", which)
        if name not in self.used:
            life = (way.life, way.long, way.short)[which]._replace(least_tok=least)
            self.used[name] = kept(self.of_model[2], self._arrival(), self._whole(), life)
        place = self.of_model[1]
        return Kept(self.used[name].read_tok[place], self.used[name].written_tok[place])

    def _stored_at(self, way: CacheWay, offering: Offering) -> tuple[Kept, float] | None:
        key = (self.code, f"{way.id} {offering.id}")
        if key not in self.held:
            of_model = (self.of_model[2], self._arrival(), self._whole())
            self.held[key] = _stored(self.sent, way.life, offering, of_model)
        return self.held[key]

    def _usd(self, offering: Offering | None, now: Kept | None, meter: str) -> Floats:
        output = self.sent.table.output_tok[self.rows].astype(np.int64)
        return self.prices.rates(offering).of(self.rows).bill(self.input_tok, output, now, meter)

    def _cost(self, way: CacheWay) -> CacheCost | None:
        """A way on this stream; ``None`` where neither it nor what prices it is known."""
        own = way.serves(self.today)
        offering = self.today if own else _named(self.sent, way.offering)
        if offering is None:
            return None
        least = least_cached_tok(self.sent.catalog.at(self.sent.on), offering)
        other = None if own else offering
        now, hold = self._keep(way, 0, least), 0.0
        if way.stored:
            stored = self._stored_at(way, offering)
            if stored is None:
                return None
            (read, written), all_usd = stored
            now = Kept(read[self.of_model[1]], written[self.of_model[1]])
            hold = all_usd * float(now.read_tok.sum()) / max(1, int(read.sum()))
        with_it, without = self._usd(other, now, way.write_meter), self._usd(other, None, "input")
        output = self.sent.table.output_tok[self.rows].astype(np.int64)
        rates = self.prices.rates(other).of(self.rows)
        answers = float(rates.bill(np.zeros_like(self.input_tok), output).sum())
        inputs, total = float(without.sum()) - answers, float(with_it.sum()) + hold
        priced = bool(np.isfinite(total))
        saves = None
        if own and priced:
            ends = (total, total)
            if not way.stored and way.short != way.long:
                ends = tuple(  # type: ignore[assignment]
                    float(self._usd(other, self._keep(way, which, least), way.write_meter).sum())
                    for which in (1, 2)
                )
            limits = (float(without.sum()) - ends[0], float(without.sum()) - ends[1])
            each = without - with_it - hold / max(1, len(self.rows))
            saves = Band(*per_month(self.sent, self.rows, each, limits))
        whole = max(1, int(self.input_tok.sum()))
        return CacheCost(
            id=way.id,
            title=way.title,
            own=own,
            priced_as=offering.id,
            read_frac=float(now.read_tok.sum()) / whole,
            written_frac=float(now.written_tok.sum()) / whole,
            least_tok=least,
            usd_per_month=total * self.sent.months if own and priced else None,
            input_frac=(total - answers) / inputs if priced and inputs > 0 else None,
            saves=saves,
        )


def _named(sent: Sent, name: str) -> Offering | None:
    provider, _, model = name.partition("/")
    try:
        return resolve(sent.catalog.at(sent.on), model, provider)
    except UnknownModel:
        return None


def _reread(prompts: Blocks, arrival: I64, whole: I64, place: I64, total: int) -> Reread:
    """A stream's input by the time since its prefix was last sent."""
    short, long = (
        np.minimum(time_to_live(prompts, arrival, life_s * NS_PER_S), whole)[place].sum()
        for life_s in (SHORT_S, LONG_S)
    )
    ever = np.minimum(infinite(prompts), whole)[place].sum()
    a, b, c = float(short) / total, float(long) / total, float(ever) / total
    return Reread(a, b - a, c - b, 1.0 - c)


def _breakeven(sent: Sent, today: Offering, costs: list[CacheCost]) -> tuple[float | None, float | None]:
    """Reads after 5 to 60 minutes that each write needs for an hour's life to pay, and how many it has."""
    by_id = {one.id: one for one in costs if one.own}
    if not {"anthropic-5m", "anthropic-1h"} <= by_id.keys():
        return None, None
    meters = rates(sent.catalog.at(sent.on), today).meters
    if not {"cache_read", "cache_write", "cache_write_1h"} <= meters.keys():
        return None, None
    prices = (float(meters[name].usd) for name in ("cache_read", "cache_write", "cache_write_1h"))
    needed = hour_pays_from(*prices)
    written = by_id["anthropic-1h"].written_frac
    again = by_id["anthropic-1h"].read_frac - by_id["anthropic-5m"].read_frac
    return needed, again / written if written > 0 else 0.0


def hour_pays_from(read_usd: float, write_usd: float, write_1h_usd: float) -> float:
    """How often what is written for an hour must be read after more than five minutes for the hour to pay.

    Each such read saves writing it again at the short price; each write costs the difference of the two.

    >>> round(hour_pays_from(0.1, 1.25, 2.0), 3)
    0.652
    >>> hour_pays_from(0.1, 1.25, 1.25)
    0.0
    """
    return (write_1h_usd - write_usd) / (write_usd - read_usd)


def _says(
    best: str, costs: list[CacheCost], reread: Reread, breakeven: float | None, rereads: float | None
) -> str:
    """What to choose and why, in a sentence."""
    own = [one for one in costs if one.own]
    if not own:
        return "no way of caching is known for this provider"
    least, most = min(one.least_tok for one in own), max(one.read_frac for one in own)
    if most < 0.2 * (1.0 - reread.never) and reread.never < 0.8:
        return (
            f"{percent(1.0 - reread.never)} of the input begins as an earlier prompt, but hardly any in a "
            f"prefix of the {least:,} tokens that the provider keeps at least"
        )
    if best == "none":
        return "what is read again is too little, or too late, to pay for a cache"
    if breakeven is None or rereads is None:
        return ""
    verb = "pays" if rereads >= breakeven else "does not pay"
    return (
        f"an hour's life {verb}: what is written must be read again after 5 to 60 minutes {breakeven:.2f} "
        f"times, and is {rereads:.2f} times"
    )


def _stored(
    sent: Sent, life: Life, offering: Offering, of_model: tuple[Blocks, I64, I64]
) -> tuple[Kept, float] | None:
    """A stored cache that holds only blocks whose reads save more than holding them costs, and that cost.

    ``None``: a price is not known.
    """
    prompts, arrival, whole = of_model
    at = sent.catalog.at(sent.on)
    meters = rates(at, offering).meters
    price = at.find(offering.subject, "cache_storage_usd_per_mtok_h")
    if price is None or not {"input", "cache_read"} <= meters.keys():
        return None
    saves_usd = (meters["input"].fusd - meters["cache_read"].fusd) / 1e15
    read, usd = stored(prompts, arrival, life.life_s, saves_usd, float(price.value) / 1e6)
    read = np.where(read >= least_cached_tok(at, offering), np.minimum(read, whole), 0)
    return Kept(read, np.zeros(len(read), np.int64)), usd
