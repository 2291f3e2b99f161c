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
    """The catalog's id of an accelerator called ``name``: an id, an alias, or a machine of a cloud that holds
    it (``p5.48xlarge``), case ignored.

    Names that differ only in their maker, in how they are joined or in marks between words are found as long
    as one is nearest (``NVIDIA A100 SXM 80GB``, ``h100 80gb hbm3``); a count is passed over (``8xH100``). A
    word that makes it another part (a MIG slice, Laptop, Ti, Super) has to be in the entry's own name.
    :func:`others_of` names the parts that a short name might mean too.

    Raises:
        UnknownFact: no entry has the name, or several have it alike.
    """
    _, name = counted(name)
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
            if model and known[:1] == model and not _others(rest - set(known[1:])):
                score = (len(rest & set(known[1:])), -len(set(known[1:]) - rest))
                near[gpu_id] = max(near.get(gpu_id, score), score)
    nearest = [gpu_id for gpu_id, score in near.items() if score == max(near.values())]
    machine = None if nearest else machine_of(catalog_at, name)
    if machine is not None:
        return machine[0]
    if len(nearest) > 1:
        raise UnknownFact(f"accelerator {name!r} is one of {', '.join(nearest)}", fix="Type one of them")
    if nearest:
        return nearest[0]
    raise UnknownFact(f"no accelerator {name!r}", fix="Type 'isocost catalog list gpu'")


def machine_of(catalog_at: CatalogAt, name: str) -> tuple[str, int] | None:
    """The accelerator that a machine of a cloud holds, and how many; ``None`` where none has that name."""
    wanted = name.strip().lower()
    for fact in catalog_at.each("gpu/", "instances"):
        for one in str(fact.value).split("|"):
            machine, _, count = one.partition("=")
            if machine.lower() == wanted:
                return fact.subject.removeprefix("gpu/"), int(count)
    return None


def others_of(catalog_at: CatalogAt, name: str) -> tuple[str, ...]:
    """Parts of the same model that a name without any detail might mean too: ``A100`` is one of three."""
    _, name = counted(name)
    said = _words(name)
    if len(said) != 1 or catalog_at.find(f"gpu/{name.lower()}", "memory_bytes") is not None:
        return ()
    meant = gpu_id_of(catalog_at, name)
    ids = (fact.subject.removeprefix("gpu/") for fact in catalog_at.each("gpu/", "memory_bytes"))
    return tuple(sorted(one for one in ids if one != meant and _words(one)[:1] == said))


def counted(name: str) -> tuple[int | None, str]:
    """How many accelerators a name says, if it does, and their name.

    >>> counted("8xH100"), counted("4 x A100-40"), counted("H200 x8"), counted("MI300X")
    ((8, 'H100'), (4, 'A100-40'), (8, 'H200'), (None, 'MI300X'))
    """
    stripped = name.strip()
    found = _COUNT_FIRST.fullmatch(stripped)
    if found is not None:
        return int(found[1]), found[2]
    found = _COUNT_LAST.fullmatch(stripped)
    return (int(found[2]), found[1]) if found is not None else (None, stripped)


_COUNT_FIRST = re.compile(r"(\d+)\s*[x×*]\s*([a-z].*)", re.IGNORECASE)
_COUNT_LAST = re.compile(r"(.*\S)\s+[x×*]\s*(\d+)", re.IGNORECASE)
_OTHER = re.compile(
    r"mig|\d+[gc]\.\d+gb\S*|laptop|mobile|notebook|max|q|maxq|mq|ti|super|d|dd|v|vgpu|lite|slice"
)
"""Words that make a name that of another part: a slice, or a part with other units and clocks."""


def _others(words: set[str]) -> bool:
    """Whether some of the words, which no entry explains, make it another part.

    >>> _others({"laptop"}), _others({"1g.10gb"}), _others({"hbm", "80"})
    (True, True, False)
    """
    return any(_OTHER.fullmatch(one) for one in words)


_MAKERS = frozenset(
    {"nvidia", "amd", "intel", "google", "cloud", "aws", "habana", "tesla", "geforce", "instinct", "gpu"}
    | {"data", "center", "tensor", "core", "accelerator", "edition", "workstation", "server", "blackwell"}
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
