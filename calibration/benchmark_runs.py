"""Which set-ups a public benchmark ran: ``facts/benchmark_runs.csv``, from the history of its own list.

Run by hand: ``python calibration/benchmark_runs.py CLONE [--write]``, a clone of SemiAnalysisAI/InferenceX.
Reads every version of ``.github/configs/nvidia-master.yaml`` up to the day of the measurements that are
shipped with aiconfigurator-core 0.12, and the scripts of that day. Each fact is one model, accelerator,
engine version, format and pair of lengths; its value lists layouts with the concurrencies at which each was
run. No measured speed is read. Needs PyYAML.
"""

from __future__ import annotations

import argparse
import csv
import re
import subprocess
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from isocost.catalog import Catalog
from isocost.errors import UnknownFact
from isocost.perf import gpu_id_of, model_id_of

LIST = ".github/configs/nvidia-master.yaml"
UNTIL = "2026-04-20"
FACTS = Path(__file__).parents[1] / "src" / "isocost" / "catalog" / "facts" / "benchmark_runs.csv"
HEAD = (
    "subject", "attribute", "when", "value", "unit", "low", "high", "valid_from", "valid_to", "source",
    "quote", "checked", "kind", "boundary", "note",
)  # fmt: skip
ENGINES: Mapping[str, str] = {
    "trt": "trtllm", "dynamo-trt": "trtllm", "sglang": "sglang", "dynamo-sglang": "sglang", "vllm": "vllm",
    "dynamo-vllm": "vllm",
}  # fmt: skip
MODELS: Mapping[str, str] = {
    "dsr1": "deepseek-r1", "gptoss": "gpt-oss-120b", "minimaxm2.5": "minimax-m2.5", "glm5": "glm-5",
    "qwen3.5": "qwen3.5-397b-a17b", "kimik2.5": "kimi-k2.5",
}  # fmt: skip
"""Short names of the list; what it calls a model is often a folder of its own."""
DRAFTS, DRAFTS_SPREAD = 3, 1
"""Tokens drafted where the list says only that some are: its scripts draft one where attention is copied."""

WIDE = 16
"""Concurrency from which scripts take the longer of two intervals between looks for new requests."""


NODE_GPUS = 4
"""Accelerators of a node of GB200, the only one whose runs are listed by nodes."""


def git(clone: Path, *words: str) -> str:
    return subprocess.run(
        ["git", "-C", str(clone), *words], capture_output=True, text=True, check=True
    ).stdout


def version_of(image: str) -> str:
    """``lmsysorg/sglang:v0.5.9-cu130`` is 0.5.9."""
    tag = image.rpartition(":")[2].removeprefix("v")
    return re.sub(r"-(cu\d+|amd64|runtime|b200)\b.*", "", tag)


def layout(part: Mapping[str, Any]) -> str:
    is_spread = str(part.get("dp-attn", "")).lower() == "true"
    tp, ep = int(part["tp"]), int(part.get("ep", 1))
    told = " ".join(str(one) for one in part.get("additional-settings", ()))
    nodes = re.search(r"(?:PREFILL|DECODE)_NODES=(\d+)", told)
    if nodes and "PREFILL_MAX" not in told and "DECODE_MAX" not in told and tp == ep == 1:
        # The older list counts nodes in place of a layout.
        tp = NODE_GPUS * int(nodes[1]) // int(part["num-worker"])
        is_spread = is_spread and "low-latency" not in told
        ep = tp if is_spread else 1
    return f"tp{tp} ep{ep}{' dp' if is_spread else ''}"


def drafts_of(space: Mapping[str, Any]) -> int:
    if space.get("spec-decoding", "none") != "mtp":
        return 0
    named = re.search(r"mtp(\d)", str(space.get("prefill", {})) + str(space.get("decode", {})))
    if named:
        return int(named[1])
    part = space.get("decode", space)
    return DRAFTS_SPREAD if str(part.get("dp-attn", "")).lower() == "true" else DRAFTS


def loads_of(space: Mapping[str, Any]) -> list[int]:
    if "conc-list" in space:
        return [int(one) for one in space["conc-list"]]
    found, load = [], int(space["conc-start"])
    while load <= int(space["conc-end"]):
        found.append(load)
        load *= 2
    return found if found[-1:] == [int(space["conc-end"])] else [*found, int(space["conc-end"])]


def words_of(space: Mapping[str, Any]) -> str:
    """One layout: ``c4,8 mtp3 tp8 ep1``, or ``c64 mtp0 prefill 2 x tp4 ep4 dp decode 1 x tp16 ep16 dp``."""
    head = f"c{','.join(str(one) for one in loads_of(space))} mtp{drafts_of(space)}"
    if "prefill" not in space:
        return f"{head} {layout(space)}"
    sides = (f"{side} {space[side]['num-worker']} x {layout(space[side])}" for side in ("prefill", "decode"))
    return f"{head} {' '.join(sides)}"


def told_by_scripts(clone: Path, commit: str, at: Any) -> list[list[str]]:
    """Facts of the scripts that start an engine: its cache's format, how often it looks for requests."""
    rows = []
    for path in git(clone, "ls-tree", "--name-only", commit, "benchmarks/single_node/").split():
        named = re.search(r"/([^_/]+)_(fp8|fp4|bf16|int4)_([bh]\d+)(_trt)?\.sh", path)
        if named is None or named[1] not in MODELS:
            continue
        text = git(clone, "show", f"{commit}:{path}")
        engine = "trtllm" if named[4] else "sglang" if "sglang" in text else "vllm"
        subject = f"measured/{MODELS[named[1]]}/{gpu_id_of(at, named[3])}"
        whens = f"engine={engine}", f"weights={named[2]}"
        if re.search(r"kv-cache-dtype:? *fp8|^ *dtype: fp8", text, re.MULTILINE):
            rows.append(fact(subject, "cache_dtype", ";".join(whens), "fp8", ""))
        if 'EP_SIZE" -ge 1' in text:
            rows.append(fact(subject, "whole_experts", ";".join(whens), "true", ""))
        polls = sorted({int(one) for one in re.findall(r"(?:RECV_INTERVAL=|recv-interval )(\d+)", text)})
        for start, steps in zip((1, WIDE), polls, strict=False):
            rows.append(
                fact(subject, "poll_steps", f"{whens[0]};from={start};{whens[1]}", str(steps), "count")
            )
    return rows


class Held(NamedTuple):
    """Prompts that a script holds back: the script's name, a line of it that must be there, and when."""

    script: str
    line: str
    models: str
    gpu: str
    when: str

    @property
    def steps(self) -> int:
        """The number that the line sets."""
        return int(self.line.rpartition(":")[2])


HELD = (
    *(
        Held(
            f"benchmarks/70b_{weights}_{gpu}_trt_slurm.sh", "batch_wait_timeout_iters: 20", "llama-3.1-70b",
            gpu, f"engine=trtllm;isl=1024;osl=1024;tp_below=8;weights={weights}",
        )
        for weights, gpu in (("fp8", "b200"), ("fp4", "b200"), ("fp8", "h200"))
    ),
    Held(
        "benchmarks/dsr1_fp8_b200_trt.sh", "batch_wait_timeout_iters: 40", "deepseek-r1", "b200",
        "engine=trtllm;from=64;isl=1024;osl=1024;weights=fp8",
    ),
    *(
        Held(
            f"benchmarks/dsr1_{weights}_{gpu}_trt.sh", "timeout_iters: 60", "deepseek-r1", gpu,
            f"attention=copied;engine=trtllm;weights={weights}",
        )
        for weights, gpu in (("fp8", "b200"), ("fp4", "b200"), ("fp8", "h200"))
    ),
)  # fmt: skip
"""Read by eye, because the scripts decide with the shell's own conditions; checked to be there still."""


def held_by_scripts(clone: Path, at: Any) -> list[list[str]]:
    """Facts of scripts that let new prompts wait for others."""
    rows = []
    for held in HELD:
        commit = git(
            clone, "log", "-1", "--format=%H", f"--before={UNTIL}", f"-S{held.line}", "--", held.script
        ).strip()
        texts = [
            subprocess.run(
                ["git", "-C", str(clone), "show", f"{one}:{held.script}"], capture_output=True, text=True
            ).stdout
            for one in (commit, f"{commit}^")
        ]
        if not any(held.line in text for text in texts):
            raise SystemExit(f"{held.script} no longer says {held.line!r}")
        subject = f"measured/{held.models}/{gpu_id_of(at, held.gpu)}"
        rows.append(fact(subject, "hold_steps", held.when, str(held.steps), "count"))
    return rows


def offered_by_scripts(clone: Path, at: Any) -> list[list[str]]:
    """Facts of scripts whose client once offered a fixed number of requests at once, whatever load was
    listed, to an engine that seats the listed load: that number, and how many requests for each seat."""
    rows: dict[tuple[str, str], list[list[str]]] = {}
    history = git(
        clone, "log", "--format=%H", f"--before={UNTIL}", "-G--max-concurrency [0-9]", "--", "benchmarks"
    )
    for commit in history.split():
        for path in git(clone, "ls-tree", "-r", "--name-only", commit, "benchmarks/").split():
            named = re.search(r"/([^_/]+)_(fp8|fp4|bf16|int4)_([bh]\d+)(_trt)?_\w+\.sh", path)
            if named is None or named[1] not in MODELS:
                continue
            text = git(clone, "show", f"{commit}:{path}")
            offered = re.search(r"--max-concurrency (\d+)", text)
            each = re.search(r"--num-prompts \$\(\( \$CONC \* (\d+) \)\)", text)
            if offered is None or each is None or "--max-num-seqs=$CONC" not in text:
                continue
            subject = f"measured/{MODELS[named[1]]}/{gpu_id_of(at, named[3])}"
            when = f"engine={'trtllm' if named[4] else 'vllm'};weights={named[2]}"
            rows[subject, when] = [
                fact(subject, "offered_requests", when, offered[1], "count"),
                fact(subject, "requests_per_seat", when, each[1], "count"),
            ]
    return [row for pair in rows.values() for row in pair]


def fact(subject: str, attribute: str, when: str, value: str, unit: str) -> list[str]:
    told = ["inferencex-runs", "", date.today().isoformat(), "published", "", ""]
    return [subject, attribute, when, value, unit, "", "", "", "", *told]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clone", type=Path)
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    at = Catalog.load().at(date(2026, 11, 23))
    commits = git(given.clone, "log", "--format=%H", f"--before={UNTIL}", "--", LIST).split()
    found: dict[tuple[str, str], dict[str, None]] = {}
    for commit in reversed(commits):
        listed = yaml.load(
            git(given.clone, "show", f"{commit}:{LIST}"), getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        )
        for name, run in listed.items():
            gpu = re.search(r"-(gb\d+|[bh]\d+)-", name)
            try:
                assert gpu is not None
                model_id = model_id_of(at, MODELS[name.partition("-")[0]])
                gpu_id = gpu_id_of(at, gpu[1])
                engine = ENGINES[run["framework"]]
            except (UnknownFact, KeyError):
                continue
            for lengths in run["seq-len-configs"]:
                when = (
                    f"engine={engine};isl={lengths['isl']};osl={lengths['osl']};"
                    f"version={version_of(str(run['image']))};weights={run['precision']}"
                )
                spaces = found.setdefault((f"measured/{model_id}/{gpu_id}", when), {})
                for space in lengths["search-space"]:
                    spaces.setdefault(words_of(space))
    rows = [
        fact(subject, "runs", when, " | ".join(spaces), "")
        for (subject, when), spaces in sorted(found.items())
    ]
    rows += sorted(told_by_scripts(given.clone, commits[0], at))
    rows += sorted(offered_by_scripts(given.clone, at)) + sorted(held_by_scripts(given.clone, at))
    print(len(rows), "facts,", sum(len(spaces) for spaces in found.values()), "layouts")
    if given.write:
        with FACTS.open("w", newline="", encoding="utf-8") as file:
            out = csv.writer(file, lineterminator="\n")
            out.writerow(HEAD)
            out.writerows(rows)


if __name__ == "__main__":
    main()
