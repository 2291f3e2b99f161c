"""What commands take on a log with the words of its prompts: ``python benchmarks/words.py [COMMAND ...]``.

The log is made up: ``--mb`` megabytes (248) of JSONL, a fifth of them short questions of a help desk, the
rest conversations under long instructions that name the hour in their first lines, with documents that come
again and questions of three to 250 words; two weeks, two models. ``--format csv`` or ``parquet`` writes the
same rows so. Each command is run anew, once before it is measured where compiled kernels are not there yet;
CPU and memory are of the whole process.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

START = datetime.datetime(2026, 10, 1)
SOUNDS = ("ba", "re", "ti", "mo", "lu", "ka", "se", "no", "di", "pra", "ste", "vin", "gol", "mer", "tan")
ASKS = (
    "why was my {} declined", "how long does a {} take", "can i change my {}", "there is a {} i do not know",
    "where is my {}", "how do i get another {}", "what is the {} for a visa", "my {} is still pending",
)  # fmt: skip
ABOUT = ("card", "transfer", "refund", "pin", "limit", "exchange rate", "top up", "cash", "fee", "account")
CHARS_PER_TOK = 4
COLUMNS = ("timestamp", "workload", "model", "tenant", "input_tokens", "output_tokens", "messages")


def rows(most_bytes: int) -> Iterator[dict[str, object]]:
    """Requests in order of arrival, their words as messages, until so many bytes; a fixed seed."""
    rng = random.Random(5)
    words = ["".join(rng.choices(SOUNDS, k=rng.randint(1, 4))) for _ in range(4000)]
    odds = [1.0 / (k + 5.0) for k in range(len(words))]

    def said(many: int) -> str:
        return " ".join(rng.choices(words, odds, k=many))

    rules = {name: said(900) for name in ("support", "analyst", "writer")}
    documents = [said(500) for _ in range(300)]
    at, held = START, 0
    open_: list[tuple[str, list[dict[str, str]]]] = []
    while held < most_bytes:
        at += datetime.timedelta(seconds=rng.expovariate(1 / 40))
        if rng.random() < 0.2:
            name, model = "faq", "gpt-5-mini"
            ask = rng.choice(ASKS).format(rng.choice(ABOUT))
            told = [
                {"role": "system", "content": "Answer in one sentence."},
                {
                    "role": "user",
                    "content": ask if rng.random() < 0.3 else f"{ask} {said(rng.randint(1, 8))}",
                },
            ]
        else:
            if open_ and rng.random() < 0.6:
                name, told = open_.pop(rng.randrange(len(open_)))
                told = [*told, {"role": "assistant", "content": said(60)}]
            else:
                name = rng.choice(list(rules))
                head = f"Today is {at:%Y-%m-%d %H}:00. {rules[name]}"
                told = [{"role": "system", "content": head}]
                if name != "writer":
                    told.append({"role": "user", "content": rng.choice(documents)})
            told = [*told, {"role": "user", "content": said(min(250, int(rng.lognormvariate(4.0, 1.0)) + 3))}]
            model = "gpt-5.4"
            if len(told) < 12:
                open_ = [*open_[-50:], (name, told)]
        length = sum(len(one["content"]) for one in told)
        row = {
            "timestamp": f"{at.isoformat()}Z", "workload": name, "model": model,
            "tenant": f"t{rng.randint(0, 9)}", "input_tokens": length // CHARS_PER_TOK,
            "output_tokens": rng.randint(5, 400), "messages": told,
        }  # fmt: skip
        held += len(json.dumps(row)) + 1
        yield row


def log(path: Path, most_bytes: int) -> int:
    """Write the log; how many requests it has."""
    many = 0
    if path.suffix == ".jsonl":
        with path.open("w") as out:
            for row in rows(most_bytes):
                out.write(json.dumps(row) + "\n")
                many += 1
        return many
    plain = path if path.suffix == ".csv" else path.with_suffix(".rows.csv")
    with plain.open("w", newline="") as out:
        write = csv.writer(out)
        write.writerow(COLUMNS)
        for row in rows(most_bytes):
            write.writerow([json.dumps(row[one]) if one == "messages" else row[one] for one in COLUMNS])
            many += 1
    if path.suffix == ".parquet":
        import duckdb

        duckdb.execute(f"COPY (FROM read_csv('{plain}', max_line_size=100000000)) TO '{path}'")
        plain.unlink()
    return many


def run(command: str, path: Path) -> tuple[float, float]:
    """CPU seconds of a command on a log, and the most memory that it held, megabytes."""
    start = [sys.executable, "-c", "import sys; from isocost.cli import main; sys.exit(main())"]
    with subprocess.Popen([*start, command, str(path), "--json"], stdout=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"isocost {command} failed with {process.returncode}")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1e3


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("commands", nargs="*", default=["trace", "prompts", "levers"])
    asked.add_argument("--mb", type=float, default=248)
    asked.add_argument("--format", choices=("jsonl", "csv", "parquet"), default="jsonl")
    given = asked.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        small, whole = (Path(folder) / f"{name}.{given.format}" for name in ("small", "log"))
        log(small, 1_000_000)
        many = log(whole, int(given.mb * 1e6))
        print(f"{many:,} requests, {whole.stat().st_size / 1e6:.0f} MB")
        for command in given.commands:
            run(command, small)
            spent, held = run(command, whole)
            print(f"isocost {command:10} {spent:6.1f} CPU-s {held:7.0f} MB at most")


if __name__ == "__main__":
    main()
