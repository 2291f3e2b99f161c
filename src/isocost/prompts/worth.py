"""What the prompts of a log say each lever is worth: a row a lever, for the list of levers."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from isocost.prompts.result import Band, Prompts


class Worth(msgspec.Struct, frozen=True):
    """A lever's worth on a log's own prompts, dollars a month; ``note`` says what must still be shown."""

    ids: str
    name: str
    label: str
    saves: Band
    note: str


def worths(found: Prompts) -> list[Worth]:
    """Levers that the prompts of a log price, the dearest first; those worth nothing are left out.

    Each is worth that alone: what two levers save together is less than their sum.
    """
    cached = [one.saves for one in found.lives if one.saves is not None and one.saves.usd > 0]
    batch = [one.waits[-1].saves for one in found.waiting if one.may in ("declared", "likely")]
    caps = {side: [one.knee_saves for one in found.trims if one.side == side] for side in ("input", "output")}
    search = [one.saves for one in found.searched if one.saves.usd > 0]
    equal = [one.repeat_saves for one in found.simple]
    half = [usd for one in found.simple for share, usd in one.ladder if share == 0.5 and usd > 0]
    grade = "grade a sample first (isocost measure)"
    rows = [
        Worth("L7", "prompt-cache", "the cheapest prompt cache for each workload", _sum(cached), ""),
        Worth("L6", "exact-cache", "equal prompts answered from an exact cache", _sum(equal), ""),
        Worth("L7", "prefixes", "mending what breaks prefixes", _sum([found.found_saves]), ""),
        Worth("L10", "batch", "a batch for what may wait a day", _sum(batch), ""),
        Worth("L9", "input-cap", "prompts cut at the knee", _sum(caps["input"]), grade),
        Worth("L9 L22", "output-cap", "answers cut at the knee", _sum(caps["output"]), grade),
        Worth("L8", "retrieval", "retrieval for long prompts", _sum(search), grade),
        Worth("L11", "rules", "a classifier for half of the short answers",
              Band(sum(half), sum(half), sum(half)), grade),
    ]  # fmt: skip
    return sorted((one for one in rows if one.saves.usd > 0.5), key=lambda one: -one.saves.usd)


def _sum(bands: Sequence[Band | None]) -> Band:
    """Bands of separate workloads together, their spreads as if independent."""
    known = [one for one in bands if one is not None]
    usd = sum(one.usd for one in known)
    down = sum((one.usd - one.low_usd) ** 2 for one in known) ** 0.5
    up = sum((one.high_usd - one.usd) ** 2 for one in known) ** 0.5
    return Band(usd, usd - down, usd + up)
