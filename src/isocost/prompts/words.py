"""The words of a prompt in the order in which a provider reads them: tools, system, then each message.

A prompt is bytes and the parts that they come from. A prompt cache compares from the first byte, so the order
of parts is what decides; where tools stand in a request's JSON does not.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

_CONTENT = ("content", "text", "parts", "value", "arguments", "input", "output")
"""Where a message or a part of it holds its words."""


class Words(NamedTuple):
    """A prompt: its bytes (UTF-8), the offset at which each part starts, and what the parts are called."""

    data: bytes
    starts: tuple[int, ...]
    labels: tuple[str, ...]

    def where(self, at: int) -> tuple[str, int]:
        """The part that holds a byte, and the character of the part that it belongs to (from 1)."""
        part = max((i for i, start in enumerate(self.starts) if start <= at), default=0)
        start = self.starts[part] if self.starts else 0
        label = self.labels[part] if self.labels else "prompt"
        return label, len(self.data[start:at].decode("utf-8", "ignore")) + 1


def words(text: str) -> Words:
    """The prompt that ``isocost.trace.wording`` took out of a log's row; blank where it holds none.

    >>> words('{"t": null, "s": "Be brief.", "m": [{"role": "user", "content": "Why?"}]}').labels
    ('system', 'message 1 (user)')
    """
    found = _decoded(text)
    held = found if isinstance(found, dict) else {"m": text}
    parts = list(_parts(held.get("t"), held.get("s"), held.get("m")))
    data, starts, labels = bytearray(), [], []
    for label, said in parts:
        if said:
            starts.append(len(data))
            labels.append(label)
            data += said.encode("utf-8", "replace") + b"\n"
    return Words(bytes(data), tuple(starts), tuple(labels))


def _decoded(value: Any) -> Any:
    """JSON inside a text as what it stands for; any other value as it is."""
    if isinstance(value, str) and value[:1] in ("{", "[", '"'):
        try:
            return msgspec.json.decode(value)
        except msgspec.DecodeError:
            return value
    return value


def _parts(tools: Any, system: Any, messages: Any) -> Iterator[tuple[str, str]]:
    tools, system, messages = _decoded(tools), _decoded(system), _decoded(messages)
    if isinstance(messages, dict):
        inner = next(
            (messages[n] for n in ("messages", "contents", "input", "prompt") if n in messages), None
        )
        if inner is not None:
            tools, system = tools or messages.get("tools"), system or messages.get("system")
            messages = _decoded(inner)
    for i, tool in enumerate(tools if isinstance(tools, list) else [tools] if tools else []):
        yield f"tool {i + 1}", tool if isinstance(tool, str) else _json(tool)
    if system:
        yield "system", _said(system)
    if isinstance(messages, list):
        turn = 0
        for one in messages:
            role = str(one.get("role", "")) if isinstance(one, dict) else ""
            if role in ("system", "developer"):
                yield "system", _said(one)
            else:
                turn += 1
                yield f"message {turn} ({role or 'user'})", _said(one)
    elif messages:
        yield "prompt", _said(messages)


def _said(value: Any) -> str:
    """The words of a message: texts of its parts, other content as JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "\n".join(_said(one) for one in value)
    if isinstance(value, dict):
        said = [_said(value[name]) for name in _CONTENT if value.get(name) not in (None, "")]
        calls = value.get("tool_calls")
        if calls:
            said.append(_json(calls))
        return "\n".join(said) if said else _json(value)
    return "" if value is None else str(value)


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
