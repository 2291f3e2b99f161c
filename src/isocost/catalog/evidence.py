"""What published scores prove about swapping one model for another, and how its tokens convert.

Quality is never assumed. A candidate may replace today's model only where scores of both, on the
same benchmark **and** the same harness, show that it is not worse by more than a margin (a
one-sided test of non-inferiority). Wide or missing evidence fails. Facts read: ``model/*.score``,
``benchmark/*.n_questions`` and ``.domain``.

Tokens belong to the model that produced them. :func:`input_ratio` converts input tokens by the
two tokenizers, :func:`output_ratio` output tokens by the two models' verbosity; both answer with an
interval, and say ``known=False`` where they fell back on the wide default facts
(``tokenizer/unknown``, ``model/unknown``). Pure functions of a catalog on a date; no I/O.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from statistics import NormalDist, fmean

import msgspec

from isocost.catalog.catalog import CatalogAt
from isocost.catalog.fact import Fact, parse_when
from isocost.errors import BadFact, BadInput

UNKNOWN = "unknown"
"""The id whose facts are the wide defaults (``tokenizer/unknown``, ``model/unknown``)."""


class Comparison(msgspec.Struct, frozen=True):
    """Two models on one benchmark in one harness.

    Scores are shares in [0, 1]; ``difference`` is candidate − today; ``se`` its standard error,
    from the number of questions, unpaired (published scores do not say which questions were right).
    ``facts`` are the ids of the facts read.
    """

    benchmark: str
    harness: str
    domain: str
    n_questions: int
    candidate_score: float
    today_score: float
    difference: float
    se: float
    facts: tuple[str, ...]


class Verdict(msgspec.Struct, frozen=True):
    """Whether the candidate may replace today's model, and why in words.

    ``difference`` and ``se`` are the pooled ones, ``lower`` and ``upper`` the one-sided bounds, all
    as shares; NaN where nothing could be compared.
    """

    passes: bool
    reason: str
    difference: float
    se: float
    lower: float
    upper: float
    n_benchmarks: int
    n_questions: int


class Interval(msgspec.Struct, frozen=True):
    """A ratio with its central 80 % interval; ``known`` is false where a default widened it.

    ``facts`` are the ids of the facts that it was computed from.
    """

    low: float
    mid: float
    high: float
    known: bool
    facts: tuple[str, ...]


def score_difference(
    catalog_at: CatalogAt, candidate: str, today: str, *, domains: Collection[str] | None = None
) -> list[Comparison]:
    """Every benchmark on which both models have a score in one harness, in the order of their names.

    A benchmark counts once: of several harnesses (the releases of a leaderboard share questions) the one
    with the most questions is taken, of equals the last by name, whatever the scores.

    ``candidate`` and ``today`` are model ids (``gpt-4o`` or ``model/gpt-4o``); ``domains`` keeps only
    benchmarks of these kinds of work (``rag``, ``knowledge``, ``code`` …). A model against itself
    differs by exactly zero, with no error.

    Raises:
        UnknownFact: a score whose benchmark does not state its number of questions.
        BadFact: a score that is not a share, or fewer than one question.
    """
    ours, theirs = _scores(catalog_at, candidate), _scores(catalog_at, today)
    same = _subject(candidate) == _subject(today)
    found: dict[str, Comparison] = {}
    for key in sorted(ours.keys() & theirs.keys()):
        benchmark, harness = key
        domain = catalog_at.find(f"benchmark/{benchmark}", "domain")
        kind = str(domain.value) if domain is not None else ""
        if domains is not None and kind not in domains:
            continue
        size = catalog_at.fact(f"benchmark/{benchmark}", "n_questions", f"harness={harness}")
        n = int(_number(size))
        one, two = _share(ours[key]), _share(theirs[key])
        se = 0.0 if same else standard_error(one, two, n)
        facts = (ours[key].id, theirs[key].id, size.id)
        if benchmark not in found or n >= found[benchmark].n_questions:
            found[benchmark] = Comparison(benchmark, harness, kind, n, one, two, one - two, se, facts)
    return list(found.values())


def standard_error(one: float, two: float, n_questions: int) -> float:
    """Standard error of the difference of two shares of ``n_questions`` each, unpaired.

    ``sqrt(p(1-p)/n + q(1-q)/n)``, each share pulled to one half by one success and one failure
    (Agresti and Caffo 2000), so that a perfect score does not look certain. For scores that are
    partial credits in [0, 1] it is an upper bound.

    >>> round(standard_error(0.5, 0.5, 200), 4)
    0.05
    >>> standard_error(1.0, 1.0, 50) > 0
    True
    """
    if n_questions < 1:
        raise BadFact(f"{n_questions} questions", where="n_questions", fix="State at least 1")
    variance = 0.0
    for share in (one, two):
        p = (share * n_questions + 1) / (n_questions + 2)
        variance += p * (1 - p) / n_questions
    return math.sqrt(variance)


def non_inferior(
    comparisons: Sequence[Comparison],
    margin: float,
    confidence: float = 0.95,
    *,
    domains: Iterable[str] = (),
    min_domains: int = 1,
) -> Verdict:
    """Test that the candidate is not worse than today's model by more than ``margin`` (a share).

    Each benchmark counts once: it stands for a kind of work, and weighing by questions would let the
    largest exam hide a loss elsewhere. Passes only if the one-sided lower bound of the mean
    difference is at least −margin, and no single benchmark proves a loss (its one-sided upper bound
    is below −margin). ``domains`` names kinds of work that must each have a shared benchmark, and
    ``min_domains`` is how many kinds there must be at all.

    Raises:
        BadInput: a negative margin, or a confidence outside (0.5, 1).
    """
    if not margin >= 0:
        raise BadInput(f"margin {margin}", where="quality margin", fix="Write a share, as 0.02")
    if not 0.5 < confidence < 1:
        raise BadInput(f"confidence {confidence}", where="quality test", fix="Write a share, as 0.95")
    missing = sorted(set(domains) - {each.domain for each in comparisons})
    if not comparisons or missing:
        about = f" on {', '.join(missing)}" if missing and comparisons else ""
        return Verdict(False, f"no shared benchmark{about}", *(math.nan,) * 4, 0, 0)
    z = NormalDist().inv_cdf(confidence)
    difference = fmean(each.difference for each in comparisons)
    se = math.sqrt(math.fsum(each.se**2 for each in comparisons)) / len(comparisons)
    lower, upper = difference - z * se, difference + z * se
    plural = "" if len(comparisons) == 1 else "s"
    kinds = sorted({each.domain for each in comparisons})
    words = f"{100 * difference:+.1f} +/- {100 * z * se:.1f} pt on {len(comparisons)} benchmark{plural}"
    lost = [each for each in comparisons if each.difference + z * each.se < -margin]
    passes = not lost and lower >= -margin and len(kinds) >= min_domains
    if lost:
        worst = min(lost, key=lambda each: each.difference)
        words += f"; proven loss on {worst.benchmark} ({100 * worst.difference:+.1f} pt)"
    elif lower < -margin:
        words += f"; could be worse by more than {100 * margin:g} pt"
    elif not passes:
        words += f"; only shown for {', '.join(kinds)}"
    questions = sum(each.n_questions for each in comparisons)
    return Verdict(passes, words, difference, se, lower, upper, len(comparisons), questions)


def may_replace(
    catalog_at: CatalogAt,
    candidate: str,
    today: str,
    margin: float,
    confidence: float = 0.95,
    *,
    domains: Collection[str] = (),
) -> Verdict:
    """The whole question at once: the same model always may; another needs proof.

    With ``domains``, only benchmarks of these kinds of work count, and each kind needs one. Without,
    the kind of the workload is unknown, and proof is asked on as many kinds as
    ``slo/quality.min_domains`` says: one benchmark shows one kind of work.

    Raises:
        UnknownFact: the catalog lacks ``slo/quality.min_domains`` or a benchmark's size.
    """
    if _subject(candidate) == _subject(today):
        return Verdict(True, "same model", 0.0, 0.0, 0.0, 0.0, 0, 0)
    shared = score_difference(catalog_at, candidate, today, domains=domains or None)
    kinds = 1 if domains else int(catalog_at.number("slo/quality", "min_domains"))
    return non_inferior(shared, margin, confidence, domains=domains, min_domains=kinds)


def quantised_recovery(catalog_at: CatalogAt, model: str, dtype: str) -> Interval:
    """Score of a model at ``dtype`` (fp8, int8, int4, fp4) over that of its published weights.

    The model's own measurement, else the default of ``model/unknown`` with ``known=False``.

    Raises:
        UnknownFact: nothing is known of that precision.
    """
    when = f"dtype={dtype}"
    own = catalog_at.find(_subject(model), "quantised_recovery_frac", when)
    used = own or catalog_at.fact(f"model/{UNKNOWN}", "quantised_recovery_frac", when)
    low, high = _bounds(used)
    return Interval(low, _number(used), high, own is not None, (used.id,))


def may_quantise(catalog_at: CatalogAt, model: str, dtype: str, margin: float) -> Verdict:
    """Whether a model may be served at ``dtype`` instead of its published precision.

    Passes where the low end of what it keeps is at least 1 − ``margin``. Precision and model swaps are
    judged apart: a swapped and quantised model needs both verdicts.

    Raises:
        UnknownFact: nothing is known of that precision.
    """
    kept = quantised_recovery(catalog_at, model, dtype)
    words = f"{dtype} keeps {100 * kept.mid:.1f} % ({100 * kept.low:.1f} to {100 * kept.high:.1f})"
    passes = kept.low >= 1 - margin
    if not passes:
        words += f"; could lose more than {100 * margin:g} %"
    return Verdict(passes, words, kept.mid - 1, math.nan, kept.low - 1, kept.high - 1, 0, 0)


def input_ratio(catalog_at: CatalogAt, from_model: str, to_model: str, content: str = "mixed") -> Interval:
    """Input tokens of ``to_model`` for one input token of ``from_model``, on the same text.

    Exactly 1 where both use one tokenizer. ``content`` is prose, code, math, json or mixed.

    Raises:
        UnknownFact: the catalog holds no ratio of a tokenizer for that content, not even the default.
    """
    source, target = _tokenizer(catalog_at, from_model), _tokenizer(catalog_at, to_model)
    if _subject(from_model) == _subject(to_model):
        return Interval(1.0, 1.0, 1.0, True, ())
    named = tuple(fact.id for fact in (source, target) if fact is not None)
    if source is not None and target is not None and source.value == target.value:
        return Interval(1.0, 1.0, 1.0, True, named)
    ratios = [
        catalog_at.fact(
            f"tokenizer/{UNKNOWN if fact is None else fact.value}", "ratio_to_o200k", f"content={content}"
        )
        for fact in (source, target)
    ]
    low, mid, high = _quotient(ratios[1], ratios[0])
    known = source is not None and target is not None
    return Interval(low, mid, high, known, named + tuple(fact.id for fact in ratios))


def tok_per_char(catalog_at: CatalogAt, model: str, content: str = "prose") -> Interval:
    """Tokens that a character of text becomes with the model's tokenizer, for logs that hold only text.

    Counted for the tokenizer where the catalog holds it; else o200k's count times the ratio of the two,
    with ``known`` as that of the ratio. ``content`` is prose, code, math or json.

    Raises:
        UnknownFact: no count for that content.
    """
    named = _tokenizer(catalog_at, model)
    counted = None
    if named is not None:
        counted = catalog_at.find(f"tokenizer/{named.value}", "tok_per_char", f"content={content}")
    if named is not None and counted is not None:
        low, high = _bounds(counted)
        return Interval(low, _number(counted), high, True, (named.id, counted.id))
    base = catalog_at.fact("tokenizer/o200k", "tok_per_char", f"content={content}")
    name = UNKNOWN if named is None else named.value
    ratio = catalog_at.fact(f"tokenizer/{name}", "ratio_to_o200k", f"content={content}")
    (least, most), (low, high) = _bounds(base), _bounds(ratio)
    span = _product((least, _number(base), most), (low, _number(ratio), high))
    return Interval(*span, named is not None, (base.id, ratio.id))


def output_ratio(
    catalog_at: CatalogAt, from_model: str, to_model: str, content: str | None = None
) -> Interval:
    """Output tokens of ``to_model`` for one output token of ``from_model``, on the same task.

    From verbosity ratios that both models have on the same tasks (``when`` gives basis, content and
    reference); several are averaged on the log scale, and their disagreement widens the interval.
    A ratio of texts is converted to tokens by the two tokenizers; a ratio of billed tokens needs
    none. ``content`` keeps only tasks of one kind where there are any. Without shared tasks a
    default interval of ``model/unknown`` answers, with ``known=False``: another one where the two
    differ in whether they think before they answer (``thinks``), for thinking is billed as output.

    Raises:
        UnknownFact: the default is missing from the catalog.
    """
    if _subject(from_model) == _subject(to_model):
        return Interval(1.0, 1.0, 1.0, True, ())
    ours, theirs = _verbosity(catalog_at, to_model), _verbosity(catalog_at, from_model)
    shared = sorted(ours.keys() & theirs.keys())
    of_kind = [when for when in shared if content is not None and parse_when(when).get("content") == content]
    shared = of_kind or shared
    if not shared:
        return _usual_output_ratio(catalog_at, from_model, to_model)
    tokens = input_ratio(catalog_at, from_model, to_model)
    parts = [_quotient(ours[when], theirs[when]) for when in shared]
    facts = tuple(fact.id for when in shared for fact in (ours[when], theirs[when]))
    known = True
    for index, when in enumerate(shared):
        if parse_when(when).get("basis") == "text":
            parts[index] = _product(parts[index], (tokens.low, tokens.mid, tokens.high))
            known = known and tokens.known
    mid = math.exp(fmean(math.log(part[1]) for part in parts))
    # one task kind does not bound another, so the interval covers every kind's own
    low, high = min(part[0] for part in parts), max(part[2] for part in parts)
    return Interval(low, mid, high, known, facts + tokens.facts)


def _usual_output_ratio(catalog_at: CatalogAt, from_model: str, to_model: str) -> Interval:
    """The default by whether the two models think: it is named in ``ref`` of the default's qualifier."""
    source, target = (catalog_at.find(_subject(model), "thinks") for model in (from_model, to_model))
    if source is None or target is None:
        against = "any"
    else:
        against = "alike" if source.value == target.value else "without-thinking"
    default = catalog_at.fact(
        f"model/{UNKNOWN}", "verbosity_ratio", f"basis=tokens;content=any;ref={against}"
    )
    low, high = _bounds(default)
    mid = _number(default)
    if against == "without-thinking" and source is not None and source.value == "true":
        low, mid, high = 1 / high, 1 / mid, 1 / low
    named = tuple(fact.id for fact in (source, target) if fact is not None)
    return Interval(low, mid, high, False, (*named, default.id))


def _subject(model: str) -> str:
    return model if model.startswith("model/") else f"model/{model}"


def _in_force(catalog_at: CatalogAt, model: str, attribute: str) -> dict[str, Fact]:
    subject = _subject(model)
    whens = {fact.when for fact in catalog_at.catalog.about(subject) if fact.attribute == attribute}
    found = {when: catalog_at.find(subject, attribute, when) for when in whens}
    return {when: fact for when, fact in found.items() if fact is not None}


def _scores(catalog_at: CatalogAt, model: str) -> dict[tuple[str, str], Fact]:
    """Scores by (benchmark, harness). A score with further qualifiers is of another configuration."""
    found: dict[tuple[str, str], Fact] = {}
    for when, fact in _in_force(catalog_at, model, "score").items():
        parts = parse_when(when)
        if parts.keys() == {"benchmark", "harness"}:
            found[parts["benchmark"], parts["harness"]] = fact
    return found


def _verbosity(catalog_at: CatalogAt, model: str) -> dict[str, Fact]:
    return _in_force(catalog_at, model, "verbosity_ratio")


def _tokenizer(catalog_at: CatalogAt, model: str) -> Fact | None:
    return catalog_at.find(_subject(model), "tokenizer")


def _number(fact: Fact) -> float:
    if isinstance(fact.value, str):
        raise BadFact(f"{fact.value!r} is not a number", where=fact.id)
    return fact.value


def _share(fact: Fact) -> float:
    value = _number(fact)
    if not 0 <= value <= 1:
        raise BadFact(f"a score of {value}", where=fact.id, fix="Write a share between 0 and 1")
    return value


def _bounds(fact: Fact) -> tuple[float, float]:
    value = _number(fact)
    if fact.low is None or fact.high is None or not 0 < fact.low <= value <= fact.high:
        raise BadFact("a ratio without 0 < low <= value <= high", where=fact.id)
    return fact.low, fact.high


def _quotient(over: Fact, under: Fact) -> tuple[float, float, float]:
    """Interval of a ratio of two independent positive quantities, errors added on the log scale."""
    (low, high), (least, most) = _bounds(over), _bounds(under)
    top, bottom = _number(over), _number(under)
    return _product((low, top, high), (1 / most, 1 / bottom, 1 / least))


def _product(one: tuple[float, float, float], two: tuple[float, float, float]) -> tuple[float, float, float]:
    mid = one[1] * two[1]
    down = math.hypot(math.log(one[1] / one[0]), math.log(two[1] / two[0]))
    up = math.hypot(math.log(one[2] / one[1]), math.log(two[2] / two[1]))
    return mid * math.exp(-down), mid, mid * math.exp(up)
