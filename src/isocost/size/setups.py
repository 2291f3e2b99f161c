"""Every way to lay a model out that may be asked for: accelerators, counts, layouts, formats, engines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from isocost.catalog import CatalogAt
from isocost.errors import BadInput, DoesNotFit
from isocost.perf import Constants, Gpu, Precision, Setup, StepTerms, constants_for, stack_of, step_terms
from isocost.perf.arch import Arch, arch_of
from isocost.perf.arch import take as take_arch
from isocost.perf.hardware import gpu_of
from isocost.perf.hardware import take as take_gpu
from isocost.perf.setup import precision_of, setup_of
from isocost.perf.setup import take as take_setup

ENGINES = ("vllm", "sglang", "trtllm")
COUNTS = (1, 2, 4, 8)
PRECISIONS = ("native", "fp8", "fp4")
CACHES = ("bf16", "fp8")
MOST_STAGES = 8


class Ask(NamedTuple):
    """What may be tried: ids of accelerators, counts a replica, engines, names of formats of weights and of
    the cache; ``pp`` deepest pipeline."""

    gpus: tuple[str, ...]
    counts: tuple[int, ...] = COUNTS
    engines: tuple[str, ...] = ("vllm",)
    precisions: tuple[str, ...] = ("native", "fp8")
    caches: tuple[str, ...] = ("bf16",)
    pp: int = 1


class Setups(NamedTuple):
    """``n`` replicas of one model, ``(n,)`` each; the names are what ``gpu_type`` and the like index."""

    gpu_ids: tuple[str, ...]
    engines: tuple[str, ...]
    precisions: tuple[Precision, ...]
    gpu_type: NDArray[np.intp]
    engine: NDArray[np.intp]
    precision: NDArray[np.intp]
    is_native: NDArray[np.bool_]
    arch: Arch
    gpu: Gpu
    setup: Setup
    constants: Constants

    @property
    def size(self) -> int:
        """How many there are."""
        return len(self.gpu_type)

    def select(self, index: NDArray[np.intp]) -> Setups:
        """The set-ups at ``index``, which may repeat."""
        from isocost.perf.constants import take as take_constants

        return self._replace(
            gpu_type=self.gpu_type[index],
            engine=self.engine[index],
            precision=self.precision[index],
            is_native=self.is_native[index],
            arch=take_arch(self.arch, index),
            gpu=take_gpu(self.gpu, index),
            setup=take_setup(self.setup, index),
            constants=take_constants(self.constants, index),
        )

    def terms(self, isl: ArrayLike, osl: ArrayLike, batch: ArrayLike | None = None) -> StepTerms:
        """Step terms of all set-ups in one call."""
        return step_terms(self.arch, self.gpu, self.setup, self.constants, isl, osl, batch)

    def name(self, i: int) -> str:
        """Set-up ``i`` in words: ``2 x h100-sxm, fp8``."""
        setup, precision = self.setup, self.precisions[self.precision[i]]
        count, gpu = int(setup.gpus[i]), self.gpu_ids[self.gpu_type[i]]
        weights = "+".join(dict.fromkeys((precision.dense, precision.experts)))
        ways = [f"tp{int(setup.tp[i])}"] if setup.dp[i] > 1 or setup.pp[i] > 1 else []
        ways += [f"dp{int(setup.dp[i])}"] if setup.dp[i] > 1 else []
        ways += [f"pp{int(setup.pp[i])}"] if setup.pp[i] > 1 else []
        cache = f", {precision.cache} cache" if precision.cache != "bf16" else ""
        return f"{count} x {gpu}, {weights}{cache}" + (f", {' '.join(ways)}" if ways else "")


def setups(catalog_at: CatalogAt, model: str, ask: Ask) -> Setups:
    """Accelerator x count x layout x formats x engine, where heads divide and formats are multiplied.

    Layouts of ``c`` accelerators: tensor parallel over all; for mixtures also copied attention over all with
    whole experts spread (``dp``), where the cache cannot be split; with ``pp`` above 1 also pipelines of
    2, 4 and 8 stages. A narrower format is tried where the accelerator multiplies it, or where it only saves
    bytes (four bits).

    Raises:
        UnknownFact: the model or an accelerator is not in the catalog.
        BadInput: an engine or a format that is not known.
        DoesNotFit: no layout divides the model.
    """
    for name, allowed, given in (("engine", ENGINES, ask.engines), ("KV format", CACHES, ask.caches)):
        wrong = [one for one in given if one not in allowed]
        if wrong:
            raise BadInput(f"no {name} {wrong[0]!r}", fix=f"Use {', '.join(allowed)}")
    arch, gpus = arch_of(catalog_at, [model]), gpu_of(catalog_at, ask.gpus)
    heads = catalog_at.number(f"model/{model}", "attention_heads")
    table: list[Precision] = []
    rows: list[tuple[int, int, int, int, int, bool]] = []
    native = precision_of(catalog_at, model, "native")
    spreads = bool(arch.experts[0] > 0)
    for cache in ask.caches:
        seen: list[Precision] = []
        for named in ask.precisions:
            found = precision_of(catalog_at, model, named)._replace(cache=cache)
            # The weights of a checkpoint that is quantised already are not quantised again in part.
            again = found.experts == native.experts and found.dense != native.dense
            if found in seen or (again and native.experts != native.dense):
                continue
            seen.append(found)
            table.append(found)
            is_native = (found.dense, found.experts) == (native.dense, native.experts)
            for g in range(len(ask.gpus)):
                if not is_native and not _multiplies(gpus, g, found):
                    continue
                for way in _layouts(ask, heads, arch, spreads, float(gpus.link_gpus[g])):
                    rows.append((g, len(table) - 1, *way, is_native))
    if not rows:
        raise _no_layout(model, ask, heads, gpus)
    n, m = len(rows), len(ask.engines)
    engine = np.repeat(np.arange(m), n)
    kind, level, tp, pp, dp, published = np.tile(np.array(rows, dtype=np.intp), (m, 1)).T
    archs, gpu = take_arch(arch, np.zeros(n * m, dtype=np.intp)), take_gpu(gpus, kind)
    formats = [table[i] for i in level]
    setup = setup_of(catalog_at, gpu, formats, tp=tp, pp=pp, dp=dp, ep=np.where(dp > 1, tp * dp, 1))
    by_engine = [stack_of(catalog_at, one) for one in ask.engines]
    stacks = [by_engine[i] for i in engine]
    k = constants_for(catalog_at, [ask.gpus[i] for i in kind], formats, archs, setup, stacks)
    return Setups(
        ask.gpus, ask.engines, tuple(table), kind, engine, level, published.astype(bool), archs, gpu, setup, k
    )


def _no_layout(model: str, ask: Ask, heads: float, gpus: Gpu) -> DoesNotFit:
    """Why nothing can be laid out: counts beyond a host, heads that do not divide, units that lack."""
    least, link = min(ask.counts), int(gpus.link_gpus.max())
    if least > link * ask.pp:
        return DoesNotFit(
            f"{least} accelerators are more than one fast link joins ({link})", where=model,
            fix=f"Span hosts with a pipeline: --count {least} --pp {-(-least // link)}",
        )  # fmt: skip
    if all(heads % count for count in ask.counts):
        return DoesNotFit(
            f"{least} accelerators do not divide {heads:.0f} heads", where=model,
            fix="Allow other counts: --count 1,2,4,8",
        )  # fmt: skip
    return DoesNotFit(
        "no accelerator asked for multiplies that format", where=model, fix="Type --precision native"
    )


def one_setup(catalog_at: CatalogAt, model: str, ask: Ask, way: tuple[int, int, int]) -> Setups:
    """The set-up of one accelerator, engine and format that is laid out as ``way`` (tp, pp, dp) says,
    whether or not it would be proposed.

    Raises:
        UnknownFact, BadInput: as :func:`setups`.
    """
    if min(way) < 1:
        raise BadInput("parallelism starts at 1", fix="Type --tp 1")
    tp, pp, dp = way
    if catalog_at.number(f"model/{model}", "attention_heads") % tp:
        raise BadInput(
            f"tensor parallel {tp} does not divide the heads of {model}", fix="Type --tp 1, 2, 4 or 8"
        )
    one = setups(catalog_at, model, ask._replace(counts=(1,), precisions=("native",)))
    format_ = precision_of(catalog_at, model, ask.precisions[0])._replace(cache=ask.caches[0])
    native = precision_of(catalog_at, model, "native")
    archs, gpu = (
        take_arch(one.arch, np.zeros(1, dtype=np.intp)),
        take_gpu(one.gpu, np.zeros(1, dtype=np.intp)),
    )
    setup = setup_of(catalog_at, gpu, [format_], tp=tp, pp=pp, dp=dp, ep=tp * dp if dp > 1 else 1)
    stacks = [stack_of(catalog_at, ask.engines[0])]
    k = constants_for(catalog_at, [ask.gpus[0]], [format_], archs, setup, stacks)
    zero = np.zeros(1, dtype=np.intp)
    published = np.array([(format_.dense, format_.experts) == (native.dense, native.experts)])
    return Setups(ask.gpus, ask.engines, (format_,), zero, zero, zero, published, archs, gpu, setup, k)


def _multiplies(gpus: Gpu, g: int, found: Precision) -> bool:
    """Whether an accelerator has units for the narrow format, or the format only saves bytes."""
    if "fp8" in (found.dense, found.experts):
        return bool(gpus.fp8_native[g] > 0)
    return bool(gpus.fp4_native[g] > 0) or "fp4" not in (found.dense, found.experts)


def _layouts(
    ask: Ask, heads: float, arch: Arch, spreads: bool, link_gpus: float
) -> Sequence[tuple[int, int, int]]:
    """(tp, pp, dp) of every allowed count."""
    found = []
    cache_heads, layers = float(arch.cache_heads[0]), float(arch.layers[0])
    for count in ask.counts:
        stages = [pp for pp in (1, 2, 4, MOST_STAGES) if pp <= ask.pp and count % pp == 0 and pp <= layers]
        for pp in stages:
            inside = count // pp
            if inside > link_gpus:
                continue
            if heads % inside == 0:
                found.append((inside, pp, 1))
            if spreads and inside > 1 and pp == 1 and inside > cache_heads:
                # Whole experts on each accelerator, attention copied: the cache is not copied in vain.
                found += [(tp, 1, inside // tp) for tp in (1, 2, 4) if tp < inside and tp <= cache_heads]
    return found
