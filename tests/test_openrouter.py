"""A policy as fields of OpenRouter's requests: what is written, and what is listed as left out."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from isocost.cli import main
from isocost.policy.export import litellm, openrouter, portkey
from isocost.policy.route import Share
from isocost.policy.rules import (
    Accept,
    ByTask,
    Cascade,
    Fixed,
    Guard,
    Recover,
    Router,
    Rule,
    Semantic,
    Shape,
    Split,
    Sticky,
)

IDS = {"openai/gpt-4.1": "openai/gpt-4.1", "anthropic/claude-opus-4-5": "anthropic/claude-opus-4.5",
       "openai/gpt-4.1-mini": "openai/gpt-4.1-mini", "self/m": "m/m"}  # fmt: skip
BIG, MINI, OTHER = "openai/gpt-4.1", "openai/gpt-4.1-mini", "anthropic/claude-opus-4-5"


def test_models_in_turn_and_who_may_serve_them() -> None:
    rule = Rule(Fixed(BIG), recover=Recover(fallback=(OTHER,)), shape=Shape(cap_output_tok=300))
    text, left = openrouter([rule], IDS)
    assert json.loads(text) == {
        "default": {
            "models": ["openai/gpt-4.1", "anthropic/claude-opus-4.5"],
            "provider": {"order": ["openai", "anthropic"], "allow_fallbacks": False},
            "max_tokens": 300,
        }
    }
    assert left == ("default: who serves each model; its order of providers holds for all of them",)


@pytest.mark.parametrize(
    ("rule", "model", "says"),
    [
        (Rule(Cascade((MINI, BIG), (Accept("A", "A"),))), BIG, "needs answers to be compared"),
        (Rule(Router(MINI, BIG, 0.5)), BIG, "the score of a question"),
        (Rule(Split((Share(BIG, (0.3,)), Share(MINI, (0.7,))))), MINI, "shares of"),
        (Rule(Fixed(BIG), guard=Guard(usd=5.0)), BIG, "guards and budgets"),
        (Rule(Fixed(BIG), cache="c"), BIG, "the exact cache"),
        (Rule(Fixed(BIG), semantic=Semantic("near")), BIG, "the semantic cache"),
        (Rule(Fixed(BIG), sticky=Sticky((BIG,))), BIG, "sessions"),
        (Rule(Fixed(BIG), recover=Recover(2)), BIG, "retries"),
        (Rule(Fixed(BIG), shape=Shape(trim_input_tok=9)), BIG, "trimming"),
    ],
)
def test_what_it_cannot_say_is_listed_and_what_is_safe_is_written(rule: Rule, model: str, says: str) -> None:
    text, left = openrouter([rule], IDS)
    assert json.loads(text)["default"]["model"] == IDS[model]
    assert len(left) == 1
    assert says in left[0]


def test_tasks_have_fields_of_their_own_and_own_replicas_pin_nobody() -> None:
    text, left = openrouter([Rule(ByTask({"faq": "self/m", "*": BIG}), workload="chat")], IDS)
    doc = json.loads(text)
    assert doc["chat-faq"] == {"model": "m/m"}
    assert doc["chat"]["provider"]["order"] == ["openai"]
    assert "chat-TASK" in left[0]
    _, left = openrouter([Rule(Fixed("batch/x"))], IDS)
    assert left == ("how OpenRouter names batch/x: write its id",)


def test_the_command_names_models_as_the_catalog_has_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "policy.toml"
    file.write_text(f'format = 1\n[[policy]]\n[policy.choose]\nkind = "fixed"\ndeployment = "{OTHER}"\n')
    assert main(["policy", "export", str(file), "--to", "openrouter"]) == 0
    assert json.loads(capsys.readouterr().out)["default"]["model"] == "anthropic/claude-opus-4.5"
    assert main(["policy", "export", str(file), "--to", "other"]) == 2
    assert "--to openrouter" in capsys.readouterr().err


def written(to: str, rules: list[Rule]) -> tuple[dict[str, str], tuple[str, ...]]:
    """The model that answers first, by what callers ask for; blank where others decide on it."""
    if to == "litellm":
        text, left = litellm(rules)
        groups = re.findall(r'model_name: "(.+)"\n *litellm_params:\n *model: "(.+)"', text)
        assert len(dict(groups)) == len(groups)  # groups of one name would share their requests
        return dict(groups), left
    if to == "portkey":
        text, left = portkey(rules)
        bodies = {name: body.get("override_params", {}) for name, body in json.loads(text).items()}
    else:
        text, left = openrouter(rules, {})
        bodies = json.loads(text)
    return {name: body.get("model") or body.get("models", [""])[0] for name, body in bodies.items()}, left


@pytest.mark.parametrize("to", ["litellm", "portkey", "openrouter"])
class TestNoRuleIsWrittenOverAnother:
    def test_rules_of_one_workload_by_the_model_asked_for(self, to: str) -> None:
        rules = [Rule(Fixed("a"), "w", "gpt-5.4"), Rule(Fixed("b"), "w", "gpt-4.1"), Rule(Fixed("c"), "w")]
        doc, left = written(to, rules)
        assert doc == {"w-gpt-5.4": "a", "w-gpt-4.1": "b", "w": "c"}
        assert any("callers of gpt-5.4 must take w-gpt-5.4" in one for one in left)
        assert not any("all requests of the group" in one for one in left)

    def test_a_workload_that_is_called_default(self, to: str) -> None:
        doc, left = written(to, [Rule(Fixed("a")), Rule(Fixed("b"), "default")])
        assert doc == {"default-2": "a", "default": "b"}
        assert any(one.startswith("default-2: requests of no other workload") for one in left)

    def test_a_workload_that_is_called_as_a_task(self, to: str) -> None:
        tasks = Rule(ByTask({"x": "a", "*": "b"}), "w")
        doc, left = written(to, [tasks, Rule(Fixed("c"), "w-x")])
        assert doc["w-x"] == "c"
        if to == "portkey":  # tells tasks apart within a config
            assert set(doc) == {"w", "w-x"}
            assert not any("w-x" in one for one in left)
        else:
            assert doc == {"w": "b", "w-x-2": "a", "w-x": "c"}
            assert any(one.startswith("w-x-2: task x of w") for one in left)

    def test_a_workload_that_is_called_as_a_fallback(self, to: str) -> None:
        rules = [Rule(Fixed("a"), "w", recover=Recover(fallback=("b",))), Rule(Fixed("c"), "w-fallback-1")]
        doc, _ = written(to, rules)
        assert doc["w-fallback-1"] == "c"
