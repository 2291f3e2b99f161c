"""What commands print and write: text that fits, JSON, progress, files that appear whole."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path

from rich.console import Console, JustifyMethod, RenderableType
from rich.measure import Measurement
from rich.status import Status
from rich.table import Table
from rich.text import Text

from isocost.errors import BadInput

PIPED_COLUMNS = 100
NARROWEST, WIDEST = 72, 120
ENDLESS = 10_000
LONGEST_LEAD = 32
"""Columns of a label beside which its text is set; under a longer one it goes on indented."""
GAP, NARROW_GAP = (0, 2, 0, 0), (0, 1, 0, 0)
"""Blanks around a cell: top, right, bottom, left."""
LEAST_WRAPPED = 20
"""Columns below which a cell that may wrap is not squeezed."""


def columns() -> int:
    """Columns to print in: ``COLUMNS``, else the terminal's, else 100; between 72 and 120."""
    stated = os.environ.get("COLUMNS", "")
    if stated.isdecimal():
        width = int(stated)
    elif sys.stdout.isatty():
        width = shutil.get_terminal_size().columns
    else:
        width = PIPED_COLUMNS
    return max(NARROWEST, min(WIDEST, width))


def show(*parts: RenderableType) -> None:
    """Print to stdout: styled in a terminal, plain where piped, no space at the end of lines.

    Text is printed as it is (:func:`wrapped` breaks it), so that an address is never broken; a table that
    does not fit a narrow terminal has its columns closer together, and is printed wider than the terminal
    where that is not enough, so that a number is never cut.
    """
    for part in parts:
        width = columns()
        if isinstance(part, Table):
            if width < PIPED_COLUMNS and not fits(part):
                part.padding = NARROW_GAP
            width = max(width, _needed(part))
        console = Console(file=sys.stdout, width=width, highlight=False, markup=False, emoji=False)
        with console.capture() as captured:
            console.print(part, soft_wrap=isinstance(part, str | Text))
        sys.stdout.write("".join(f"{line.rstrip()}\n" for line in captured.get().splitlines()))


def fits(table: Table) -> bool:
    """Whether a table stands in the width there is."""
    return _needed(table) <= columns()


def _needed(table: Table) -> int:
    """Columns below which a table would lose characters."""
    console = Console(width=ENDLESS)
    total = table.padding[1] * (len(table.columns) - 1)
    for column in table.columns:
        cells = [column.header, *column.cells]
        most = max(Measurement.get(console, console.options, cell).maximum for cell in cells)
        total += most if column.no_wrap else min(most, LEAST_WRAPPED)
    return total


def wrapped(text: str, label: str = "", indent: int = 2) -> str:
    """Text broken to the width under ``indent`` spaces and a label, which its lines stand beside."""
    lead = " " * indent + label
    lines = textwrap.wrap(
        text,
        columns(),
        initial_indent=lead,
        subsequent_indent=" " * (len(lead) if len(lead) <= LONGEST_LEAD else indent + 4),
        break_long_words=False,
        break_on_hyphens=False,
    )
    return "\n".join(lines)


def show_as_is(text: str) -> None:
    """Print a line that is to be copied: never broken."""
    sys.stdout.write(f"{text}\n")


def show_json(document: object) -> None:
    """Print one JSON document to stdout; what is not finite is null."""
    import msgspec

    plain = msgspec.to_builtins(document, enc_hook=_plain)
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(plain), indent=1).decode() + "\n")


def _plain(value: object) -> object:
    """Numbers of numpy as Python's; a path as text."""
    if hasattr(value, "tolist"):
        return value.tolist()
    return str(value)


def grid(*heads: tuple[str, str], title: str = "") -> Table:
    """A table without lines; ``heads`` are (heading, how): ``r`` right, ``l`` left, ``w`` wraps."""
    table = Table(box=None, pad_edge=False, padding=GAP, header_style="dim", title=title or None)
    table.title_justify, table.title_style = "left", "bold"
    table.show_header = any(head for head, _ in heads)
    for head, how in heads:
        least = LEAST_WRAPPED if how == "w" else None
        justify: JustifyMethod = "right" if how == "r" else "left"
        table.add_column(head, justify=justify, no_wrap=how != "w", overflow="fold", min_width=least)
    return table


def working(what: str, *, compiles: bool = False) -> AbstractContextManager[object]:
    """Say on stderr what goes on, while it does; nothing where stderr is no terminal.

    With ``compiles`` also when kernels are compiled, which a machine's first run does for half a minute.
    """
    if not sys.stderr.isatty():
        return nullcontext()
    status = Console(stderr=True).status(what)
    return _compiling(status, what) if compiles else status


@contextmanager
def _compiling(status: Status, what: str) -> Iterator[None]:
    """The status, and beside what it says that a kernel is being compiled, as long as one is."""
    with status:
        from numba.core.event import Event, Listener, install_listener

        class Compiling(Listener):
            """One kernel compiles those that it calls."""

            deep = 0

            def on_start(self, event: Event) -> None:
                del event
                self.deep += 1
                status.update(f"{what}: compiling kernels, once")

            def on_end(self, event: Event) -> None:
                del event
                self.deep -= 1
                if not self.deep:
                    status.update(what)

        with install_listener("numba:compile", Compiling()):
            yield


@contextmanager
def staged(folder: Path) -> Iterator[Path]:
    """A new folder inside ``folder`` to write files into; they move out once the block ends well.

    Where it does not, nothing of them is left.

    Raises:
        BadInput: the folder cannot be made or written.
        KeyboardInterrupt: with what had been written, where the moves are interrupted.
    """
    new = [one for one in (folder, *folder.parents) if not one.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        stage = Path(tempfile.mkdtemp(prefix=".isocost-", suffix=".part", dir=folder))
    except OSError as wrong:
        raise BadInput(
            f"cannot write: {wrong.strerror}", where=str(folder), fix="Name another with --to DIR"
        ) from None
    moved: list[str] = []
    try:
        yield stage
        for path in sorted(stage.iterdir()):
            path.replace(folder / path.name)
            moved.append(path.name)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"wrote {', '.join(moved)}" if moved else "nothing was written") from None
    finally:
        shutil.rmtree(stage, ignore_errors=True)
        for one in new if not moved else ():
            with suppress(OSError):
                one.rmdir()
