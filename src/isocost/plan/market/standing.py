"""What calculators leave out, by option: people, monitoring, evaluation, storage, launch, making a model.

Every amount is a product of facts, so that a scenario re-costs it by ratios. Facts read:
``staff/*`` (usd_per_year, loading_ratio, fte, fte_per_model, fte_per_gpu, launch_weeks), ``ops/*``
(usd_per_gb, usd_per_mevent, bytes_per_request, events_per_request, usd_per_month, usd_per_sample,
samples_per_month), ``storage/*`` (usd_per_gb_month, usd_per_gb, bytes_per_tok, retention_months),
``finance/any`` (one_off_amortisation_months, discount_rate_per_year) and ``slm/*``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from isocost.catalog import CatalogAt, Fact
from isocost.finance import amortised_usd_per_month
from isocost.fleet import Standing
from isocost.units import WEEKS_PER_YEAR

STAFF: Mapping[str, str] = {
    "api": "api",
    "hosted": "hosted-open",
    "selfhost": "self-hosted",
    "slm": "self-hosted",
}
"""Subject ``staff/...`` that states the people an option takes."""
LAUNCH: Mapping[str, str] = {"api": "api", "hosted": "hosted-open", "selfhost": "self-hosted", "slm": "slm"}
WORDS: Mapping[str, str] = {
    "api": "an API",
    "hosted": "hosted open weights",
    "selfhost": "own replicas",
    "slm": "own replicas",
}
OWN = ("selfhost", "slm")
"""Options whose replicas are one's own."""
GB = 1e9
MEGA = 1e6


class Volume(NamedTuple):
    """Traffic a month that standing costs follow."""

    requests: float
    input_tok: float
    output_tok: float


class Standings:
    """Standing costs on a date; each method gives the lines of one concern."""

    def __init__(self, catalog_at: CatalogAt) -> None:
        self._at = catalog_at

    def _fact(self, subject: str, attribute: str, when: str = "") -> Fact:
        return self._at.fact(subject, attribute, when)

    def _product(self, account: str, what: str, quantity: float, unit: str, *facts: Fact) -> Standing:
        """``quantity`` times every fact, the last of which is the unit price."""
        amount = quantity
        for fact in facts[:-1]:
            amount *= float(fact.value)
        return Standing(account, what, amount, unit, float(facts[-1].value), tuple(f.id for f in facts))

    def people(self, option: str, models: int, gpus: float, held_fte: float) -> list[Standing]:
        """Engineers who run an option: a base, a part for each further model and for each GPU.

        ``held_fte`` are people already there for it: they are not counted again.
        """
        staff, book = f"staff/{STAFF[option]}", "operations-staff"
        salary = self._fact("staff/platform-engineer", "usd_per_year")
        loading = self._fact("staff/any", "loading_ratio")
        base = self._fact(staff, "fte")
        month = 1.0 / self._at.number("finance/any", "months_per_year")
        own = option in OWN
        need = max(0.0, 1.0 - held_fte / float(base.value)) if own else 1.0
        parts = [(f"people who run {WORDS[option]}", need, base)]
        if own:
            parts.append(("people for further models", models - 1.0, self._fact(staff, "fte_per_model")))
            parts.append(("people for each GPU", gpus, self._fact(staff, "fte_per_gpu")))
        return [
            self._product(book, what, count * month, "year", fte, loading, salary)
            for what, count, fte in parts
            if count > 0
        ]

    def complying(self, providers: int, regions: tuple[str, ...]) -> list[Standing]:
        """Hours of the duties in force: a review of each provider's terms, and what regions ask."""
        hours = self._fact("staff/any", "hours_per_year")
        salary = self._fact("staff/platform-engineer", "usd_per_year")
        loading = self._fact("staff/any", "loading_ratio")
        part = 1.0 / self._at.number("finance/any", "months_per_year") / float(hours.value)
        lines = []
        for effort in self._at.each("duty/", "yearly_h"):
            region = self._at.text(effort.subject, "region")
            since = self._at.text(effort.subject, "applies_from")
            times = providers if region == "any" else int(region in regions)
            if times and since <= self._at.on.isoformat():
                title = self._at.text(effort.subject, "title")
                lines.append(
                    self._product("compliance", title, times * part, "year", effort, loading, salary)
                )
        return lines

    def watching(self, option: str, volume: Volume) -> list[Standing]:
        """Logs, monitoring, evaluation and security of an option."""
        own, fact, product = option in OWN, self._fact, self._product
        tools = fact("ops/monitoring" if own else "ops/monitoring-api", "usd_per_month")
        log_gb = (fact("ops/logs", "bytes_per_request"), fact("ops/logs", "usd_per_gb"))
        events = (fact("ops/logs", "events_per_request"), fact("ops/logs", "usd_per_mevent"))
        grades = (fact("ops/evaluation", "samples_per_month"), fact("ops/evaluation", "usd_per_sample"))
        lines = [
            product("monitoring", "monitoring tools", 1.0, "month", tools),
            product("monitoring", "logs ingested", volume.requests / GB, "GB", *log_gb),
            product("monitoring", "log events indexed", volume.requests / MEGA, "Mevent", *events),
            product("evaluation", "graded samples", 1.0, "sample", *grades),
        ]
        if own:
            scans = fact("ops/security", "usd_per_month")
            lines.append(product("security", "scanning and tests", 1.0, "month", scans))
        return lines

    def keeping(self, option: str, volume: Volume) -> list[Standing]:
        """Storage of prompts and answers as logs, and transfer out where replicas are one's own."""
        per_tok = self._fact("storage/text", "bytes_per_tok")
        tokens = volume.input_tok + volume.output_tok
        lines = [
            self._product(
                "storage",
                "prompts and answers kept",
                tokens / GB,
                "GB month",
                per_tok,
                self._fact("storage/logs", "retention_months"),
                self._fact("storage/object", "usd_per_gb_month"),
            )
        ]
        if option in OWN:
            lines.append(
                self._product(
                    "egress",
                    "answers sent out",
                    volume.output_tok / GB,
                    "GB",
                    per_tok,
                    self._fact("storage/egress", "usd_per_gb"),
                )
            )
        return lines

    def gateway(self) -> list[Standing]:
        """Two small machines and a balancer, where requests must be sent to more than one place."""
        price = self._fact("ops/gateway", "usd_per_month")
        return [self._product("api-infrastructure", "gateway", 1.0, "month", price)]

    def spread(self) -> float:
        """The part of a one-off outlay that falls on each month of its life."""
        life = self._at.number("finance/any", "one_off_amortisation_months")
        rate = self._at.number("finance/any", "discount_rate_per_year")
        return amortised_usd_per_month(1.0, rate, life)

    def launch(self, option: str) -> list[Standing]:
        """Engineering weeks until the option serves, spread over its life."""
        weeks = self._fact(f"staff/{LAUNCH[option]}", "launch_weeks")
        salary = self._fact("staff/platform-engineer", "usd_per_year")
        loading = self._fact("staff/any", "loading_ratio")
        part = self.spread() / WEEKS_PER_YEAR
        what = f"launch of {WORDS[option]}, spread"
        return [self._product("development-staff", what, part, "year", weeks, loading, salary)]

    def making(self, tokens_per_request: float) -> list[Standing]:
        """Making an own small model and keeping it current: data, training, grading, people."""
        fact = self._fact
        spread = self.spread()
        month = 1.0 / self._at.number("finance/any", "months_per_year")
        again = (fact("slm/any", "retrain_per_year"), fact("slm/any", "retrain_effort_frac"))
        salary = (fact("staff/any", "loading_ratio"), fact("staff/ml-engineer", "usd_per_year"))
        labels = (
            fact("slm/any", "examples"),
            fact("slm/any", "checked_frac"),
            fact("slm/any", "usd_per_label"),
        )
        grading = (fact("slm/any", "eval_examples"), fact("ops/evaluation", "usd_per_sample"))
        training = (
            fact("slm/any", "examples"),
            fact("slm/any", "epochs"),
            fact("slm/any", "experiments"),
            fact("slm/lora-8b", "usd_per_mtok_training"),
        )
        weeks = (fact("slm/any", "engineer_weeks"), *salary)
        mtok = tokens_per_request / 1e6
        first = [
            self._product("data", "labels for the first model", spread, "label", *labels),
            self._product("fine-tuning", "training runs, failed ones too", spread * mtok, "Mtok", *training),
            self._product("safety-evaluation", "grading the first model", spread, "sample", *grading),
            self._product("development-staff", "making the model", spread / WEEKS_PER_YEAR, "year", *weeks),
        ]
        keep = [
            self._product("retraining", "fresh labels", month, "label", *again, *labels),
            self._product("retraining", "training again", month * mtok, "Mtok", *again, *training),
            self._product("retraining", "people who retrain", month / WEEKS_PER_YEAR, "year", *again, *weeks),
        ]
        return [*first, *keep]
