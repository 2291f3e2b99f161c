"""What a fit saw of its questions: how often each pattern of agreement, and each task, came.

It decides nothing. A replay plays it where neither the log nor graded answers say more
(docs/replay.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from isocost.errors import BadLimits

SUMS_TO: Final = 1e-3
"""How far shares that were rounded by hand may be from their sum."""


class Group(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Tasks that a rule treats alike: ``tasks`` how many questions were of each, ``chance`` as in
    :class:`Seen`, of these questions alone."""

    tasks: dict[str, int]
    chance: dict[str, float] = {}

    @property
    def questions(self) -> int:
        """Questions of all its tasks."""
        return sum(self.tasks.values())


class Seen(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """How often what came on the ``questions`` of a fit: what a replay plays where nothing says more.

    ``chance`` of a cascade: the share of all questions on which each pattern of agreement came (``A``,
    ``AA``, ``AB``, ``A-``), whether or not it would have been asked so far; of a router: ``strong``, the
    share whose score reached the bar. ``groups``: the same for tasks apart, where the rule differs by task.
    """

    questions: int
    chance: dict[str, float] = {}
    groups: tuple[Group, ...] = ()

    def of(self, task: str) -> Mapping[str, float]:
        """The chances of a task's group; of a task that is in none, those of all questions."""
        return next((group.chance for group in self.groups if task in group.tasks), self.chance)


def check_seen(seen: Seen, longest: int, where: str) -> None:
    """Refuse shares that cannot be: each is 0 to 1, and what follows a pattern came as often as that did.

    ``longest`` is how many are asked at most: 1 or more of a cascade, 0 of a router, -1 of a choice that
    reads nothing.

    Raises:
        BadLimits: they cannot be.
    """
    if seen.questions < 1:
        raise BadLimits(
            f"questions = {seen.questions}", where=where, fix="How many were looked at: 1 or more"
        )
    for chance in (seen.chance, *(group.chance for group in seen.groups)):
        _check_chance(chance, longest, where)
    if any(count < 1 for group in seen.groups for count in group.tasks.values()):
        raise BadLimits("a task of no question", where=f"{where} groups", fix="Leave it out")
    every = [task for group in seen.groups for task in group.tasks]
    if len(set(every)) < len(every):
        raise BadLimits("a task in two groups", where=f"{where} groups", fix="Name each once")
    if seen.groups and (total := sum(group.questions for group in seen.groups)) != seen.questions:
        raise BadLimits(
            f"tasks of {total} questions, of {seen.questions}",
            where=f"{where} groups",
            fix="Count each question's task once",
        )


def _check_chance(chance: Mapping[str, float], longest: int, where: str) -> None:
    for name, share in chance.items():
        if not 0.0 <= share <= 1.0:
            raise BadLimits(f"chance of {name!r} is {share:g}", where=where, fix="A share is 0 to 1")
    if longest < 1:
        if set(chance) != ({"strong"} if longest == 0 else set()):
            raise BadLimits(
                "a router's chance is that of strong" if longest == 0 else "nothing is read to choose",
                where=where,
                fix="chance = { strong = 0.3 }" if longest == 0 else "Leave out chance",
            )
        return
    for name in chance:
        check_letters(name, where)
        if not 1 <= len(name) <= longest:
            raise BadLimits(
                f"pattern {name!r} has {len(name)} letters", where=where, fix="One for each asked"
            )
    for before, share in {"": 1.0, **chance}.items():
        after = [chance[name] for name in chance if name[:-1] == before]
        if len(before) < longest and abs(sum(after) - share) > SUMS_TO:
            said = f"what follows {before!r}" if before else "the first letters"
            raise BadLimits(
                f"{said} came on {sum(after):g} of the questions, not on {share:g}",
                where=where,
                fix="Name every pattern that came, of every length",
            )


def check_letters(pattern: str, where: str) -> None:
    """Refuse a pattern of agreement whose letters do not come in order.

    Raises:
        BadLimits: they do not.
    """
    letters = -1
    for letter in pattern:
        group = ord(letter) - ord("A")
        if letter != "-" and not 0 <= group <= letters + 1:
            raise BadLimits(
                f"pattern {pattern!r} cannot be", where=where, fix="Letters in order: AA, AB, ABA, A-"
            )
        letters = max(letters, group if letter != "-" else letters)
