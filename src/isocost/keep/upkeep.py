"""Watching, grading and renewing: logs, traces, judge tokens, retraining by hand or automated (L15).

Facts read: ``ops/*``, ``slm/any``, ``automation/any``, ``staff/*``; standing lines are those of a plan.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from isocost.catalog import CatalogAt
from isocost.develop.book import given, over
from isocost.errors import BadInput
from isocost.keep.ask import OWN, Ask
from isocost.keep.book import Keep
from isocost.plan.market.standing import GB, MEGA, Standings, Volume
from isocost.units import WEEKS_PER_YEAR


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
    """Book monitoring, logs, traces, storage, transfer, grading by people and by a judge, and security."""
    at, traffic = book.at, ask.traffic
    standings = Standings(at)
    volume = Volume(
        traffic.requests_per_month,
        traffic.requests_per_month * traffic.input_tok,
        traffic.requests_per_month * traffic.output_tok,
    )
    book.stand(standings.watching(ask.option, volume))
    book.stand(standings.keeping(ask.option, volume))
    book.stand(standings.gateway())
    tokens = volume.input_tok + volume.output_tok
    text = book.fact("storage/text", "bytes_per_tok")
    sampled = book.fact("ops/traces", "sampled_frac")
    ingest = book.fact("ops/logs", "usd_per_gb")
    book.add("monitoring", "text of sampled requests traced", "GB", tokens / GB, sampled, text, ingest)
    if ask.option not in OWN:
        scans = book.fact("ops/api-security", "usd_per_month")
        book.add("security", "scanning and tests", "month", 1.0, scans)
    judge = priced(at, ask.upkeep.judge or at.text("ops/judge", "model"), "upkeep.judge")
    graded = (book.fact("ops/judge", "graded_frac"), book.fact("ops/evaluation", "judge_tok_per_sample"))
    written = book.fact("ops/judge", "output_frac")
    requests = traffic.requests_per_month / MEGA
    reads = given("ops/judge.input_frac", 1.0 - written.value)
    read, write = (book.fact(judge, f"{part}_usd_per_mtok") for part in ("input", "output"))
    book.add("evaluation", "tokens a judge reads", "Mtok", requests, *graded, reads, read)
    book.add("evaluation", "tokens a judge writes", "Mtok", requests, *graded, written, write)


def keep_balanced(book: Keep, ask: Ask) -> None:
    """Book the load balancer before the application: hours and the bytes of questions and answers."""
    tokens = ask.traffic.requests_per_month * (ask.traffic.input_tok + ask.traffic.output_tok)
    hours = book.fact("finance/any", "hours_per_month")
    book.add("redundancy", "load balancer", "h", 1.0, hours, book.fact("ops/balancer", "usd_per_h"))
    wire, text = book.fact("ops/balancer", "wire_ratio"), book.fact("storage/text", "bytes_per_tok")
    price = book.fact("ops/balancer", "usd_per_gb")
    book.add("redundancy", "bytes balanced", "GB", tokens / GB, text, wire, price)


def keep_current(book: Keep, ask: Ask) -> Automation | None:
    """Book retraining of an own model, and its automation where there is one; None for bought models."""
    if ask.option != "slm":
        return None
    traffic = ask.traffic
    runs = book.fact("slm/any", "retrain_per_year", ask.upkeep.retrain_per_year)
    usual = book.fact("slm/any", "retrain_per_year")
    lines = [
        line
        for line in Standings(book.at).making(traffic.input_tok + traffic.output_tok)
        if line.account == "retraining"
    ]
    # What people do is booked apart, in hours of a run by hand or automated.
    goods = [line for line in lines if not any(".engineer_weeks" in name for name in line.facts)]
    stated = ask.upkeep.retrain_per_year
    scale = () if stated is None else (given("slm/any.retrain_per_year stated", stated / usual.value),)
    book.stand(goods, *scale)
    by_hand = book.fact("automation/any", "manual_h_per_run")
    automated = book.fact("automation/any", "automated_h_per_run")
    pay = (over(book.fact("staff/any", "hours_per_year")), *book.salary("ml-engineer"))
    hour_usd = pay[0].value * pay[1].value * pay[2].value
    how, name = (automated, "automated") if ask.upkeep.automated else (by_hand, "by hand")
    month = 1.0 / book.months()
    book.add("retraining", f"people who retrain, {name}", "h", month, runs, how, *pay)
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
