"""What makes two requests the same, and what keeps them apart.

An exact hit asks for the same bytes from the same model with the same settings for the same tenant. A
semantic hit may differ in the user's words only: it is looked for inside a *scope*, which holds everything
else. So an answer cannot cross tenants, system prompts, tools, models or settings: not by a check that
could be forgotten, but because there is nothing to find outside the scope.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

DIGEST_BYTES = 16


class Asked(msgspec.Struct, frozen=True):
    """A request as a cache sees it: ``messages`` after the system prompt, ``settings`` of sampling and
    form."""

    tenant: str
    model: str
    messages: Sequence[Mapping[str, Any]]
    system: str = ""
    tools: Sequence[Mapping[str, Any]] = ()
    settings: Mapping[str, Any] = {}


def scope_key(asked: Asked) -> bytes:
    """All of a request but what the user says last: requests of two scopes never share an answer.

    Earlier turns belong to the scope: the same words mean another thing in another conversation.
    """
    return _digest(
        "scope", asked.tenant, asked.model, asked.system, list(asked.tools), dict(asked.settings),
        list(asked.messages[:-1]), str(asked.messages[-1].get("role", "")) if asked.messages else "",
    )  # fmt: skip


def exact_key(asked: Asked) -> bytes:
    """The whole request: equal keys ask for the same answer.

    >>> a = Asked("t", "m", [{"role": "user", "content": "hi"}])
    >>> exact_key(a) == exact_key(msgspec.structs.replace(a, tenant="u"))
    False
    """
    return _digest("exact", scope_key(asked).hex(), list(asked.messages[-1:]))


def _digest(*parts: Any) -> bytes:
    """A digest of parts that no other parts have: canonical JSON keeps their borders."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=DIGEST_BYTES).digest()
