"""Models that the catalog lacks: shapes from the sizes that a name states, after the nearest known model."""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np

from isocost.catalog import CatalogAt
from isocost.perf.arch import Arch, Floats, known_names, stem_of

PER_LAYER = frozenset({"layers", "moe_layers", "products", "joint_norm_layers"})
BY_WIDTH = frozenset({"hidden_size", "head_params", "embedding_params"})
SIZED = frozenset({"attention_params", "dense_params", "expert_params"})
PER_TOKEN = frozenset(
    {"cache_elements", "cache_flop", "prefill_flop", "window_elements", "window_flop", "index_elements"}
    | {"index_flop", "state_elements", "far_elements", "far_flop"}
)


WORD = re.compile(r"\d+(?:\.\d+)*|[a-z]+")
"""A part of a name: a number or letters."""
FEWEST_PARTS = 3
SAME_SIZE_FRAC = 0.1
OTHER_SIZE = re.compile(
    r"(?<![a-z])(mini|small|medium|large|tiny|nano|micro|lite|light|air|flash|plus|pro|max|ultra|super|edge|vl"
    r"|draft|eagle|speculator|mtp|embedding|reranker|reward|vision|omni|audio|pruned|minitron)(?![a-z])"
)
"""Words beside a model's name that make it another model."""


class Size(NamedTuple):
    """Parameters that a name states: all of them, and those that a token passes through."""

    total: float
    active: float


class Like(NamedTuple):
    """A known model that stands for an unknown one, and how many times its parameters the other has;
    ``is_known`` where it is the very model."""

    model_id: str
    ratio: float
    is_known: bool = False


def size_of_name(name: str) -> Size | None:
    """The sizes in a name, in parameters; ``None`` where it states none.

    >>> size_of_name("acme/Tern-30B-A3B-Instruct")
    Size(total=30000000000.0, active=3000000000.0)
    >>> size_of_name("Tern 8x7B").total
    56000000000.0
    >>> size_of_name("tern-large") is None
    True
    """
    spread = re.search(r"(?<![\d.])(\d+)\s*x\s*(\d+(?:\.\d+)?)\s*b(?![a-z])", name, re.IGNORECASE)
    active = re.search(r"(?<![a-z\d])a(\d+(?:\.\d+)?)\s*b(?![a-z])", name, re.IGNORECASE)
    whole = re.search(r"(?<![a-z\d.])(\d+(?:\.\d+)?)\s*([bm])(?![a-z])", name, re.IGNORECASE)
    if spread:
        total = float(spread[1]) * float(spread[2]) * 1e9
        # Two of the experts are the custom where a name says how many there are.
        return Size(total, min(2.0 * float(spread[2]) * 1e9, total))
    if whole is None:
        return None
    total = float(whole[1]) * (1e9 if whole[2].lower() == "b" else 1e6)
    return Size(total, float(active[1]) * 1e9 if active else total)


def model_within(catalog_at: CatalogAt, name: str) -> str | None:
    """The id of the known model that a name holds whole, or that it begins; ``None`` unless one id is meant.

    The longest known name counts. A size beside it must be the model's own, and no word beside it may say
    that the model is a smaller or larger one. What was distilled is not what its name begins with.
    """
    said = name.lower().rpartition("/")[2]
    if "distill" in said:
        return None
    words = list(WORD.finditer(said))
    parts = [word[0] for word in words]
    held: dict[int, set[tuple[str, str]]] = {}
    begun: set[str] = set()
    for known, model_id in known_names(catalog_at).items():
        stem = stem_of(known)
        spelled = WORD.findall(stem)
        if not re.search(r"[a-z]{2}", stem) or not re.search(r"\d", stem) or len(spelled) < FEWEST_PARTS:
            continue
        if spelled[: len(parts)] == parts and len(parts) >= FEWEST_PARTS:
            begun.add(model_id)
        for i in range(len(parts) - len(spelled) + 1):
            if parts[i : i + len(spelled)] == spelled:
                last = words[i + len(spelled) - 1].end()
                beside = f"{said[: words[i].start()]} {said[last:]}"
                held.setdefault(len(spelled), set()).add((model_id, beside))
    for _, found in sorted(held.items(), reverse=True):
        ids = {model_id for model_id, beside in found if _may_be(catalog_at, model_id, beside)}
        if ids:
            return ids.pop() if len(ids) == 1 else None
    return begun.pop() if len(begun) == 1 else None


def _may_be(catalog_at: CatalogAt, model_id: str, beside: str) -> bool:
    """Whether a model may be meant, by what its name stands beside."""
    size, whole = size_of_name(beside), catalog_at.find(f"model/{model_id}", "params_total")
    if whole is None or catalog_at.find(f"model/{model_id}", "layers") is None:
        return False
    if OTHER_SIZE.search(beside):
        return False
    return size is None or abs(size.total / float(whole.value) - 1.0) <= SAME_SIZE_FRAC


def like_name(catalog_at: CatalogAt, name: str) -> Like | None:
    """The known model nearest in size to what a name states; ``None`` where it states no size.

    A mixture is only like a mixture: a name that states active parameters, or experts, is one.
    """
    size = size_of_name(name)
    if size is None:
        return None
    best, least = None, np.inf
    for fact in catalog_at.each("model/", "params_active"):
        whole = catalog_at.find(fact.subject, "params_total")
        if whole is None or catalog_at.find(fact.subject, "layers") is None:
            continue
        is_mixture = catalog_at.find(fact.subject, "experts") is not None
        if is_mixture != (size.active < size.total):
            continue
        total, active = float(whole.value), float(fact.value)
        apart = abs(np.log(total / size.total)) + abs(np.log(active / size.active))
        if apart < least:
            best, least = Like(fact.subject.removeprefix("model/"), size.total / total), apart
    return best


def scaled(arch: Arch, ratio: Floats) -> Arch:
    """Shapes with ``ratio`` times the parameters, ``(n,)``: depth and width grow with its cube root each.

    >>> from isocost.perf.arch import Arch
    >>> one = Arch(*(np.ones(1) for _ in Arch._fields))
    >>> scaled(one, np.array([8.0])).layers, scaled(one, np.array([8.0])).dense_params
    (array([2.]), array([8.]))
    """
    edge = ratio ** (1.0 / 3.0)
    power = {
        **dict.fromkeys(PER_LAYER | BY_WIDTH, edge),
        **dict.fromkeys(PER_TOKEN, edge * edge),
        **dict.fromkeys(SIZED, ratio),
    }
    return Arch(
        *(
            value * power[field] if field in power else value
            for field, value in zip(Arch._fields, arch, strict=True)
        )
    )
