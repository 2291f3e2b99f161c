"""Levers: what each way to spend less is worth on this traffic, alone, last, and as its fair share."""

from isocost.plan.levers.price import LeverPrice, Levers, WhatIf, price_levers, waterfall

__all__ = ["LeverPrice", "Levers", "WhatIf", "price_levers", "waterfall"]
