"""Failures in the closed loop: the kernel against the rule asked at every turn, and what each kind costs."""

from __future__ import annotations

import heapq
import os
import subprocess
import sys
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isocost.errors import BadLimits
from isocost.policy.route import Request
from isocost.policy.rules import Accept, Cascade, Fixed, Hedge, Recover, Rule
from isocost.policy.table import compile_rule, entries
from isocost.replay.closed import Happened, Known, serve_closed
from isocost.replay.engine_steps import draw
from isocost.replay.faults import KINDS, Failing, Faults, Outages, renewed, shifted
from test_replay_closed import Loop, columns_of

S = 10**12
APIS = ("a", "b", "c")


class Failures(Loop):
    """The loop in plain Python with whatever fails, billed as it goes."""

    def __init__(self, rule, requests, arrival, deployments, judged, answer, faults, cost) -> None:
        super().__init__(rule, requests, arrival, deployments, judged, answer)
        self.faults, self.cost = faults, cost
        self.holds = {name: faults.holds.get(name, most) for name, most in faults.limits.items()}
        self.level = {name: list(holds) for name, holds in self.holds.items()}
        self.seen = dict.fromkeys(faults.limits, 0)
        self.why = [[] for _ in requests]
        self.billed = [[] for _ in requests]

    def admitted(self, one: Failing, name: str, i: int, now: int) -> bool:
        level, most = self.level[one.limit], self.faults.limits[one.limit]
        passed, self.seen[one.limit] = now - self.seen[one.limit], now
        tokens = [int(column[i]) for column in self.faults.asks[name]]
        needs = [1, *tokens, sum(tokens)]
        for m in range(4):
            level[m] = min(self.holds[one.limit][m], level[m] + most[m] * (passed / 60e12))
        enough = all(have >= need for have, need in zip(level, needs, strict=True))
        for m in range(4):
            level[m] -= needs[m] if enough else 0
        return enough

    def fate(self, i: int, a: int, now: int) -> tuple[str, int]:
        name = self.tried[i][a][0]
        one, seed = self.faults.failing.get(name, Failing()), self.faults.seed
        e2e = int(self.deployments[name].e2e_ps[i])
        if one.limit and not self.admitted(one, name, i, now):
            return "refused", now + round(one.refused_s * S)
        before = sum(t[0] == name and t[2] >= 0 for t in self.tried[i][:a])
        place = (crc32(name.encode()) & 0x7FFFFFFF) + 8 * before
        in_outage = False
        if one.outages is not None:
            for start, end, frac in zip(*one.outages, strict=True):
                in_outage |= start <= now < end and draw(seed, i, place) < int(frac * 2**31)
        if in_outage or draw(seed, i, place + 1) < int(one.error_frac * 2**31):
            times = np.asarray(one.error_s)
            which = draw(seed, i, place + 2) % 64
            taken = round(float(times[which * len(times) // 64]) * S)
            return "outage" if in_outage else "error", now + taken
        if draw(seed, i, place + 3) < int(one.hang_frac * 2**31):
            return "hang", now + round(one.hang_s * S)
        if np.isfinite(one.timeout_s) and e2e > round(one.timeout_s * S):
            return "cut", now + round(one.timeout_s * S)
        return "", now + e2e

    def part(self, i: int, a: int, now: int) -> float:
        """What is billed of an answer that is given up at a time: the share of its output, -1 nothing."""
        name, _, begin, *_ = self.tried[i][a]
        each = self.deployments[name]
        how = self.faults.failing.get(name, Failing()).given_up
        if how != "made":
            return 1.0 if how == "whole" else -1
        first, end = begin + int(each.ttft_ps[i]), begin + int(each.e2e_ps[i])
        return 0.0 if now <= first else min(1.0, (now - first) / max(1, end - first))

    def begin(self, i: int, a: int, now: int) -> None:
        if self.ends[i] is not None:
            return
        self.tried[i][a][2] = now
        why, end = self.fate(i, a, now)
        while len(self.why[i]) <= a:
            self.why[i].append("")
            self.billed[i].append(None)
        self.why[i][a] = why
        self.billed[i][a] = {"": 1.0, "cut": self.part(i, a, end)}.get(why, -1)
        if not why:
            self.tried[i][a][3] = now + int(self.deployments[self.tried[i][a][0]].ttft_ps[i])
        heapq.heappush(self.heap, (end, next(self.order), i, "ends", a))

    def over(self, i: int, a: int, now: int, outcome: str) -> None:
        if self.tried[i][a][4] >= 0:
            return
        was = self.ends[i]
        hedged = any(t[5] > 0 for t in self.tried[i])
        super().over(i, a, now, "failed" if self.why[i][a] else outcome)
        if hedged and was is None and self.ends[i] is not None:
            for k, tried in enumerate(self.tried[i]):
                if tried[2] >= 0 and tried[4] < 0:
                    tried[4] = now
                    if self.why[i][k] in ("", "cut"):
                        self.billed[i][k] = self.part(i, k, now)
                    self.why[i][k] = "given up"

    def spent(self) -> float:
        total = 0.0
        for i, parts in enumerate(self.billed):
            for a, part in enumerate(parts):
                whole, first = self.cost[self.tried[i][a][0]]
                if part is not None and part >= 0:
                    total += first + (whole - first) * part
        return total


RULES = st.sampled_from(
    [
        Rule(Fixed("a")),
        Rule(Fixed("a"), recover=Recover(3, 2.0)),
        Rule(Fixed("a"), recover=Recover(1, 0.5, ("b", "c"))),
        Rule(Fixed("a"), hedge=Hedge("b", 1.5)),
        Rule(Fixed("a"), hedge=Hedge("b", 0.0), recover=Recover(0, 0.0, ("c",))),
        Rule(Cascade(("a", "b", "c"), (Accept("AA", "A"),), together=2), recover=Recover(0, 0.0, ("a",))),
    ]
)
SHARE = st.sampled_from([0.0, 0.2, 0.7, 1.0])
TIMES = st.sampled_from([0.0, 0.5, 1.0, 3.0])


@st.composite
def worlds(draw):
    n = draw(st.integers(1, 8))
    arrival = np.cumsum(draw(st.lists(st.integers(0, 3 * S), min_size=n, max_size=n)))
    known = {}
    for name in APIS:
        times = [draw(st.lists(st.integers(0, 4 * S), min_size=n, max_size=n)) for _ in range(2)]
        known[name] = Known(np.array(times[0]), np.array(times[0]) + np.array(times[1]))
    tokens = {name: (np.full(n, draw(st.integers(1, 50))), np.full(n, 10)) for name in APIS}
    failing = {}
    for name in APIS[: draw(st.integers(1, 3))]:
        at = sorted(draw(st.lists(st.integers(0, 12 * S), min_size=4, max_size=4, unique=True)))
        failing[name] = Failing(
            draw(SHARE), draw(st.sampled_from([(0.0,), (0.1, 2.0), (1.0, 1.5, 4.0)])), draw(SHARE),
            draw(TIMES), draw(st.sampled_from([1.0, 5.0, np.inf])),
            Outages(at[0::2], at[1::2], [draw(SHARE), draw(SHARE)]),
            draw(st.sampled_from(["", "team"])), draw(TIMES),
            draw(st.sampled_from(["made", "whole", "nothing"])),
        )  # fmt: skip
    most = (draw(st.sampled_from([2.0, 60.0, np.inf])), draw(st.sampled_from([90.0, np.inf])), 1e6, 1e6)
    faults = Faults(failing, {"team": most}, tokens, None, draw(st.integers(0, 9)))
    return draw(RULES), arrival, known, faults, draw(st.integers(0, 2))


@settings(max_examples=200, deadline=None)
@given(worlds())
def test_failures_equal_the_rule_asked_at_every_turn(world) -> None:
    rule, arrival, known, faults, equal = world
    n = len(arrival)
    cost = {"a": (3.0, 1.0), "b": (7.0, 2.0), "c": (0.5, 0.25)}
    judged = {name: ["served"] * n for name in APIS}
    answer = {name: [k if equal else 0 for _ in range(n)] for k, name in enumerate(APIS)}
    requests = [Request("", "", i, 0, input_tok=10, output_tok=5) for i in range(n)]
    loop = Failures(rule, requests, arrival.tolist(), known, judged, answer, faults, cost).run()
    table = compile_rule(rule)
    happened = Happened(
        answer=answer, cost_usd={name: np.full(n, usd[0]) for name, usd in cost.items()},
        input_usd={name: np.full(n, usd[1]) for name, usd in cost.items()},
    )  # fmt: skip
    found = serve_closed(arrival, table, entries(rule, table, columns_of(n), ()), known, happened, faults)
    ends = [(-1, -1, None) if end is None else end for end in loop.ends]
    assert found.e2e_ps.tolist() == [end[1] for end in ends]
    assert found.ttft_ps.tolist() == [end[0] for end in ends]
    assert [table.names[d] if d >= 0 else None for d in found.served] == [end[2] for end in ends]
    for i in range(n):
        begun = [(t[0], t[2], t[4]) for t in loop.tried[i] if t[2] >= 0]
        mine = np.flatnonzero(found.begin_ps[i] >= 0)
        assert [
            (table.names[found.deployment[i, q]], found.begin_ps[i, q], found.end_ps[i, q]) for q in mine
        ] == begun
        whys = [("", *KINDS)[found.why[i, q]] for q in mine]
        assert whys == [loop.why[i][a] for a, t in enumerate(loop.tried[i]) if t[2] >= 0]
    # The kernel counts parts of answers in 2**-20.
    assert found.spent_usd == pytest.approx(loop.spent(), abs=n * 7 * 2.0**-19)


def plain(n: int, rule: Rule, faults: Faults, gap_s: float = 10.0):
    table = compile_rule(rule)
    known = {name: Known(np.full(n, S), np.full(n, 3 * S)) for name in table.names}
    happened = Happened(cost_usd=dict.fromkeys(table.names, np.full(n, 0.01)))
    arrival = np.round(np.arange(n) * gap_s * S).astype(np.int64)
    return serve_closed(arrival, table, entries(rule, table, columns_of(n), ()), known, happened, faults)


N = 20_000


def test_independent_errors_fall_by_a_power_with_each_retry() -> None:
    faults = Faults({"a": Failing(0.2, (0.5,))}, seed=1)
    lost = [(plain(N, Rule(Fixed("a"), recover=Recover(k, 1.0)), faults).served < 0).mean() for k in range(3)]
    assert lost == pytest.approx([0.2, 0.04, 0.008], rel=0.15)
    once = plain(N, Rule(Fixed("a"), recover=Recover(1, 1.0)), faults)
    assert once.spent_usd == pytest.approx(0.01 * (once.served >= 0).sum())  # what failed costs nothing
    again = (once.why[:, 0] > 0) & (once.served >= 0)
    assert set(once.e2e_ps[again].tolist()) == {int(4.5 * S)}  # half a second, a second's pause, the answer
    assert set(once.ttft_ps[again].tolist()) == {int(2.5 * S)}


def test_outages_defeat_retries_and_not_another_provider() -> None:
    """As many failures in all; in bursts, trying again at once brings almost nothing."""
    span = int(N * 10 * S)
    outages = renewed(50.0, 2.0, 1.0, span, np.random.default_rng(3))
    share = sum(np.subtract(outages.to_ps, outages.from_ps)) / span
    in_bursts = Faults({"a": Failing(0.0, (0.5,), outages=outages)}, seed=1)
    alone = Faults({"a": Failing(share, (0.5,))}, seed=1)
    retry = Rule(Fixed("a"), recover=Recover(2, 1.0))
    elsewhere = Rule(Fixed("a"), recover=Recover(0, 0.0, ("b",)))
    lost = {
        name: [(plain(N, rule, faults).served < 0).mean() for rule in (Rule(Fixed("a")), retry, elsewhere)]
        for name, faults in {"bursts": in_bursts, "alone": alone}.items()
    }
    assert lost["bursts"][0] == pytest.approx(lost["alone"][0], rel=0.2)
    assert lost["bursts"][1] > 0.95 * lost["bursts"][0]
    assert lost["alone"][1] < 0.02 * lost["alone"][0]
    assert lost["bursts"][2] == lost["alone"][2] == 0


def test_rules_meet_the_same_failures() -> None:
    faults = Faults({"a": Failing(0.1, (0.5,)), "b": Failing(0.1, (0.5,))}, seed=4)
    one = plain(2000, Rule(Fixed("a")), faults)
    two = plain(2000, Rule(Fixed("a"), recover=Recover(0, 0.0, ("b",))), faults)
    assert (one.why[:, 0] == two.why[:, 0]).all()
    other = plain(2000, Rule(Fixed("a")), faults._replace(seed=5))
    assert (one.why[:, 0] != other.why[:, 0]).any()
    halved = plain(2000, Rule(Fixed("a")), Faults({"a": Failing(0.05, (0.5,))}, seed=4))
    assert (one.why[:, 0] > 0)[halved.why[:, 0] > 0].all()  # fewer failures are some of the same


def test_a_quota_refuses_what_is_above_it_and_back_off_finds_room() -> None:
    n = 600
    faults = Faults(
        {"a": Failing(limit="team", refused_s=0.1)},
        {"team": (60.0, np.inf, np.inf, np.inf)},
        {"a": (np.full(n, 10), np.full(n, 5))},
    )
    burst = plain(n, Rule(Fixed("a")), faults, gap_s=0.5)  # 120 a minute, where 60 may come
    assert (burst.served >= 0).sum() == pytest.approx(60 + n / 2, abs=2)  # a full bucket, then one a second
    assert set(burst.why[burst.served < 0, 0].tolist()) == {1 + KINDS.index("refused")}
    patient = plain(n, Rule(Fixed("a"), recover=Recover(5, 8.0)), faults, gap_s=0.5)
    assert (patient.served >= 0).sum() > (burst.served >= 0).sum()
    input_too = faults._replace(limits={"team": (1e9, 60.0 * 10, np.inf, np.inf)})
    assert (plain(n, Rule(Fixed("a")), input_too, gap_s=0.5).served == burst.served).all()


def test_a_hedges_loser_is_billed_for_what_it_made() -> None:
    """Three seconds an answer, a second to its first token: the hedge of 1.5 s has made a quarter by then."""
    n = 10
    rule = Rule(Fixed("a"), hedge=Hedge("b", 1.5))
    cost = {
        how: plain(n, rule, Faults({"b": Failing(given_up=how)})).spent_usd / n / 0.01
        for how in ("made", "whole", "nothing")
    }
    assert cost == pytest.approx({"made": 1.25, "whole": 2.0, "nothing": 1.0}, abs=1e-5)
    slow = plain(n, rule, Faults({"a": Failing(hang_frac=1.0, hang_s=60.0)}))
    assert (slow.served == 1).all()
    assert set(slow.e2e_ps.tolist()) == {int(4.5 * S)}
    assert slow.spent_usd == pytest.approx(0.01 * n)  # who never answered bills nothing
    assert set(slow.end_ps[:, 0] - slow.begin_ps[:, 0]) == {int(4.5 * S)}


def test_an_answer_past_its_time_is_cut_and_billed_so_far() -> None:
    found = plain(10, Rule(Fixed("a")), Faults({"a": Failing(timeout_s=2.0)}))
    assert (found.served < 0).all()
    assert set(found.e2e_ps.tolist()) == {2 * S}
    assert found.spent_usd == pytest.approx(10 * 0.01 * 0.5, abs=1e-6)
    assert plain(10, Rule(Fixed("a")), Faults({"a": Failing(timeout_s=3.0)})).spent_usd == 0.1


def test_outages_come_as_often_and_last_as_long_as_said() -> None:
    span = 40_000 * 3600 * S // 100
    share = [
        sum(np.subtract(one.to_ps, one.from_ps).clip(0)) / span
        for one in (renewed(100.0, 5.0, 0.5, span, np.random.default_rng(k)) for k in range(300))
    ]
    assert np.mean(share) == pytest.approx(0.05, rel=0.15)
    assert min(share) == 0.0 or min(share) < 0.02  # bursts: some spans have next to none


@given(st.integers(0, 99), st.lists(st.integers(1, 99), min_size=4, max_size=4, unique=True))
def test_shifted_outages_keep_their_length(by: int, edges: list[int]) -> None:
    at = sorted(edges)
    whole = Outages(np.array(at[0::2]), np.array(at[1::2]), np.array([0.5, 0.7]))
    moved = shifted(whole, by, 100)
    for share in (0.5, 0.7):
        lengths = [sum(e - s for s, e, f in zip(*one, strict=True) if f == share) for one in (whole, moved)]
        assert lengths[0] == lengths[1]
    ends = np.stack([moved.from_ps, moved.to_ps], axis=1).ravel()
    assert (np.diff(ends) >= 0).all()
    assert ends.max() <= 100


@pytest.mark.parametrize(
    "failing",
    [
        Failing(error_frac=1.5),
        Failing(hang_frac=-0.1),
        Failing(error_s=()),
        Failing(error_s=(-1.0,)),
        Failing(outages=Outages([5, 3], [6, 4], [1, 1])),
        Failing(outages=Outages([5], [6], [2.0])),
        Failing(limit="nobody's"),
    ],
)
def test_impossible_failures_are_refused(failing: Failing) -> None:
    with pytest.raises(BadLimits):
        plain(2, Rule(Fixed("a")), Faults({"a": failing}))
    with pytest.raises(BadLimits):
        renewed(1.0, 2.0, 0.5, S, np.random.default_rng(0))


def test_the_same_without_a_compiler() -> None:
    code = (
        "import sys; sys.path.insert(0, 'tests')\n"
        "from test_replay_faults import *\n"
        "out = renewed(0.2, 0.05, 0.8, 400 * 10 * S, np.random.default_rng(0))\n"
        "n, asks = 400, (np.full(400, 10), np.full(400, 5))\n"
        "bad = Failing(0.1, (0.2, 3.0), 0.05, 9.0, 2.9, out, 'q', 0.1)\n"
        "faults = Faults({'a': bad, 'b': Failing(0.1)}, {'q': (6, 1e9, 1e9, 1e9)}, {'a': asks}, None, 7)\n"
        "rule = Rule(Fixed('a'), hedge=Hedge('b', 2.0), recover=Recover(2, 1.0, ('b',)))\n"
        "found = plain(n, rule, faults, 5.0)\n"
        "print([int(x.astype(np.int64).sum()) for x in found[:8]], found.spent_usd,"
        " np.bincount(found.why.ravel()).tolist(), int(found.billed.sum()))"
    )
    root = Path(__file__).parents[1]
    told = [
        subprocess.run(
            [sys.executable, "-c", code], cwd=root, env=os.environ | {"NUMBA_DISABLE_JIT": off}, check=True,
            capture_output=True, text=True,
        ).stdout
        for off in ("0", "1")
    ]  # fmt: skip
    assert told[0] == told[1]
    assert "[0," not in told[0].split("]")[1]
