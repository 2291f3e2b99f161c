"""A policy as fields of OpenRouter's requests: what is written, and what is listed as left out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from isocost.cli import main
from isocost.policy.export import openrouter
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
