"""Answers to rows of published training costs: one small function a kind of row.

Each takes the row's name, metric and inputs and returns ``(value, how)``, or more of the fields of
``validate.training.Answer``. None sees what the row publishes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from datetime import date
from typing import Any, NamedTuple

from isocost.catalog import Catalog, CatalogAt
from isocost.develop import compute, published
from isocost.develop.optimum import Prices, life_optimal, point
from isocost.develop.posterior import mfu_spread
from isocost.develop.published import ANY, METHOD, Run
from isocost.develop.published_programme import Part, disclosed, method_interval, programme
from isocost.develop.scaling import budget_for, law, loss, tokens_for
from isocost.errors import UnknownFact
from isocost.validate.written import day

Inputs = Mapping[str, Any]
Found = tuple[Any, ...]
COMPUTED, LOOKED_UP, FORECAST, DRAWN = "computed", "looked up", "forecast", "drawn"
SCALE: Mapping[str, float] = {"k": 1e3, "m": 1e6, "b": 1e9, "t": 1e12, "": 1.0}
WORDS = frozenset(
    {"pub", "ppi_from", "ppi_to", "org", "vendor", "hardware", "gpu", "method", "data", "models", "seed"}
)
"""Inputs that are words or days, whatever digits they hold."""
AMOUNTS = (
    "n_chips", "hours", "chip_hours", "flop", "mfu", "hw_value_per_chip_at_start", "acq_price_per_chip",
    "cloud_usd_chip_h_3ycud",
)  # fmt: skip
"""Amounts of a run, in the order of ``Run``."""
HOURLY = re.compile(r"_h$|hour|_hr$")
CLOUDS: Mapping[str, str] = {
    "aws": "aws",
    "amazon": "aws",
    "azure": "azure",
    "microsoft": "azure",
    "google": "google",
}
PARTS: Mapping[str, str] = {
    "staff": "staff", "accelerator": "chips", "server": "servers", "interconnect": "network",
    "energy": "energy", "total": "total",
}  # fmt: skip
CONSTANTS: Mapping[str, str] = {
    "e": "loss_floor", "a": "params_factor", "b": "tok_factor", "alpha": "params_power", "beta": "tok_power",
    "alpha_n": "params_power", "alpha_d": "tok_power", "n_c": "params_scale", "d_c": "tok_scale",
    "gamma": "sum_power", "c0": "teacher_power", "c1": "gap_power", "f1": "gap_width", "d1": "gap_ratio",
}  # fmt: skip
LAWS: Mapping[str, str] = {
    "hoffmann": "hoffmann-3",
    "besiroglu": "besiroglu",
    "kaplan": "kaplan",
    "busbridge": "busbridge",
}
INFERENCE_LAW = "hoffmann-3-precise"
KWH_IN: Mapping[str, float] = {"kwh": 1.0, "mwh": 1e3, "gwh": 1e6}
LITRES_IN: Mapping[str, float] = {"l": 1.0, "kl": 1e3, "m3": 1e3}
EVEN = Prices(1.0, 1.0)
"""Work in training and serving at one price, so that dollars are operations."""


class Case(NamedTuple):
    """What a row asks; it does not hold what the row publishes."""

    ident: str
    kind: str
    metric: str
    inputs: Inputs
    unit: str


def answer(catalog: Catalog, case: Case) -> Found:
    """Our answer to a row.

    Raises:
        UnknownFact: the row states too little, and the catalog does not hold the rest.
        KeyError: an input that its kind needs is absent.
    """
    if case.kind not in KINDS and "pub" in case.inputs:
        return _cost(catalog, case)
    if case.kind not in KINDS:
        raise UnknownFact(f"rows of the kind {case.kind!r} are not known", where=case.ident)
    return KINDS[case.kind](catalog, case)


def chip_id(name: str) -> str:
    """The catalog's id of an accelerator as tables of training runs write it.

    >>> chip_id("NVIDIA A100 SXM4 40 GB")
    'nvidia-a100-sxm4-40-gb'
    """
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def peak_of(at: CatalogAt, name: str) -> float:
    """Peak throughput of an accelerator as tables write it: its own, else of one that its name begins.

    Raises:
        UnknownFact: no accelerator of the catalog has the name.
    """
    ident = chip_id(name)
    own = at.find(f"chip/{ident}", "flop_per_s")
    if own is not None:
        return float(own.value)
    word = max(re.findall(r"[a-z]+\d+[a-z]*", ident), key=len, default="")
    alike = sorted((one for one in at.catalog.subjects("chip/") if word and word in one), key=len)
    return at.number(alike[0] if alike else f"chip/{ident}", "flop_per_s")


def run_of(ident: str, inputs: Inputs) -> Run:
    """The run that a row describes; an amount that is no number above zero is not stated.

    Raises:
        UnknownFact: the day of publication is not stated.
    """
    published_on = day(str(inputs.get("pub", "")))
    if published_on is None:
        raise UnknownFact("the day of publication is not stated", where=ident)
    return Run(
        ident.partition(":")[2] or ident,
        str(inputs.get("org", "")),
        published_on,
        chip_id(str(inputs.get("hardware", ""))),
        *(positive(inputs, name) for name in AMOUNTS),
    )


def positive(inputs: Inputs, name: str) -> float | None:
    """An input as a number above zero; ``None`` where it is not stated as one.

    >>> positive({"hours": 3}, "hours"), positive({"hours": "long"}, "hours"), positive({}, "hours")
    (3.0, None, None)
    """
    value = inputs.get(name)
    return float(value) if isinstance(value, int | float) and value > 0.0 else None


def _months_of(case: Case, run: Run) -> tuple[date, date]:
    """Months of the money of a run and of what is published: as stated, else by its day and its unit."""
    then = day(str(case.inputs.get("ppi_from", ""))) or run.published.replace(day=1)
    stated = re.search(r"([A-Za-z]{3})[a-z]*[- ](\d{4})|(\d{4}-\d{2})", case.unit)
    of_unit = day(f"{stated[1]} {stated[2]}" if stated[1] else stated[3]) if stated else None
    return then, day(str(case.inputs.get("ppi_to", ""))) or of_unit or then


def _cost(catalog: Catalog, case: Case) -> Found:
    run = run_of(case.ident, case.inputs)
    if case.metric.startswith("amortised"):
        usd = published.amortised_usd(catalog, run)
    elif "acquisition" in case.metric:
        usd = published.acquisition_usd(catalog, run)
    elif "rent" in case.metric or "cloud" in case.metric:
        usd = published.rent_usd(catalog, run)
    else:
        raise UnknownFact(f"no boundary is called {case.metric!r}", where=case.ident)
    then, now = (published.index_level(catalog, month) for month in _months_of(case, run))
    return published.restated(usd, then, now), COMPUTED


def _drawn(catalog: Catalog, name: str, month: date) -> dict[str, Part]:
    """Parts of a programme in money of a month: drawn once for all of its rows."""
    return programme(catalog, disclosed(catalog, name), month)


def _programme(catalog: Catalog, case: Case) -> Found:

    stated = re.search(r"(\d{4})-(\d{2})", case.unit)
    month = date(int(stated[1]), int(stated[2]), 1) if stated else date.today()
    parts = catalog.once(_drawn, case.ident.partition(":")[2], month)
    for word, part in PARTS.items():
        if word in case.metric.lower():
            found = parts[part]
            return found.median_usd, DRAWN, math.nan, math.nan, found.error_frac
    raise UnknownFact(f"no part of a programme is called {case.metric!r}", where=case.ident)


def _ratio(_: Catalog, case: Case) -> Found:
    return case.inputs["total"] / case.inputs["final_run_capex_energy"], COMPUTED


def _method_interval(catalog: Catalog, case: Case) -> Found:
    low, high = method_interval(catalog, str(case.inputs["hardware"]).lower())
    return 1.0, COMPUTED, low, high


def _trend(catalog: Catalog, case: Case) -> Found:
    if {"a", "b", "years"} <= set(case.inputs):
        return (case.inputs["a"] / case.inputs["b"]) ** (1.0 / case.inputs["years"]), COMPUTED
    return catalog.at(ANY).number("disclosed/frontier", "cost_growth_per_year"), LOOKED_UP


def _discount(catalog: Catalog, case: Case) -> Found:
    cloud = next((name for word, name in CLOUDS.items() if word in str(case.inputs["vendor"]).lower()), "")
    years = re.search(r"(\d)-?\s*y", case.metric)
    if not cloud or years is None:
        raise UnknownFact("the cloud or the term is not known", where=case.ident)
    when = f"cloud={cloud};term={years[1]}y"
    return catalog.at(ANY).number(METHOD, "commitment_discount_frac", when), LOOKED_UP


def _hours(catalog: Catalog, case: Case) -> Found:
    """Hours from tokens and speed where both are stated; else a forecast from compute."""
    at = catalog.at(ANY)
    if {"active_params", "tokens"} <= set(case.inputs):
        flop = compute.dense_flop(6.0, case.inputs["active_params"], case.inputs["tokens"])
    elif "flop" in case.inputs:
        flop = case.inputs["flop"]
    else:
        return _disclosed(at, case.ident, "chip_hours"), LOOKED_UP
    gpu = str(case.inputs.get("gpu", case.inputs.get("hardware", "")))
    peak = next((value for key, value in case.inputs.items() if key.startswith("peak")), None)
    if peak is None:
        peak = peak_of(at, gpu)
    spread = mfu_spread(at, gpu)
    low, high = spread.ends(0.9)
    middle, least, most = (compute.gpu_hours(flop, peak, frac) for frac in (spread.median, high, low))
    return middle, FORECAST, least, most


def _energy(catalog: Catalog, case: Case) -> Found:
    if "kw" in case.inputs:
        return _quantity(case.inputs, "hours") * case.inputs["kw"], COMPUTED
    if "watts" in case.inputs:
        return _quantity(case.inputs, "hours") * case.inputs["watts"] / compute.W_PER_KW, COMPUTED
    at, subject = catalog.at(ANY), _subject(catalog, case.ident, "energy_kwh")
    scale = KWH_IN[case.unit.lower()]
    parts = [at.find(subject, one) for one in ("flop", "tflop_per_s_per_chip", "chip_kw", "pue")]
    if all(parts):
        flop, speed, power, pue = (float(one.value) for one in parts if one is not None)
        return compute.gpu_hours(flop, speed * 1e12, 1.0) * power * pue / scale, COMPUTED
    return at.number(subject, "energy_kwh") / scale, LOOKED_UP


def _carbon(catalog: Catalog, case: Case) -> Found:
    factor = next((value for key, value in case.inputs.items() if "kg_per_kwh" in key), None)
    tonnes = [value for key, value in case.inputs.items() if key.endswith("_t") or key == "dynamic"]
    if factor is not None:
        if "mwh" in case.inputs:
            kwh = case.inputs["mwh"] * 1e3
        elif "kwh" in case.inputs:
            kwh = case.inputs["kwh"]
        else:
            kwh = _energy(catalog, case)[0]
        return compute.carbon_t(kwh, factor * 1e3), COMPUTED
    if tonnes:
        return math.fsum(tonnes), COMPUTED
    return _disclosed(catalog.at(ANY), case.ident, "tco2e"), LOOKED_UP


def _rental(_: Catalog, case: Case) -> Found:
    prices = [value for key, value in case.inputs.items() if key.startswith("usd") and HOURLY.search(key)]
    if not prices:
        raise UnknownFact("no price of an hour is stated", where=case.ident)
    return _quantity(case.inputs, "hours") * prices[0], COMPUTED


def _sum_in_words(_: Catalog, case: Case) -> Found:
    """A total against parts that the metric names: ``… vs Scout 5.0M + Maverick 2.38M``."""
    parts = re.findall(r"([\d.]+)\s*([kKmMbBtT]?)\b", case.metric.rpartition(" vs ")[2])
    if not parts:
        raise UnknownFact("the metric names no parts", where=case.ident)
    return math.fsum(float(number) * SCALE[letter.lower()] for number, letter in parts), COMPUTED


def _share(catalog: Catalog, case: Case) -> Found:
    wanted = "development_over_training" if "/" in case.metric else "development_share"
    return _disclosed(catalog.at(ANY), case.ident, wanted), LOOKED_UP


def _water(catalog: Catalog, case: Case) -> Found:
    litres = _disclosed(catalog.at(ANY), case.ident, "water_l")
    return litres / LITRES_IN[case.unit.lower()], LOOKED_UP


def _post_training(catalog: Catalog, case: Case) -> Found:
    return _disclosed(catalog.at(ANY), case.ident, "reasoning_over_instruct"), LOOKED_UP


def _finetune(catalog: Catalog, case: Case) -> Found:
    at = catalog.at(ANY)
    if "lora" in case.inputs:
        full = next(value for key, value in case.inputs.items() if key.startswith("full"))
        return case.inputs["lora"] / full, COMPUTED
    for attribute in ("finetune_usd", "finetune_usd_most"):
        try:
            return _disclosed(at, case.ident, attribute), LOOKED_UP
        except UnknownFact:
            continue
    raise UnknownFact("no disclosed fine-tune of that name", where=case.ident)


def _data(catalog: Catalog, case: Case) -> Found:
    return _disclosed(catalog.at(ANY), case.ident, "data_usd_most"), LOOKED_UP


def _constant(catalog: Catalog, case: Case) -> Found:
    """A constant of a published law; one that was stated from memory is no answer."""
    plain = case.ident.lower()
    others = {one.partition("/")[2]: one.partition("/")[2] for one in catalog.subjects("scaling/")}
    name = next((value for word, value in {**LAWS, **others}.items() if word in plain), "")
    metric = case.metric.replace("_", "").rstrip("'′ ") if name == "busbridge" else case.metric
    attribute = CONSTANTS.get(metric, "")
    when = "of=supervised" if "supervised" in case.ident else "of=distilled" if name == "busbridge" else ""
    fact = catalog.at(ANY).find(f"scaling/{name}", attribute, when) if name and attribute else None
    if fact is None:
        raise UnknownFact(f"no law has a constant {case.metric!r}", where=case.ident)
    if fact.kind == "assumed":
        raise UnknownFact("the catalog holds it from memory alone", where=fact.id)
    return float(fact.value), LOOKED_UP


def _life(catalog: Catalog, case: Case) -> Found:
    """Training and serving at least work for the quality of a compute-optimal size (Sardana et al.)."""
    one = law(catalog.at(ANY), INFERENCE_LAW)
    params, served = float(case.inputs["n_chin"]), float(case.inputs["d_inf"])
    trained = point(one, params, budget_for(one, params) / (6.0 * params), served, EVEN)
    best = life_optimal(one, trained.loss, served, EVEN)
    stated = re.search(r"([\d.]+)\s*b replacement", case.metric)
    if stated is not None:
        size = float(stated[1]) * 1e9
        best = point(one, size, tokens_for(one, size, loss(one, params, trained.training_tok)), served, EVEN)
    words = case.metric
    if "param" in words:
        return best.params, COMPUTED
    if "multiple" in words:
        return best.training_tok / trained.training_tok, COMPUTED
    if "token" in words:
        return best.training_tok, COMPUTED
    if "flops saved" in words:
        return trained.flop - best.flop, COMPUTED
    if "saving" in words:
        return 1.0 - best.flop / trained.flop, COMPUTED
    raise UnknownFact(f"nothing of an optimum is called {case.metric!r}", where=case.ident)


def _progress(catalog: Catalog, _: Case) -> Found:
    return catalog.at(ANY).number("disclosed/language-models", "halving_months"), LOOKED_UP


def _reliability(catalog: Catalog, case: Case) -> Found:
    rate = catalog.at(ANY).number("disclosed/llama-3-405b", "interruptions_per_chip_day")
    return rate * case.inputs["gpus"] * case.inputs["days"], COMPUTED


def _quantity(inputs: Inputs, what: str) -> float:
    """Accelerator- or node-hours: stated as such, or machines times their hours."""
    for key, value in inputs.items():
        if key.endswith(f"_{what}"):
            return float(value)
    machines = next(
        (value for key, value in inputs.items() if key in ("gpus", "chips", "nodes", "n_chips")), None
    )
    hours = inputs.get(what, inputs.get("days", 0.0) * 24.0)
    if machines is None or not hours:
        raise KeyError(what)
    return float(machines) * float(hours)


def _subject(catalog: Catalog, ident: str, attribute: str) -> str:
    """The disclosure that a row's name is about: the one with the longest common beginning."""
    plain = re.sub(
        r"[^a-z0-9]+", "-", ident.lower().removesuffix(" project").partition(":")[2] or ident.lower()
    )
    words = plain.replace("-project", "").strip("-")
    named = catalog.having(attribute, "disclosed/")
    for subject in sorted(named, key=len, reverse=True):
        ident_words = subject.partition("/")[2]
        if words == ident_words or words.startswith(ident_words) or ident_words.startswith(words):
            return subject
    raise UnknownFact(f"no disclosure of {attribute}", where=ident)


def _disclosed(at: CatalogAt, ident: str, attribute: str) -> float:
    return at.number(_subject(at.catalog, ident, attribute), attribute)


KINDS: Mapping[str, Callable[[Catalog, Case], Found]] = {
    "training_cost_epoch": _cost,
    "development_cost": _programme,
    "total_over_raw_multiplier": _ratio,
    "uncertainty": _method_interval,
    "trend": _trend,
    "discount": _discount,
    "gpu_hours": _hours,
    "training_energy": _energy,
    "training_carbon": _carbon,
    "rental_cost": _rental,
    "inconsistency": _sum_in_words,
    "development_share": _share,
    "water": _water,
    "post_training_ratio": _post_training,
    "finetune": _finetune,
    "data": _data,
    "scaling_law": _constant,
    "distillation_law": _constant,
    "inference_optimal": _life,
    "algorithmic_progress": _progress,
    "reliability": _reliability,
}
"""The function that answers each kind of row."""
