"""A policy in other gateways' configurations: what these can express is written, what they cannot is listed.

LiteLLM (docs.litellm.ai/docs/router/api_reference/configuration, /docs/proxy/reliability,
/docs/proxy/caching; tests/test_litellm.py runs it): ``model_list`` entries of one ``model_name`` share
requests by ``weight`` under ``simple-shuffle``; ``fallbacks`` name groups; retries of a group are its
``model_group_retry_policy``; ``session_affinity`` keeps a session where it was; a cache of whole answers is
in ``litellm_settings``. Nothing there reads an answer. Its semantic caches are ``cache_params`` of ``type``
``redis-semantic`` or ``qdrant-semantic`` with one ``similarity_threshold`` for embeddings of whole prompts:
in the place of the exact cache, for all models and keys, without a verifier. A certificate of another cache
is not true of them, so none is switched on.

Portkey (Portkey-AI/gateway, src/middlewares/requestValidator/schema/config.ts): targets under a strategy
``loadbalance``, ``fallback`` or ``conditional``, nested; each target with its own ``retry``.

OpenRouter (openrouter.ai/docs/guides/routing: model-fallbacks, provider-selection): fields of a request's
body. ``models`` are tried in turn ("If the first model returns an error, OpenRouter will automatically try
the next model in the list"), ``provider`` names who may serve them, in one ``order`` for all. It has no
shares, tasks or rules.
"""

from __future__ import annotations

import json
import re
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any, NamedTuple

from isocost.policy.rules import STRONG, ByTask, Cascade, Fixed, Router, Rule, Split

LITELLM_HOSTS: Mapping[str, str] = {
    "aws": "bedrock", "fireworks": "fireworks_ai", "google": "gemini", "meta": "meta_llama",
    "moonshotai": "moonshot", "together": "together_ai", "voyageai": "voyage", "x-ai": "xai",
    **{name: name for name in (
        "anthropic", "azure", "baseten", "cerebras", "cloudflare", "cohere", "databricks", "deepinfra",
        "deepseek", "groq", "hyperbolic", "minimax", "mistral", "nebius", "novita", "nscale", "openai",
        "openrouter", "ovhcloud", "perplexity", "publicai", "sambanova", "zai",
    )},
}  # fmt: skip
"""Hosts of the catalog as LiteLLM's providers (``litellm.LlmProviders``)."""
PORTKEY_HOSTS: Mapping[str, str] = {
    "aws": "bedrock", "azure": "azure-openai", "fireworks": "fireworks-ai", "mistral": "mistral-ai",
    "moonshotai": "moonshot", "perplexity": "perplexity-ai", "together": "together-ai",
    "cloudflare": "workers-ai", "novita": "novita-ai",
    **{name: name for name in ("anthropic", "cerebras", "cohere", "deepinfra", "deepseek", "google", "groq",
                               "hyperbolic", "nebius", "openai", "openrouter", "sambanova", "x-ai")},
}  # fmt: skip
"""Hosts of the catalog as Portkey's providers (src/globals.ts)."""
OPENROUTER_HOSTS: Mapping[str, str] = {
    "aws": "amazon-bedrock", "google": "google-ai-studio",
    **{name: name for name in (
        "anthropic", "azure", "baseten", "cerebras", "cloudflare", "cohere", "deepinfra", "deepseek",
        "fireworks", "groq", "minimax", "mistral", "moonshotai", "nebius", "novita", "openai", "perplexity",
        "sambanova", "together",
    )},
}  # fmt: skip
"""Hosts of the catalog as OpenRouter's provider slugs (openrouter.ai/docs/client-sdks: BYOKProviderSlug)."""
OWN = ("self", "pool")
"""What own replicas are called: their address is nobody's but the user's."""
RETRIED = (429, 500, 502, 503, 504)
"""Answers of a provider that count as failures of it."""


class Exported(NamedTuple):
    """A document, and what of the policy is not in it."""

    text: str
    left_out: tuple[str, ...]


class _Names(NamedTuple):
    """What a rule's callers ask for: its group, or that of a task; and the groups of its fallbacks.

    ``is_of_model``: the group is one of several of its workload, by the model that is asked for.
    """

    group: str
    tasks: Mapping[str, str]
    fallbacks: tuple[str, ...]
    is_of_model: bool


def _names(rules: Sequence[Rule], *, by_task: bool = True) -> tuple[list[_Names], list[str]]:
    """Names of the rules, of which no two are the same, and what is to be said of them; ``by_task``: tasks
    are asked for by a name each.

    A group bears its workload's name; of several rules of one workload that of the model as well. A name
    that another has already is numbered.
    """
    several = Counter(rule.workload for rule in rules)
    is_of_model = [rule.model != STRONG and several[rule.workload] > 1 for rule in rules]
    wanted = [
        ("default" if rule.workload == STRONG else rule.workload) + (f"-{rule.model}" if apart else "")
        for rule, apart in zip(rules, is_of_model, strict=True)
    ]
    taken: set[str] = set()
    said: list[str] = []

    def free(name: str, what: str = "") -> str:
        mine = next(one for k in count(1) if (one := name if k == 1 else f"{name}-{k}") not in taken)
        taken.add(mine)
        if mine != name and what:
            said.append(f"{mine}: {what}, since another has the name {name}")
        return mine

    groups: dict[int, str] = {}
    # A workload has its own name before a name that is made up here.
    for i in sorted(range(len(rules)), key=lambda i: wanted[i] != rules[i].workload):
        of = (
            f"workload {rules[i].workload}"
            if rules[i].workload != STRONG
            else "requests of no other workload"
        )
        groups[i] = free(wanted[i], f"{of} of {rules[i].model}" if is_of_model[i] else of)
    tasks = [
        {task: free(f"{groups[i]}-{task}", f"task {task} of {groups[i]}")
         for task in rule.choose.tasks if task != STRONG}
        if by_task and isinstance(rule.choose, ByTask) else {}
        for i, rule in enumerate(rules)
    ]  # fmt: skip
    spare = [
        tuple(free(f"{groups[i]}-fallback-{k + 1}") for k in range(len(rule.recover.fallback)))
        if rule.recover is not None
        else ()
        for i, rule in enumerate(rules)
    ]
    return [_Names(groups[i], tasks[i], spare[i], is_of_model[i]) for i in range(len(rules))], said


def litellm(rules: Sequence[Rule], ttl_s: float | None = None) -> Exported:
    """Rules as LiteLLM's ``config.yaml``. A workload becomes a model group of its name, which its callers ask
    for; ``ttl_s`` is the life of an answer in the exact cache (``None``: LiteLLM's own).

    What cannot be expressed is replaced by what is safe: a cascade by its last deployment, a router by its
    strong one.
    """
    groups: list[dict[str, Any]] = []
    fallbacks: list[dict[str, list[str]]] = []
    policies: dict[str, dict[str, int]] = {}
    names, left = _names(rules)
    pauses: list[float] = []
    affinity = checks = False
    for rule, mine in zip(rules, names, strict=True):
        name, spare = mine.group, mine.fallbacks
        left += _left_out(rule, mine) + _of_litellm(rule, name)
        entries = [(name, deployment, weight) for deployment, weight in _shares(rule)]
        if isinstance(rule.choose, ByTask):
            entries += [(asked, rule.choose.tasks[task], None) for task, asked in mine.tasks.items()]
        if rule.recover is not None:
            asked_for = list(dict.fromkeys(group for group, _, _ in entries))
            entries += [(group, one, None) for group, one in zip(spare, rule.recover.fallback, strict=True)]
            fallbacks += [{group: list(spare)} for group in asked_for if spare]
            if rule.recover.retries:
                policies |= {group: {"DefaultRetries": rule.recover.retries} for group in asked_for}
                pauses.append(rule.recover.pause_s)
        groups += [_entry(group, deployment, weight, rule) for group, deployment, weight in entries]
        affinity = affinity or (rule.sticky is not None and isinstance(rule.choose, Split))
        checks = checks or (rule.guard is not None and rule.guard.most_input_tok is not None)
    if len(set(pauses)) > 1:
        left.append(f"pauses of each workload before a retry: the longest ({max(pauses):g} s) holds for all")
    settings: dict[str, Any] = {
        "routing_strategy": "simple-shuffle",
        "num_retries": 0,
        # As in replay, a deployment that fails stays one of the group.
        "disable_cooldowns": True,
        **({"model_group_retry_policy": policies} if policies else {}),
        **({"retry_after": max(pauses)} if any(pauses) else {}),
        **({"fallbacks": fallbacks} if fallbacks else {}),
        **({"enable_pre_call_checks": True} if checks else {}),
        **({"optional_pre_call_checks": ["session_affinity"]} if affinity else {}),
    }
    doc: dict[str, Any] = {"model_list": groups, "router_settings": settings}
    if any(rule.cache for rule in rules):
        doc["litellm_settings"] = {"cache": True, "cache_params": _cache(ttl_s)}
        left += _shared_cache(rules, names)
    left += _unnamed(groups)
    return Exported(_head(left) + yaml(doc), tuple(left))


def _head(left: Sequence[str]) -> str:
    if not left:
        return "# Written by isocost policy export.\n"
    return "# Written by isocost policy export. Not expressed here:\n" + "".join(
        textwrap.fill(one, 100, initial_indent="#   ", subsequent_indent="#     ") + "\n" for one in left
    )


def _cache(ttl_s: float | None) -> dict[str, Any]:
    return {"type": "local", **({} if ttl_s is None else {"ttl": round(ttl_s)})}


def _shared_cache(rules: Sequence[Rule], names: Sequence[_Names]) -> list[str]:
    """In what LiteLLM's cache differs from a policy's."""
    out = ["tenants apart in the exact cache: LiteLLM's key knows a tenant only by user in its calls"]
    without = [one.group for rule, one in zip(rules, names, strict=True) if not rule.cache]
    if without:
        out.append(f"which workloads have the exact cache: {', '.join(without)} have it as well")
    return out


def _unnamed(groups: Sequence[Mapping[str, Any]]) -> list[str]:
    """Models of which LiteLLM's name or address is not known."""
    models = dict.fromkeys(str(one["litellm_params"]["model"]) for one in groups)
    bare = [
        model for model in models if model.partition("/")[0] not in (*LITELLM_HOSTS.values(), "hosted_vllm")
    ]
    own = {str(base).removeprefix("os.environ/"): one["litellm_params"]["model"] for one in groups
           if (base := one["litellm_params"].get("api_base"))}  # fmt: skip
    out = []
    if bare:
        out.append(
            f"how LiteLLM names {', '.join(bare)}: write each model as provider/name, with its api_key"
        )
    if own:
        told = ", ".join(f"{model} at ${base}" for base, model in own.items())
        out.append(f"where own replicas answer, and under which name: {told}")
    return out


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


def _left_out(rule: Rule, names: _Names) -> list[str]:
    """What no gateway of these does."""
    choice, name, out = rule.choose, names.group, list[str]()
    match choice:
        case Cascade():
            asked = " > ".join(choice.ask)
            out.append(
                f"{name}: the cascade {asked} needs answers to be compared; {choice.ask[-1]} alone is written"
            )
        case Router():
            out.append(f"{name}: the score of a question; {choice.strong} alone is written")
        case Split() if any(len(share.frac) > 1 for share in choice.shares):
            out.append(f"{name}: shares by hour of the week; their means are written")
        case _:
            pass
    parts = {
        "rules or a classifier that answer first": rule.first,
        "requests that wait for a batch price": rule.defer,
        "hedging": rule.hedge,
    }
    out += [f"{name}: {what}" for what, part in parts.items() if part is not None]
    if rule.shape is not None and rule.shape.trim_input_tok is not None:
        out.append(f"{name}: trimming of the input")
    if names.is_of_model:
        out.append(f"{name}: which model a request asks for; callers of {rule.model} must take {name}")
    elif rule.model != STRONG:
        out.append(f"{name}: only requests of {rule.model}; all requests of the group are routed")
    return out


def _of_litellm(rule: Rule, name: str) -> list[str]:
    """What LiteLLM does otherwise."""
    out = []
    if isinstance(rule.choose, ByTask):
        out.append(f"{name}: which task a request is of; its caller must ask for {name}-TASK")
    guard, sticky = rule.guard, rule.sticky
    if guard is not None and (guard.usd is not None or guard.budget):
        out.append(f"{name}: guards and budgets by tenant (set them on LiteLLM's keys)")
    if guard is not None and guard.most_output_tok is not None:
        out.append(f"{name}: refusing long answers")
    if sticky is not None and isinstance(rule.choose, Split):
        every = [share.deployment for share in rule.choose.shares]
        only = "" if set(every) <= set(sticky.among) else f", of all of {', '.join(every)}"
        out.append(f"{name}: sessions without a litellm_session_id; with one they stay{only}")
    if rule.shape is not None and rule.shape.cap_output_tok is not None:
        out.append(f"{name}: the cap where a caller sends max_tokens of its own: that goes before")
    if rule.recover is not None and rule.recover.retries and isinstance(rule.choose, Split):
        out.append(f"{name}: a retry at the same deployment; LiteLLM draws one of the group again")
    if rule.recover is not None and rule.recover.retries and rule.recover.pause_s:
        out.append(
            f"{name}: pauses of exactly {rule.recover.pause_s:g} s, doubling; LiteLLM's are longer at random"
        )
    if rule.semantic is not None:
        out.append(
            f"{name}: the semantic cache. LiteLLM's (cache_params: type redis-semantic, "
            "similarity_threshold, redis_semantic_cache_embedding_model) compares whole prompts by one "
            "threshold for all models and keys, in the place of the exact cache, without this one's verifier "
            "and scopes: what was certified here is not true of it, so it stays off"
        )
    return out


def _host(deployment: str) -> tuple[str, str]:
    """Host and model of a deployment: ``api/openai/gpt-4.1`` and ``openai/gpt-4.1`` are the same.

    >>> _host("api/aws/meta/llama"), _host("gpt-4.1")
    (('aws', 'meta/llama'), ('', 'gpt-4.1'))
    """
    house, slash, model = deployment.removeprefix("api/").partition("/")
    return (house, model) if slash else ("", house)


def _entry(group: str, deployment: str, weight: float | None, rule: Rule) -> dict[str, Any]:
    house, model = _host(deployment)
    params: dict[str, Any] = {"model": deployment}
    if house in LITELLM_HOSTS:
        params["model"] = f"{LITELLM_HOSTS[house]}/{model}"
    elif house in OWN:
        variable = re.sub(r"[^A-Z0-9]+", "_", deployment.upper())
        params = {"model": f"hosted_vllm/{model}", "api_base": f"os.environ/{variable}_API_BASE"}
    if weight is not None:
        params["weight"] = weight
    if rule.shape is not None and rule.shape.cap_output_tok is not None:
        params["max_tokens"] = rule.shape.cap_output_tok
    out: dict[str, Any] = {"model_name": group, "litellm_params": params}
    if rule.guard is not None and rule.guard.most_input_tok is not None:
        out["model_info"] = {"max_input_tokens": rule.guard.most_input_tok}
    return out


def portkey(rules: Sequence[Rule], ttl_s: float | None = None) -> Exported:
    """Rules as Portkey's configs, one for each workload, to be saved there or sent as
    ``x-portkey-config``; keys are left to Portkey's providers."""
    doc: dict[str, Any] = {}
    names, left = _names(rules, by_task=False)
    strange: dict[str, None] = {}
    for rule, mine in zip(rules, names, strict=True):
        name = mine.group
        left += _left_out(rule, mine) + _of_portkey(rule, name)
        retries = rule.recover.retries if rule.recover is not None else 0
        config = _chosen(rule, retries, strange)
        if rule.recover is not None and rule.recover.fallback:
            spare = [_target(one, rule, 0, strange) for one in rule.recover.fallback]
            config = {"strategy": {"mode": "fallback", "on_status_codes": list(RETRIED)},
                      "targets": [config, *spare]}  # fmt: skip
        if rule.cache:
            config["cache"] = {"mode": "simple", **({} if ttl_s is None else {"max_age": round(ttl_s)})}
        doc[name] = config
    if strange:
        left.append(f"how Portkey names {', '.join(strange)}: write its provider, or a custom_host")
    return Exported(json.dumps(doc, indent=2) + "\n", tuple(left))


def _chosen(rule: Rule, retries: int, strange: dict[str, None]) -> dict[str, Any]:
    choice = rule.choose
    if isinstance(choice, ByTask):
        named = {task: {"name": f"task-{k}", **_target(one, rule, retries, strange)}
                 for k, (task, one) in enumerate(choice.tasks.items())}  # fmt: skip
        conditions = [
            {"query": {"metadata.task": {"$eq": task}}, "then": target["name"]}
            for task, target in named.items()
            if task != STRONG
        ]
        strategy = {"mode": "conditional", "conditions": conditions, "default": named[STRONG]["name"]}
        return {"strategy": strategy, "targets": list(named.values())}
    shares = _shares(rule)
    targets = [
        {**_target(one, rule, retries, strange), **({} if weight is None else {"weight": weight})}
        for one, weight in shares
    ]
    return targets[0] if len(targets) == 1 else {"strategy": {"mode": "loadbalance"}, "targets": targets}


def _target(deployment: str, rule: Rule, retries: int, strange: dict[str, None]) -> dict[str, Any]:
    house, model = _host(deployment)
    if house not in PORTKEY_HOSTS:
        strange[deployment] = None
    override: dict[str, Any] = {"model": model}
    if rule.shape is not None and rule.shape.cap_output_tok is not None:
        override["max_tokens"] = rule.shape.cap_output_tok
    out: dict[str, Any] = {"provider": PORTKEY_HOSTS.get(house, house or "openai")}
    if retries:
        out["retry"] = {"attempts": retries, "on_status_codes": list(RETRIED)}
    return {**out, "override_params": override}


def _of_portkey(rule: Rule, name: str) -> list[str]:
    """What Portkey does otherwise."""
    out = []
    if isinstance(rule.choose, ByTask):
        out.append(f"{name}: which task a request is of; its caller must send it as metadata task")
    if rule.guard is not None:
        out.append(f"{name}: guards and budgets (set limits on Portkey's keys)")
    if rule.sticky is not None and isinstance(rule.choose, Split):
        out.append(f"{name}: sessions that stay where their prefix is cached")
    if rule.shape is not None and rule.shape.cap_output_tok is not None:
        out.append(f"{name}: a cap; max_tokens is set to it, also where a caller asks for less")
    if rule.recover is not None and rule.recover.retries and rule.recover.pause_s:
        out.append(f"{name}: pauses of {rule.recover.pause_s:g} s; Portkey's are its own")
    if rule.cache:
        out.append(f"{name}: the exact cache's key, which is Portkey's; it is not in the open gateway")
    if rule.semantic is not None:
        out.append(
            f"{name}: the semantic cache; Portkey's has no verifier and no certificate, so it stays off"
        )
    return out


def openrouter(rules: Sequence[Rule], ids: Mapping[str, str]) -> Exported:
    """Rules as fields of the bodies of requests to OpenRouter, by workload; ``ids`` are its names of models
    by deployment. Callers merge these fields into their requests."""
    doc: dict[str, Any] = {}
    names, left = _names(rules)
    strange: dict[str, None] = {}
    for rule, mine in zip(rules, names, strict=True):
        name, spare = mine.group, rule.recover.fallback if rule.recover is not None else ()
        left += [one for one in _left_out(rule, mine) if "means are written" not in one]
        left += _of_openrouter(rule, name)
        first = {name: max(_shares(rule), key=lambda pair: pair[1] or 0.0)[0]}
        if isinstance(rule.choose, ByTask):
            first |= {asked: rule.choose.tasks[task] for task, asked in mine.tasks.items()}
        for asked, deployment in first.items():
            chain = list(dict.fromkeys((deployment, *spare)))
            strange |= dict.fromkeys(one for one in chain if one not in ids)
            doc[asked] = _body(rule, chain, ids)
            if len(doc[asked].get("provider", {}).get("order", ())) > 1:
                left.append(f"{asked}: who serves each model; its order of providers holds for all of them")
    if strange:
        left.append(f"how OpenRouter names {', '.join(strange)}: write its id")
    return Exported(json.dumps(doc, indent=2) + "\n", tuple(left))


def _body(rule: Rule, chain: Sequence[str], ids: Mapping[str, str]) -> dict[str, Any]:
    models = list(dict.fromkeys(ids.get(one, one) for one in chain))
    body: dict[str, Any] = {"model": models[0]} if len(models) == 1 else {"models": models}
    houses = [_host(one)[0] for one in chain]
    if all(house in OPENROUTER_HOSTS for house in houses):
        order = list(dict.fromkeys(OPENROUTER_HOSTS[house] for house in houses))
        body["provider"] = {"order": order, "allow_fallbacks": False}
    if rule.shape is not None and rule.shape.cap_output_tok is not None:
        body["max_tokens"] = rule.shape.cap_output_tok
    return body


def _of_openrouter(rule: Rule, name: str) -> list[str]:
    """What OpenRouter does otherwise."""
    out = []
    choice = rule.choose
    if isinstance(choice, Split) and len(shares := _shares(rule)) > 1:
        most = max(shares, key=lambda pair: pair[1] or 0.0)[0]
        out.append(f"{name}: shares of {', '.join(one for one, _ in shares)}; {most} alone is written")
    if isinstance(choice, ByTask):
        out.append(f"{name}: which task a request is of; its caller must take the fields of {name}-TASK")
    parts = {
        "guards and budgets (set limits on OpenRouter's keys)": rule.guard is not None,
        "the exact cache": bool(rule.cache),
        "the semantic cache": rule.semantic is not None,
        "sessions that stay where their prefix is cached": rule.sticky is not None
        or (isinstance(choice, Split) and choice.by_session),
        "retries at the same model before a fallback": rule.recover is not None and rule.recover.retries > 0,
    }
    return out + [f"{name}: {what}" for what, there in parts.items() if there]


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
