"""Amounts a month by account, each with the facts that move it; one-off outlays spread over their life."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from math import prod

from msgspec.structs import replace

from isocost.catalog import CatalogAt, Fact
from isocost.develop.book import Book, Term, given, term
from isocost.errors import BadInput
from isocost.finance import amortised_usd_per_month
from isocost.ledger import fusd
from isocost.risk import JOIN, Driver

LEAST_RATIO = 0.05
"""Low end of a fact whose low end is nothing, over its value: a scenario multiplies, so it needs one."""
MONTH = "month"


def moving(fact: Fact) -> Term:
    """A fact as a factor; one whose low end is 0 goes down to a twentieth of its value."""
    found = term(fact)
    return found._replace(low_ratio=LEAST_RATIO) if fact.low == 0 and found.value else found


class Keep(Book):
    """Charges a month, in order of entry; the account says the pillar."""

    def __init__(self, option: str, at: CatalogAt) -> None:
        super().__init__(option)
        self.at = at

    def fact(self, subject: str, attribute: str, stated: float | None = None) -> Term:
        """A fact as a factor, or the number that the file states in its place."""
        if stated is not None:
            return given(f"{subject}.{attribute} stated", stated)
        return moving(self.at.fact(subject, attribute))

    def add(self, account: str, what: str, unit: str, quantity: float, *terms: Term) -> None:
        """Book ``quantity`` times every term a month; the last is the price of a unit."""
        super().add(account, what, unit, quantity, *terms)
        pillar = self.at.text(f"account/{account}", "pillar")
        self.charges[-1] = replace(self.charges[-1], period=MONTH, pillar=pillar)

    def carry(
        self, made: Book, accounts: Collection[str], part: float, terms: Sequence[Term], to: str, what: str
    ) -> None:
        """Book charges of another book again: ``part`` times the terms of each, to one account.

        ``to`` blank keeps their own; ``what`` holds ``{}`` for what each was.
        """
        factor = part * prod(one.value for one in terms)
        names = [one.name for one in terms]
        self.drivers |= {
            one.name: Driver(one.name, one.low_ratio, one.high_ratio) for one in terms if one.moves
        }
        for charge in made.charges:
            if charge.account not in accounts:
                continue
            own = [name for name in charge.price_fact.split(JOIN) if name]
            self.drivers |= {name: made.drivers[name] for name in own if name in made.drivers}
            account = to or charge.account
            self.charges.append(
                replace(
                    charge,
                    period=MONTH,
                    option=self.option,
                    account=account,
                    pillar=self.at.text(f"account/{account}", "pillar"),
                    meter=what.format(charge.meter),
                    quantity=charge.quantity * factor,
                    price_fact=JOIN.join([*names, *own]),
                    amount_fusd=fusd(charge.usd * factor),
                )
            )

    def salary(self, role: str = "platform-engineer") -> tuple[Term, Term]:
        """What an employer pays for a person and year, as two factors."""
        return self.fact("staff/any", "loading_ratio"), self.fact(f"staff/{role}", "usd_per_year")

    def months(self) -> float:
        """Months of a year."""
        return self.at.number("finance/any", "months_per_year")

    def once(self) -> Term:
        """The part of a one-off outlay that falls on each month of its life: less, the longer it lives."""
        life = self.at.fact("finance/any", "one_off_amortisation_months")
        rate = self.at.number("finance/any", "discount_rate_per_year")

        def part(months: float) -> float:
            return amortised_usd_per_month(1.0, rate, months)

        mid = part(float(life.value))
        low, high = (part(float(end if end else life.value)) for end in (life.high, life.low))
        return Term(life.id, mid, low / mid, high / mid)


def place_of(at: CatalogAt, region: str, attribute: str) -> Fact:
    """A fact of a region's electricity, or of regions that the catalog does not tell apart.

    Raises:
        BadInput: the catalog knows no such region; those that it knows are named.
    """
    known = {
        fact.subject.partition("/")[2]
        for name in ("gco2e_per_kwh", "usd_per_kwh")
        for fact in at.each("energy/", name)
    }
    if region not in known and at.find(f"place/{region}", "within") is None:
        raise BadInput(f"no region {region!r}", where="region", fix=f"Known: {', '.join(sorted(known))}")
    outer = at.find(f"place/{region}", "within")
    names = (region, str(outer.value) if outer else "default", "default")
    return next(
        fact for name in names if (fact := at.find(f"energy/{name}", attribute)) is not None
    )  # the default always has one
