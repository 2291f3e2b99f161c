"""The ways to a model: from scratch, tuned in full or by adapter, distilled, tuned by a host, bought.

Each is a book of products of facts, so that scenarios re-cost it. Facts read: ``slm/*``,
``development/*``, ``staff/*``, ``ops/evaluation``, ``storage/egress``, ``rental/*``, ``energy/*``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import NamedTuple

import msgspec

from isocost.catalog import CatalogAt
from isocost.catalog.names import resolve
from isocost.catalog.prices import Rates, rates
from isocost.develop import compute
from isocost.develop.ask import Ask
from isocost.develop.book import Book, Term, given, over, term
from isocost.develop.hardware import Accelerator, accelerator, rent_term, server_kw_per_gpu
from isocost.develop.posterior import experiments, mfu_fact
from isocost.develop.scaling import FLOP_PER_PARAM_TOK
from isocost.errors import UnknownPrice
from isocost.units import WEEKS_PER_YEAR

ANY = "slm/any"
SMALL = "slm/lora-8b"
"""Tuning of models that a host asks its price of small ones for."""
SCRATCH = "development/scratch"
MEGA = 1e6


class Way(msgspec.Struct, frozen=True):
    """One way: what it costs once, by account, and what its final run takes.

    ``gpu_h`` is of the run that is kept; ``gpus`` hold the model, ``days`` is how long the run lasts on
    them. ``kwh`` and ``tco2e`` count every run, experiments included.
    """

    name: str
    title: str
    book: Book
    gpu_h: float = 0.0
    gpus: int = 0
    days: float = 0.0
    kwh: float = 0.0
    tco2e: float = 0.0
    note: str = ""


class Site(NamedTuple):
    """Where training runs: the accelerator, its rent and utilisation, power and carbon."""

    at: CatalogAt
    ask: Ask
    gpu: Accelerator
    rent: Term
    kw: float
    gco2e_per_kwh: float

    def used(
        self, name: str, title: str, book: Book, gpu_h: float, times: float, gpus: int, note: str
    ) -> Way:
        """A way with the energy of ``times`` its final run."""
        kwh = gpu_h * times * self.kw
        days = gpu_h / gpus / 24.0 if gpus else 0.0
        return Way(name, title, book, gpu_h, gpus, days, kwh, compute.carbon_t(kwh, self.gco2e_per_kwh), note)


def site(at: CatalogAt, ask: Ask) -> Site:
    """Where the model of an ask would be trained."""
    from isocost.develop.hardware import region

    gpu = accelerator(at, ask.gpu)
    rent = given("usd_per_gpu_h", ask.usd_per_gpu_h) if ask.usd_per_gpu_h else rent_term(at, gpu.ident)
    carbon = float(region(at, ask.region, "gco2e_per_kwh").value)
    return Site(at, ask, gpu, rent, server_kw_per_gpu(at, gpu), carbon)


def ways(at: CatalogAt, ask: Ask) -> tuple[Way, ...]:
    """Every way that the ask states enough for, in the order of the words of this module."""
    here = site(at, ask)
    return tuple(way for make in MAKERS.values() if (way := make(here)) is not None)


def way(at: CatalogAt, ask: Ask, name: str) -> Way | None:
    """One way; ``None`` where the ask states too little for it."""
    return MAKERS[name](site(at, ask))


def run_flop(at: CatalogAt, ask: Ask) -> float:
    """Operations of training from scratch: weights and causal attention."""
    layers = ask.layers or compute.depth_of(ask.active, at.number("development/any", "aspect_ratio"))
    width = ask.hidden_size or layers * at.number("development/any", "aspect_ratio")
    return compute.training_flop(FLOP_PER_PARAM_TOK, ask.active, ask.tokens, layers, width, ask.context_tok)


def run_hours(at: CatalogAt, ask: Ask, gpu: Accelerator) -> tuple[float, Term]:
    """Hours of the final run from scratch as a number and the term it is divided by.

    Stated hours do not move; else they follow from operations and utilisation.
    """
    if ask.gpu_hours is not None:
        return ask.gpu_hours, given("gpu_hours", 1.0)
    use = term(mfu_fact(at, gpu.ident)) if ask.mfu_frac is None else given("mfu_frac", ask.mfu_frac)
    return compute.gpu_hours(run_flop(at, ask), gpu.flop_per_s, 1.0), over(use)


def cluster(at: CatalogAt, ask: Ask, gpu: Accelerator, gpu_h: float) -> int:
    """Accelerators for the final run: as asked, else those that end it in the usual time and hold it."""
    if ask.gpus is not None:
        return ask.gpus
    usual = at.number("training/published-method", "run_h")
    least = int(at.number("development/any", "cluster_chips"))
    held = _full_gpus(at, ask.params, gpu)
    while least * usual < gpu_h or least < held:
        least *= 2
    return least


def scratch(here: Site) -> Way | None:
    """Training from scratch on rented accelerators: runs, data, people, evaluation, infrastructure."""
    at, ask = here.at, here.ask
    if not ask.tokens and ask.gpu_hours is None:
        return None
    fact = at.fact
    hours, use = run_hours(at, ask, here.gpu)
    trials = term(experiments(at))
    book = Book("scratch")
    final = (hours, use, here.rent)
    book.add("training-from-scratch", "the final run, rented", "h", *final)
    book.add("experiments", "experiments and failed runs", "h", hours, use, trials, here.rent)
    extra = term(fact(SCRATCH, "infrastructure_over_compute"))
    book.add("compute-infrastructure", "storage, network, idle: final run", "h", hours, use, extra, here.rent)
    book.add(
        "compute-infrastructure",
        "storage, network, idle: experiments",
        "h",
        hours,
        use,
        trials,
        extra,
        here.rent,
    )
    clean = fact(SCRATCH, "data_usd_per_mtok")
    data = term(clean) if ask.data_usd_per_mtok is None else given("data_usd_per_mtok", ask.data_usd_per_mtok)
    book.add("data", "getting and cleaning text", "Mtok", ask.tokens / MEGA, data)
    tests = term(fact(SCRATCH, "evaluation_over_compute"))
    book.add("safety-evaluation", "benchmarks and safety tests", "h", hours, use, tests, here.rent)
    _grade(here, book)
    salary = _salary(at)
    if ask.staff_years is not None:
        book.add("development-staff", "people", "year", 1.0, given("staff_years", ask.staff_years), *salary)
    else:
        book.add(
            "development-staff", "the core team", "year", 1.0, term(fact(SCRATCH, "core_fte_years")), *salary
        )
        more = term(fact(SCRATCH, "staff_over_compute"))
        book.add("development-staff", "people as compute grows", "h", hours, use, more, here.rent)
        book.add("development-staff", "people as experiments grow", "h", hours, use, trials, more, here.rent)
    gpu_h = hours * use.value
    gpus = cluster(at, ask, here.gpu, gpu_h)
    note = "a base model; it still needs tuning for a task"
    return here.used("scratch", "train from scratch", book, gpu_h, 1.0 + trials.value, gpus, note)


def full(here: Site) -> Way:
    """Full fine-tuning of open weights."""
    return _tuned(here, "full", "full fine-tune", _full_gpus(here.at, here.ask.params, here.gpu))


def lora(here: Site) -> Way:
    """LoRA on open weights: two thirds of the operations, a fraction of the memory."""
    at, any_ = here.at, "development/any"
    held = compute.adapter_bytes(
        here.ask.params,
        at.number(any_, "adapter_frac"),
        at.number(any_, "frozen_bytes_per_param"),
        at.number(any_, "optimizer_bytes_per_param"),
    )
    return _tuned(here, "lora", "LoRA fine-tune", _gpus(at, held, here.gpu))


def distil(here: Site) -> Way:
    """A teacher writes the examples, priced from the catalog; the student is tuned on them in full."""
    at, ask = here.at, here.ask
    teacher = ask.tune.teacher or at.text("slm/distil", "teacher")
    book = Book("distil")
    many = _many(here, "slm/distil")
    reads, writes = _token_price(at, teacher)
    book.add("distillation", "prompts that the teacher reads", "Mtok", 1.0 / MEGA, many, _length(here), reads)
    answers = term(at.fact(ANY, "teacher_tok_per_example"))
    book.add("distillation", "answers that the teacher writes", "Mtok", 1.0 / MEGA, many, answers, writes)
    gpu_h, times = _train(here, book, "slm/full", many, "distillation")
    _label(here, book, many)
    _grade(here, book)
    _people(here, book)
    gpus = _full_gpus(at, ask.params, here.gpu)
    return here.used("distil", "distil from a teacher", book, gpu_h, times, gpus, f"teacher {teacher}")


def hosted(here: Site) -> Way:
    """Fine-tuning by a host, by the million training tokens."""
    at, ask = here.at, here.ask
    book = Book("hosted")
    many = _many(here, ANY)
    subject = SMALL if ask.params <= at.number(SMALL, "most_params") else "slm/lora-70b"
    price = term(at.fact(subject, "usd_per_mtok_training"))
    work = (1.0 / MEGA, many, _length(here), _epochs(here))
    book.add("fine-tuning", "the run that is kept", "Mtok", *work, price)
    book.add("experiments", "runs beside it", "Mtok", *work, _beside(here), price)
    _label(here, book, many)
    _grade(here, book)
    _people(here, book)
    return Way("hosted", "hosted fine-tune", book, note=f"${price.value:g} a million training tokens")


def buy(here: Site) -> Way:
    """An API: nothing is made; people connect and test it, and every token is paid for."""
    at, ask = here.at, here.ask
    book = Book("buy")
    weeks = term(at.fact("staff/api", "launch_weeks"))
    book.add(
        "acquisition", "connecting and testing an API", "year", 1.0 / WEEKS_PER_YEAR, weeks, *_salary(at)
    )
    _grade(here, book)
    name = ask.serve.api or at.text("slm/buy", "api")
    reads, writes = _token_price(at, name)
    monthly = ask.serve.input_mtok_per_month * reads.value + ask.serve.output_mtok_per_month * writes.value
    note = f"{name}: ${reads.value:g} in, ${writes.value:g} out a million tokens"
    return Way("buy", "buy (API)", book, note=f"{note}; ${monthly:,.0f} a month" if monthly else note)


MAKERS: Mapping[str, Callable[[Site], Way | None]] = {
    "scratch": scratch,
    "full": full,
    "lora": lora,
    "distil": distil,
    "hosted": hosted,
    "buy": buy,
}
"""The function of each way."""


def _tuned(here: Site, name: str, title: str, gpus: int) -> Way:
    book = Book(name)
    many = _many(here, "slm/lora" if name == "lora" else ANY)
    gpu_h, times = _train(here, book, f"slm/{name}", many, "fine-tuning")
    _label(here, book, many)
    _grade(here, book)
    _people(here, book)
    return here.used(name, title, book, gpu_h, times, gpus, "")


def _train(here: Site, book: Book, subject: str, many: Term, account: str) -> tuple[float, float]:
    """Book the run that is kept and those beside it; hours of one run, and how many there are."""
    at = here.at
    work = term(at.fact(subject, "flop_per_param_tok"))
    use = over(term(at.fact(ANY, "mfu_frac")))
    per_unit = compute.gpu_hours(here.ask.active, here.gpu.flop_per_s, 1.0)
    terms = (per_unit, work, use, many, _length(here), _epochs(here))
    book.add(account, "the run that is kept", "h", *terms, here.rent)
    beside = _beside(here)
    book.add("experiments", "runs beside it", "h", *terms, beside, here.rent)
    hours = per_unit
    for one in terms[1:]:
        assert isinstance(one, Term)
        hours *= one.value
    return hours, 1.0 + beside.value


def _beside(here: Site) -> Term:
    """Runs for each one that is kept, without that one."""
    if here.ask.tune.experiments is not None:
        return given("experiments", max(0.0, here.ask.tune.experiments - 1.0))
    fact = here.at.fact(ANY, "experiments")
    value = float(fact.value) - 1.0
    low, high = (end - 1.0 if end is not None else value for end in (fact.low, fact.high))
    return Term(fact.id, value, low / value, high / value)


def _label(here: Site, book: Book, many: Term) -> None:
    checked = _stated(here, ANY, "checked_frac", here.ask.tune.checked_frac)
    price = _stated(here, ANY, "usd_per_label", here.ask.tune.usd_per_label)
    book.add("data", "examples checked by people", "label", 1.0, many, checked, price)


def _grade(here: Site, book: Book) -> None:
    many, price = (
        term(here.at.fact(ANY, "eval_examples")),
        term(here.at.fact("ops/evaluation", "usd_per_sample")),
    )
    book.add("safety-evaluation", "answers graded before release", "sample", 1.0, many, price)


def _people(here: Site, book: Book) -> None:
    weeks = _stated(here, ANY, "engineer_weeks", here.ask.tune.engineer_weeks)
    book.add(
        "development-staff",
        "data, training, evaluation, release",
        "year",
        1.0 / WEEKS_PER_YEAR,
        weeks,
        *_salary(here.at),
    )


def _salary(at: CatalogAt) -> tuple[Term, Term]:
    return term(at.fact("staff/any", "loading_ratio")), term(at.fact("staff/ml-engineer", "usd_per_year"))


def _many(here: Site, subject: str) -> Term:
    return _stated(here, subject, "examples", here.ask.tune.examples)


def _length(here: Site) -> Term:
    return _stated(here, ANY, "tok_per_example", here.ask.tune.tok_per_example)


def _epochs(here: Site) -> Term:
    return _stated(here, ANY, "epochs", here.ask.tune.epochs)


def _stated(here: Site, subject: str, attribute: str, value: float | None) -> Term:
    return term(here.at.fact(subject, attribute)) if value is None else given(attribute, value)


def _token_price(at: CatalogAt, name: str) -> tuple[Term, Term]:
    """Price of a million tokens that an API reads and writes.

    Raises:
        UnknownPrice: one of both is not known.
    """
    offering = resolve(at, name)
    found: Rates = rates(at, offering)
    prices = [found.meters.get(meter) for meter in ("input", "output")]
    if prices[0] is None or prices[1] is None:
        raise UnknownPrice("the price of input or output is not known", where=offering.subject)
    first, second = (given(one.facts[0], float(Decimal(one.usd))) for one in prices if one is not None)
    return first, second


def _full_gpus(at: CatalogAt, params: float, gpu: Accelerator) -> int:
    return _gpus(
        at, compute.full_bytes(params, at.number("development/any", "optimizer_bytes_per_param")), gpu
    )


def _gpus(at: CatalogAt, held_bytes: float, gpu: Accelerator) -> int:
    return compute.gpus_for(held_bytes, gpu.memory_bytes, at.number("development/any", "memory_usable_frac"))
