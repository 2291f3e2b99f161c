"""Which look at its certifying requests a semantic cache's test is, and at what level it is held.

The order in which thresholds are tried, and what is answered at each, rest on the verifier, the requests, the
limit and how answers are kept: on no grade of a certifying pair. What nobody has graded counts as wrong, so a
test that stops for want of grades has passed no threshold that the whole one would not, and is that same test
when further grades of the same requests come: *one* look at one level, however many rounds. It is another
look where anything of the order changed, or a grade that was read before
(:mod:`isocost.policy.looks` shares the levels out). A round that read no grade of a certifying pair and
certified nothing is none.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from isocost.policy.looks import Look, Tested, earlier, ended, in_order, level, look

CACHE = "cache"
"""What a look at a semantic cache is called, among those of other kinds."""
SPENT = "earlier looks at these requests took all that may go wrong"
_PAIR = struct.Struct("<II")


class Turn(NamedTuple):
    """A test's number among the looks at its requests, the ``level`` that it is held at (0: earlier looks
    left nothing), those ``before`` it, its record of an earlier round (``None``: this is the first), and the
    digest ``fit`` of what it rests on."""

    number: int
    level: float
    before: tuple[Look, ...]
    held: Look | None
    fit: str
    ids: tuple[str, ...]


def turn(
    looks: Sequence[Look],
    rests_on: Any,
    ids: Sequence[str],
    alpha: float,
    grade: Callable[[int, int], bool | None],
) -> Turn:
    """The turn of a test.

    ``rests_on`` is all that sets the order of its thresholds and who is answered at each; ``ids`` are those
    of the certifying requests, of which some may be equal; ``alpha`` is what may go wrong in all.
    """
    test = hashlib.sha256(msgspec.json.encode(rests_on)).hexdigest()[:12]
    rounds: dict[str, list[Look]] = {}
    for one in looks:
        if one.kind == CACHE and one.fit.partition(".")[0] == test:
            rounds.setdefault(one.fit, []).append(one)
    some = {one.fit for one in earlier(looks, CACHE, ids, {})} | set(rounds)
    before = in_order({one.fit: one for one in looks if one.kind == CACHE and one.fit in some}.values())
    for fit, mine in rounds.items():
        read = {pair: same for one in mine for pair, same in grades_of(one)}
        if all(grade(*pair) in (same, None) for pair, same in read.items()):
            place = next(k for k, one in enumerate(before) if one.fit == fit)
            held = with_grades(before[place], read)
            return Turn(place + 1, held.level, before[:place], held, fit, tuple(ids))
    fit = f"{test}.{len(rounds) + 1}" if rounds else test
    return Turn(len(before) + 1, level(alpha, before), before, None, fit, tuple(ids))


def taken(
    this: Turn,
    workload: str,
    made: str,
    read: Mapping[tuple[int, int], bool],
    hit_frac: float | None,
) -> Look | None:
    """The record of a test that has ``read`` grades of certifying pairs and certified a share of hits
    (``None``: nothing); ``None`` where it is no look, or as it is kept already."""
    if this.held is None:
        if not read and hit_frac is None:
            return None
        new = look(Tested(CACHE, workload, "", {}, this.ids), made, this.fit, this.before, this.level)
    else:
        new, read = this.held, {**dict(grades_of(this.held)), **read}
    new = ended(with_grades(new, read), certified=hit_frac is not None, saving=hit_frac or 0.0)
    return None if new == this.held else new


def with_grades(one: Look, read: Mapping[tuple[int, int], bool]) -> Look:
    """A look with the grades that it has read, of pairs of requests by number."""
    packed = b"".join(_PAIR.pack(2 * i + same, j) for (i, j), same in sorted(read.items()))
    return msgspec.structs.replace(one, grades=base64.b64encode(packed).decode())


def grades_of(one: Look) -> list[tuple[tuple[int, int], bool]]:
    """The grades that a look has read, by pair of requests."""
    try:
        packed = base64.b64decode(one.grades, validate=True)
        return [((i // 2, j), bool(i % 2)) for i, j in _PAIR.iter_unpack(packed)]
    except (binascii.Error, struct.error):
        return []
