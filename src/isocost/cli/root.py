"""The command tree's root, and ``main``: from words typed to an exit code."""

from __future__ import annotations

import contextlib
import difflib
import gc
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, CycloptsError, Parameter

from isocost.cli.help import Flowing, said
from isocost.errors import BadInput, Infeasible, IsocostError, NotBuilt

INTERRUPTED = 130
BROKEN_PIPE = 141
COLLECT_EVERY = 200_000
"""Objects between two searches for garbage: what a command reads at its start stays, and looking through it
again and again took a sixth of a short command's time."""

Json = Annotated[bool, Parameter(help="One JSON document instead of text.")]
Facts = Annotated[
    Path | None, Parameter(help="A folder of facts of one's own, which go before the shipped ones.")
]
InTok = Annotated[
    str | None, Parameter(name="--in", help="Input tokens of a request, cached included: 1500, 32k.")
]
OutTok = Annotated[
    str | None, Parameter(name="--out", help="Output tokens of a request, reasoning included.")
]

NOT_BUILT: Mapping[str, str] = {
    "gateway": "Use 'isocost replay LOG --plan plan.toml' to see what the plan does",
}
"""Commands of the design that do not exist yet, and what to use now."""

app = App(
    name="isocost",
    help="The least-cost way to serve a language-model workload, planned from your own traffic.",
    help_format="plaintext",
    help_formatter=Flowing(),
    version_flags=["--version"],
    default_parameter=Parameter(negative="", show_default=False),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code.

    0 done; 1 a check found problems; 2 bad input or no plan, one line on stderr; 130 interrupted.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    gc.set_threshold(COLLECT_EVERY)
    # The products of matrices are small: on a busy machine threads wait for each other ten times as long as
    # they work. Arrays are loaded later, by the command, and read this then.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError):
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    try:
        code = _run(words)
        sys.stdout.flush()
        if argv is None and "duckdb" not in sys.modules:
            # The process ends here: looking through all that it holds once more took a fifth of its time. A
            # database that is not found by that would be told as leaked, on stderr.
            gc.freeze()
        return code
    except IsocostError as wrong:
        _say(wrong)
        return wrong.exit_code
    except CycloptsError as wrong:
        print(f"isocost: {said(wrong)}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # Whoever read the output has gone; what is left in the buffer has nowhere to go either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except OSError as wrong:
        where = f"{wrong.filename}: " if wrong.filename else ""
        print(f"isocost: {where}{wrong.strerror or wrong}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        print(
            f"isocost: interrupted; {stop.args[0] if stop.args else 'nothing was written'}", file=sys.stderr
        )
        return INTERRUPTED


def _run(words: list[str]) -> int:
    _known(words)
    command, bound, _ = app.parse_args(words, print_error=False, exit_on_error=False)
    code: object = _called(command, bound.args, bound.kwargs)
    return code if isinstance(code, int) else 0


def _called(command: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> object:
    return command(*args, **kwargs)


def _known(words: Sequence[str]) -> None:
    """Refuse a first word that is no command, which the root would otherwise take as a stray argument.

    Raises:
        NotBuilt: a command of the design that does not exist yet.
        BadInput: any other word; near commands are named.
    """
    name = words[0] if words else "-"
    if name.startswith("-") or name in app:
        return
    if name in NOT_BUILT:
        raise NotBuilt(f"'{name}' is not built yet", fix=NOT_BUILT[name])
    commands = [one for one in app if not one.startswith("-")]
    near = difflib.get_close_matches(name, commands, n=2, cutoff=0.5)
    fix = f"Did you mean {' or '.join(near)}?" if near else f"Commands: {', '.join(commands)}"
    raise BadInput(f"no command {name!r}", fix=f"Type 'isocost plan {name}'" if Path(name).exists() else fix)


def _say(wrong: IsocostError) -> None:
    print(f"isocost: {wrong.line()}", file=sys.stderr)
    if isinstance(wrong, Infeasible):
        if wrong.conflict:
            print("  cannot hold together:", file=sys.stderr)
        for limit in wrong.conflict:
            print(f"    {limit}", file=sys.stderr)
        if wrong.ways_out:
            print("  ways out:", file=sys.stderr)
        for limit, price in wrong.ways_out:
            print(f"    {limit}: {price}", file=sys.stderr)
