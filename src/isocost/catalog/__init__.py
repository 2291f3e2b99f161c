"""Dated, sourced facts: prices, models, accelerators, scores, small print."""

from isocost.catalog.catalog import Catalog, CatalogAt
from isocost.catalog.fact import CENTRAL, Z_CENTRAL, Attribute, Fact, Source

__all__ = ["CENTRAL", "Z_CENTRAL", "Attribute", "Catalog", "CatalogAt", "Fact", "Source"]
