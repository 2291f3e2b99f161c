"""The rules of the house that a linter does not know."""

from __future__ import annotations

import ast
import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from golden import Golden

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "isocost"
MODULES = sorted(SOURCE.rglob("*.py"))

MAX_LINES, MAX_PARAMETERS = 600, 8
"""Past these a room is missing (docs/design.md, house rules)."""

LONG_FILES: dict[str, str] = {}
"""Path under src/isocost -> the reason why it may be longer."""

_REPLAY = "three columns of the requests, the machine, and switches that have a default and are used alone"
WIDE_FUNCTIONS: dict[str, str] = {
    "replay/capacity.py:capacity": _REPLAY,
    "replay/capacity.py:tabulate": _REPLAY,
    "replay/queue.py:serve": _REPLAY,
    "replay/queue.py:serve_with_prefixes": _REPLAY,
}
"""``path:function`` -> the reason why it may take more parameters."""

HEAVY = ("duckdb", "highspy", "jinja2", "numba", "numpy", "rich", "cyclopts", "vl_convert")
"""Packages that ``import isocost`` must not load."""

HEAVIEST = ("duckdb", "highspy", "numba", "vl_convert")
"""Packages that the command line loads only where a command needs them."""

READ_ONLY = re.compile(r"\b(Final|Mapping|Sequence|Set|frozenset|tuple|ClassVar)\b")
EMPTY_WORDS = re.compile(r"(?i)(manager|handler|utils?)$")


def short(path: Path) -> str:
    return path.relative_to(SOURCE).as_posix()


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def width(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    names = [arg.arg for arg in (*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs)]
    if names[:1] in (["self"], ["cls"]):
        names = names[1:]
    return len(names) + (function.args.vararg is not None) + (function.args.kwarg is not None)


def import_loads(statement: str, packages: tuple[str, ...]) -> list[str]:
    """Which of ``packages`` a fresh interpreter has loaded after ``statement``."""
    code = f"{statement}\nimport sys\nprint([name for name in {packages!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return list(ast.literal_eval(done.stdout.strip().splitlines()[-1]))


def test_files_are_rooms_not_halls() -> None:
    long = {short(path) for path in MODULES if len(path.read_text().splitlines()) > MAX_LINES}
    assert long - set(LONG_FILES) == set(), "split it, or list it with its reason"
    assert set(LONG_FILES) - long == set(), "listed, yet short enough by now"


def test_functions_take_few_parameters() -> None:
    wide = {
        f"{short(path)}:{f.name}" for path in MODULES for f in functions(path) if width(f) > MAX_PARAMETERS
    }
    assert wide - set(WIDE_FUNCTIONS) == set(), "group them into a type, or list it with its reason"
    assert set(WIDE_FUNCTIONS) - wide == set(), "listed, yet narrow enough by now"


def test_every_folder_of_modules_is_a_package() -> None:
    """A folder without ``__init__.py`` escapes the layers' contract."""
    folders = {path.parent for path in MODULES}
    assert [folder.name for folder in sorted(folders) if not (folder / "__init__.py").exists()] == []


@pytest.mark.parametrize("path", MODULES, ids=short)
def test_module_says_what_it_is(path: Path) -> None:
    assert ast.get_docstring(parsed(path)), "a module starts with what it is"


@pytest.mark.parametrize("path", MODULES, ids=short)
def test_module_has_no_state_and_does_no_work(path: Path) -> None:
    """Tables of constants are tuples, frozen sets or annotated as read-only, so that mypy guards them."""
    wrong = []
    for node in parsed(path).body:
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            wrong.append(f"line {node.lineno}: a call at import")
        elif isinstance(node, ast.Assign | ast.AnnAssign) and mutable(node.value):
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            annotation = ast.unparse(node.annotation) if isinstance(node, ast.AnnAssign) else ""
            if ast.unparse(target) != "__all__" and not READ_ONLY.search(annotation):
                wrong.append(
                    f"line {node.lineno}: {ast.unparse(target)} can change: annotate it Mapping or Sequence"
                )
    wrong += [
        f"line {node.lineno}: global" for node in ast.walk(parsed(path)) if isinstance(node, ast.Global)
    ]
    assert not wrong, f"{short(path)}: {wrong}"


def mutable(value: ast.expr | None) -> bool:
    if isinstance(value, ast.Call):
        return ast.unparse(value.func).split(".")[-1] in {
            "list",
            "dict",
            "set",
            "defaultdict",
            "deque",
            "Counter",
        }
    return isinstance(value, ast.List | ast.Dict | ast.Set | ast.ListComp | ast.DictComp | ast.SetComp)


@pytest.mark.parametrize("path", MODULES, ids=short)
def test_names_say_something(path: Path) -> None:
    names = [path.stem] + [
        node.name
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    assert [name for name in names if EMPTY_WORDS.search(name)] == []


def test_import_is_free() -> None:
    assert import_loads("import isocost", HEAVY) == []


@pytest.mark.skipif(
    getattr(importlib.util.find_spec("isocost.cli"), "origin", None) is None,
    reason="isocost.cli is not built",
)
def test_command_line_loads_only_what_it_shows() -> None:
    assert import_loads("import isocost.cli", HEAVIEST) == []


def test_only_kernels_need_the_compiler() -> None:
    """Every other module can be imported without paying for numba, vl-convert or a database."""
    kernels = re.compile(r"^@(?:\w+\.)?(?:compiled|njit)\b|^from numba|^import numba", re.MULTILINE)
    dotted = [
        "isocost." + short(path).removesuffix(".py").replace("/", ".").removesuffix(".__init__")
        for path in MODULES
        if path not in (SOURCE / "__init__.py", SOURCE / "__main__.py")
        and not kernels.search(path.read_text())
    ]
    assert import_loads("\n".join(f"import {name}" for name in dotted), HEAVIEST) == []


def committed() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    paths = [ROOT / name for name in listed.stdout.split("\0") if name]
    return [path for path in paths if path.is_file()]


def test_nothing_committed_names_a_machine_or_a_registry() -> None:
    registries = ["py" + "pi.org", "python" + "hosted.org", "registry." + "npmjs", "ana" + "conda.org"]
    machine = re.compile(r"(?<![\w.:/)>}~-])/(?:work|tmp|root|home|Users|mnt)/[\w.]")
    wrong = []
    for path in committed():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        wrong += [f"{path.relative_to(ROOT)}: {name}" for name in registries if name in text]
        wrong += [f"{path.relative_to(ROOT)}: {found.group()}" for found in machine.finditer(text)]
    assert wrong == []


def test_golden_compares_and_accepts(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"no a\.txt"):
        Golden(tmp_path).check("a.txt", "one\n")
    Golden(tmp_path, update=True).check("a.txt", "one  \ntwo\n\n")
    Golden(tmp_path).check("a.txt", "one\ntwo")
    with pytest.raises(AssertionError, match=r"\+three"):
        Golden(tmp_path).check("a.txt", "one\nthree\n")
