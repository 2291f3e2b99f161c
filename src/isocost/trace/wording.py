"""Where a log keeps the words of a prompt, as SQL: tools, system instructions and messages.

Words are read only where they are asked for (``open_trace(..., prompts=True)``), and never leave the machine.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from isocost.trace.head import Head
from isocost.trace.sql import ident, literal

_BODIES = (
    (), ("request",), ("request", "body"), ("body",), ("request_body",), ("data",), ("input",), ("params",),
    ("inputs",), ("kwargs",),
)  # fmt: skip
"""Where a row may hold the request that was sent."""
MESSAGES = ("messages", "input_messages", "prompt", "contents", "input", "prompt_text", "query", "text")
SYSTEM = ("system", "instructions", "system_instruction", "systemInstruction", "system_prompt")
TOOLS = ("tools", "functions", "tool_definitions")
_WHOLE = ("request", "request_body", "body", "proxy_server_request")
"""Columns of a table that may hold a whole request as JSON."""
_ATTRIBUTES = (
    ("gen_ai.tool.definitions", "llm.tools"),
    ("gen_ai.system_instructions",),
    ("gen_ai.input.messages", "llm.input_messages", "gen_ai.prompt", "input.value", "traceloop.entity.input"),
)
"""Attributes of spans: tools, system instructions, messages."""


def wording(head: Head, reader: str) -> str | None:
    """SQL over the reader's source: a JSON object ``{"t": tools, "s": system, "m": messages}`` as text.

    ``None`` where the file's first rows hold no words of a prompt. What is text in the log is text there.
    """
    if reader == "otel":
        parts = [_attribute(head, names) for names in _ATTRIBUTES]
    elif head.kind in ("jsonl", "json"):
        rows = list(_rows(head, reader))
        parts = [_of_json(rows, TOOLS), _of_json(rows, SYSTEM), _of_json(rows, MESSAGES)]
    elif head.kind in ("csv", "parquet"):
        parts = [_of_table(head, TOOLS), _of_table(head, SYSTEM), _of_table(head, (*MESSAGES, *_WHOLE))]
    else:
        return None
    if parts[2] == "NULL" and parts[1] == "NULL":
        return None
    tools, system, messages = parts
    return f"CAST(json_object('t', {tools}, 's', {system}, 'm', {messages}) AS VARCHAR)"


def _rows(head: Head, reader: str) -> Iterator[Mapping[str, Any]]:
    """The sample's rows as the reader's source names them."""
    if reader in ("langfuse", "helicone", "openrouter"):
        from isocost.trace.readers.nested import rows

        yield from rows(head)
    else:
        yield from head.sample


def _at(row: Any, path: tuple[str, ...]) -> Any:
    for step in path:
        row = row.get(step) if isinstance(row, Mapping) else None
    return row


def _words(value: Any) -> bool:
    """Whether a value of the sample may be words of a prompt: a number, an id or a flag is none."""
    if isinstance(value, list):
        return bool(value) and isinstance(value[0], dict | str)
    if isinstance(value, dict):
        return bool(value)
    return isinstance(value, str) and (len(value) >= 8 and (" " in value or value[:1] in "[{"))


def _of_json(rows: list[Mapping[str, Any]], names: tuple[str, ...]) -> str:
    """SQL: the first of these keys that holds words, in the row or in the request that it holds."""
    found = []
    for body in _BODIES:
        for name in names:
            path = (*body, name)
            if any(_words(_at(row, path)) for row in rows):
                found.append(f"nullif({_key(*path)}, 'null'::JSON)")
    return f"coalesce({', '.join(found)}, NULL)" if found else "NULL"


def _key(*path: str) -> str:
    """SQL: the JSON at a path of a row."""
    steps = "".join(f'."{step}"' for step in path)
    return f"(json->{literal('$' + steps)})"


def _of_table(head: Head, names: tuple[str, ...]) -> str:
    found = [
        ident(column)
        for name in names
        if (column := head.column(name)) is not None and any(_words(one) for one in head.values(column)[:50])
    ]
    texts = ", ".join(f"nullif(CAST({column} AS VARCHAR), '')" for column in found)
    return f"coalesce({texts}, NULL)" if found else "NULL"


def _attribute(head: Head, names: tuple[str, ...]) -> str:
    """SQL: an attribute of a span, of OTLP's lists or of rows that hold them beside or in a bag."""
    if head.kind in ("jsonl", "json") and any("resourceSpans" in row for row in head.sample):
        texts = ", ".join(f"texts[list_position(keys, {literal(one)})]" for one in names)
        return f"coalesce({texts}, NULL)"
    found = [
        f"nullif(CAST({ident(column)} AS VARCHAR), '')" if head.kind in ("csv", "parquet") else _key(column)
        for one in names
        if (column := head.column(one)) is not None
    ]
    if head.kind in ("jsonl", "json"):
        for bag in ("attributes", "SpanAttributes", "span_attributes"):
            for one in names:
                if any(_at(row, (bag, one)) is not None for row in head.sample):
                    found.append(_key(bag, one))
    return f"coalesce({', '.join(found)}, NULL)" if found else "NULL"
