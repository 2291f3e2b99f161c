"""What a memo rests on: defaults in place of a log, and the facts that carry most money."""

from __future__ import annotations

from collections.abc import Mapping

from isocost.catalog import Catalog, Fact
from isocost.ledger import Ledger
from isocost.plan.market.prepare import default_slo
from isocost.plan.memo.result import (
    Assumed,
)
from isocost.plan.memo.study import Study
from isocost.plan.memo.traffic import MEMO
from isocost.plan.memo.ways import (
    Costed,
)
from isocost.plan.tell import story

FACTS_MOST = 6


def assumed_of(study: Study) -> list[Assumed]:
    """The defaults that stand in for what a log would have said."""
    ask, at = study.ask, study.at
    names = [(MEMO, name) for name in ("input_sigma", "output_sigma", "dispersion", "longest_ratio")]
    if ask.shape != "flat":
        names.append((f"shape/{ask.shape}", "default"))
    if not ask.now and not ask.reference:
        names.append((MEMO, "reference_model"))
    if ask.requests_per_month[0] == ask.requests_per_month[1]:
        names.append((MEMO, "range_ratio"))
    stated = ask.limits.of(study.built.planned[0].stream.workload)
    found = [fact for subject, name in names if (fact := at.find(subject, name)) is not None]
    noon = at.find(f"shape/{ask.shape}", "hour_weight", "hour=12")
    found += [noon] if noon is not None and ask.shape != "flat" else []
    found += _slo_facts(study, stated.ttft_p95_s is None, stated.tpot_p95_s is None)
    if stated.spare_replicas is None:
        found.append(at.fact("slo/redundancy", "spare_replicas"))
    if stated.quality_margin_points is None:
        found.append(at.fact("slo/quality", "quality_margin_frac"))
    found.append(at.fact(MEMO, "trip_months"))
    return [_named(fact, ask.catalog) for fact in found]


def _slo_facts(study: Study, ttft: bool, tpot: bool) -> list[Fact]:
    """The catalog's limits where nobody states any."""
    at, stream = study.at, study.built.planned[0].stream
    slo = default_slo(at, stream.input_p95_tok)
    found = []
    for name, value, wanted in (
        ("ttft_p95_s", slo.ttft_p95_s, ttft),
        ("tpot_p95_s", slo.tpot_p95_s, tpot),
    ):
        subjects = [fact.subject for fact in at.each("slo/", "from_input_p95_tok")]
        subjects += [fact.subject for fact in at.each("slo/", "default")]
        fits = [at.fact(s, name) for s in subjects if at.number(s, name) == value]
        if wanted and fits:
            found.append(fits[0])
    return found


def facts_of(study: Study, by: Mapping[str, Costed]) -> list[Assumed]:
    """Facts behind the allowed options at the middle volume, those that carry most money first."""
    whole = Ledger(charge for one in by.values() if not one.way.why_not for charge in one.ledger)
    used = story.facts_used(study.built, story.Totals(Ledger(), whole, {}))[:FACTS_MOST]
    names = [use.id for use in used]
    subjects = {name.split("@")[0].split("[")[0].rpartition(".")[0] for name in names}
    facts = {fact.id: fact for subject in sorted(subjects) for fact in study.ask.catalog.about(subject)}
    return [_named(facts[name], study.ask.catalog) for name in names if name in facts]


def _named(fact: Fact, catalog: Catalog) -> Assumed:
    source = catalog.sources[fact.source]
    value = fact.value if isinstance(fact.value, str) else f"{fact.value:g}"
    words = catalog.attributes[fact.subject.partition("/")[0], fact.attribute].description
    return Assumed(
        fact.id, fact.subject, words, value, fact.unit, fact.low, fact.high, fact.kind, source.id,
        source.title, source.address,
    )  # fmt: skip
