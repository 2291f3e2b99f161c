"""``isocost calibrate``: a set-up fitted to one's own measurements, for ``size --calibration``."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.text import Text

from isocost.cli.catalog import load, newest
from isocost.cli.output import grid, show, show_json, working, wrapped
from isocost.cli.root import Facts, Json, app
from isocost.errors import BadInput, UnknownModel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from isocost.catalog import Catalog
    from isocost.validate.benchmarks import Run
    from isocost.validate.calibrate import Calibrated, Place, Ratio


@dataclass(frozen=True)
class Server:
    """The server that was measured; what the file says need not be said again."""

    model: Annotated[str | None, Parameter(help="The model, or a config.json (default: the file's).")] = None
    gpu: Annotated[str | None, Parameter(help="The accelerator: h100-sxm.")] = None
    tp: Annotated[int | None, Parameter(help="Tensor parallel (default: the file's, else 1).")] = None
    dp: Annotated[int | None, Parameter(help="Data parallel (default: the file's, else 1).")] = None
    pp: Annotated[int | None, Parameter(help="Pipeline stages (default: the file's, else 1).")] = None
    engine: Annotated[
        str | None, Parameter(help="vllm, sglang or trtllm (default: the file's, else vllm).")
    ] = None
    precision: Annotated[str, Parameter(help="Weights: native, fp8, fp4, bf16.", show_default=True)] = (
        "native"
    )
    kv_dtype: Annotated[str, Parameter(help="Cache: bf16, fp8.", show_default=True)] = "bf16"
    max_num_seqs: Annotated[int | None, Parameter(help="Sequences at once (default: the file's).")] = None
    chunk: Annotated[int | None, Parameter(help="Tokens of one step (default: the file's).")] = None


@app.command(sort_key=5)
def calibrate(
    files: Annotated[tuple[Path, ...], Parameter(help="Results of benchmarks, or logs of requests.")],
    /,
    *,
    server: Annotated[Server, Parameter(name="*")] = Server(),
    out: Annotated[Path | None, Parameter(help="Write the calibration into this folder: mine.")] = None,
    facts: Facts = None,
    json: Json = False,
) -> None:
    """Fit a set-up to your own measurements: vllm bench serve, sglang, genai-perf, aiperf, or requests.

    One run narrows the band; 20 requests and more, measured one by one, give the terms of a step.
    """
    from isocost.validate.benchmarks import read_runs
    from isocost.validate.calibrate import calibrate as fitted
    from isocost.validate.calibrate import write

    if not files:
        raise BadInput("no file", fix="Type isocost calibrate bench.json --gpu h100-sxm")
    runs = [run for file in files for run in read_runs(file)]
    catalog = load(facts)
    catalog, place = _place(catalog, runs, server)
    with working("fitting"):
        found = fitted(catalog.at(newest(catalog)), place, runs)
    if out is not None:
        write(found, out, ", ".join(file.name for file in files), date.today().isoformat())
    if json:
        return show_json(found)
    _show(found, place, out)
    return None


def _place(catalog: Catalog, runs: Sequence[Run], server: Server) -> tuple[Catalog, Place]:
    """The set-up that was measured, of what is said and of what the files say.

    Raises:
        BadInput: the accelerator or the model is not said.
        UnknownFact: one of them is not in the catalog.
    """
    from isocost.perf import gpu_id_of, model_id_of
    from isocost.perf.memory import cache_bytes_per_tok
    from isocost.replay.queue import BatchLimits
    from isocost.size.config import with_config
    from isocost.size.memory import Engine, memory_of
    from isocost.size.setups import Ask, one_setup
    from isocost.validate.calibrate import Place

    first = runs[0]
    said = first.settings
    name = server.model or first.model
    if not name:
        raise BadInput("the file does not say which model", fix="Add --model llama-3.3-70b")
    if server.gpu is None:
        raise BadInput("no file says which accelerator", fix="Add --gpu h100-sxm")
    if name.endswith(".json"):
        catalog, name = with_config(catalog, Path(name))
    at = catalog.at(newest(catalog))
    try:
        model, gpu = model_id_of(at, name), gpu_id_of(at, server.gpu)
    except UnknownModel as wrong:
        raise UnknownModel(
            wrong.what, fix="Name one that is known with --model, or give its config.json"
        ) from None

    def count(given: int | None, *names: str) -> int:
        stated = next((said[one] for one in names if isinstance(said.get(one), int | float)), None)
        return int(given if given is not None else stated or 1)

    tp = count(server.tp, "tensor_parallel_size", "tp_size", "tp")
    dp, pp = count(server.dp, "data_parallel_size", "dp_size"), count(server.pp, "pipeline_parallel_size")
    engine = server.engine or first.engine or "vllm"
    found = one_setup(
        at,
        model,
        Ask((gpu,), (tp * dp * pp,), (engine,), (server.precision,), (server.kv_dtype,)),
        (tp, pp, dp),
    )
    seqs = int(server.max_num_seqs or said.get("max_num_seqs") or at.number("engine/vllm", "max_num_seqs"))
    chunk = int(
        server.chunk
        or said.get("max_num_batched_tokens")
        or at.number("engine/vllm", "max_num_batched_tokens")
    )
    limits = Engine(chunk, seqs, int(at.number("memory/vllm", "block_tok")))
    memory = memory_of(
        at,
        found.arch,
        found.gpu,
        found.setup,
        found.constants,
        limits,
        at.number(f"model/{model}", "vocab_size"),
    )
    context = max(run.isl + run.osl for run in runs)
    room = float((found.setup.dp * memory.cache / cache_bytes_per_tok(found.arch, found.setup, context))[0])
    if room < context:
        raise BadInput(
            f"{model} does not fit {tp * dp * pp} x {gpu}", fix="Check --gpu, --tp and --precision"
        )
    return catalog, Place(model, gpu, engine, found, BatchLimits(chunk * dp, seqs * dp, int(room)))


def _show(found: Calibrated, place: Place, out: Path | None) -> None:
    changed = found.near["tpot"].value / found.tpot_before.value - 1.0
    way = "longer" if changed > 0 else "less"
    pace = "as long as predicted" if abs(changed) < 0.01 else f"{abs(changed):.0%} {way} than predicted"
    show(
        Text(f"{place.model} on {place.found.name(0)} ({place.engine}): a token takes {pace}", "bold"),
        f"  from {found.runs} run{'s' if found.runs != 1 else ''}"
        + (f" and {found.requests:,} requests measured one by one" if found.requests else ""),
        "",
    )
    table = grid(
        ("  measured over predicted", "l"),
        ("", "r"),
        ("80% band", "r"),
        ("either way", "r"),
    )
    for name, before, near, now in (
        ("TPOT", found.tpot_before, found.near["tpot"], found.tpot),
        ("TTFT", found.ttft_before, found.near["ttft"], found.ttft),
    ):
        for when, ratio in (("before", before), ("now, at such loads", near), ("now, at other loads", now)):
            first = f"  {name}, {when}" if when == "before" else f"  {' ' * len(name)}  {when}"
            half = math.sqrt(ratio.high / ratio.low) - 1.0
            table.add_row(first, f"{ratio.value:.2f}", _band(ratio), f"{half:.0%}")
    show(table, "")
    table = grid(("  error on what was not fitted", "l"), ("before", "r"), ("now", "r"), ("compared", "r"))
    for name, error in found.errors.items():
        now_said = "-" if math.isnan(error.after) else f"{error.after:.1%}"
        table.add_row(
            f"  {name if ' ' in name else f'{name} by run'}",
            f"{error.before:.1%}",
            now_said,
            f"{error.compared:,}",
        )
    show(table)
    if found.percentiles:
        table = grid(("  requests not fitted", "l"), ("before", "r"), ("now", "r"), ("measured", "r"))
        for one in found.percentiles:
            cells = [_time(x) for x in (one.before_s, one.after_s, one.measured_s)]
            table.add_row(f"  {one.metric} p{one.percentile}", *cells)
        show("", table)
    if any(math.isnan(error.after) for error in found.errors.values()) and found.runs < 2:
        show(wrapped("One run leaves nothing to compare with: a second one, at another load, would."))
    show(
        "",
        wrapped(
            f"Holds for this model, accelerator, engine and formats, at {_span(found.concurrency)} requests "
            f"in flight, prompts of {_span(found.isl)} and answers of {_span(found.osl)} tokens. Another "
            "layout or format of the model on the same accelerator borrows the ratio with a wider band; "
            "another accelerator or model takes nothing of it."
        ),
    )
    if out is None:
        show("", "  Keep it: add --out mine")
    else:
        show(
            "",
            f"  Wrote {out}. Next:",
            f"  isocost size {place.model} --calibration {out} --rate 5 --isl 2000 --osl 300",
            f"  isocost plan LOG --facts {out}",
        )


def _span(ends: tuple[float, float]) -> str:
    low, high = (f"{end:,.0f}" for end in ends)
    return low if low == high else f"{low} to {high}"


def _band(one: Ratio) -> str:
    return f"{one.low:.2f} to {one.high:.2f}"


def _time(seconds: float) -> str:
    return f"{seconds * 1e3:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"
