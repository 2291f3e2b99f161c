"""What is to be made: the fields of ``slm.toml``, and where its numbers go wrong."""

from __future__ import annotations

from pathlib import Path

import msgspec

from isocost.errors import BadInput
from isocost.toml import read_toml

WAYS = ("scratch", "full", "lora", "distil", "hosted", "buy")


class Tune(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A task that an existing model is adapted to. What is left out is a fact of ``slm/*``."""

    examples: float | None = None
    tok_per_example: float | None = None
    epochs: float | None = None
    experiments: float | None = None
    teacher: str = ""
    usd_per_label: float | None = None
    checked_frac: float | None = None
    engineer_weeks: float | None = None


class Serve(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Traffic that the model will answer, for the comparison with buying."""

    api: str = ""
    input_mtok_per_month: float = 0.0
    output_mtok_per_month: float = 0.0


class Federated(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Training where the data lie. What is left out is a fact of ``development/any``."""

    sites: float | None = None
    rounds: float | None = None


class Ask(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A model to make.

    ``params`` and ``params_active`` (mixture of experts) in parameters, ``tokens`` that training from
    scratch reads, ``context_tok`` of its sequences (0 leaves attention out). ``gpu_hours`` are disclosed
    or planned hours of the final run, else they follow from operations and utilisation.
    """

    name: str = ""
    params: float
    params_active: float | None = None
    tokens: float = 0.0
    gpu: str = "h100-sxm"
    gpus: int | None = None
    gpu_hours: float | None = None
    mfu_frac: float | None = None
    context_tok: float = 4096.0
    layers: float | None = None
    hidden_size: float | None = None
    usd_per_gpu_h: float | None = None
    region: str = "default"
    staff_years: float | None = None
    data_usd_per_mtok: float | None = None
    tune: Tune = Tune()
    serve: Serve = Serve()
    federated: Federated = Federated()

    @property
    def active(self) -> float:
        """Parameters that each token passes."""
        return self.params_active or self.params


def read_ask(path: Path) -> Ask:
    """A TOML file as what is to be made.

    Raises:
        BadInput: the file is absent, is no TOML, or holds a field or a value that cannot be used.
    """
    return checked(read_toml(path, Ask, "docs/develop.md lists the fields"), str(path))


def checked(ask: Ask, where: str = "") -> Ask:
    """The same where its numbers can hold.

    Raises:
        BadInput: a number that no model has.
    """
    small, most = 1e6, 1e18
    positive = {
        "params": ask.params,
        "gpu_hours": ask.gpu_hours,
        "gpus": ask.gpus,
        "usd_per_gpu_h": ask.usd_per_gpu_h,
    }
    for name, value in positive.items():
        if value is not None and not value > 0:
            raise BadInput(f"{name} = {value:g} is not above 0", where=where)
    if ask.params < small:
        raise BadInput(
            f"params = {ask.params:g} is less than a million", where=where, fix="Write 8e9 for 8 billion"
        )
    for name, value in (("params", ask.params), ("tokens", ask.tokens)):
        if not value <= most:
            raise BadInput(
                f"{name} = {value:g} is beyond any model", where=where, fix="Write 8e9 for 8 billion"
            )
    if ask.params_active is not None and not 0 < ask.params_active <= ask.params:
        raise BadInput("params_active is not between 0 and params", where=where)
    if ask.mfu_frac is not None and not 0 < ask.mfu_frac < 1:
        raise BadInput(f"mfu_frac = {ask.mfu_frac:g} is not a share", where=where, fix="Write 0.35 for 35 %")
    if ask.tokens < 0 or 0 < ask.tokens < small:
        raise BadInput(
            f"tokens = {ask.tokens:g} is less than a million", where=where, fix="Write 100e9 for 100 billion"
        )
    return ask
