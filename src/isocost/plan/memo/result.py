"""A memo as plain data: the page in Markdown, in the terminal and ``--json`` all read this."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from isocost.plan.result import Band

OPTIONS: Mapping[str, str] = {
    "today": "today's API",
    "api": "closed model by API",
    "hosted": "open weights by API",
    "selfhost": "own replicas",
    "slm": "own small model",
    "mix": "own replicas, API for peaks",
}
"""Options in the order that they are shown, in words."""


COMPUTE = frozenset(
    {
        "api-tokens",
        "inference-compute",
        "idle-compute",
        "redundancy",
        "energy",
        "latency-headroom",
        "fine-tuning",
        "training-from-scratch",
        "retraining",
    }
)
"""Accounts of the running that are tokens, accelerators or energy."""


class Cell(msgspec.Struct, frozen=True):
    """An option at one volume: its cheapest way there. ``replicas``: fewest and most over the week."""

    id: str
    label: str
    usd_per_month: Band
    feasible: bool
    why_not: str
    replicas: tuple[int, int]
    api_frac: float


class OptionRow(msgspec.Struct, frozen=True):
    """An option over the volumes (``None``: it cannot serve there) and what it takes to launch.

    ``by_pillar`` and ``by_account`` are dollars a month at the middle volume; each sums to its cell;
    ``compute_frac`` is the share of it that is tokens, accelerators and energy.
    ``why_not`` says why there is no cell at all.
    """

    option: str
    label: str
    cells: list[Cell | None]
    by_pillar: dict[str, float]
    by_account: dict[str, float]
    days_to_launch: Band | None
    launch_usd: float | None
    quality: str
    why_not: str
    compute_frac: Band | None = None


class Verdict(msgspec.Struct, frozen=True):
    """The least-cost allowed option at a volume; ``sure_frac`` of scenarios it beats ``runner_up``."""

    requests_per_month: float
    option: str
    label: str
    usd_per_month: Band
    runner_up: str
    runner_up_usd: float | None
    sure_frac: float | None


class Crossing(msgspec.Struct, frozen=True):
    """Where traffic that grows past ``requests_per_month`` is served cheaper by another option."""

    before: str
    after: str
    requests_per_month: float
    inside: bool


class Regret(msgspec.Struct, frozen=True):
    """Choosing an option for the middle volume: dollars a month above the best at low, middle and high.

    Replicas rented for a year for the middle volume are paid at every volume. ``None``: it cannot serve.
    ``days_to_switch``: until the best option there serves instead, 0 where it is this one.
    """

    option: str
    label: str
    usd_per_month: list[float | None]
    reserved: int
    days_to_switch: list[float | None]


class Tripwire(msgspec.Struct, frozen=True):
    """A figure to watch: what it is now, where it tips, and what then to do.

    ``at`` and ``now`` are in ``unit``; ``now`` is ``None`` where it is the reader's to measure.
    """

    name: str
    text: str
    now: float | None
    at: float
    unit: str


class Assumed(msgspec.Struct, frozen=True):
    """A fact that the memo rests on; ``low`` to ``high`` is its central 80 %, ``source`` an id."""

    id: str
    subject: str
    words: str
    value: str
    unit: str
    low: float | None
    high: float | None
    kind: str
    source: str
    title: str
    address: str


class Memo(msgspec.Struct, frozen=True):
    """A page for a meeting, as data. Lists by volume are as long as ``volumes``; dollars are a month."""

    title: str
    version: str
    priced_on: str
    price_basis: str
    input_tok: float
    output_tok: float
    now: str
    reference: str
    headline: str
    volumes: list[float]
    verdicts: list[Verdict]
    options: list[OptionRow]
    crossings: list[Crossing]
    regrets: list[Regret]
    tripwires: list[Tripwire]
    assumed: list[Assumed]
    facts: list[Assumed]
    notes: list[str]


def sentence(text: str) -> str:
    """The same with a capital letter."""
    return text[:1].upper() + text[1:]
