"""What the catalog says of a model in words: name, family, licence, age, what it can take."""

from __future__ import annotations

from datetime import date
from typing import NamedTuple

from isocost.catalog import CatalogAt
from isocost.errors import UnknownFact


class ModelCard(NamedTuple):
    """A model for a reader; ``None`` where the catalog does not hold it.

    ``supports`` names what a request may need that the weights can do (text, image, tools,
    structured); ``params_total`` and ``params_active`` count parameters of the language model and
    those that one token passes through.
    """

    model_id: str
    hf_id: str | None
    family: str | None
    licence: str | None
    released: date | None
    context_tok: float | None
    supports: frozenset[str]
    params_total: float | None
    params_active: float | None


def model_card(catalog_at: CatalogAt, model_id: str) -> ModelCard:
    """The card of an open-weights model.

    Raises:
        UnknownFact: the catalog has no such model.
    """
    subject = f"model/{model_id}"
    if not catalog_at.catalog.about(subject):
        catalog_at.fact(subject, "hf_id")

    def text(attribute: str) -> str | None:
        found = catalog_at.find(subject, attribute)
        return None if found is None else str(found.value)

    def number(attribute: str) -> float | None:
        try:
            return catalog_at.number(subject, attribute)
        except UnknownFact:
            return None

    released = text("released")
    return ModelCard(
        model_id,
        text("hf_id"),
        text("family"),
        text("licence"),
        date.fromisoformat(released) if released else None,
        number("context_tok"),
        frozenset((text("supports") or "").split("|")) - {""},
        number("params_total"),
        number("params_active"),
    )
