"""Results of evaluation tools: promptfoo, DeepEval, Inspect, OpenAI's evals.

Formats as of promptfoo/promptfoo src/types/index.ts (``EvaluateSummaryV2``, ``EvaluateSummaryV3``),
src/util/output.ts and src/util/eval/evalTableUtils.ts; confident-ai/deepeval deepeval/test_run/api.py and
deepeval/evaluate/types.py; UKGovernmentBEIS/inspect_ai src/inspect_ai/log/_log.py and scorer/_metric.py;
openai/evals evals/record.py; «Get eval run output items» of OpenAI's API reference.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from isocost.errors import BadInput
from isocost.policy.grades.call import (
    Call,
    asked,
    first,
    items,
    mapping,
    named,
    paid,
    real,
    said,
    text,
    whole,
    words,
)  # fmt: skip

_ERROR = 2
"""promptfoo's ``failureReason`` of a call that failed, against one whose answer did (1)."""
_KINDS = ("chat", "completion", "completions", "messages", "responses", "embedding", "embeddings")
_INSPECT: Mapping[str, float] = {"C": 1.0, "I": 0.0, "P": 0.5, "N": 0.0}


def provider(name: str) -> str:
    """A provider of promptfoo as a model is called elsewhere; a label or a file stays what it is.

    >>> provider("openai:chat:gpt-4o-mini"), provider("openai:gpt-4o"), provider("my label")
    ('openai/gpt-4o-mini', 'openai/gpt-4o', 'my label')
    """
    if name.startswith(("file:", "exec:", "http", "python:")) or ":" not in name:
        return name
    house, _, rest = name.partition(":")
    kind, _, model = rest.partition(":")
    return f"{house}/{model}" if model and kind in _KINDS else f"{house}/{rest}"


def promptfoo_rows(doc: Any) -> list[dict[str, Any]] | None:
    """The rows of promptfoo's JSON (a file with ``results``, of version 1 to 3) or JSONL; else ``None``."""
    if isinstance(doc, list):
        rows = items(doc)
        known = rows and "success" in rows[0] and ("testIdx" in rows[0] or "gradingResult" in rows[0])
        return rows if known else None
    outer = mapping(doc)
    inner = outer.get("results")
    held = inner if isinstance(inner, dict) else outer
    rows = items(held.get("results"))
    if rows and ("provider" in rows[0] or "gradingResult" in rows[0] or "success" in rows[0]):
        return rows
    table = mapping(held.get("table"))
    if table.get("head") and table.get("body"):
        return list(_of_table(table))
    return None


def _of_table(table: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Cells of the table that files of version 2 hold beside the results, as rows."""
    names = list(mapping(table["head"]).get("vars") or ())
    prompts = items(mapping(table["head"]).get("prompts"))
    for i, row in enumerate(items(table["body"])):
        variables = dict(zip(names, row.get("vars") or (), strict=False))
        for j, cell in enumerate(items(row.get("outputs"))):
            head = prompts[j] if j < len(prompts) else {}
            yield {
                **cell, "success": cell.get("pass"), "vars": variables, "testIdx": i, "promptIdx": j,
                "provider": first(cell.get("provider"), head.get("provider")),
                "prompt": {"label": first(head.get("label"), head.get("display"))},
                "testCase": mapping(row.get("test")),
                "response": {"output": cell.get("text"), "tokenUsage": cell.get("tokenUsage")},
            }  # fmt: skip


def promptfoo(rows: Sequence[Mapping[str, Any]], where: str) -> Iterator[Call]:
    """Results of promptfoo. Several prompts of one provider are models of their own."""
    prompts: dict[str, dict[str, None]] = {}
    for row in rows:
        prompts.setdefault(_provider(row), {})[_prompt(row)] = None
    for row in rows:
        model = _provider(row)
        if not model:
            raise BadInput(
                "a result without a provider", where=where, fix="Name the model: --grades MODEL=FILE"
            )
        if len(prompts[model]) > 1:
            model = f"{model} ({_prompt(row)})"
        test = mapping(row.get("testCase"))
        variables = mapping(row.get("vars")) or mapping(test.get("vars"))
        extra = {**mapping(row.get("metadata")), **mapping(test.get("metadata"))}
        query = asked(variables) if variables else words(mapping(row.get("prompt")).get("raw"))
        number = row.get("testIdx")
        own = first(extra.get("qid"), variables.get("qid"))
        called = named(query) if query else text(number)
        response = mapping(row.get("response"))
        usage = mapping(first(response.get("tokenUsage"), row.get("tokenUsage")))
        # An answer out of promptfoo's own cache was neither waited nor paid for: both stay unknown.
        cached = bool(response.get("cached")) or bool(usage.get("cached") and not usage.get("completion"))
        waited = real(row.get("latencyMs"))
        yield Call(
            text(own, called, test.get("description")), model,
            {"score": first(row.get("score"), row.get("success")), **mapping(row.get("namedScores")),
             "success": row.get("success")},
            tuple(one for one in (called, text(test.get("description"))) if one),
            query, said(response.get("output")), text(extra.get("task"), variables.get("task")),
            in_tok=whole(usage.get("prompt")) or None, out_tok=whole(usage.get("completion")) or None,
            cost=None if cached else paid(first(row.get("cost"), response.get("cost"))),
            latency_s=None if cached or waited is None else waited / 1000, overall="score",
            failed=row.get("failureReason") == _ERROR or bool(first(row.get("error")) and not response),
        )  # fmt: skip


def _provider(row: Mapping[str, Any]) -> str:
    given = row.get("provider")
    if isinstance(given, dict):
        return text(given.get("label"), provider(text(given.get("id"))))
    return provider(str(given or ""))


def _prompt(row: Mapping[str, Any]) -> str:
    prompt = mapping(row.get("prompt"))
    label = text(prompt.get("label"), prompt.get("display"))
    number = row.get("promptIdx")
    # A label is often the whole prompt, with the question in it: then the number tells prompts apart.
    if label and len(label) <= 40 and "{" not in label and label != prompt.get("raw"):
        return label
    return str(first(row.get("promptId"), "prompt" if number is None else f"prompt {number}"))


_OUTPUT = re.compile(r"^\[(?P<provider>[^\]]+)\] ?(?P<prompt>[\s\S]*)$")


def promptfoo_csv(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[Call] | None:
    """promptfoo's CSV: a row a test, and for each prompt and provider a column of answers, followed by its
    ``Status`` and ``Score`` (older files hold all three in the one cell). ``None`` where it is another."""
    outputs = [j for j, head in enumerate(heads) if _OUTPUT.match(head)]
    wide = [j for j in outputs if tuple(heads[j + 1 : j + 3]) == ("Status", "Score")]
    tests = list(rows)
    cells = not wide and [
        j for j in outputs if any(re.match(r"\[(PASS|FAIL|ERROR)\]", row[j]) for row in tests)
    ]
    if not wide and not cells:
        return None
    columns = wide or cells or []
    per = Counter(provider(_OUTPUT.sub(r"\g<provider>", heads[j])) for j in columns)
    by_name = {head: j for j, head in reversed(list(enumerate(heads))) if j < min(columns)}
    found = []
    for row in tests:
        query = asked({heads[j]: row[j] for j in range(min(columns)) if heads[j] != "Description"})
        own = row[by_name["qid"]] if "qid" in by_name else ""
        told = row[by_name["Description"]] if "Description" in by_name else ""
        for k, j in enumerate(columns):
            end = columns[k + 1] if k + 1 < len(columns) else len(heads)
            model = provider(_OUTPUT.sub(r"\g<provider>", heads[j]))
            if per[model] > 1:
                model = f"{model} (prompt {list(columns).index(j)})"
            scores: dict[str, Any]
            if wide:
                status, answer = row[j + 1], row[j]
                scores = {"score": row[j + 2], "success": status}
                for at in range(j + 3, end):
                    if heads[at].startswith("Metric: "):
                        scores[heads[at].removeprefix("Metric: ")] = row[at]
            else:
                status, _, rest = row[j].partition("]")
                status = status.strip("[ ")
                points = re.match(r"\s*\((?P<score>[\d.]+)[^)]*\)\s*", rest)
                answer = rest[points.end() :] if points else rest
                answer = re.split(r"\n+(?:Pass|Fail) Reason: ", answer)[0].strip()
                scores = {"score": points["score"] if points else status, "success": status}
            also = tuple(one for one in (named(query), told) if one)
            found.append(
                Call(
                    own or named(query), model, scores, also, query, answer, overall="score",
                    failed=status == "ERROR",
                )
            )  # fmt: skip
    return found


def deepeval_rows(doc: Any) -> list[dict[str, Any]] | None:
    """Test cases of a DeepEval run: ``.latest_test_run.json``, a results folder, or a dumped result."""
    if isinstance(doc, list):
        rows = items(doc)
        return rows if rows and ("metricsData" in rows[0] or "metrics_data" in rows[0]) else None
    run = mapping(mapping(doc).get("testRunData")) or mapping(doc)
    rows = items(first(run.get("testCases"), run.get("test_results"), run.get("testResults"), []))
    metrics = ("metricsData", "metrics_data", "metricsMetadata")
    return rows if rows and any(name in row for row in rows for name in metrics) else None


def deepeval_model(doc: Any) -> str:
    """The model that a run was of, where somebody stated it as a hyperparameter."""
    run = mapping(mapping(doc).get("testRunData")) or mapping(doc)
    stated = mapping(first(run.get("hyperparameters"), run.get("configurations"), {}))
    return text(*(stated.get(name) for name in ("model", "Model", "llm", "model_name")))


def deepeval(rows: Sequence[Mapping[str, Any]], model: str) -> Iterator[Call]:
    """Test cases with a score a metric. A metric that ended in an error gave none."""
    for row in rows:
        scores: dict[str, Any] = {}
        lower: set[str] = set()
        for one in items(first(row.get("metricsData"), row.get("metrics_data"), row.get("metricsMetadata"))):
            name = str(first(one.get("name"), one.get("metric"), "score"))
            if one.get("error") or one.get("skipped"):
                continue
            scores[name] = one.get("score")
            if _lower(one):
                lower.add(name)
        scores["success"] = row.get("success")
        extra = mapping(first(row.get("metadata"), row.get("additional_metadata")))
        query, name = words(row.get("input")), str(row.get("name") or "")
        own = first(extra.get("qid"), named(query) if query else name)
        yield Call(
            text(own), text(extra.get("model"), model), scores, (named(query),) if query else (), query,
            said(first(row.get("actualOutput"), row.get("actual_output"))), text(extra.get("task")),
            in_tok=whole(row.get("inputTokenCount")), out_tok=whole(row.get("outputTokenCount")),
            cost=paid(first(row.get("tokenCost"), row.get("token_cost"))),
            latency_s=real(first(row.get("completionTime"), row.get("completion_time"))),
            lower=frozenset(lower),
        )  # fmt: skip


def _lower(one: Mapping[str, Any]) -> bool:
    """Whether a metric passed below its threshold, or failed above it."""
    score, bar = real(one.get("score")), real(first(one.get("threshold"), one.get("minimumScore")))
    if score is None or bar is None or not isinstance(one.get("success"), bool) or score == bar:
        return False
    return bool(one["success"] != (score > bar))


def is_inspect(doc: Any) -> bool:
    """Whether a document is a log of Inspect: ``eval`` says of what, ``samples`` what came of it."""
    return isinstance(doc, dict) and isinstance(doc.get("eval"), dict) and "model" in doc["eval"]


def inspect(doc: Mapping[str, Any], where: str) -> Iterator[Call]:
    """Samples of Inspect's JSON log. ``C``, ``I``, ``P`` and ``N`` are 1, 0, 0.5 and 0, as it counts them."""
    task = mapping(doc["eval"])
    model = str(task["model"])
    samples = items(doc.get("samples"))
    if not samples:
        raise BadInput(
            "the log has no samples", where=where, fix="Export it whole: inspect log dump FILE > log.json"
        )
    for sample in samples:
        output, extra = mapping(sample.get("output")), mapping(sample.get("metadata"))
        usage = mapping(first(mapping(sample.get("model_usage")).get(model), output.get("usage")))
        scores: dict[str, Any] = {}
        answer = ""
        found = mapping(sample.get("scores")) or ({"score": sample["score"]} if sample.get("score") else {})
        for name, one in found.items():
            value = mapping(one).get("value")
            for part, each in value.items() if isinstance(value, dict) else ((None, value),):
                scores[name if part is None else f"{name}.{part}"] = _INSPECT.get(str(each), each)
            answer = answer or str(mapping(one).get("answer") or "")
        query = said(sample.get("input"))
        out_tok = whole(usage.get("output_tokens"))
        total, some = whole(usage.get("total_tokens")), whole(usage.get("input_tokens"))
        # Cached input stands beside the count of input, and inside the total.
        in_tok = max(some or 0, total - out_tok) if total is not None and out_tok is not None else some
        yield Call(
            str(sample.get("id")), model, scores, (named(query),), query,
            answer or said(output.get("completion")),
            text(extra.get("task"), extra.get("subject"), task.get("task")),
            in_tok=in_tok, out_tok=out_tok, latency_s=real(first(output.get("time"))),
            failed=bool(sample.get("error")),
        )  # fmt: skip


def is_openai(rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether rows are output items of a run of OpenAI's evals."""
    return bool(rows) and all(
        row.get("object") == "eval.run.output_item" or ("datasource_item" in row and "results" in row)
        for row in rows
    )


def openai(rows: Sequence[Mapping[str, Any]]) -> Iterator[Call]:
    """Output items: a score a grader, and ``status`` for all of them."""
    for row in rows:
        item, sample = mapping(row.get("datasource_item")), mapping(row.get("sample"))
        usage = mapping(sample.get("usage"))
        scores = {}
        for one in items(row.get("results")):
            # Graders are called by their name and the id of the run's criterion.
            name = re.sub(r"-[0-9a-f]{8}-[0-9a-f-]{27}$", "", str(one.get("name") or "score"))
            scores[name] = first(one.get("score"), one.get("passed"))
        scores["status"] = row.get("status")
        ask = items(sample.get("input"))
        query = asked(item) if item else said(ask)
        own = first(item.get("qid"), item.get("id"), named(query) if query else None)
        yield Call(
            str(own or row.get("datasource_item_id")), str(sample.get("model") or ""), scores,
            (named(query),) if query else (), query, said(sample.get("output")),
            in_tok=whole(usage.get("prompt_tokens")), out_tok=whole(usage.get("completion_tokens")),
            failed=bool(first(sample.get("error"))),
        )  # fmt: skip


def is_oss_evals(rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether lines are the record of a run of openai/evals."""
    return bool(rows) and "spec" in rows[0] and any("sample_id" in row for row in rows)


def oss_evals(rows: Sequence[Mapping[str, Any]]) -> Iterator[Call]:
    """Events of a run: what was sampled, and whether it matched (or another numeric metric)."""
    spec = mapping(rows[0]["spec"])
    model = text(*(spec.get("completion_fns") or ()), spec.get("model_name"))
    prompts: dict[str, str] = {}
    answers: dict[str, str] = {}
    for row in rows:
        data, sample = mapping(row.get("data")), str(row.get("sample_id"))
        if row.get("type") == "sampling":
            prompts[sample] = said(data.get("prompt"))
            sampled = data.get("sampled")
            answers[sample] = said(sampled[0] if isinstance(sampled, list) and sampled else sampled)
        elif row.get("type") in ("match", "metrics"):
            numbers = {
                name: value
                for name, value in data.items()
                if isinstance(value, bool | int | float) or name == "choice"
            }
            picked = first(data.get("picked"), data.get("sampled"), answers.get(sample))
            query = prompts.get(sample, "")
            yield Call(sample, model, numbers, (named(query),) if query else (), query, said(picked))
