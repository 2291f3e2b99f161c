"""Models that the catalog lacks: shapes from the sizes that a name states, after the nearest known model."""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np

from isocost.catalog import CatalogAt
from isocost.perf.arch import Arch, Floats

PER_LAYER = frozenset({"layers", "moe_layers", "products", "joint_norm_layers"})
BY_WIDTH = frozenset({"hidden_size", "head_params", "embedding_params"})
SIZED = frozenset({"attention_params", "dense_params", "expert_params"})
PER_TOKEN = frozenset(
    {"cache_elements", "cache_flop", "prefill_flop", "window_elements", "window_flop", "index_elements"}
    | {"index_flop", "state_elements", "far_elements", "far_flop"}
)


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
