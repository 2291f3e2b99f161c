"""From a log with words to a certified semantic cache in a plan, each step by its command."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path

import pytest

from isocost.cli import main
from isocost.cli.looks import read_looks
from isocost.plan.written.file import read

KINDS = {
    "card": ("where is my new {} card", "has my {} card been sent", "when does my {} card arrive"),
    "pin": ("how do i change the pin of {}", "i want another pin for {}", "can the pin of {} be changed"),
    "fee": (
        "why was i charged a fee for {}",
        "what is the fee for {}",
        "there is a fee for {} i do not know",
    ),
    "limit": ("what is my limit for {}", "can i raise the limit of {}", "how high is the limit for {}"),
}
THINGS = ("debit", "credit", "business", "travel", "student", "joint", "savings", "metal")
TRAIL = (
    "",
    " please",
    " today",
    " thanks",
    " again",
    " now",
    " kindly",
    " really",
    " i ask",
    " hi",
    " though",
    " anyway",
)


def log(path: Path, many: int) -> dict[str, str]:
    """Requests a minute apart, none twice in the same words; what each is about."""
    draw = random.Random(4)
    about = {}
    for kind, forms in KINDS.items():
        for form in forms:
            for thing in THINGS:
                for one in TRAIL:
                    about[form.format(thing) + one] = f"{kind} {thing}"
    asked = draw.sample(sorted(about), many)
    lines = [
        json.dumps({
            "created": 1_793_000_000 + 60 * i, "model": "gpt-5.4", "user": "acme",
            "messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": text}],
            "usage": {"prompt_tokens": 800, "completion_tokens": 120}, "ttft_s": 0.5, "e2e_s": 2.0,
        })
        for i, text in enumerate(asked)
    ]  # fmt: skip
    path.write_text("\n".join(lines) + "\n")
    return about


def grade(pairs: Path, about: dict[str, str]) -> None:
    """Fill in what a person would: whether the same answer does."""
    with pairs.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        row["same"] = str(int(about[row["asked"]] == about[row["held"]]))
    with pairs.open("w", newline="") as file:
        out = csv.DictWriter(file, list(rows[0]))
        out.writeheader()
        out.writerows(rows)


def test_measure_fit_replay_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words, pairs, plan = tmp_path / "log.jsonl", tmp_path / "pairs.csv", tmp_path / "plan.toml"
    about = log(words, 1100)
    assert main(["measure", str(words), "--cache", "--outcomes", str(pairs), "--questions", "300"]) == 0
    assert "300 pairs of questions to grade" in capsys.readouterr().out
    grade(pairs, about)
    assert main(["plan", str(words), "--no-report", "--to", str(tmp_path), "--json"]) == 0
    fit = [
        "policy",
        "fit",
        str(pairs),
        "--cache",
        "--log",
        str(words),
        "--plan",
        str(plan),
        "--max-wrong",
        "5%",
    ]
    for _ in range(3):
        capsys.readouterr()
        assert main([*fit, "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        if found["proven"] is not None:
            break
        # What the certificate would stand on is put up to be graded, and until then nothing is certified.
        assert found["to_grade"] > 0
        # Nothing was tested, so nothing is spent.
        assert (found["look"], list(tmp_path.glob("*.looks.toml"))) == (0, [])
        grade(pairs, about)
    proven = found["proven"]
    assert proven["hits"] > 0.2 * proven["requests"]
    assert proven["wrong_most_frac"] <= 0.05
    rule = read(plan).policies[0]
    assert rule.semantic is not None
    assert rule.semantic.certificate is not None
    # The same again is the same, byte for byte.
    file = tmp_path / rule.semantic.verifier
    before = file.read_bytes()
    record = (tmp_path / "pairs.looks.toml").read_bytes()
    assert main([*fit, "--json"]) == 0
    assert file.read_bytes() == before
    assert (tmp_path / "pairs.looks.toml").read_bytes() == record
    capsys.readouterr()
    assert (found["look"], found["level"], proven["level"]) == (1, 0.04, 0.04)
    # More grades at the same requests go on with that look; another limit is another one.
    grade(pairs, about)
    assert main(fit) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "Look 1 at these requests, tested at 96%: all looks at them hold together at 95%." in shown
    other = tmp_path / "other"
    assert main([*fit[:6], "--to", str(other), "--max-wrong", "6%", "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert (again["look"], again["level"]) == (2, 0.005)
    assert len(read_looks(pairs)) == 2
    assert main(fit) == 0
    capsys.readouterr()

    assert main(["policy", "check", str(plan), "--log", str(words)]) == 0
    assert "The certificate holds" in capsys.readouterr().out
    assert main(["policy", "check", str(plan), "--version", "gpt-5.4=2026-12-01"]) == 1
    assert "lapsed" in capsys.readouterr().out

    assert main(["replay", str(words), "--plan", str(plan)]) == 0
    assert "certified: a wrong answer to at most" in capsys.readouterr().out
    text = plan.read_text()
    wrong = f"wrong = {proven['wrong']}"
    plan.write_text(text.replace(wrong, f"wrong = {proven['wrong'] + 40}", 1))
    assert main(["replay", str(words), "--plan", str(plan)]) == 2
    assert "certificate" in capsys.readouterr().err


def test_pairs_without_their_log_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words, pairs = tmp_path / "log.jsonl", tmp_path / "pairs.csv"
    log(words, 120)
    assert main(["measure", str(words), "--cache", "--outcomes", str(pairs), "--questions", "40"]) == 0
    assert main(["policy", "fit", str(pairs), "--cache"]) == 2
    assert "--log LOG" in capsys.readouterr().err
    # A file that may hold grades is not written over.
    assert main(["measure", str(words), "--cache", "--outcomes", str(pairs)]) == 2
    assert "grades" in capsys.readouterr().err
