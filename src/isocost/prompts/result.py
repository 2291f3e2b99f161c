"""What is said of a log's prompts: plain data, which the terminal, JSON and the levers read alike."""

from __future__ import annotations

import msgspec


class Band(msgspec.Struct, frozen=True):
    """A number of dollars a month with the ends of an 80 % interval."""

    usd: float
    low_usd: float
    high_usd: float


class Found(msgspec.Struct, frozen=True):
    """What breaks a prefix, where, and what mending it saves; the ``number``-th of its stream to be mended,
    each counted once those before it are.

    ``kind`` of what varies (timestamp, identifier, order of tools …); ``part`` of the prompt it is in, with
    the first and last character there (0: unknown), and ``after_tok`` tokens of prefix before it.
    ``before`` and ``after`` are the words around it, which all those prompts share. ``mend`` says what to do.
    Read shares are of the stream's input, before and after mending. ``why_nothing`` where it saves nothing.
    """

    workload: str
    model: str
    number: int
    kind: str
    part: str
    first_char: int
    last_char: int
    after_tok: int
    before: str
    after: str
    requests: int
    way: str
    mend: str
    read_before_frac: float
    read_after_frac: float
    saves: Band
    cache: str
    why_nothing: str


class CacheCost(msgspec.Struct, frozen=True):
    """A way of caching on a stream: what it reads and writes of the input, and what answers then cost.

    ``own``: it is a way of today's provider, priced at today's model; else at ``priced_as``, and only
    ``input_frac`` (cost of input over that without a cache) compares. ``usd_per_month`` ``None``: unpriced.
    """

    id: str
    title: str
    own: bool
    priced_as: str
    read_frac: float
    written_frac: float
    least_tok: int
    usd_per_month: float | None
    input_frac: float | None
    saves: Band | None


class Reread(msgspec.Struct, frozen=True):
    """A stream's input by how long before it was last sent: shares that sum to 1, ``never`` the new."""

    within_5m: float
    within_1h: float
    later: float
    never: float


class Lives(msgspec.Struct, frozen=True):
    """Caches on one stream: today's bill, each way, the best, and when the long life pays.

    ``breakeven`` is how often what is written must be read again between 5 and 60 minutes later for an hour's
    life to pay; ``rereads`` how often it is. ``logged_read_frac`` and ``logged_usd_per_month`` are as the
    log was billed, ``None`` where it does not say what was read from a cache. ``saves`` is what the best way
    saves next to that, or next to no cache.
    """

    workload: str
    model: str
    requests: int
    input_tok: int
    logged_read_frac: float | None
    logged_usd_per_month: float | None
    endless_read_frac: float
    plain_usd_per_month: float | None
    reread: Reread
    ways: list[CacheCost]
    best: str
    breakeven: float | None
    rereads: float | None
    saves: Band | None
    says: str


class Wait(msgspec.Struct, frozen=True):
    """What waiting for at most ``deadline_h`` saves; ``promised``: the provider states that time.

    ``None`` dollars: nothing is sold with that deadline, or it has no price.
    """

    deadline_h: float
    how: str
    promised: bool
    saves: Band | None


class Waiting(msgspec.Struct, frozen=True):
    """Whether a workload's requests could wait: ``may`` is declared, likely, unlikely or unknown."""

    workload: str
    requests: int
    usd_per_month: float | None
    may: str
    because: str
    declared_h: float | None
    regular_frac: float
    followed_frac: float | None
    waits: list[Wait]


class Filled(msgspec.Struct, frozen=True):
    """Own replicas that do waiting work in quiet hours: capacity needed, over that without waiting.

    ``missed`` of ``deferred`` requests, counted by a replay in order of deadlines.
    """

    deadline_h: float
    capacity_frac: float
    busy_frac: float
    deferred: int
    missed: int


class Cap(msgspec.Struct, frozen=True):
    """A limit on a length: requests that it cuts, and the bill with it over the bill without."""

    cap_tok: int
    cut_frac: float
    cost_frac: float
    saves_usd: float


class Trim(msgspec.Struct, frozen=True):
    """What a limit on input or output would cut and save, on a stream; ``knee`` is an index into ``caps``."""

    workload: str
    model: str
    side: str
    caps: list[Cap]
    knee: int
    knee_saves: Band


class Study(msgspec.Struct, frozen=True):
    """A published comparison: points of quality with retrieval less those with the whole text."""

    title: str
    model: str
    asked_on: str
    delta_points: float
    source: str


class Searched(msgspec.Struct, frozen=True):
    """Long inputs of a workload replaced by what a search finds: costs by part, dollars a month."""

    workload: str
    model: str
    requests: int
    long_frac: float
    mean_tok: float
    then_tok: float
    today_usd: float
    model_usd: float
    embed_usd: float
    rerank_usd: float
    store_usd: float
    store: str
    unique_mtok: float
    unique_from: str
    saves: Band


class Simple(msgspec.Struct, frozen=True):
    """What rules or a classifier could answer in a workload: repeats, and answers as short as a label.

    ``ladder`` pairs a share of the short answers with dollars a month saved, its own costs taken off.
    ``repeat_saves``: what an exact cache of answers would (``planning/exact-cache.ttl_s``).
    """

    workload: str
    requests: int
    repeat_frac: float | None
    alike_frac: float | None
    short_frac: float
    short_usd: float
    ladder: list[tuple[float, float]]
    own_usd: float
    once_usd: float
    repeat_saves: Band | None = None


class Prompts(msgspec.Struct, frozen=True):
    """Everything that is said of a log's prompts; ``views`` were asked for.

    ``lost_frac`` of all input was sent before behind another beginning, in no pattern that one change mends;
    ``None`` where the log does not show it.
    """

    title: str
    views: tuple[str, ...]
    priced_on: str
    requests: int
    days: float
    usd_per_month: float
    at_least: bool
    known: str
    known_says: str
    found: list[Found]
    found_saves: Band | None
    lost_frac: float | None
    lives: list[Lives]
    waiting: list[Waiting]
    filled: list[Filled]
    trims: list[Trim]
    searched: list[Searched]
    studies: list[Study]
    simple: list[Simple]
    notes: list[str]
