"""Where looks at certifying questions are kept: beside the outcomes, so that they travel together."""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from isocost.cli.output import staged

if TYPE_CHECKING:
    from isocost.policy.looks import Look

ENDING = ".looks.toml"


def looks_of(outcomes: Path, to: Path) -> Path:
    """The file of looks at some outcomes: beside them, or in ``to`` where nothing can be written there."""
    beside = outcomes.parent
    # root may write where nobody is meant to: what the folder says counts as well
    is_meant = bool(beside.stat().st_mode & (stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH))
    name = outcomes.name.split(".")[0] + ENDING
    return (beside if is_meant and os.access(beside, os.W_OK) else to) / name


def read_looks(outcomes: Path, to: Path | None = None) -> tuple[Look, ...]:
    """Every look that is kept beside the outcomes or in ``to``, whatever its file is called: outcomes that
    are renamed keep theirs.

    Raises:
        BadLimits: a file of looks is not as it was written.
    """
    from isocost.policy.looks import loads
    from isocost.toml import read_text

    folders = dict.fromkeys(one.resolve() for one in (outcomes.parent, to or outcomes.parent))
    files = [file for folder in folders if folder.is_dir() for file in sorted(folder.glob(f"*{ENDING}"))]
    return tuple(one for file in files for one in loads(read_text(file), str(file)))


def keep_looks(new: Sequence[Look], outcomes: Path, to: Path) -> Path:
    """Write down looks that were taken now, behind those that are in the file; one that goes on where an
    earlier round stopped takes its place."""
    from isocost.policy.looks import dumps, loads
    from isocost.toml import read_text

    file = looks_of(outcomes, to)
    old = loads(read_text(file), str(file)) if file.exists() else ()
    with staged(file.parent) as folder:
        now = {(one.kind, one.fit): one for one in (*old, *new)}
        (folder / file.name).write_text(dumps(tuple(now.values())), encoding="utf-8")
    return file


def sure(level: float) -> str:
    """The confidence of a test at a level, in as many digits as tell it from certainty.

    >>> sure(0.05), sure(0.005), sure(0.000125)
    ('95%', '99.5%', '99.987%')
    """
    digits = max(0, 1 - math.floor(math.log10(100 * level))) if level > 0 else 0
    cut = math.floor(100 * (1 - level) * 10**digits + 1e-6) / 10**digits
    return f"{cut:.{digits}f}".rstrip("0").rstrip(".") + "%" if digits else f"{cut:.0f}%"
