"""``isocost policy fit PAIRS --cache`` and its kin: certify a semantic cache, put it into a plan, keep it
honest."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.text import Text

from isocost.cli.catalog import load, newest
from isocost.cli.looks import keep_looks, read_looks, sure
from isocost.cli.output import grid, show, show_json, staged, working, wrapped
from isocost.cli.trace import opened
from isocost.errors import BadInput
from isocost.units import percent, share

if TYPE_CHECKING:
    from isocost.catalog.catalog import CatalogAt
    from isocost.deployment import SemanticCache
    from isocost.fleet import Standing
    from isocost.plan.written.near import Visits
    from isocost.policy.rules import Rule, Semantic
    from isocost.policy.semantic_study import Asked, CacheStudy, Grade
    from isocost.trace import Trace

CACHE, PAIRS, FRAGMENT = "cache/near", "pairs.csv", "semantic.toml"
GIGA = 1e9


@dataclass(frozen=True)
class Near:
    """A semantic cache in the place of a routing policy."""

    cache: Annotated[
        bool, Parameter(negative="", help="Certify a semantic cache: OUTCOMES holds questions or pairs.")
    ] = False
    log: Annotated[Path | None, Parameter(help="With --cache: the log that PAIRS was made of.")] = None
    workload: Annotated[
        str, Parameter(help="With --cache: the workload that it serves.", show_default=True)
    ] = "*"
    max_wrong: Annotated[
        str, Parameter(help="With --cache: wrong answers among all requests.", show_default=True)
    ] = "1%"
    labels: Annotated[
        int, Parameter(help="With --cache: graded pairs to fit on, at most.", show_default=True)
    ] = 3500
    version: Annotated[
        tuple[str, ...], Parameter(help="With --cache: MODEL=VERSION whose answers are kept.")
    ] = ()
    plan: Annotated[Path | None, Parameter(help="With --cache: the plan.toml that it is written into.")] = (
        None
    )


NO_CACHE = Near()
"""A routing policy, no cache."""


def fit_cache(pairs: Path, near: Near, confidence: str, to: Path, facts: Path | None, *, json: bool) -> int:
    """Fit and certify a semantic cache; write its verifier and its certificate."""
    from isocost.deployment import SemanticCache
    from isocost.plan.written.near import visits_of
    from isocost.policy.rules import Semantic
    from isocost.policy.semantic_study import Wanted, study

    catalog = load(facts)
    at = catalog.at(newest(catalog))
    folder = to if near.plan is None else near.plan.parent
    kept = SemanticCache(
        CACHE,
        at.number("planning/exact-cache", "ttl_s"),
        int(at.number("semantic-cache/any", "most_entries")),
    )
    if near.plan is not None:
        kept = _kept(near.plan, kept)
    life_s, visits = _life_s(at, near.plan), visits_of(at)
    before = read_looks(pairs, folder)
    asked, grade, graded, notes, models, unit = _questions(pairs, near, life_s, visits)
    wanted = Wanted(
        share(near.max_wrong), share(confidence), near.labels,
        # Labelled questions have no times: what ages is seen on a log.
        kept.ttl_s if near.log is not None else math.inf, kept.most_entries,
        _versions(near.version, models), at.on.isoformat(), unit, near.workload,
    )  # fmt: skip
    # A log's requests are told apart by when they came as well: the same words in a newer log are new ones.
    ids = [one.text if near.log is None else f"{one.at_s:.0f} {one.text}" for one in asked]
    with working(f"certifying on {pairs.name}"):
        found = study(asked, wanted, grade, graded=graded, looks=before, ids=ids)
    # Before anything of it is told: a look that is not kept would be free.
    record = keep_looks(found.looks, pairs, folder) if found.looks else None
    wrote: list[str] = []
    if found.proven is not None:
        name = f"verifier-{near.workload.strip('*') or 'all'}.json"
        semantic = Semantic(kept.id, name, found.proven)
        text = _written(near, semantic, kept, _standing(at, kept))
        with staged(folder) as place:
            (place / name).write_bytes(found.verifier)
            (place / (FRAGMENT if near.plan is None else near.plan.name)).write_text(text, encoding="utf-8")
        wrote = [str(folder / name), str(folder / FRAGMENT if near.plan is None else near.plan)]
    if found.to_grade and near.log is not None:
        wrote.append(str(pairs))
        _put_up(pairs, found, asked, near, life_s, visits)
    if json:
        show_json({
            "proven": found.proven, "why": found.why, "requests": found.requests, "labels": found.labels,
            "later_hit_frac": found.later_hit_frac, "later_wrong_frac": found.later_wrong_frac,
            "unit": found.unit, "units": found.units, "most_each": found.most_each,
            "look": found.look, "level": found.level,
            "to_grade": len(found.to_grade), "wrote": wrote, "notes": notes,
        })  # fmt: skip
        return 0
    told = _tested(found, wanted.confidence)
    if record is not None:
        told += f" It is kept in {record.name if record.parent == pairs.parent else record}: leave it there."
    _show_study(found, near, [told, *notes] if told else notes, wrote)
    return 0


def _tested(found: CacheStudy, confidence: float) -> str:
    """Which look it was and how it was tested; blank: it was none."""
    if not found.look:
        return ""
    return (
        f"Look {found.look} at these requests, tested at {sure(found.level)}: all looks at them hold "
        f"together at {percent(confidence)}."
    )


def _questions(
    pairs: Path, near: Near, life_s: float, visits: Visits
) -> tuple[Sequence[Asked], Grade, Mapping[tuple[int, int], bool] | None, list[str], tuple[str, ...], str]:
    """Requests in order, their grades, what is to be said of them, the models behind the answers, and what
    requests were drawn by."""
    from isocost.policy.semantic_pairs import grades_of, is_of_log, read

    if not is_of_log(pairs):
        if near.log is not None:
            raise BadInput(
                "it holds its own words", where=str(pairs),
                fix="Leave out --log, or name the pairs of isocost measure LOG --cache",
            )  # fmt: skip
        made = read(pairs)
        return made.asked, made.grade, None, list(made.notes), (), made.unit
    if near.log is None:
        raise BadInput("its words are in the log", where=str(pairs), fix="Add --log LOG")
    from isocost.plan.written.certified import requests_of

    found = requests_of(_words(near.log), near.workload, life_s, visits)
    place = {line: i for i, line in enumerate(found.lines)}
    graded = grades_of(pairs, place)
    notes = [f"{found.repeats:,} whole repeats are left to an exact cache"] if found.repeats else []
    if found.tenants > 1:
        notes.append(
            f"the bound is of all {found.tenants:,} tenants' requests together, not of each tenant's"
        )
    if found.unit == "request":
        notes.append("the log names no sessions: near repeats of one person would count as independent")
    return found.asked, lambda i, j: graded.get((i, j)), graded, notes, found.models, found.unit


def _life_s(at: CatalogAt, plan: Path | None) -> float:
    """How long the exact cache before the semantic one keeps an answer: the plan's, else as is usual."""
    usual = at.number("planning/exact-cache", "ttl_s")
    if plan is None:
        return usual
    life_s = plan_rules(plan)[1]
    return usual if life_s is None else life_s


def _words(log: Path) -> Trace:
    return opened(log, None, None, None, prompts=True)


def _versions(stated: tuple[str, ...], models: tuple[str, ...]) -> dict[str, str]:
    said = {}
    for one in stated:
        model, sep, version = one.rpartition("=")
        if not sep or not model:
            raise BadInput(f"version {one!r}", fix="Type MODEL=VERSION, as gpt-5.4=2026-03-05")
        said[model] = version
    return {**dict.fromkeys(models, ""), **said}


def _kept(plan: Path, plain: SemanticCache) -> SemanticCache:
    """The cache that a plan has already, else a plain one."""
    from isocost.deployment import SemanticCache
    from isocost.plan.written.file import read

    return next((one for one in read(plan).deployments if isinstance(one, SemanticCache)), plain)


def _standing(at: CatalogAt, kept: SemanticCache) -> Standing:
    """The memory that the cache takes, full."""
    from isocost.fleet import Standing

    kind = f"semantic-cache/{'embedding' if kept.embedding else 'words'}"
    each = at.number(kind, "bytes_per_entry") + at.number("semantic-cache/any", "answer_bytes")
    price = at.fact("semantic-cache/any", "usd_per_gb_month")
    return Standing(
        "storage", f"{kept.id}: questions and answers in memory", each * kept.most_entries / GIGA, "GB",
        float(price.value), (price.id,),
    )  # fmt: skip


def _written(near: Near, semantic: Semantic, kept: SemanticCache, standing: Standing) -> str:
    """The plan with the cache, its other lines as they were; without a plan a piece to put into one."""
    from isocost.plan.written.certified import inserted, piece
    from isocost.plan.written.file import read

    if near.plan is None:
        return piece(semantic, kept, standing)
    text = near.plan.read_text(encoding="utf-8")
    return inserted(text, read(near.plan), near.workload, (semantic, kept, standing))


def _put_up(
    pairs: Path, found: CacheStudy, asked: Sequence[Asked], near: Near, life_s: float, visits: Visits
) -> None:
    """Write the pairs to grade next behind those that are graded."""
    from isocost.plan.written.certified import requests_of
    from isocost.policy.semantic_pairs import template

    assert near.log is not None
    lines = requests_of(_words(near.log), near.workload, life_s, visits).lines
    text = template(found.to_grade, asked, lines, pairs if pairs.exists() else None)
    with staged(pairs.parent) as place:
        (place / pairs.name).write_text(text, encoding="utf-8")


def measure_cache(trace: Trace, workload: str, pairs: int, to: Path, *, json: bool) -> None:
    """Write pairs of a log's questions to grade, from which a verifier is fitted."""
    from isocost.plan.written.certified import requests_of
    from isocost.plan.written.near import visits_of
    from isocost.policy.semantic_pairs import template
    from isocost.policy.semantic_study import Wanted, first_pairs

    if to.exists():
        raise BadInput(
            "it may hold grades already", where=str(to), fix="Name another file: --outcomes new.csv"
        )
    catalog = load(None)
    at = catalog.at(newest(catalog))
    found = requests_of(trace, workload, _life_s(at, None), visits_of(at))
    with working("finding questions that are alike"):
        some = first_pairs(found.asked, Wanted(labels=pairs))
    with staged(to.parent) as place:
        (place / to.name).write_text(template(some, found.asked, found.lines), encoding="utf-8")
    if json:
        return show_json({"pairs": len(some), "requests": len(found.asked) - found.repeats,
                          "repeats": found.repeats, "unit": found.unit, "units": found.sessions,
                          "wrote": str(to)})  # fmt: skip
    show(Text(f"{len(some):,} pairs of questions to grade, written to {to}", "bold"), "")
    repeats = f" {found.repeats:,} whole repeats are left to an exact cache." if found.repeats else ""
    if found.unit != "request":
        repeats += f" {len(found.asked) - found.repeats:,} requests came in {found.sessions:,} {found.unit}s."
    show(
        wrapped(
            f"Each of {len(some):,} requests beside the most alike of those before it, in the same scope. "
            f"Fill in the column same: 1 where the answer to held would do for asked, else 0.{repeats}"
        ),
        "",
        f"  Next: isocost policy fit {to} --cache --log LOG",
    )
    return None


def _show_study(found: CacheStudy, near: Near, notes: Sequence[str], wrote: Sequence[str]) -> None:
    from isocost.policy.semantic_study import MORE_WRONG, TOO_SMALL

    proven = found.proven
    if proven is None:
        show(Text("Nothing certified: the semantic cache stays off", "bold"))
        show(wrapped(f"{found.why[:1].upper()}{found.why[1:]}."))
    else:
        said = f"{percent(proven.hit_frac)} of requests answered from the cache, at most "
        said += f"{proven.wrong_most_frac:.2%} answered wrong with {percent(proven.confidence)} confidence"
        show(Text(wrapped(said, indent=0), "bold"))
    table = grid(("", "l"), ("requests", "r"), ("hits", "r"), ("wrong", "r"))
    table.add_row("  fitted on", f"{found.fitted:,}", "", "")
    if proven is not None:
        wrong = f"{proven.wrong:,} ({proven.wrong / proven.requests:.2%})"
        table.add_row("  certified on", f"{proven.requests:,}", percent(proven.hit_frac), wrong)
        if found.units:
            table.add_row(f"    of {found.units:,} {found.unit}s", "", "", "")
        wrong = "not graded"
        if proven.later_wrong >= 0:
            wrong = f"{proven.later_wrong:,} ({found.later_wrong_frac:.2%})"
        later = percent(found.later_hit_frac) if found.later_requests else "-"
        table.add_row("  told on later ones", f"{found.later_requests:,}", later, wrong)
    else:
        table.add_row("  to certify on", f"{found.certifying:,}", "", "")
        if found.units:
            table.add_row(f"    of {found.units:,} {found.unit}s", "", "", "")
    show("", table, "")
    show(wrapped(f"{found.labels:,} graded pairs in all. The cache was played as it runs: what it misses is "
                 "kept, what it answers is not."))  # fmt: skip
    if found.units:
        answers = "one answer" if found.most_each == 1 else f"{found.most_each} answers"
        show(wrapped(f"All that one {found.unit} asks counts as one draw, and the cache gives a {found.unit} "
                     f"{answers} at most."))  # fmt: skip
    for note in notes:
        show(wrapped(f"{note[:1].upper()}{note[1:].removesuffix('.')}."))
    if proven is not None:
        show("", f"  Wrote {', '.join(wrote)}")
        if near.plan is None:
            show(
                wrapped("Put it into a plan with --plan plan.toml, then isocost replay LOG --plan plan.toml.")
            )
        else:
            show(f"  Next: isocost replay LOG --plan {near.plan}")
        if found.to_grade and near.log is not None:
            show(
                wrapped(
                    f"More may be certified: fill in the column same of {len(found.to_grade):,} more pairs "
                    f"in {wrote[-1]}, then the same command again."
                )
            )
    elif wrote:
        more = f"{len(found.to_grade):,} more pairs in {wrote[0]}"
        show("", wrapped(f"Next: fill in the column same of {more}, then the same command again."))
    elif found.why == MORE_WRONG or found.why.startswith(TOO_SMALL):
        show("", wrapped("More questions, or a looser --max-wrong, may certify what these do not."))


def read_rules(file: Path) -> tuple[Rule, ...]:
    """Policies with semantic caches, of a plan or of a piece of one.

    Raises:
        BadInput: neither.
    """
    import msgspec

    from isocost.plan.written.file import read
    from isocost.policy.rules import Fixed, Policies, Rule, Semantic

    doc = msgspec.toml.decode(file.read_text(encoding="utf-8"))
    if "basis" in doc:
        return read(file).policies
    part = doc["policy"]["semantic"]
    try:
        rule = Rule(Fixed("-"), semantic=msgspec.convert(part, Semantic))
    except msgspec.ValidationError as wrong:
        raise BadInput(str(wrong), where=str(file)) from None
    return Policies([rule]).rules


def _caches(file: Path) -> Mapping[str, SemanticCache]:
    """Semantic caches of a plan, or of a piece of one, by id."""
    import msgspec

    from isocost.deployment import SemanticCache

    doc = msgspec.toml.decode(file.read_text(encoding="utf-8"))
    parts = [one for one in doc.get("deployment", ()) if one.get("type") == "semantic-cache"]
    try:
        caches = [msgspec.convert(one, SemanticCache) for one in parts]
    except msgspec.ValidationError as wrong:
        raise BadInput(str(wrong), where=str(file)) from None
    return {one.id: one for one in caches}


def plan_rules(file: Path) -> tuple[tuple[Rule, ...], float | None]:
    """Policies of a plan and, where it has none of a workload, its routes; the life of its exact cache."""
    from isocost.deployment import ExactCache
    from isocost.plan.written.file import read
    from isocost.policy.rules import rule_of

    plan = read(file)
    named = {rule.workload for rule in plan.policies}
    routes = () if "*" in named else (r for r in plan.routes if r.workload not in named)
    lives = [one.ttl_s for one in plan.deployments if isinstance(one, ExactCache)]
    return (*plan.policies, *(rule_of(route) for route in routes)), min(lives, default=None)


def holds_caches(text: str) -> bool:
    """Whether a file is a plan, or a piece of one with a semantic cache: policies of 'fit' are neither."""
    import msgspec

    try:
        doc = msgspec.toml.decode(text)
    except msgspec.DecodeError:
        return False
    part = doc.get("policy")
    return "basis" in doc or (isinstance(part, dict) and "semantic" in part)


def check_caches(
    file: Path, rules: Sequence[Rule], version: tuple[str, ...], log: Path | None
) -> dict[str, tuple[str, ...]]:
    """Why certificates of semantic caches lapsed, by workload and cache; empty where they hold."""
    import msgspec

    from isocost.plan.written.certified import drawn_otherwise, drift_p
    from isocost.plan.written.near import named_verifiers, visits_of
    from isocost.policy.semantic_lapse import lapsed

    said = _versions(version, ())
    found: dict[str, tuple[str, ...]] = {}
    verifiers = named_verifiers(rules, file.parent)
    kept = _caches(file)
    trace = None if log is None else _words(log)
    catalog = load(None)
    whole = file if "basis" in msgspec.toml.decode(file.read_bytes()) else None
    at_now = catalog.at(newest(catalog))
    life_s, visits = _life_s(at_now, whole), visits_of(at_now)
    for rule in rules:
        semantic = rule.semantic
        if semantic is None:
            continue
        name = f"{semantic.cache} on {'all requests' if rule.workload == '*' else rule.workload}"
        if semantic.certificate is None:
            found[name] = ("it was never certified",)
            continue
        held = verifiers.get(semantic.verifier)
        p = None
        if trace is not None and held is not None:
            p = drift_p(
                trace,
                rule.workload,
                semantic.certificate,
                held.weights,
                life_s,
                visits,
                kept.get(semantic.cache),
            )
        mine = {model: at for model, at in said.items() if model in semantic.certificate.versions}
        found[name] = lapsed(
            semantic.certificate, verifier=None if held is None else held.digest, versions=mine, drift_p=p
        )
        if trace is not None:
            found[name] += drawn_otherwise(trace, semantic.certificate, visits)
    return found


def show_caches(found: Mapping[str, tuple[str, ...]], rules: Sequence[Rule], *, looked: bool) -> None:
    """What was found of semantic caches."""
    claims = [rule.semantic.certificate for rule in rules if rule.semantic is not None]
    for (name, why), claim in zip(found.items(), claims, strict=True):
        said = "off"
        if claim is not None:
            said = f"at most {claim.wrong_most_frac:.2%} of requests wrong, {percent(claim.hit_frac)} hits, "
            said += f"made {claim.made}, verifier {claim.verifier}"
        show(wrapped(f"{name}: {'off' if why else 'holds'} ({said})"))
        for reason in why:
            show(wrapped(reason, "- ", 6))
    if found and not looked:
        show("", wrapped("Whether questions are as they were was not looked at: name newer ones, --log LOG."))
