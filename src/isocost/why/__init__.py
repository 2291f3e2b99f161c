"""Why a number is what it is: its formula with live values, down to facts with their sources."""

from isocost.why.formula import Node, explain
from isocost.why.ledger import of_ledger
from isocost.why.names import Asked, fact_of, why

__all__ = ["Asked", "Node", "explain", "fact_of", "of_ledger", "why"]
