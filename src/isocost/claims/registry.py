"""Every claim by its id, and what tests it."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence

from isocost.claims import laws, prices, runs, serving, worth
from isocost.claims.finding import Claim, Finding, Ruling
from isocost.claims.world import World
from isocost.errors import BadInput, Infeasible, UnknownFact

Test = Callable[[World, Claim], Finding]

TESTS: Mapping[str, Test] = {
    "Q1": runs.q1, "Q2": runs.q2, "Q3": prices.q3, "Q4": laws.q4, "Q5": runs.q5, "Q6": worth.q6,
    "Q7": prices.q7, "Q8": prices.q8, "Q9": prices.q9, "Q10": runs.q10, "Q11": runs.q11, "Q12": runs.q12,
    "Q13": runs.q13, "Q14": runs.q14, "Q15": runs.q15, "Q16": runs.q16, "Q17": runs.q17, "Q18": prices.q18,
    "Q19": prices.q19, "Q20": prices.q20, "Q21": serving.q21, "Q22": prices.q22, "Q23": prices.q23,
    "Q24": prices.q24, "Q25": runs.capex, "Q26": prices.q26,
    "D1": serving.d1, "D2": serving.d2, "D3": serving.d3, "D4": serving.d4, "D5": worth.d5, "D6": worth.d6,
    "D7": serving.d7, "D8": worth.d8, "D9": serving.d9, "D10": laws.d10, "D11": laws.d11, "D12": worth.d12,
    "D13": laws.d13, "D14": worth.d14, "D15": serving.d15, "D16": laws.d16, "D17": worth.d17,
    "D18": prices.d18, "D19": serving.d19, "D20": serving.d20, "D21": worth.d21, "D22": laws.d22,
}  # fmt: skip
"""``Q`` are claims with a number, ``D`` rules of decision."""

IDS: Sequence[str] = tuple(TESTS)
PLANNED = frozenset({
    "Q7", "Q26", "D1", "D2", "D3", "D4", "D5", "D6", "D8", "D9", "D10", "D12", "D13", "D14", "D18", "D19",
    "D20",
})  # fmt: skip
"""Claims that need a planned workload, which takes seconds; a check of the page takes them as it has them."""
NONE = "nothing was found to hold it against"


def judged(world: World, ident: str) -> Finding:
    """Put one claim to the test; where the facts of the day do not reach, it is not settled.

    Raises:
        BadInput: no claim of that id; near ones are named.
    """
    known = ident.upper()
    if known not in TESTS:
        near = difflib.get_close_matches(known, IDS, n=2, cutoff=0.4)
        raise BadInput(
            f"no claim {ident!r}",
            fix=f"Claims are Q1 to Q26 and D1 to D22{'; near: ' + ', '.join(near) if near else ''}",
        )
    claim = world.claim(known)
    try:
        return TESTS[known](world, claim)
    except (UnknownFact, Infeasible) as wrong:
        needs = Ruling("not settled", wrong.line())
        return world.finding(claim, needs, "it cannot be tested on that day", [], NONE, "facts of that day")
