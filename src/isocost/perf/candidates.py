"""Every way to lay a model out over accelerators that fits the memory, as one block of arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from isocost.catalog import CatalogAt
from isocost.errors import DoesNotFit
from isocost.perf.arch import Arch, Floats, arch_of
from isocost.perf.arch import take as take_arch
from isocost.perf.constants import Constants, constants_for, constants_of, stack_of
from isocost.perf.constants import take as take_constants
from isocost.perf.hardware import Gpu, gpu_of
from isocost.perf.hardware import take as take_gpu
from isocost.perf.memory import fits
from isocost.perf.setup import Precision, Setup, precision_of, setup_of
from isocost.perf.setup import take as take_setup
from isocost.perf.steady import closed_form, goodput, relaid
from isocost.perf.terms import StepTerms, step_terms

COUNTS = (1, 2, 4, 8)
PRECISIONS = ("native", "fp8")
RELAYS = 2


class Candidates(NamedTuple):
    """``n`` replicas that could serve: arrays of shape ``(n,)`` and the names that index them.

    ``model``, ``gpu_type`` and ``precision`` index ``model_ids``, ``gpu_ids`` and ``precisions``.
    ``is_native`` is true where no weight is stored narrower than it was published; elsewhere the
    model is another one, whose quality has to be shown.
    """

    model_ids: tuple[str, ...]
    gpu_ids: tuple[str, ...]
    precisions: tuple[Precision, ...]
    model: NDArray[np.intp]
    gpu_type: NDArray[np.intp]
    precision: NDArray[np.intp]
    is_native: NDArray[np.bool_]
    arch: Arch
    gpu: Gpu
    setup: Setup
    constants: Constants

    @property
    def size(self) -> int:
        """How many there are."""
        return len(self.model)

    @property
    def gpus(self) -> Floats:
        """Accelerators of each, ``(n,)``."""
        return self.setup.gpus

    def name(self, i: int) -> str:
        """Candidate ``i`` in words: ``llama-3.3-70b on 4 x h100-sxm in fp8``."""
        precision = self.precisions[self.precision[i]]
        dtype = (
            precision.dense
            if precision.dense == precision.experts
            else f"{precision.dense}+{precision.experts}"
        )
        spread = ", attention copied" if self.setup.dp[i] > 1 else ""
        count = int(self.gpus[i])
        model_id, gpu_id = self.model_ids[self.model[i]], self.gpu_ids[self.gpu_type[i]]
        return f"{model_id} on {count} x {gpu_id} in {dtype}{spread}"

    def select(self, index: NDArray[np.intp]) -> Candidates:
        """The candidates at ``index``, which may repeat."""
        return self._replace(
            model=self.model[index],
            gpu_type=self.gpu_type[index],
            precision=self.precision[index],
            is_native=self.is_native[index],
            arch=take_arch(self.arch, index),
            gpu=take_gpu(self.gpu, index),
            setup=take_setup(self.setup, index),
            constants=take_constants(self.constants, index),
        )

    def terms(self, isl: ArrayLike, osl: ArrayLike, batch: ArrayLike | None = None) -> StepTerms:
        """Step terms of all candidates in one call (see :func:`~isocost.perf.terms.step_terms`)."""
        return step_terms(self.arch, self.gpu, self.setup, self.constants, isl, osl, batch)

    def goodput(
        self, isl: ArrayLike, osl: ArrayLike, ttft_limit_s: ArrayLike, tpot_limit_s: ArrayLike
    ) -> tuple[Floats, StepTerms]:
        """Requests a second that each replica carries within both limits, and the terms laid at that load."""
        terms = self.terms(isl, osl)
        rate = goodput(terms, isl, osl, ttft_limit_s, tpot_limit_s)
        for _ in range(RELAYS):
            running = closed_form(terms, isl, osl, rate).running
            running = np.where(np.isfinite(running), running, terms.batch_high)
            terms = relaid(self.arch, self.gpu, self.setup, self.constants, isl, osl, running)
            rate = goodput(terms, isl, osl, ttft_limit_s, tpot_limit_s)
        return rate, terms


def candidates(
    catalog_at: CatalogAt,
    model_ids: str | Sequence[str],
    gpus: Sequence[str] | None = None,
    *,
    max_gpus: int = 8,
    context_tok: float = 8192.0,
    engine: str = "vllm",
) -> Candidates:
    """Accelerator x count (1, 2, 4, 8) x precision x layout, where weights and one request fit.

    Precisions are the published one, and fp8 where that is narrower and the accelerator multiplies
    it. Layouts are tensor parallelism over all accelerators; mixtures with latent attention may
    also copy attention and spread experts. ``gpus`` defaults to every accelerator of the catalog;
    replicas stay inside one fast-link domain and divide the model's heads. ``engine`` (vllm, sglang,
    trtllm) says whose fixed times apply.

    Raises:
        UnknownFact: a model, an accelerator or one of its figures is not in the catalog.
        DoesNotFit: nothing fits; names the largest memory tried.
    """
    names = (model_ids,) if isinstance(model_ids, str) else tuple(model_ids)
    kinds = tuple(gpus) if gpus is not None else _every_gpu(catalog_at)
    archs, devices = arch_of(catalog_at, names), gpu_of(catalog_at, kinds)
    heads = np.array([catalog_at.number(f"model/{name}", "attention_heads") for name in names])
    table: list[Precision] = []
    chosen = np.zeros((len(names), len(PRECISIONS)), dtype=np.intp)
    for i, model_id in enumerate(names):
        for j, precision in enumerate(PRECISIONS):
            found = precision_of(catalog_at, model_id, precision)
            if found not in table:
                table.append(found)
            chosen[i, j] = table.index(found)
    counts = np.array([count for count in COUNTS if count <= max_gpus])
    model, kind, count, level, spread = (
        axis.ravel()
        for axis in np.meshgrid(
            np.arange(len(names)),
            np.arange(len(kinds)),
            counts,
            np.arange(len(PRECISIONS)),
            [0, 1],
            indexing="ij",
        )
    )
    can_spread = (archs.cache_heads == 1) & (archs.experts > 0)
    narrower = chosen[model, level] != chosen[model, 0]
    keep = (
        ((level == 0) | (narrower & (devices.fp8_native[kind] > 0)))
        & (count <= devices.link_gpus[kind])
        & np.where(spread == 1, can_spread[model] & (count > 1), heads[model] % count == 0)
    )
    model, kind, count, level, spread = (axis[keep] for axis in (model, kind, count, level, spread))
    arch, gpu = take_arch(archs, model), take_gpu(devices, kind)
    precision = chosen[model, level]
    setup = setup_of(
        catalog_at,
        gpu,
        [table[i] for i in precision],
        tp=np.where(spread == 1, 1, count),
        dp=np.where(spread == 1, count, 1),
        ep=np.where(spread == 1, count, 1),
    )
    plain = constants_of(catalog_at, engine)
    some = np.flatnonzero(fits(arch, gpu, setup, plain, context_tok))
    every = Candidates(
        names, kinds, tuple(table), model, kind, precision, level == 0, arch, gpu, setup, plain
    )
    able = every.select(some)
    if able.size:
        where = [kinds[i] for i in able.gpu_type]
        formats = [table[i] for i in able.precision]
        stack = stack_of(catalog_at, engine)
        k = constants_for(catalog_at, where, formats, able.arch, able.setup, stack)
        able = able._replace(constants=k)
    else:
        most = float((gpu.memory_bytes * count).max()) if len(count) else 0.0
        raise DoesNotFit(
            f"weights and {context_tok:,.0f} tokens of cache exceed {most / 1e9:,.0f} GB",
            where=", ".join(names),
            fix="Allow more accelerators, larger ones, or a shorter context",
        )
    return able


def _every_gpu(catalog_at: CatalogAt) -> tuple[str, ...]:
    return tuple(fact.subject.removeprefix("gpu/") for fact in catalog_at.each("gpu/", "memory_bytes"))
