"""``isocost policy``: certify a policy, keep it honest, write it for others."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter
from rich.console import RenderableType
from rich.text import Text

from isocost.cli.catalog import load, newest
from isocost.cli.looks import keep_looks, read_looks, sure
from isocost.cli.output import grid, show, show_as_is, show_json, staged, working, wrapped
from isocost.cli.policy_cache import (
    NO_CACHE,
    Near,
    check_caches,
    fit_cache,
    holds_caches,
    plan_rules,
    read_rules,
    show_caches,
)
from isocost.cli.root import Facts, Json, app
from isocost.errors import BadInput
from isocost.units import money, percent, plural, share

if TYPE_CHECKING:
    from isocost.catalog.catalog import CatalogAt
    from isocost.policy.lapse import Basis
    from isocost.policy.outcomes import Mix
    from isocost.policy.study import Certified, Study

OUTCOMES, POLICY = "outcomes.csv", "policy.toml"

policy = app.command(
    App(
        name="policy",
        help="Certify that a cheaper policy keeps quality; check it; write it for others.",
        sort_key=6,
    )
)

PolicyPath = Annotated[Path, Parameter(help="A policy.toml that 'isocost policy fit' wrote.")]
Price = Annotated[
    tuple[str, ...],
    Parameter(name="--price", help="MODEL=IN/OUT, dollars a million tokens; before the catalog."),
]


@dataclass(frozen=True)
class Ask:
    """What is compared, and how sure to be."""

    strong: Annotated[str, Parameter(help="The model that quality is held against (default: the best).")] = ""
    candidates: Annotated[str, Parameter(help="Models that may answer instead: B,C (default: all).")] = ""
    max_loss: Annotated[
        str, Parameter(help="Loss of mean quality that is acceptable.", show_default=True)
    ] = "1pp"
    confidence: Annotated[str, Parameter(help="Of the certificate.", show_default=True)] = "95%"
    price: Price = ()


@policy.command(sort_key=1)
def fit(
    outcomes: Annotated[
        Path, Parameter(help="Graded outcomes, or the questions of RESULTS: CSV or Parquet.")
    ],
    results: Annotated[
        Path | None, Parameter(help="Results of the questions, where they stand apart.")
    ] = None,
    /,
    *,
    ask: Annotated[Ask, Parameter(name="*")] = Ask(),
    near: Annotated[Near, Parameter(name="*")] = NO_CACHE,
    to: Annotated[Path, Parameter(help="Folder that policy.toml is written into.", show_default=True)] = Path(
        "."
    ),
    facts: Facts = None,
    json: Json = False,
) -> int:
    """Choose a policy for each workload on some questions, certify it on others, report it on the rest.

    The certificate says that the loss of quality is at most --max-loss, by an exact test; where none can be
    given, strong-only stays and the command says how many more grades would settle it (exit code 0 in both
    cases). Each fit that tests the same questions is another chance to be fooled: OUTCOMES.looks.toml, beside
    the outcomes, keeps count, and all together hold at --confidence. With --cache a semantic cache is
    certified in its place: at most --max-wrong of requests get a wrong answer (docs/caches.md).
    """
    import msgspec

    if to.suffix == ".toml" or to.is_file():
        raise BadInput(f"--to {to} is no folder", fix="Type --to FOLDER; policy.toml is written into it")
    if near.cache:
        return fit_cache(outcomes, near, ask.confidence, to, facts, json=json)

    from isocost.policy.outcomes import read_outcomes
    from isocost.policy.study import Wanted, dumps, study

    catalog = load(facts)
    names = tuple(part.strip() for part in ask.candidates.split(",") if part.strip())
    wanted = Wanted(ask.strong, names, _points(ask.max_loss), share(ask.confidence), _prices(ask.price))
    with working(f"certifying on {outcomes.name}"):
        before = read_looks(outcomes, to)
        found = study(read_outcomes(outcomes, results), catalog.at(newest(catalog)), wanted, before)
    kept = None
    if found.looks:
        # Before anything of it is told: a look that is not kept would be free.
        kept = keep_looks(found.looks, outcomes, to)
    if found.rules:
        written = _with_earlier(found, to / POLICY)
        with staged(to) as folder:
            (folder / POLICY).write_text(dumps(written), encoding="utf-8")
            for name, weights in found.weights.items():
                if any(name == getattr(rule.choose, "weights", "") for rule in found.rules):
                    (folder / name).write_bytes(msgspec.json.encode(weights))
    if json:
        show_json(msgspec.structs.replace(found, looks=(), rules=written.rules if found.rules else ()))
        return 0
    _show_fit(found, outcomes)
    if kept is not None:
        is_beside = kept.parent == outcomes.parent
        where, then = (
            (kept.name, "leave it beside the outcomes") if is_beside else (kept, "fit with the same --to")
        )
        show("", wrapped(f"What was tested is kept in {where}; {then}."))
    if found.rules:
        show("", f"  Wrote {to / POLICY}. Next: isocost policy check {to / POLICY} NEW_OUTCOMES")
        show(
            wrapped(
                "To replay a log under it, put its [[policy]] into a plan.toml (isocost plan LOG), with a "
                "[[deployment]] for each model that it names."
            )
        )
    return 0


@policy.command(sort_key=2)
def check(
    file: PolicyPath,
    outcomes: Annotated[
        Path | None, Parameter(help="Newer questions or outcomes: their mix is tested.")
    ] = None,
    /,
    *,
    version: Annotated[tuple[str, ...], Parameter(help="MODEL=VERSION that serves now.")] = (),
    price: Price = (),
    log: Annotated[Path | None, Parameter(help="A newer log: for certificates of semantic caches.")] = None,
    facts: Facts = None,
    json: Json = False,
) -> int:
    """Say whether certificates still hold: model versions, prices, the mix of questions; of a plan's semantic
    caches. Exit code 1 where one lapsed."""
    from isocost.policy.lapse import is_price, lapsed
    from isocost.policy.study import loads

    if holds_caches(text := _text(file)):
        return _check_caches(file, version, log, json)
    _, certificates = loads(text, file.name)
    if not certificates:
        raise BadInput("no certificate", where=str(file), fix="Make one: isocost policy fit OUTCOMES")
    new = None
    if outcomes is not None:
        from isocost.policy.outcomes import read_mix

        new = read_mix(outcomes)
    catalog = load(facts)
    at = catalog.at(newest(catalog))
    found = {}
    for one in certificates:
        now = _now(one.basis, one.workload, new, version, price, at)
        # Of a workload that stays on its strong model nothing was claimed.
        found[one.workload] = lapsed(one.basis, now) if one.certified else ()
    lapses = sum(bool(why) for name, why in found.items())
    if json:
        show_json({"lapsed": lapses, "why": found})
        return int(bool(lapses))
    claims = sum(one.certified for one in certificates)
    which = "The certificate" if claims == 1 else f"{lapses} of {claims} certificates"
    head = f"{which} lapsed: strong-only until refitted"
    if not lapses:
        head = "The certificate holds" if len(found) == 1 else "Every certificate holds"
    show(Text(head, "bold"), "")
    reasons = set(filter(None, found.values()))
    for one in certificates:
        why = found[one.workload]
        claim = f"{_lost(one)}, saving {percent(one.saving)}, made {one.made}, basis {one.digest}"
        state = f"{'lapsed' if why else 'holds'} ({claim})" if one.certified else "stays on its strong model"
        show(wrapped(f"{_name(one)}: {state}"))
        for reason in why if len(reasons) > 1 else ():
            show(wrapped(reason, "- ", 6))
    if len(reasons) == 1:
        show("", *(wrapped(reason, "- ") for reason in reasons.pop()))
    if new is None:
        show("", wrapped("The mix of questions was not looked at: name newer outcomes to test it."))
    if lapses:
        graded = all(is_price(reason) for why in found.values() for reason in why)
        again = "isocost policy fit OUTCOMES: the grades hold, and the fit is one more look at them"
        show("", wrapped(f"Next: {again if graded else _ANEW}"))
    return int(bool(lapses))


_ANEW = "grade anew (isocost measure LOG), then isocost policy fit OUTCOMES"


def _check_caches(file: Path, version: tuple[str, ...], log: Path | None, json: bool) -> int:
    rules = [rule for rule in read_rules(file) if rule.semantic is not None]
    if not rules:
        raise BadInput(
            "no semantic cache in its policies", where=str(file),
            fix="Make one: isocost policy fit PAIRS --cache --plan plan.toml",
        )  # fmt: skip
    found = check_caches(file, rules, version, log)
    lapses = sum(bool(why) for why in found.values())
    if json:
        show_json({"lapsed": lapses, "why": found})
        return int(bool(lapses))
    which = "The certificate" if len(found) == 1 else f"{lapses} of {len(found)} certificates"
    one = "The certificate holds" if len(found) == 1 else "Every certificate holds"
    show(Text(f"{which} lapsed: off until certified anew" if lapses else one, "bold"), "")
    show_caches(found, rules, looked=log is not None)
    return int(bool(lapses))


@policy.command(sort_key=3)
def export(
    file: Annotated[Path, Parameter(help="A policy.toml of 'isocost policy fit', or a plan.toml.")],
    /,
    *,
    to: Annotated[
        str,
        Parameter(
            help="litellm: the configuration of LiteLLM's proxy; portkey: Portkey's configs, by workload; "
            "openrouter: fields of OpenRouter's requests, by workload.",
            show_default=True,
        ),
    ] = "litellm",
    out: Annotated[Path | None, Parameter(help="A file to write (default: the terminal).")] = None,
    json: Json = False,
) -> None:
    """Write a policy in another gateway's configuration, and list what that cannot express."""
    from isocost.policy.export import litellm, openrouter, portkey
    from isocost.policy.study import loads

    if to not in ("litellm", "portkey", "openrouter"):
        raise BadInput(f"no export to {to!r}", fix="Type --to litellm, --to portkey or --to openrouter")
    life: float | None = None
    if holds_caches(text := _text(file)):
        made, life = plan_rules(file)
    else:
        made, _ = loads(text, file.name)
    if not made:
        raise BadInput("no policy", where=str(file), fix="Make one: isocost policy fit OUTCOMES")
    if to == "openrouter":
        found = openrouter(made, _ids([name for rule in made for name in rule.deployments()]))
    else:
        found = litellm(made, life) if to == "litellm" else portkey(made, life)
    if json:
        return show_json({"config": found.text, "left_out": found.left_out})
    if out is None:
        for one in found.left_out if to != "litellm" else ():
            # JSON holds no comments, and what is piped into a file is to be JSON.
            sys.stderr.write(f"not expressed: {one}\n")
        return show_as_is(found.text.rstrip())
    with staged(out.parent) as folder:
        (folder / out.name).write_text(found.text, encoding="utf-8")
    show(
        Text(
            f"Wrote {out};"
            f" {plural(len(found.left_out), 'part of the policy is', 'parts of the policy are')} not in it",
            "bold",
        )
    )
    for one in found.left_out:
        show(wrapped(one, "- "))
    return None


def _with_earlier(found: Study, file: Path) -> Study:
    """With the rules and certificates of ``file`` for workloads of which an earlier look certified more than
    none and this one nothing: those hold."""
    import msgspec

    from isocost.policy.study import loads

    open_ = {one.workload for one in found.certificates if one.stands and not one.certified}
    if not open_ or not file.exists():
        return found
    rules, certificates = loads(_text(file), str(file))
    kept = {one.workload: one for one in certificates if one.certified and one.workload in open_}
    old = tuple(rule for rule in rules if rule.workload in kept)
    return msgspec.structs.replace(
        found,
        certificates=tuple(kept.get(one.workload, one) for one in found.certificates),
        rules=(*(rule for rule in found.rules if rule.workload not in kept), *old),
    )


def _ids(deployments: Sequence[str]) -> dict[str, str]:
    """OpenRouter's names of the models of deployments, where the catalog knows them."""
    catalog = load(None)
    at = catalog.at(newest(catalog))
    theirs: dict[str, str] = {}
    for fact in at.each("api/openrouter/", "serves"):
        theirs.setdefault(str(fact.value), fact.subject.removeprefix("api/openrouter/"))
    out = {}
    for name in dict.fromkeys(deployments):
        subject = f"api/{name.removeprefix('api/')}"
        serves = at.find(subject, "serves")
        if subject.startswith("api/openrouter/"):
            out[name] = subject.removeprefix("api/openrouter/")
        elif serves is not None and str(serves.value) in theirs:
            out[name] = theirs[str(serves.value)]
    return out


def _show_fit(found: Study, outcomes: Path) -> None:
    certified = [one for one in found.certificates if one.certified]
    if certified:
        best = max(certified, key=lambda one: one.saving)
        most = f"loss at most {best.loss_most * 100:.2f} pp" if best.loss_most else "nothing lost"
        proven = f"{most} with {percent(best.confidence)} confidence"
        under = " at supposed prices" if best.usd_per_1000 is None else ""
        head = f"{percent(best.saving)} saved on {_name(best)}{under}, {proven}"
        if len(found.certificates) > 1:
            head = f"{len(certified)} of {len(found.certificates)} workloads certified: {head}"
    else:
        head = "No saving certified: every workload stays on its strong model"
    show(Text(head, "bold"))
    for one in found.certificates:
        show("", *_told(one))
    if any(one.usd_per_1000 is None for one in found.certificates):
        show("", wrapped(_SUPPOSED))
    if any(one.more_labels for one in found.certificates):
        show("", wrapped(_AGAIN.format(outcomes=outcomes)))
    if found.notes:
        show("", *(wrapped(note) for note in found.notes))
    unsure = {name: rule for name, rule in found.prices.items() if not rule.startswith(("api/", "as "))}
    if unsure:
        show(wrapped("; ".join(f"{name}: {rule}" for name, rule in list(unsure.items())[:6]), "prices: "))


_SUPPOSED = (
    "prices are relative, since none is known: supposed to rise with the quality on split A. The loss is "
    "certified all the same; the saving holds only if they are so. Type --price MODEL=IN/OUT for each."
)
_AGAIN = (
    "each further fit on these questions is another chance to be fooled, and so is tested more strictly. "
    "isocost measure --outcomes {outcomes} says, without a look at them, when one is likely to certify."
)


def _name(one: Certified) -> str:
    return "all requests" if one.workload == "*" else one.workload


def _told(one: Certified) -> tuple[RenderableType, ...]:
    """What is shown of a workload."""
    table = grid(("", "l"), ("", "w"))
    if not one.certified and one.refused not in ("quality", "saving"):
        nothing = "no cheaper policy promised a saving on the questions that choose; none was tested"
        if one.refused:
            nothing = (
                f"not tested: {plural(one.look - 1, 'earlier look')} at these questions took all that may go "
                f"wrong at {percent(one.confidence)}. Test new questions, or ask for less confidence"
            )
        table.add_row(f"  {_name(one)}", f"only {one.strong}: {nothing}")
        if one.stands:
            table.add_row(*_earlier(one))
        return (table,)
    if not one.certified:
        more = "no number of grades would settle it at today's estimates"
        if one.refused == "saving":
            more = "quality is kept, but it may save nothing; more questions may settle that, grades do not"
        elif one.more_labels is not None:
            more = f"about {plural(one.more_labels, 'more grade')} would settle it"
        table.add_row(f"  {_name(one)}", f"only {one.strong}: no saving certified; {more}")
        table.add_row("  tried", f"{one.policy} (p {one.p_value:.2g})")
        table.add_row("  labels", f"{one.labels:,} graded of {one.questions:,} questions")
        table.add_row(*_look(one))
        if one.stands:
            table.add_row(*_earlier(one))
        return (table,)
    with_ = percent(one.confidence)
    most = _lost(one)
    lost = f"{one.difference * 100:+.2f} pp seen, {most} with {with_}"
    saved = f"{percent(one.saving)}{_between(one.saving_low, one.saving_high)} with {with_}"
    dollars = "prices are supposed, so no dollars"
    if one.usd_per_1000 is not None:
        dollars = f"of {money(one.usd_per_1000)} for 1,000 requests"
    table.add_row(f"  {_name(one)}", one.policy)
    table.add_row("  saving", f"{saved}; {dollars}")
    table.add_row("  quality", f"{lost}, against only {one.strong}")
    table.add_row(
        "  unread mix",
        f"{one.blind_difference * 100:+.2f} pp for a random mix of two models at the same cost",
    )
    if one.held_out_questions:
        table.add_row(
            "  held out",
            f"{percent(one.held_out_saving)}{_between(one.held_out_low, one.held_out_high)} saved, "
            f"{_apart(one)}, on {one.held_out_questions:,} questions",
        )
    table.add_row(
        "  labels",
        f"{one.labels:,} graded of {one.questions:,} questions; where answers agree none is needed",
    )
    table.add_row(*_look(one))
    return (table,)


def _earlier(one: Certified) -> tuple[str, str]:
    return "  earlier", f"{percent(one.stands)} were certified by a look before; that holds until it lapses"


def _look(one: Certified) -> tuple[str, str]:
    """Which look at its questions a certificate rests on, and how it was tested."""
    if one.level is None or one.left is None:
        return "  look", "the only one"
    little = "; little was staked, as split A gave it little chance" if one.staked_less else ""
    together = f"all looks at these questions hold together at {percent(one.confidence)}"
    return f"  look {one.look}", f"tested at {sure(one.level)}; {together}{little}"


def _lost(one: Certified) -> str:
    return f"at most {one.loss_most * 100:.2f} pp lost" if one.loss_most else "nothing lost"


def _apart(one: Certified) -> str:
    """The difference of quality on the held-out questions, with its interval: few of them say little."""
    seen = f"{one.held_out_difference * 100:+.2f} pp"
    low, high = one.held_out_difference_low, one.held_out_difference_high
    return seen if low is None or high is None else f"{seen} ({low * 100:+.1f} to {high * 100:+.1f})"


def _between(low: float | None, high: float | None) -> str:
    """An interval of a saving, behind it.

    >>> _between(0.41, 0.48), _between(None, None)
    (' (41% to 48%)', '')
    """
    return "" if low is None or high is None else f" ({percent(low)} to {percent(high)})"


def _points(text: str) -> float:
    """A loss: ``1pp``, ``1%``, ``0.01``.

    >>> _points("1pp"), _points("0.5 pp"), _points("0.02")
    (0.01, 0.005, 0.02)
    """
    found = re.fullmatch(r"\s*(\d+\.?\d*|\.\d+)\s*(pp|pt|points?)\s*", text)
    return float(found[1]) / 100 if found else share(text)


def _now(
    old: Basis,
    workload: str,
    new: Mix | None,
    versions: tuple[str, ...],
    price: tuple[str, ...],
    at: CatalogAt,
) -> Basis:
    """The basis of now: versions and prices as stated, else the catalog's, and the mix of newer questions."""
    import msgspec
    import numpy as np

    from isocost.policy.lapse import mix_of
    from isocost.policy.pricing import price_models

    stated = _prices(price)
    said = dict(one.rpartition("=")[::2] for one in versions)
    for name in (*stated, *said):
        if name not in old.versions:
            raise BadInput(f"no model {name!r} in the certificate", fix=f"It has {', '.join(old.versions)}")
    names = tuple(old.versions)
    # What the certificate itself had to suppose is not compared with another supposition.
    kept = {
        one.model: old.prices[one.model]
        if one.rule.startswith(("relative", "unknown"))
        else (one.input_usd_per_mtok, one.output_usd_per_mtok)
        for one in price_models(names, at, stated)
    }
    current = {name: said.get(name, old.versions[name]) for name in names}
    made = msgspec.structs.replace(old, versions=current, prices=kept)
    if new is None:
        return made
    rows = np.arange(len(new.task))
    if workload != "*":
        rows = np.array([i for i in rows if new.workload[i] == workload], dtype=np.int64)
        if not len(rows):
            raise BadInput(f"no questions of {workload!r}", fix="Its name is in the column workload")
    mixed = mix_of(old, new.tasks, new.task[rows], new.in_tok[rows])
    current = {name: said.get(name) or new.versions.get(name) or old.versions[name] for name in names}
    return msgspec.structs.replace(mixed, versions=current, prices=kept)


def _prices(stated: tuple[str, ...]) -> dict[str, tuple[float, float]]:
    out = {}
    for one in stated:
        model, _, pair = one.rpartition("=")
        try:
            paid, made = (float(part) for part in pair.split("/"))
        except ValueError:
            raise BadInput(f"price {one!r}", fix="Type MODEL=IN/OUT, as gpt-4o=2.5/10") from None
        if not (0 <= paid < math.inf and 0 <= made < math.inf):
            raise BadInput(f"price {one!r}", fix="Dollars a million tokens are 0 or more")
        out[model] = (paid, made)
    return out


def _text(file: Path) -> str:
    from isocost.toml import read_text

    return read_text(file)
