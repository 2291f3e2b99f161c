"""vLLM's V1 scheduler over again, from its own rules, with real blocks: what replays must equal.

Written from ``vllm/v1/core/sched/scheduler.py`` and ``block_pool.py`` alone: blocks have numbers, lie in a
queue of free ones in the order in which they were freed (a request's tail first), and keep what they hold
until somebody takes them. It shares no line with ``isocost.replay``. Ranks of one replica step together.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import NamedTuple


class Rules(NamedTuple):
    """Step time in picoseconds (base, a prompt token, a sequence, a token of cache) and what a rank holds."""

    base: int
    prompt: int
    sequence: int
    cache: int
    max_num_batched_tokens: int
    max_num_seqs: int
    num_blocks: int
    block_size: int
    ranks: int = 1
    by_chunk: int = 0


@dataclass(eq=False)
class Request:
    """One request: tokens known, tokens computed, and its table of blocks."""

    name: int
    arrival: int
    num_prompt: int
    num_output: int
    made: int = 0
    num_computed: int = 0
    table: list[int] = field(default_factory=list)
    first: int = -1
    last: int = -1
    preemptions: int = 0

    @property
    def num_tokens(self) -> int:
        return self.num_prompt + self.made


class Pool:
    """Blocks by number: the free ones in order, and what each still holds (whose, which of its blocks)."""

    def __init__(self, count: int) -> None:
        self.free: OrderedDict[int, None] = OrderedDict((block, None) for block in range(count))
        self.holds: dict[int, tuple[int, int]] = {}
        self.where: dict[tuple[int, int], int] = {}

    def take(self, count: int) -> list[int]:
        """The blocks that were freed longest ago; what they held is gone."""
        taken = [self.free.popitem(last=False)[0] for _ in range(count)]
        for block in taken:
            held = self.holds.pop(block, None)
            if held is not None:
                del self.where[held]
        return taken

    def give(self, table: list[int]) -> None:
        """The tail goes into the queue first, so that the head is taken last."""
        for block in reversed(table):
            self.free[block] = None

    def remember(self, request: Request, full: int) -> None:
        """The first ``full`` blocks of a request can be found again."""
        for place, block in enumerate(request.table[:full]):
            self.holds[block] = (request.name, place)
            self.where[request.name, place] = block

    def known(self, request: Request, size: int) -> list[int]:
        """The longest head of a request that is still there, less one token at least."""
        found = []
        for place in range((request.num_tokens - 1) // size):
            block = self.where.get((request.name, place))
            if block is None or block not in self.free:
                break
            found.append(block)
        return found


class Core:
    """One rank: running requests in order of admission, a waiting line, a pool of blocks."""

    def __init__(self, rules: Rules) -> None:
        self.rules, self.pool = rules, Pool(rules.num_blocks)
        self.running: list[Request] = []
        self.waiting: deque[Request] = deque()

    def blocks(self, tokens: int) -> int:
        return -(-tokens // self.rules.block_size)

    def preempt(self, request: Request) -> None:
        """Free, forget what was computed, wait at the head."""
        self.pool.give(request.table)
        request.table, request.num_computed = [], 0
        request.preemptions += 1
        self.waiting.appendleft(request)

    def schedule(self) -> list[tuple[Request, int]]:
        """Requests of one step, each with how many tokens of it are computed."""
        budget, size = self.rules.max_num_batched_tokens, self.rules.block_size
        out: list[tuple[Request, int]] = []
        preempted = False
        index = 0
        while index < len(self.running) and budget > 0:
            request = self.running[index]
            new = min(request.num_tokens - request.num_computed, budget)
            fits = True
            while self.blocks(request.num_computed + new) - len(request.table) > len(self.pool.free):
                victim = self.running.pop()
                self.preempt(victim)
                preempted = True
                if victim is request:
                    fits = False
                    break
            if not fits:
                break
            request.table += self.pool.take(
                max(0, self.blocks(request.num_computed + new) - len(request.table))
            )
            out.append((request, new))
            budget -= new
            index += 1
        while not preempted and self.waiting and budget > 0:
            request = self.waiting[0]
            if len(self.running) == self.rules.max_num_seqs:
                break
            found = self.pool.known(request, size)
            start = len(found) * size
            new = min(request.num_tokens - start, budget)
            # The whole of what is known must have room, or, in older versions, what a step takes of it.
            room = start + new if self.rules.by_chunk else request.num_tokens
            if self.blocks(room) > len(self.pool.free):
                break
            for block in found:
                del self.pool.free[block]
            request.table = found + self.pool.take(self.blocks(start + new) - len(found))
            request.num_computed = start
            self.running.append(self.waiting.popleft())
            out.append((request, new))
            budget -= new
        for request, new in out:
            self.pool.remember(request, (request.num_computed + new) // size)
        return out

    def cost(self, work: list[tuple[Request, int]]) -> int:
        """What a step takes beside its base."""
        total = 0
        for request, new in work:
            if new == 1 and request.made > 0 and request.num_computed == request.num_tokens - 1:
                total += self.rules.sequence + self.rules.cache * request.num_computed
            else:
                total += self.rules.prompt * new
        return total

    def finish(self, work: list[tuple[Request, int]], now: int) -> None:
        """Tokens come out; who has all of its own gives its blocks back."""
        for request, new in work:
            request.num_computed += new
            if request.num_computed < request.num_tokens:
                continue
            request.made += 1
            if request.made == 1:
                request.first = now
            if request.made == request.num_output:
                request.last = now
                self.running.remove(request)
                self.pool.give(request.table)


def serve(requests: list[Request], rules: Rules) -> int:
    """Play requests, in order of arrival, on one replica; how many steps it took.

    A request goes to the rank with the least of four times its waiting and its running requests. A step
    lasts as long as that of the slowest rank; who arrives during it is seen after it.
    """
    cores = [Core(rules) for _ in range(rules.ranks)]
    coming = deque(requests)
    now = steps = 0
    while coming or any(core.running or core.waiting for core in cores):
        if not any(core.running or core.waiting for core in cores):
            now = max(now, coming[0].arrival)
        arrived(coming, cores, now)
        work = [core.schedule() for core in cores]
        end = now + rules.base + max(core.cost(one) for core, one in zip(cores, work, strict=True))
        # Whoever comes before the step ends is dealt to a rank by what that rank holds during it.
        arrived(coming, cores, end - 1)
        for core, one in zip(cores, work, strict=True):
            core.finish(one, end)
        now, steps = end, steps + 1
    return steps


def arrived(coming: deque[Request], cores: list[Core], until: int) -> None:
    """Deal to ranks who has come by now."""
    while coming and coming[0].arrival <= until:
        request = coming.popleft()
        core = min(cores, key=lambda one: 4 * len(one.waiting) + len(one.running))
        core.waiting.append(request)
