"""Dated, sourced facts: prices, models, accelerators, scores, small print."""

from isocost.catalog.catalog import Catalog, CatalogAt
from isocost.catalog.fact import Attribute, Fact, Source

__all__ = ["Attribute", "Catalog", "CatalogAt", "Fact", "Source"]
