"""Caches of answers on a log that has words: which requests are equal, and which are nearly so.

Words are read once. What the user says last may differ from an earlier request; all else (tenant, model,
system prompt, tools, settings, earlier turns, workload) is the scope of
:func:`isocost.policy.keys.scope_key`, in which alone a question is looked for. The cache that runs is
:class:`isocost.policy.semantic_cache.SemanticCache`, in order of arrival: an answer is kept from when its
question came, as the exact cache keeps its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from isocost.catalog import CatalogAt
from isocost.deployment import SemanticCache
from isocost.errors import BadInput, BadLimits
from isocost.plan.written.scores import ASKS, decoded, spoken
from isocost.policy.keys import Asked, exact_key, scope_key
from isocost.policy.proven import Counted
from isocost.policy.rules import Rule
from isocost.policy.semantic import Weights
from isocost.policy.semantic_cache import SemanticCache as Running
from isocost.policy.semantic_cache import readable
from isocost.policy.semantic_lapse import lapsed
from isocost.policy.semantic_study import digest
from isocost.policy.table import MISSED, SERVED
from isocost.trace.schema import Chunk, Trace, numbered_sessions
from isocost.units import NS_PER_S, SECONDS_PER_H

Rows = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
KINDS = "semantic-cache"
_FIX = "It is a file that isocost policy fit --cache wrote beside the plan"


class Visits(NamedTuple):
    """What counts as visits where a log names no sessions: from ``people`` tenants on they are taken as
    people, not as customers with many users; ``gap_s`` of silence ends a person's visit."""

    people: int
    gap_s: float


def visits_of(at: CatalogAt) -> Visits:
    """As the catalog has them."""
    return Visits(int(at.number(f"{KINDS}/any", "people")), at.number(f"{KINDS}/any", "visit_gap_s"))


class Verifier(NamedTuple):
    """A fitted verifier and the digest of its file."""

    weights: Weights
    digest: str


class Word(NamedTuple):
    """A request's words as caches see them: its ``scope``, the ``question`` in it (blank: not looked up), the
    key of the whole, and the question's share of the prompt's characters."""

    scope: bytes
    question: str
    exact: int
    share: float


class Near(NamedTuple):
    """What a semantic cache did on a log: of each row of the table (n,) ``judged`` (SERVED, MISSED, -1 to be
    drawn), ``cost_fusd`` of the look and ``source``, the row whose answer was given (-1 none); ``look_s``.

    ``owed`` are rows whose equal prompt an exact cache does not hold, as this cache answered it."""

    judged: Rows
    cost_fusd: Rows
    source: Rows
    look_s: float
    owed: npt.NDArray[np.bool_]


def named_verifiers(rules: Sequence[Rule], folder: Path) -> dict[str, Verifier]:
    """The verifiers that certified semantic caches name, read from beside the plan.

    Raises:
        BadInput: a file that is absent or is no verifier.
    """
    named = [rule.semantic.verifier for rule in rules if rule.semantic is not None and rule.semantic.on]
    return {name: _read(folder / name) for name in dict.fromkeys(named) if name}


def _read(path: Path) -> Verifier:
    try:
        data = path.read_bytes()
        return Verifier(msgspec.json.decode(data, type=Weights), digest(data))
    except FileNotFoundError:
        raise BadInput("no such file", where=str(path), fix=_FIX) from None
    except OSError as wrong:
        raise BadInput(f"cannot read it: {wrong.strerror}", where=str(path), fix=_FIX) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as wrong:
        raise BadInput(f"no verifier: {wrong}", where=str(path), fix=_FIX) from None


def in_force(rules: Sequence[Rule], verifiers: Mapping[str, Verifier]) -> tuple[tuple[Rule, ...], list[str]]:
    """Rules with the semantic caches alone whose certificate holds, and why the others are off."""
    out, notes = [], []
    for rule in rules:
        if rule.semantic is None:
            out.append(rule)
            continue
        semantic = rule.semantic
        why: tuple[str, ...] = ()
        where = f"{semantic.cache} on {rule.workload}"
        if semantic.certificate is not None:
            held = verifiers.get(semantic.verifier)
            why = lapsed(semantic.certificate, verifier=None if held is None else held.digest)
        if semantic.certificate is None:
            notes.append(
                f"The semantic cache {where} is off: it has no certificate (isocost policy fit PAIRS --cache)"
            )
        elif why:
            notes.append(f"The semantic cache {where} is off: its certificate lapsed, {'; '.join(why)}")
        off = semantic.certificate is None or bool(why)
        out.append(msgspec.structs.replace(rule, semantic=None) if off else rule)
    return tuple(out), notes


def words_of(trace: Trace, table: Chunk, rows: npt.NDArray[np.bool_]) -> dict[int, Word] | None:
    """The words of the chosen rows of a table (a mask); ``None`` where the log has none."""
    return None if trace.texts is None else dict(each_word(trace, table, rows))


def each_word(trace: Trace, table: Chunk, rows: npt.NDArray[np.bool_]) -> Iterator[tuple[int, Word]]:
    """The words of the chosen rows, one after the other, so that nobody need hold them all."""
    if trace.texts is None:
        return
    row = 0
    code = {name: getattr(table, name) for name in ("tenant", "model", "provider", "workload")}
    for lot in trace.texts():
        for i in (np.flatnonzero(rows[row : row + len(lot)]) + row).tolist():
            if not lot[i - row]:
                continue
            told = {name: "" if column is None else str(int(column[i])) for name, column in code.items()}
            # Rows of an unknown tenant may be of two: they share nothing.
            tenant = f"unknown {i}" if told["tenant"] == "-1" else told["tenant"]
            model = f"{told['provider']}/{told['model']}/{told['workload']}"
            if (found := word(lot[i - row], tenant, model)) is not None:
                yield i, found
        row += len(lot)


def word(text: str, tenant: str, model: str) -> Word | None:
    """A request's words, of what ``Trace.texts`` gives; ``None`` where there are none.

    >>> one = word('{"s": "Be kind.", "m": [{"role": "user", "content": "Why?"}]}', "acme", "m")
    >>> two = word('{"s": "Be kind.", "m": [{"role": "user", "content": "why"}]}', "acme", "m")
    >>> (one.question, one.scope == two.scope, one.exact == two.exact)
    ('Why?', True, False)
    """
    found = decoded(text)
    held = found if isinstance(found, dict) and "m" in found else {"m": text}
    messages, system, tools = (decoded(held.get(name)) for name in ("m", "s", "t"))
    settings: dict[str, Any] = {"p": decoded(held.get("p"))}
    if isinstance(messages, dict):
        names = ("messages", "contents", "input", "prompt")
        inner = next((name for name in names if name in messages), None)
        if inner is not None:
            settings["rest"] = {name: value for name, value in messages.items() if name != inner}
            messages = decoded(messages[inner])
    if messages in (None, "", []):
        return None
    turns = list(messages) if isinstance(messages, list) else [{"role": "", "content": messages}]
    last = turns[-1]
    inside = last.get("message", last) if isinstance(last, dict) else {"role": "", "content": last}
    role = str(inside.get("role", "")) if isinstance(inside, dict) else ""
    question = spoken(inside) if role in ASKS else ""
    before = [turn if isinstance(turn, dict) else {"content": turn} for turn in turns[:-1]]
    # What is not words in the last message (a picture, a file) belongs to the scope: it must be the same.
    settings["beside"] = _beside(inside)
    asked = Asked(tenant, model, [*before, {"role": role, "content": question}],
                  msgspec.json.encode(system).decode(), [{"tools": tools}], settings)  # fmt: skip
    if not question:
        asked = msgspec.structs.replace(asked, messages=[*before, {"role": role, "content": inside}])
    key = int.from_bytes(exact_key(asked)[:8]) >> 1
    short = question if readable(question) else ""
    return Word(scope_key(asked), short, key, min(1.0, len(question) / max(1, len(text))))


def _beside(message: Any) -> list[Any]:
    """Parts of a message that are no words."""
    content = message.get("content", message.get("parts")) if isinstance(message, dict) else None
    if not isinstance(content, list):
        return []
    return [
        part for part in content if not (isinstance(part, str) or (isinstance(part, dict) and spoken(part)))
    ]


def with_keys(table: Chunk, words: Iterable[tuple[int, Word]]) -> Chunk:
    """The table with a key of each whole prompt, by its words (rows not among them have none)."""
    key = np.full(len(table), -1, np.int64)
    for i, one in words:
        key[i] = one.exact
    return replace(table, prompt_key=key)


class Looked(NamedTuple):
    """Requests that come to a semantic cache under one rule: rows of the table (sorted) that nothing before
    it answers or refuses; ``repeats`` those that an exact cache answers."""

    rule: Rule
    rows: Rows
    repeats: Rows


def play_near(
    at: CatalogAt,
    table: Chunk,
    caches: Mapping[str, SemanticCache],
    looked: Sequence[Looked],
    verifiers: Mapping[str, Verifier],
    words: Mapping[int, Word] | None,
) -> dict[str, Near]:
    """Each semantic cache by name, run over the requests of all rules that name it, in order of arrival.

    Raises:
        BadInput: a log without words, and no measured rate to play in their place.
        BadLimits: rules that read one cache with two verifiers.
    """
    out = {}
    for name, cache in caches.items():
        mine = [one for one in looked if one.rule.semantic is not None and one.rule.semantic.cache == name]
        if not mine:
            continue
        judged, source = np.full(len(table), -1, np.int64), np.full(len(table), -1, np.int64)
        owed = np.zeros(len(table), np.bool_)
        if words is None or cache.embedding:
            for one in mine:
                _measured(one.rule, bool(words is not None))
        else:
            _run(table, cache, mine, verifiers, words, visits_of(at), (judged, source, owed))
        kind = f"{KINDS}/{'embedding' if cache.embedding else 'words'}"
        look_s = at.number(kind, "look_s") if cache.look_s is None else cache.look_s
        out[name] = Near(judged, _cost_fusd(at, table, cache, look_s, words), source, look_s, owed)
    return out


def _run(
    table: Chunk,
    cache: SemanticCache,
    looked: Sequence[Looked],
    verifiers: Mapping[str, Verifier],
    words: Mapping[int, Word],
    visits: Visits,
    filled: tuple[Rows, Rows, npt.NDArray[np.bool_]],
) -> None:
    """Fill ``judged``, ``source`` and ``owed`` in order of arrival."""
    judged, source, owed = filled
    names = {one.rule.semantic.verifier for one in looked if one.rule.semantic is not None}
    if len(names) != 1 or not (name := names.pop()):
        raise BadLimits(
            f"{cache.id!r} is read with {'two verifiers' if names else 'no verifier'}",
            where="[policy.semantic]",
            fix="Name one verifier for one cache, or give each rule a cache of its own",
        )  # fmt: skip
    running = Running(verifiers[name].weights, cache.ttl_s, cache.most_entries)
    bar, each = np.full(len(table), np.inf), np.zeros(len(table), np.int64)
    for one in looked:
        assert one.rule.semantic is not None
        claim = one.rule.semantic.certificate
        assert claim is not None
        bar[one.rows], each[one.rows] = claim.threshold, claim.most_each
        judged[one.rows] = MISSED
    session = sessions_of(table, visits).number
    kept: list[int] = []
    for i in np.sort(np.concatenate([rows for one in looked for rows in (one.rows, one.repeats)])).tolist():
        found = words.get(i)
        if found is None or not found.question:
            continue
        now_s = int(table.arrival_ns[i]) / NS_PER_S
        given = False
        if judged[i] != MISSED:
            owed[i] = running.owes(found.scope, found.question, now_s)
            if not owed[i]:
                continue
            judged[i] = MISSED
        else:
            seen, given = running.serve(
                found.scope, found.question, now_s, float(bar[i]), str(session[i]), int(each[i])
            )
        if given:
            judged[i], source[i] = SERVED, kept[seen.number]
        else:
            running.keep(found.scope, found.question, "", now_s)
            kept.append(i)


class Sessions(NamedTuple):
    """What requests were drawn by: ``unit`` and the ``number`` of each row's (n,)."""

    unit: str
    number: Rows


def sessions_of(table: Chunk, visits: Visits) -> Sessions:
    """Sessions where the log names them. Where it names none, but so many tenants that they must be people,
    their ``visits``. Else each request is alone."""
    n = len(table)
    alone = np.arange(n)
    tenant = np.full(n, -1, np.int64) if table.tenant is None else table.tenant.astype(np.int64)
    if (session := numbered_sessions(table)) is not None and bool((session >= 0).any()):
        return Sessions("session", _numbered(np.where(session >= 0, session, -1 - alone)))
    if len(np.unique(tenant[tenant >= 0])) < visits.people:
        return Sessions("request", alone)
    order = np.lexsort((table.arrival_ns, tenant))
    by, at = tenant[order], table.arrival_ns[order]
    begins = np.ones(n, np.bool_)
    begins[1:] = (by[1:] != by[:-1]) | (np.diff(at) > visits.gap_s * NS_PER_S) | (by[1:] < 0)
    visit = np.empty(n, np.int64)
    visit[order] = np.cumsum(begins)
    return Sessions("visit", _numbered(visit))


def _numbered(codes: Rows) -> Rows:
    return np.asarray(np.unique(codes, return_inverse=True)[1], np.int64)


def _measured(rule: Rule, has_words: bool) -> Counted:
    semantic = rule.semantic
    assert semantic is not None
    if semantic.measured is not None:
        return semantic.measured
    count = semantic.certificate
    assert count is not None
    why = (
        "its vectors cannot be computed here"
        if has_words
        else "the log has no words of prompts, so what it would hit is not known"
    )
    raise BadInput(
        f"the semantic cache {semantic.cache!r} cannot be played: {why}",
        where=f"[[policy]] of {rule.workload!r}",
        fix="Log the messages of each request (a column messages or prompt), or state what was measured "
        f"elsewhere: measured = {{ requests = {count.requests}, hits = {count.hits} }}",
    )


def _cost_fusd(
    at: CatalogAt, table: Chunk, cache: SemanticCache, look_s: float, words: Mapping[int, Word] | None
) -> Rows:
    """Of a look at each row: a question's vector, or the time of a core. Where the log has no words a whole
    prompt is embedded, which is the most that it can be."""
    if not cache.embedding:
        usd = look_s * at.number(f"{KINDS}/any", "usd_per_core_h") / SECONDS_PER_H
        return np.full(len(table), round(usd * 1e15), np.int64)
    per_tok = at.number(cache.embedding, "input_usd_per_mtok") / 1e6
    share = np.ones(len(table))
    for i, one in ({} if words is None else words).items():
        share[i] = one.share
    tok = np.maximum(1.0, np.rint(share * table.input_tok))
    return np.rint(tok * per_tok * 1e15).astype(np.int64)
