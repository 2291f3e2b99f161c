"""Engineers who run an application: whole steps of people, by fleet and services; devices and porting.

Facts read: ``staff/*``, ``porting/*``, ``device/any``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from isocost.develop.book import Term
from isocost.errors import UnknownFact
from isocost.keep.ask import OWN, Ask
from isocost.keep.book import Keep
from isocost.units import WEEKS_PER_YEAR

STAFF: Mapping[str, str] = {
    "api": "api",
    "hosted": "hosted-open",
    "selfhost": "self-hosted",
    "slm": "self-hosted",
}
"""Subject ``staff/...`` that states the people an option takes."""
LAUNCH: Mapping[str, str] = {"api": "api", "hosted": "hosted-open", "selfhost": "self-hosted", "slm": "slm"}
"""Subject ``staff/...`` that states the weeks until an option serves."""
WORDS: Mapping[str, str] = {
    "api": "an API",
    "hosted": "hosted open weights",
    "selfhost": "own replicas",
    "slm": "an own small model",
}

LAST_BIT = 1e-9


def steps(amount: float, step: float) -> float:
    """An amount in whole steps, upwards.

    >>> steps(0.0, 0.25), steps(0.26, 0.25), steps(0.5, 0.25)
    (0.0, 0.5, 0.5)
    """
    return math.ceil(amount / step - LAST_BIT) * step


def needed_fte(
    base_fte: float, step_fte: float, services: int, services_per_step: float, for_gpus_fte: float
) -> float:
    """People for services and accelerators: the base for the first, a step for each further group.

    >>> needed_fte(0.5, 0.25, 1, 2.0, 0.0), needed_fte(0.5, 0.25, 4, 2.0, 0.3)
    (0.5, 1.5)
    """
    further = math.ceil((services - 1) / services_per_step - LAST_BIT) * step_fte
    return steps(base_fte, step_fte) + further + steps(for_gpus_fte, step_fte)


def keep_running(book: Keep, ask: Ask) -> float:
    """Book the people who run it; how many they are.

    The ends of their number are those of all its facts together: they are guesses of one kind.
    """
    own, at = ask.option in OWN, book.at
    staff = f"staff/{STAFF[ask.option]}"
    named = [
        at.fact(staff, "fte"),
        at.fact("staff/any", "fte_step"),
        at.fact("staff/any", "services_per_step"),
        at.fact("staff/any", "held_gpus"),
    ]
    further_gpu = at.find(staff, "fte_per_gpu") if own else None
    further_model = at.find(staff, "fte_per_model") if own else None

    def people(end: int) -> float:
        def of(position: int, turned: bool = False) -> float:
            return named[position].ends[2 - end if turned else end]

        beyond = max(0.0, ask.own.gpus - of(3, turned=True)) if further_gpu else 0.0
        gpus = beyond * further_gpu.ends[end] if further_gpu else 0.0
        step = float(named[1].value)
        group = of(2, turned=True)
        if further_model:
            step_more = max(step, further_model.ends[end])
            models = (ask.services - 1) * step_more
            return steps(of(0), step) + steps(models, step) + steps(gpus, step)
        return needed_fte(of(0), step, ask.services, group, gpus)

    low, mid, high = (max(0.0, people(end) - ask.held_fte) for end in range(3))
    if mid:
        count = Term(named[0].id, mid, max(low / mid, 0.05), max(high / mid, 1.0))
        what = f"people who run {WORDS[ask.option]}"
        book.add("operations-staff", what, "year", 1.0 / book.months(), count, *book.salary())
    return mid


def keep_devices(book: Keep, ask: Ask) -> None:
    """Book what models on devices take: people for each platform, and models sent out."""
    if ask.device is None:
        return
    each = book.fact("device/any", "fte_per_platform")
    month = 1.0 / book.months()
    book.add("edge", "people for the platforms", "year", ask.device.platforms * month, each, *book.salary())
    size = book.fact("device/any", "model_gb")
    often = book.fact("device/any", "updates_per_year")
    sent = book.fact("storage/egress", "usd_per_gb")
    book.add("edge", "models sent to devices", "GB", ask.device.users * month, often, size, sent)


def keep_porting(book: Keep, ask: Ask) -> str:
    """Book leaving CUDA, spread over its life; what it is, '' where nothing is ported.

    Where the ask names no target, the maker of its accelerators says which: none where CUDA runs.

    Raises:
        UnknownFact: the catalog has no such target.
    """
    if ask.option not in OWN:
        return ""
    subject = _target(book, ask)
    if not subject:
        return ""
    title = book.at.text(subject, "title")
    weeks = book.fact(subject, "weeks")
    book.add("porting", f"{title}, spread", "year", 1.0 / WEEKS_PER_YEAR, book.once(), weeks, *book.salary())
    return title


def _target(book: Keep, ask: Ask) -> str:
    """Subject of what is ported to."""
    at = book.at
    if ask.own.port_to is not None:
        subject = f"porting/{ask.own.port_to}"
        if at.find(subject, "weeks") is None:
            known = ", ".join(fact.subject.partition("/")[2] for fact in at.each("porting/", "weeks"))
            raise UnknownFact(f"nothing is known of porting to {ask.own.port_to!r}", where="own.port_to",
                              fix=f"Known: {known}")  # fmt: skip
        return subject
    maker = at.find(f"gpu/{ask.own.gpu}", "vendor")
    if maker is None:
        return ""
    made_by = ((fact.subject, str(fact.value).split(", ")) for fact in at.each("porting/", "vendors"))
    return next((subject for subject, makers in made_by if maker.value in makers), "")


def keep_launching(book: Keep, ask: Ask) -> None:
    """Book the weeks until an option serves and the answers graded before it does, spread over their life.

    An own small model takes the weeks of own replicas: its making, grading included, is booked apart.
    """
    own = ask.option in OWN
    what = f"launch of {WORDS['selfhost' if own else ask.option]}"
    weeks = book.fact(f"staff/{LAUNCH['selfhost' if own else ask.option]}", "launch_weeks")
    spread = book.once()
    book.add("acquisition", f"{what}, spread", "year", 1.0 / WEEKS_PER_YEAR, spread, weeks, *book.salary())
    if ask.option != "slm":
        many = book.fact("slm/any", "eval_examples"), book.fact("ops/evaluation", "usd_per_sample")
        book.add("safety-evaluation", f"{what}: answers graded, spread", "sample", 1.0, spread, *many)
