"""A policy as LiteLLM's router configuration: what that can express is written, what it cannot is listed.

LiteLLM's configuration (docs.litellm.ai/docs/router/api_reference/configuration, /docs/proxy/reliability,
/docs/proxy/caching): ``model_list`` entries of one ``model_name`` share requests by ``weight`` under
``simple-shuffle``; ``router_settings`` holds ``fallbacks``, ``num_retries``, ``retry_after`` and
``model_group_alias``; a cache of whole answers is in ``litellm_settings``; ``max_budget`` and
``budget_duration`` stop a deployment. Nothing there reads an answer. Its semantic caches are ``cache_params``
of ``type`` ``redis-semantic`` or ``qdrant-semantic`` with one ``similarity_threshold`` for embeddings of
whole prompts (``redis_semantic_cache_embedding_model``): in the place of the exact cache, for all models and
keys, without a verifier. A certificate of another cache is not true of them, so none is switched on.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence
from typing import Any, NamedTuple

from isocost.policy.rules import STRONG, ByTask, Cascade, Fixed, Router, Rule, Split


class Exported(NamedTuple):
    """A YAML document, and what of the policy is not in it."""

    text: str
    left_out: tuple[str, ...]


def litellm(rules: Sequence[Rule], ttl_s: float | None = None) -> Exported:
    """Rules as ``config.yaml``. A workload becomes a model group of its name, which its callers ask for;
    ``ttl_s`` is the life of an answer in the exact cache (``None``: LiteLLM's own).

    What cannot be expressed is replaced by what is safe: a cascade by its last deployment, a router by its
    strong one.
    """
    groups: list[dict[str, Any]] = []
    fallbacks: list[dict[str, list[str]]] = []
    left: list[str] = []
    retries, pause = 0, 0.0
    cached = False
    for rule in rules:
        name = "default" if rule.workload == STRONG else rule.workload
        left += _left_out(rule, name)
        shares = _shares(rule)
        for deployment, weight in shares:
            groups.append(_entry(name, deployment, weight, rule))
        if rule.recover is not None:
            retries, pause = max(retries, rule.recover.retries), max(pause, rule.recover.pause_s)
            if rule.recover.fallback:
                fallbacks.append({name: list(rule.recover.fallback)})
                groups += [_entry(one, one, None, rule) for one in rule.recover.fallback]
        if isinstance(rule.choose, ByTask):
            for task, deployment in rule.choose.tasks.items():
                if task != STRONG:
                    groups.append(_entry(f"{name}-{task}", deployment, None, rule))
        cached = cached or bool(rule.cache)
    unique = [one for i, one in enumerate(groups) if one not in groups[:i]]
    doc: dict[str, Any] = {
        "model_list": unique,
        "router_settings": {
            "routing_strategy": "simple-shuffle",
            "num_retries": retries,
            **({"retry_after": pause} if pause else {}),
            **({"fallbacks": fallbacks} if fallbacks else {}),
        },
    }
    if cached:
        life = {} if ttl_s is None else {"ttl": round(ttl_s)}
        doc["litellm_settings"] = {"cache": True, "cache_params": {"type": "local", **life}}
        left.append(
            "the exact cache is shared by all models of the proxy: its key is LiteLLM's, not this policy's"
        )
    bare = list(dict.fromkeys(m for one in unique if "/" not in (m := str(one["litellm_params"]["model"]))))
    if bare:
        left.append(
            f"how LiteLLM names {', '.join(bare)}: write each model as provider/name, with its api_key"
        )
    head = "# Written by isocost policy export. Not expressed here:\n" + "".join(
        textwrap.fill(one, 100, initial_indent="#   ", subsequent_indent="#     ") + "\n" for one in left
    )
    return Exported((head if left else "# Written by isocost policy export.\n") + yaml(doc), tuple(left))


def _shares(rule: Rule) -> list[tuple[str, float | None]]:
    choice = rule.choose
    match choice:
        case Fixed():
            return [(choice.deployment, None)]
        case Split():
            mean = [(share.deployment, sum(share.at(h) for h in range(168)) / 168) for share in choice.shares]
            return [(deployment, round(weight, 6)) for deployment, weight in mean if weight > 0]
        case ByTask():
            return [(choice.tasks[STRONG], None)]
        case Router():
            return [(choice.strong, None)]
        case Cascade():
            return [(choice.ask[-1], None)]


def _left_out(rule: Rule, name: str) -> list[str]:
    choice, out = rule.choose, []
    match choice:
        case Cascade():
            asked = " > ".join(choice.ask)
            out.append(
                f"{name}: the cascade {asked} needs answers to be compared; {choice.ask[-1]} alone is written"
            )
        case Router():
            out.append(f"{name}: the score of a question; {choice.strong} alone is written")
        case ByTask():
            out.append(f"{name}: which task a request is of; its caller must ask for {name}-TASK")
        case Split() if any(len(share.frac) > 1 for share in choice.shares):
            out.append(f"{name}: shares by hour of the week; their means are written")
        case _:
            pass
    parts = {
        "guards and budgets by tenant (set them on LiteLLM's keys)": rule.guard,
        "rules or a classifier that answer first": rule.first,
        "sessions that stay where their prefix is cached": rule.sticky,
        "requests that wait for a batch price": rule.defer,
        "hedging": rule.hedge,
    }
    out += [f"{name}: {what}" for what, part in parts.items() if part is not None]
    if rule.semantic is not None:
        out.append(
            f"{name}: the semantic cache. LiteLLM's (cache_params: type redis-semantic, "
            "similarity_threshold, redis_semantic_cache_embedding_model) compares whole prompts by one "
            "threshold for all models and keys, in the place of the exact cache, without this one's verifier "
            "and scopes: what was certified here is not true of it, so it stays off"
        )
    if rule.shape is not None and rule.shape.trim_input_tok is not None:
        out.append(f"{name}: trimming of the input")
    if rule.model != STRONG:
        out.append(f"{name}: only requests of {rule.model}; all requests of the group are routed")
    return out


def _entry(group: str, deployment: str, weight: float | None, rule: Rule) -> dict[str, Any]:
    params: dict[str, Any] = {"model": deployment}
    if weight is not None:
        params["weight"] = weight
    if rule.shape is not None and rule.shape.cap_output_tok is not None:
        params["max_tokens"] = rule.shape.cap_output_tok
    return {"model_name": group, "litellm_params": params}


def yaml(value: Any, indent: int = 0) -> str:
    """Plain data as YAML; texts are quoted as JSON, which YAML reads alike.

    >>> print(yaml({"a": [{"b": 1, "c": "x"}], "d": {"e": True}, "f": ["g"]}), end="")
    a:
      - b: 1
        c: "x"
    d:
      e: true
    f:
      - "g"
    """
    pad = " " * indent
    out = ""
    for key, item in value.items():
        if isinstance(item, dict):
            out += f"{pad}{key}:\n{yaml(item, indent + 2)}"
        elif isinstance(item, list) and item:
            out += f"{pad}{key}:\n"
            for one in item:
                if isinstance(one, dict):
                    body = yaml(one, indent + 4)
                    out += f"{pad}  - {body.lstrip()}"
                else:
                    out += f"{pad}  - {json.dumps(one)}\n"
        else:
            name = key if str(key).replace("_", "").replace("-", "").isalnum() else json.dumps(key)
            out += f"{pad}{name}: {json.dumps(item)}\n"
    return out
