"""How help is set, and what is said where the words typed fit no command: one line, with what to type."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from datetime import date
from typing import Any

from cyclopts import CoercionError, CycloptsError, MissingArgumentError, UnknownOptionError
from cyclopts.exceptions import RepeatArgumentError, UnusedCliTokensError

NEAR = 0.6
"""Likeness from which an option is offered in the place of another: cyclopts' own."""

WANTED: Mapping[object, str] = {
    int: "is no whole number",
    float: "is no number",
    date: "is no date; write it as 2026-11-20",
}


class Flowing:
    """Help as cyclopts draws it, but for line breaks of docstrings: paragraphs take the width there is."""

    def __call__(self, console: Any, options: Any, panel: Any) -> None:
        """Draw one panel of arguments, parameters or commands."""
        from cyclopts.help.formatters import DefaultFormatter

        DefaultFormatter()(console, options, panel)

    def render_usage(self, console: Any, options: Any, usage: Any) -> None:
        """Print how a command is called."""
        from cyclopts.help.formatters import DefaultFormatter

        DefaultFormatter().render_usage(console, options, usage)

    def render_description(self, console: Any, _options: Any, description: Any) -> None:
        """Print what a command does, paragraph by paragraph."""
        from rich.text import Text

        text = getattr(getattr(description, "primary_renderable", None), "plain", "")
        for paragraph in text.split("\n\n"):
            console.print(Text(" ".join(paragraph.split())))
            console.print()


def said(wrong: CycloptsError) -> str:
    """What is wrong with the words typed, and what to type, in one line."""
    chain = " ".join(["isocost", *(wrong.command_chain or ())])
    told = _told(wrong, chain)
    return f"{told}{'' if told.endswith('?') else '.'} Type '{chain} --help'"


def _told(wrong: CycloptsError, chain: str) -> str:
    match wrong:
        case UnknownOptionError():
            return _unknown(wrong.token.keyword or wrong.token.value, wrong.argument_collection)
        case MissingArgumentError() if wrong.argument is not None:
            return _missing(wrong, wrong.argument, chain)
        case CoercionError() if wrong.token is not None and wrong.target_type in WANTED:
            name = wrong.token.keyword or (wrong.argument.name if wrong.argument else "value")
            return f"{name}: {wrong.token.value!r} {WANTED[wrong.target_type]}"
        case UnusedCliTokensError() if wrong.unused_tokens:
            several = len(wrong.unused_tokens) > 1
            words = ", ".join(map(repr, wrong.unused_tokens))
            return f"{words} {'are' if several else 'is'} more than '{chain}' takes"
        case RepeatArgumentError():
            return f"{wrong.token.keyword} is given more than once"
    return " ".join(str(wrong).split()).rstrip(".")


def _missing(wrong: MissingArgumentError, argument: Any, chain: str) -> str:
    """An option without its value, one that there is not in the place of one that must be, or nothing."""
    known = wrong.app.assemble_argument_collection(parse_docstring=True) if wrong.app else ()
    names = {name for one in known for name in one.names}
    words = [word.partition("=")[0] for word in wrong.unused_tokens or () if word.startswith("--")]
    strange = [word for word in words if word not in names]
    if strange:
        return _unknown(strange[0], known)
    text = next((one.parameter.help for one in known if one.name == argument.name), "")
    if wrong.keyword or argument.tokens or set(words) & set(argument.names):
        return f"{wrong.keyword or argument.name} needs a value{_meaning(text)}"
    return f"'{chain}' needs {argument.name}{_meaning(text)}"


def _unknown(word: str, arguments: Iterable[Any]) -> str:
    """An option that there is not, and the nearest that there is."""
    word = word.partition("=")[0]
    names = [name for one in arguments for name in one.names if name.startswith("-")]
    near = difflib.get_close_matches(word, names, n=1, cutoff=NEAR)
    return f"no option {word}. Did you mean {near[0]}?" if near else f"no option {word}"


def _meaning(text: str | None) -> str:
    """What an argument is: the first sentence of its help."""
    first = re.split(r"\.\s+(?=[A-Z])", " ".join((text or "").replace("``", "'").split()))[0].rstrip(" .")
    if not first:
        return ""
    return f": {first[:1].lower()}{first[1:]}" if re.match(r"[A-Z]([a-z]|\s)", first) else f": {first}"
