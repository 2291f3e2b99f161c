"""Write the pages of docs/ that the code itself holds: the commands (cli.md) and the public names (api.md).

``python .ci/docs.py`` writes them; ``--check`` fails where a committed page is not what it would write.
"""

from __future__ import annotations

import importlib.util
import inspect
import io
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"
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
    if importlib.util.find_spec("isocost.cli") is None:
        print("isocost.cli is not built: docs/cli.md is left out")
        return None
    from isocost.cli import app
    from rich.console import Console

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


PAGES: dict[str, Callable[[], str | None]] = {"cli.md": commands, "api.md": names}

if __name__ == "__main__":
    main()
