"""What a plan says, as one page that needs no network, and as pictures.

``render`` writes the page, ``pngs`` the pictures, ``charts`` the specifications behind both.
"""

from __future__ import annotations

from isocost.report.chart import Chart, Table
from isocost.report.html import charts, pngs, render

__all__ = ["Chart", "Table", "charts", "pngs", "render"]
