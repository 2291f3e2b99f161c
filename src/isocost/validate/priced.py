"""What the costs of graded outcomes rest on, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from isocost.policy.outcomes import Outcomes
from isocost.policy.pricing import SIZED, Price

PAID = "as the file's rows say"


def rules_of(outcomes: Outcomes, prices: Sequence[Price]) -> dict[str, str]:
    """By which rule each model is priced; one whose every row has a cost needs none."""
    paid = np.asarray(np.isfinite(outcomes.cost).all(axis=0))
    return {price.model: PAID if paid[j] else price.rule for j, price in enumerate(prices)}


def guessed(rules: Mapping[str, str]) -> tuple[str, ...]:
    """How many prices are guesses."""
    many = sum(rule == SIZED for rule in rules.values())
    if not many:
        return ()
    return (
        f"{many} of {len(rules)} prices are guessed from the size of the weights: what is saved by these "
        "models, or against them, holds only if they cost that",
    )


def counted(outcomes: Outcomes, guesses: Sequence[str], splits: int) -> tuple[str, ...]:
    """What was read, guessed and counted, and over how many splits."""
    counts = "token counts are the file's; where they are proxies, so are the costs"
    if np.isfinite(outcomes.cost).all():
        counts = "costs are the file's"
    elif not (np.isfinite(outcomes.in_tok).any() or np.isfinite(outcomes.out_tok).any()):
        counts = "the file counts no tokens, so all questions of a model are taken to cost the same"
    return (*outcomes.notes, *guesses, counts, f"means over {splits} random splits into A, B and C")


__all__ = ["PAID", "counted", "guessed", "rules_of"]
