"""``isocost size``: the cheapest replicas for a load, from the physics, checked by replay."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.table import Table
from rich.text import Text

from isocost.cli.catalog import load, newest
from isocost.cli.output import columns, grid, show, show_as_is, show_json, working, wrapped
from isocost.cli.root import Facts, Json, app
from isocost.errors import BadInput, Infeasible
from isocost.units import money, money_range, tokens

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from isocost.catalog import CatalogAt
    from isocost.size.answer import Wanted
    from isocost.size.queue import Need
    from isocost.size.result import Sized, Sizing
    from isocost.size.setups import Ask

WIDE = 112
"""Columns from which the layout and the energy are shown beside cost."""
LOGGED = ("vLLM will log", "Maximum concurrency", "stands on")
"""Lines that are aligned as they are."""
NARROW = 92
"""Columns below which what one replica carries is left out."""


@dataclass(frozen=True)
class Load:
    """What must be carried, within which limits."""

    rate: Annotated[float, Parameter(help="Requests a second, on average.", required=True)] = 0.0
    isl: Annotated[
        str | None,
        Parameter(name=("--isl", "--in"), help="Input tokens of a mean request, cached included: 1500, 32k."),
    ] = None
    osl: Annotated[
        str | None, Parameter(name=("--osl", "--out"), help="Output tokens of a mean request.")
    ] = None
    ttft_p95: Annotated[
        float | None, Parameter(help="Limit on the time to first token, s (default: slo facts).")
    ] = None
    tpot_p95: Annotated[
        float | None, Parameter(help="Limit on the time per output token, s (default: slo facts).")
    ] = None
    burst: Annotated[
        float, Parameter(help="Spread of the gaps between arrivals over their mean: 1 Poisson, 3 bursty.")
    ] = 1.0
    prefix_hit: Annotated[float, Parameter(help="Share of prompt tokens found cached: 0.4.")] = 0.0


@dataclass(frozen=True)
class Choice:
    """What may be used."""

    gpu: Annotated[
        str | None,
        Parameter(
            name=("--gpu", "--gpus"), help="Accelerators: h100-sxm,l40s (default: all that somebody rents)."
        ),
    ] = None
    count: Annotated[str | None, Parameter(help="Accelerators of a replica: 1,2,4,8 (all of these).")] = None
    engine: Annotated[str, Parameter(help="vllm, sglang, trtllm, or all.", show_default=True)] = "vllm"
    precision: Annotated[
        str, Parameter(help="Weights: native (as published), fp8, fp4, bf16.", show_default=True)
    ] = "native,fp8"
    kv_dtype: Annotated[str, Parameter(help="Cache: bf16, fp8.", show_default=True)] = "bf16"
    pp: Annotated[int, Parameter(help="Deepest pipeline to try.", show_default=True)] = 1
    max_num_seqs: Annotated[int | None, Parameter(help="Sequences at once (default: the engine's).")] = None
    chunk: Annotated[int | None, Parameter(help="Tokens of one step (default: the engine's).")] = None
    spec: Annotated[
        str | None, Parameter(help="Speculative decoding: chance of acceptance, depth: 0.8,3.")
    ] = None
    disagg: Annotated[bool, Parameter(help="Prefill on replicas of its own.")] = False
    have: Annotated[str | None, Parameter(help="Accelerators held already, free of rent: h100-sxm=8.")] = None
    term: Annotated[str, Parameter(help="on_demand, spot or reserved_1y.")] = "on_demand"
    top: Annotated[int, Parameter(help="How many set-ups to show.", show_default=True)] = 8
    calibration: Annotated[
        Path | None, Parameter(help="What 'isocost calibrate' made of your own measurements.")
    ] = None
    on: Annotated[date | None, Parameter(help="The date of rents (default: the newest).")] = None


@app.command(sort_key=4)
def size(
    model: str,
    /,
    *,
    load_: Annotated[Load, Parameter(name="*")] = Load(),
    choice: Annotated[Choice, Parameter(name="*")] = Choice(),
    facts: Facts = None,
    json: Json = False,
) -> None:
    """Find the cheapest replicas that carry a load: accelerators, counts, layouts, precisions, engines.

    Parameters
    ----------
    model
        An open model (llama-3.3-70b, a Hugging Face name), or the path of a config.json or of an adapter.
    """
    import msgspec

    from isocost.size.answer import size as sized
    from isocost.size.calibrated import with_calibration
    from isocost.size.config import adapter_of, with_config
    from isocost.size.queue import Need

    if load_.isl is None or load_.osl is None:
        raise BadInput(
            "no lengths", fix="Add --isl and --osl, the tokens of a mean request: --isl 2000 --osl 300"
        )
    catalog = load(facts)
    if choice.calibration is not None:
        catalog = with_calibration(catalog, choice.calibration)
    name, own = model, Path(model)
    adapter = adapter_of(own)
    if adapter is not None:
        name = adapter.base
        own = Path(name)
    if own.is_dir():
        own /= "config.json"
    if own.suffix == ".json":
        catalog, name = with_config(catalog, own)
    at = catalog.at(choice.on or newest(catalog))
    need = Need(
        load_.rate, tokens(load_.isl), tokens(load_.osl), load_.ttft_p95, load_.tpot_p95, load_.burst,
        load_.prefix_hit,
    )  # fmt: skip
    if need.ttft_p95_s is not None and need.tpot_p95_s is not None:
        limits = need.ttft_p95_s, need.tpot_p95_s
    else:
        # The plan's rooms are loaded only where their defaults are asked for.
        from isocost.plan.sizing import limits_of

        limits = limits_of(at, need)
    _can_be(at, limits, choice)
    ask, wanted = _asked(at, choice)
    wanted = wanted._replace(adapter=adapter)
    with working("laying out replicas"):
        found = sized(at, name, need, limits, ask, wanted)
    found = msgspec.structs.replace(found, notes=(*found.notes, *_meant(at, _list(choice.gpu))))
    if json:
        return show_json(found)
    if not found.rows:
        raise Infeasible(found.why_none, fix="Allow more time, or other accelerators with --gpu")
    _show(found, dict(wanted.have))
    return None


def _can_be(at: CatalogAt, limits_s: tuple[float, float], choice: Choice) -> None:
    """Refuse limits and sizes of a batch below zero, and a term that nobody rents at.

    Raises:
        BadInput: the flag, and what to type.
    """
    for flag, limit in zip(("--ttft-p95", "--tpot-p95"), limits_s, strict=True):
        if not limit > 0:
            raise BadInput(f"{flag} {limit:g}", fix=f"Seconds above zero: {flag} 0.5")
    for flag, size in (("--max-num-seqs", choice.max_num_seqs), ("--chunk", choice.chunk)):
        if size is not None and size < 1:
            raise BadInput(f"{flag} {size}", fix=f"At least 1: {flag} 256")
    rents = at.each("rental/", "usd_per_gpu_h")
    terms = {part[5:] for fact in rents for part in fact.when.split(";") if part.startswith("term=")}
    if not terms:
        raise BadInput(f"no rent is known on {choice.on}", fix="Leave --on out, or take a later day")
    if choice.term not in terms:
        raise BadInput(f"no term {choice.term!r}", fix=f"Use {', '.join(sorted(terms))}")


def _asked(at: CatalogAt, choice: Choice) -> tuple[Ask, Wanted]:
    """What may be tried and how it is served, in the terms of the room.

    Raises:
        BadInput: a list that cannot be read.
        UnknownFact: an accelerator that the catalog does not hold.
    """
    from isocost.perf import gpu_id_of
    from isocost.perf.hardware import machine_of
    from isocost.size.answer import Wanted
    from isocost.size.queue import Draft
    from isocost.size.setups import CACHES, COUNTS, ENGINES, Ask

    held: dict[str, int] = {}
    for name, count in _pairs(choice.have):
        machine = machine_of(at, name) or (gpu_id_of(at, name), 1)
        held[machine[0]] = held.get(machine[0], 0) + machine[1] * count
    have = tuple(held.items())
    for name in _list(choice.gpu):
        if at.catalog.subjects(f"api/{name.lower()}/"):
            raise BadInput(
                f"{name} sells answers, not accelerators", where="--gpu",
                fix=f"See what it asks: isocost catalog list api/{name.lower()}/",
            )  # fmt: skip
    kinds = tuple(dict.fromkeys(gpu_id_of(at, name) for name in _list(choice.gpu)))
    if not kinds:
        rented = {fact.subject.split("/")[2] for fact in at.each("rental/", "usd_per_gpu_h")}
        every = (fact.subject.removeprefix("gpu/") for fact in at.each("gpu/", "memory_bytes"))
        kinds = tuple(name for name, _ in have) or tuple(name for name in every if name in rented)
    try:
        counts = tuple(int(part) for part in _list(choice.count)) or COUNTS
    except ValueError:
        raise BadInput(f"--count {choice.count}", fix="Whole numbers: --count 1,2,4,8") from None
    try:
        guess = [float(part) for part in _list(choice.spec)]
    except ValueError:
        raise BadInput(
            f"--spec {choice.spec}", fix="A chance from 0 to 1 and a depth from 1 to 16: --spec 0.8,3"
        ) from None
    if min(counts) < 1 or choice.pp < 1:
        raise BadInput("counts start at 1", fix="Type --count 1,2,4,8")
    if guess and not (len(guess) == 2 and 0 <= guess[0] <= 1 and 1 <= guess[1] <= 16):
        raise BadInput(
            f"--spec {choice.spec}", fix="A chance from 0 to 1 and a depth from 1 to 16: --spec 0.8,3"
        )
    draft = None
    if guess:
        draft = Draft(guess[0], int(guess[1]), at.number("memory/vllm", "draft_step_frac"))
    engines = ENGINES if choice.engine == "all" else tuple(_list(choice.engine))
    caches = CACHES if choice.kv_dtype == "all" else tuple(_list(choice.kv_dtype))
    ask = Ask(kinds, counts, engines, tuple(_list(choice.precision)), caches, choice.pp)
    return ask, Wanted(
        choice.max_num_seqs, choice.chunk, draft, choice.disagg, choice.term, have, choice.top
    )  # fmt: skip


def _meant(at: CatalogAt, names: Sequence[str]) -> list[str]:
    """Which part a short name was taken as, where it might mean others."""
    from isocost.perf import gpu_id_of
    from isocost.perf.hardware import others_of

    found = [(name, gpu_id_of(at, name), others_of(at, name)) for name in names]
    return [
        f"{name} is taken as {meant}; of that name are also {', '.join(others)}."
        for name, meant, others in found
        if others
    ]


def _list(text: str | None) -> list[str]:
    return [part.strip() for part in (text or "").split(",") if part.strip()]


def _pairs(text: str | None) -> list[tuple[str, int]]:
    found = []
    for part in _list(text):
        name, equals, count = part.partition("=")
        if not equals or not count.isdecimal():
            raise BadInput(f"--have {part}", fix="Type --have h100-sxm=8")
        found.append((name, int(count)))
    return found


def _show(found: Sizing, have: Mapping[str, int]) -> None:
    need, best = found.need, found.rows[0]
    held = have.get(best.gpu, 0)
    show(
        Text(f"{_counted(best)}: {_spent(best, held)}", "bold"),
        *_bands(best),
        *_load(found, need),
        "",
        _table(found.rows),
        "",
        *(line if line.lstrip().startswith(LOGGED) else wrapped(line.strip()) for line in _best(best, need)),
        "",
    )
    for note in found.notes:
        show(wrapped(note))
    show("", "  Next, on each replica:")
    show_as_is(f"  {best.command}")
    show("  then measure it, and 'isocost calibrate bench.json' narrows the band:")
    show_as_is(f"  {best.bench}")


def _spent(row: Sized, held: int) -> str:
    """What a month costs, in words; ``held`` accelerators of the kind are there already."""
    used = row.gpus * (row.replicas + row.prefill_replicas)
    if row.usd_per_month is None:
        return "nobody is known to rent them"
    if held and row.usd_per_month.value == 0.0:
        return f"no rent, on {used} of the {held} {row.gpu} that you have"
    beside = f" beside the {held} {row.gpu} that you have" if held else ""
    return f"{money(row.usd_per_month.value)} a month{beside}"


def _bands(row: Sized) -> list[str]:
    usd, mtok = row.usd_per_month, row.usd_per_mtok
    if usd is None or mtok is None or usd.high == 0.0:
        return []
    band = f"80% band {money_range(usd.low, usd.high)}"
    each = f"; ${mtok.value:.2f} a million tokens, in and out together" if mtok.value else ""
    return [f"  {band}{each}"]


def _load(found: Sizing, need: Need) -> list[str]:
    more = f", {need.prefix_hit_frac:.0%} of prompts cached" if need.prefix_hit_frac else ""
    more += f", bursts of cv {need.burst_cv:g}" if need.burst_cv != 1 else ""
    return [
        wrapped(
            f"for {need.rate_per_s:g} requests/s of {need.input_tok:,} in, {need.output_tok:,} out{more}, "
            f"within TTFT p95 {found.ttft_p95_s:g} s, TPOT p95 {found.tpot_p95_s * 1000:g} ms"
        )
    ]


def _counted(row: Sized) -> str:
    count = f"{row.replicas} replica{'s' if row.replicas != 1 else ''}"
    if row.prefill_replicas:
        count = f"{row.prefill_replicas} to prefill and {row.replicas} to decode"
    return f"{count} of {row.name}"


def _best(row: Sized, need: Need) -> list[str]:
    """What the best set-up does, holds and takes, and what that stands on."""
    ttft, tpot, memory, cache = row.ttft_p95_s, row.tpot_p95_s, row.memory, row.cache
    lines = [
        f"  TTFT p50 {row.ttft_p50_s:.2f} s, p95 {ttft.value:.2f} s "
        f"(80% band {ttft.low:.2f} to {ttft.high:.2f}), p99 {row.ttft_p99_s:.2f} s",
        f"  TPOT p50 {row.tpot_p50_s * 1e3:.1f} ms, p95 {tpot.value * 1e3:.1f} ms "
        f"(80% band {tpot.low * 1e3:.1f} to {tpot.high * 1e3:.1f})",
        f"  goodput {row.goodput_per_s:.2f} of {need.rate_per_s:g} requests/s within both limits "
        f"({row.attained_frac:.1%})",
        f"  memory of each accelerator: weights {memory.weights:.1f} GB, cache {memory.cache:.1f}, "
        f"activations {memory.activations:.1f}, overhead {memory.overhead:.1f}, "
        f"left alone {memory.unused:.1f}",
    ]
    if row.engine == "vllm":
        lines += [
            f"  vLLM will log: GPU KV cache size: {cache.tokens:,} tokens "
            f"({cache.tokens_low:,} to {cache.tokens_high:,})",
            f"                 Maximum concurrency for {cache.longest_tok:,} tokens per request: "
            f"{cache.max_concurrency:.2f}x",
        ]
    if row.j_per_tok is not None:
        wall = f"; {row.wall_j_per_tok:.2f} at the building's meter" if row.wall_j_per_tok is not None else ""
        joule = row.j_per_tok
        lines.append(
            f"  energy {joule.value:.2f} J an output token at the accelerators "
            f"(80% band {joule.low:.2f} to {joule.high:.2f}){wall}"
        )
    lines.append(wrapped(row.measured or row.nearest.says, "stands on: "))
    return lines


def _table(rows: tuple[Sized, ...]) -> Table:
    wide, narrow = columns() >= WIDE, columns() < NARROW
    engines = len({row.engine for row in rows}) > 1
    heads = (
        [("  replica", "l")] + ([("engine", "l")] if engines else []) + [("n" if narrow else "replicas", "r")]
    )
    heads += [] if narrow else [("req/s each", "r")]
    heads += [("TTFT p95", "r"), ("TPOT p95", "r")]
    heads += [("J/tok", "r")] if wide else []
    table = grid(
        *heads, ("$/month", "r"), ("80% band", "r"), ("$/Mtok", "r"), *([("", "l")] if not narrow else [])
    )
    for row in rows:
        count = f"{row.prefill_replicas}+{row.replicas}" if row.prefill_replicas else str(row.replicas)
        cells = [f"  {row.name}"] + ([row.engine] if engines else []) + [count]
        cells += [] if narrow else [f"{row.rate_each_per_s:.2f}"]
        cells += [f"{row.ttft_p95_s.value:.2f} s", f"{row.tpot_p95_s.value * 1000:.0f} ms"]
        cells += [f"{row.j_per_tok.value:.2f}" if row.j_per_tok else "-"] if wide else []
        usd, mtok = row.usd_per_month, row.usd_per_mtok
        cells += [f"{usd.value:,.0f}", f"{money(usd.low)}-{money(usd.high)}"] if usd else ["-", "-"]
        cells += [f"{mtok.value:.2f}" if mtok else "-"]
        table.add_row(*cells, *([] if narrow else [_stands(row)]))
    return table


def _stands(row: Sized) -> str:
    if row.measured:
        if "another" in row.measured:
            return "near"
        return "yours" if row.measured.startswith("your") else "measured"
    return "extrapolated" if row.nearest.is_extrapolated else row.nearest.says.partition(":")[0]
