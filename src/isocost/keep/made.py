"""Making an own model, as an application that is kept asks for it: the book of :mod:`isocost.develop`."""

from __future__ import annotations

from msgspec.structs import replace

from isocost.catalog import CatalogAt
from isocost.develop import Ask as Develop
from isocost.develop import Tune, way
from isocost.develop.book import Book
from isocost.errors import BadInput
from isocost.keep.ask import Ask

PEOPLE = "development-staff"


def made(at: CatalogAt, ask: Ask) -> Book:
    """What making the model of an ask costs once, by account; an example is as long as a request.

    Raises:
        BadInput: the way states too little for a cost (training from scratch is asked of ``develop``).
    """
    traffic, own = ask.traffic, ask.made
    tune = own.tune
    if tune.tok_per_example is None:
        tune = replace(tune, tok_per_example=traffic.input_tok + traffic.output_tok)
    gpu = own.gpu or ask.own.gpu
    asked = Develop(params=own.params, params_active=own.params_active, gpu=gpu, tune=tune)
    found = way(at, asked, own.way)
    if found is None:
        raise BadInput(
            f"no cost of way {own.way!r}", where="made.way", fix="Give lora, full, distil or hosted"
        )
    return found.book


__all__ = ["Tune", "made"]
