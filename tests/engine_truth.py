"""Runs of an engine with hidden constants and noisy steps, written as an engine leaves them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from isocost.replay.engine import EngineLimits, Options, StepTerms, experts_touched
from isocost.replay.engine_stepwise import Ask, Engines, Group

WHOLE = 1 << 20


class Noisy(Engines):
    """The step-by-step engines with a random factor on every step."""

    def disturb(self, seed: int, noise: float) -> None:
        """Steps last up to a few ``noise`` (a standard deviation) longer or shorter from here on."""
        self.random, self.noise = np.random.default_rng(seed), noise

    def compose_group(self, group: Group) -> None:
        """As planned, then disturbed."""
        super().compose_group(group)
        if group.coming is not None:
            factor = float(np.exp(self.noise * self.random.standard_normal()))
            group.coming = (int(group.coming[0] * factor), int(group.coming[1] * factor))


def write(
    folder: Path, terms: StepTerms, limits: EngineLimits, meta: dict, rate_per_s: float, n: int, seed: int
) -> list[Ask]:
    """Serve ``n`` generated requests and write ``requests.jsonl``, ``meta.json`` and ``config.json``."""
    random = np.random.default_rng(seed)
    arrival = np.cumsum(random.exponential(1e12 / rate_per_s, n)).astype(np.int64)
    prompt = np.clip(random.lognormal(6.4, 0.7, n), 20, 3000).astype(int)
    output = np.clip(random.lognormal(5.4, 0.5, n), 5, 800).astype(int)
    asks = [Ask(i, int(arrival[i]), int(prompt[i]), int(output[i])) for i in range(n)]
    touched = []
    if terms.expert_ps:
        touched = np.rint(experts_touched(128, 8, limits.budget_tok) * WHOLE).astype(int).tolist()
    engines = Noisy(asks, terms, limits, Options(routing="rank_score"), touched)
    engines.disturb(seed, 0.03)
    engines.run()
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for ask in asks:
        times = [4e5 + (ask.arrival + t) / 1e12 for t in (ask.queued, ask.ttft, ask.e2e)]
        row = dict(zip(("queued_ts", "first_token_ts", "last_token_ts"), times, strict=True))
        row |= {
            "input_toks": ask.prompt,
            "output_toks": ask.output,
            "arrival_time": 1.7e9 + ask.arrival / 1e12,
        }
        lines.append(json.dumps(row))
    (folder / "requests.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "meta.json").write_text(json.dumps(meta))
    card = {"npu_mem": {"mem_size": 96, "mem_bw": 1597, "mem_util": 0.9}}
    (folder / "config.json").write_text(json.dumps({"nodes": [{"instances": [card]}]}))
    return asks
