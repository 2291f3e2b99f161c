"""What may go wrong, shared out over fits: each fit that tests questions which an earlier one tested is
another chance to be fooled, so it is the confidence of all of them together that is kept.

A *look* is one test of a workload's certifying questions. Looks that have tested questions in common, of the
same versions of models, are one *sequence*. The first is tested at four fifths of what may go wrong in all,
each later one at half of what is then left, and a look to which the choosing questions give less than an even
chance at less: what is left is never all spent, and all levels together are at most the whole (Bonferroni).
None of these is set by what the tested questions say. How many questions there are by the next look may be,
by who has read the last one. So what early looks did not take goes only in part to later ones: look ``k``
takes at most ``2**-k`` of the whole, which keeps it for the worst rule of setting that number as well
(docs/maths.md). The looks are kept as a file beside the outcomes
(:func:`dumps`).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec
import tomli_w

from isocost.errors import BadLimits

FORMAT = 1
FIRST_FRAC, LATER_FRAC = 0.8, 0.5
"""Share of what is left that a sequence's first look, and each later one, is tested at."""
EVEN = 0.5
"""Chance from which a look is given its whole share; below in proportion, and not below ``_LEAST_FRAC``."""
_LEAST_FRAC = 0.05
_LEAST_LEVEL = 1e-6
"""A test at less than this proves nothing that a few thousand questions can hold."""
_ID_BYTES = 6
_HEAD = (
    "# When isocost policy fit tested which of these questions, and at what level: the next fit's level\n"
    "# follows from it. Keep it beside the outcomes; without it the next fit counts as the first.\n\n"
)
_FIX = "Take it back from where it was saved; without it the next fit counts as the first at its questions"


class Look(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One test of a workload's certifying questions.

    ``fit`` is a digest of all that was tested and chosen from, so that the same fit again is no other look;
    ``sequence`` the digests of the first looks of the sequences that it goes on; ``level`` the probability of
    a false certificate that it was tested at; ``tested`` the count of ``questions``, which are hashes of
    their ids, base64. ``versions`` by model that could answer instead of the strong one. ``number`` is its
    place among the looks that it goes on, from 1 (0: an older record, which does not say). ``grades`` are
    those that a look in several rounds has read (:mod:`isocost.policy.semantic_looks`), base64. ``kept`` is
    a digest of the rest, so that a line changed by hand is noticed.
    """

    kind: str
    workload: str
    strong: str
    made: str
    fit: str
    sequence: tuple[str, ...]
    level: float
    certified: bool
    saving: float
    versions: dict[str, str]
    tested: int
    questions: str
    grades: str = ""
    number: int = 0
    kept: str = ""


class Tested(NamedTuple):
    """What a look tests: of which ``kind`` (a routing policy, a cache), for which workload, against which
    strong model (blank: none), with which versions of the others, and the ids of the questions."""

    kind: str
    workload: str
    strong: str
    versions: Mapping[str, str]
    qids: Sequence[str]


def look(what: Tested, made: str, fit: str, before: Sequence[Look], level: float) -> Look:
    """A look that is taken now, after those ``before`` it of its sequence; not yet :func:`ended`."""
    hashes = sorted(hashed(what.qids))
    of = tuple(sorted({one for each in before for one in each.sequence})) or (fit,)
    return Look(
        what.kind, what.workload, what.strong, made, fit, of, level, False, 0.0, dict(what.versions),
        len(hashes), base64.b64encode(b"".join(hashes)).decode(), number=len(before) + 1,
    )  # fmt: skip


def ended(taken: Look, *, certified: bool, saving: float) -> Look:
    """A look with what came of it."""
    rounded = float(f"{saving:.9g}")
    open_ = msgspec.structs.replace(taken, certified=certified, saving=rounded, kept="")
    return msgspec.structs.replace(open_, kept=_kept(open_))


def hashed(qids: Iterable[str]) -> frozenset[bytes]:
    """Questions as looks remember them."""
    return frozenset(hashlib.blake2b(qid.encode(), digest_size=_ID_BYTES).digest() for qid in qids)


def in_order(looks: Iterable[Look]) -> tuple[Look, ...]:
    """Looks in the order in which they were taken, whatever the files are called that keep them."""
    return tuple(sorted(looks, key=lambda one: (one.made, one.number)))


def strong_of(looks: Iterable[Look], kind: str, models: Sequence[str]) -> dict[str, str]:
    """The strong model that the last look at each workload was held against, where it is among ``models``."""
    return {one.workload: one.strong for one in in_order(looks) if one.kind == kind and one.strong in models}


def seen_by(looks: Iterable[Look]) -> frozenset[bytes]:
    """Questions that any of the looks tested."""
    return frozenset(one for each in looks for one in _questions(each))


def earlier(
    looks: Sequence[Look], kind: str, qids: Iterable[str], versions: Mapping[str, str]
) -> tuple[Look, ...]:
    """Looks that a fit on these questions goes on, in their order: those that tested any of them, and all of
    their sequences. The same look in two files is one.

    Other candidates at the same questions are another choice among what was tested, shared or not. Only where
    each model of now was one of then, in another version, are these other outcomes.
    """
    here = hashed(qids)
    found = {
        one.fit: one
        for one in looks
        if one.kind == kind and not here.isdisjoint(_questions(one)) and not _anew(one.versions, versions)
    }
    of = {one for each in found.values() for one in each.sequence}
    found |= {one.fit: one for one in looks if one.kind == kind and of & set(one.sequence)}
    return in_order(found.values())


def _anew(was: Mapping[str, str], now: Mapping[str, str]) -> bool:
    return bool(now) and all(was.get(name, version) != version for name, version in now.items())


def left(alpha: float, before: Iterable[Look]) -> float:
    """What may still go wrong after the looks ``before``, of ``alpha`` in all.

    >>> left(0.05, [])
    0.05
    """
    return max(0.0, alpha - math.fsum(one.level for one in before))


def level(alpha: float, before: Sequence[Look], chance: float = 1.0) -> float:
    """The level at which the next look is tested, so that all together stay within ``alpha``.

    ``chance`` is how likely it is to certify, as questions see it that it does not test. Zero: nothing is
    left.

    >>> level(0.05, []), level(0.05, [], 0.25), level(0.05, [], 0.0)
    (0.04, 0.02, 0.002)
    """
    rest = left(alpha, before)
    whole = min(rest * LATER_FRAC, alpha * 0.5 ** (len(before) + 1)) if before else rest * FIRST_FRAC
    now = scaled(whole, chance)
    return now if now >= _LEAST_LEVEL else 0.0


def scaled(whole: float, chance: float) -> float:
    """What of its ``whole`` level a look is given that is so likely to certify."""
    return float(f"{whole * min(1.0, max(_LEAST_FRAC, chance / EVEN)):.9g}")


def dumps(looks: Sequence[Look]) -> str:
    """The file of looks."""
    doc = {"format": FORMAT, "look": [msgspec.to_builtins(one) for one in looks]}
    return _HEAD + tomli_w.dumps(doc)


def loads(text: str, where: str = "outcomes.looks.toml") -> tuple[Look, ...]:
    """Read a file of looks.

    Raises:
        BadLimits: it is not one, or a look is not as it was written.
    """
    try:
        doc = msgspec.toml.decode(text)
        if not isinstance(doc, dict) or doc.get("format") != FORMAT or set(doc) - {"format", "look"}:
            raise BadLimits("no looks of this version", where=where, fix=_FIX)
        found = msgspec.convert(doc.get("look", []), tuple[Look, ...])
    except (msgspec.ValidationError, msgspec.DecodeError) as wrong:
        raise BadLimits(f"its looks cannot be read: {wrong}", where=where, fix=_FIX) from None
    for k, one in enumerate(found):
        if one.kept != _kept(one):
            raise BadLimits(f"look {k + 1} of {one.made} is not as it was written", where=where, fix=_FIX)
    return found


def _kept(one: Look) -> str:
    plain = msgspec.structs.replace(one, kept="")
    return hashlib.sha256(msgspec.json.encode(plain, order="sorted")).hexdigest()[:12]


def _questions(one: Look) -> frozenset[bytes]:
    try:
        packed = base64.b64decode(one.questions, validate=True)
    except binascii.Error:
        return frozenset()
    return frozenset(packed[i : i + _ID_BYTES] for i in range(0, len(packed), _ID_BYTES))


__all__ = [
    "Look",
    "Tested",
    "dumps",
    "earlier",
    "ended",
    "hashed",
    "in_order",
    "left",
    "level",
    "loads",
    "look",
    "scaled",
    "seen_by",
    "strong_of",
]
