"""What requests cost with given reads and writes of a cache, exactly as the bill has it, and per month."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from isocost.bill import STATUS, price_columns
from isocost.catalog.names import Offering
from isocost.prompts.pieces import I64
from isocost.prompts.sent import Sent, noon_ns
from isocost.replay.reuse import Kept
from isocost.units import FEMTO_PER_USD

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.integer[Any]]

TIME_PARTS = 40
"""Equal parts of the log's span that are drawn anew for the interval of a month."""
DRAWS = 400
ASKED_TOK = 1_000_000
LOW, HIGH = 10.0, 90.0
"""Percentiles: the ends of an 80 % interval."""
PRICED = STATUS.index("priced")


class Amount(NamedTuple):
    """Dollars a month with the ends of an 80 % interval."""

    usd: float
    low_usd: float
    high_usd: float


class Rates(NamedTuple):
    """Dollars of one token of each request (n,) by meter, NaN where unknown; ``fixed`` of the request."""

    input: Floats
    read: Floats
    cache_write: Floats
    cache_write_1h: Floats
    output: Floats
    fixed: Floats

    def of(self, rows: I64) -> Rates:
        """The rates of some requests."""
        return Rates(*(one[rows] for one in self))

    def bill(
        self, input_tok: Ints, output_tok: Ints, kept: Kept | None = None, write_meter: str = "input"
    ) -> Floats:
        """Dollars of each request (n,) with what a cache reads and writes; NaN where a price is unknown."""
        if kept is None:
            return np.asarray(self.fixed + self.input * input_tok + self.output * output_tok)
        read = np.minimum(kept.read_tok, input_tok)
        written = np.minimum(kept.written_tok, input_tok - read)
        write = self.input if write_meter == "input" else getattr(self, write_meter)
        # A token that is neither read nor written needs no price of a cache.
        cached = np.where(read > 0, self.read * read, 0.0) + np.where(written > 0, write * written, 0.0)
        plain = self.input * (input_tok - read - written)
        return np.asarray(self.fixed + plain + cached + self.output * output_tok)


class Prices:
    """Today's prices of a log's requests, and what they would be at another offering or tier."""

    def __init__(self, sent: Sent) -> None:
        self._sent = sent
        self._known: dict[tuple[str, str], Rates] = {}

    def rates(self, offering: Offering | None = None, tier: str = "") -> Rates:
        """Prices by the token of every request of the log: those of its model, or of another ``offering``."""
        key = ("" if offering is None else offering.id, tier)
        if key not in self._known:
            self._known[key] = self._asked(offering, tier)
        return self._known[key]

    def logged(self, rows: I64, tier: str = "") -> Floats:
        """Dollars of requests (n,) with what the log says was read from a cache and written to it."""
        table, rates = self._sent.table, self.rates(None, tier).of(rows)
        none = np.zeros(len(rows), np.int64)
        read = none if table.cached_tok is None else table.cached_tok[rows].astype(np.int64)
        written = none if table.cache_write_tok is None else table.cache_write_tok[rows].astype(np.int64)
        whole, output = table.input_tok[rows].astype(np.int64), table.output_tok[rows].astype(np.int64)
        billed = rates.bill(whole, output, Kept(read, written), "cache_write")
        return np.where(
            np.isfinite(rates.cache_write), billed, rates.bill(whole, output, Kept(read, written), "input")
        )

    def _asked(self, offering: Offering | None, tier: str) -> Rates:
        """Ask the bill for so many tokens of each meter at each request's length, as bands go by that."""
        table = self._sent.table
        n = len(table)
        serves = self._sent.serves if offering is None else np.zeros(n, np.int32)
        tiers: tuple[str, ...] = (tier or "standard",)
        tier_of = np.zeros(n, np.int64)
        if not tier and table.tier is not None and offering is None:
            tiers = (*self._sent.trace.names["tier"], "standard")
            tier_of = np.where(table.tier < 0, len(tiers) - 1, table.tier).astype(np.int64)
        asked: Sequence[Offering | None] = self._sent.offerings if offering is None else (offering,)
        # Requests of one offering, tier and length cost the same by the token.
        length = table.input_tok.astype(np.int64)
        kinds, back = np.unique(
            (length * (len(tiers) + 1) + tier_of) * (len(asked) + 2) + serves + 1, return_inverse=True
        )
        code = kinds % (len(asked) + 2) - 1
        rest = kinds // (len(asked) + 2)
        base = {
            "offering": code.astype(np.int32),
            "arrival_ns": np.full(len(kinds), noon_ns(self._sent.on), np.int64),
            "context_tok": rest // (len(tiers) + 1),
            "tier": (rest % (len(tiers) + 1)).astype(np.int32),
        }

        def usd(**counts: int) -> Floats:
            held: dict[str, npt.NDArray[Any]] = {"input_tok": np.zeros(len(kinds), np.int64)}
            held |= {"output_tok": np.zeros(len(kinds), np.int64)}
            held |= {name: np.full(len(kinds), count, np.int64) for name, count in counts.items()}
            found = price_columns(self._sent.catalog, asked, {**base, **held}, tiers=tiers)
            return np.where(found.status == PRICED, found.amount_fusd / FEMTO_PER_USD, np.nan)

        fixed = usd()
        each = [
            usd(input_tok=ASKED_TOK),
            usd(input_tok=ASKED_TOK, cached_tok=ASKED_TOK),
            usd(input_tok=ASKED_TOK, cache_write_tok=ASKED_TOK),
            usd(input_tok=ASKED_TOK, cache_write_1h_tok=ASKED_TOK),
            usd(output_tok=ASKED_TOK),
        ]
        plain, read, written, kept, output = (((one - fixed) / ASKED_TOK)[back] for one in each)
        return Rates(plain, read, written, kept, output, fixed[back])


def per_month(sent: Sent, rows: I64, usd: Floats, ends: tuple[float, float] | None = None) -> Amount:
    """Dollars of requests (n,) as dollars a month.

    The interval is of another month like this log: equal parts of its span, drawn with replacement. ``ends``
    are sums of ``usd`` under other facts (as the life of a cache at its low and high end): both spreads are
    put together as independent ones.
    """
    total = float(usd.sum())
    low, high = total, total
    parts = _parts(sent, rows, usd)
    if len(parts) > 1:
        drawn = np.random.default_rng(0).integers(0, len(parts), (DRAWS, len(parts)))
        low, high = (float(one) for one in np.percentile(parts[drawn].sum(axis=1), [LOW, HIGH]))
    down, up = max(0.0, total - low), max(0.0, high - total)
    if ends is not None:
        down = float(np.hypot(down, max(0.0, total - min(ends))))
        up = float(np.hypot(up, max(0.0, max(ends) - total)))
    return Amount(total * sent.months, (total - down) * sent.months, (total + up) * sent.months)


def _parts(sent: Sent, rows: I64, usd: Floats) -> Floats:
    """Dollars by equal parts of the log's span: (TIME_PARTS,), fewer where there are few requests."""
    arrival = sent.table.arrival_ns
    first, span = int(arrival[0]), int(arrival[-1] - arrival[0])
    n = min(TIME_PARTS, len(rows))
    if span == 0 or n < 2:
        return np.array([float(usd.sum())])
    part = np.minimum(n - 1, (arrival[rows] - first) * n // (span + 1))
    return np.bincount(part, usd, n).astype(np.float64)
