"""What is written for LiteLLM does, in LiteLLM itself, what the policy says.

Skipped where it is not installed (``pip install litellm``); passes with 1.106.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import pytest

from isocost.policy.export import litellm as written
from isocost.policy.route import Share
from isocost.policy.rules import Fixed, Guard, Recover, Rule, Shape, Split, Sticky

pytestmark = pytest.mark.skipif(find_spec("litellm") is None, reason="LiteLLM is not installed")
MESSAGES = [{"role": "user", "content": "hi"}]


class Upstream:
    """A provider on loopback that answers with the model's name, and fails as often as told."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.failing: Counter[str] = Counter()
        upstream = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                upstream.asked.append(body)
                model = body["model"]
                down = upstream.failing[model] > 0
                upstream.failing[model] -= down
                usage = {"prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 6}
                message = {"role": "assistant", "content": model}
                choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
                answer = {"id": "x", "object": "chat.completion", "created": 1, "model": model,
                          "usage": usage, "choices": choices}  # fmt: skip
                raw = json.dumps({"error": {"message": "down"}} if down else answer).encode()
                self.send_response(503 if down else 200)
                self.send_header("Content-Length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            def log_message(self, *_: object) -> None:
                """Nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def models(self) -> list[str]:
        return [one["model"] for one in self.asked]


@pytest.fixture
def upstream(monkeypatch: pytest.MonkeyPatch) -> Iterator[Upstream]:
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    made = Upstream()
    yield made
    made.server.shutdown()


def router(upstream: Upstream, *rules: Rule) -> Any:
    doc = import_module("yaml").safe_load(written(rules).text)
    for one in doc["model_list"]:
        one["litellm_params"] |= {"api_base": upstream.url, "api_key": "none"}
    return import_module("litellm").Router(model_list=doc["model_list"], **doc["router_settings"])


def ask(made: Any, group: str, times: int = 1, **more: Any) -> list[str]:
    async def every() -> list[str]:
        out = []
        for _ in range(times):
            try:
                answer = await made.acompletion(model=group, messages=MESSAGES, **more)
                out.append(answer.choices[0].message.content)
            except Exception as failed:
                out.append(type(failed).__name__)
        return out

    return asyncio.run(every())


def test_shares(upstream: Upstream) -> None:
    rule = Rule(Split((Share("openai/a", (0.25,)), Share("openai/b", (0.75,)))), workload="chat")
    got = Counter(ask(router(upstream, rule), "chat", 200))
    assert 25 < got["a"] < 75
    assert got["a"] + got["b"] == 200


def test_retries_of_one_workload_then_its_fallbacks_each_once(upstream: Upstream) -> None:
    made = router(
        upstream,
        Rule(Fixed("openai/a"), workload="faq", recover=Recover(1, 0.0, ("openai/b", "openai/c"))),
        Rule(Fixed("openai/d")),
    )
    upstream.failing.update(a=9, b=9, d=9)
    assert ask(made, "faq") == ["c"]
    assert upstream.models == ["a", "a", "b", "c"]
    assert ask(made, "default") == ["ServiceUnavailableError"]
    assert upstream.models[4:] == ["d"]


def test_a_deployment_that_fails_stays_in_its_group(upstream: Upstream) -> None:
    rule = Rule(Split((Share("openai/a", (0.5,)), Share("openai/b", (0.5,)))), workload="chat")
    upstream.failing.update(a=999)
    got = Counter(ask(router(upstream, rule), "chat", 60))
    assert got["ServiceUnavailableError"] > 15


def test_sessions_stay(upstream: Upstream) -> None:
    rule = Rule(
        Split((Share("openai/a", (0.5,)), Share("openai/b", (0.5,)))), workload="chat",
        sticky=Sticky(("openai/a", "openai/b")),
    )  # fmt: skip
    made = router(upstream, rule)
    seen = [set(ask(made, "chat", 4, metadata={"session_id": f"s{i}"})) for i in range(8)]
    assert all(len(one) == 1 for one in seen)
    assert len(set.union(*seen)) == 2


def test_caps_and_what_is_too_long(upstream: Upstream) -> None:
    rule = Rule(Fixed("openai/a"), shape=Shape(cap_output_tok=300), guard=Guard(most_input_tok=20))
    made = router(upstream, rule)
    ask(made, "default")
    ask(made, "default", max_tokens=900)
    assert [one["max_tokens"] for one in upstream.asked] == [300, 900]
    assert any("max_tokens of its own" in one for one in written([rule]).left_out)

    async def long() -> None:
        await made.acompletion(model="default", messages=[{"role": "user", "content": "word " * 99}])

    with pytest.raises(Exception, match="Context Window exceeded"):
        asyncio.run(long())
    assert len(upstream.asked) == 2
