"""How a model is laid out over accelerators: parallelism and the precision of weights and cache."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from isocost.catalog import CatalogAt
from isocost.errors import BadInput
from isocost.perf.arch import Floats
from isocost.perf.hardware import Gpu


class Setup(NamedTuple):
    """``n`` layouts of one replica; every field is float64 of shape ``(n,)``.

    ``tp`` shards every layer, ``dp`` copies attention and spreads experts, ``pp`` cuts the layers
    into stages; a replica holds ``tp * dp * pp`` accelerators. ``ep`` is by how many whole experts are
    spread; the rest of ``tp * dp`` cuts each of them. ``*_bytes`` are bytes of one stored
    element, scales included; ``wide_bytes`` is that of the output head, activations and the state
    of linear attention. ``*_flop_per_s`` is the peak at which the weights are multiplied.
    """

    tp: Floats
    pp: Floats
    dp: Floats
    dense_bytes: Floats
    expert_bytes: Floats
    cache_bytes: Floats
    wide_bytes: Floats
    dense_flop_per_s: Floats
    expert_flop_per_s: Floats
    wide_flop_per_s: Floats
    ep: Floats

    @property
    def gpus(self) -> Floats:
        """Accelerators of one replica, ``(n,)``."""
        return self.tp * self.dp * self.pp


class Precision(NamedTuple):
    """Names of the formats of dense weights, routed experts and cache (rows ``dtype/...``)."""

    dense: str
    experts: str
    cache: str


def native_precision(catalog_at: CatalogAt, model_id: str) -> Precision:
    """The formats in which a model is published, with a cache in bf16.

    Raises:
        UnknownFact: the model or its precision is not in the catalog.
    """
    dense = catalog_at.text(f"model/{model_id}", "weight_dtype")
    experts = catalog_at.find(f"model/{model_id}", "expert_dtype")
    return Precision(dense, str(experts.value) if experts else dense, "bf16")


def precision_of(catalog_at: CatalogAt, model_id: str, name: str) -> Precision:
    """The formats that ``name`` (native, bf16, fp8, fp4) means for a model.

    Weights are never wider than published. ``fp4`` narrows the routed experts of a mixture and all
    weights of a dense model, which is what published four-bit checkpoints do; ``fp8`` and ``fp4``
    leave the cache in bf16, because that is an engine's own switch.

    Raises:
        BadInput: the name is none of these.
        UnknownFact: the model or its precision is not in the catalog.
    """
    native = native_precision(catalog_at, model_id)
    if name == "native":
        return native
    if name not in ("bf16", "fp8", "fp4"):
        raise BadInput(f"precision {name!r}", fix="Use native, bf16, fp8 or fp4")
    is_mixture = catalog_at.find(f"model/{model_id}", "experts") is not None

    def narrower(wanted: str, published: str) -> str:
        width = {
            kind: catalog_at.number(f"dtype/{kind}", "bytes_per_element") for kind in (wanted, published)
        }
        return wanted if width[wanted] < width[published] else published

    dense = narrower("bf16" if name == "fp4" and is_mixture else name, native.dense)
    return Precision(dense, narrower(name, native.experts), "bf16")


def setup_of(
    catalog_at: CatalogAt,
    gpu: Gpu,
    precisions: Sequence[Precision],
    *,
    tp: ArrayLike,
    pp: ArrayLike = 1,
    dp: ArrayLike = 1,
    ep: ArrayLike = 1,
) -> Setup:
    """Layouts of shape ``(n,)``: ``gpu`` and ``precisions`` have ``n`` entries, the rest broadcast.

    Raises:
        UnknownFact: a format is not in the catalog.
    """
    size = len(gpu.memory_bytes)
    if len(precisions) != size:
        raise BadInput(f"{len(precisions)} precisions for {size} accelerators", where="setup_of")
    names = sorted({kind for precision in precisions for kind in precision} | {"bf16"})
    code = {name: i for i, name in enumerate(names)}
    width = np.array([catalog_at.number(f"dtype/{name}", "bytes_per_element") for name in names])
    rates = {"bf16": gpu.bf16_flop_per_s, "fp8": gpu.fp8_flop_per_s, "fp4": gpu.fp4_flop_per_s}
    rate = np.stack([rates[catalog_at.text(f"dtype/{name}", "computes_as")] for name in names])
    index = np.array([[code[kind] for kind in precision] for precision in precisions]).reshape(-1, 3).T
    each = np.arange(size)
    ones = np.ones(size)
    return Setup(
        _whole(tp, size),
        _whole(pp, size),
        _whole(dp, size),
        width[index[0]],
        width[index[1]],
        width[index[2]],
        ones * width[code["bf16"]],
        rate[index[0], each],
        rate[index[1], each],
        gpu.bf16_flop_per_s * ones,
        _whole(ep, size),
    )


def take(setup: Setup, index: NDArray[np.intp]) -> Setup:
    """The entries at ``index``, which may repeat."""
    return Setup(*(field[index] for field in setup))


def _whole(value: ArrayLike, size: int) -> Floats:
    array = np.broadcast_to(np.asarray(value, dtype=np.float64), (size,)).copy()
    if (array < 1).any():
        raise BadInput("parallelism below 1", where="setup_of")
    return array
