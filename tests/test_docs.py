"""The pages run, link and name what exists."""

from __future__ import annotations

import doctest
import inspect
import re
import subprocess
import sys
import tomllib
import typing
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType

import msgspec
import pytest

import isocost
import isocost.finance
from isocost.books.chargeback import CentreMap
from isocost.books.check import Budgets
from isocost.books.overlay import Overlay
from isocost.develop.ask import Ask as Programme
from isocost.keep.ask import Ask as Beside
from isocost.plan.asked.limits import Have, Limits
from isocost.plan.scenario import Scenario
from isocost.value.ask import Value

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
FACTS = ROOT / "src" / "isocost" / "catalog" / "facts"
PAGES = sorted([*DOCS.glob("*.md"), ROOT / "README.md"])
FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def name_of(page: Path) -> str:
    return page.name


def without_code(text: str) -> str:
    return FENCE.sub("", text)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_python_of_a_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of a page share their names, top to bottom; ``>>>`` blocks must print what they show."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    text = page.read_text(encoding="utf-8")
    names: dict[str, object] = {}
    for block in FENCE.finditer(text):
        language, code = block.groups()
        line = text.count("\n", 0, block.start(2))
        if language != "python":
            continue
        if ">>>" not in code:
            exec(compile(code, f"{page.name}:{line + 1}", "exec"), names)
            continue
        case = doctest.DocTestParser().get_doctest(code, names, page.name, str(page), line)
        heard: list[str] = []
        result = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(
            case, out=heard.append, clear_globs=False
        )
        names.update(case.globs)
        assert result.failed == 0, "".join(heard)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_of_a_page_resolve(page: Path) -> None:
    wrong = []
    for target in LINK.findall(without_code(page.read_text(encoding="utf-8"))):
        if "://" in target or target.startswith("mailto:"):
            continue
        name, _, anchor = target.partition("#")
        found = (page.parent / name) if name else page
        if not found.exists() or (anchor and anchor not in anchors(found)):
            wrong.append(target)
    assert wrong == []


def anchors(page: Path) -> set[str]:
    """Anchors of the headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", without_code(page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_every_page_is_reachable_from_the_readme() -> None:
    seen, waiting = set(), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop().resolve()
        if page in seen or page.suffix != ".md" or not page.exists():
            continue
        seen.add(page)
        links = LINK.findall(without_code(page.read_text(encoding="utf-8")))
        waiting += [page.parent / link.partition("#")[0] for link in links if "://" not in link]
    assert {page.name for page in PAGES} - {page.name for page in seen} == set()


def test_pages_that_messages_name_exist() -> None:
    texts = [path.read_text(encoding="utf-8") for path in sorted((ROOT / "src").rglob("*.py"))]
    named = {name for text in texts for name in re.findall(r"docs/([\w-]+\.md)", text)}
    assert [name for name in sorted(named) if not (DOCS / name).exists()] == []


def test_every_limit_is_described_and_its_examples_read() -> None:
    text = (DOCS / "limits.md").read_text(encoding="utf-8")
    slo, have = (code for language, code in FENCE.findall(text) if language == "toml")
    msgspec.toml.decode(slo, type=Limits)
    msgspec.toml.decode(have, type=Have)
    names = {name for kind in (Limits, Have) for name in keys_of(kind)}
    assert [name for name in sorted(names) if not re.search(rf"\b{name}\b", slo + have)] == []


PLACES = {"line", "path"}
"""Where a rule was read: set by its reader, no keys of a file."""


def keys_of(kind: type[msgspec.Struct]) -> Iterator[str]:
    """Names that a file of this kind may hold, those of its tables too."""
    for field in msgspec.structs.fields(kind):
        yield field.encode_name
        waiting = [field.type]
        while waiting:
            part = waiting.pop()
            waiting += typing.get_args(part)
            if isinstance(part, type) and issubclass(part, msgspec.Struct):
                yield from keys_of(part)


@pytest.mark.parametrize(
    ("pages", "kind"),
    [
        (("horizon.md", "limits.md", "keep.md", "develop.md"), Scenario),
        (("keep.md", "develop.md"), Beside),
        (("value.md",), Value),
        (("develop.md",), Programme),
        (("money.md",), Budgets),
        (("money.md",), CentreMap),
        (("money.md",), Overlay),
    ],
)
def test_every_key_of_a_file_is_described(pages: Sequence[str], kind: type[msgspec.Struct]) -> None:
    text = "".join((DOCS / page).read_text(encoding="utf-8") for page in pages)
    named = set(re.findall(r"\w+", "".join(code for _, code in FENCE.findall(text))))
    named |= {word for code in re.findall(r"`([^`\n]+)`", text) for word in re.findall(r"\w+", code)}
    assert set(keys_of(kind)) - named - PLACES == set()


def test_every_facts_file_is_described() -> None:
    described = (DOCS / "facts.md").read_text(encoding="utf-8")
    assert [path.name for path in sorted(FACTS.glob("*.csv")) if path.name not in described] == []


def test_every_dependency_has_its_reason() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needs = [
        *project["dependencies"],
        *(need for extra in project["optional-dependencies"].values() for need in extra),
    ]
    names = {re.split(r"[\[<>=!~ ;]", need, maxsplit=1)[0] for need in needs} - {"isocost"}
    rows = re.findall(
        r"^\| `([\w.-]+)` \|", (DOCS / "dependencies.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert names - set(rows) == set()
    assert set(rows) - names == set(), "described, yet not a dependency"


def test_generated_pages_are_fresh() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / ".ci" / "docs.py"), "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_every_public_name_is_documented() -> None:
    public = getattr(isocost, "__all__", ())
    if not public:
        pytest.skip("isocost exports no names yet")
    headings = re.findall(r"^## `(\w+)`$", (DOCS / "api.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(headings) == sorted(public)
    assert len(public) <= 25, "few public names"


UNITS = re.compile(r"_(s|ms|h|ns|usd|tok|frac|bytes|w|j|gb|kwh|months|years|per_\w+)$")


def quantities(module: ModuleType) -> set[str]:
    """Parameters of a module's public functions whose names end in a unit."""
    found: set[str] = set()
    for name, item in inspect.getmembers(module, inspect.isfunction):
        if item.__module__ == module.__name__ and not name.startswith("_"):
            found |= {
                parameter for parameter in inspect.signature(item).parameters if UNITS.search(parameter)
            }
    return found


def formula_modules() -> list[ModuleType]:
    """The rooms that hold formulas, as far as they are built."""
    found = [isocost.finance]
    for room in ("perf", "develop"):
        for path in sorted((ROOT / "src" / "isocost" / room).glob("*.py")):
            name = f"isocost.{room}" if path.stem == "__init__" else f"isocost.{room}.{path.stem}"
            found.append(__import__(name, fromlist=["_"]))
    return found


@pytest.mark.parametrize("module", formula_modules(), ids=lambda module: module.__name__)
def test_every_quantity_is_in_the_vocabulary(module: ModuleType) -> None:
    entries = set(re.findall(r"`([a-z][a-z0-9_]*)`", (DOCS / "vocabulary.md").read_text(encoding="utf-8")))
    assert quantities(module) - entries == set(), "one name, one meaning: add it to docs/vocabulary.md"
