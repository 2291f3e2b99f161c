"""Fit and certify a policy for each workload of a set of graded outcomes, and write it as a file.

The file (``policy.toml``) holds ``[[policy]]`` tables as ``plan.toml`` does, and a ``[[certificate]]`` for
each workload: what was proven, on how many labels, and the basis that it rests on
(:mod:`isocost.policy.lapse`).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import tomli_w

from isocost.catalog.catalog import CatalogAt
from isocost.errors import BadInput, BadLimits
from isocost.policy import agree, rules
from isocost.policy.agree import Part, Patterns, patterns, written
from isocost.policy.difficulty import Corpus, Routed, corpus, rows_of
from isocost.policy.fit import (
    Candidate,
    blind,
    candidates,
    certify,
    compared,
    differences,
    label_rows,
    on,
    saving_bounds,
)
from isocost.policy.lapse import Basis, basis
from isocost.policy.outcomes import FEWEST, READ_AGREEMENT, Floats, Ints, Outcomes
from isocost.policy.pricing import RELATIVE, UNKNOWN, Price, costs, price_models, supposed
from isocost.policy.router import Weights
from isocost.policy.seen import Group, Seen
from isocost.units import plural

FORMAT = 1
IN_FILE = "as the file says"
SPLITS = ("A", "B", "C")
_SHARE_A, _SHARE_C = 0.25, 0.15
_FIX = "Compare it with one that isocost policy fit wrote"


class Rung(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A candidate as far as it is known now, for what further grades would buy.

    ``saving`` of strong-only's cost; ``difference`` of quality with its standard error ``doubt``, from A and
    B together; ``on_b`` the difference on B alone; ``discordant`` the share of questions with another
    quality.
    """

    saving: float
    difference: float
    doubt: float
    on_b: float
    discordant: float


class Certified(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What was found for a workload; differences and losses are in quality, 0 to 1.

    ``certified`` is false where strong-only remains; ``more_labels`` then says about how many further grades
    would settle it (``None``: no number would), and ``refused`` what failed: ``quality`` or ``saving``.
    ``usd_per_1000`` is what strong-only costs for 1,000 requests (``None``: prices are relative, so the
    saving is one under supposed prices). ``loss_most`` bounds the loss from above with ``confidence``,
    the saving is ``saving_low`` to ``saving_high`` with the same confidence (``None``: a file that does not
    say). ``held_out`` figures are those of split C, with such an interval. ``blind_difference`` is what the
    content-blind mix of two models does at the same cost. ``agreement`` is how often each pattern came.
    ``ladder``: the candidates for ``tested`` questions of B, from the safest; not kept in the file.
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
    tested: int = 0
    ladder: tuple[Rung, ...] = ()
    notes: tuple[str, ...] = ()


class Study(msgspec.Struct, frozen=True):
    """Certificates, the rules that they allow, scores by file name, prices by model, and what was dropped."""

    certificates: tuple[Certified, ...]
    rules: tuple[rules.Rule, ...]
    weights: dict[str, Weights]
    prices: dict[str, str]
    notes: tuple[str, ...]


class Wanted(msgspec.Struct, frozen=True):
    """What is asked: the strong model (blank: the best), candidates (none: all), and how sure to be."""

    strong: str = ""
    candidates: tuple[str, ...] = ()
    max_loss: float = 0.01
    confidence: float = 0.95
    prices: Mapping[str, tuple[float, float]] = {}


def study(outcomes: Outcomes, at: CatalogAt, wanted: Wanted) -> Study:
    """Choose, certify and report a policy for each workload.

    Raises:
        BadInput: a model that the outcomes do not have, a strong one whose price is not known, splits that
            are stated in part, or a loss or a confidence that cannot be meant.
    """
    if not 0 < wanted.max_loss < 0.5 or not 0.5 <= wanted.confidence < 1:
        raise BadInput(
            f"max loss {wanted.max_loss:g}, confidence {wanted.confidence:g}",
            fix="Type --max-loss 1pp --confidence 95%",
        )
    if outcomes.one_class:
        raise BadInput(
            "one class: every grade is the same",
            fix="Grade so that a wrong answer has another quality than a right one",
        )
    chosen = _asked(outcomes, wanted)
    chooses = np.concatenate([
        splits(chosen, np.flatnonzero(chosen.workload == code))[0] for code in range(len(chosen.workloads))
    ])  # fmt: skip
    prices = price_models(chosen.models, at, wanted.prices, _level(chosen, chooses))
    paid = np.asarray(np.isfinite(chosen.cost).all(axis=0), dtype=np.bool_)
    usd, supposed = costs(chosen, prices, at)
    found, made, weights = [], [], {}
    for code, name in enumerate(chosen.workloads):
        rows = np.flatnonzero(chosen.workload == code)
        certificate, rule, scores = _workload(
            chosen, usd, prices, rows, name or "*", wanted, at.on.isoformat()
        )
        found.append(certificate)
        if rule is not None:
            made.append(rule)
        if scores is not None:
            weights[f"router-{name or 'all'}.json"] = scores
    proxy = (
        ()
        if np.isfinite(chosen.cost).all()
        else ("token counts are as the file has them; proxies make costs proxies",)
    )
    return Study(
        tuple(found), tuple(made), weights,
        {one.model: IN_FILE if paid[j] else one.rule for j, one in enumerate(prices)},
        (*chosen.notes, *supposed, *proxy),
    )  # fmt: skip


def _asked(outcomes: Outcomes, wanted: Wanted) -> Outcomes:
    names = outcomes.models
    for name in (wanted.strong, *wanted.candidates):
        if name and name not in names:
            raise BadInput(f"no outcomes of {name!r}", fix=f"Models: {', '.join(names[:12])}")
    if not wanted.candidates:
        return outcomes
    if not wanted.strong:
        raise BadInput("candidates without the model they may replace", fix="Add --strong MODEL")
    keep = [names.index(name) for name in dict.fromkeys((wanted.strong, *wanted.candidates))]
    return outcomes.take(np.arange(len(outcomes)), keep)


def splits(outcomes: Outcomes, rows: Ints) -> tuple[Ints, Ints, Ints]:
    """Rows of A, B and C: as the file says, else by a hash of the question's id, so that more rows move
    none.

    Raises:
        BadInput: a split that is none of the three, or of some questions only.
    """
    said = np.array([outcomes.split[i] for i in rows])
    strange = sorted(set(said[said != ""].tolist()) - set(SPLITS))
    blank = np.flatnonzero(said == "")
    if strange or 0 < len(blank) < len(rows):
        name = outcomes.workloads[outcomes.workload[rows[0]]]
        raise BadInput(
            f"no split is called {strange[0]!r}"
            if strange
            else f"{plural(len(blank), 'question')} of {len(rows):,} without a split,"
            f" {outcomes.qid[rows[blank[0]]]!r} first",
            where=f"workload {name!r}, column split" if name else "column split",
            fix="Fill in A (choose), B (certify) or C (report) for every question of a workload, or for none",
        )
    if not len(blank):
        return rows[said == "A"], rows[said == "B"], rows[said == "C"]
    place = np.array([_place(outcomes.qid[i]) for i in rows])
    a, c = place < _SHARE_A, place >= 1.0 - _SHARE_C
    return rows[a], rows[~a & ~c], rows[c]


def _level(outcomes: Outcomes, rows: Ints) -> Floats:
    """Mean quality of each model on some questions, (M,); zero where nobody graded it."""
    quality = _filled(outcomes.quality[rows], outcomes.answer[rows])
    return np.asarray(np.nansum(quality, axis=0) / np.maximum(1, np.isfinite(quality).sum(axis=0)))


def _place(qid: str) -> float:
    return int.from_bytes(hashlib.blake2b(qid.encode(), digest_size=8).digest()) / 2**64


def _workload(
    outcomes: Outcomes,
    usd: Floats,
    prices: Sequence[Price],
    rows: Ints,
    name: str,
    wanted: Wanted,
    made: str,
) -> tuple[Certified, rules.Rule | None, Weights | None]:
    """One workload: certificate, rule and score."""
    a, b, c = splits(outcomes, rows)
    if min(len(a), len(b)) < FEWEST // 3:
        raise BadInput(f"{len(rows)} questions of {name!r} are too few", fix=f"At least {FEWEST} are needed")
    strong = _strong(outcomes, usd, a, wanted.strong)
    if supposed(UNKNOWN, prices, outcomes)[strong]:
        known = outcomes.models[strong]
        raise BadInput(
            f"the price of {known!r} is not known, and savings are held against it",
            fix=f"Type --price {known}=IN/OUT (dollars a million tokens), or fill in its cost",
        )
    unit = float(usd[a, strong].mean())
    scale = unit or 1.0  # of a free model nothing is saved, in any unit

    def part(which: Ints, fill: bool = False) -> Part:
        quality = outcomes.quality[which]
        if fill:
            quality = _filled(quality, outcomes.answer[which])
        return Part(
            quality, usd[which] / scale, outcomes.answer[which], outcomes.task[which], len(outcomes.tasks),
            strong, (), outcomes.has_answers, outcomes.whole,
        )  # fmt: skip

    part_a = part(a, fill=True)
    graded = np.flatnonzero(np.isfinite(part_a.quality).all(axis=1))
    part_a, a = part_a.take(graded), a[graded]
    reads = outcomes.has_answers and outcomes.agree_frac > READ_AGREEMENT
    words = corpus(outcomes.query) if all(outcomes.query) and not reads else None
    picked = candidates(part_a, len(b), wanted.max_loss, None if words is None else rows_of(words, a))
    moved = [Candidate(one.name, on(one.policy, words, b), one.expected, one.group) for one in picked]
    labels_a = label_rows(part_a, range(len(outcomes.models)))
    part_b = part(b)
    proof = certify(moved, part_b, wanted.max_loss, wanted.confidence, labels_a)
    names = outcomes.models
    ground = basis(
        dict(zip(names, outcomes.versions, strict=True)),
        {one.model: (one.input_usd_per_mtok, one.output_usd_per_mtok) for one in prices},
        outcomes.tasks, outcomes.task[b], outcomes.in_tok[b],
    )  # fmt: skip
    best = proof.chosen or (moved[0] if moved else None)
    shown = told = None
    if proof.chosen is not None and len(c):
        part_c = part(c, fill=True)
        did = on(proof.chosen.policy, words, c).run(part_c)
        shown, told = compared(did, part_c), saving_bounds(did, part_c, 1.0 - wanted.confidence)
    rule = scores = None
    agreement: dict[str, float] = {}
    if proof.chosen is not None:
        rule, scores, agreement = as_rule(proof.chosen, part_b, names, outcomes.tasks, name, words)
    seen = proof.on_b
    certificate = Certified(
        name, names[strong], described(best, names, strong), proof.chosen is not None, wanted.max_loss,
        wanted.confidence, seen.saving_frac if seen else 0.0, proof.saving_low if seen else 0.0,
        seen.difference if seen else 0.0, max(0.0, -proof.lower) if seen else 0.0, proof.p_value,
        blind(part(b, fill=True), seen.saving_frac) if seen else 0.0, shown.saving_frac if shown else 0.0,
        shown.difference if shown else 0.0, len(c), len(a) + len(b), proof.labels_a + proof.labels_b,
        made, ground, ground.digest, agreement,
        None if supposed(RELATIVE, prices, outcomes).any() else 1000 * unit, proof.more_labels, proof.refused,
        best.expected.discordant_frac if best else 0.0, best.expected.saving_frac if best else 0.0,
        best.expected.difference if best else 0.0, proof.saving_high if seen else None,
        told[0] if told else None, told[1] if told else None, len(b),
        tuple(rung(one, part_b) for one in moved),
    )  # fmt: skip
    return certificate, rule, scores


def rung(one: Candidate, part: Part) -> Rung:
    """A candidate with what folds of A and split B say of it together."""
    did = one.policy.run(part)
    on_b, seen, n = differences(did, part), one.expected, max(1, len(part))
    discordant = (
        seen.discordant_frac * seen.questions + float((on_b != 0).sum())
    ) / (seen.questions + n)  # fmt: skip
    spread = max(discordant, 1.0 / n)
    # Not marked down for having been picked: more of A will choose anew, and better.
    both = (seen.difference * seen.questions + float(on_b.sum())) / (seen.questions + n)
    return Rung(
        compared(did, part).saving_frac, both, (spread / (seen.questions + n)) ** 0.5, float(on_b.mean()),
        discordant,
    )  # fmt: skip


def _strong(outcomes: Outcomes, usd: Floats, a: Ints, named: str) -> int:
    if named:
        return outcomes.models.index(named)
    quality, cost = np.nanmean(outcomes.quality[a], axis=0), usd[a].mean(axis=0)
    return int(min(range(len(quality)), key=lambda j: (-round(float(quality[j]), 9), cost[j])))


def _filled(quality: Floats, answer: Ints) -> Floats:
    """Where all models said the same and nobody graded it, any grade will do: nothing can be gained or
    lost."""
    same = (answer == answer[:, :1]).all(axis=1) & (answer >= 0).all(axis=1)
    open_ = np.isnan(quality).any(axis=1) & same
    out = quality.copy()
    out[open_] = 1.0
    return out


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
        "certificate": [_kept(one) for one in found.certificates],
    }
    head = (
        "# Policies that isocost policy fit chose, and what it certified of them.\n"
        "# isocost policy check FILE says whether the certificates still hold.\n\n"
    )
    return head + tomli_w.dumps(doc)


def _kept(one: Certified) -> dict[str, Any]:
    """A certificate as the file has it: without what only further grades are weighed with."""
    doc = _plain(msgspec.to_builtins(one))
    return {name: value for name, value in doc.items() if name not in ("tested", "ladder")}


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
    return made, found


def _plain(value: Any) -> Any:
    """Without what is unset, rounded to what can be meant."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items() if v is not None}
    if isinstance(value, list):
        return [_plain(v) for v in value]
    if isinstance(value, float) and math.isfinite(value):
        return float(f"{value:.9g}")
    return value
