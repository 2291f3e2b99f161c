"""Write into docs/ what the code itself holds: commands (cli.md), public names (api.md), layers (design.md).

``python .ci/docs.py`` writes them; ``--check`` fails where a committed page is not what it would write.
"""

from __future__ import annotations

import ast
import importlib.util
import inspect
import io
import re
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
HELP_COLUMNS = 100
HEAD = "<!-- Written by `make docs` from the code; do not edit. -->\n"


def main() -> None:
    """Write or check every generated page."""
    check = "--check" in sys.argv[1:]
    stale = [name for name, render in PAGES.items() if not _settle(DOCS / name, render(), check)]
    if stale:
        sys.exit(f"not fresh: {', '.join('docs/' + name for name in stale)}. Type: make docs")


def _settle(page: Path, text: str | None, check: bool) -> bool:
    if text is None:
        return True
    if not check:
        page.write_text(text, encoding="utf-8")
        return True
    return page.exists() and page.read_text(encoding="utf-8") == text


def commands() -> str | None:
    """The help of every command, as the terminal shows it; None where there is no command line yet."""
    spec = importlib.util.find_spec("isocost.cli")
    if spec is None or spec.origin is None:
        print("isocost.cli is not built: docs/cli.md is left out")
        return None
    from rich.console import Console

    from isocost.cli import app

    def shown(tokens: list[str]) -> str:
        out = io.StringIO()
        console = Console(file=out, width=HELP_COLUMNS, color_system=None, legacy_windows=False)
        app.help_print(tokens, console=console)
        return "\n".join(line.rstrip() for line in out.getvalue().strip("\n").splitlines())

    def walk(node: object, tokens: list[str]) -> Iterator[list[str]]:
        yield tokens
        for name in node:  # type: ignore[attr-defined]
            if not name.startswith("-"):
                yield from walk(node[name], [*tokens, name])  # type: ignore[index]

    parts = [HEAD, "# Commands\n"]
    for tokens in walk(app, []):
        title = " ".join(["isocost", *tokens])
        parts.append(f"## `{title}`\n\n```text\n$ {title} --help\n{shown(tokens)}\n```\n")
    return "\n".join(parts)


def names() -> str | None:
    """Signature and docstring of each name in ``isocost.__all__``."""
    import isocost

    public = getattr(isocost, "__all__", ())
    if not public:
        print("isocost exports no names: docs/api.md is left out")
        return None
    parts = [HEAD, "# Public names\n", f"What `import isocost` offers: {len(public)} names.\n"]
    for name in public:
        item = getattr(isocost, name)
        parts.append(f"## `{name}`\n\n{_described(name, item)}\n")
    return "\n".join(parts)


def _described(name: str, item: object) -> str:
    text = inspect.getdoc(item) if callable(item) or inspect.ismodule(item) else None
    if text is None:
        return f"`{name} = {item!r}`"
    if inspect.ismodule(item) or (inspect.isclass(item) and issubclass(item, Exception)):
        return text
    try:
        return f"```text\n{name}{inspect.signature(item)}\n```\n\n{text}"  # type: ignore[arg-type]
    except ValueError:
        return text


def layers() -> str:
    """design.md with its table of layers as the contract in pyproject.toml has them."""
    page = (DOCS / "design.md").read_text(encoding="utf-8")
    start, end = "<!-- layers: written by `make docs` -->\n", "<!-- end of layers -->"
    head, _, rest = page.partition(start)
    return head + start + _layer_table() + end + rest.partition(end)[2]


def _layer_table() -> str:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    lines = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    rows = ["| line | room | what it holds |", "|---:|---|---|"]
    for number, line in enumerate(lines, 1):
        for room in re.findall(r"\w+", line):
            rows.append(f"| {number} | `{room}` | {_first_line(room)} |")
    return "\n".join(rows) + "\n"


def _first_line(room: str) -> str:
    source = ROOT / "src" / "isocost"
    for path in (source / f"{room}.py", source / room / "__init__.py"):
        if path.exists():
            return (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n")[0]
    return "*not built*"


PAGES: dict[str, Callable[[], str | None]] = {"cli.md": commands, "api.md": names, "design.md": layers}

if __name__ == "__main__":
    main()
