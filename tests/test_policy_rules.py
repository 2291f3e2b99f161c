"""Policies as rules: the scalar decision and the compiled machine agree on the closed loop, kind by kind."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isocost.errors import BadLimits
from isocost.policy import Attempt, Edit, Refuse, Request, Share, Stop, Try, View
from isocost.policy.proven import Proven, upper
from isocost.policy.rules import (
    Accept,
    ByTask,
    Cascade,
    Defer,
    First,
    Fixed,
    Guard,
    Hedge,
    Policies,
    Recover,
    Router,
    Rule,
    Semantic,
    Shape,
    Split,
    Sticky,
    decide,
    named,
)
from isocost.policy.table import (
    GROUP0,
    OUTCOMES,
    REFUSE_INPUT,
    STOP,
    TRY,
    WAIT,
    Columns,
    Table,
    attempt_of,
    compile_rule,
    entries,
    with_chances,
)

TASKS = ("maths", "law", "other")
MODELS = ("a", "b", "c", "d")

PROVEN = Proven(1.0, 0.01, 0.95, 1000, 300, 4, upper(4, 1000, 0.95), 500, "2026-11-23", "", "")
halves = st.sampled_from([(0.5, 0.5), (1.0, 0.0), (0.25, 0.75)])
cascades = st.builds(
    Cascade,
    ask=st.sampled_from([("a", "b"), ("a", "b", "c"), ("b", "c", "d")]),
    accept=st.lists(
        st.builds(
            Accept,
            pattern=st.sampled_from(["A", "AA", "AB"]),
            take=st.just("A"),
            tasks=st.sampled_from([("*",), ("maths",), ("maths", "law")]),
            but=st.sampled_from([(), ("law",)]),
        ),
        max_size=3,
    ).map(tuple),
    together=st.integers(1, 2),
    checked=st.booleans(),
)
choices = st.one_of(
    st.builds(Fixed, deployment=st.sampled_from(MODELS)),
    st.builds(lambda h, by: Split((Share("a", (h[0],)), Share("b", (h[1],))), by), halves, st.booleans()),
    st.just(ByTask({"maths": "c", "*": "a"})),
    st.builds(Router, cheap=st.just("a"), strong=st.just("d"), bar=st.floats(-1, 1)),
    cascades,
)
rules = st.builds(
    Rule,
    choose=choices,
    guard=st.none()
    | st.builds(
        Guard,
        most_input_tok=st.none() | st.just(100),
        most_output_tok=st.none() | st.just(50),
        usd=st.just(10.0),
        soft_frac=st.sampled_from([0.5, 1.0]),
        then=st.sampled_from(["", "a"]),
    ),
    cache=st.sampled_from(["", "cache"]),
    semantic=st.sampled_from([None, Semantic("near"), Semantic("near", certificate=PROVEN)]),
    first=st.none() | st.builds(First, deployment=st.just("rules"), tasks=st.sampled_from([(), ("law",)])),
    sticky=st.none() | st.just(Sticky(("a", "b"))),
    defer=st.none() | st.just(Defer("batch", 3600.0)),
    shape=st.none() | st.just(Shape(4000, 200)),
    recover=st.none()
    | st.builds(Recover, retries=st.integers(0, 2), pause_s=st.just(0.5), fallback=st.just(("d",))),
)
hedged = st.builds(
    Rule,
    choose=st.just(Fixed("a")),
    hedge=st.just(Hedge("b", 1.5)),
    recover=st.none() | st.just(Recover(1, 0.5, ("d",))),
)


def walk_scalar(
    rule: Rule, request: Request, view: View, draws: list[int]
) -> list[tuple[tuple[str, ...], float, float, bool, object]]:
    """What the scalar rule does as attempts end one after another, in the order in which they began."""
    attempts: list[Attempt] = []
    pending: list[str] = []
    done = []
    for draw in draws:
        action = decide(rule, request, attempts, view)
        done.append(told(action))
        if isinstance(action, Stop | Refuse):
            return done
        pending += action.deployments
        attempts.append(attempt_of(pending.pop(0), outcome(draw, attempts)))
    return done


def outcome(draw: int, attempts: list[Attempt]) -> int:
    """A drawn outcome, with groups in order of appearance."""
    groups = 1 + max((one.answer for one in attempts), default=-1)
    return draw if draw < GROUP0 else GROUP0 + (draw - GROUP0) % (groups + 1)


def told(action: Stop | Refuse | Try) -> tuple[tuple[str, ...], float, float, bool, object]:
    if not isinstance(action, Try):
        return ((), 0.0, 0.0, False, type(action).__name__)
    return (action.deployments, action.stagger_s, action.not_before_s, action.wait_s is not None, action.edit)


def walk_table(
    table: Table, state: int, draws: list[int]
) -> list[tuple[tuple[str, ...], float, float, bool, object]]:
    attempts: list[Attempt] = []
    pending: list[str] = []
    done = []
    for draw in draws:
        op = table.op[state]
        if op not in (TRY, WAIT):
            done.append(((), 0.0, 0.0, False, "Stop" if op == STOP else "Refuse"))
            return done
        targets = table.targets[table.first[state] : table.first[state] + table.count[state]]
        names = tuple(table.names[k] for k in targets)
        trim, cap = int(table.trim_tok[state]), int(table.cap_tok[state])
        edit = None if trim < 0 and cap < 0 else Edit(trim, cap)
        done.append(
            (
                names,
                float(table.stagger_s[state]),
                float(table.before_s[state]),
                bool(table.waits[state]),
                edit,
            )
        )
        pending += names
        came = outcome(draw, attempts)
        attempts.append(attempt_of(pending.pop(0), came))
        state = int(table.after[state, came])
    return done


@settings(max_examples=250, deadline=None)
@given(
    st.one_of(rules, hedged),
    st.sampled_from(TASKS),
    st.integers(0, 10_000),
    st.sampled_from([None, -0.5, 0.3, 2.0]),
    st.sampled_from([10, 101]),
    st.sampled_from([10, 51]),
    st.sampled_from([None, 60.0, 7200.0]),
    st.sampled_from([0.0, 5.0, 7.0, 10.0]),
    st.sampled_from(["", "a", "b", "d"]),
    st.lists(st.integers(0, OUTCOMES - 1), min_size=9, max_size=9),
)
def test_compiled_machine_equals_the_rule(
    rule: Rule, task: str, sequence: int, score: float | None, input_tok: int, output_tok: int,
    wait_s: float | None, spent: float, last: str, draws: list[int],
) -> None:  # fmt: skip
    hour = sequence % 168
    session = sequence // 3 - 1
    request = Request("w", "m", sequence, hour, "", task, score, input_tok, output_tok, wait_s, session)
    table = compile_rule(rule)
    code = table.names.index(last) if last in table.names else -1
    columns = Columns(
        *(np.array([v]) for v in (sequence, hour, TASKS.index(task))),
        np.array([np.nan if score is None else score]),
        np.array([input_tok]),
        np.array([output_tok]),
        np.array([np.nan if wait_s is None else wait_s]),
        np.array([spent]),
        np.array([code]),
        np.array([session]),
    )
    state = int(entries(rule, table, columns, TASKS)[0])
    assert walk_table(table, state, draws) == walk_scalar(rule, request, View(spent, last), draws)


def test_evidence_is_read_in_order() -> None:
    rule = Rule(
        Cascade(("a", "b", "d"), (Accept("AA", "A"),)),
        cache="cache",
        first=First("rules"),
        semantic=Semantic("near", certificate=PROVEN),
        shape=Shape(cap_output_tok=200),
        recover=Recover(fallback=("c",)),
    )
    request = Request("w", "m", 0, 0)
    seen: list[Attempt] = []
    for deployment, ended, answer in (
        ("cache", "missed", -1), ("rules", "missed", -1), ("near", "missed", -1), ("a", "served", 0),
        ("b", "served", 1),
    ):  # fmt: skip
        action = decide(rule, request, seen)
        assert isinstance(action, Try)
        assert action.deployments == (deployment,)
        seen.append(Attempt(deployment, ended, answer))  # type: ignore[arg-type]
    assert decide(rule, request, seen) == Try(("d",), None, Edit(None, 200))
    assert decide(rule, request, [*seen, Attempt("d", "served", 2)]) == Stop()
    agreed = [*seen[:4], Attempt("b", "served", 0)]
    assert decide(rule, request, [*seen[:2], Attempt("near", "served")]) == Stop()
    assert decide(rule, request, agreed) == Stop()


def test_a_checker_outvotes_agreement() -> None:
    rule = Rule(Cascade(("a", "b", "d"), (Accept("AA", "A"),), checked=True))
    request = Request("w", "m", 0, 0)
    rejected = [Attempt("a", "rejected", 0), Attempt("b", "rejected", 0)]
    assert decide(rule, request, rejected) == Try(("d",))
    assert decide(rule, request, [Attempt("a", "passed")]) == Stop()


def test_a_budget_slows_then_stops() -> None:
    rule = Rule(Fixed("d"), guard=Guard(budget="team", usd=10.0, soft_frac=0.8, then="a"))
    request = Request("w", "m", 0, 0)
    assert decide(rule, request, [], View(7.9)) == Try(("d",))
    assert decide(rule, request, [], View(8.0)) == Try(("a",))
    assert decide(rule, request, [], View(10.0)) == Refuse("budget")
    # What has begun is finished: a budget that runs out in between does not waste it.
    assert decide(rule, request, [Attempt("d", "served")], View(10.0)) == Stop()


def test_retries_double_their_pause_and_then_fall_back() -> None:
    rule = Rule(Fixed("a"), recover=Recover(2, 0.5, ("b",)))
    request, failed = Request("w", "m", 0, 0), Attempt("a", "failed")
    assert decide(rule, request, [failed]) == Try(("a",), not_before_s=0.5)
    assert decide(rule, request, [failed] * 2) == Try(("a",), not_before_s=1.0)
    assert decide(rule, request, [failed] * 3) == Try(("b",))
    assert decide(rule, request, [*[failed] * 3, Attempt("b", "failed")]) == Stop()


def test_input_beyond_the_guard_is_refused() -> None:
    table = compile_rule(Rule(Fixed("a"), guard=Guard(most_input_tok=10)))
    assert REFUSE_INPUT in table.op


def test_the_most_specific_rule_holds() -> None:
    policies = Policies([Rule(Fixed("a")), Rule(Fixed("b"), workload="faq"), Rule(Fixed("c"), "faq", "m")])
    assert policies.next(Request("faq", "m", 0, 0), []) == Try(("c",))
    assert policies.next(Request("faq", "x", 0, 0), []) == Try(("b",))
    assert policies.next(Request("other", "m", 0, 0), []) == Try(("a",))


def test_chances_follow_the_patterns_that_were_seen() -> None:
    rule = Rule(Cascade(("a", "b", "d"), (Accept("AA", "A"),)))
    table = with_chances(rule, compile_rule(rule), {"A": 1.0, "AA": 0.7, "AB": 0.3, "ABA": 0.1, "ABB": 0.2})
    start = next(iter(table.starts.values()))
    assert table.chance[start, GROUP0] == pytest.approx(1.0)
    second = int(table.after[start, GROUP0])
    assert table.chance[second, GROUP0 : GROUP0 + 2] == pytest.approx([0.7, 0.3])
    third = int(table.after[second, GROUP0 + 1])
    assert table.chance[third, GROUP0 : GROUP0 + 2] == pytest.approx([1 / 3, 2 / 3])


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('kind = "fixed"\ndeployment = "a"\nshare = 1', "share"),
        ('kind = "magic"', "magic"),
        ('kind = "cascade"\nask = ["a", "b"]\naccept = [{ pattern = "BA", take = "A" }]', "cannot be"),
        ('kind = "cascade"\nask = ["a"]', "two to five"),
        ('kind = "by-task"\ntasks = { maths = "a" }', "no deployment for other tasks"),
        ('kind = "split"\nshares = [{ deployment = "a", frac = [0.5] }]', "sum to"),
    ],
)
def test_reading_is_strict(text: str, why: str) -> None:
    body = "\n".join(f"choose.{line}" for line in text.splitlines())
    with pytest.raises((msgspec.ValidationError, BadLimits), match=why):
        Policies([msgspec.toml.decode(body, type=Rule)])


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ('guard = { budget = "team", usd = -4 }', "guard: usd = -4"),
        ('guard = { budget = "team", usd = nan }', "guard: usd = nan"),
        ('guard = { budget = "team", usd = 4, soft_frac = 3 }', "soft_frac = 3"),
        ("guard = { most_input_tok = -1 }", "most_input_tok = -1"),
        ("shape = { cap_output_tok = -5 }", "shape: cap_output_tok = -5"),
        ("recover = { retries = 9 }", "retries = 9"),
        ("recover = { pause_s = inf }", "recover: pause_s = inf"),
        ('hedge = { deployment = "b", after_s = -1 }', "hedge: after_s = -1"),
        ('defer = { deployment = "b", wait_s = nan }', "defer: wait_s = nan"),
        ('choose = { kind = "router", cheap = "a", strong = "b", bar = nan }', "bar = nan"),
        ('choose = { kind = "split", shares = [{ deployment = "a", frac = [1.5] }, '
         '{ deployment = "b", frac = [-0.5] }] }', "a share of -0.5"),
        ('choose = { kind = "split", shares = [{ deployment = "a", frac = [0.5, 0.5] }] }', "2 shares"),
    ],
)  # fmt: skip
def test_numbers_that_cannot_be_meant_are_refused(line: str, why: str) -> None:
    body = line if line.startswith("choose") else f'choose = {{ kind = "fixed", deployment = "a" }}\n{line}'
    with pytest.raises(BadLimits, match=why):
        Policies([msgspec.toml.decode(body, type=Rule)])


def test_a_name_that_is_not_there_is_refused() -> None:
    with pytest.raises(BadLimits, match="'b'"):
        named([Rule(Fixed("a"), recover=Recover(fallback=("b",)))], {"a": 1})


def test_the_page_shows_a_policy_that_can_be_read() -> None:
    page = (Path(__file__).parents[1] / "docs" / "routing.md").read_text(encoding="utf-8")
    block = page.partition("```toml\n")[2].partition("```")[0]
    shown = msgspec.convert(msgspec.toml.decode(block)["policy"], tuple[Rule, ...])
    assert Policies(shown).next(Request("faq", "m", 0, 0), []) == Try(("cache/exact",))
    assert isinstance(shown[0].choose, Cascade)
