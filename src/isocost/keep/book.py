"""Amounts a month by account, each with the facts that move it; one-off outlays spread over their life."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from isocost.catalog import CatalogAt, Fact
from isocost.develop.book import Book, Term, given, term
from isocost.errors import BadInput
from isocost.finance import amortised_usd_per_month
from isocost.fleet import Standing

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

    def stand(self, lines: Iterable[Standing], *further: Term) -> None:
        """Book standing costs as another room makes them, with the facts that they name."""
        lines = tuple(lines)
        known = {fact.id: fact for fact in self._named(lines)}
        for line in lines:
            terms = [moving(known[name]) for name in line.facts]
            product = 1.0
            for one in terms:
                product *= one.value
            rest = line.usd_per_month / product if product else 0.0
            self.add(line.account, line.what, line.unit, rest, *further, *terms)

    def _named(self, lines: Iterable[Standing]) -> Iterable[Fact]:
        wanted = {name for line in lines for name in line.facts}
        kinds = {name.partition("/")[0] + "/" for name in wanted}
        for subject in self.at.catalog.subjects():
            if subject.partition("/")[0] + "/" in kinds:
                for fact in self.at.catalog.about(subject):
                    if fact.id in wanted and fact.holds(self.at.on):
                        yield fact

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
