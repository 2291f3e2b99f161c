"""A published theory of the price of decoding speed, restated so that its figures can be checked.

Erdil, "Inference economics of language models" (arXiv:2506.04645), section 3.5: the time of a token is
kernel launches, plus all-reduces over a square of accelerators, plus the longer of reading memory and
arithmetic. It is a peer of ``perf``, not a part of it: it knows no engine and no prompt. Its constants
and its simplified models are facts ``theory/erdil-2025/…``.
"""

from __future__ import annotations

import re

import msgspec
import numpy as np
from numpy.typing import NDArray

from isocost.catalog.catalog import CatalogAt
from isocost.errors import UnknownFact

Array = NDArray[np.float64]
STUDY = "theory/erdil-2025"


class Shape(msgspec.Struct, frozen=True):
    """A model as the theory sees it; ``ff_in`` is how many matrices a block widens with."""

    d_model: float
    d_ff: float
    d_head: float
    layers: float
    vocab: float
    n_experts: float
    n_active_experts: float
    query_heads: float
    group_size: float
    ff_in: float
    weight_bytes: float
    activation_bytes: float = 2.0
    mla_kv_dim: float = 0.0
    mla_query_dim: float = 0.0

    @property
    def sparsity(self) -> float:
        """Experts held for each one that a token uses, in whole numbers as the theory has it."""
        return self.n_experts // self.n_active_experts

    @property
    def kv_heads(self) -> float:
        """Heads of keys and of values together."""
        return 2.0 * self.query_heads / self.group_size

    @property
    def attention_parameters(self) -> float:
        """Weights of one layer's attention."""
        out = self.d_head * self.query_heads * self.d_model
        if self.mla_kv_dim:
            down = 2.0 * self.mla_kv_dim * self.d_model + self.mla_query_dim * self.d_model
            up = self.kv_heads * self.mla_kv_dim + self.query_heads * self.mla_query_dim
            return down + up * self.d_head + out
        return (self.query_heads + self.kv_heads) * self.d_head * self.d_model + out

    @property
    def feed_forward_parameters(self) -> float:
        """Weights of all experts of all layers."""
        return self.layers * self.n_experts * (self.ff_in + 1.0) * self.d_model * self.d_ff

    @property
    def parameters(self) -> float:
        """All weights, both embeddings counted."""
        return self._beside_experts + self.feed_forward_parameters

    @property
    def active_parameters(self) -> float:
        """Weights that a token uses."""
        return self._beside_experts + self.feed_forward_parameters // self.sparsity

    @property
    def _beside_experts(self) -> float:
        return self.layers * self.attention_parameters + 2.0 * self.vocab * self.d_model

    @property
    def kv_bytes(self) -> float:
        """Cache of one token of context."""
        per_layer = self.mla_kv_dim or self.kv_heads * self.d_head
        return per_layer * self.layers * self.activation_bytes


class Machine(msgspec.Struct, frozen=True):
    """An accelerator as the theory sees it, with its caps already taken off."""

    flop_per_s: float
    memory_bytes_per_s: float
    memory_bytes: float
    node_bytes_per_s: float
    network_bytes_per_s: float
    node_gpus: float


class Frontier(msgspec.Struct, frozen=True):
    """The cheapest cost at every speed: ``usd_per_mtok`` of output and ``tok_per_s`` of one user, (n,)."""

    usd_per_mtok: Array
    tok_per_s: Array

    def cheapest_usd_per_mtok(self) -> float:
        """The price of the slow end."""
        return float(self.usd_per_mtok.min())

    def fastest_tok_per_s(self, usd_per_mtok: float) -> float:
        """The best speed for a price; nan where the price buys nothing."""
        fast = self.tok_per_s[self.usd_per_mtok <= usd_per_mtok]
        return float(fast.max()) if len(fast) else float("nan")


def frontier(
    at: CatalogAt, model: str, gpu: str, usd_per_gpu_h: float, input_tok: float, grid: int
) -> Frontier:
    """The frontier of a model by the study's name (``Llama 3 70B 8-bit``) on an accelerator.

    ``grid`` points of batch by ``grid`` of accelerator counts are searched, as the study's own code does.

    Raises:
        UnknownFact: the study has no such model or accelerator.
    """
    shape = _shape(at, model)
    machine = _machine(at, gpu, shape.weight_bytes)
    top = at.number(STUDY, "largest_log2")
    least = shape.parameters * shape.weight_bytes / machine.memory_bytes
    batch = np.logspace(0.0, top + np.log2(shape.sparsity), grid, base=2.0)[:, None]
    gpus = np.logspace(np.log2(least), top, grid, base=2.0)[None, :]
    gpus, batch = np.broadcast_arrays(gpus, batch)
    token_s = _token_s(at, shape, machine, gpus, batch, input_tok)
    usd = gpus * token_s / batch * usd_per_gpu_h / 3600.0 * 1e6
    fine = token_s <= token_s.min() * 10.0 ** at.number(STUDY, "slowest_decades")
    order = np.argsort(token_s[fine], kind="stable")
    seconds, best = token_s[fine][order], np.minimum.accumulate(usd[fine][order])
    return Frontier(best, 1.0 / seconds)


def _token_s(at: CatalogAt, model: Shape, gpu: Machine, gpus: Array, batch: Array, input_tok: float) -> Array:
    """Seconds of one decoding step, any shape; infinite where weights and cache do not fit."""
    flop = 2.0 * model.active_parameters * batch
    flop += 4.0 * (model.mla_kv_dim or model.d_head) * model.query_heads * model.layers * input_tok * batch
    reads = _read_bytes(model, batch, input_tok, gpus)
    work_s = np.maximum(reads / gpu.memory_bytes_per_s, flop / gpu.flop_per_s) / gpus
    launches = model.layers * at.number(STUDY, "matmuls_per_layer") * at.number(STUDY, "kernel_launch_s")
    whole = launches + _reduce_s(at, model, gpu, gpus, batch) + work_s
    held = model.kv_bytes * input_tok * batch + model.weight_bytes * model.parameters
    return np.where(gpus * gpu.memory_bytes < held, np.inf, whole)


def _reduce_s(at: CatalogAt, model: Shape, gpu: Machine, gpus: Array, batch: Array) -> Array:
    """Seconds of a step's all-reduces: each layer's four matrices on a square of accelerators."""
    ranks, nodes = np.sqrt(gpus), np.sqrt(np.ceil(gpus / gpu.node_gpus))
    words = (
        model.d_head * (model.kv_heads + model.query_heads),
        model.d_model,
        model.n_active_experts * model.ff_in * model.d_ff,
        model.n_active_experts * model.d_model,
    )
    total = np.zeros(np.shape(gpus))
    for count in words:
        size = count / (gpus / ranks) * batch * model.activation_bytes
        total += model.layers * _all_reduce_s(at, gpu, ranks, nodes, size)
    return np.where(ranks > 1.0, total, 0.0)


def _all_reduce_s(at: CatalogAt, gpu: Machine, ranks: Array, nodes: Array, size_bytes: Array) -> Array:
    """The quickest of the collective library's protocols."""
    inside = np.maximum(0.0, ranks - nodes) * size_bytes / (ranks * gpu.node_bytes_per_s)
    between = (nodes - 1.0) * size_bytes / (ranks * gpu.network_bytes_per_s)
    best = np.full(np.shape(ranks), np.inf)
    for protocol in ("simple", "ll128", "ll"):
        when = f"protocol={protocol}"
        hop = at.number(STUDY, "rank_s", when) * (ranks / nodes - 1.0)
        hop = hop + at.number(STUDY, "node_s", when) * np.log2(nodes)
        latency = 2.0 * hop + at.number(STUDY, "start_s", when)
        best = np.minimum(
            best, latency + np.maximum(inside, between) / at.number(STUDY, "link_share_frac", when)
        )
    return best


def _read_bytes(model: Shape, batch: Array, input_tok: float, gpus: Array) -> Array:
    """Bytes that a step moves between memory and cores, over all accelerators."""
    used = 1.0 - (1.0 - 1.0 / model.sparsity) ** batch
    experts = used * model.n_experts * (model.ff_in + 1.0)
    feed = experts * _matrix_bytes(model, model.d_model, model.d_ff, batch / model.sparsity, gpus)
    heads = (model.query_heads + model.kv_heads) * model.d_head
    if model.mla_kv_dim:
        latent = model.mla_kv_dim + model.mla_query_dim
        attention = _matrix_bytes(model, latent, model.d_model, batch, gpus)
        attention += _matrix_bytes(model, heads, latent, batch, gpus)
    else:
        attention = _matrix_bytes(model, heads, model.d_model, batch, gpus)
    attention += _matrix_bytes(model, model.d_model, model.d_head * model.query_heads, batch, gpus)
    cache: Array = model.kv_bytes * input_tok * batch
    return cache + model.layers * (feed + attention) + model.weight_bytes * model.vocab * model.d_model


def _matrix_bytes(model: Shape, rows: float, columns: float, tokens: Array, gpus: Array) -> Array:
    """Weights of a matrix, its input and its output, where the input is repeated on a side of the square."""
    side: Array = np.clip(np.sqrt(rows * gpus / columns), 1.0, gpus)
    moved = side * columns * tokens + gpus / side * rows * tokens
    return rows * columns * model.weight_bytes + moved * model.activation_bytes


def _shape(at: CatalogAt, name: str) -> Shape:
    """The study's model of a name such as ``Llama 3.1 405B 8-bit A100``: words, precision, accelerator."""
    words = re.sub(r"[\s_-]+", "-", name.strip().lower())
    if f"{STUDY}/gpu/{words.rpartition('-')[2]}" in at.catalog.subjects(f"{STUDY}/gpu/"):
        words = words.rpartition("-")[0]
    bits = re.search(r"-(?:(?:bf|fp|int)(4|8|16)|(4|8|16)-?bit)$", words)
    words = words[: bits.start()] if bits else words
    known = {subject.rpartition("/")[2]: subject for subject in at.catalog.subjects(f"{STUDY}/model/")}
    # Point releases kept their shapes: the study's Llama 3 405B is the weights' 3.1.
    subject = known.get(words) or known.get(re.sub(r"(\d)\.\d", r"\1", words))
    if subject is None:
        raise UnknownFact(f"no model {name!r} in the study", where=STUDY, fix=f"It has {', '.join(known)}")
    fields = {one: at.find(subject, one) for one in Shape.__struct_fields__}
    shape = Shape(**{one: float(fact.value) for one, fact in fields.items() if fact is not None})
    if bits is None:
        return shape
    return msgspec.structs.replace(shape, weight_bytes=int(bits[1] or bits[2]) / 8.0)


def _machine(at: CatalogAt, gpu: str, weight_bytes: float) -> Machine:
    subject = f"{STUDY}/gpu/{gpu.strip().lower().replace(' ', '-')}"
    cap = at.number(subject, "memory_cap_frac")
    return Machine(
        at.number(subject, "flop_per_s", f"bits={8 * weight_bytes:g}") * at.number(subject, "flop_cap_frac"),
        at.number(subject, "memory_bytes_per_s") * cap,
        at.number(subject, "memory_bytes"),
        at.number(subject, "node_bytes_per_s"),
        at.number(subject, "network_bytes_per_s"),
        at.number(subject, "node_gpus"),
    )
