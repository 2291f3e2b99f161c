"""The same fleet one step at a time, in plain Python: the reference that the compiled kernel must equal.

Slow and simple on purpose: every step is composed, every running sequence counted, every cache a
dictionary. It states what ``isocost.replay.queue`` promises without skipping anything.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Sequence
from typing import NamedTuple

from isocost.replay.queue import BatchLimits, Terms


class Steps(NamedTuple):
    """Per request: ttft, e2e, replica, status, cached tokens; per replica: busy time; steps in all."""

    ttft_ps: list[int]
    e2e_ps: list[int]
    replica: list[int]
    status: list[int]
    cached_tok: list[int]
    busy_ps: list[int]
    steps: int


class Prompt(NamedTuple):
    """A request: arrival, sizes, cached tokens if it has no blocks, blocks as (id, tokens saved, memory)."""

    arrival_ps: int
    input_tok: int
    output_tok: int
    cached_tok: int = 0
    blocks: tuple[tuple[int, int, int], ...] = ()

    @property
    def need_tok(self) -> int:
        """Memory that it takes alone: blocks, the rest of the prompt, the output."""
        rest = self.input_tok - sum(saved for _, saved, _ in self.blocks)
        return sum(weight for _, _, weight in self.blocks) + rest + self.output_tok


class Replica:
    """One replica: a clock, a line, the request in prefill, the running ones, and block memory."""

    def __init__(self, prompts: Sequence[Prompt], terms: Terms, limits: BatchLimits, result: Steps) -> None:
        self.prompts, self.terms, self.limits, self.result = prompts, terms, limits, result
        self.now_ps = self.busy_ps = self.steps = 0
        self.end_ps: int | None = None
        self.line: deque[int] = deque()
        self.prefilling: list[list[int]] = []  # request, tokens left
        self.running: list[list[int]] = []  # request, tokens held, tokens left
        self.in_use: dict[int, int] = {}  # block -> users
        self.cache: OrderedDict[int, int] = OrderedDict()  # block -> memory, oldest first
        self.pinned_tok = 0

    @property
    def members(self) -> list[int]:
        """Requests that were routed here and have not ended."""
        return [*self.line, *(i for i, _ in self.prefilling), *(i for i, _, _ in self.running)]

    def holds(self, i: int) -> list[int]:
        """Tokens of each leading block of request ``i`` that is in memory."""
        held: list[int] = []
        for block, saved, _ in self.prompts[i].blocks:
            if block not in self.in_use and block not in self.cache:
                break
            held.append(saved)
        return held

    def fits(self, i: int) -> bool:
        """Whether request ``i`` may be admitted now, as far as memory and seats go."""
        shared = sum(weight for block, _, weight in self.prompts[i].blocks if block in self.in_use)
        seats = min(self.limits.max_seqs, self.limits.prefill_budget_tok)
        return (
            len(self.running) + len(self.prefilling) < seats
            and self.pinned_tok + self.prompts[i].need_tok - shared <= self.limits.kv_capacity_tok
        )

    def admit(self, i: int) -> None:
        """Look up, pin, evict; the request enters prefill."""
        prompt = self.prompts[i]
        hit_tok = sum(self.holds(i)) if prompt.blocks else prompt.cached_tok
        todo = max(1, prompt.input_tok - hit_tok)
        self.result.cached_tok[i] = max(0, prompt.input_tok - todo)
        self.pinned_tok += prompt.need_tok
        for block, _, weight in prompt.blocks:
            self.cache.pop(block, None)
            if block in self.in_use:
                self.pinned_tok -= weight
            self.in_use[block] = self.in_use.get(block, 0) + 1
        while self.pinned_tok + sum(self.cache.values()) > self.limits.kv_capacity_tok:
            self.cache.popitem(last=False)
        self.prefilling.append([i, todo])

    def release(self, i: int) -> None:
        """The request ends: what only it used is free, or cached with the tail as the oldest."""
        prompt = self.prompts[i]
        self.result.e2e_ps[i] = self.now_ps - prompt.arrival_ps
        self.pinned_tok -= prompt.need_tok
        for block, _, weight in reversed(prompt.blocks):
            self.in_use[block] -= 1
            if self.in_use[block] == 0:
                del self.in_use[block]
                self.cache[block] = weight
            else:
                self.pinned_tok += weight

    def start(self) -> None:
        """Compose the step that starts now, if there is anything to do."""
        left = self.limits.prefill_budget_tok - len(self.running)
        chunks: list[int] = []
        for request in self.prefilling:
            chunks.append(min(request[1], left))
            left -= chunks[-1]
        while self.line and left > 0 and self.fits(self.line[0]):
            self.admit(self.line.popleft())
            chunks.append(min(self.prefilling[-1][1], left))
            left -= chunks[-1]
        if not self.prefilling and not self.running:
            return
        for request, chunk in zip(self.prefilling, chunks, strict=True):
            request[1] -= chunk
        base, prefill, seq, kv = self.terms
        held = sum(tokens for _, tokens, _ in self.running)
        self.end_ps = self.now_ps + base + prefill * sum(chunks) + seq * len(self.running) + kv * held

    def finish(self) -> None:
        """End the step in flight: each running sequence has a token more, each done prefill its first."""
        assert self.end_ps is not None
        self.busy_ps += self.end_ps - self.now_ps
        self.steps += 1
        self.now_ps, self.end_ps = self.end_ps, None
        for sequence in self.running:
            sequence[1] += 1
            sequence[2] -= 1
        done = sorted(i for i, _, left in self.running if left == 0)
        self.running = [sequence for sequence in self.running if sequence[2]]
        for i in done:
            self.release(i)
        for i, todo in [(i, todo) for i, todo in self.prefilling if todo == 0]:
            prompt = self.prompts[i]
            self.result.ttft_ps[i] = self.now_ps - prompt.arrival_ps
            self.prefilling.remove([i, todo])
            if prompt.output_tok == 1:
                self.release(i)
            else:
                self.running.append([i, prompt.input_tok + 1, prompt.output_tok - 1])

    def run_until(self, until_ps: int | None) -> None:
        """Every step that ends at or before ``until_ps`` and starts before it; all of them for None."""
        while True:
            if self.end_ps is not None:
                if until_ps is not None and self.end_ps > until_ps:
                    return
                self.finish()
            if until_ps is not None and self.now_ps >= until_ps:
                return
            self.start()
            if self.end_ps is None:
                if until_ps is not None:
                    self.now_ps = until_ps
                return


def serve_stepwise(
    prompts: Sequence[Prompt],
    terms: Terms,
    limits: BatchLimits,
    *,
    n_replicas: int = 1,
    routing: str = "jsq",
    schedule: tuple[Sequence[int], Sequence[int]] = ((), ()),
    overflow_outstanding: int = -1,
    affinity_factor: float = 2.0,
) -> Steps:
    """Replay ``prompts`` (sorted by arrival) step by step; parameters as in ``isocost.replay.queue``."""
    n = len(prompts)
    result = Steps([-1] * n, [-1] * n, [-1] * n, [0] * n, [-1] * n, [], 0)
    replicas = [Replica(prompts, terms, limits, result) for _ in range(n_replicas)]
    turn = 0
    for i, prompt in enumerate(prompts):
        if prompt.need_tok > limits.kv_capacity_tok:
            result.status[i] = 2
            continue
        for replica in replicas:
            replica.run_until(prompt.arrival_ps)
        active = n_replicas
        for switch_ps, count in zip(*schedule, strict=True):
            if switch_ps <= prompt.arrival_ps:
                active = count
        load = [len(replica.members) for replica in replicas[:active]]
        room = [r for r in range(active) if overflow_outstanding < 0 or load[r] < overflow_outstanding]
        if not room:
            result.status[i] = 1
            continue
        chosen = min(room, key=lambda r: load[r])
        if routing == "round_robin":
            chosen = min(room, key=lambda r: (r - turn) % active)
        elif routing == "least_tokens":
            sizes = [
                sum(prompts[m].input_tok + prompts[m].output_tok for m in replica.members)
                for replica in replicas
            ]
            chosen = min(room, key=lambda r: sizes[r])
        elif routing == "prefix_affinity":
            held = [len(replica.holds(i)) for replica in replicas[:active]]
            least = min(range(active), key=lambda r: load[r])
            best = min(range(active), key=lambda r: (-held[r], load[r]))
            if load[best] + 1 <= affinity_factor * (load[least] + 1) and best in room:
                chosen = best
        turn = chosen + 1
        result.replica[i] = chosen
        replicas[chosen].line.append(i)
    for replica in replicas:
        replica.run_until(None)
    result.busy_ps.extend(replica.busy_ps for replica in replicas)
    return result._replace(steps=sum(replica.steps for replica in replicas))
