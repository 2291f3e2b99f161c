"""Claims of the literature, each put to the test against the catalog, the ground truth and the planner.

``registry`` knows every claim; ``finding`` has the rules that turn figures into a verdict; ``world`` is
what they are tested on; ``words`` says them. What was claimed is facts of ``claim/*``; what is found is
computed.
"""

from isocost.claims.finding import VERDICTS, Claim, Figure, Finding
from isocost.claims.registry import IDS, judged
from isocost.claims.world import World

__all__ = ["IDS", "VERDICTS", "Claim", "Figure", "Finding", "World", "judged"]
