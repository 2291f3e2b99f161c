"""Names that can be asked about, and the functions that answer: the same that a plan executes.

``PROVIDER/MODEL.usd_per_request`` · ``self/MODEL@NxGPU.QUANTITY`` · ``MODEL.quality`` ·
``OPTION.staff_usd_per_month`` · the id of a fact.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, time
from math import prod
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np

from isocost.bill import Usage, price
from isocost.catalog import CatalogAt, Fact
from isocost.catalog.evidence import may_replace, non_inferior, score_difference
from isocost.catalog.names import resolve
from isocost.deployment import rent
from isocost.errors import BadInput, UnknownFact, UnknownPrice
from isocost.finance import replica_usd_per_month, usd_per_mtok
from isocost.keep.people import STAFF
from isocost.keep.standing import Standings
from isocost.perf import Candidates, StepTerms, candidates, closed_form, gpu_id_of, model_id_of
from isocost.perf.arch import SHAPE
from isocost.perf.constants import cases_of, facts_of, stack_of
from isocost.perf.memory import cache_bytes_per_tok, cache_capacity_tok, weight_bytes
from isocost.perf.roofline import decode_step_s, prefill_s
from isocost.plan.sizing import Need, limits_of
from isocost.size.calibrated import condition
from isocost.size.speed import loaded, speed_of
from isocost.units import SECONDS_PER_H
from isocost.why.develop import FORM, of_making
from isocost.why.formula import Leaf, Node, explain, fact_node

ENGINE = "vllm"
"""The engine whose constants a replica is explained with: the default of its candidates."""
FORMS = (
    "openai/gpt-4o.usd_per_request, self/llama-3.3-70b@4xh100-sxm.usd_per_mtok, llama-3.3-70b.quality, "
    "selfhost.staff_usd_per_month, plan.api-tokens, "
    f"{FORM}, or a fact as 'isocost catalog show' names it"
)


class Asked(NamedTuple):
    """The request, and what a model is compared with. Limits blank: the catalog's."""

    input_tok: int
    output_tok: int
    cached_tok: int = 0
    tier: str = "standard"
    today: str = ""
    ttft_p95_s: float | None = None
    tpot_p95_s: float | None = None


def why(at: CatalogAt, name: str, asked: Asked) -> Node:
    """The tree of a named number.

    Raises:
        UnknownFact: nothing is called so; the forms that names take are given.
        BadInput: the name asks for a comparison and nothing to compare with is given.
    """
    subject, _, quantity = name.rpartition(".")
    if subject.startswith("self/"):
        return _of_pool(at, subject, quantity, asked)
    if subject.startswith("develop/") and subject.count("@") == 1:
        return of_making(at, subject, quantity)
    if quantity == "usd_per_request":
        return _usd_per_request(at, subject, asked)
    if quantity == "quality":
        return _quality(at, subject, asked)
    if quantity == "staff_usd_per_month":
        return _staff(at, subject)
    return fact_node(fact_of(at, name), name)


def fact_of(at: CatalogAt, name: str) -> Fact:
    """The fact that an id names; without its date, the one in force.

    Raises:
        UnknownFact: none is called so; near ones are named.
    """
    cuts = [i for i, letter in enumerate(name) if letter == "." and at.catalog.keys(name[:i])]
    for cut in reversed(cuts):
        found = re.fullmatch(r"([^\[@]+)(?:\[(.*)\])?(?:@([\d-]+))?", name[cut + 1 :])
        if found is None:
            continue
        subject, attribute, when, since = name[:cut], found[1], found[2] or "", found[3]
        if since is None:
            return at.fact(subject, attribute, when)
        for fact in at.catalog.history(subject, attribute, when):
            if fact.id == name:
                return fact
    whole = name.partition("[")[0].partition("@")[0]
    subjects = sorted(at.catalog.subjects())
    near = difflib.get_close_matches(whole.rpartition(".")[0] or whole, subjects, n=3, cutoff=0.6)
    raise UnknownFact(
        f"nothing is called {name!r}",
        fix=f"Near: {', '.join(near)}. Names: {FORMS}" if near else f"Names: {FORMS}",
    )


def mtok_per_month(
    goodput_per_s: float, input_tok: float, output_tok: float, hours_per_month: float
) -> float:
    """Tokens a month, in and out, of one replica that is always at its goodput.

    >>> mtok_per_month(1.0, 900.0, 100.0, 1.0)
    3.6
    """
    return goodput_per_s * SECONDS_PER_H * hours_per_month * (input_tok + output_tok) / 1e6


def _usd_per_request(at: CatalogAt, name: str, asked: Asked) -> Node:
    offering = resolve(at, name)
    usage = Usage(input_tok=asked.input_tok, cached_tok=asked.cached_tok, output_tok=asked.output_tok)
    moment = datetime.combine(at.on, time(12), UTC)
    priced = price(at.catalog, offering, usage, moment, asked.tier)
    if priced.status == "unpriced":
        raise UnknownPrice(priced.why, where=offering.id)
    facts = {
        fact.id: fact
        for subject in (offering.subject, f"provider/{offering.provider}")
        for fact in at.catalog.about(subject)
    }
    inputs: list[Node] = []
    parts: list[str] = []
    for line in priced.lines:
        unit = "Mtok" if line.per > 1 else "unit"
        amount, unit_price = (
            f"{line.meter}_{'tok' if line.per > 1 else 'count'}",
            f"{line.meter}_usd_per_{unit.lower()}",
        )
        inputs.append(
            Node(
                amount, float(line.quantity), "tok" if line.per > 1 else "", how="of the request asked about"
            )
        )
        inputs.append(
            _product(unit_price, float(line.unit_price), f"USD/{unit}", [facts[one] for one in line.facts])
        )
        parts.append(f"{amount} * {unit_price}" + (f" / {line.per}" if line.per > 1 else ""))
    return Node(
        f"{offering.id}.usd_per_request",
        float(priced.usd),
        "USD",
        " + ".join(parts),
        priced.why,
        tuple(inputs),
    )


def _product(name: str, value: float, unit: str, facts: list[Fact]) -> Node:
    """A price as the product of a listed one and the rules that change it; one fact stands for itself."""
    if len(facts) == 1:
        return Node(name, value, unit, facts=(facts[0].id,))
    names = [f"listed_{name}", *(fact.attribute for fact in facts[1:])]
    names = [one if one not in names[:i] else f"{one}_{i}" for i, one in enumerate(names)]
    nodes = tuple(fact_node(fact, called) for fact, called in zip(facts, names, strict=True))
    return Node(name, value, unit, " * ".join(names), "", nodes)


class _Pool(NamedTuple):
    """One replica: its candidate, its limits, and where its numbers come from."""

    at: CatalogAt
    candidate: Candidates
    gpu: str
    model: str
    asked: Asked
    limits_s: tuple[float, float]

    def _constant(self, field: str) -> tuple[str, ...]:
        """The facts that a constant of the physics is made of, for this replica."""
        one = self.candidate
        precision = one.precisions[int(one.precision[0])]
        stack = stack_of(self.at, ENGINE)
        (case,) = cases_of(self.at, [self.gpu], [precision], one.arch, one.setup, [stack])
        return tuple(fact.id for fact in facts_of(self.at, case, field))

    def leaf(self, argument: str, field: str) -> Leaf:
        """Where an argument's field comes from."""
        at, precision = self.at, self.candidate.precisions[int(self.candidate.precision[0])]
        if argument == "arch":
            about = at.catalog.about(f"model/{self.model}")
            shapes = tuple(fact.id for fact in about if fact.attribute in SHAPE.split())
            return Leaf(how=f"sum over the layers of {self.model}", facts=shapes)
        if argument == "k":
            made = self._constant(field)
            return Leaf(how="" if made else "not used in this layout", facts=made)
        if argument in ("gpu", "setup"):
            kind = {"dense": precision.dense, "expert": precision.experts, "cache": precision.cache}.get(
                field.partition("_")[0], "bf16"
            )
            if field.endswith("flop_per_s"):
                kind = (
                    field.partition("_")[0] if argument == "gpu" else at.text(f"dtype/{kind}", "computes_as")
                )
                found = at.find(f"gpu/{self.gpu}", "peak_flop_per_s", f"dtype={kind}")
                found = found or at.fact(f"gpu/{self.gpu}", "peak_flop_per_s", "dtype=bf16")
                return Leaf("FLOP/s", facts=(found.id,))
            if argument == "gpu":
                return Leaf(facts=(at.fact(f"gpu/{self.gpu}", field).id,))
            if field in ("tp", "pp", "dp"):
                return Leaf(how="the layout asked about")
            return Leaf("bytes", facts=(at.fact(f"dtype/{kind}", "bytes_per_element").id,))
        if argument == "drafts_tok":
            return Leaf(how="none are drafted")
        return Leaf(how="of the request asked about" if argument in ("input_tok", "output_tok") else "")


def _of_pool(at: CatalogAt, subject: str, quantity: str, asked: Asked) -> Node:
    found = re.fullmatch(r"self/(.+)@(\d+)x([^:]+?)(-ep)?(?::(\w+))?", subject)
    if found is None:
        raise UnknownFact(f"nothing is called {subject!r}", fix=f"Names: {FORMS}")
    model, gpu = model_id_of(at, found[1]), gpu_id_of(at, found[3])
    every = candidates(at, model, (gpu,), context_tok=float(asked.input_tok + asked.output_tok))
    wanted = (every.gpus == int(found[2])) & ((every.setup.dp > 1) == bool(found[4]))
    wanted &= every.is_native != bool(found[5])
    if not wanted.any():
        known = ", ".join(sorted(every.name(i) for i in range(every.size)))
        raise UnknownFact("no such layout fits", where=subject, fix=f"Those that fit: {known}")
    need = Need(0.0, asked.input_tok, asked.output_tok, asked.ttft_p95_s, asked.tpot_p95_s)
    pool = _Pool(at, every.select(np.flatnonzero(wanted)[:1]), gpu, model, asked, limits_of(at, need))
    build = QUANTITIES.get(quantity)
    if build is None:
        raise UnknownFact(f"no quantity {quantity!r} of a replica", fix=f"Known: {', '.join(QUANTITIES)}")
    node = build(pool)
    return Node(
        f"{subject}.{quantity}", node.value, node.unit, node.formula, node.how, node.inputs, node.facts
    )


def _physics(pool: _Pool, function: Callable[..., Any], **plain: float) -> Node:
    """A function of the performance model at the pool's shapes."""
    one = pool.candidate
    whole = {"arch": one.arch, "gpu": one.gpu, "setup": one.setup, "k": one.constants, **plain}
    names = function.__code__.co_varnames[: function.__code__.co_argcount]
    return explain(function, {name: whole[name] for name in names}, pool.leaf)


def _mean_context_tok(pool: _Pool) -> float:
    return pool.asked.input_tok + 0.5 * pool.asked.output_tok


def _loaded(pool: _Pool) -> tuple[float, StepTerms]:
    one, asked = pool.candidate, pool.asked
    when = condition("vllm", int(one.gpus[0]), one.precisions[one.precision[0]].experts)
    speed = speed_of(pool.at, [(pool.model, pool.gpu, when)])
    isl, osl = float(asked.input_tok), float(asked.output_tok)
    rate, terms, _ = loaded(lambda running: one.terms(isl, osl, running), speed, (isl, osl), pool.limits_s)
    return float(rate[0]), terms


def _goodput_per_s(pool: _Pool) -> Node:
    rate, terms = _loaded(pool)
    facts = _physics(pool, decode_step_s, batch=1.0, context_tok=_mean_context_tok(pool)).all_facts()
    how = "the roofline as a line through its operating range, moved to what was measured"
    inputs = [
        Node(field, float(getattr(terms, field)[0]), unit, how=how, facts=facts)
        for field, unit in (
            ("base_s", "s"),
            ("prefill_s_per_tok", "s/tok"),
            ("seq_s", "s"),
            ("kv_s_per_tok", "s/tok"),
            ("first_token_s", "s"),
        )
    ]
    inputs.append(_cache_capacity_tok(pool))
    for name, value in zip(("ttft_limit_s", "tpot_limit_s"), pool.limits_s, strict=True):
        inputs.append(Node(name, value, "s", how="the limit"))
    inputs += _lengths(pool)
    return Node(
        "goodput_per_s", rate, "request/s", inputs=tuple(inputs),
        how="the greatest rate that keeps both limits on one replica, by bisection",
    )  # fmt: skip


def _lengths(pool: _Pool) -> list[Node]:
    how = "of the request asked about"
    return [
        Node("input_tok", float(pool.asked.input_tok), "tok", how=how),
        Node("output_tok", float(pool.asked.output_tok), "tok", how=how),
    ]


def _usd_per_month(pool: _Pool) -> Node:
    gpus = int(pool.candidate.gpus[0])
    quote = rent(pool.at, pool.gpu, "on_demand", gpus)
    if quote is None:
        raise UnknownPrice(f"no on-demand rent of {gpus} x {pool.gpu} on {pool.at.on}")
    hours = pool.at.fact("finance/any", "hours_per_month")
    given = {
        "gpus": Node("gpus", float(gpus), how="the layout asked about"),
        "usd_per_gpu_h": Node("usd_per_gpu_h", quote.usd_per_gpu_h, "USD/h", facts=(quote.fact.id,)),
        "hours_per_month": fact_node(hours),
    }
    return _explained(replica_usd_per_month, given)


def _usd_per_mtok(pool: _Pool) -> Node:
    month = _usd_per_month(pool)
    carried = {
        "goodput_per_s": _goodput_per_s(pool),
        **{node.name: node for node in _lengths(pool)},
        "hours_per_month": fact_node(pool.at.fact("finance/any", "hours_per_month")),
    }
    tokens = _explained(mtok_per_month, carried)
    return _explained(usd_per_mtok, {"usd_per_month": month, "mtok_per_month": tokens})


def _explained(function: Callable[..., float], given: Mapping[str, Node]) -> Node:
    """A function of plain numbers, each explained already."""
    values = {name: node.value for name, node in given.items()}
    renamed = {
        name: Node(name, node.value, node.unit, node.formula, node.how, node.inputs, node.facts)
        for name, node in given.items()
    }
    return explain(function, values, lambda _argument, _field: Leaf(), given=renamed)


def _cache_capacity_tok(pool: _Pool) -> Node:
    return _physics(pool, cache_capacity_tok, context_tok=_mean_context_tok(pool))


def _decode_step_s(pool: _Pool) -> Node:
    rate, terms = _loaded(pool)
    steady = closed_form(terms, pool.asked.input_tok, pool.asked.output_tok, rate)
    # At its goodput a replica may be full: then as many run as the line was laid for.
    running = float(steady.running[0]) if np.isfinite(steady.running[0]) else float(terms.batch_high[0])
    running = max(1.0, round(running, 1))
    return _physics(pool, decode_step_s, batch=running, context_tok=_mean_context_tok(pool))


QUANTITIES: Mapping[str, Callable[[_Pool], Node]] = {
    "usd_per_mtok": _usd_per_mtok,
    "usd_per_month": _usd_per_month,
    "goodput_per_s": _goodput_per_s,
    "weight_bytes": lambda pool: _physics(pool, weight_bytes),
    "cache_bytes_per_tok": lambda pool: _physics(
        pool, cache_bytes_per_tok, context_tok=_mean_context_tok(pool)
    ),
    "cache_capacity_tok": _cache_capacity_tok,
    "decode_step_s": _decode_step_s,
    "prefill_s": lambda pool: _physics(pool, prefill_s, tokens=float(pool.asked.input_tok)),
}
"""What can be asked of a replica."""


def _quality(at: CatalogAt, name: str, asked: Asked) -> Node:
    """The lower bound of a quality difference, which a plan compares with minus the margin."""
    if not asked.today:
        raise BadInput("nothing to compare with", where=f"{name}.quality", fix="Add --today openai/gpt-4o")
    model, today = _serves(at, name), _serves(at, asked.today)
    margin, confidence = (
        at.fact("slo/quality", "quality_margin_frac"),
        at.fact("slo/quality", "quality_confidence_frac"),
    )
    verdict = may_replace(at, model, today, float(margin.value), float(confidence.value))
    compared = score_difference(at, model, today)
    if not compared:
        raise UnknownFact(
            f"{model} and {today} share no benchmark in one harness",
            fix="Give scores of your own as facts: --facts DIR",
        )
    assert non_inferior(compared, float(margin.value), float(confidence.value)).lower == verdict.lower
    each = [
        Node(
            f"difference_{i}", one.difference, "", "candidate_score - today_score",
            f"{one.benchmark} in {one.harness}, {one.n_questions:,} questions",
            (
                Node("candidate_score", one.candidate_score, facts=(one.facts[0],)),
                Node("today_score", one.today_score, facts=(one.facts[1],)),
            ),
        )
        for i, one in enumerate(compared, 1)
    ]  # fmt: skip
    errors = [
        Node(
            f"se_{i}", one.se, how="standard error of two independent shares of that many questions",
            facts=(one.facts[2],),
        )
        for i, one in enumerate(compared, 1)
    ]  # fmt: skip
    n = len(compared)
    difference = Node(
        "difference",
        verdict.difference,
        "",
        f"({' + '.join(node.name for node in each)}) / {n}",
        "",
        tuple(each),
    )
    se = Node(
        "se",
        verdict.se,
        "",
        f"sqrt({' + '.join(f'{node.name} ** 2' for node in errors)}) / {n}",
        "",
        tuple(errors),
    )
    z = Node(
        "z", NormalDist().inv_cdf(float(confidence.value)), how="of a one-sided test", facts=(confidence.id,)
    )
    standing = "passes" if verdict.passes else "fails"
    said = f"{standing} (margin {100 * float(margin.value):g} pt): {verdict.reason}"
    return Node(
        f"{model}.quality",
        verdict.lower,
        "",
        "difference - z * se",
        f"{said}, against {today}",
        (difference, z, se),
    )


def _serves(at: CatalogAt, name: str) -> str:
    """The model behind a name: an id of weights, or what an offering serves."""
    if name in at.catalog.subjects() or f"model/{name}" in at.catalog.subjects():
        return name.removeprefix("model/")
    return resolve(at, name).serves


def _staff(at: CatalogAt, option: str) -> Node:
    """People who run an option of one model on one replica's GPU, as a plan counts them."""
    if option not in STAFF:
        raise UnknownFact(f"no option {option!r}", fix=f"Known: {', '.join(STAFF)}")
    lines = Standings(at).people(option, 1, 1.0, 0.0)
    months = at.fact("finance/any", "months_per_year")
    parts = []
    for line in lines:
        facts = [fact_of(at, ident) for ident in line.facts]
        count = line.usd_per_month * float(months.value) / prod(float(fact.value) for fact in facts)
        factors = (
            Node("count", round(count, 12), how="models, or GPUs, that it is counted for"),
            *(fact_node(fact) for fact in facts),
            fact_node(months),
        )
        formula = " * ".join(node.name for node in factors[:-1]) + f" / {factors[-1].name}"
        name = re.sub(r"\W+", "_", line.what)
        parts.append(Node(name, line.usd_per_month, "USD/month", formula, "", factors))
    total = sum(part.value for part in parts)
    formula = " + ".join(part.name for part in parts)
    return Node(f"{option}.staff_usd_per_month", total, "USD/month", formula, "", tuple(parts))
