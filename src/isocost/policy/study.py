"""Fit and certify a policy for each workload of a set of graded outcomes, and write it as a file.

The file (``policy.toml``) holds ``[[policy]]`` tables as ``plan.toml`` does, and a ``[[certificate]]`` for
each workload: what was proven, on how many labels, and the basis that it rests on
(:mod:`isocost.policy.lapse`).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
import tomli_w

from isocost.catalog.catalog import CatalogAt
from isocost.errors import BadInput, BadLimits
from isocost.policy import agree, rules
from isocost.policy.agree import Part, Patterns, patterns, written
from isocost.policy.difficulty import Corpus, Routed
from isocost.policy.fit import Candidate, blind, certify, compared, difference_bounds, on, saving_bounds
from isocost.policy.lapse import Basis, basis
from isocost.policy.looks import Look, Tested, earlier, ended, left, level, look
from isocost.policy.outcomes import Ints, Outcomes
from isocost.policy.prepared import Ground, Prepared, Wanted, chance, filled, ground, part, prepared, splits
from isocost.policy.pricing import RELATIVE, supposed
from isocost.policy.router import Weights
from isocost.policy.seen import Group, Seen
from isocost.units import percent

FORMAT = 1
ROUTING = "routing"
"""What a look at a routing policy is called, among those of other kinds."""
SPENT = "looks"
"""Why nothing is certified where earlier looks left nothing that may go wrong."""
IN_FILE = "as the file says"
_LESS = 0.9
"""Share of the strong model's cost from which another one is called cheaper."""
_ANEW = "Make it anew: isocost policy fit OUTCOMES"
_SHOWN = 5
"""Workloads that a note names one by one."""
_FIX = "Compare it with one that isocost policy fit wrote"


class Certified(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What was found for a workload; differences and losses are in quality, 0 to 1.

    ``certified`` is false where strong-only remains; ``more_labels`` then says about how many further grades
    would settle it (``None``: no number would), and ``refused`` what failed: ``quality``, ``saving`` or
    ``looks`` (earlier ones left nothing that may go wrong); blank: nothing was promising enough to test.
    ``usd_per_1000`` is what strong-only costs for 1,000 requests (``None``: prices are relative, so the
    saving is one under supposed prices). ``loss_most`` bounds the loss from above with ``confidence``, the
    saving is ``saving_low`` to ``saving_high`` with as much for this fit alone (``None``: a file that does
    not say). ``held_out`` figures are those of split C, the saving and the difference with such intervals.
    ``blind_difference`` is what the content-blind mix of two models does at the same cost. ``agreement`` is
    how often each pattern came. The test was ``look`` of those at these questions, at ``level``, the
    probability of a false certificate, so that all together keep ``confidence``; ``left`` is what later ones
    may still take (``None``: a file that does not say); ``staked_less``: split A gave it less than an even
    chance, so it took less; ``stands`` the saving that the last look before it certified (0: none did).
    """

    workload: str
    strong: str
    policy: str
    certified: bool
    max_loss: float
    confidence: float
    saving: float
    saving_low: float
    difference: float
    loss_most: float
    p_value: float
    blind_difference: float
    held_out_saving: float
    held_out_difference: float
    held_out_questions: int
    questions: int
    labels: int
    made: str
    basis: Basis
    digest: str
    agreement: dict[str, float]
    usd_per_1000: float | None = None
    more_labels: int | None = None
    refused: str = ""
    discordant: float = 0.0
    expected_saving: float = 0.0
    expected_difference: float = 0.0
    saving_high: float | None = None
    held_out_low: float | None = None
    held_out_high: float | None = None
    look: int = 1
    level: float | None = None
    left: float | None = None
    staked_less: bool = False
    stands: float = 0.0
    notes: tuple[str, ...] = ()
    held_out_difference_low: float | None = None
    held_out_difference_high: float | None = None


class Study(msgspec.Struct, frozen=True):
    """Certificates, the rules that they allow, scores by file name, prices by model, what was dropped, and
    the looks that were taken and are to be kept."""

    certificates: tuple[Certified, ...]
    rules: tuple[rules.Rule, ...]
    weights: dict[str, Weights]
    prices: dict[str, str]
    notes: tuple[str, ...]
    looks: tuple[Look, ...] = ()


def study(outcomes: Outcomes, at: CatalogAt, wanted: Wanted, looks: Sequence[Look] | None = None) -> Study:
    """Choose, certify and report a policy for each workload.

    ``looks`` are those that were taken before, at any questions: each workload is tested at the level that
    they leave it (:mod:`isocost.policy.looks`). ``None``: this is the only look that there will be.

    Raises:
        BadInput: a model that the outcomes do not have, a strong one whose price is not known, splits that
            are stated in part, or a loss or a confidence that cannot be meant.
    """
    given = prepared(outcomes, at, wanted)
    chosen = given.outcomes
    found, made, weights, taken = [], [], {}, []
    for code, rows in given.large.items():
        name = chosen.workloads[code]
        certificate, rule, scores, one = _workload(given, rows, name or "*", wanted, at.on.isoformat(), looks)
        found.append(certificate)
        if rule is not None:
            made.append(rule)
        if scores is not None:
            weights[f"router-{name or 'all'}.json"] = scores
        if one is not None:
            taken.append(one)
    proxy = (
        () if given.by_file.all() else ("token counts are as the file has them; proxies make costs proxies",)
    )
    if any(rule.workload == "*" for rule in made):
        # It would hold for every workload without a rule, of which nothing is certified.
        held = {one.workload: one.strong for one in found if not one.certified}
        strong = next(one.strong for one in found if one.workload == "*")
        held |= {chosen.workloads[code]: strong for code in given.small}
        made += [rules.Rule(rules.Fixed(model), workload=name) for name, model in held.items()]
    return Study(
        tuple(found), tuple(made), weights,
        {one.model: IN_FILE if given.by_file[j] else one.rule for j, one in enumerate(given.prices)},
        (*chosen.notes, *given.guesses, *_few(chosen, given.small), *_rivals(given, found, wanted), *proxy),
        tuple(taken),
    )  # fmt: skip


def _few(outcomes: Outcomes, small: Mapping[int, Ints]) -> tuple[str, ...]:
    if not small:
        return ()
    most = sorted(small, key=lambda code: -len(small[code]))
    shown = ", ".join(f"{outcomes.workloads[code] or 'all'} ({len(small[code])})" for code in most[:_SHOWN])
    more = f" and {len(most) - _SHOWN} more" if len(most) > _SHOWN else ""
    return (f"too few graded questions to certify, so the strong model stays: {shown}{more}",)


def _rivals(given: Prepared, found: Sequence[Certified], wanted: Wanted) -> tuple[str, ...]:
    """Where nobody named the strong model: a cheaper one that A can hardly tell from the best, against which
    less would be saved."""
    if wanted.strong:
        return ()
    outcomes, said = given.outcomes, []
    for one, rows in zip(found, given.large.values(), strict=True):
        a, strong = splits(outcomes, rows)[0], outcomes.models.index(one.strong)
        quality = filled(outcomes.quality[a], outcomes.answer[a])
        gap = quality[:, [strong]] - quality
        gap = gap[np.isfinite(gap).all(axis=1)]
        if not len(gap):
            continue
        behind, doubt = gap.mean(axis=0), gap.std(axis=0) / math.sqrt(len(gap))
        cost = given.usd[a].mean(axis=0)
        near = np.flatnonzero((behind <= np.maximum(doubt, wanted.max_loss)) & (cost < _LESS * cost[strong]))
        if len(near):
            rival = int(near[cost[near].argmin()])
            name, less = outcomes.models[rival], percent(1.0 - cost[rival] / cost[strong])
            of = "" if one.workload in ("", "*") else f" of {one.workload}"
            said.append(
                f"{one.strong} was the best of split A{of}, {name} {behind[rival] * 100:.1f} pp behind it "
                f"there, hardly more than chance, for {less} less: --strong {name} holds savings "
                "against that one"
            )
    return tuple(said[:_SHOWN])


def _workload(
    given: Prepared, rows: Ints, name: str, wanted: Wanted, made: str, looks: Sequence[Look] | None
) -> tuple[Certified, rules.Rule | None, Weights | None, Look | None]:
    """One workload: certificate, rule and score, and the look that it took (``None``: none that is new)."""
    outcomes, names = given.outcomes, given.outcomes.models
    of = ground(given, rows, wanted)
    alpha = 1.0 - wanted.confidence
    part_b = part(given, of, of.b)
    turn = _turn(given, of, part_b, rows, name, wanted, made, looks)
    ladder = of.ladder if turn.level > 0 else ()
    proof = certify(ladder, part_b, wanted.max_loss, 1.0 - turn.level, of.labels_a, turn.after, alpha)
    basis_ = basis(
        dict(zip(names, outcomes.versions, strict=True)),
        {one.model: (one.input_usd_per_mtok, one.output_usd_per_mtok) for one in given.prices},
        outcomes.tasks, outcomes.task[of.b], outcomes.in_tok[of.b],
    )  # fmt: skip
    best = proof.chosen or (of.ladder[0] if of.ladder else None)
    shown = told = None
    lost: tuple[float | None, float | None] = (None, None)
    if proof.chosen is not None and len(of.c):
        part_c = part(given, of, of.c, fill=True)
        did = on(proof.chosen.policy, of.words, of.c).run(part_c)
        shown, told = compared(did, part_c), saving_bounds(did, part_c, alpha)
        lost = difference_bounds(did, part_c, alpha)
    rule = scores = None
    agreement: dict[str, float] = {}
    if proof.chosen is not None:
        rule, scores, agreement = as_rule(proof.chosen, part_b, names, outcomes.tasks, name, of.words)
    seen = proof.on_b
    certificate = Certified(
        name, names[of.strong], described(best, names, of.strong), proof.chosen is not None, wanted.max_loss,
        wanted.confidence, seen.saving_frac if seen else 0.0, proof.saving_low if seen else 0.0,
        seen.difference if seen else 0.0, max(0.0, -proof.lower) if seen else 0.0, proof.p_value,
        blind(part(given, of, of.b, fill=True), seen.saving_frac) if seen else 0.0,
        shown.saving_frac if shown else 0.0, shown.difference if shown else 0.0, len(of.c),
        len(of.a) + len(of.b), proof.labels_a + proof.labels_b, made, basis_, basis_.digest, agreement,
        None if supposed(RELATIVE, given.prices, outcomes).any() else 1000 * of.unit, proof.more_labels,
        proof.refused if ladder or not of.ladder else SPENT, best.expected.discordant_frac if best else 0.0,
        best.expected.saving_frac if best else 0.0, best.expected.difference if best else 0.0,
        proof.saving_high if seen else None, told[0] if told else None, told[1] if told else None,
        look=turn.number, level=turn.level, left=turn.left, staked_less=turn.staked_less,
        stands=turn.stands, held_out_difference_low=lost[0], held_out_difference_high=lost[1],
    )  # fmt: skip
    taken = turn.taken
    if taken is not None:
        taken = ended(taken, certified=certificate.certified, saving=certificate.saving)
    return certificate, rule, scores, taken


class _Turn(NamedTuple):
    """Which look a test is, at what level, what is left then, the level of the next, and its record, where it
    was not taken before."""

    number: int
    level: float
    left: float
    after: float
    taken: Look | None
    staked_less: bool = False
    stands: float = 0.0


def _turn(
    given: Prepared,
    of: Ground,
    part_b: Part,
    rows: Ints,
    name: str,
    wanted: Wanted,
    made: str,
    looks: Sequence[Look] | None,
) -> _Turn:
    """The turn of a workload's test; nothing of it is set by a grade of B."""
    alpha = 1.0 - wanted.confidence
    if looks is None:
        return _Turn(1, alpha, 0.0, alpha, None)
    outcomes = given.outcomes
    versions = others(outcomes, of.strong)
    before = earlier(looks, ROUTING, [outcomes.qid[i] for i in rows], versions)
    whole, rest = level(alpha, before), left(alpha, before)
    if not of.ladder:
        return _Turn(len(before) + 1, whole, rest, whole, None, False, _stands(before))
    fit = _digest(given, of, part_b, rows, wanted)
    again = next((k for k, one in enumerate(before) if one.fit == fit), None)
    if again is not None:
        now, less = before[again].level, before[again].level < level(alpha, before[:again])
        return _Turn(again + 1, now, rest, whole, None, less, _stands(before[:again]))
    now = level(alpha, before, chance(of, len(of.b), wanted.max_loss, whole)) if whole else 0.0
    if not now:
        return _Turn(len(before) + 1, 0.0, rest, 0.0, None, False, _stands(before))
    what = Tested(ROUTING, name, outcomes.models[of.strong], versions, [outcomes.qid[i] for i in of.b])
    taken = look(what, made, fit, before, now)
    spent = (*before, taken)
    return _Turn(
        len(spent), now, left(alpha, spent), level(alpha, spent), taken, now < whole, _stands(before)
    )


def _stands(before: Sequence[Look]) -> float:
    return next((one.saving for one in reversed(before) if one.certified), 0.0)


def others(outcomes: Outcomes, strong: int) -> dict[str, str]:
    """Versions of the models that may answer instead of the strong one."""
    pairs = zip(outcomes.models, outcomes.versions, strict=True)
    return {model: version for j, (model, version) in enumerate(pairs) if j != strong}


def _digest(given: Prepared, of: Ground, part_b: Part, rows: Ints, wanted: Wanted) -> str:
    """A digest of all that a workload's fit rests on, and of what is tested: which model's answer each
    candidate takes to each question of B. So another way of choosing is another look."""
    outcomes = given.outcomes
    told = hashlib.sha256(
        msgspec.json.encode([
            outcomes.models, outcomes.versions, outcomes.tasks, of.strong, wanted.max_loss, wanted.confidence,
            outcomes.has_answers, outcomes.whole,
            [(outcomes.qid[i], outcomes.query[i], outcomes.split[i]) for i in rows],
        ])
    )  # fmt: skip
    for values in (outcomes.task, outcomes.quality, outcomes.answer, given.usd):
        told.update(np.ascontiguousarray(values[rows]).tobytes())
    for one in of.ladder:
        told.update(one.policy.run(part_b).model.astype(np.int64).tobytes())
    return told.hexdigest()[:16]


def described(candidate: Candidate | None, names: Sequence[str], strong: int) -> str:
    """A policy in a few words."""
    if candidate is None:
        return f"only {names[strong]}"
    policy = candidate.policy
    match policy:
        case agree.Cascade():
            return "ask " + ", then ".join(names[j] for j in policy.chain) + "; stop when they agree"
        case agree.Fixed():
            return f"only {names[policy.model]}"
        case agree.ByTask():
            different = dict.fromkeys(names[j] for j in policy.models)
            return "a model per task: " + ", ".join(different)
        case Routed():
            return f"{names[policy.cheap]} where the question looks easy, else {names[strong]}"
    return candidate.name


def as_rule(
    candidate: Candidate,
    part: Part,
    names: Sequence[str],
    tasks: Sequence[str],
    workload: str,
    words: Corpus | None,
) -> tuple[rules.Rule, Weights | None, dict[str, float]]:
    """A policy as a rule of ``plan.toml``, the score that a router needs, and how often each pattern came."""
    policy = candidate.policy
    strong = names[part.strong]
    recover = rules.Recover(fallback=(strong,))
    scores = None
    agreement: dict[str, float] = {}
    choose: rules.Choice
    match policy:
        case agree.Cascade():
            read = patterns(part.answer, policy.chain)
            agreement = _shares(read, np.arange(len(part)))
            choose = _cascade(policy, names, tasks)
            alike = _alike(choose, tasks, part.task)
            by_task = any(one.but or one.tasks != (rules.STRONG,) for one in choose.accept)
            groups = tuple(Group(counts, _shares(read, rows)) for counts, rows in alike if by_task)
            choose = msgspec.structs.replace(choose, seen=Seen(len(part), agreement, groups))
            recover = rules.Recover()
        case agree.Fixed():
            choose = rules.Fixed(names[policy.model])
        case agree.ByTask():
            table = {task: names[j] for task, j in zip(tasks, policy.models, strict=False)}
            choose = rules.ByTask({**table, rules.STRONG: strong})
            groups = tuple(Group(counts) for counts, _ in _alike(choose, tasks, part.task))
            choose = msgspec.structs.replace(choose, seen=Seen(len(part), {}, groups))
        case Routed():
            reached = policy.fitted.scores(policy.read, part.task) >= policy.bar
            choose = rules.Router(
                names[policy.cheap], strong, policy.bar, f"router-{workload.strip('*') or 'all'}.json",
                Seen(len(part), {"strong": float(reached.mean())}),
            )  # fmt: skip
            scores = None if words is None else policy.fitted.weights(words, tasks)
        case _:
            raise BadInput(f"{candidate.name} cannot be written as a rule")
    return rules.Rule(choose, workload=workload, recover=recover), scores, agreement


def _shares(read: Patterns, rows: Ints) -> dict[str, float]:
    """How often each pattern of agreement came on some questions."""
    out: dict[str, float] = {}
    for d, code in enumerate(read.code):
        codes, counts = np.unique(code[rows], return_counts=True)
        for one, count in zip(codes.tolist(), counts.tolist(), strict=True):
            out[written(one, d + 1)] = count / len(rows)
    return out


def _alike(
    choose: rules.Cascade | rules.ByTask, tasks: Sequence[str], task: Ints
) -> list[tuple[dict[str, int], Ints]]:
    """Tasks that a choice treats alike, with how many questions are of each, and these questions."""
    found: dict[tuple[str | None, ...], list[int]] = {}
    for code in np.unique(task).tolist():
        name = tasks[code] if code < len(tasks) else ""
        if isinstance(choose, rules.ByTask):
            does: tuple[str | None, ...] = (choose.tasks.get(name, choose.tasks[rules.STRONG]),)
        else:
            does = tuple(rules.accepted(choose, name, one.pattern) for one in choose.accept)
        found.setdefault(does, []).append(code)
    return [
        ({tasks[c] if c < len(tasks) else "": int((task == c).sum()) for c in codes},
         np.flatnonzero(np.isin(task, codes)))
        for codes in found.values()
    ]  # fmt: skip


def _cascade(policy: agree.Cascade, names: Sequence[str], tasks: Sequence[str]) -> rules.Cascade:
    """The tables of a cascade, with tasks named only where they differ from the rest.

    Where no question names a task, what was fitted on them holds for any.
    """
    accept = []
    last = len(policy.chain) - 1
    untold = tuple(tasks) == ("",)
    for d, step in enumerate(policy.steps):
        for k, code in enumerate(step.code.tolist()):
            pattern = written(code, d + 1)
            by_letter: dict[str, list[int]] = {}
            for task in (0,) if untold else range(len(tasks) + 1):
                letter = agree.LETTERS[int(step.take[k, task])]
                if step.accept[k, task] and letter in pattern and (d < last or letter != pattern[-1]):
                    by_letter.setdefault(letter, []).append(task)
            for letter, here in by_letter.items():
                if untold:
                    accept.append(rules.Accept(pattern, letter))
                elif len(tasks) in here:
                    but = tuple(tasks[t] for t in range(len(tasks)) if t not in here)
                    accept.append(rules.Accept(pattern, letter, (rules.STRONG,), but))
                else:
                    accept.append(rules.Accept(pattern, letter, tuple(tasks[t] for t in here)))
    return rules.Cascade(tuple(names[j] for j in policy.chain), tuple(accept))


def dumps(found: Study) -> str:
    """The file of a study."""
    doc: dict[str, Any] = {
        "format": FORMAT,
        "policy": [_plain(msgspec.to_builtins(rule)) for rule in found.rules],
        "certificate": [_plain(msgspec.to_builtins(one)) for one in found.certificates],
    }
    head = (
        "# Policies that isocost policy fit chose, and what it certified of them.\n"
        "# isocost policy check FILE says whether the certificates still hold.\n\n"
    )
    return head + tomli_w.dumps(doc)


def loads(text: str, where: str = "policy.toml") -> tuple[tuple[rules.Rule, ...], tuple[Certified, ...]]:
    """Read a file of policies.

    Raises:
        BadLimits: not TOML, a name with a typo, or a policy that cannot be meant.
    """
    try:
        doc = msgspec.toml.decode(text)
        if doc.pop("format", None) != FORMAT:
            raise BadLimits(
                "not policies of this version", where=where, fix=f"It starts with format = {FORMAT}"
            )
        made = msgspec.convert(doc.pop("policy", []), tuple[rules.Rule, ...])
        found = msgspec.convert(doc.pop("certificate", []), tuple[Certified, ...])
        if doc:
            raise BadLimits(f"{next(iter(doc))!r} is not known", where=where, fix=_FIX)
        rules.Policies(made)
    except msgspec.ValidationError as wrong:
        raise BadLimits(str(wrong), where=where, fix=_FIX) from None
    except msgspec.DecodeError as wrong:
        raise BadLimits(f"not TOML: {wrong}", where=where, fix=_FIX) from None
    for one in found:
        _check_figures(one, f"{where} [[certificate]] of {one.workload!r}")
    proven = {one.workload for one in found if one.certified}
    for rule in made:
        if found and rule.workload not in proven and not isinstance(rule.choose, rules.Fixed):
            raise BadLimits(f"no certificate allows the policy of {rule.workload!r}", where=where, fix=_ANEW)
    return made, found


def _check_figures(one: Certified, where: str) -> None:
    """What a certificate says can have been found: shares are finite, savings at most all, in their
    interval."""
    figures = {name: value for name, value in msgspec.structs.asdict(one).items() if isinstance(value, float)}
    odd = next((name for name, value in figures.items() if not math.isfinite(value)), None)
    if odd is None and one.certified:
        high = one.saving if one.saving_high is None else one.saving_high
        odd = None if one.saving_low <= one.saving <= high <= 1.0 else "saving"
        odd = odd or (None if one.p_value <= 1.0 - one.confidence + 1e-9 else "p_value")
    if odd is not None:
        raise BadLimits(f"{odd} = {figures[odd]:g} cannot be", where=where, fix=_ANEW)


def _plain(value: Any) -> Any:
    """Without what is unset, rounded to what can be meant."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items() if v is not None}
    if isinstance(value, list):
        return [_plain(v) for v in value]
    if isinstance(value, float) and math.isfinite(value):
        return float(f"{value:.9g}")
    return value


__all__ = [
    "ROUTING",
    "Certified",
    "Study",
    "Wanted",
    "as_rule",
    "described",
    "dumps",
    "loads",
    "others",
    "splits",
    "study",
]
