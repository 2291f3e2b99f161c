"""The README's examples print what it shows.

A fenced ``console`` block holds commands (``$ isocost ...``) and their output. They run in an empty
folder with the repository's examples beside. A line ``...`` stands for any lines. With
``--update-golden`` the README is rewritten with what the commands print now (as many lines around a
``...`` as before).
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from golden import plain, same

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
BLOCK = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)
COLUMNS = "100"
LIMIT_S = 120.0


def examples(text: str) -> list[tuple[str, str]]:
    """Commands and outputs of the console blocks, in order."""
    found = []
    for block in BLOCK.findall(text):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            found.append((command, output))
    return found


def run(command: str, folder: Path) -> str:
    """What a command prints to standard output, as in a terminal without colour.

    Raises:
        AssertionError: it is not a command of isocost, or it fails.
    """
    words = shlex.split(command)
    assert words[0] == "isocost", f"only isocost runs in a console block: {command}"
    script = "import sys; from isocost.cli import main; sys.argv[0] = 'isocost'; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", script, *words[1:]],
        cwd=folder,
        env={**os.environ, "NO_COLOR": "1", "COLUMNS": COLUMNS, "PYTHONUTF8": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, f"{command}: exit code {done.returncode}\n{done.stderr}"
    return plain(done.stdout)


def agrees(shown: str, printed: str) -> bool:
    """Whether the output in the README is what was printed, ``...`` lines standing for any lines."""
    parts = [re.escape(part) for part in re.split(r"^\.\.\.\n", plain(shown), flags=re.MULTILINE)]
    return re.fullmatch(r"(?:.*\n)*?".join(parts), printed) is not None


def cut(shown: str, printed: str) -> str:
    """``printed`` with as many lines around each ``...`` as ``shown`` has.

    A part between two ``...`` begins at the printed line that its first line is.
    """
    if "..." not in shown.splitlines():
        return printed
    head, *middle, tail = re.split(r"^\.\.\.\n", plain(shown), flags=re.MULTILINE)
    lines = printed.splitlines(keepends=True)
    found = ["".join(lines[: head.count("\n")])]
    for part in middle:
        first = part.splitlines(keepends=True)[0]
        assert first in lines, f"no line {first!r} is printed: mend the README by hand"
        start = lines.index(first)
        found.append("".join(lines[start : start + part.count("\n")]))
    return "...\n".join([*found, "".join(lines[len(lines) - tail.count("\n") :])])


CASES = examples(README.read_text(encoding="utf-8"))


@pytest.mark.parametrize(("command", "shown"), CASES, ids=[command for command, _ in CASES])
def test_example_prints_what_the_readme_shows(
    command: str, shown: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    printed = run(command, tmp_path)
    if agrees(shown, printed):
        return
    if request.config.getoption("--update-golden"):
        text = README.read_text(encoding="utf-8")
        now = cut(shown, printed)
        README.write_text(text.replace(f"$ {command}\n{shown}", f"$ {command}\n{now}"), encoding="utf-8")
        return
    same(shown, cut(shown, printed), f"README.md: {command}")


def test_the_two_commands_exist() -> None:
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    shown = set(re.findall(r"^make (\w+)", README.read_text(encoding="utf-8"), re.MULTILINE))
    assert {"plan", "test"} <= shown <= set(targets)


@pytest.mark.parametrize(
    ("shown", "printed", "expected"),
    [
        ("a\nb\n", "a\nb\n", True),
        ("a  \nb\n", "a\nb\n", True),
        ("a\n...\nd\n", "a\nb\nc\nd\n", True),
        ("a\n...\n", "a\nb\n", True),
        ("a\n...\nd\n", "a\nb\nc\n", False),
        ("a.\n", "ab\n", False),
        ("a\n", "a\nb\n", False),
    ],
)
def test_dots_stand_for_lines(shown: str, printed: str, expected: bool) -> None:
    assert agrees(shown, printed) is expected


def test_an_update_keeps_the_lines_around_dots() -> None:
    assert cut("a\n...\nd\n", "b\nc\nx\ny\n") == "b\n...\ny\n"
    assert cut("a\n...\nm\nn\n...\n", "b\nc\nm\no\np\n") == "b\n...\nm\no\n...\n"
    assert cut("a\n...\n", "b\nc\n") == "b\n...\n"
    assert cut("a\n", "b\nc\n") == "b\nc\n"
