"""Each named residual is injected into an invoice alone, and all at once, and is recovered to the cent."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from golden import Golden
from isocost.bill import Usage, price
from isocost.books.overlay import parse_overlay
from isocost.books.reconcile import Log, reconcile
from isocost.books.residuals import RESIDUALS, Reconciled
from isocost.catalog import Catalog
from isocost.catalog.catalog import FACTS_DIR
from isocost.catalog.names import Offering, resolve
from isocost.cli.root import main
from isocost.trace import open_trace
from isocost.trace.invoices import read_invoice

CASES = Path(__file__).parent / "cases" / "reconcile"
FUSD = 10**15
START = datetime(2026, 10, 1, tzinfo=UTC)


@cache
def shipped() -> Catalog:
    return Catalog.load(FACTS_DIR, CASES / "facts")


@pytest.fixture(scope="module")
def mine() -> Catalog:
    return shipped()


@dataclass(frozen=True)
class Call:
    """One call as the provider saw it; ``logged`` changes what the log says of it."""

    number: int
    at: datetime
    model: str
    input_tok: int
    cached_tok: int
    output_tok: int
    account: str
    key: str
    tier: str = ""
    status: str = "success"


def calls(days: int = 31, per_day: int = 60, seed: int = 3) -> list[Call]:
    random = Random(seed)
    found = []
    for number in range(days * per_day):
        at = START + timedelta(seconds=random.randrange(days * 86_400))
        into = random.randrange(200, 9000)
        found.append(
            Call(
                number, at, random.choice(["villa/lark", "villa/lark", "villa/wren"]), into,
                random.choice([0, 0, into // 2]), random.randrange(20, 900),
                random.choice(["web", "batch-jobs"]), random.choice(["key-1", "key-2"]),
            )
        )  # fmt: skip
    return sorted(found, key=lambda one: one.at)


@dataclass
class World:
    """What the provider billed and what the log holds; ``added`` are lines beside usage."""

    billed: list[Call]
    logged: list[Call]
    added: list[tuple[str, str, Decimal]] = field(default_factory=list)
    names: tuple[str, ...] = ("day", "model", "meter", "account", "key")
    places: int = 9
    counts: bool = False
    hours: int = 0
    """How far ahead of UTC the invoice's days begin."""
    scale: Fraction = Fraction(1)
    currency: str = "USD"
    tier: dict[int, str] = field(default_factory=dict)
    request_ids: bool = True

    def write(self, folder: Path, catalog: Catalog) -> tuple[Path, Path]:
        """The log and the invoice as files."""
        log = folder / "log.csv"
        with log.open("w", newline="") as file:
            out = csv.writer(file)
            names = ["time", "model", "input_tok", "cached_tok", "output_tok", "account", "api_key", "tier",
                     "status"]  # fmt: skip
            out.writerow([*names, "request_id"] if self.request_ids else names)
            for one in self.logged:
                row = [one.at.isoformat(), one.model, one.input_tok, one.cached_tok, one.output_tok,
                       one.account, one.key, one.tier, one.status]  # fmt: skip
                out.writerow([*row, f"r{one.number}"] if self.request_ids else row)
        cells: dict[tuple[str, ...], list[Any]] = {}
        for one in self.billed:
            amounts, units = amounts_of(catalog, one, self.tier.get(one.number, one.tier))
            day = f"{one.at + timedelta(hours=self.hours):%Y-%m-%d}"
            for meter, fusd in amounts.items():
                parts = {"day": day, "model": one.model, "meter": meter, "account": one.account,
                         "key": one.key}  # fmt: skip
                cell = cells.setdefault(tuple(parts[name] for name in self.names), [Fraction(0), 0, set()])
                cell[0] += fusd * self.scale
                cell[1] += units[meter]
                cell[2].add(one.number)
        path = folder / "invoice.csv"
        with path.open("w", newline="") as file:
            out = csv.writer(file)
            heads = ["requests", "quantity"] if self.counts else []
            columns = [{"day": "date", "key": "api_key_id"}.get(name, name) for name in self.names]
            dated = "day" in self.names
            dates = [] if dated else ["date", "until"]
            out.writerow([*columns, *dates, "description", "amount", "currency",
                          *heads])  # fmt: skip
            for key, (fusd, units, numbers) in sorted(cells.items()):
                usd = Decimal(fusd.numerator) / Decimal(fusd.denominator) / FUSD
                amount = usd.quantize(Decimal(1).scaleb(-self.places))
                tail = [len(numbers), units] if self.counts else []
                span = [] if dated else ["2026-10-01", "2026-11-01"]
                out.writerow([*key, *span, "usage", f"{amount:f}", self.currency, *tail])
            for kind, said, amount in self.added:
                blank = ["2026-10-31" if name == "day" else "" for name in self.names]
                span = [] if dated else ["2026-10-31", ""]
                out.writerow([*blank, *span, f"{kind}: {said}", f"{amount:f}", self.currency,
                              *["" for _ in heads]])  # fmt: skip
        return log, path


@cache
def offering_of(catalog: Catalog, model: str) -> Offering:
    return resolve(catalog.at(START.date()), model)


@cache
def amounts_of(catalog: Catalog, one: Call, tier: str) -> tuple[dict[str, Fraction], dict[str, int]]:
    """Femto-dollars and units of each meter of a call, by the bill of one request."""
    offering = offering_of(catalog, one.model)
    usage = Usage(input_tok=one.input_tok, cached_tok=one.cached_tok, output_tok=one.output_tok)
    found = price(catalog, offering, usage, one.at, tier or "standard")
    assert found.status == "priced", found.why
    return (
        {line.meter: Fraction(line.amount_fusd) for line in found.lines},
        {line.meter: line.quantity for line in found.lines},
    )


def cost(catalog: Catalog, some: list[Call], tier: str = "") -> Fraction:
    return sum((sum(amounts_of(catalog, one, tier or one.tier)[0].values()) for one in some), Fraction(0))


def solved(world: World, folder: Path, catalog: Catalog, overlay: str = "", month: str = "") -> Reconciled:
    log, invoice = world.write(folder, catalog)
    terms = parse_overlay(overlay, "contract.toml")
    read = Log(open_trace(log, who=True), catalog, terms)
    found = reconcile(read, "villa", [read_invoice(invoice, "villa")], month=month)
    total = sum((Fraction(one.usd) for one in found.residuals), Fraction(0))
    assert total == Fraction(found.invoice_usd) - Fraction(found.bill_usd)
    return found


def usd(fusd: Fraction) -> float:
    return float(fusd / FUSD)


def check(found: Reconciled, expected: dict[str, Fraction]) -> None:
    """Every residual to the cent; those not named are below a tenth of one."""
    for name in RESIDUALS:
        mine = float(found.usd(name))
        want = usd(expected.get(name, Fraction(0)))
        slack = 0.005 if name in expected else 0.001
        assert mine == pytest.approx(want, abs=slack), (name, mine, want, [
            (one.name, float(one.usd), one.evidence) for one in found.residuals
        ])  # fmt: skip


def test_nothing_is_left_where_both_agree(mine: Catalog, tmp_path: Path) -> None:
    every = calls()
    found = solved(World(every, every), tmp_path, mine)
    check(found, {})
    assert found.compared == "day, model, account, key, meter"


Injected = Callable[[Catalog, World], dict[str, Fraction]]


def tax(_: Catalog, world: World) -> dict[str, Fraction]:
    world.added.append(("VAT 19%", "value added tax", Decimal("19.37")))
    return {"tax": Fraction("19.37") * FUSD}


def credit(_: Catalog, world: World) -> dict[str, Fraction]:
    world.added.append(("Promotional credit", "thanks", Decimal("-5.50")))
    return {"credits": Fraction("-5.5") * FUSD}


def fee(_: Catalog, world: World) -> dict[str, Fraction]:
    world.added.append(("Platform fee", "support plan", Decimal("25")))
    return {"contract": Fraction(25) * FUSD}


def direct(catalog: Catalog, world: World) -> dict[str, Fraction]:
    """Calls under a key that the log never saw."""
    some = [replace(one, number=one.number + 10**6, key="key-9") for one in calls(4, 40, 11)]
    world.billed = world.billed + some
    return {"direct traffic": cost(catalog, some)}


def missing(catalog: Catalog, world: World) -> dict[str, Fraction]:
    """Every 29th call of five days is not in the log; the invoice counts requests."""
    lost = [one for one in world.logged if 4 <= one.at.day < 9 and one.number % 29 == 0]
    world.logged = [one for one in world.logged if one not in lost]
    world.counts = True
    return {"missing rows": cost(catalog, lost)}


def silence(catalog: Catalog, world: World) -> dict[str, Fraction]:
    """The log is dark for a day and a half."""
    begin, end = datetime(2026, 10, 14, 0, tzinfo=UTC), datetime(2026, 10, 15, 12, tzinfo=UTC)
    lost = [one for one in world.logged if begin <= one.at < end]
    world.logged = [one for one in world.logged if one not in lost]
    return {"missing rows": cost(catalog, lost)}


def duplicates(catalog: Catalog, world: World) -> dict[str, Fraction]:
    """Calls that are in the log twice under one id were billed twice."""
    twice = [one for one in world.logged if one.at.day == 20 and one.number % 7 == 0]
    world.logged = sorted([*world.logged, *twice], key=lambda one: one.at)
    world.billed = world.billed + [replace(one, number=one.number + 10**7) for one in twice]
    return {"duplicates": cost(catalog, twice)}


def cancelled(catalog: Catalog, world: World) -> dict[str, Fraction]:
    """Cancelled streams: the log has a tenth of the output that was billed."""
    cut = {one.number for one in world.logged if one.at.day == 22 and one.number % 5 == 0}
    short = {one.number: replace(one, output_tok=one.output_tok // 10, status="cancelled")
             for one in world.logged if one.number in cut}  # fmt: skip
    more = cost(catalog, [one for one in world.logged if one.number in cut]) - cost(
        catalog, list(short.values())
    )
    world.logged = [short.get(one.number, one) for one in world.logged]
    return {"cancelled streams": more}


def retries(catalog: Catalog, world: World) -> dict[str, Fraction]:
    """Failed attempts that the log bills, and the provider does not."""
    failed = {one.number for one in world.logged if one.at.day == 24 and one.number % 6 == 0}
    world.logged = [replace(one, status="failure") if one.number in failed else one for one in world.logged]
    world.billed = [one for one in world.billed if one.number not in failed]
    return {"retries": -cost(catalog, [one for one in world.logged if one.number in failed])}


def cache(catalog: Catalog, world: World) -> dict[str, Fraction]:
    """Two days' cached tokens are billed as plain input."""
    moved = Fraction(0)
    for one in world.billed:
        if one.at.day in (26, 27):
            moved += cost(catalog, [replace(one, cached_tok=0)]) - cost(catalog, [one])
    world.billed = [replace(one, cached_tok=0) if one.at.day in (26, 27) else one for one in world.billed]
    return {"cache semantics": moved}


def tier(catalog: Catalog, world: World) -> dict[str, Fraction]:
    """One account's calls of three days are batches, which the log does not say."""
    some = [one for one in world.billed if one.at.day in (28, 29, 30) and one.account == "batch-jobs"]
    world.tier |= {one.number: "batch" for one in some}
    return {"tier": cost(catalog, some, "batch") - cost(catalog, some)}


def late(catalog: Catalog, world: World) -> dict[str, Fraction]:
    """The log begins on 2 October at noon."""
    lost = [one for one in world.logged if one.at < START + timedelta(hours=36)]
    world.logged = [one for one in world.logged if one not in lost]
    return {"cut-off and time zone": cost(catalog, lost)}


ALONE: dict[str, Injected] = {
    "tax": tax, "credits": credit, "contract": fee, "direct traffic": direct, "missing rows": missing,
    "missing rows, silence": silence, "duplicates": duplicates, "cancelled streams": cancelled,
    "retries": retries, "cache semantics": cache, "tier": tier, "cut-off": late,
}  # fmt: skip


@pytest.mark.parametrize("name", ALONE)
def test_one_cause_alone(name: str, mine: Catalog, tmp_path: Path) -> None:
    every = calls()
    world = World(every, every)
    expected = ALONE[name](mine, world)
    check(solved(world, tmp_path, mine), expected)


def test_all_causes_at_once(mine: Catalog, tmp_path: Path) -> None:
    every = calls()
    world = World(every, every)
    expected: dict[str, Fraction] = {}
    for name, inject in ALONE.items():
        if name != "contract":
            for residual, amount in inject(mine, world).items():
                expected[residual] = expected.get(residual, Fraction(0)) + amount
    check(solved(world, tmp_path, mine), expected)


def test_days_of_another_zone(mine: Catalog, tmp_path: Path) -> None:
    """The invoice's October is that of UTC+9: its first nine hours are not October's here."""
    before = [
        replace(one, number=one.number + 10**6, at=one.at - timedelta(days=31)) for one in calls(31, 60, 8)
    ]
    every = sorted([*before, *calls()], key=lambda one: one.at)
    inside = [one for one in every if one.at + timedelta(hours=9) >= START
              and one.at + timedelta(hours=9) < datetime(2026, 11, 1, tzinfo=UTC)]  # fmt: skip
    october = [one for one in every if one.at >= START]
    found = solved(World(inside, every, hours=9), tmp_path, mine, month="2026-10")
    check(found, {"cut-off and time zone": cost(mine, inside) - cost(mine, october)})
    assert any("+9 h" in said for said in found.doubts)


def test_rounding_is_what_the_places_leave(mine: Catalog, tmp_path: Path) -> None:
    every = calls()
    found = solved(World(every, every, places=2), tmp_path, mine)
    assert [one.name for one in found.residuals] == ["rounding"]
    assert 0 < abs(found.difference_usd) < Decimal("1")


EURO = """
[[currency]]
code = "EUR"
usd = 1.10
invoiced_usd = 1.05
source = "the treasury's rate of 2026-10-31"
"""


def test_the_providers_rate_is_currency(mine: Catalog, tmp_path: Path) -> None:
    every = calls()
    world = World(every, every, scale=1 / Fraction("1.05"), currency="EUR", places=12)
    found = solved(world, tmp_path, mine, EURO)
    check(found, {"currency": cost(mine, every) / Fraction("1.05") * Fraction("0.05")})


CONTRACT = """
[[discount]]
name = "agreement"
provider = "villa"
percent = 12.5
"""


def test_the_contract_explains_its_discount(mine: Catalog, tmp_path: Path) -> None:
    every = calls()
    found = solved(World(every, every, scale=Fraction(7, 8)), tmp_path, mine, CONTRACT)
    check(found, {"contract": -cost(mine, every) / 8})


def test_a_uniform_ratio_without_a_contract_is_not_explained(mine: Catalog, tmp_path: Path) -> None:
    """Tax within prices, an exchange rate, a contract: the files cannot tell, so nothing claims it."""
    every = calls()
    found = solved(World(every, every, scale=Fraction("1.08")), tmp_path, mine)
    check(found, {"unexplained": cost(mine, every) * Fraction("0.08")})
    (left,) = (one for one in found.residuals if one.name == "unexplained")
    assert "every amount is 1.08 of ours" in left.evidence


def test_two_causes_of_the_same_size_are_not_told_apart(mine: Catalog, tmp_path: Path) -> None:
    """A cancelled call and a failed one of the same tokens on one day; one of them was not billed."""
    every = calls()
    day = [one for one in every if one.at.day == 9]
    one = day[0]
    other = replace(one, number=one.number + 10**6, at=one.at + timedelta(hours=2))
    logged = [replace(c, status="cancelled") if c is one else c for c in every]
    logged = sorted([*logged, replace(other, status="failure")], key=lambda c: c.at)
    found = solved(World(every, logged), tmp_path, mine)
    check(found, {"unexplained": -cost(mine, [one])})
    (left,) = (part for part in found.residuals if part.name == "unexplained")
    assert "either" in left.evidence


def test_more_of_a_known_name_is_not_explained_without_counts_or_keys(mine: Catalog, tmp_path: Path) -> None:
    """Lost rows and traffic beside the log look the same where the invoice names no key."""
    every = calls()
    lost = [one for one in every if one.number % 50 == 0]
    logged = [one for one in every if one not in lost]
    found = solved(World(every, logged, names=("day", "model", "meter")), tmp_path, mine)
    check(found, {"unexplained": cost(mine, lost)})


def test_calls_beyond_the_log_need_a_name(mine: Catalog, tmp_path: Path) -> None:
    """The provider counts more calls: lost ones where all is under one key, else nobody knows."""
    every = calls()
    world = World(every, every, names=("day", "model", "meter"))
    expected = missing(mine, world)
    found = solved(world, tmp_path, mine)
    check(found, {"unexplained": expected["missing rows"]})
    assert "made under a key that the invoice does not name" in found.residuals[-1].evidence
    every = [replace(one, account="gateway") for one in every]
    world = World(
        every, [replace(one, account="") for one in every], names=("day", "model", "meter", "account")
    )
    expected = missing(mine, world)
    check(solved(world, tmp_path, mine), expected)


def test_a_month_in_one_line_a_model(mine: Catalog, tmp_path: Path) -> None:
    """Nothing but sums of the month: duplicates that were billed are still told by their amount."""
    every = calls()
    world = World(every, every, names=("model",))
    expected = duplicates(mine, world)
    check(solved(world, tmp_path, mine, month="2026-10"), expected)


def test_names_that_nobody_knows_are_no_direct_traffic(mine: Catalog, tmp_path: Path) -> None:
    """An invoice that spells models in its own way is compared without them; one such name stays open."""
    every = calls()
    world = World(every, every)
    log, invoice = world.write(tmp_path, mine)
    text = invoice.read_text(encoding="utf-8")
    invoice.write_text(text.replace("villa/lark", "Lk4-XL").replace("villa/wren", "Wr2"), encoding="utf-8")
    read = Log(open_trace(log, who=True), mine)
    found = reconcile(read, "villa", [read_invoice(invoice, "villa")])
    check(found, {})
    assert found.compared == "day, account, key, meter"
    assert any("does not know" in said for said in found.doubts)
    invoice.write_text(f"{text}2026-10-05,Zz9,input,web,key-1,usage,4.5,USD\n", encoding="utf-8")
    found = reconcile(read, "villa", [read_invoice(invoice, "villa")])
    check(found, {"unexplained": Fraction("4.5") * FUSD})


def test_usage_without_a_price_is_said(mine: Catalog, tmp_path: Path) -> None:
    """The log has a model that the catalog has no price of; the invoice bills it."""
    every = calls()
    some = [replace(one, number=one.number + 10**8, model="villa/heron") for one in calls(2, 10, 5)]
    logged = sorted([*every, *some], key=lambda one: one.at)
    log, invoice = World(every, logged).write(tmp_path, mine)
    text = invoice.read_text(encoding="utf-8")
    invoice.write_text(f"{text}2026-10-01,villa/heron,input,web,key-1,usage,3.25,USD\n", encoding="utf-8")
    read = Log(open_trace(log, who=True), mine)
    found = reconcile(read, "villa", [read_invoice(invoice, "villa")])
    check(found, {"unpriced usage": Fraction("3.25") * FUSD})


def test_projects_that_the_log_does_not_go_through(mine: Catalog, tmp_path: Path) -> None:
    """The log names no project; which of the invoice's are its own is said."""
    every = calls()
    lab = [replace(one, number=one.number + 10**6, account="lab") for one in calls(5, 30, 4)]
    ours = [replace(one, account="gateway") for one in every]
    world = World(
        ours + lab, [replace(one, account="") for one in every], names=("day", "model", "meter", "account")
    )
    log, invoice = world.write(tmp_path, mine)
    read = Log(open_trace(log, who=True), mine)
    sides = ("villa", [read_invoice(invoice, "villa")])
    check(reconcile(read, *sides, through=frozenset({"gateway"})), {"direct traffic": cost(mine, lab)})
    untold = reconcile(read, *sides)
    check(untold, {"unexplained": cost(mine, lab)})
    said = "the invoice is of gateway, lab: say which the log's calls go through, as --through gateway"
    assert said in untold.doubts


@settings(max_examples=15, deadline=None, phases=(Phase.explicit, Phase.generate))
@given(data=st.data())
def test_residuals_sum_to_the_difference(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Whatever is done to an invoice, the parts sum to the difference to the last digit."""
    catalog = shipped()
    every = calls(4, 12, data.draw(st.integers(0, 99)))
    drop = data.draw(st.sets(st.integers(0, 47), max_size=12))
    state = data.draw(
        st.lists(st.sampled_from(["success", "failure", "cancelled"]), min_size=48, max_size=48)
    )
    logged = [replace(one, status=state[n]) for n, one in enumerate(every) if n not in drop]
    twice = data.draw(st.lists(st.sampled_from(logged), max_size=4)) if logged else []
    world = World(
        every, sorted([*logged, *twice], key=lambda one: one.at),
        names=data.draw(st.sampled_from([("day", "model", "meter"), ("day",), ("model",), ("day", "key")])),
        places=data.draw(st.integers(0, 12)), counts=data.draw(st.booleans()),
        scale=data.draw(st.fractions(0, 2, max_denominator=8)),
        hours=data.draw(st.integers(-3, 3)), request_ids=data.draw(st.booleans()),
        added=[("tax", "t", data.draw(st.decimals(-9, 9, places=4)))],
    )  # fmt: skip
    if logged:
        solved(world, tmp_path_factory.mktemp("any"), catalog)


@pytest.fixture
def every_cause(mine: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A log and an invoice with all causes, in the folder that commands run in."""
    every = calls()
    world = World(every, every)
    for inject in ALONE.values():
        inject(mine, world)
    world.added.append(("Correction", "goodwill adjustment", Decimal("2.17")))
    world.write(tmp_path, mine)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("columns", [80, 120])
def test_looks_as_it_did(
    columns: int, every_cause: Path, golden: Golden, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("COLUMNS", str(columns))
    assert (
        main(["reconcile", "log.csv", "--invoice", "villa=invoice.csv", "--facts", str(CASES / "facts")]) == 0
    )
    golden.check(f"books_reconcile_{columns}.txt", capsys.readouterr().out)


def test_json_has_every_part(every_cause: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["reconcile", "log.csv", "--invoice", "villa=invoice.csv", "--facts", str(CASES / "facts")]
    assert main([*command, "--json"]) == 0
    document = msgspec.json.decode(capsys.readouterr().out)
    (one,) = document["invoices"]
    parts = [Decimal(part["usd"]) for residual in one["residuals"] for part in residual["parts"]]
    assert sum(parts) == Decimal(document["invoice_usd"]) - Decimal(document["bill_usd"])


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--invoice", "invoice.csv"], "is not provider=FILE"),
        (["--invoice", "villa=nothing.csv"], "no such file"),
        (["--invoice", "vila=invoice.csv"], "--invoice: no provider 'vila'. Did you mean villa?"),
        (["--invoice", "zzz=invoice.csv"], "--invoice: no provider 'zzz'. The log has villa"),
        (["--invoice", "villa=invoice.csv", "--month", "2026-09"], "no charges of 2026-09"),
        (["--invoice", "villa=invoice.csv", "--month", "October"], "is not a month"),
    ],
)
def test_bad_words_say_what_to_type(
    words: list[str], says: str, every_cause: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["reconcile", "log.csv", *words, "--facts", str(CASES / "facts")]) == 2
    assert says in capsys.readouterr().err
