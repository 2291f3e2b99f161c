"""Where a log keeps the words of a prompt, as SQL: tools, system instructions, messages, and settings.

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
SETTINGS = (
    "temperature", "top_p", "top_k", "min_p", "n", "seed", "stop", "stop_sequences", "frequency_penalty",
    "presence_penalty", "repetition_penalty", "logit_bias", "response_format", "output_format", "tool_choice",
    "reasoning_effort", "thinking", "verbosity", "modalities", "max_tokens", "max_completion_tokens",
    "max_output_tokens", "generationConfig", "generation_config",
)  # fmt: skip
"""What may change an answer beside words: requests that differ in one of these share no cached answer."""
_BESIDE = ("model_parameters", "modelParameters", "optional_params")
"""Where a tracer keeps them, beside the request."""
_SAMPLING = (
    "gen_ai.request.temperature", "gen_ai.request.top_p", "gen_ai.request.top_k", "gen_ai.request.seed",
    "gen_ai.request.stop_sequences", "gen_ai.request.frequency_penalty", "gen_ai.request.presence_penalty",
    "gen_ai.request.max_tokens", "gen_ai.request.choice.count", "gen_ai.output.type",
    "llm.invocation_parameters",
)  # fmt: skip
_WHOLE = ("request", "request_body", "body", "proxy_server_request")
"""Columns of a table that may hold a whole request as JSON."""
_ATTRIBUTES = (
    ("gen_ai.tool.definitions", "llm.tools"),
    ("gen_ai.system_instructions",),
    ("gen_ai.input.messages", "llm.input_messages", "gen_ai.prompt", "input.value", "traceloop.entity.input"),
)
"""Attributes of spans: tools, system instructions, messages."""


def wording(head: Head, reader: str) -> str | None:
    """SQL over the reader's source: ``{"t": tools, "s": system, "m": messages, "p": settings}`` as text.

    ``None`` where the file's first rows hold no words of a prompt. What is text in the log is text there;
    settings are a list as long as ``SETTINGS``, or an object.
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
    said = _settings(head, reader)
    return f"CAST(json_object('t', {tools}, 's', {system}, 'm', {messages}, 'p', {said}) AS VARCHAR)"


def _settings(head: Head, reader: str) -> str:
    """SQL: the settings that a row states, whether or not the first rows do; NULL where none could be."""
    if reader == "otel":
        found = {name: _attribute(head, (name,)) for name in _SAMPLING}
        pairs = ", ".join(f"{literal(name)}, {sql}" for name, sql in found.items() if sql != "NULL")
        return f"json_object({pairs})" if pairs else "NULL"
    if head.kind in ("csv", "parquet"):
        columns = ((name, head.column(name)) for name in (*SETTINGS, *_BESIDE))
        pairs = ", ".join(
            f"{literal(name)}, {ident(column)}" for name, column in columns if column is not None
        )
        return f"json_object({pairs})" if pairs else "NULL"
    rows = list(_rows(head, reader))
    bodies = [b for b in _BODIES if any(_words(_at(row, (*b, name))) for row in rows for name in MESSAGES)]
    paths = [(*body, name) for body in bodies or [()] for name in SETTINGS] + [(name,) for name in _BESIDE]
    steps = ", ".join(literal("$" + "".join(f'."{step}"' for step in path)) for path in paths)
    return f"json_extract(json, [{steps}])"


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
