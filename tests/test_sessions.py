"""Sessions of one name of two tenants are two, wherever sessions decide."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np

from isocost.catalog import Catalog
from isocost.deployment import Api
from isocost.fleet import Fleet
from isocost.plan.written.file import loads
from isocost.plan.written.near import Visits, sessions_of
from isocost.plan.written.told import police
from isocost.policy.route import Route, Share
from isocost.prompts.sent import Sent
from isocost.prompts.wait import signs
from isocost.replay.run import Routed, Situation, replay
from isocost.trace import open_trace
from isocost.trace.schema import Chunk, numbered_sessions
from isocost.units import NS_PER_S

MINI, BIG = "openai/gpt-5-mini", "openai/gpt-5.4"
TENANTS = 100
BASIS = (Path(__file__).parents[1] / "examples" / "policy.toml").read_text().partition("# Summaries")[0]


def table(sessions: list[int], tenants: list[int] | None) -> Chunk:
    n = len(sessions)
    zeros = np.zeros(n, np.int32)
    tenant = None if tenants is None else np.array(tenants, np.int32)
    return Chunk(np.arange(n), zeros, zeros, zeros.astype(np.int8), tenant=tenant,
                 session=np.array(sessions, np.int32))  # fmt: skip


def test_numbers_of_sessions() -> None:
    both = table([0, 0, 1, -1, 0, 1], [0, 1, 0, 1, 0, -1])
    found = numbered_sessions(both)
    assert found is not None
    assert found.tolist() == [0, 1, 3, -1, 0, 2]
    some = numbered_sessions(both, np.array([1, 4, 5]))
    assert some is not None
    assert some.tolist() == [1, 0, 2]
    alone = numbered_sessions(table([5, -1, 2], None))
    assert alone is not None
    assert alone.tolist() == [5, -1, 2]
    nobody = numbered_sessions(table([1, 0], [-1, -1]))
    assert nobody is not None
    assert nobody.tolist() == [1, 0]
    assert numbered_sessions(replace(both, session=None)) is None
    assert len(np.unique(sessions_of(both, Visits(300, 1800.0)).number)) == 5


def shared(of: Mapping[str, int]) -> bool:
    """Whether whole sessions of ten requests went to each, and about half of them."""
    return sum(of.values()) == 10 * TENANTS and all(
        count % 10 == 0 and abs(count - 5 * TENANTS) <= TENANTS // 2 for count in of.values()
    )


def test_a_policy_divides_tenants_whose_sessions_have_one_name(catalog: Catalog, tmp_path: Path) -> None:
    rows = ["timestamp,model,input_tokens,output_tokens,user,session_id"]
    for i in range(10 * TENANTS):
        at = f"2026-11-01T{i // 360:02}:{i // 6 % 60:02}:{i % 6 * 10:02}Z"
        rows.append(f"{at},{BIG},1000,100,t{i % TENANTS},main")
    (tmp_path / "log.csv").write_text("\n".join(rows) + "\n")
    trace = open_trace(tmp_path / "log.csv")
    assert {"tenant", "session"} <= set(trace.names)
    shares = f'[{{ deployment = "{MINI}", frac = [0.5] }}, {{ deployment = "{BIG}", frac = [0.5] }}]'
    made = loads(
        f'{BASIS}\n[[policy]]\nworkload = "*"\n[policy.choose]\nkind = "split"\nby_session = true\n'
        f"shares = {shares}\n"
    )
    found, _ = police(trace, made, catalog)
    assert shared({row.deployment: row.requests for row in found.most.answered if row.requests})


def test_a_route_divides_tenants_whose_sessions_have_one_name(catalog: Catalog) -> None:
    n = 10 * TENANTS
    tokens = np.full(n, 100, np.int32)
    asked = Chunk(
        np.datetime64("2026-03-02", "ns").astype(np.int64) + np.arange(n) * NS_PER_S, tokens, tokens,
        np.zeros(n, np.int8), tenant=np.arange(n, dtype=np.int32) % TENANTS, session=np.zeros(n, np.int32),
    )  # fmt: skip
    apis = [Api(name, f"api/{name}", "openai", name.partition("/")[2], "api") for name in (MINI, BIG)]
    route = Route("faq", "*", tuple(Share(api.id, (0.5,)) for api in apis), by_session=True)
    situation = Situation(catalog, {api.id: api for api in apis}, Fleet(()), 0, date(2026, 11, 1))
    found = replay(asked, [Routed(route, np.arange(n), {}, frozenset())], situation, ["faq"])
    assert shared(dict(zip(found.names, np.bincount(found.where).tolist(), strict=True)))


def test_a_tenant_s_request_does_not_follow_up_another_s() -> None:
    def followed(tenants: list[int] | None) -> float | None:
        asked = table([0, 0, 0, 0], tenants)
        return signs(cast(Sent, SimpleNamespace(table=asked)), np.arange(4), 60.0).followed_frac

    assert followed(None) == followed([0, 0, 0, 0]) == 0.75
    assert followed([0, 1, 2, 3]) == 0.0
    assert followed([0, 1, 0, 1]) == 0.5
