"""Fit the coarse roofline and the power of accelerators to measured runs, with whole models left out.

Run by hand: ``python calibration/fit_energy.py DATA/energy/energy.parquet [--write]``. Constants are fitted
by least squares on logarithms with a soft loss and a pull towards the starts below; ``low`` and ``high`` are
the central 80 % over fits that leave one family out; intervals are of measured over predicted with the
family left out, each family counting as the root of its rows. ``--write`` replaces ``facts/energy.csv``.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import numpy as np
from facts_file import fact, write
from scipy.optimize import least_squares

from isocost.catalog import Catalog
from isocost.perf import coarse, energy
from isocost.perf.energy import Power, power_frac
from isocost.validate.energy import METRICS, Runs, conditions_of, constants_of_runs, read_runs, runs_of

# Start of each constant, and how far (in logarithms) it is let go; then of the stated conditions.
STARTS: dict[str, tuple[float, float, dict[str, float]]] = {
    "memory_eff": (0.75, 0.15, dict.fromkeys(("b200", "h100-sxm", "a100-40-sxm", "a40", "v100"), 0.75)),
    "flop_eff": (0.5, 0.25, dict.fromkeys(("b200", "h100-sxm", "a100-40-sxm", "a40", "v100"), 0.5)),
    "expert_memory_eff": (0.8, 0.3, dict.fromkeys(("b200", "h100-sxm", "a100-40-sxm"), 0.8)),
    "expert_flop_eff": (0.6, 0.7, dict.fromkeys(("b200", "h100-sxm", "a100-40-sxm"), 0.6)),
    "narrow_flop_eff": (0.8, 0.4, dict.fromkeys(("b200", "h100-sxm"), 0.8)),
    "narrow_expert_flop_eff": (0.6, 0.9, dict.fromkeys(("b200", "h100-sxm"), 0.6)),
    "layer_s": (30e-6, 1.0, {"v1": 700e-6, "v2": 60e-6, "v3": 30e-6}),
    "moe_layer_s": (60e-6, 1.0, {"v2": 60e-6, "v3": 60e-6}),
    "step_s": (1e-3, 1.0, {"v1": 1e-3, "v2": 2e-3, "v3": 1e-3}),
    "sequence_s": (1e-5, 1.2, {"v2": 5e-5, "v3": 1e-5}),
    "overlap_excess": (0.3, 1.0, {"v1": 0.3, "v2": 0.3, "v3": 0.3}),
    "input_tok": (300, 0.5, {
        "gpqa": 250, "image-chat": 1000, "lm-arena-chat": 150, "sourcegraph-fim": 2000, "video-chat": 5000,
        "llm-chat": 200, "llm-code": 200, "mllm-chat": 1000, "chat-concise": 50, "chat": 50,
        "instruct-concise": 50, "instruct": 50,
    }),
    "media_s": (1e-6, 1e-3, {"image-chat": 0.03, "video-chat": 0.05, "mllm-chat": 0.03}),
    "media_split_power": (0.5, 0.5, {}),
    "crowd_s": (3e-3, 1e-3, {
        f"{gpu}/{task}": 3e-3
        for gpu in ("b200", "h100-sxm")
        # Of the runs on one accelerator, gpqa alone has models stored narrow.
        for task in ("gpqa", "image-chat", "lm-arena-chat", "sourcegraph-fim", "video-chat", "gpqa/narrow")
    } | dict.fromkeys(("no", "v1", "v2"), 1e-6)),
    "narrow_layer_s": (2e-5, 1.0, {}),
    "narrow_moe_layer_s": (4e-5, 1.0, {}),
    "collective_s": (20e-6, 0.7, {}),
    "cache_eff": (0.6, 0.3, {}),
    "spread_ratio": (1.1, 0.25, {}),
    "prefill_attention_eff": (0.3, 0.5, {}),
    "rank_sequence_frac": (0.05, 1.0, {}),
    "lockstep_power": (1.0, 0.3, {}),
}  # fmt: skip
LOOSE = {"media_s": 1.0, "crowd_s": 1.5}
STILL = {"alone=no", "alone=v1", "alone=v2"}
"""Conditions of ``crowd_s`` that stay where they start."""
POWER_PULL = 0.2
POWER_STARTS = (0.95, 0.25, 0.35, 0.5, 0.5, 1.0)
SHARPNESS = 6.0
NOISE = 0.1
WORST_FRAC = 0.05
"""Of the runs, those furthest off: the error is stated without them too."""
CHECKED = "2026-11-23"
UNITS = {name: "s" for name in STARTS if name.endswith("_s")} | {"input_tok": "tok"}
SHAPES = [
    ("width_per_layer", 128, "width of Llama 2 7B and 13B over their layers"),
    (
        "layer_squares",
        12,
        "four square matrices of attention and three of 8/3 in the feed-forward of such models",
    ),
    ("head_dim", 128, "of most decoders since 2023"),
    ("cache_heads", 8, "grouped-query attention of most decoders since 2023"),
    ("mixture_ratio", 1.2, "total over active parameters from which a model is taken as a mixture"),
    ("experts", 128, "of Qwen 3 mixtures; older ones have 8"),
    ("experts_per_token", 8, "of Qwen 3 mixtures"),
    ("params_unstated", 7e9, "the commonest size of models whose tables state none"),
]


def layout() -> tuple[list[tuple[str, str]], np.ndarray, np.ndarray]:
    keys, start, width = [], [], []
    for name, (value, free, stated) in STARTS.items():
        by = coarse.BY[name]
        for when, begin, let in [("", value, free)] + [
            (f"{by}={key}", one, LOOSE.get(name, free)) for key, one in stated.items()
        ]:
            keys.append((name, when))
            start.append(np.log(begin))
            width.append(free if when in STILL else let)
    return keys, np.array(start), np.array(width)


def take(runs: Runs, here: np.ndarray) -> Runs:
    index = np.flatnonzero(here)

    def pick(value):
        if isinstance(value, np.ndarray):
            return value[index]
        if isinstance(value, dict):
            return {key: one[index] for key, one in value.items()}
        if hasattr(value, "_fields"):
            return type(value)(*(one[index] for one in value))
        return tuple(value[i] for i in index)

    return Runs(*(pick(value) for value in runs))


class Speed:
    """The speed fit: the constants of the coarse roofline in logarithms."""

    def __init__(self, at, runs: Runs) -> None:
        self.at, self.keys, (self.start, self.width) = at, None, (None, None)
        self.keys, self.start, self.width = layout()
        wanted = conditions_of(runs)
        self.index = {name: coarse.pick(self.keys, name, wanted[by]) for name, by in coarse.BY.items()}
        used = {self.keys[i] for index in self.index.values() for i in np.unique(index).tolist()}
        if unused := [key for key in self.keys if key[1] and key not in used]:
            raise SystemExit(f"no run is of {unused}: what is stated of them would be the guess")
        self.fixed = constants_of_runs(at, runs, self.keys, np.exp(self.start))
        self.runs = runs

    def step(self, log: np.ndarray):
        values = np.exp(log)
        k = self.fixed | {name: values[index] for name, index in self.index.items()}
        return coarse.coarse_step(self.runs.shape, self.runs.machine, self.runs.batch, self.runs.osl, k)

    def fit(self, here: np.ndarray, begin: np.ndarray) -> np.ndarray:
        target = np.log(self.runs.measured["tok_per_s"])[here]

        def miss(log):
            said = np.log(self.runs.batch / self.step(log).step_s)[here]
            return np.concatenate([(said - target) / NOISE, (log - self.start) / self.width])

        return least_squares(miss, begin, loss="soft_l1", max_nfev=60).x


class Watts:
    """The power fit: most and awake for each (stack, accelerator), three shares for each stack, and how much
    more is drawn for weights stored narrow."""

    def __init__(self, runs: Runs, idle: float) -> None:
        self.pairs = sorted(set(zip(runs.stack, runs.gpu, strict=True)))
        self.stacks = sorted(set(runs.stack))
        self.pair = np.array([self.pairs.index(one) for one in zip(runs.stack, runs.gpu, strict=True)])
        self.of = np.array([self.stacks.index(one) for one in runs.stack])
        self.idle, self.runs = idle, runs
        n, m = len(self.pairs), len(self.stacks)
        self.start = np.log(np.repeat(POWER_STARTS, (n, n, m, m, m, 1)))
        self.share = runs.measured["power_w"] / (runs.tdp_w * runs.machine.gpus)

    def power(self, log: np.ndarray) -> Power:
        most, awake, memory, compute, media, narrow = self.parts(np.exp(log))
        size, more = len(self.pair), np.where(self.runs.machine.is_narrow, narrow[0], 1.0)
        return Power(
            np.full(size, self.idle), most[self.pair], awake[self.pair], memory[self.of] * more,
            compute[self.of] * more, media[self.of], np.full(size, SHARPNESS),
        )  # fmt: skip

    def parts(self, values: np.ndarray) -> list[np.ndarray]:
        """The values by constant: most and awake by pair, memory, compute and media by stack, narrow."""
        n, m = len(self.pairs), len(self.stacks)
        return np.split(values, np.cumsum([n, n, m, m, m]))

    def said(self, log: np.ndarray, step) -> np.ndarray:
        return power_frac(self.power(log), *step[1:])

    def fit(self, step, here: np.ndarray, begin: np.ndarray) -> np.ndarray:
        def miss(log):
            said = self.said(log, step)
            return np.concatenate([np.log(said / self.share)[here] / NOISE, (log - self.start) / POWER_PULL])

        return least_squares(miss, begin, loss="soft_l1", max_nfev=60).x


def crowd_rows(found: dict[str, float]) -> list[tuple[str, float, float | str, float | str, str]]:
    """What stands in where ``crowd_s`` is not stated, as (when, value, low, high, note)."""
    stated = {when: value for when, value in found.items() if when and when not in STILL}
    narrow = [value for when, value in stated.items() if when.endswith("/narrow")]
    wide = [value for when, value in stated.items() if not when.endswith("/narrow")]
    ends = min(wide), max(wide)
    return [
        ("", float(np.median(wide)), *ends, "a task or an accelerator that was not measured: median of the"
         " stated of wide weights and all that they span"),
        ("alone=narrow", float(np.exp(np.log(narrow).mean())), *ends, "middle of the stated of weights stored"
         " narrow; as unsure as that of wide ones"),
        ("alone=no", found["alone=no"], "", "",
         "next to nothing: a replica of several accelerators was fitted without"),
        *((f"alone={stack}", found[f"alone={stack}"], "", "",
           "next to nothing beside what the layers and steps of the stack were fitted to")
          for stack in ("v1", "v2")),
    ]  # fmt: skip


def left_out(speed: Speed, watts: Watts, groups: Sequence[str], begin: np.ndarray, power: np.ndarray):
    """Predictions of every run by constants that have not seen its group, and each fit's constants."""
    runs = speed.runs
    out = {metric: np.full(len(groups), np.nan) for metric in METRICS}
    fits, powers = [], []
    labels = np.array(groups)
    for name in sorted(set(groups)):
        held = labels == name
        log = speed.fit(~held, begin)
        step = speed.step(log)
        level = watts.fit(step, ~held, power)
        rate = runs.batch / step.step_s
        draw = watts.said(level, step) * runs.tdp_w * runs.machine.gpus
        for metric, value in (("tok_per_s", rate), ("power_w", draw), ("j_per_tok", draw / rate)):
            out[metric][held] = value[held]
        fits.append(log)
        powers.append(level)
    return out, np.array(fits), np.array(powers)


def weighted(values: np.ndarray, groups: Sequence[str], at: float) -> float:
    """A quantile in which every group counts as the root of its rows, median-unbiased for so few groups
    (the eighth of Hyndman and Fan's definitions, The American Statistician 50, 1996)."""
    _, inverse, count = np.unique(np.array(groups), return_inverse=True, return_counts=True)
    at += (at / 3.0 - 1.0 / 6.0) / len(count)
    weight = (1.0 / np.sqrt(count))[inverse]
    order = np.argsort(values)
    share = (np.cumsum(weight[order]) - 0.5 * weight[order]) / weight.sum()
    return float(np.interp(at, share, values[order]))


def nested(ratio: np.ndarray, stack: Sequence[str], family: Sequence[str]) -> float:
    """Share of runs inside intervals that their whole family had no part in."""
    families, stacks = np.array(family), np.array(stack)
    inside = []
    for name in sorted(set(family)):
        for one in sorted(set(stacks[families == name])):
            here, others = (families == name) & (stacks == one), (families != name) & (stacks == one)
            if not others.any():
                others = families != name
            groups = families[others].tolist()
            low, high = (weighted(ratio[others], groups, q) for q in (0.1, 0.9))
            inside += ((ratio[here] >= low) & (ratio[here] <= high)).tolist()
    return float(np.mean(inside))


def peer(runs: Runs, metric: str) -> np.ndarray:
    """A ridge regression of logarithms on counts, batch, machine, stack and task, each model left out."""
    s, m = runs.shape, runs.machine
    parts = [
        np.ones(len(runs.batch)), np.log(s.params_total), np.log(s.params_active), np.log(runs.batch),
        np.log(runs.batch) ** 2, np.log(m.gpus), np.log(m.weight_bytes), np.log(runs.osl),
        (s.experts > 0) * 1.0, (s.experts > 0) * np.log(runs.batch),
    ]  # fmt: skip
    for column in (runs.gpu, runs.stack, runs.task):
        parts += [np.array([one == value for one in column]) * 1.0 for value in sorted(set(column))]
    x, y, out = np.array(parts).T, np.log(runs.measured[metric]), np.zeros(len(runs.batch))
    for name in sorted(set(runs.model)):
        held = np.array(runs.model) == name
        a, b = x[~held], y[~held]
        out[held] = x[held] @ np.linalg.solve(a.T @ a + 0.1 * np.eye(x.shape[1]), a.T @ b)
    return np.exp(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    at = Catalog.load().at(date(2026, 11, 23))
    idle = at.number(energy.SUBJECT, "idle_power_frac")
    runs, dropped = runs_of(at, read_runs(given.file))
    print(f"{len(runs.batch)} runs, {dict(dropped)} left out")
    speed = Speed(at, runs)
    watts = Watts(runs, idle)
    every = np.ones(len(runs.batch), dtype=bool)
    log = speed.fit(every, speed.start)
    level = watts.fit(speed.step(log), every, watts.start)
    by_model, _, _ = left_out(speed, watts, runs.model, log, level)
    by_family, fits, powers = left_out(speed, watts, runs.family, log, level)
    errors = {}
    for name, said in (("model", by_model), ("family", by_family)):
        for metric in METRICS:
            error = np.abs(said[metric] / runs.measured[metric] - 1.0)
            errors[name, metric] = (error.mean(), np.median(error))
            parts = {s: f"{error[np.array(runs.stack) == s].mean():.3f}" for s in sorted(set(runs.stack))}
            print(f"{name} left out, {metric}: {error.mean():.3f}, median {np.median(error):.3f}, {parts}")
    rows: list[dict[str, str]] = []

    def put(subject, attribute, when, value, unit, low="", high="", **more):
        usual = {"source": "ml-energy-fit", "checked": CHECKED, "kind": "derived"}
        rows.append(
            fact(subject, attribute, value, unit, **usual | {"when": when, "low": low, "high": high} | more)
        )

    for name, value, note in SHAPES:
        put(
            coarse.SUBJECT,
            name,
            "",
            value,
            "parameters" if name == "params_unstated" else "1",
            kind="assumed",
            note=note,
            source="assumption",
        )
    for i, (name, when) in enumerate(speed.keys):
        low, high = np.exp(np.quantile(fits[:, i], [0.1, 0.9]))
        value = float(np.exp(log[i]))
        if name == "crowd_s" and (not when or when in STILL):
            continue
        put(
            coarse.SUBJECT,
            name,
            when,
            value,
            UNITS.get(name, "1"),
            min(float(low), value),
            max(float(high), value),
        )
    crowd = {when: float(np.exp(log[i])) for i, (name, when) in enumerate(speed.keys) if name == "crowd_s"}
    for when, value, low, high, note in crowd_rows(crowd):
        put(coarse.SUBJECT, "crowd_s", when, value, "s", low, high, kind="assumed", note=note)
    for metric in METRICS:
        ratio = runs.measured[metric] / by_family[metric]
        covered = nested(ratio, runs.stack, runs.family)
        print(f"{metric}: nested intervals cover {covered:.3f}")
        put(
            coarse.SUBJECT,
            "left_out_covered",
            f"metric={metric}",
            covered,
            "1",
            kind="measured",
            note="share of runs inside 80 % intervals made without their family",
        )
        for stack in ["", *sorted(set(runs.stack))]:
            here = np.array([stack in ("", one) for one in runs.stack])
            groups = [name for name, ok in zip(runs.family, here, strict=True) if ok]
            low, middle, high = (weighted(ratio[here], groups, q) for q in (0.1, 0.5, 0.9))
            put(
                coarse.SUBJECT,
                f"{metric}_ratio",
                f"stack={stack}" if stack else "",
                middle,
                "1",
                low,
                high,
                note="measured over predicted, family left out; it counts as the root of its rows",
            )
        put(
            coarse.SUBJECT,
            "left_out_mape",
            f"metric={metric}",
            float(errors["model", metric][0]),
            "1",
            kind="measured",
            note="each model left out in turn; one pass over the final form",
        )
        put(
            coarse.SUBJECT,
            "left_out_median",
            f"metric={metric}",
            float(errors["model", metric][1]),
            "1",
            kind="measured",
            note="each model left out in turn; one pass over the final form",
        )
    newest = watts.stacks[-1]
    parts, low, high = (
        watts.parts(one) for one in (np.exp(level), *np.exp(np.quantile(powers, [0.1, 0.9], axis=0)))
    )
    put(
        energy.SUBJECT,
        "narrow_power_ratio",
        "",
        float(parts[-1][0]),
        "1",
        min(float(low[-1][0]), float(parts[-1][0])),
        max(float(high[-1][0]), float(parts[-1][0])),
        note="of memory and compute where weights are stored in fewer than 16 bits",
    )
    named = ("most", "awake", "memory", "compute", "media")
    parts, low, high = parts[:-1], low[:-1], high[:-1]
    for name, values, least, most in zip(named, parts, low, high, strict=True):
        attribute = f"{name}_power_frac"
        values, least, most = (
            np.minimum(one, 1.0) if name == "most" else one for one in (values, least, most)
        )
        by_pair = len(values) == len(watts.pairs)
        for i, value in enumerate(values.tolist()):
            stack, *gpu = watts.pairs[i] if by_pair else (watts.stacks[i],)
            when = ";".join([*(f"gpu={one}" for one in gpu), f"stack={stack}"])
            bounds = min(float(least[i]), value), max(float(most[i]), value)
            put(energy.SUBJECT, attribute, when, value, "1", *bounds)
        for stack in ("", *(watts.stacks if by_pair else ())):
            here = [
                i for i, one in enumerate(watts.pairs if by_pair else watts.stacks)
                if (one[0] if by_pair else one) == (stack or newest)
            ]  # fmt: skip
            mean = float(np.exp(np.log(values[here]).mean()))
            note = "geometric mean of the accelerators measured on the stack"
            note = note if stack else f"an accelerator that was not measured; of the newest stack, {newest}"
            bounds = min(float(values.min()), mean), max(float(values.max()), mean)
            put(energy.SUBJECT, attribute, f"stack={stack}" if stack else "", mean, "1", *bounds, note=note)
    put(energy.SUBJECT, "power_sharpness", "", SHARPNESS, "1", 3, 12, kind="assumed",
        note="how sharply a board is held to its most; the errors hardly depend on it")  # fmt: skip
    put(
        energy.SUBJECT,
        "newest_stack",
        "",
        newest,
        "",
        source="ml-energy-v3",
        note="vLLM 0.11 of the leaderboard's third version",
    )
    put(
        energy.SUBJECT,
        "idle_power_frac",
        "",
        idle,
        "1",
        0.07,
        0.2,
        kind="assumed",
        note="an idle accelerator that holds a model; not in the file",
    )
    put(
        energy.SUBJECT,
        "host_power_ratio",
        "",
        1.5,
        "1",
        1.25,
        1.8,
        kind="assumed",
        source="assumption",
        note="power of a server over that of its accelerators; a host of eight H100 may draw 10.2 kW at most",
    )
    for metric in METRICS[:2]:
        error = np.abs(by_model[metric] / runs.measured[metric] - 1.0)
        kept = np.sort(error)[: int(len(error) * (1.0 - WORST_FRAC))]
        put(
            coarse.SUBJECT,
            "left_out_mape",
            f"metric={metric};without=worst",
            float(kept.mean()),
            "1",
            kind="measured",
            note=f"without the {len(error) - len(kept)} runs that are furthest off",
        )
        print(f"without the worst {len(error) - len(kept)} runs, {metric}: {kept.mean():.3f}")
        error = np.abs(peer(runs, metric) / runs.measured[metric] - 1.0)
        print(f"log-regression {metric}: MAPE {error.mean():.3f} median {np.median(error):.3f}")
        for name, value in (("mape", error.mean()), ("median_error", np.median(error))):
            put(
                "peer/log-regression",
                name,
                f"kind=energy;metric={metric}",
                float(value),
                "1",
                kind="measured",
                note="ridge regression of logarithms on the same rows, each model left out",
            )
    if given.write:
        write("energy.csv", rows)
        print(f"wrote {len(rows)} facts")


if __name__ == "__main__":
    main()
