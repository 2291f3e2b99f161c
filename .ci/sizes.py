"""Print how large isocost is: lines a file, installed MB a package, import time, public names."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "isocost"
REPEATS = 5


def main() -> None:
    """Print the table."""
    print("lines  file")
    counts = {
        path.relative_to(ROOT).as_posix(): len(path.read_text(encoding="utf-8").splitlines())
        for folder in (SOURCE, ROOT / "tests")
        for path in sorted(folder.rglob("*.py"))
    }
    for name, lines in sorted(counts.items()):
        if name.startswith("src/"):
            print(f"{lines:5}  {name}")
    print(f"{_sum(counts, 'src/'):5}  src")
    print(f"{_sum(counts, 'tests/'):5}  tests")

    print("\n   MB  installed")
    sizes = installed_mb("isocost")
    sizes["isocost"] = sum(path.stat().st_size for path in _shipped()) / 1e6
    for name, size_mb in sorted(sizes.items(), key=lambda item: -item[1]):
        print(f"{size_mb:5.1f}  {name}")
    print(f"{sum(sizes.values()):5.0f}  all of it")

    bare, imported = _wall_ms("pass"), _wall_ms("import isocost")
    print(f"\n{imported - bare:5.0f}  ms to import isocost ({imported:.0f} with the interpreter's own start)")
    import isocost

    print(f"{len(getattr(isocost, '__all__', ())):5}  public names")


def installed_mb(root: str) -> dict[str, float]:
    """Size on disk of what ``root`` needs to run, by distribution, extras left out (MB of 1e6 bytes)."""
    sizes: dict[str, float] = {}
    waiting = [root]
    while waiting:
        name = waiting.pop()
        if name in sizes:
            continue
        try:
            found = distribution(name)
        except PackageNotFoundError:
            continue  # needed on another platform only
        sizes[name] = _size_mb(found)
        waiting += [
            re.sub(r"[-_.]+", "-", re.split(r"[^\w.-]", need, maxsplit=1)[0]).lower()
            for need in found.requires or ()
            if "extra ==" not in need
        ]
    return sizes


def _size_mb(found: Distribution) -> float:
    paths = (Path(str(found.locate_file(file))) for file in found.files or ())
    return sum(path.stat().st_size for path in paths if path.is_file()) / 1e6


def _shipped() -> list[Path]:
    return [path for path in SOURCE.rglob("*") if path.is_file() and "__pycache__" not in path.parts]


def _sum(counts: dict[str, int], prefix: str) -> int:
    return sum(lines for name, lines in counts.items() if name.startswith(prefix))


def _wall_ms(code: str) -> float:
    def once() -> float:
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        return time.perf_counter() - start

    return 1e3 * min(once() for _ in range(REPEATS))


if __name__ == "__main__":
    main()
