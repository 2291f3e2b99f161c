"""The engines of ``isocost.replay.engine`` with lists and objects: the reference that the kernel must equal.

Slow and simple on purpose; it shares with the kernel only the draw of accepted drafts.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from isocost.replay.engine import EngineLimits, EngineServed, Options, StepTerms

WHOLE = 1 << 20


@dataclass
class Ask:
    """A request and where it stands."""

    i: int
    arrival: int
    prompt: int
    output: int
    cached: int = 0
    brought: int = 0
    computed: int = 0
    made: int = 0
    given: int = 0
    held: int = 0
    kept: int = 0
    mark: int = 0
    ttft: int = -1
    e2e: int = -1
    queued: int = -1
    rank: int = -1
    status: int = 3
    preempted: int = 0
    restarted: int = 0


@dataclass
class Rank:
    """One engine: its line, who runs, its blocks, and who gets tokens from the steps composed."""

    free: int
    taken: int = 0
    line: deque[Ask] = field(default_factory=deque)
    runs: list[Ask] = field(default_factory=list)
    flying: list[tuple[Ask, int]] = field(default_factory=list)
    coming: list[tuple[Ask, int]] = field(default_factory=list)

    @property
    def members(self) -> list[Ask]:
        """Requests routed here that have not ended."""
        return [*self.runs, *self.line]

    def put_out(self, size: int) -> Ask:
        """Who was admitted last loses its place and its blocks; full ones of ``size`` tokens may be found."""
        ask = self.runs.pop()
        ask.kept = ask.computed // size
        ask.mark = self.taken + self.free + ask.held - ask.kept
        self.free += ask.held
        ask.held = ask.computed = 0
        self.flying = [(other, got) for other, got in self.flying if other is not ask]
        ask.made = ask.given
        ask.preempted += 1
        self.line.appendleft(ask)
        return ask


@dataclass
class Group:
    """A replica: ranks that step together, and what it has worked and cost."""

    ranks: list[Rank]
    now: int = 0
    end: int | None = None
    idle: bool = True
    coming: tuple[int, int] | None = None
    flying: tuple[int, int] = (0, 0)
    prefill: int = 0
    decode: int = 0
    steps: int = 0
    phase: str = "on"
    launched: int = 0
    ready: int = 0
    on: int = 0

    @property
    def outstanding(self) -> int:
        """Requests on all ranks."""
        return sum(len(rank.members) for rank in self.ranks)


def blocks(tok: int, size: int) -> int:
    """Blocks that so many tokens take."""
    return -(-tok // size)


class Engines:
    """All replicas, their clock and their rules."""

    def __init__(
        self,
        asks: Sequence[Ask],
        terms: StepTerms,
        limits: EngineLimits,
        options: Options,
        touched: list[int],
    ) -> None:
        self.asks, self.terms, self.limits, self.options, self.touched = asks, terms, limits, options, touched
        self.groups = [
            Group([Rank(limits.n_blocks) for _ in range(limits.ranks)]) for _ in range(options.n_replicas)
        ]
        self.accept = [int(share * 2**31) for share in options.accept_frac]
        self.backlog: list[Ask] = []
        self.turn = 0
        if options.scaling:
            for group in self.groups[options.scaling.first :]:
                group.phase = "off"
        self.start_ps = (
            options.scaling.start_ps if options.scaling else options.losses.start_ps if options.losses else 0
        )

    def compose(self, rank: Rank) -> tuple[int, int, int]:
        """A rank's next step: its time less the base, of that for prefill, and its tokens."""
        from isocost.replay.engine_steps import draw

        terms, limits = self.terms, self.limits
        budget, size = limits.budget_tok, limits.block_tok
        rank.coming = []
        decodes: list[int] = []
        chunks: list[tuple[int, int]] = []
        lost = False
        for ask in list(rank.runs):
            if budget <= 0:
                break
            if ask not in rank.runs:
                break
            if ask.made >= ask.output:
                continue
            todo = ask.prompt + ask.made - ask.computed
            decoding = todo == 1 and ask.made > 0
            ahead = min(budget, 1 + len(self.accept) if decoding else todo)
            need = blocks(ask.computed + ahead, size) - ask.held
            while need > rank.free:
                lost = True
                if rank.put_out(size) is ask:
                    break
            if ask not in rank.runs:
                break
            if need > 0:
                rank.free -= need
                rank.taken += need
                ask.held += need
            budget -= ahead
            if decoding:
                decodes.append(ask.computed)
                got = 1
                if self.accept:
                    u = draw(self.options.seed, ask.i, ask.made)
                    got += next((j for j, edge in enumerate(self.accept) if u >= edge), len(self.accept))
                    got = min(got, ahead, ask.output - ask.made)
                ask.computed += got
                ask.made += got
                rank.coming.append((ask, got))
            else:
                chunks.append((ask.computed, ahead))
                self.computed(rank, ask, ahead)
        while not lost and rank.line and budget > 0 and len(rank.runs) < limits.max_seqs:
            ask = rank.line[0]
            known = ask.prompt + ask.made
            back, found = 0, ask.cached
            if ask.kept:
                back = max(0, ask.kept - max(0, rank.taken - ask.mark))
                back = min(back, (known - 1) // size)
                found = back * size
            decoding = known - found == 1 and ask.made > 0
            todo = min(known - found, budget)
            if blocks(found + todo if limits.by_chunk else known, size) > rank.free:
                break
            rank.line.popleft()
            ask.held = blocks(found + todo, size)
            rank.free -= ask.held
            rank.taken += ask.held - back
            ask.kept, ask.computed = 0, found
            rank.runs.append(ask)
            budget -= todo
            if decoding:
                decodes.append(found)
            else:
                chunks.append((found, todo))
            self.computed(rank, ask, todo)
        pairs = sum(sum(range(at + 1, at + n + 1)) for at, n in chunks)
        part = terms.prefill_ps_per_tok * sum(n for _, n in chunks) + terms.pair_fs * pairs // 1000
        step = part + terms.seq_ps * len(decodes) + terms.kv_ps_per_tok * sum(decodes)
        return step, part, limits.budget_tok - budget

    @staticmethod
    def computed(rank: Rank, ask: Ask, n: int) -> None:
        """Tokens of a prompt (or of what was made before) are computed; the last one gives a new one."""
        ask.computed += n
        if ask.computed == ask.prompt + ask.made:
            ask.made += 1
            rank.coming.append((ask, 1))

    def compose_group(self, group: Group) -> None:
        """All ranks compose; the step lasts as long as the slowest."""
        found = [self.compose(rank) for rank in group.ranks]
        tokens = sum(used for _, _, used in found)
        group.coming = None
        if tokens:
            step, part = max((step, -r, part) for r, (step, part, _) in enumerate(found))[::2]
            shared = self.terms.base_ps
            if self.touched:
                shared += self.terms.expert_ps * self.touched[min(tokens, len(self.touched) - 1)] // WHOLE
            group.coming = (step + shared, part + shared if part == step > 0 else part)

    def finish(self, group: Group) -> None:
        """The step in flight ends."""
        assert group.end is not None
        group.now, group.end = group.end, None
        group.steps += 1
        group.prefill += group.flying[1]
        group.decode += group.flying[0] - group.flying[1]
        for rank in group.ranks:
            for ask, got in rank.flying:
                if ask.given == 0:
                    ask.ttft = group.now - ask.arrival
                ask.given += got
                if ask.given >= ask.output:
                    ask.e2e, ask.status = group.now - ask.arrival, 0
                    rank.free += ask.held
                    rank.runs.remove(ask)
            rank.flying = []

    def advance(self, group: Group, until: int | None) -> None:
        """Every step that ends at or before ``until`` and starts before it."""
        while not group.idle:
            if group.end is not None:
                if until is not None and group.end > until:
                    return
                self.finish(group)
            if until is not None and group.now >= until:
                return
            if group.coming is None:
                self.compose_group(group)
            if group.coming is None:
                group.idle = True
                return
            group.flying, group.coming = group.coming, None
            for rank in group.ranks:
                rank.flying, rank.coming = rank.coming, []
            group.end = group.now + group.flying[0]
            if self.limits.lag:
                self.compose_group(group)

    def choose(self) -> int | None:
        """The rank for the next request."""
        ranks = [(group, rank) for group in self.groups for rank in group.ranks]
        limit = self.options.overflow_outstanding
        room = [
            q
            for q, (group, rank) in enumerate(ranks)
            if group.phase == "on" and (limit < 0 or len(rank.members) < limit)
        ]
        scores = {
            "round_robin": lambda q: (q - self.turn) % len(ranks),
            "jsq": lambda q: len(ranks[q][1].members),
            "least_tokens": lambda q: sum(ask.prompt + ask.output for ask in ranks[q][1].members),
            "rank_score": lambda q: 4 * len(ranks[q][1].line) + len(ranks[q][1].runs),
        }
        return min(room, key=scores[self.options.routing], default=None)

    def route(self, ask: Ask, now: int) -> None:
        """A request goes to a rank, waits for a replica, or goes elsewhere."""
        if all(group.phase != "on" for group in self.groups):
            self.backlog.append(ask)
            return
        q = self.choose()
        if q is None:
            ask.status = 1
            return
        self.turn = q + 1
        group = self.groups[q // self.limits.ranks]
        group.ranks[q % self.limits.ranks].line.append(ask)
        ask.rank = q
        if group.idle:
            group.idle, group.now = False, now
        ask.queued = (group.end if group.end is not None else now) - ask.arrival

    def wake(self, now: int) -> None:
        """Replicas whose start ends take requests."""
        for group in self.groups:
            if group.phase == "starting" and group.ready <= now:
                group.phase = "on"
        if any(group.phase == "on" for group in self.groups):
            waiting, self.backlog = self.backlog, []
            for ask in waiting:
                self.route(ask, now)

    def settle(self) -> None:
        """Replicas that drained are off."""
        for group in self.groups:
            if group.phase == "draining" and not group.outstanding:
                group.on += max(group.now, group.ready) - group.launched
                group.phase = "off"

    def scale(self, now: int, changed: int) -> int:
        """One look of the scaling rule."""
        rule = self.options.scaling
        assert rule is not None
        total = len(self.backlog) + sum(group.outstanding for group in self.groups)
        active = [group for group in self.groups if group.phase in ("on", "starting")]
        wanted = min(rule.most, max(rule.least, blocks(total, rule.target)))
        if wanted > len(active):
            spare = [g for g in self.groups if g.phase == "draining"]
            spare += [g for g in self.groups if g.phase == "off"]
            for group in spare[: wanted - len(active)]:
                if group.phase == "draining":
                    group.phase = "on"
                else:
                    group.phase, group.launched, group.ready = "starting", now, now + rule.start_ps
                changed = now
        elif wanted < len(active) and now - changed >= rule.cool_ps:
            for group in [g for g in self.groups[::-1] if g.phase == "on"][: len(active) - wanted]:
                group.phase, group.ready = "draining", now
                changed = now
        return changed

    def lose(self, group: Group, now: int, away: int) -> None:
        """A replica is taken away."""
        if group.phase == "off":
            return
        if group.end is not None:
            group.decode += now - group.now
        group.on += max(0, now - group.launched)
        group.phase = "off" if group.phase == "draining" else "starting"
        group.launched, group.ready = now + away, now + away + self.start_ps
        group.idle, group.now, group.end, group.coming = True, now, None, None
        had = sorted((ask for rank in group.ranks for ask in rank.members), key=lambda ask: ask.i)
        group.ranks = [Rank(self.limits.n_blocks) for _ in group.ranks]
        for ask in had:
            ask.computed = ask.held = ask.kept = 0
            ask.made = ask.given = ask.brought
            ask.restarted += 1
            ask.ttft = -1
            self.route(ask, now)

    def run(self) -> int:
        """Everything, in order of time."""
        rule, losses = self.options.scaling, self.options.losses
        pairs = np.column_stack([losses.at_ps, losses.replica]).tolist() if losses else []
        lost = deque((int(at), int(which)) for at, which in pairs)
        waiting = deque(ask for ask in self.asks if ask.status != 2)
        last = self.asks[-1].arrival if self.asks else 0
        tick = rule.every_ps if rule else None
        changed = -rule.cool_ps if rule else 0
        while True:
            times = [(at, 0) for at, _ in list(lost)[:1]]
            times += [(group.ready, 1) for group in self.groups if group.phase == "starting"]
            if tick is not None and (waiting or tick <= last or self.backlog):
                times.append((tick, 2))
            times += [(ask.arrival, 3) for ask in list(waiting)[:1]]
            if not times:
                break
            now, what = min(times)
            if not waiting and now > last and not self.backlog:
                break
            for group in self.groups:
                self.advance(group, now)
            self.settle()
            if what == 0:
                _, which = lost.popleft()
                assert losses is not None
                self.lose(self.groups[which], now, losses.away_ps)
            elif what == 1:
                self.wake(now)
            elif what == 2:
                assert tick is not None
                assert rule is not None
                changed = self.scale(now, changed)
                self.wake(now)
                tick += rule.every_ps
            else:
                self.route(waiting.popleft(), now)
        end = max(0, last if self.asks else 0)
        for group in self.groups:
            self.advance(group, None)
            end = max(end, group.now)
        self.settle()
        for group in self.groups:
            if group.phase in ("on", "starting"):
                group.on += max(0, end - group.launched)
        return end


def serve_engines_stepwise(
    asks: Sequence[Ask],
    terms: StepTerms,
    limits: EngineLimits,
    options: Options | None = None,
    touched: Sequence[int] = (),
) -> tuple[list[Ask], list[Group], int]:
    """Replay ``asks`` (sorted by arrival); they, the replicas and the last moment come back."""
    options = options or Options()
    for ask in asks:
        ask.prompt = max(1, ask.prompt)
        ask.cached = min(ask.cached, ask.prompt - (ask.brought == 0))
        ask.made = ask.given = ask.brought
        if blocks(ask.prompt + ask.output + len(options.accept_frac), limits.block_tok) > limits.n_blocks:
            ask.status = 2
    engines = Engines(asks, terms, limits, options, list(touched))
    end = engines.run()
    return list(asks), engines.groups, end


def agrees(found: EngineServed, asks: Sequence[Ask], groups: Sequence[Group]) -> bool:
    """Whether the compiled replay says the same, to the picosecond."""
    rows = zip(
        found.ttft_ps, found.e2e_ps, found.queued_ps, found.rank, found.status, found.preempted,
        found.restarted, strict=True,
    )  # fmt: skip
    mine = [(a.ttft, a.e2e, a.queued, a.rank, a.status, a.preempted, a.restarted) for a in asks]
    work = zip(found.prefill_ps, found.decode_ps, found.on_ps, strict=True)
    return [tuple(map(int, row)) for row in rows] == mine and [tuple(map(int, row)) for row in work] == [
        (group.prefill, group.decode, group.on) for group in groups
    ]
