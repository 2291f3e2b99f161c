"""SQL for a log: its file as a relation, and the expressions that readers are made of."""

from __future__ import annotations

import re

from isocost.trace.head import Head


def ident(name: str) -> str:
    """A column name quoted for SQL."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text quoted for SQL."""
    return "'" + text.replace("'", "''") + "'"


def utc_ns(expression: str) -> str:
    """SQL: a timestamp or its text as ns since 1970; without a zone it is read as UTC."""
    return f"epoch_us(TRY_CAST({expression} AS TIMESTAMPTZ)) * 1000"


def number(expression: str) -> str:
    """SQL: a number, or NULL where the text is none."""
    return f"TRY_CAST({expression} AS DOUBLE)"


def count_ns(expression: str, per_s: float, anchor_ns: int = 0) -> str:
    """SQL: a count of ticks (``per_s`` a second) as ns, from ``anchor_ns``."""
    return f"TRY_CAST(round({number(expression)} * {1e9 / per_s!r}) AS BIGINT) + {anchor_ns}"


LARGEST_ROW_BYTES = 64 << 20


def relation(head: Head, row_bytes: int = LARGEST_ROW_BYTES) -> str:
    """SQL: the file as a relation (CSV columns are all text; of a JSON file one column, ``json``).

    ``row_bytes`` is the size of the largest line of JSON that is read; the database holds twice that.
    """
    path = literal(str(head.path))
    if head.kind == "parquet":
        return f"read_parquet({path})"
    if head.kind == "jsonl":
        return f"read_ndjson_objects({path}, ignore_errors=true, maximum_object_size={row_bytes})"
    if head.whole:
        return f"read_json_objects({path}, format='unstructured', maximum_object_size=536870912)"
    if head.kind == "metrics":
        return (
            f"read_csv({path}, columns={{'sample': 'VARCHAR'}}, delim='\\x01', quote='', escape='', "
            "header=false, auto_detect=false, max_line_size=67108864)"
        )
    if head.kind == "json":
        return f"read_json_objects({path}, format='array', maximum_object_size=67108864)"
    columns = ", ".join(f"{literal(name)}: 'VARCHAR'" for name in head.columns)
    return (
        f"read_csv({path}, columns={{{columns}}}, delim={literal(head.separator)}, quote='\"', escape='\"', "
        "header=true, auto_detect=false, store_rejects=true, rejects_limit=0, max_line_size=67108864)"
    )


_PATH = re.compile(r"\((\w+)->>'(\$[^']*)'\)")


def at_once(select: str, source: str) -> tuple[str, str]:
    """A SELECT whose texts at paths of a JSON column are taken out of it in one pass over each row.

    Readers ask for each text by itself, ``(json->>'$."a"."b"')``, and would have a row parsed for each.
    """
    paths: dict[str, dict[str, int]] = {}
    for column, path in _PATH.findall(select):
        mine = paths.setdefault(column, {})
        mine.setdefault(path, len(mine) + 1)
    asked = ", ".join(
        f"json_extract_string({column}, [{', '.join(literal(path) for path in mine)}]) AS {column}_at"
        for column, mine in paths.items()
    )
    if not asked:
        return select, source
    taken = _PATH.sub(lambda found: f"{found[1]}_at[{paths[found[1]][found[2]]}]", select)
    return taken, f"(SELECT *, {asked} FROM {source})"
