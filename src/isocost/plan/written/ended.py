"""How requests of a closed loop ended: whose answer was taken, when it was there, what was billed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from isocost.ledger import FEMTO_PER_USD
from isocost.plan.written.attempts import Filled, Floats, Rows
from isocost.policy.rules import Cascade, Rule, accepted, pattern
from isocost.policy.table import GROUP0, TRY, Table, attempt_of
from isocost.replay.closed import Closed, Stopped
from isocost.units import PS_PER_S

WHOLE_BITS = 20


def times_of(found: Closed, filled: Filled) -> tuple[Floats, Floats]:
    """Seconds to the first token that is shown and to the last; NaN where an attempt's are not known."""
    e2e_unknown = np.zeros(len(found.served), np.bool_)
    for q in range(found.deployment.shape[1]):
        rows = np.flatnonzero((found.deployment[:, q] >= 0) & (found.begin_ps[:, q] >= 0))
        e2e_unknown[rows] |= filled.e2e_unknown[rows, found.deployment[rows, q]]
    ended = found.served >= 0
    # What is shown only once it is whole is known as that is; else the answer's own first token must be.
    own = filled.ttft_unknown[np.arange(len(ended)), np.maximum(found.served, 0)]
    streamed = found.ttft_ps < found.e2e_ps
    ttft, e2e = found.ttft_ps / PS_PER_S, found.e2e_ps / PS_PER_S
    return (
        np.where(ended & ~e2e_unknown & ~(own & streamed), ttft, np.nan),
        np.where(ended & ~e2e_unknown, e2e, np.nan),
    )


def gates(found: Closed, entry: npt.NDArray[np.int32]) -> Rows:
    """Which entry each request took: the machine of a start is the run of states from it on."""
    starts = np.unique(entry)
    mine = starts[np.searchsorted(starts, found.state, side="right") - 1]
    return np.asarray(np.argmax(entry == mine[:, None], axis=1), np.int64)


def downgraded(
    found: Closed, table: Table, opened: npt.NDArray[np.int32], gate: Rows, filled: Filled
) -> Stopped:
    """Requests that a spent budget sent elsewhere, and what their first attempts would have cost more."""
    began = np.flatnonzero((gate == 1) & (found.deployment[:, 0] >= 0) & (table.op[opened] == TRY))
    first = table.targets[table.first[opened[began]]]
    did = found.deployment[began, 0]
    moved = first != did
    rows, first, did = began[moved], first[moved], did[moved]
    usd = (filled.cost_fusd[rows, first] - filled.cost_fusd[rows, did]) / FEMTO_PER_USD
    return Stopped(len(rows), float(usd.sum()))


def taken(
    rules: Sequence[Rule],
    traffic: Rows,
    found: Closed,
    names: Sequence[str],
    tasks: Sequence[tuple[Sequence[str], Rows]],
) -> Rows:
    """Whose answer is taken (n,), -1 nobody's: of a cascade whose answers agree the one that its table names.

    ``traffic`` (n,) which of the rules; ``tasks`` of each: names, and the code of each of its requests. Where
    a request ended says all that happened to it, so that each end is looked at once.
    """
    served = found.served.astype(np.int64)
    for t, choice in enumerate(rule.choose for rule in rules):
        if not isinstance(choice, Cascade) or choice.checked or not choice.accept:
            continue
        mine = np.flatnonzero(traffic == t)
        names_of, task = tasks[t]
        answered = served[mine] >= 0
        mine, task = mine[answered], task[answered]
        if not len(mine):
            continue
        place = np.full(int(found.state[mine].max()) + 1, -1, np.int64)
        place[found.state[mine]] = np.arange(len(mine))
        whose = np.full(len(place), -1, np.int64)
        for s in np.flatnonzero(place >= 0).tolist():
            i = mine[place[s]]
            asked = [
                (d, o) for d, o in zip(found.deployment[i].tolist(), found.outcome[i].tolist(), strict=True)
                if d >= 0 and names[d] in choice.ask
            ]  # fmt: skip
            tried = [attempt_of(names[d], o) for d, o in asked]
            letter = accepted(choice, names_of[task[place[s]]], pattern(tried))
            if letter is not None:
                whose[s] = next(d for d, o in asked if o == GROUP0 + ord(letter) - ord("A"))
        named = whose[found.state[mine]]
        served[mine] = np.where(named >= 0, named, served[mine])
    return served


class Uncut(NamedTuple):
    """Columns as they were without the limits on input, and without those on output; ``None``: no limits."""

    input: Filled | None
    output: Filled | None


class Cut(NamedTuple):
    """What limits on prompts (``trimmed``) or answers (``capped``) did, over all attempts, whether their
    answer was taken or not: requests of which anything was cut, tokens cut, dollars that they cost less."""

    why: str
    requests: int
    usd: float
    tok: int


def cut_of(found: Closed, filled: Filled, uncut: Uncut, at: tuple[Rows, Rows]) -> list[Cut]:
    """What limits on lengths did; ``at`` are the attempts that began (requests, which of theirs)."""
    out = []
    i, d = at[0], found.deployment[at]
    for why, name, whole in (("trimmed", "input_tok", uncut.input), ("capped", "output_tok", uncut.output)):
        if whole is not None:
            tok = (getattr(whole, name) - getattr(filled, name))[i, d]
            paid = [whole_fusd(billed_fusd(found, each, *at)) for each in (whole, filled)]
            requests = len(np.unique(i[tok > 0]))
            out.append(Cut(why, requests, (paid[0] - paid[1]) / FEMTO_PER_USD, int(tok.sum())))
    return out


def billed_fusd(found: Closed, filled: Filled, i: Rows, q: Rows) -> Rows:
    """What attempts ``q`` of requests ``i`` cost (k,), in 1e-15 dollars: all, nothing, or what was made."""
    d, part = found.deployment[i, q], found.billed[i, q].astype(np.int64)
    cost, first = filled.cost_fusd[i, d], filled.input_fusd[i, d]
    whole = 1 << WHOLE_BITS
    cut = np.flatnonzero((part >= 0) & (part < whole))
    out = np.where(part < 0, 0, cost)
    more = (cost[cut] - first[cut]) / whole * part[cut]
    out[cut] = first[cut] + np.rint(more).astype(np.int64)
    return np.asarray(out, np.int64)


def whole_fusd(values: Rows) -> int:
    """The exact sum of amounts that together may pass 64 bits."""
    return (int((values >> 31).sum()) << 31) + int((values & (2**31 - 1)).sum())
