"""Watching, grading and renewing: logs, traces, judge tokens, retraining by hand or automated (L15).

Facts read: ``ops/*`` (usd_per_gb, usd_per_mevent, bytes_per_request, events_per_request, usd_per_month,
usd_per_sample, samples_per_month, usd_per_h …), ``storage/*`` (usd_per_gb_month, usd_per_gb, bytes_per_tok,
retention_months), ``slm/any`` (retrain_per_year, retrain_effort_frac), ``automation/any``, ``staff/*``.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from isocost.catalog import CatalogAt
from isocost.develop.book import given, over
from isocost.errors import BadInput
from isocost.keep.ask import OWN, Ask
from isocost.keep.book import Keep
from isocost.keep.made import made
from isocost.units import WEEKS_PER_YEAR

GB, MEGA = 1e9, 1e6
RENEWED = ("data", "fine-tuning", "distillation", "experiments")
"""Accounts of making a model that a retraining takes again, in part."""


class Automation(NamedTuple):
    """Retraining by people or by a pipeline: what each run saves, and the runs a year from which it pays."""

    runs_per_year: float
    saves_h_per_run: float
    saves_usd_per_run: float
    outlay_usd: float
    usd_per_year: float
    runs_to_pay: float
    pays: bool


def runs_to_pay(usd_per_year: float, saves_usd_per_run: float) -> float:
    """Runs a year from which an automation that costs so much a year pays; infinite where it saves nothing.

    >>> runs_to_pay(1000.0, 250.0), runs_to_pay(1000.0, 0.0)
    (4.0, inf)
    """
    return usd_per_year / saves_usd_per_run if saves_usd_per_run > 0.0 else math.inf


def priced(at: CatalogAt, model: str, where: str) -> str:
    """Subject of a model's API prices.

    Raises:
        BadInput: the catalog has no price of its input and output.
    """
    subject = model if model.startswith("api/") else f"api/{model}"
    parts = ("input_usd_per_mtok", "output_usd_per_mtok")
    if any(at.find(subject, part) is None for part in parts):
        raise BadInput(
            f"no price of {model!r}",
            where=where,
            fix="isocost catalog list names models, as openai/gpt-5-mini",
        )
    return subject


def keep_watching(book: Keep, ask: Ask) -> None:
    """Book monitoring, logs, traces, grading by people and by a judge, and security."""
    at, traffic, own = book.at, ask.traffic, ask.option in OWN
    requests = traffic.requests_per_month
    tools = book.fact("ops/monitoring" if own else "ops/monitoring-api", "usd_per_month")
    ingest = book.fact("ops/logs", "usd_per_gb")
    logged = book.fact("ops/logs", "bytes_per_request")
    events = book.fact("ops/logs", "events_per_request"), book.fact("ops/logs", "usd_per_mevent")
    book.add("monitoring", "monitoring tools", "month", 1.0, tools)
    book.add("monitoring", "logs ingested", "GB", requests / GB, logged, ingest)
    book.add("monitoring", "log events indexed", "Mevent", requests / MEGA, *events)
    tokens = requests * (traffic.input_tok + traffic.output_tok)
    text, sampled = book.fact("storage/text", "bytes_per_tok"), book.fact("ops/traces", "sampled_frac")
    book.add("monitoring", "text of sampled requests traced", "GB", tokens / GB, sampled, text, ingest)
    grades = book.fact("ops/evaluation", "samples_per_month"), book.fact("ops/evaluation", "usd_per_sample")
    book.add("evaluation", "graded samples", "sample", 1.0, *grades)
    judge = priced(at, ask.upkeep.judge or at.text("ops/judge", "model"), "upkeep.judge")
    graded = (book.fact("ops/judge", "graded_frac"), book.fact("ops/evaluation", "judge_tok_per_sample"))
    written = book.fact("ops/judge", "output_frac")
    reads = given("ops/judge.input_frac", 1.0 - written.value)
    read, write = (book.fact(judge, f"{part}_usd_per_mtok") for part in ("input", "output"))
    book.add("evaluation", "tokens a judge reads", "Mtok", requests / MEGA, *graded, reads, read)
    book.add("evaluation", "tokens a judge writes", "Mtok", requests / MEGA, *graded, written, write)
    scans = book.fact("ops/security" if own else "ops/api-security", "usd_per_month")
    book.add("security", "scanning and tests", "month", 1.0, scans)


def keep_stored(book: Keep, ask: Ask) -> None:
    """Book prompts and answers kept as logs, and transfer out where replicas are one's own."""
    traffic = ask.traffic
    per_tok = book.fact("storage/text", "bytes_per_tok")
    tokens = traffic.requests_per_month * (traffic.input_tok + traffic.output_tok)
    kept = book.fact("storage/logs", "retention_months"), book.fact("storage/object", "usd_per_gb_month")
    book.add("storage", "prompts and answers kept", "GB month", tokens / GB, per_tok, *kept)
    if ask.option in OWN:
        out = traffic.requests_per_month * traffic.output_tok / GB
        book.add("egress", "answers sent out", "GB", out, per_tok, book.fact("storage/egress", "usd_per_gb"))


def keep_gateway(book: Keep) -> None:
    """Book two small machines that requests pass where they go to more than one place."""
    book.add("api-infrastructure", "gateway", "month", 1.0, book.fact("ops/gateway", "usd_per_month"))


def keep_balanced(book: Keep, ask: Ask) -> None:
    """Book the load balancer before the application: hours and the bytes of questions and answers."""
    tokens = ask.traffic.requests_per_month * (ask.traffic.input_tok + ask.traffic.output_tok)
    hours = book.fact("finance/any", "hours_per_month")
    book.add("redundancy", "load balancer", "h", 1.0, hours, book.fact("ops/balancer", "usd_per_h"))
    wire, text = book.fact("ops/balancer", "wire_ratio"), book.fact("storage/text", "bytes_per_tok")
    price = book.fact("ops/balancer", "usd_per_gb")
    book.add("redundancy", "bytes balanced", "GB", tokens / GB, text, wire, price)


def keep_current(book: Keep, ask: Ask) -> Automation | None:
    """Book retraining of an own model, and its automation where there is one; None for bought models.

    Each run takes a part of what making the model took, people apart: these are booked in hours of a
    run, by hand or automated. Every run is graded whole before it is released.
    """
    if ask.option != "slm":
        return None
    runs = book.fact("slm/any", "retrain_per_year", ask.upkeep.retrain_per_year)
    effort = book.fact("slm/any", "retrain_effort_frac")
    month = 1.0 / book.months()
    first = made(book.at, ask)
    for accounts, part in ((RENEWED, (runs, effort)), (("safety-evaluation",), (runs,))):
        book.carry(first, accounts, month, part, "retraining", "{}, again")
    by_hand = book.fact("automation/any", "manual_h_per_run")
    automated = book.fact("automation/any", "automated_h_per_run")
    pay = (over(book.fact("staff/any", "hours_per_year")), *book.salary("ml-engineer"))
    hour_usd = pay[0].value * pay[1].value * pay[2].value
    how, done = (automated, "automated") if ask.upkeep.automated else (by_hand, "by hand")
    book.add("retraining", f"people who retrain, {done}", "h", month, runs, how, *pay)
    weeks, tending = (
        book.fact("automation/any", "setup_weeks"),
        book.fact("automation/any", "upkeep_h_per_year"),
    )
    if ask.upkeep.automated:
        account = "autonomous-updates"
        book.add(account, "the pipeline, spread", "year", 1.0 / WEEKS_PER_YEAR, book.once(), weeks, *pay[1:])
        book.add(account, "keeping the pipeline working", "h", month, tending, *pay)
    outlay = weeks.value / WEEKS_PER_YEAR * pay[1].value * pay[2].value
    yearly = outlay * book.once().value * book.months() + tending.value * hour_usd
    saves = by_hand.value - automated.value
    needs = runs_to_pay(yearly, saves * hour_usd)
    return Automation(runs.value, saves, saves * hour_usd, outlay, yearly, needs, runs.value >= needs)
