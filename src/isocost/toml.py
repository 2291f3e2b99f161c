"""A TOML file as what it is to be: one way to read it, one line where it cannot be read."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import msgspec

from isocost.errors import BadInput

T = TypeVar("T")
BOM = b"\xef\xbb\xbf"
"""What some editors put before a text in UTF-8."""


def read_toml(path: Path, kind: type[T], fix: str, *, strict: bool = True) -> T:
    """A file as ``kind``; ``fix`` says where its fields are told; not ``strict``, texts may be numbers.

    Raises:
        BadInput: it is absent, is no text or no TOML, or has a field that is unknown or wrong.
    """
    try:
        return msgspec.toml.decode(path.read_bytes().removeprefix(BOM), type=kind, strict=strict)
    except FileNotFoundError:
        raise BadInput("no such file", where=str(path), fix="Check the path") from None
    except OSError as wrong:
        raise BadInput(f"cannot read it: {wrong.strerror}", where=str(path), fix="Check the path") from None
    except UnicodeDecodeError as wrong:
        raise BadInput(not_utf8(wrong), where=str(path), fix="Save it as UTF-8") from None
    except msgspec.ValidationError as wrong:
        raise BadInput(str(wrong), where=str(path), fix=fix) from None
    except ValueError as wrong:
        raise BadInput(f"not TOML: {wrong}", where=str(path), fix=fix) from None


def read_text(path: Path) -> str:
    """The text of a file.

    Raises:
        BadInput: it is absent, or no text.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as wrong:
        raise BadInput(not_utf8(wrong), where=str(path), fix="Save it as UTF-8") from None
    except OSError as wrong:
        raise BadInput(f"cannot be read: {wrong.strerror}", where=str(path), fix="Check the path") from None


def not_utf8(wrong: UnicodeDecodeError) -> str:
    """What is wrong with a file that is no text, with its first byte that is none."""
    return f"not a text in UTF-8 (byte 0x{wrong.object[wrong.start]:02x})"
