"""The constants of the physics: what kernels of an accelerator attain, and what an engine adds to them.

Two layers of facts. ``kernel/<accelerator>`` holds what single kernels were measured to attain, by format,
by engine where engines have kernels of their own, and by how many accelerators sum; an accelerator without
measurements takes those of its generation, else of all. ``perf/stack`` holds what a served model adds: a
share of the kernels' throughput, fixed times of a layer and a step, how prompts and queues delay tokens; a
stack (an engine from some version on) has what it differs in, and shares the rest.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from isocost.catalog import CatalogAt, Fact
from isocost.errors import UnknownFact
from isocost.perf.arch import Arch, Floats
from isocost.perf.setup import Precision, Setup

SUBJECT = "perf/stack"
ENGINES: Mapping[str, str] = {
    "sglang": "sglang", "vllm": "vllm", "trtllm": "trt|tensorrt", "llama.cpp": "llamacpp|ollama",
}  # fmt: skip
"""What says which engine a name means, in lower case without punctuation; the first counts."""
Scalar = float | Floats


class Constants(NamedTuple):
    """Of ``n`` set-ups, ``(n,)`` each, or scalars: ``*_eff`` are fractions of what a data sheet states.

    ``*_blend`` say how memory and arithmetic overlap (1 adds the times, a large power takes the
    greater); ``dense_row_moves`` are bytes moved for each element of a row that enters a product,
    ``dense_tile_elements`` the least of a result that a product is as long as; ``*_s`` are seconds:
    ``product_s`` of one matrix product, ``layer_s`` and ``moe_layer_s`` of a layer, ``sparse_layer_s`` and
    ``state_layer_s`` of one with an index or a fixed state, ``step_s`` of a step, ``sequence_s`` of a
    running sequence in it. ``prompt_share`` is the time by
    which a prompt delays those that decode over its time in a batch, ``prompt_alone_share`` that of a
    prompt on an idle engine; ``queue_share`` is the part of the other prompts that a first token waits
    for; ``prompt_batch_tok`` is how many tokens of prompts a step takes; ``preempted_frac`` is the part
    of a wait for cache that is spent after the first token; ``draft_kept_frac`` is how often a drafted token
    is kept if those before it were; ``reserved_answer_frac`` of an answer has its place in the cache from its
    start, half of it in the mean where engines admit what fits for now.
    """

    dense_memory_eff: Scalar
    dense_flop_eff: Scalar
    dense_blend: Scalar
    dense_row_moves: Scalar
    dense_tile_elements: Scalar
    head_memory_eff: Scalar
    head_flop_eff: Scalar
    head_blend: Scalar
    expert_memory_eff: Scalar
    expert_flop_eff: Scalar
    expert_blend: Scalar
    expert_row_moves: Scalar
    expert_pad_rows: Scalar
    expert_each_s: Scalar
    touch_share: Scalar
    cache_memory_eff: Scalar
    cache_flop_eff: Scalar
    cache_blend: Scalar
    prompt_flop_eff: Scalar
    activation_moves: Scalar
    reduce_s: Scalar
    reduce_eff: Scalar
    spread_s: Scalar
    spread_eff: Scalar
    product_s: Scalar
    layer_s: Scalar
    moe_layer_s: Scalar
    sparse_layer_s: Scalar
    state_layer_s: Scalar
    step_s: Scalar
    sequence_s: Scalar
    prompt_share: Scalar
    prompt_alone_share: Scalar
    first_token_s: Scalar
    eager_product_s: Scalar
    eager_moe_layer_s: Scalar
    queue_share: Scalar
    preempted_frac: Scalar
    draft_kept_frac: Scalar
    prompt_batch_tok: Scalar
    memory_usable_frac: Scalar
    reserve_bytes: Scalar
    reserved_answer_frac: Scalar


class Term(NamedTuple):
    """Facts whose product is a part of a constant: one of kernels, one of the stack."""

    kernel: str = ""
    share: str = ""


MADE: Mapping[str, tuple[Term, ...]] = {
    "dense_memory_eff": (Term("dense:dense_memory_eff", "memory_share"),),
    "dense_flop_eff": (Term("dense:dense_flop_eff", "dense_flop_share"),),
    "dense_blend": (Term("dense:dense_blend"),),
    "dense_row_moves": (Term("dense:dense_row_moves"),),
    "dense_tile_elements": (Term("dense:dense_tile_elements"),),
    "head_memory_eff": (Term("wide:dense_memory_eff"),),
    "head_flop_eff": (Term("wide:dense_flop_eff"),),
    "head_blend": (Term("wide:dense_blend"),),
    "expert_memory_eff": (Term("experts:expert_memory_eff", "expert_memory_share"),),
    "expert_flop_eff": (Term("experts:expert_flop_eff", "expert_flop_share"),),
    "expert_blend": (Term("experts:expert_blend"),),
    "expert_row_moves": (Term("experts:expert_row_moves", "expert_row_share"),),
    "expert_pad_rows": (Term("experts:expert_pad_rows"),),
    "expert_each_s": (Term("experts:expert_each_s", "expert_each_share"),),
    "cache_memory_eff": (Term("cache:cache_memory_eff", "cache_share"),),
    "cache_flop_eff": (Term("cache:cache_flop_eff"),),
    "cache_blend": (Term("cache:cache_blend"),),
    "prompt_flop_eff": (Term("cache:prompt_flop_eff", "prompt_flop_share"),),
    "reduce_s": (Term("reduce:reduce_s", "reduce_share"),),
    "reduce_eff": (Term("reduce:reduce_eff", "link_share"),),
    "product_s": (Term("dense:dense_start_s", "start_share"), Term("narrow:", "quantise_s")),
    "layer_s": (Term("cache:attention_start_s", "start_share"), Term(share="layer_s")),
    "moe_layer_s": (
        Term("experts:expert_start_s", "start_share"),
        Term("wide:dense_start_s", "start_share"),
        Term(share="moe_layer_s"),
        Term("narrow_experts:", "slow_expert_layer_s"),
    ),
}
"""How constants are made of facts; those absent here are a fact of ``perf/stack`` by the same name.

Before the colon stands the qualifier of the kernel: ``dense``, ``experts`` and ``cache`` by the format that
they are multiplied or kept in, ``wide`` bf16, ``reduce`` by how many accelerators; ``narrow`` is 1 or 0."""
FRACTIONS = frozenset(name for name in Constants._fields if name.endswith(("_eff", "_frac")))
PLAIN = ("prompt_batch_tok", "memory_usable_frac", "reserve_bytes")


class Case(NamedTuple):
    """What the constants of one set-up depend on."""

    stack: str
    gpu_id: str
    dense: str
    experts: str
    cache: str
    is_narrow: bool
    is_narrow_experts: bool
    is_latent: bool
    tp: int
    without: str = ""


GENERIC = Case("", "any", "bf16", "bf16", "bf16", False, False, False, 8)


def engine_of(name: str) -> str:
    """The engine that a name says, whatever serves in front of it; else the name in lower case.

    >>> [engine_of(name) for name in ("TensorRT-LLM", "trt-llm", "dynamo-trt", "vLLM (AITER)", "mori-sglang")]
    ['trtllm', 'trtllm', 'trtllm', 'vllm', 'sglang']
    >>> engine_of("Text-Generation-Inference"), engine_of("Llama.cpp"), engine_of("ollama")
    ('text-generation-inference', 'llama.cpp', 'llama.cpp')
    """
    plain = re.sub(r"[^a-z0-9]+", "", name.lower())
    return next((engine for engine, said in ENGINES.items() if re.search(said, plain)), name.lower())


def stack_of(catalog_at: CatalogAt, engine: str, version: str = "") -> str:
    """The stack that an engine's version belongs to: the newest whose ``since_version`` it has reached.

    A version that is not stated, or not a number, is the newest. An engine without facts is its own name
    in lower case, and has what all share.
    """
    engine = engine_of(engine)
    number = re.match(r"~?(\d+(?:\.\d+)*)", version)
    wanted = [int(part) for part in number[1].split(".")] if number else [10**6]
    best, since = engine, [-1]
    for fact in catalog_at.catalog.about(SUBJECT):
        name = fact.when.removeprefix("stack=")
        if fact.attribute == "since_version" and name.partition("-")[0] == engine:
            reached = [int(part) for part in str(fact.value).split(".")]
            if since < reached <= wanted:
                best, since = name, reached
    return best


def constants_of(catalog_at: CatalogAt, engine: str = "vllm", version: str = "") -> Constants:
    """Constants of no accelerator in particular, scalars: bf16, the mean of all that were measured.

    Raises:
        UnknownFact: one of them is not in the catalog.
    """
    reader = Reader(catalog_at)
    case = GENERIC._replace(stack=stack_of(catalog_at, engine, version))
    return Constants(*(reader.value(case, name) for name in Constants._fields))


def constants_for(
    catalog_at: CatalogAt,
    gpu_ids: Sequence[str],
    precisions: Sequence[Precision],
    arch: Arch,
    setup: Setup,
    stacks: Sequence[str] | str = "vllm",
    without: Sequence[str] | None = None,
) -> Constants:
    """Constants of ``n`` set-ups, ``(n,)`` each but the last two fields: each argument has ``n`` entries.

    ``without`` names families of models: those that were fitted are then answered by constants that had
    not seen them, which is how errors are reported.

    Raises:
        UnknownFact: a constant is not in the catalog.
    """
    size = len(gpu_ids)
    named = [stacks] * size if isinstance(stacks, str) else stacks
    cases = cases_of(catalog_at, gpu_ids, precisions, arch, setup, named)
    if without is not None:
        cases = [case._replace(without=family) for case, family in zip(cases, without, strict=True)]
    code: dict[Case, int] = {}
    index = np.array([code.setdefault(case, len(code)) for case in cases], dtype=np.intp)
    once = catalog_at.once
    fields = [
        once(_value, GENERIC, name)
        if name in PLAIN
        else np.array([once(_value, case, name) for case in code], dtype=np.float64)[index]
        for name in Constants._fields
    ]
    return Constants(*fields)


def _value(catalog_at: CatalogAt, case: Case, name: str) -> float:
    return catalog_at.once(Reader).value(case, name)


def cases_of(
    catalog_at: CatalogAt,
    gpu_ids: Sequence[str],
    precisions: Sequence[Precision],
    arch: Arch,
    setup: Setup,
    stacks: Sequence[str],
) -> list[Case]:
    """What the constants of each set-up depend on."""
    native: dict[tuple[str, str], str] = {}

    def computed(gpu_id: str, dtype: str) -> str:
        """Formats without units on an accelerator are widened to bf16 before they are multiplied."""
        key = (gpu_id, dtype)
        if key not in native:
            able = dtype[:3] not in ("fp8", "fp4") or catalog_at.find(
                f"gpu/{gpu_id}", "peak_flop_per_s", f"dtype={dtype[:3]}"
            )
            native[key] = dtype if able else "bf16"
        return native[key]

    latent, tp = (arch.latent > 0).tolist(), setup.tp.astype(int).tolist()
    return [
        Case(
            stack,
            gpu_id,
            computed(gpu_id, precision.dense),
            computed(gpu_id, precision.experts),
            computed("", precision.cache) if precision.cache == "bf16" else "fp8",
            precision.dense != "bf16",
            precision.experts == "fp8",
            is_latent,
            sums,
        )
        for stack, gpu_id, precision, is_latent, sums in zip(
            stacks, gpu_ids, precisions, latent, tp, strict=True
        )
    ]


def take(k: Constants, index: NDArray[np.intp]) -> Constants:
    """The entries at ``index``, which may repeat; scalars stay."""
    return Constants(*(field[index] if isinstance(field, np.ndarray) else field for field in k))


def facts_of(catalog_at: CatalogAt, case: Case, field: str) -> tuple[Fact, ...]:
    """The facts that one constant of a set-up is made of."""
    reader = Reader(catalog_at)
    reader.value(case, field)
    return tuple(dict.fromkeys(reader.read))


class Reader:
    """Looks constants up and remembers which facts it read, in ``read``."""

    def __init__(self, catalog_at: CatalogAt) -> None:
        self.at = catalog_at
        self.read: list[Fact] = []
        self.known: dict[tuple[str, ...], Fact | None] = {}
        self.families: dict[str, tuple[str, ...]] = {}
        self.folds: dict[str, Mapping[str, float]] = {}

    def value(self, case: Case, field: str) -> float:
        """A constant of a set-up."""
        made = MADE.get(field, (Term(share=field),))
        total = 0.0
        for term in made:
            part = self.kernel(case, term.kernel) if term.kernel else 1.0
            if term.share and part:
                part *= self._share(case, term.share)
            total += part
        return min(total, 1.0) if field in FRACTIONS else total

    def _share(self, case: Case, name: str) -> float:
        if case.without:
            apart = self._apart(case.without)
            if name in apart:
                return apart.get(f"{name}@{case.stack}", apart[name])
        found = self._find(SUBJECT, name, f"stack={case.stack}") or self._find(SUBJECT, name, "")
        if found is None:
            found = self.at.fact(SUBJECT, name)
        self.read.append(found)
        return float(found.value)

    def kernel(self, case: Case, wanted: str) -> float:
        """The part of a constant that the kernels of a set-up give."""
        kind, _, name = wanted.partition(":")
        if kind == "narrow":
            return float(case.is_narrow)
        if kind == "narrow_experts":
            return float(case.is_narrow_experts)
        if kind == "reduce" and case.tp <= 1:
            return 0.0 if name == "reduce_s" else 1.0
        found = self._of_kernels(case, kind, name)
        self.read.append(found)
        return float(found.value)

    def _apart(self, family: str) -> Mapping[str, float]:
        """The constants fitted without a family, by name and ``name@stack``; none where it was not fitted."""
        if family not in self.folds:
            fact = self.at.find(SUBJECT, "fitted_without", f"family={family}")
            pairs = (part.partition("=") for part in str(fact.value).split(" ")) if fact else ()
            self.folds[family] = {name: float(value) for name, _, value in pairs}
        return self.folds[family]

    def _of_kernels(self, case: Case, kind: str, name: str) -> Fact:
        engine = case.stack.partition("-")[0]

        def by_engine(*dtypes: str, kind: str = "") -> tuple[str, ...]:
            # Tables time launches outside of the graph that replays them: the quickest engine is nearest.
            named = () if name in ("dense_start_s", "attention_start_s") else dtypes
            own = (f"{kind}dtype={dtype};engine={engine}" for dtype in named)
            return (*own, *(f"{kind}dtype={dtype}" for dtype in dtypes))

        experts = dict.fromkeys((case.experts, case.experts.partition("-")[0]))
        whens = {
            "dense": (*by_engine(*dict.fromkeys((case.dense, case.dense.partition("-")[0]))), "dtype=bf16"),
            "wide": by_engine("bf16"),
            "experts": (*by_engine(*experts), "dtype=bf16"),
            "cache": (
                *(by_engine(f"{case.cache}", kind="attention=latent;") if case.is_latent else ()),
                *by_engine(case.cache),
                "dtype=bf16",
            ),
            "reduce": tuple(f"gpus={count}" for count in (2, 4, 8) if count >= min(case.tp, 8)),
        }[kind]
        for subject in self._subjects(case.gpu_id):
            for when in whens:
                found = self._find(subject, name, when)
                if found is not None:
                    return found
        raise UnknownFact(f"no {name} of kernel/any ({whens[-1]})")

    def _subjects(self, gpu_id: str) -> tuple[str, ...]:
        if gpu_id not in self.families:
            subject = f"gpu/{gpu_id}"
            near = (self.at.find(subject, name) for name in ("kernels_of", "generation"))
            names = (gpu_id, *(str(fact.value) for fact in near if fact is not None), "any")
            self.families[gpu_id] = tuple(f"kernel/{name}" for name in dict.fromkeys(names))
        return self.families[gpu_id]

    def _find(self, subject: str, name: str, when: str) -> Fact | None:
        key = (subject, name, when)
        if key not in self.known:
            self.known[key] = self.at.find(subject, name, when)
        return self.known[key]


RATIOS: Mapping[str, str] = {"tpot": "tpot_ratio", "ttft": "ttft_ratio", "throughput": "throughput_ratio"}
"""The facts that hold measured over predicted, by metric."""
INTERVALS = "perf/interval"


class Interval(NamedTuple):
    """The central 80 % of measured over predicted, as factors on a prediction."""

    low: float
    high: float


def interval_of(catalog_at: CatalogAt, metric: str, vendor: str = "NVIDIA") -> Interval:
    """How far a prediction of ``metric`` (tpot, ttft, throughput) may be off on a vendor's accelerators.

    Most measurements are of NVIDIA's; the others have intervals of their own (``vendor=...``).

    Raises:
        UnknownFact: the metric has no interval for the vendor.
    """
    when = "" if vendor == "NVIDIA" else f"vendor={vendor}"
    fact = catalog_at.fact(INTERVALS, RATIOS.get(metric, f"{metric}_ratio"), when)
    low, _, high = fact.ends
    return Interval(low, high)


def plain(k: Constants) -> dict[str, Any]:
    """The constants by name, for printing."""
    return dict(zip(Constants._fields, k, strict=True))
