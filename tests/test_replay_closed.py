"""The closed loop: a rule's table in the kernel against the rule itself, asked at every turn."""

from __future__ import annotations

import heapq
from itertools import count

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isocost.errors import BadLimits
from isocost.policy.route import Attempt, Request, Share, Try, View
from isocost.policy.rules import Accept, Cascade, Defer, Fixed, Guard, Hedge, Recover, Rule, Split, decide
from isocost.policy.table import Columns, compile_rule, entries
from isocost.replay.closed import Happened, Known, Replicas, serve_closed, stopped
from isocost.replay.engine import EngineLimits, Options, StepTerms
from isocost.replay.engine_stepwise import Ask, Engines, blocks

TERMS = StepTerms(1000, 7, 11, 1, 900)
NAMES = {"failed": 0, "overflowed": 1, "missed": 2, "served": 3, "passed": 4, "rejected": 5}


class Pool(Engines):
    """A pool in the loop: its steps are taken by whoever holds the clock."""

    def take(self, group, now: int) -> None:
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


class Loop:
    """Requests, each asking its rule what next whenever one of its attempts is told."""

    def __init__(self, rule, requests, arrival, deployments, judged, answer) -> None:
        self.rule, self.requests, self.arrival = rule, requests, arrival
        self.deployments, self.judged, self.answer = deployments, judged, answer
        self.pools = {
            name: Pool([], each.terms, each.limits, each.options, [])
            for name, each in deployments.items()
            if isinstance(each, Replicas)
        }
        self.tried = [[] for _ in requests]  # [deployment, outcome or None, begin, first, end, stagger]
        self.told = [[] for _ in requests]
        self.ends = [None] * len(requests)  # ttft, e2e, served
        self.heap, self.order = [], count()

    def enter(self, i: int, now: int) -> bool:
        """Ask the rule; whether the request goes on."""
        action = decide(self.rule, self.requests[i], [one for one, _ in self.told[i]], View())
        if not isinstance(action, Try):
            return False
        for k, name in enumerate(action.deployments):
            at = now + round(action.not_before_s * 1e12) + k * round(action.stagger_s * 1e12)
            self.tried[i].append([name, None, -1, -1, -1, action.stagger_s])
            heapq.heappush(self.heap, (at, next(self.order), i, "begins", len(self.tried[i]) - 1))
        return True

    def value(self, i: int, a: int) -> str:
        return self.judged[self.tried[i][a][0]][i]

    def tell(self, i: int, now: int) -> None:
        while self.ends[i] is None and len(self.told[i]) < len(self.tried[i]):
            a = len(self.told[i])
            name, outcome, _, first, _, stagger = self.tried[i][a]
            if outcome is None:
                if stagger > 0:
                    for other in self.tried[i][a + 1 :]:
                        if other[1] is not None and NAMES[other[1]] >= 3 and self.ends[i] is None:
                            self.ends[i] = (other[3] - self.arrival[i], now - self.arrival[i], other[0])
                return
            outcome = self.value(i, a) if outcome == "hidden" else outcome
            group = -1
            if outcome == "served" and isinstance(self.rule.choose, Cascade) and not self.rule.choose.checked:
                mine = self.answer[name][i]
                known = {
                    self.answer[one.deployment][i]: one.answer for one, _ in self.told[i] if one.answer >= 0
                }
                group = known.get(mine, len(known))
            alone = self.shown_at_once(i)
            self.told[i].append((Attempt(name, outcome, group), None))
            answered = NAMES[outcome] >= 3
            if not self.enter(i, now):
                ttft = first if answered and alone else now
                self.ends[i] = (ttft - self.arrival[i], now - self.arrival[i], name if answered else None)

    def shown_at_once(self, i: int) -> bool:
        """Whether every answer that may come now ends the request."""
        past = [one for one, _ in self.told[i]]
        name = self.tried[i][len(past)][0]
        groups = 1 + max((one.answer for one in past), default=-1)
        may = [Attempt(name, ended) for ended in ("served", "passed", "rejected")]
        may += [Attempt(name, "served", g) for g in range(groups + 1)]
        return not any(
            isinstance(decide(self.rule, self.requests[i], [*past, one], View()), Try) for one in may
        )

    def over(self, i: int, a: int, now: int, outcome: str) -> None:
        self.tried[i][a][4] = now
        hedge = (
            outcome == "hidden" and self.tried[i][len(self.told[i])][5] > 0
            if (len(self.told[i]) < len(self.tried[i]))
            else False
        )
        self.tried[i][a][1] = self.value(i, a) if hedge else outcome
        self.tell(i, now)

    def begin(self, i: int, a: int, now: int) -> None:
        if self.ends[i] is not None:
            return
        self.tried[i][a][2] = now
        name = self.tried[i][a][0]
        each = self.deployments[name]
        if isinstance(each, Known):
            self.tried[i][a][3] = now + each.ttft_ps[i]
            heapq.heappush(self.heap, (now + each.e2e_ps[i], next(self.order), i, "ends", a))
            return
        ask = Ask(i, now, max(1, each.input_tok[i]), each.output_tok[i])
        ask.attempt = a
        if blocks(ask.prompt + ask.output, each.limits.block_tok) > each.limits.n_blocks:
            self.over(i, a, now, "failed")
            return
        self.pools[name].route(ask, now)
        if ask.status == 1:
            self.over(i, a, now, "overflowed")

    def run(self):
        coming = 0
        while True:
            event = self.heap[0][0] if self.heap else None
            arrives = coming < len(self.arrival) and (event is None or self.arrival[coming] <= event)
            event = self.arrival[coming] if arrives else event
            groups = [(pool, group) for pool in self.pools.values() for group in pool.groups]
            ends = [group.end for _, group in groups if group.end is not None]
            waits = [group.now for _, group in groups if group.end is None and not group.idle]
            if event is None and not ends and not waits:
                return self
            far = 10**30
            at_event = far if event is None else event
            if ends and min(ends) <= min(at_event, min(waits, default=far)):
                pool, group = next(pair for pair in groups if pair[1].end == min(ends))
                done = [
                    ask for rank in group.ranks for ask, got in rank.flying if ask.given + got >= ask.output
                ]
                pool.finish(group)
                for ask in done:
                    self.tried[ask.i][ask.attempt][3] = ask.arrival + ask.ttft
                    self.over(ask.i, ask.attempt, group.now, "hidden")
            elif at_event <= min(waits, default=far):
                if arrives:
                    i, coming = coming, coming + 1
                    if not self.enter(i, event):
                        self.ends[i] = (0, 0, None)
                    continue
                now, _, i, what, a = heapq.heappop(self.heap)
                if what == "begins":
                    self.begin(i, a, now)
                else:
                    self.over(i, a, now, "hidden")
            else:
                pool, group = next(
                    pair for pair in groups
                    if pair[1].end is None and not pair[1].idle and pair[1].now == min(waits)
                )  # fmt: skip
                pool.take(group, group.now)


RULES = st.sampled_from(
    [
        Rule(Fixed("small")),
        Rule(Fixed("api")),
        Rule(Split((Share("small", (0.5,)), Share("api", (0.5,))))),
        Rule(Fixed("small"), recover=Recover(2, 4e-9, ("api", "large"))),
        Rule(Fixed("small"), cache="cache", recover=Recover(0, 0.0, ("api",))),
        Rule(Fixed("small"), hedge=Hedge("large", 5e-9), recover=Recover(0, 0.0, ("api",))),
        Rule(Cascade(("small", "large"), checked=True)),
        Rule(Cascade(("small", "api", "large"), (Accept("AA", "A"),), together=2)),
        Rule(Cascade(("small", "large", "api"), (Accept("AA", "A"),)), recover=Recover(0, 0.0, ("api",))),
        Rule(Fixed("small"), defer=Defer("api", 50.0), guard=Guard(most_input_tok=45)),
    ]
)


@st.composite
def worlds(draw):
    n = draw(st.integers(1, 10))
    arrival = np.cumsum(draw(st.lists(st.integers(0, 6000), min_size=n, max_size=n))).tolist()
    prompt = draw(st.lists(st.integers(0, 50), min_size=n, max_size=n))
    output = draw(st.lists(st.integers(1, 20), min_size=n, max_size=n))
    waits = [draw(st.sampled_from([None, 10.0, 60.0])) for _ in range(n)]

    def pool(scale: int) -> Replicas:
        limits = EngineLimits(
            draw(st.integers(2, 40)), draw(st.integers(1, 4)), draw(st.integers(12, 40)), 4,
            draw(st.integers(1, 2)), draw(st.integers(0, 1)),
        )  # fmt: skip
        terms = StepTerms(*(term * scale for term in TERMS))
        options = Options(draw(st.integers(1, 2)), overflow_outstanding=draw(st.sampled_from([-1, 1, 3])))
        return Replicas(terms, limits, options, prompt, output)

    times = [draw(st.lists(st.integers(0, 20000), min_size=n, max_size=n)) for _ in range(2)]
    api = Known(np.array(times[0]), np.array(times[0]) + np.array(times[1]))
    deployments = {
        "small": pool(1), "large": pool(3), "api": api, "cache": Known(np.zeros(n, int), np.zeros(n, int))
    }  # fmt: skip
    kinds = {"cache": ["missed", "served"]}
    usual = ["served", "served", "served", "passed", "rejected", "failed"]
    judged = {name: [draw(st.sampled_from(kinds.get(name, usual))) for _ in range(n)] for name in deployments}
    answer = {name: [draw(st.integers(0, 2)) for _ in range(n)] for name in deployments}
    return draw(RULES), arrival, prompt, output, waits, deployments, judged, answer


@settings(max_examples=300, deadline=None)
@given(worlds())
def test_equals_the_rule_asked_at_every_turn(world) -> None:
    rule, arrival, prompt, output, waits, deployments, judged, answer = world
    n = len(arrival)
    if isinstance(rule.choose, Cascade):
        plain = ["passed", "rejected", "failed"] if rule.choose.checked else ["served", "served", "failed"]
        judged = {
            name: [plain[NAMES[one] % 3] if name != "cache" else one for one in values]
            for name, values in judged.items()
        }
    requests = [
        Request("", "", i, 0, input_tok=prompt[i], output_tok=output[i], wait_s=waits[i]) for i in range(n)
    ]
    loop = Loop(rule, requests, arrival, deployments, judged, answer).run()
    table = compile_rule(rule)
    nan = np.array([np.nan if wait is None else wait for wait in waits])
    columns = Columns(
        np.arange(n), np.zeros(n, int), np.zeros(n, int), np.full(n, np.nan), np.array(prompt),
        np.array(output), nan, np.full(n, -1.0), np.full(n, -1),
    )  # fmt: skip
    happened = Happened({d: [NAMES[one] for one in judged[d]] for d in judged}, answer)
    mine = {name: deployments[name] for name in table.names}
    found = serve_closed(arrival, table, entries(rule, table, columns, ()), mine, happened)
    ends = [(-1, -1, None) if end is None else end for end in loop.ends]
    assert found.ttft_ps.tolist() == [end[0] for end in ends]
    assert found.e2e_ps.tolist() == [end[1] for end in ends]
    served = [table.names[d] if d >= 0 else None for d in found.served]
    assert served == [end[2] for end in ends]
    for i in range(n):
        begun = [(name, at) for name, _, at, *_ in loop.tried[i]]
        assert [
            (table.names[d], at)
            for d, at in zip(found.deployment[i], found.begin_ps[i], strict=True)
            if d >= 0
        ] == begun


def columns_of(n: int, spent_usd: float = -1.0) -> Columns:
    zero, none = np.zeros(n, int), np.full(n, np.nan)
    return Columns(
        np.arange(n), zero, zero, none, zero + 10, zero + 5, none, np.full(n, spent_usd), zero - 1
    )  # fmt: skip


def test_a_budget_stops_what_comes_after_it_is_spent() -> None:
    """Ten requests of a dollar, a budget of four: past half of it the cheap one answers, then none."""
    rule = Rule(Fixed("api"), guard=Guard(budget="team", usd=4.0, soft_frac=0.5, then="small"))
    table = compile_rule(rule)
    n = 10
    gates = [entries(rule, table, columns_of(n, usd), ()) for usd in (0.0, 2.0, 4.0)]
    entry = np.stack(gates, axis=1)
    answers = {"api": Known(np.full(n, 5), np.full(n, 9)), "small": Known(np.full(n, 1), np.full(n, 2))}
    cost = {"api": np.full(n, 1.0), "small": np.full(n, 1.0)}
    happened = Happened(cost_usd=cost, soft_usd=2.0, hard_usd=4.0)
    found = serve_closed(np.arange(n) * 100, table, entry, answers, happened)
    names = [table.names[d] if d >= 0 else "" for d in found.served]
    assert names == ["api"] * 2 + ["small"] * 2 + [""] * 6
    assert found.spent_usd == 4.0
    assert stopped(found, table, entry, happened)["budget"] == (6, 6.0)


def test_what_a_cascade_sends_on_is_load_there() -> None:
    """Rejected answers wait in the large pool's line behind each other, and their waiting is in the TTFT."""
    n = 40
    arrival, sizes = np.arange(n) * 100, (np.full(n, 20), np.full(n, 4))
    rule = Rule(Cascade(("small", "large"), checked=True))
    table = compile_rule(rule)
    limits = EngineLimits(64, 8, 400, 4)
    pools = {
        "small": Replicas(TERMS, limits, Options(), *sizes),
        "large": Replicas(TERMS, limits._replace(max_seqs=1), Options(), *sizes),
    }
    entry = entries(rule, table, columns_of(n), ())
    found = serve_closed(arrival, table, entry, pools, Happened({"small": np.full(n, NAMES["rejected"])}))
    assert (found.served == table.names.index("large")).all()
    waits = found.ttft_ps - (found.end_ps[:, 0] - arrival)
    assert (np.diff(waits[5:]) > 0).mean() > 0.9
    assert (found.begin_ps[:, 1] == found.end_ps[:, 0]).all()


def test_drawn_outcomes_come_as_often_as_the_table_says() -> None:
    n = 20_000
    rule = Rule(Cascade(("small", "large"), checked=True))
    table = compile_rule(rule)
    first = int(table.starts[next(iter(table.starts))])
    table.chance[first, NAMES["passed"]], table.chance[first, NAMES["rejected"]] = 0.7, 0.3
    table.chance[table.after[first, NAMES["rejected"]], NAMES["served"]] = 1.0
    answers = {name: Known(np.full(n, 3), np.full(n, 3)) for name in table.names}
    entry = entries(rule, table, columns_of(n), ())
    found = serve_closed(np.arange(n), table, entry, answers)
    assert (found.served == 1).mean() == pytest.approx(0.3, abs=0.015)
    again = serve_closed(np.arange(n), table, entry, answers, Happened(seed=1))
    assert (again.served != found.served).any()


def test_impossible_loops_are_refused() -> None:
    table = compile_rule(Rule(Fixed("api")))
    entry = np.zeros(1, int)
    with pytest.raises(BadLimits, match="api"):
        serve_closed([0], table, entry, {})
    table.after[0, NAMES["failed"]] = 0  # again and again
    with pytest.raises(BadLimits, match="64"):
        serve_closed([0], table, entry, {"api": Known([1], [1])})
