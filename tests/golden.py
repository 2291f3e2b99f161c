"""Compare text with ``tests/golden/<name>``; ``pytest --update-golden`` accepts what it is now.

Nothing is normalised but space at the end of lines: a golden file is what a person sees.
"""

from __future__ import annotations

import difflib
from pathlib import Path

FOLDER = Path(__file__).parent / "golden"


class Golden:
    """The expected texts of one test run; ``update`` writes them instead of comparing."""

    def __init__(self, folder: Path = FOLDER, *, update: bool = False) -> None:
        self.folder, self.update = folder, update

    def check(self, name: str, text: str) -> None:
        """Fail with a diff where ``text`` is not what the file ``name`` holds."""
        path = self.folder / name
        found = plain(text)
        if self.update:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(found, encoding="utf-8")
            return
        if not path.exists():
            raise AssertionError(f"no {path.name} to compare with: type 'pytest --update-golden' and read it")
        same(path.read_text(encoding="utf-8"), found, name)


def plain(text: str) -> str:
    """``text`` without space at the end of lines and with one newline at its end."""
    return "\n".join(line.rstrip() for line in text.rstrip().splitlines()) + "\n"


def same(expected: str, found: str, name: str) -> None:
    """Fail with a diff where two texts differ in more than space at the end of lines."""
    expected, found = plain(expected), plain(found)
    if expected != found:
        lines = difflib.unified_diff(
            expected.splitlines(), found.splitlines(), f"{name} (expected)", f"{name} (found)", lineterm=""
        )
        raise AssertionError("\n".join([*lines, "Where this is right, type: pytest --update-golden"]))
