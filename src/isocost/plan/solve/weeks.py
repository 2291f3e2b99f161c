"""A long problem by a few of its weeks, each standing for those like it, and what that choice costs.

The weeks are medoids of the weeks' total load by hour, beside the busiest week, which nothing else could
stand for. Reserved counts chosen on them are then run on every hour: the difference is the error.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from isocost.errors import Infeasible
from isocost.plan.solve.mix import api_only, descend
from isocost.plan.solve.one_pool import one_pool
from isocost.plan.solve.prices import weekly
from isocost.plan.solve.problem import Floats, Ints, Problem, Solution, cost_of
from isocost.units import WEEK_H

WEEKS = 6
"""Weeks that stand for a year."""
SWAPS = 20


@dataclass(frozen=True)
class Reduced:
    """A problem over some weeks of another; ``stands`` maps each whole week to its place among them."""

    problem: Problem
    weeks: int
    chosen: Ints
    stands: Ints


def representative(problem: Problem, weeks: int = WEEKS) -> Reduced:
    """The same problem over at most ``weeks`` weeks, weighted by the hours that each stands for.

    Hours beyond the last whole week are stood for in proportion. Each week repeats: replicas that start
    between two weeks are not counted.
    """
    count = len(problem.weight_h) // WEEK_H
    if count <= weeks:
        return Reduced(problem, count, np.arange(count), np.arange(count))
    load = (
        np.nanmax(np.nan_to_num(problem.load_per_h), axis=1)
        if problem.load_per_h.size
        else problem.api_usd_per_h
    )
    shape = np.nan_to_num(load)[:, : count * WEEK_H].reshape(len(load), count, WEEK_H)
    profile = shape.transpose(1, 0, 2).reshape(count, -1)
    chosen = _medoids(profile, weeks)
    apart = np.abs(profile[:, None, :] - profile[None, chosen, :]).sum(axis=2)
    stands = apart.argmin(axis=1)
    stands[chosen] = np.arange(len(chosen))
    hours = problem.weight_h[: count * WEEK_H].reshape(count, WEEK_H)
    weight = np.zeros((len(chosen), WEEK_H))
    np.add.at(weight, stands, hours)
    weight *= problem.weight_h.sum() / weight.sum()
    pick = (chosen[:, None] * WEEK_H + np.arange(WEEK_H)).ravel()
    # Each week carries the mean traffic of those it stands for, in its own shape.
    total = shape.sum(axis=2)
    mean = np.stack([total[:, stands == j].mean(axis=1) for j in range(len(chosen))], axis=1)
    own = total[:, chosen]
    level = np.repeat(np.where(own > 0, mean / np.where(own > 0, own, 1.0), 1.0), WEEK_H, axis=1)
    small = replace(
        problem,
        weight_h=weight.ravel(),
        api_usd_per_h=problem.api_usd_per_h[:, pick] * level,
        load_per_h=problem.load_per_h[:, :, pick] * level[:, None],
        pool_usd_per_h=problem.pool_usd_per_h[:, :, pick] * level[:, None],
        cyclic=True,
    )
    return Reduced(small, len(chosen), chosen, stands)


def _medoids(profile: Floats, count: int) -> Ints:
    """The busiest row, and rows such that all are near one of them: alternating, from starts far apart."""
    busiest = int(profile.sum(axis=1).argmax())
    chosen = [busiest]
    nearest = np.abs(profile - profile[busiest]).sum(axis=1)
    while len(chosen) < count:
        chosen.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, np.abs(profile - profile[chosen[-1]]).sum(axis=1))
    at = np.array(chosen)
    for _ in range(SWAPS):
        apart = np.abs(profile[:, None, :] - profile[None, at, :]).sum(axis=2)
        of = apart.argmin(axis=1)
        again = at.copy()
        for j in range(1, len(at)):
            mine = np.flatnonzero(of == j)
            if len(mine):
                within = np.abs(profile[mine][:, None, :] - profile[mine][None, :, :]).sum(axis=(1, 2))
                again[j] = mine[within.argmin()]
        if (again == at).all():
            break
        at = again
    return np.asarray(np.sort(at), dtype=np.int64)


def estimate(problem: Problem, small: Solution) -> Solution:
    """Every hour run with the pools and reserved counts of a solution over few weeks."""
    pools = tuple(int(k) for k in np.flatnonzero(small.runs))
    if not pools:
        return api_only(problem)
    if len(pools) == 1:
        found = one_pool(problem, pools[0], int(small.reserved[pools[0]]))
    else:
        priced = weekly(problem, small.reserved.astype(np.float64), pools)
        numbers = {k: int(small.reserved[k]) for k in pools}
        found = None if priced is None else descend(problem, pools, priced[1][:, list(pools)], numbers)
    if found is None:
        raise Infeasible("an hour needs more than the weeks that stand for it show", fix="Plan every hour")
    return replace(found, usd_per_month=cost_of(problem, found))
