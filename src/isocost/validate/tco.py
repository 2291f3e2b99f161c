"""Our arithmetic of total cost against published break-evens, bills, capacities and prices of tokens.

A file has the columns of ``COLUMNS``, and may have ``OTHERS``: one published figure a row, its inputs as
JSON, and the tolerance within which it must come out again. Figures are read as people write them
(``isocost.validate.written``). A row passes where ours is within its tolerance of the published
figure, or is the same at the digits printed. Inputs that a row does not repeat are its publication's: of rows
above it with its ``case_id``, else of any of it, or of its ``ref``, that agree.

A published figure that contradicts its own inputs is flagged by name. That is a finding about the
publication, so it is claimed only where the formula is sure: a product or a quotient of the row's own
inputs (``exact``) that has no other reading, or one that reproduces at least ``SURE_ROWS`` other rows of the
same publication and ``SURE_FRAC`` of them. Of those, where its inputs say all that it uses (``plain``), rows
that are off by the same factor as the row itself are one mistake with it. What the file's author got from
the same inputs (``reproduced_here``) tells too, where it is our figure and not the published one. Anything
else that misses is our failure. A row is left out only by a named rule.

Where the inputs of a row have several readings (a price of one accelerator or of all of them), it is read as
most other rows of its publication come out, whatever its own figure; else by the first of ``RULES``.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from isocost.catalog import Catalog
from isocost.catalog.catalog import CatalogAt
from isocost.errors import IsocostError, UnknownFact
from isocost.finance import (
    blended_usd_per_mtok,
    breakeven_periods,
    breakeven_volume,
    escalated_usd,
    input_usd,
    mtok_per_period,
    usd_per_mtok,
)
from isocost.validate.static import static_fleet_usd_per_h
from isocost.validate.table import rows_of
from isocost.validate.theory import Frontier, frontier
from isocost.validate.written import Written, figure, number
from isocost.validate.written import inputs as inputs_of

COLUMNS = ("kind", "inputs", "published", "unit")
AGAIN = "reproduced_here"
OTHERS = ("case_id", "metric", "tolerance", "ref", AGAIN)
"""Columns that a file may lack."""
USUAL_TOLERANCE = 0.01
"""Where a row with inputs states none."""
WORDS = frozenset({"mix", "gpu", "gpus", "models", "fn", "file"})
"""Inputs that are words, whatever digits they hold."""
SURE_ROWS = 3
SURE_FRAC = 0.6
SAME_FACTOR_FRAC = 0.02
"""How near two ratios of published figures to ours are for them to be one mistake."""

NO_FIGURE = "no published figure"
NO_NUMBER = "the published figure is no number"
UNREADABLE = "its inputs cannot be read"
NO_TOLERANCE = "no tolerance stated"
NO_INPUTS = "its inputs are not published"
ONLY_SHARES = "only shares of the figure are published"
CONTRADICTS = "contradicts its own inputs"
UNSETTLED = "nothing else tells who is right"

WRONG = (IsocostError, ValueError, TypeError, KeyError, ZeroDivisionError, OverflowError)
"""What inputs that a formula cannot take raise."""

Inputs = Mapping[str, Any]


class Case(msgspec.Struct, frozen=True):
    """What a formula reads: the catalog's day, the case's name, and the inputs, as ``case["capex"]``."""

    at: CatalogAt
    name: str
    given: Inputs

    def __getitem__(self, name: str) -> float:
        """An input as a number."""
        return float(self.given[name])

    def fact(self, attribute: str) -> float:
        """A convention of published studies."""
        return self.at.number("theory", attribute)


Formula = Callable[[Case], float]


class Rule(NamedTuple):
    """A formula by its inputs; ``exact``: their product or quotient; ``plain``: it has no convention."""

    needs: tuple[str, ...]
    formula: Formula
    exact: bool = False
    plain: bool = False


class Contradiction(msgspec.Struct, frozen=True):
    """A published figure that does not follow from its own inputs: theirs, ours, and why we are sure."""

    id: str
    published: float
    ours: float
    because: str


class TcoReport(msgspec.Struct, frozen=True):
    """How the published figures came out; ``flagged`` ones are left out by a rule of their own, by name."""

    path: str
    rows: int
    passed: int
    failed: tuple[str, ...]
    left_out: dict[str, int]
    mape: float
    median: float
    flagged: tuple[Contradiction, ...]
    why: dict[str, str]
    notes: tuple[str, ...]


class _Row(NamedTuple):
    id: str
    kind: str
    metric: str
    unit: str
    ref: str
    own: Inputs
    given: Inputs
    stated: Written
    printed: str
    tolerance: float
    where: str
    is_usual: bool
    again: tuple[Written | None, str]

    @property
    def published(self) -> float:
        """The figure; of a range its middle."""
        return self.stated.value


def _months(of: Case) -> float:
    blended = blended_usd_per_mtok(of["in_usd"], of["out_usd"], _input_share(of.given["mix"]))
    return breakeven_periods(of["capex"], of["capacity_mtok_month"] * blended - of["opex_month"])


def _hours(of: Case) -> float:
    return breakeven_periods(of["capex"], of["cloud_usd_h"] - of["onprem_usd_h"])


def _years(of: Case) -> float:
    return _hours(of) / (of["hours_day"] * of.fact("days_per_year"))


def _month_of_input(of: Case) -> float:
    tokens = of["msgs_day"] * of.fact("days_per_month") * of["in_tok"]
    return input_usd(tokens, of["cache_hit"], of["p_in"], of["p_cached"])


def _month_of_output(of: Case) -> float:
    return of["msgs_day"] * of.fact("days_per_month") * of["out_tok"] * of["p_out"] / 1e6


def _month_of_both(of: Case) -> float:
    return _month_of_input(of) + _month_of_output(of)


def _hybrid(of: Case) -> float:
    return escalated_usd(of["gpu_usd_h"] / of["req_h"], of["escalation"], of["api"])


def _used(of: Case) -> float:
    """Utilisation as a share: what is above 1 is written in per cent."""
    used = of["utilization"]
    if not 0.0 < used <= 100.0:
        raise ValueError(f"a utilization of {used:g}")
    return used / 100.0 if used > 1.0 else used


def _cheapest(of: Case) -> float:
    return _theory(of).cheapest_usd_per_mtok()


def _fastest(of: Case) -> float:
    return _theory(of).fastest_tok_per_s(of["usd"])


def _theory(of: Case) -> Frontier:
    model = of.name.partition(":")[2] or of.name
    return frontier(of.at, model, of.given["gpu"], of["usd_gpu_h"], of["input_len"], int(of["grid"]))


def _static(of: Case) -> float:
    path, at = Path(str(of.given["file"])), of.at
    study = f"theory/{path.parts[0]}-{path.stem}"
    share = {
        key.when: at.number(study, "load_frac", key.when)
        for key in at.catalog.keys(study)
        if key.attribute == "load_frac"
    }
    if not share:
        raise UnknownFact(
            f"no example {of.given['file']!r}", where="theory", fix="Add its table to the facts"
        )
    carries = {
        gpu: [at.number(f"{study}/{gpu.lower()}", "requests_per_s", cell) for cell in share]
        for gpu in of.given["costs"]
    }
    return static_fleet_usd_per_h([of["rate"] * one for one in share.values()], carries, of.given["costs"])


RULES: Mapping[tuple[str, str], Sequence[Rule]] = {
    ("breakeven_months", "months"): (
        Rule(("capex", "opex_month", "capacity_mtok_month", "in_usd", "out_usd", "mix"), _months, plain=True),
        Rule(
            ("capex", "saving_month"),
            lambda of: breakeven_periods(of["capex"], of["saving_month"]), True,
        ),
    ),
    ("capacity", "Mtok"): (
        Rule(
            ("tok_s", "hours_month"),
            lambda of: mtok_per_period(of["tok_s"], of["hours_month"]), True,
        ),
    ),
    ("breakeven_hours", "h"): (Rule(("capex", "cloud_usd_h", "onprem_usd_h"), _hours, plain=True),),
    ("breakeven_years", "yr"): (Rule(("capex", "cloud_usd_h", "onprem_usd_h", "hours_day"), _years),),
    ("api_cost", "USD"): (
        Rule(("msgs_day", "in_tok", "cache_hit", "p_in", "p_cached"), _month_of_input),
        Rule(
            ("in_tok", "out_tok", "p_in_1k", "p_out_1k"),
            lambda of: of["in_tok"] * of["p_in_1k"] + of["out_tok"] * of["p_out_1k"], True,
        ),
        Rule(
            ("input_mtok", "output_mtok", "in_usd", "out_usd"),
            lambda of: of["input_mtok"] * of["in_usd"] + of["output_mtok"] * of["out_usd"], True,
        ),
    ),
    ("ilp", "USD/h"): (Rule(("file", "costs", "rate"), _static),),
    ("breakeven_rate", "req/h"): (
        Rule(
            ("gpu_usd_h", "api_usd_req"),
            lambda of: breakeven_volume(of["gpu_usd_h"], of["api_usd_req"]), True,
        ),
    ),
    ("hybrid_cost", "USD"): (Rule(("gpu_usd_h", "req_h", "escalation", "api"), _hybrid),),
    ("hybrid_saving", "fraction"): (
        Rule(
            ("gpu_usd_h", "req_h", "escalation", "api"),
            lambda of: 1.0 - _hybrid(of) / of["api"],
        ),
    ),
    ("usd_per_mtok", "USD"): (
        Rule(
            ("gpu_usd_h", "gpus", "tok_s", "utilization"),
            lambda of: usd_per_mtok(
                of["gpu_usd_h"] * of["gpus"], mtok_per_period(of["tok_s"] * _used(of), 1.0)
            ),
        ),
        Rule(
            ("gpu_usd_h", "tok_s", "utilization"),
            lambda of: usd_per_mtok(
                of["gpu_usd_h"], mtok_per_period(of["tok_s"] * _used(of), 1.0)
            ), True,
        ),
        Rule(
            ("gpu_usd_h", "tok_s"),
            lambda of: usd_per_mtok(of["gpu_usd_h"], mtok_per_period(of["tok_s"], 1.0)), True,
        ),
        Rule(
            ("gpu_usd_h", "gpus", "tok_s"),
            lambda of: usd_per_mtok(of["gpu_usd_h"] * of["gpus"], mtok_per_period(of["tok_s"], 1.0)),
        ),
        Rule(
            ("usd_month", "mtok_month"),
            lambda of: usd_per_mtok(of["usd_month"], of["mtok_month"]), True,
        ),
    ),
    ("breakeven_tokens", "Mtok"): (
        Rule(
            ("fixed", "blended"), lambda of: breakeven_volume(of["fixed"], of["blended"]), True
        ),
    ),
    ("cloud_cost", "USD"): (
        Rule(
            ("gpu_usd_h", "gpus", "hours"),
            lambda of: of["gpu_usd_h"] * of["gpus"] * of["hours"], True,
        ),
    ),
    ("serving_day", "USD"): (
        Rule(
            ("nodes", "gpus_node", "gpu_usd_h", "hours"),
            lambda of: of["nodes"] * of["gpus_node"] * of["gpu_usd_h"] * of["hours"], True,
        ),
    ),
    ("revenue_day", "USD"): (
        Rule(
            ("input_mtok", "cache_hit", "output_mtok", "p_in", "p_cached", "p_out"),
            lambda of: (
                input_usd(of["input_mtok"] * 1e6, of["cache_hit"], of["p_in"], of["p_cached"])
                + of["output_mtok"] * of["p_out"]
            ),
        ),
    ),
    ("margin", "fraction"): (
        Rule(("revenue", "cost"), lambda of: of["revenue"] / of["cost"] - 1.0, True),
    ),
    ("pareto_reference", "USD"): (Rule(("gpu", "usd_gpu_h", "input_len", "grid"), _cheapest),),
    ("pareto_reference", "tok/s"): (Rule(("gpu", "usd_gpu_h", "input_len", "grid", "usd"), _fastest),),
}  # fmt: skip
"""Formulas by kind and unit of the figure: the first whose inputs a row has, unless its publication reads
them in another way (``_readings``)."""

METRICS: Mapping[str, Rule] = {
    "output usd/month": Rule(("msgs_day", "out_tok", "p_out"), _month_of_output),
    "total usd/month": Rule(
        ("msgs_day", "in_tok", "out_tok", "cache_hit", "p_in", "p_cached", "p_out"), _month_of_both
    ),
}
"""Figures of a kind and unit that has several: the metric decides before ``RULES`` does."""


def validate_tco(path: Path | str, catalog: Catalog | None = None) -> TcoReport:
    """Work out every published figure from its inputs and compare.

    Raises:
        BadInput: the file is absent or lacks a column.
    """
    at = (catalog or Catalog.load()).at(date.today())
    rows, left_out = _rows(Path(path))
    readings = _readings(at, rows)
    ours: dict[int, tuple[float, Rule]] = {}
    why: dict[str, str] = {}
    failed: list[str] = []
    for i, row in enumerate(rows):
        try:
            found = _ours(at, row, readings.get(i))
        except WRONG as wrong:
            if row.is_usual:
                left_out[NO_TOLERANCE] += 1
                continue
            why[_name(row)] = wrong.line() if isinstance(wrong, IsocostError) else f"{row.where}: {wrong}"
            failed.append(_name(row))
            continue
        if isinstance(found, str):
            left_out[NO_TOLERANCE if row.is_usual else found] += 1
        else:
            ours[i] = found
    right = {i for i, (value, _) in ours.items() if _equal(value, rows[i])}
    flagged: list[Contradiction] = []
    for i in sorted(set(ours) - right):
        value, rule = ours[i]
        because = (
            "" if _otherwise(at, rows[i]) else _sure(rows, ours, right, i, rule) or _again(rows[i], value)
        )
        if because:
            flagged.append(Contradiction(_name(rows[i]), rows[i].published, value, because))
            left_out[CONTRADICTS] += 1
        else:
            failed.append(_name(rows[i]))
            why[_name(rows[i])] = f"ours is {value:.6g}, published {rows[i].published:g}; {UNSETTLED}"
    errors = sorted(abs(ours[i][0] / rows[i].published - 1.0) for i in right if rows[i].published)
    mape, middle = (sum(errors) / len(errors), errors[len(errors) // 2]) if errors else (math.nan, math.nan)
    told = "{0.id}: published {0.published:g}, its own inputs give {0.ours:.4g}; {0.because}"
    notes = tuple(told.format(one) for one in flagged)
    total = len(rows) + left_out[NO_FIGURE] + left_out[NO_NUMBER] + left_out[UNREADABLE]
    return TcoReport(
        str(path), total, len(right), tuple(failed), dict(left_out), mape, middle, tuple(flagged), why, notes,
    )  # fmt: skip


def _name(row: _Row) -> str:
    return f"{row.id} ({row.metric})" if row.metric else row.id


def _readings(at: CatalogAt, rows: Sequence[_Row]) -> dict[int, Rule]:
    """Of rows with several readings, the one by which most other rows of the publication come out.

    A row's own figure has no say. Rows whose publication tells nothing are left to the first.
    """
    several = {i: fit for i, row in enumerate(rows) if row.ref and len(fit := _fitting(row)) > 1}
    right: dict[tuple[str, str, tuple[str, ...]], set[int]] = defaultdict(set)
    kinds = {(rows[i].ref, rows[i].kind) for i in several}
    for i, row in enumerate(rows):
        if (row.ref, row.kind) in kinds:
            for rule in _fitting(row):
                if _reproduces(at, row, rule):
                    right[row.ref, row.kind, rule.needs].add(i)
    found = {}
    for i, fit in several.items():
        votes = [len(right[rows[i].ref, rows[i].kind, rule.needs] - {i}) for rule in fit]
        found[i] = fit[votes.index(max(votes))]
    return found


def _reproduces(at: CatalogAt, row: _Row, rule: Rule) -> bool:
    """Whether a formula gives a row's published figure."""
    try:
        return _equal(rule.formula(Case(at, row.id, row.given)), row)
    except WRONG:
        return False


def _otherwise(at: CatalogAt, row: _Row) -> bool:
    """Whether the published figure follows by some reading of the row's inputs."""
    return len(fit := _fitting(row)) > 1 and any(_reproduces(at, row, rule) for rule in fit)


def _named_rules(row: _Row) -> list[Rule]:
    """Formulas of a row's metric, else of its kind and unit."""
    metric = row.metric.lower()
    return [METRICS[metric]] if metric in METRICS else _rules(row.kind, row.unit)


def _fitting(row: _Row) -> list[Rule]:
    """Formulas whose inputs a row has."""
    return [rule for rule in _named_rules(row) if all(name in row.given for name in rule.needs)]


def _ours(at: CatalogAt, row: _Row, reading: Rule | None = None) -> tuple[float, Rule] | str:
    """Our figure and its formula; or the rule that leaves the row out. ``reading``: the formula to use."""
    rules = _named_rules(row)
    if not rules and not any(row.given.values()):
        return NO_INPUTS
    for rule in _fitting(row) if reading is None else [reading]:
        return rule.formula(Case(at, row.id, row.given)), rule
    if not rules:
        # A kind of another name is worked out where its unit and its inputs leave one formula only.
        fit = [
            rule
            for (_, unit), others in RULES.items()
            for rule in others
            if unit.lower() == row.unit.lower() and set(rule.needs) <= set(row.own or row.given)
        ]
        most = max((len(rule.needs) for rule in fit), default=0)
        fit = [rule for rule in fit if len(rule.needs) == most]
        if len(fit) == 1:
            return fit[0].formula(Case(at, row.id, row.given)), fit[0]
    if rules or row.kind in {kind for kind, _ in RULES}:
        return NO_INPUTS
    if _shares(row.own):
        return ONLY_SHARES
    raise ValueError(f"no formula for kind {row.kind!r} in {row.unit!r} from {', '.join(row.given)}")


def _rules(kind: str, unit: str) -> list[Rule]:
    """Formulas of a kind and unit; of the kind alone where it has figures of one unit only."""
    own = {key: rules for key, rules in RULES.items() if key[0] == kind}
    exact = [rules for key, rules in own.items() if key[1].lower() == unit.lower()]
    found = exact or (list(own.values()) if len(own) == 1 else [])
    return [rule for rules in found for rule in rules]


def _shares(given: Inputs) -> bool:
    """Whether the inputs are parts of one whole, rounded: they say how a figure divides, not what it is."""
    if len(parts := list(given.values())) < 2 or not all(
        isinstance(part, int | float) and 0 < part < 1 for part in parts
    ):
        return False
    return math.isclose(sum(parts), 1.0, abs_tol=0.005 * len(parts))


def _equal(value: float, row: _Row) -> bool:
    """Within the tolerance, or the same when rounded to the digits that were printed."""
    low, high = row.stated.low, row.stated.high
    if low - row.tolerance * abs(low) <= value <= high + row.tolerance * abs(high):
        return True
    if not math.isfinite(value):
        return False
    try:
        shown = Decimal(re.sub(r"[$,\s]", "", row.printed))
    except InvalidOperation:
        return False
    exponent = shown.as_tuple().exponent
    # A trailing ".0" is how a table writer prints a whole number, so it promises no digit.
    digits = -int(exponent) if isinstance(exponent, int) and not row.printed.endswith(".0") else 0
    return digits > 0 and round(value, digits) == float(shown)


def _sure(
    rows: Sequence[_Row], ours: Mapping[int, tuple[float, Rule]], right: set[int], i: int, rule: Rule
) -> str:
    """Why a miss is the publication's; empty where it may be ours."""
    if _explained(rows[i], ours[i][0], rule):
        return ""
    if rule.exact:
        return f"it is a product or quotient of {', '.join(rule.needs)}"
    kin = [j for j in ours if j != i and rows[j].ref == rows[i].ref and ours[j][1] is rule]
    good = [j for j in kin if j in right]
    if len(good) < SURE_ROWS:
        return ""
    if len(good) >= SURE_FRAC * len(kin):
        return f"the same formula gives {len(good)} of the {len(kin)} other figures of the publication"
    if not rule.plain:
        return ""
    # Rows that are off by one factor are one mistake: a price or a unit other than the one that is stated.
    other = [j for j in kin if j not in right and not _off_alike(rows, ours, i, j)]
    if len(good) < SURE_FRAC * (len(good) + len(other)):
        return ""
    alike = len(kin) - len(good) - len(other)
    return (
        f"the same formula gives {len(good)} other figures of the publication; {alike} more of it are off by "
        "the same factor"
    )


def _again(row: _Row, value: float) -> str:
    """Why a miss is the publication's by the file's own word: its author got our figure from the inputs."""
    stated, printed = row.again
    if stated is None or not _equal(value, row._replace(stated=stated, printed=printed)):
        return ""
    return f"the file's author got {printed} from them too"


def _explained(row: _Row, value: float, rule: Rule) -> bool:
    """Whether an input of the row that the formula leaves out, as a factor, gives the published figure."""
    for name, given in row.own.items():
        if name in rule.needs or isinstance(given, bool) or not isinstance(given, int | float) or not given:
            continue
        for other in (value * given, value / given):
            if given != 1 and math.isclose(other, row.published, rel_tol=max(row.tolerance, USUAL_TOLERANCE)):
                return True
    return False


def _off_alike(rows: Sequence[_Row], ours: Mapping[int, tuple[float, Rule]], i: int, j: int) -> bool:
    """Whether two figures are off by one factor, as nearly as printed digits tell."""
    one, other = (rows[k].published / ours[k][0] if ours[k][0] else math.inf for k in (i, j))
    return math.isclose(one, other, rel_tol=SAME_FACTOR_FRAC)


def _input_share(mix: str) -> float:
    """Share of input in ``1/3 in, 2/3 out`` or ``30% in``."""
    found = re.search(r"([\d./]+)\s*(%?)\s*in", mix)
    if found is None:
        raise ValueError(f"no share of input in {mix!r}")
    return float(Fraction(found[1])) / (100.0 if found[2] else 1.0)


def _rows(file: Path) -> tuple[list[_Row], Counter[str]]:
    """Rows that hold a figure to be reached, and how many do not, by rule."""
    left_out: Counter[str] = Counter()
    read: list[tuple[dict[str, str], str, dict[str, Any]]] = []
    for cells, where in rows_of(file, COLUMNS):
        row = {name: (text or "").strip() for name, text in {**dict.fromkeys(OTHERS, ""), **cells}.items()}
        own = inputs_of(row["inputs"], WORDS)
        if own is None:
            left_out[UNREADABLE] += 1
        else:
            read.append((row, where, {name: value for name, value in own.items() if name != "same"}))
    given = _inherited([(row["case_id"], row["ref"], own) for row, _, own in read])
    rows: list[_Row] = []
    for (row, where, mine), inputs in zip(read, given, strict=True):
        stated, tolerance = figure(row["published"], row["unit"]), number(row["tolerance"])
        if stated is None:
            left_out[NO_NUMBER if row["published"] else NO_FIGURE] += 1
            continue
        usual, again = math.isnan(tolerance), row[AGAIN]
        rows.append(
            _Row(
                row["case_id"] or where, row["kind"].lower().replace(" ", "_"), row["metric"], row["unit"],
                row["ref"], mine, inputs, stated, row["published"], USUAL_TOLERANCE if usual else tolerance,
                where, usual, (figure(again, row["unit"]), again),
            )
        )  # fmt: skip
    return rows, left_out


def _inherited(rows: Sequence[tuple[str, str, dict[str, Any]]]) -> list[Inputs]:
    """Inputs with what a row leaves to its publication: its own case first, then what all rows agree on."""
    above: dict[str, dict[str, Any]] = defaultdict(dict)
    by_case: dict[str, dict[str, list[Any]]] = defaultdict(lambda: defaultdict(list))
    by_ref: dict[str, dict[str, list[Any]]] = defaultdict(lambda: defaultdict(list))
    for case, ref, inputs in rows:
        for name, value in inputs.items():
            if case and value not in by_case[case][name]:
                by_case[case][name].append(value)
            if case and ref not in ("", "same") and value not in by_ref[ref][name]:
                by_ref[ref][name].append(value)
    found: list[Inputs] = []
    for case, ref, inputs in rows:
        agreed: dict[str, Any] = {}
        for table in (by_ref[ref] if case else {}, by_case[case]):
            agreed.update({name: values[0] for name, values in table.items() if len(values) == 1})
        found.append({**agreed, **above[case], **inputs} if inputs or by_case[case] else {})
        if case:
            above[case].update(inputs)
    return found
