"""Write into docs/ what the code itself holds: commands (cli.md), public names (api.md), layers (design.md),
and what becomes of the literature's claims (claims.md).

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


def claims() -> str:
    """Every claim with its verdict. ``--check`` recomputes those that need no planned workload."""
    from isocost.catalog import Catalog
    from isocost.claims import World, judged
    from isocost.claims.registry import IDS, PLANNED
    from isocost.claims.words import decided, headline

    page = DOCS / "claims.md"
    old = page.read_text(encoding="utf-8") if page.exists() else ""
    kept = dict(re.findall(r"^\| (\w+) (\|.*)$", old, re.MULTILINE)) if "--check" in sys.argv[1:] else {}
    catalog = Catalog.load()
    day = max(fact.checked for subject in catalog.subjects("claim/") for fact in catalog.about(subject))
    world = World(catalog, day)
    # A plan takes seconds and moves with every price: its rows are checked where they are written.
    found = {one: judged(world, one) for one in IDS if one not in PLANNED or one not in kept}
    rows = {
        one: f"| {found.claim.text} | **{found.verdict}** | {decided(found)} |"
        for one, found in found.items()
    }
    told = (
        headline(list(found.values()))
        if len(found) == len(IDS)
        else _line_with(old, "claims of the literature:")
    )
    table = [f"| {one} {rows.get(one) or kept[one]}" for one in IDS]
    head = "| id | claim | verdict | what decides |\n|---|---|---|---|"
    return "\n".join([HEAD, CLAIMS_START.format(day=day), told, "", head, *table, CLAIMS_END])


def _line_with(text: str, words: str) -> str:
    return next((line for line in text.splitlines() if words in line), "")


CLAIMS_START = """# Claims of the literature

`isocost claims` puts 48 statements of five articles on the economics of language models to the test: 26
with a number (Q) and 22 rules of decision (D). What was claimed is data (`facts/claims.csv`, in our own
words); what is found is computed from the catalog, from published disclosures and from planned workloads,
and so is the verdict: change a fact, and it changes. `isocost claims Q2` shows the evidence of one with
its intervals, boundary and sources, `--html claims.html` writes all of them as one offline page,
`--json` as data.

The rules that turn figures into a verdict are few ([finding.py](../src/isocost/claims/finding.py)):

- A claimed **range** is held against our figure under each boundary that the literature draws. It *holds*
  where every figure lies inside, *holds when* a boundary is meant whose figure does, *fails* where not even
  a central 80 % touches it, and is *not settled* where only bands do.
- A **comparison** is settled where it is at least 80 % likely, one way or the other.
- A claim that becomes true with **volume** holds from the volume at which costs cross.
- A claim of several **parts** needs all of them; where some hold, it says which. Two parts that cannot both
  be true make it fail.

Rules of decision are judged on the workload of `claim/reference`: 1,500 tokens in and 500 out, from ten
thousand to a billion requests a month, everything counted with people. On other workloads the crossings
lie elsewhere: `isocost plan` finds yours.

As of {day}:
"""
CLAIMS_END = """
Mind: words such as *thousands* or *about ten* are read as ranges, stated in the facts; bands of two ways to
serve are taken as independent, which is wider than they are; a score is ability, not value in use. Claims
that rest on plans (prices of today, a performance model) move with the catalog.
"""

PAGES: dict[str, Callable[[], str | None]] = {
    "cli.md": commands,
    "api.md": names,
    "design.md": layers,
    "claims.md": claims,
}

if __name__ == "__main__":
    main()
