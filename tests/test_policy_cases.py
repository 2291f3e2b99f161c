"""Policies counted by hand (tests/cases/policy.toml): turn by turn, and played in time and money."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from isocost.policy import table as tables
from isocost.policy.route import Action, Attempt, Refuse, Request, Stop, Try, View
from isocost.policy.rules import Policies, Rule, decide
from isocost.policy.table import Columns, compile_rule, entries
from isocost.replay.closed import Happened, Known, serve_closed

CASES = tomllib.loads((Path(__file__).parent / "cases" / "policy.toml").read_text(encoding="utf-8"))
ENDED = {"failed": tables.FAILED, "served": tables.SERVED}
PS = 1e12


def rule_of(case: dict[str, Any]) -> Rule:
    rule = msgspec.toml.decode(case["policy"], type=Rule)
    Policies([rule])  # refuses what cannot be meant
    return rule


def said(action: Action) -> str:
    """An action in the words of the cases."""
    match action:
        case Stop():
            return "stop"
        case Refuse():
            return f"refuse {action.why}"
        case Try():
            if not action.deployments:
                return "wait"
            apart = f" apart {action.stagger_s:g}" if action.stagger_s else ""
            return ", ".join(action.deployments) + apart
    raise AssertionError(action)


@pytest.mark.parametrize("case", CASES["turns"], ids=lambda case: case["name"])
def test_turn_by_turn(case: dict[str, Any]) -> None:
    rule = rule_of(case)
    request = Request("w", "m", 0, 0, "", case.get("task", ""), None, 100, 10, case.get("wait_s"))
    attempts: list[Attempt] = []
    for told, expected in case["turns"]:
        if told:
            name, ended, *group = told.split()
            attempts.append(Attempt(name, ended, int(group[0]) if group else -1))
        action = decide(rule, request, attempts, View(case.get("spent_usd", -1.0)))
        plain, _, pause = expected.partition(" after ")
        assert said(action) == plain, told
        assert getattr(action, "not_before_s", 0.0) == float(pause or 0.0), told


@pytest.mark.parametrize("case", CASES["played"], ids=lambda case: case["name"])
def test_played_in_time_and_money(case: dict[str, Any]) -> None:
    """By the kernel, which steps through the rule's compiled form."""
    rule, each = rule_of(case), case["deployments"]
    table = compile_rule(rule)
    zero, none = np.zeros(1, int), np.full(1, np.nan)
    columns = Columns(zero, zero, zero, none, zero + 100, zero + 10, none, np.full(1, -1.0), zero - 1)
    happened = Happened(
        judged={name: [ENDED[one[3]]] for name, one in each.items()},
        answer={name: [k] for k, name in enumerate(each)},
        cost_usd={name: [one[2]] for name, one in each.items()},
    )
    known = {name: Known([round(one[0] * PS)], [round(one[1] * PS)]) for name, one in each.items()}
    found = serve_closed([0], table, entries(rule, table, columns, ()), known, happened)
    begun = found.deployment[0] >= 0
    names = [table.names[d] for d in found.deployment[0][begun]]
    times = zip(names, found.begin_ps[0][begun] / PS, found.end_ps[0][begun] / PS, strict=True)
    told = [[name, begin, end if expected[2] >= 0 else -1]
            for (name, begin, end), expected in zip(times, case["attempts"], strict=True)]  # fmt: skip
    assert told == case["attempts"]
    assert (table.names[found.served[0]] if found.served[0] >= 0 else "") == case["served"]
    assert found.e2e_ps[0] / PS == case["e2e_s"]
    if "ttft_s" in case:
        assert found.ttft_ps[0] / PS == case["ttft_s"]
    if "usd" in case:
        assert found.spent_usd == pytest.approx(case["usd"], rel=1e-12)
