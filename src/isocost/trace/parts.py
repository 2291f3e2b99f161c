"""A large row of a usage report as several rows that add up to it.

Token counts of a row are 32-bit, and its amount is a 64-bit number of femto-dollars, which 10 million tokens
at 900 USD a million would fill. A report's bucket may hold a thousand times that, so it is read as equal
parts; every count of the parts adds up to the bucket's, and no part contradicts itself.
"""

from __future__ import annotations

from collections.abc import Collection

PART_TOK = 10_000_000
PART_SEARCHES = 100_000


def split(select: str, columns: Collection[str]) -> str:
    """SQL: the rows of a SELECT with ``place`` (row number from 0), large ones in parts.

    ``columns`` are the names that the SELECT gives.
    """
    inside = [
        name
        for name in ("cached_tok", "cache_write_tok", "cache_write_1h_tok", "audio_input_tok")
        if name in columns
    ]
    spoken = "audio_output_tok" if "audio_output_tok" in columns else ""
    heard = "audio_cached_tok" if {"audio_cached_tok", "cached_tok"} <= set(columns) else ""
    # Meters are split apart and then added: parts of sums could hold more cached tokens than input.
    plain = " - ".join(["input_tok", *(f"coalesce({name}, 0)" for name in inside)])
    meters = {"plain_": plain, "written_": f"output_tok - coalesce({spoken or '0'}, 0)"}
    if heard:
        meters["read_"] = f"cached_tok - coalesce({heard}, 0)"
    size = [f"greatest(input_tok, output_tok) / {PART_TOK}"]
    if "web_searches" in columns:
        size.append(f"coalesce(web_searches, 0) / {PART_SEARCHES}")
    sound = " AND ".join(f"coalesce({sql}, 0) >= 0" for sql in meters.values())
    fits = "input_tok < 1e15 AND output_tok < 1e15"
    parts = (
        f"CASE WHEN {fits} AND {sound} THEN greatest(1, ceil(greatest({', '.join(size)})))::BIGINT ELSE 1 END"
    )

    def share(name: str) -> str:
        whole = f"coalesce({name}, 0)::HUGEINT"
        return f"({whole} * (part + 1) // parts - {whole} * part // parts)"

    def kept(name: str, sql: str) -> str:
        return f"CASE WHEN parts = 1 OR {name} IS NULL THEN {name} ELSE {sql} END"

    read = f"{share('read_')} + {share(heard)}" if heard else share("cached_tok")
    shares = {name: read if name == "cached_tok" else share(name) for name in inside}
    replaced = {
        **shares,
        "input_tok": " + ".join([share("plain_"), *shares.values()]),
        "output_tok": share("written_") + (f" + {share(spoken)}" if spoken else ""),
    }
    for name in ("reasoning_tok", "audio_cached_tok", "audio_output_tok", "web_searches"):
        if name in columns:
            replaced[name] = share(name)
    if "count" in columns:
        replaced["count"] = f"CASE WHEN count < 0 THEN -1 ELSE {share('count')} END"
    if "billed_usd" in columns:
        replaced["billed_usd"] = "billed_usd / parts"
    if "request_id" in columns:
        replaced["request_id"] = "request_id || '#' || part"
    kinds = {"billed_usd": "DOUBLE", "request_id": "VARCHAR", "count": "BIGINT"}
    changed = ", ".join(
        f"({kept(name, sql)})::{kinds.get(name, 'DOUBLE')} AS {name}" for name, sql in replaced.items()
    )
    extra = ", ".join(f"{sql} AS {name}" for name, sql in meters.items())
    return (
        f"SELECT * EXCLUDE (part, parts, {', '.join(meters)}) REPLACE ({changed}) FROM ("
        f"SELECT *, unnest(range(parts)) AS part FROM (SELECT *, {parts} AS parts FROM ("
        f"SELECT *, {extra} FROM (SELECT *, row_number() OVER () - 1 AS place FROM ({select})))))"
        " ORDER BY place, part"
    )
