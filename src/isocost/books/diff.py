"""Why a total changed: price, volume, mix, policy and coverage, each with its largest causes.

A cell's cost is a product: requests of its stream (tenant and workload) × share of them that its model
answers × units of the meter a request × share of those that has a price × price of a unit. The change of a
product is split by the Shapley value, which no order of the factors decides, in exact fractions: the parts
sum to the difference to the last femto-dollar.

============  ==============================================================================
price         the same usage at another price
volume        more or fewer requests of a tenant and workload
mix           other models, other tokens a request
policy        other routes, deployments and replicas, where two plans' ledgers say so
coverage      usage whose price is known on one side only: no change of what it costs
============  ==============================================================================

A plan's ledger counts tokens, not requests: there a stream's volume is its tokens, shares of them are
routes (policy), and charges without tokens (replicas, standing costs) are policy altogether. A log beside
a plan's ledger is counted as one: its tokens, scaled to the mean month that a plan is for. A model that was
only renamed is the same model: price and tokens may change with it, mix does not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction
from math import factorial
from typing import Literal, NamedTuple, TypeVar

import msgspec

from isocost.books.rounding import largest_remainder
from isocost.books.statement import Statement
from isocost.catalog import Catalog
from isocost.catalog.fact import parse_when
from isocost.catalog.prices import PRICES
from isocost.errors import BadInput
from isocost.ledger import Charge, Ledger
from isocost.risk import JOIN
from isocost.units import FEMTO_PER_USD, usd_of

Effect = Literal["price", "volume", "mix", "policy", "coverage"]
EFFECTS: tuple[Effect, ...] = ("price", "volume", "mix", "policy", "coverage")
MOST_CAUSES = 3
"""Causes shown for each effect."""

_FACTORS = ("volume", "share", "units", "coverage", "price")
_ONE = Fraction(1)
_K = TypeVar("_K")


class Cause(msgspec.Struct, frozen=True):
    """One contribution to an effect: what changed, in words, and by how much."""

    said: str
    usd: Decimal


class Part(msgspec.Struct, frozen=True):
    """One effect: ``usd`` of the change, exact to a femto-dollar, and its causes, the largest first."""

    effect: Effect
    usd: Decimal
    because: tuple[Cause, ...]
    others: int = 0
    """Further causes, which are not listed."""


class Diff(msgspec.Struct, frozen=True):
    """The change from ``before`` to ``after``; its parts sum to it exactly.

    ``at_least`` says which totals are lower bounds, because some usage in them has no price.
    """

    before: str
    after: str
    before_usd: Decimal
    after_usd: Decimal
    parts: tuple[Part, ...]
    at_least: tuple[bool, bool] = (False, False)
    notes: tuple[str, ...] = ()
    """What was done to compare them: models renamed, a log scaled to a month."""

    @property
    def change_usd(self) -> Decimal:
        """After less before."""
        return self.after_usd - self.before_usd

    @property
    def change_frac(self) -> float | None:
        """The change as a share of before; ``None`` where before is nothing."""
        return float(self.change_usd / self.before_usd) if self.before_usd else None


class _Stream(NamedTuple):
    tenant: str
    workload: str
    kind: Literal["requests", "tok", "standing"]


class _Cell(NamedTuple):
    stream: _Stream
    target: str
    meter: str
    slot: str


@dataclass
class _Amounts:
    quantity: Fraction = Fraction(0)
    priced: Fraction = Fraction(0)
    fusd: Fraction = Fraction(0)


@dataclass
class _Prices:
    """What a meter cost at a target: femto-dollars for one unit, and the facts behind them."""

    rates: set[Fraction] = field(default_factory=set)
    facts: set[str] = field(default_factory=set)


@dataclass
class _Side:
    """One side as the factors of its cells."""

    title: str
    at_least: bool
    calls: dict[_Stream, Fraction] = field(default_factory=dict)
    shares: dict[tuple[_Stream, str], Fraction] = field(default_factory=dict)
    cells: dict[_Cell, _Amounts] = field(default_factory=dict)
    prices: dict[tuple[str, str, str], _Prices] = field(default_factory=dict)

    def priced(self, cell: _Cell) -> _Prices:
        """The prices of a cell's target and meter, of all streams."""
        return self.prices.setdefault((cell.target, cell.meter, cell.slot), _Prices())

    @property
    def fusd(self) -> Fraction:
        return sum((cell.fusd for cell in self.cells.values()), Fraction(0))

    def factors(self, cell: _Cell) -> tuple[Fraction | None, ...]:
        """The five factors; ``None`` where this side does not say."""
        # What stands, stands once: that it is there at all is its share.
        calls = _ONE if cell.stream.kind == "standing" else self.calls.get(cell.stream, Fraction(0))
        part = self.shares.get((cell.stream, cell.target), Fraction(0))
        found = self.cells.get(cell, _Amounts())
        share = part / calls if calls else None
        units = found.quantity / part if part else None
        covered = found.priced / found.quantity if found.quantity else None
        price = found.fusd / found.priced if found.priced else None
        return calls, share, units, covered, price


Renames = Mapping[tuple[str, str], tuple[str, str]]
"""(provider, model) as it was called to what it is called now."""


def diff(
    before: Statement | Ledger,
    after: Statement | Ledger,
    titles: tuple[str, str] = ("", ""),
    renamed: Renames | None = None,
) -> Diff:
    """Split the change of the total from one statement, or plan's ledger, to another.

    ``renamed`` are models of ``before`` that ``after`` calls by another name (:func:`renames` finds them).
    """
    if isinstance(before, Statement) and isinstance(after, Statement):
        sides = (_of_statement(before, titles[0], renamed or {}), _of_statement(after, titles[1], {}))
        said = tuple(
            f"renamed: {old[0]}/{old[1]} is {new[0]}/{new[1]}" for old, new in (renamed or {}).items()
        )
        return _diff(*sides, frozenset(), said)
    notes: list[str] = []
    both = [_as_ledger(one, notes) for one in (before, after)]
    bare = any(isinstance(one, Statement) for one in (before, after))
    one, two = (_of_ledger(side, title, bare) for side, title in zip(both, titles, strict=True))
    least = [isinstance(side, Statement) and side.at_least for side in (before, after)]
    one.at_least, two.at_least = least
    return _diff(one, two, frozenset({"share"}), tuple(notes))


def renames(before: Statement, after: Statement, catalog: Catalog, said: Sequence[str] = ()) -> Renames:
    """Models that only changed their name: ``said`` as old=new, and those that the catalog shows to be one.

    The catalog does where a provider's offering is gone, another of the same provider is new, both serve the
    same model, and each is the only such one.

    Raises:
        BadInput: ``said`` is not old=new, or names a model that its side does not have.
    """
    had, has = (
        {(one.provider, one.model): one.offering for one in side.requests} for side in (before, after)
    )
    found: dict[tuple[str, str], tuple[str, str]] = {}
    for text in said:
        was, sign, now = text.partition("=")
        if not sign:
            raise BadInput(f"{text!r} is not old=new", where="--renamed", fix="Write gpt-x=gpt-x-2026-10")
        found[_named(was.strip(), had, before.title)] = _named(now.strip(), has, after.title)
    at = catalog.at(after.end.date())
    serves = {
        offering: str(fact.value)
        for offering in {*had.values(), *has.values()}
        if offering and (fact := at.find(offering, "serves")) is not None
    }
    gone = [
        key for key, offering in had.items() if key not in has and offering in serves and key not in found
    ]
    new = [
        key
        for key, offering in has.items()
        if key not in had and offering in serves and key not in found.values()
    ]
    for old in gone:
        same = [one for one in new if one[0] == old[0] and serves[has[one]] == serves[had[old]]]
        rivals = [one for one in gone if one[0] == old[0] and serves[had[one]] == serves[had[old]]]
        if len(same) == 1 and len(rivals) == 1:
            found[old] = same[0]
    return found


def _named(name: str, known: Iterable[tuple[str, str]], title: str) -> tuple[str, str]:
    mine = [key for key in known if name in (key[1], "/".join(key))]
    if len(mine) != 1:
        names = ", ".join(sorted("/".join(key).strip("/") for key in known)[:8])
        raise BadInput(f"{name!r} is not one model of it", where=title, fix=f"It has: {names}")
    return mine[0]


MONTH_DAYS = Fraction(1461, 48)
"""Days of a mean month."""


def _as_ledger(side: Statement | Ledger, notes: list[str]) -> Ledger:
    """A statement as a ledger of tokens for a mean month; a ledger as it is."""
    if isinstance(side, Ledger):
        return side
    seconds = max(3600, int((side.end - side.start).total_seconds()))
    times = MONTH_DAYS * 86_400 / seconds
    notes.append(
        f"{side.title}: its {seconds / 86_400:.1f} days are scaled to a mean month (x {float(times):.3g}); "
        "tenants are added up, as a plan has none"
    )
    charges = []
    for line in side.lines:
        tokens = line.meter not in PRICES or PRICES[line.meter][1] > 1
        rate = line.rate_fusd or 0
        charges.append(
            Charge(
                line.month, "", f"{line.provider}/{line.model}".strip("/"), "deployment", "api-tokens",
                line.workload, "", line.meter, float(line.quantity * times), "tok" if tokens else "unit",
                JOIN.join(line.facts), rate / FEMTO_PER_USD, round(line.amount_fusd * times),
            )
        )  # fmt: skip
    return Ledger(charges)


def shapley(before: Sequence[Fraction], after: Sequence[Fraction]) -> list[Fraction]:
    """The change of a product split among its factors, whatever their order; sums to it exactly.

    >>> [int(part) for part in shapley([Fraction(2), Fraction(10)], [Fraction(3), Fraction(20)])]
    [15, 25]
    """
    moved = [at for at, (a, b) in enumerate(zip(before, after, strict=True)) if a != b]
    still = _ONE
    for at, value in enumerate(before):
        still *= _ONE if at in moved else value
    n = len(moved)
    parts = [Fraction(0)] * len(before)
    for place, at in enumerate(moved):
        others = [other for other in moved if other != at]
        total = Fraction(0)
        for mask in range(1 << (n - 1)):
            size = mask.bit_count()
            product = Fraction(factorial(size) * factorial(n - 1 - size), factorial(n))
            for bit, other in enumerate(others):
                product *= after[other] if mask >> bit & 1 else before[other]
            total += product
        parts[moved[place]] = still * (after[at] - before[at]) * total
    return parts


def _diff(before: _Side, after: _Side, policy: frozenset[str], notes: tuple[str, ...]) -> Diff:
    sums: dict[Effect, Fraction] = dict.fromkeys(EFFECTS, Fraction(0))
    causes: dict[Effect, dict[str, Fraction]] = {effect: {} for effect in EFFECTS}
    for cell in dict.fromkeys((*before.cells, *after.cells)):
        one, two = _filled(before.factors(cell), after.factors(cell))
        for factor, part in zip(_FACTORS, shapley(one, two), strict=True):
            if not part:
                continue
            effect = _effect(factor, cell.stream, policy)
            sums[effect] += part
            said = _said(factor, cell, before, after)
            causes[effect][said] = causes[effect].get(said, Fraction(0)) + part
    change = int(after.fusd - before.fusd)
    whole = largest_remainder([sums[effect] for effect in EFFECTS], change)
    parts = []
    for effect, fusd in zip(EFFECTS, whole, strict=True):
        ranked = sorted(causes[effect].items(), key=lambda item: (-abs(item[1]), item[0]))
        shown = tuple(Cause(said, usd_of(round(part))) for said, part in ranked[:MOST_CAUSES])
        if ranked or effect != "coverage":
            parts.append(Part(effect, usd_of(fusd), shown, max(0, len(ranked) - MOST_CAUSES)))
    return Diff(
        before.title,
        after.title,
        usd_of(int(before.fusd)),
        usd_of(int(after.fusd)),
        tuple(parts),
        (before.at_least, after.at_least),
        notes,
    )


def _filled(
    one: Sequence[Fraction | None], two: Sequence[Fraction | None]
) -> tuple[list[Fraction], list[Fraction]]:
    """What one side does not say is taken from the other: a model that is new is mix, never price."""
    a: list[Fraction] = []
    b: list[Fraction] = []
    for left, right in zip(one, two, strict=True):
        known = left if left is not None else right if right is not None else Fraction(0)
        a.append(known if left is None else left)
        b.append(known if right is None else right)
    return a, b


def _effect(factor: str, stream: _Stream, policy: frozenset[str]) -> Effect:
    if factor == "price":
        return "price"
    if factor == "coverage":
        return "coverage"
    if stream.kind == "standing" or factor in policy:
        return "policy"
    return "volume" if factor == "volume" else "mix"


def _said(factor: str, cell: _Cell, before: _Side, after: _Side) -> str:
    """What a factor of a cell changed from and to; cells that share the words are added up."""
    one, two = before.factors(cell), after.factors(cell)
    stream, at = cell.stream, _FACTORS.index(factor)
    who = "/".join(part for part in (stream.tenant, stream.workload) if part) or "all"
    if factor == "volume":
        unit = "requests" if stream.kind == "requests" else "tokens"
        return f"{who}: {float(one[0] or 0):,.0f} to {float(two[0] or 0):,.0f} {unit}"
    a, b = (float(side[at] or 0) for side in (one, two))
    if factor == "share":
        if stream.kind == "standing":
            return f"{cell.target} {'starts' if b > a else 'ends'}"
        what = "requests" if stream.kind == "requests" else "tokens"
        return f"{who}: {cell.target} answers {100 * a:.3g}% to {100 * b:.3g}% of {what}"
    if factor == "units":
        of = "" if stream.kind == "standing" else " a request" if stream.kind == "requests" else " a token"
        return f"{who}: {cell.target} {cell.meter} {_short(a)} to {_short(b)}{of}"
    what = f"{cell.target} {cell.meter}{f' ({cell.slot})' if cell.slot else ''}"
    if factor == "coverage":
        return f"{what}: {100 * a:.3g}% to {100 * b:.3g}% has a price"
    had, has = before.priced(cell), after.priced(cell)
    return f"{what}: {_rates(had, cell.meter)} to {_rates(has, cell.meter)}, {_because(had, has)}"


def _because(had: _Prices, has: _Prices) -> str:
    """The facts that are new, else those that are gone, else those whose value changed."""
    if had.rates == has.rates:
        return "other shares of the usage at each price"
    return " ".join(sorted(has.facts - had.facts) or sorted(had.facts - has.facts) or sorted(has.facts))


def _rates(prices: _Prices, meter: str) -> str:
    """One price, or the least and the most of several."""
    if not prices.rates:
        return "no price"
    per = PRICES[meter][1] if meter in PRICES else 1
    ends = dict.fromkeys((min(prices.rates), max(prices.rates)))
    said = "..".join(f"${float(rate * per / FEMTO_PER_USD):,.6g}" for rate in ends)
    return f"{said}{'/Mtok' if per > 1 else ''}"


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _of_statement(found: Statement, title: str, renamed: Renames) -> _Side:
    side = _Side(title or found.title, found.at_least)
    for one in found.requests:
        stream = _Stream(one.tenant, one.workload, "requests")
        target = _target(
            *renamed.get((one.provider, one.model), (one.provider, one.model)), one.tier, one.region
        )
        _add(side.calls, stream, Fraction(one.requests))
        _add(side.shares, (stream, target), Fraction(one.requests))
    for line in found.lines:
        stream = _Stream(line.tenant, line.workload, "requests")
        named = renamed.get((line.provider, line.model), (line.provider, line.model))
        target = _target(*named, line.tier, line.region)
        key = _Cell(stream, target, line.meter, "")
        if line.rate_fusd is not None:
            key = key._replace(slot=_slot(line.facts))
        cell = side.cells.setdefault(key, _Amounts())
        cell.quantity += line.quantity
        if line.rate_fusd is not None:
            cell.priced += line.quantity
            cell.fusd += line.amount_fusd
            side.priced(key).rates.add(Fraction(line.rate_fusd))
            side.priced(key).facts |= set(line.facts)
    return side


def _target(provider: str, model: str, tier: str, region: str) -> str:
    name = f"{provider}/{model}" if provider else model or "(no model)"
    return ", ".join([name, *(part for part in (tier if tier != "standard" else "", region) if part)])


def _slot(facts: Iterable[str]) -> str:
    """The context band and daily window that a price is for, out of the ids of its facts."""
    parts = []
    for fact in facts:
        if fact.startswith("api/") and "[" in fact:
            when = parse_when(fact.partition("[")[2].rpartition("]")[0])
            parts += [f"{key} {when[key]}" for key in ("band", "window") if key in when]
    return " ".join(dict.fromkeys(parts))


def _of_ledger(found: Ledger, title: str, bare: bool) -> _Side:
    """``bare``: beside a log, where a plan's ways of one model (``:prefix``, ``:batch``) are that model."""
    side = _Side(title, False)
    for charge in found:
        kind: Literal["tok", "standing"] = "tok" if charge.unit == "tok" else "standing"
        stream = _Stream(charge.tenant, charge.workload, kind)
        target = charge.deployment or charge.option or charge.account
        target = target.partition(":")[0] if bare else target
        if kind == "standing":
            target = f"{target}, {charge.account}" if target != charge.account else target
            side.shares[stream, target] = _ONE
        else:
            _add(side.calls, stream, Fraction(charge.quantity))
            _add(side.shares, (stream, target), Fraction(charge.quantity))
        key = _Cell(stream, target, charge.meter, "")
        cell = side.cells.setdefault(key, _Amounts())
        quantity = Fraction(charge.quantity)
        if not quantity and charge.amount_fusd:
            # An amount without a quantity is one of its kind.
            quantity = _ONE
            if kind == "tok":
                _add(side.calls, stream, quantity)
                _add(side.shares, (stream, target), quantity)
        cell.quantity += quantity
        cell.priced += quantity
        cell.fusd += charge.amount_fusd
        side.priced(key).rates.add(Fraction(charge.unit_price_usd) * FEMTO_PER_USD)
        side.priced(key).facts |= set(charge.price_fact.split(JOIN)) - {""}
    return side


def _add(sums: dict[_K, Fraction], key: _K, value: Fraction) -> None:
    sums[key] = sums.get(key, Fraction(0)) + value


def markdown(found: Diff) -> str:
    """The difference as a comment on GitHub: a sentence, a table, and the causes that did not fit."""
    rows = [f"**{headline(found)}**", "", "| | change | because |", "|---|--:|---|"]
    for part in found.parts:
        causes = [f"{_cell(cause.said)} ({signed(cause.usd)})" for cause in part.because]
        if part.others:
            causes.append(f"and {part.others} more")
        rows.append(f"| {part.effect} | {signed(part.usd)} | {'<br>'.join(causes) or '-'} |")
    rows.append(f"| **total** | **{signed(found.change_usd)}** | {bounds(found) or '-'} |")
    return "\n".join(rows)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def headline(found: Diff) -> str:
    """One sentence: what after costs, and how much more or less than before."""
    change, frac = found.change_usd, found.change_frac
    least = "at least " if found.at_least[1] else ""
    said = f"{found.after} costs {least}${found.after_usd:,.2f}"
    if not change:
        return f"{said}, the same as {found.before}"
    share = f" ({frac:+.1%})" if frac is not None else ""
    return f"{said}, ${abs(change):,.2f} {'more' if change > 0 else 'less'} than {found.before}{share}"


def signed(usd: Decimal) -> str:
    """Dollars with a sign, to the cent; less than a cent to its first digits.

    >>> signed(Decimal("12.345")), signed(Decimal("-0.0012")), signed(Decimal(0))
    ('+$12.35', '-$0.0012', '$0.00')
    """
    if not usd:
        return "$0.00"
    size = abs(usd)
    cents = size.quantize(Decimal("0.01"), ROUND_HALF_UP)
    said = f"{cents:,}" if size >= Decimal("0.01") else f"{float(size):.2g}"
    return f"{'+' if usd > 0 else '-'}${said}"


def bounds(found: Diff) -> str:
    """Which totals are lower bounds, in words; blank where none is."""
    names = [name for name, least in zip((found.before, found.after), found.at_least, strict=True) if least]
    return f"{' and '.join(names)}: some usage has no price, so the total is at least that" if names else ""


def above(found: Diff, threshold: str) -> bool:
    """Whether the change exceeds a threshold: ``50`` or ``$50`` dollars, ``5%`` of before.

    Raises:
        BadInput: neither dollars nor a percentage, or below nothing.
    """
    text = threshold.strip().removeprefix("$")
    try:
        limit = Decimal(text.removesuffix("%").replace(",", ""))
    except ArithmeticError:
        limit = Decimal(-1)
    if not limit.is_finite() or limit < 0:
        raise BadInput(f"{threshold!r} is no threshold", fix="Type dollars or a share of before: 50 or 5%")
    if text.endswith("%"):
        return found.change_usd * 100 > limit * found.before_usd
    return found.change_usd > limit
