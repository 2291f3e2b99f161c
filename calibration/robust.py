"""Robust least squares by damped steps, for a few hundred numbers and their slopes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

FIRST_DAMPING, LEAST_DAMPING = 1e-3, 1e-6
LARGEST_STEP = 0.5
TRIES = 6
ENOUGH = 1e-5
"""The share of a loss that a step has to gain for another to be taken, unless another share is asked for."""

Residuals = Callable[[np.ndarray], np.ndarray]
Slopes = Callable[[np.ndarray], np.ndarray]


def loss(residuals: np.ndarray, scale: float) -> float:
    """The sum of ``scale**2 * (sqrt(1 + (r / scale)**2) - 1)``: squares near zero, sizes far from it.

    >>> round(loss(np.array([1e-3]), 1.0) * 1e6, 3), round(loss(np.array([1e6]), 1.0) / 1e6, 3)
    (0.5, 1.0)
    """
    return float(scale**2 * np.sum(np.sqrt(1.0 + (residuals / scale) ** 2) - 1.0))


def least(
    residuals: Residuals,
    slopes: Slopes,
    start: np.ndarray,
    scale: float,
    rounds: int,
    enough: float = ENOUGH,
) -> np.ndarray:
    """The numbers of least loss, from ``start``, in at most ``rounds`` steps of a damped Gauss-Newton.

    ``residuals`` takes ``(m,)`` numbers to ``(n,)``, ``slopes`` to their Jacobian ``(n, m)``.
    """
    x, damping = start.copy(), FIRST_DAMPING
    now = residuals(x)
    for _ in range(rounds):
        lean = slopes(x)
        weight = 1.0 / np.sqrt(1.0 + (now / scale) ** 2)
        curve, downhill = (lean.T * weight) @ lean, lean.T @ (weight * now)
        before = loss(now, scale)
        for _ in range(TRIES):
            damped = curve + damping * np.diag(np.diag(curve))
            trial = x - np.clip(np.linalg.solve(damped, downhill), -LARGEST_STEP, LARGEST_STEP)
            found = residuals(trial)
            if loss(found, scale) < before:
                break
            damping *= 6.0
        else:
            return x
        x, now, damping = trial, found, max(damping / 5.0, LEAST_DAMPING)
        if before - loss(now, scale) < enough * before:
            return x
    return x
