"""Where an instant lies in its week."""

from __future__ import annotations

from typing import Any, overload

import numpy as np
import numpy.typing as npt

from isocost.units import NS_PER_H, WEEK_H

Int64 = npt.NDArray[np.int64]

_MONDAY_HOURS = 3 * 24
"""1970-01-01 was a Thursday: three days into its week."""


@overload
def hour_of_week(arrival_ns: int) -> int: ...
@overload
def hour_of_week(arrival_ns: Int64) -> Int64: ...
def hour_of_week(arrival_ns: Any) -> Any:
    """Hour of the week, 0 to 167; Monday 00:00 UTC is 0.

    >>> hour_of_week(0)  # Thursday, 1970-01-01
    72
    """
    return (arrival_ns // NS_PER_H + _MONDAY_HOURS) % WEEK_H
