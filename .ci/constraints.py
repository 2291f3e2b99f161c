"""Write constraints.txt: the versions of this environment, which are the tested ones."""

from __future__ import annotations

from importlib.metadata import distributions
from pathlib import Path

ROOT = Path(__file__).parents[1]
NOT_PINNED = frozenset({"isocost", "pip", "setuptools"})
HEAD = "# Versions that the tests passed with; `make` installs these. Written by `make constraints`.\n"


def main() -> None:
    """Pin every installed distribution but the tools that install."""
    pins = {item.name.lower().replace("_", "-"): item.version for item in distributions()}
    lines = [f"{name}=={version}\n" for name, version in sorted(pins.items()) if name not in NOT_PINNED]
    (ROOT / "constraints.txt").write_text(HEAD + "".join(lines))


if __name__ == "__main__":
    main()
