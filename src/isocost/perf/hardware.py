"""Accelerators as arrays: peak throughput by precision, memory, bandwidth and links."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from isocost.catalog import CatalogAt
from isocost.errors import UnknownFact
from isocost.perf.arch import Floats


class Gpu(NamedTuple):
    """``n`` accelerators; every field is float64 of shape ``(n,)``.

    ``fp8_flop_per_s`` and ``fp4_flop_per_s`` are those of the next wider precision where the
    accelerator lacks the format (weights are widened before the multiplication, so only bytes are
    saved); ``fp8_native`` and ``fp4_native`` are 1 where it has it. Bandwidths are in one
    direction.
    """

    bf16_flop_per_s: Floats
    fp8_flop_per_s: Floats
    fp4_flop_per_s: Floats
    fp8_native: Floats
    fp4_native: Floats
    memory_bytes: Floats
    memory_bytes_per_s: Floats
    link_bytes_per_s: Floats
    link_gpus: Floats


def gpu_id_of(catalog_at: CatalogAt, name: str) -> str:
    """The catalog's id of an accelerator called ``name``: an id or an alias, case ignored.

    Names that differ only in their maker, in how they are joined or in marks between words are found as long
    as one is nearest (``NVIDIA A100 SXM 80GB``, ``h100 80gb hbm3``).

    Raises:
        UnknownFact: no entry has the name.
    """
    wanted = name.lower()
    said = _words(name)
    model, rest = said[:1], set(said[1:])
    near: dict[str, tuple[int, int]] = {}
    for fact in catalog_at.each("gpu/", "aliases"):
        gpu_id = fact.subject.removeprefix("gpu/")
        aliases = str(fact.value).lower().split("|")
        if wanted == gpu_id or wanted in aliases:
            return gpu_id
        for one in (gpu_id, *aliases):
            known = _words(one)
            if model and known[:1] == model:
                score = (len(rest & set(known[1:])), -len(set(known[1:]) - rest))
                near[gpu_id] = max(near.get(gpu_id, score), score)
    if near:
        return max(near, key=near.__getitem__)
    raise UnknownFact(f"no accelerator {name!r}", fix="Type 'isocost catalog list gpu'")


_MAKERS = frozenset(
    {"nvidia", "amd", "intel", "google", "cloud", "aws", "habana", "tesla", "geforce", "instinct", "gpu"}
    | {"tensor", "core", "accelerator", "edition", "workstation", "server", "blackwell"}
)
"""Words of a name that say nothing of the part."""


def _words(name: str) -> list[str]:
    """The parts of an accelerator's name: its model first, then sizes and how it is joined.

    >>> _words("NVIDIA A100-SXM4-80GB"), _words("RTX PRO 6000 Blackwell"), _words("h100 80gb hbm3")
    (['a100', 'sxm', '80'], ['rtxpro6000'], ['h100', '80', 'hbm'])
    """
    parts = [part for part in re.split(r"[\s_\-/()]+", name.lower()) if part and part not in _MAKERS]
    # A size is written 80, 80G or 80GB; generations of a socket or a memory are no models.
    parts = [re.sub(r"^(\d+)gi?b?$", r"\1", re.sub(r"^(sxm|hbm|nvl)\d\w*$", r"\1", part)) for part in parts]
    lead = [""]
    while parts and not any(character.isdigit() for character in lead[0]):
        lead[0] += parts.pop(0)
    if parts and parts[0] == "ada":
        lead[0] += parts.pop(0)
    return [*lead, *parts] if lead[0] else []


def gpu_of(catalog_at: CatalogAt, gpu_ids: Sequence[str]) -> Gpu:
    """The accelerators, one entry per id (an id may repeat).

    Raises:
        UnknownFact: an accelerator or one of its figures is not in the catalog.
    """
    rows = {gpu_id: _row(catalog_at, gpu_id) for gpu_id in dict.fromkeys(gpu_ids)}
    table = np.array([rows[gpu_id] for gpu_id in gpu_ids], dtype=np.float64).reshape(-1, len(Gpu._fields))
    return Gpu(*np.ascontiguousarray(table.T))


def take(gpu: Gpu, index: NDArray[np.intp]) -> Gpu:
    """The entries at ``index``, which may repeat."""
    return Gpu(*(field[index] for field in gpu))


def joined(gpu: Gpu, gpus: Floats, network_bytes_per_s: float) -> Gpu:
    """Accelerators of which ``gpus`` work as one, ``(n,)``: a network joins groups beyond the fast link."""
    slow = np.minimum(gpu.link_bytes_per_s, network_bytes_per_s)
    return gpu._replace(link_bytes_per_s=np.where(gpus > gpu.link_gpus, slow, gpu.link_bytes_per_s))


def _row(catalog_at: CatalogAt, gpu_id: str) -> tuple[float, ...]:
    subject = f"gpu/{gpu_id}"
    wide = catalog_at.number(subject, "peak_flop_per_s", "dtype=bf16")
    fp8 = catalog_at.find(subject, "peak_flop_per_s", "dtype=fp8")
    fp4 = catalog_at.find(subject, "peak_flop_per_s", "dtype=fp4")
    fp8_rate = float(fp8.value) if fp8 else wide
    # Without units for fp4, weights of four bits are widened to bf16, not to fp8.
    fp4_rate = float(fp4.value) if fp4 else wide
    numbers = [
        catalog_at.number(subject, name)
        for name in ("memory_bytes", "memory_bytes_per_s", "link_bytes_per_s", "link_gpus")
    ]
    return (wide, fp8_rate, fp4_rate, float(fp8 is not None), float(fp4 is not None), *numbers)
