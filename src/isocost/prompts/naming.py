"""What varies between prompts that go on alike: its kind and its place, never its words.

Only what all the prompts share, the words around it, may be shown; of what varies its kind is said: a time,
an identifier, an address, a number, a name.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from isocost.prompts.words import Words

_MONTHS = "jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec"
_DAYS = "(?:mon|tues?|wed(?:nes)?|thu(?:rs)?|fri|sat(?:ur)?|sun)"
_CLOCK = r"\d{1,2}:\d\d(?::\d\d(?:[.,]\d+)?)?(?:\s?[ap]m)?"
_ZONE = r"(?:Z|\s?(?:UTC|GMT)|\s?[+-]\d\d:?\d\d)?"
KINDS: Mapping[str, str] = {
    "timestamp": (
        rf"\d{{4}}[-/.]\d\d?[-/.]\d\d?(?:[T ,]+{_CLOCK})?{_ZONE}"
        rf"|\d\d?[-/.]\d\d?[-/.]\d{{4}}(?:[T ,]+{_CLOCK})?"
        rf"|(?:{_DAYS}(?:day)?,? )?(?:\d\d? )?(?:{_MONTHS})[a-z]*\.? (?:\d\d?,? )?\d{{4}}"
        rf"(?:[ ,]+(?:at )?{_CLOCK})?{_ZONE}|{_CLOCK}{_ZONE}|\b1[4-9]\d{{8}}(?:\d{{3}}|\d{{6}})?\b"
    ),
    "identifier": (
        r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
        r"|\b(?=[0-9a-f]*[a-f])(?=[0-9a-f]*\d)[0-9a-f]{8,64}\b"
        r"|\b[A-Za-z]{1,12}[-_](?=[\w-]*\d)[\w-]{3,}\b|\b(?=\w*\d)(?=\w*[A-Za-z])\w{8,}\b"
    ),
    "address": r"[\w.+-]+@[\w-]+\.[\w.]+|\bhttps?://\S+|\b\d{1,3}(?:\.\d{1,3}){3}\b",
    "number": r"\b\d[\d,.]*\b",
    "name": r"\b[A-Z][a-zÀ-ž'-]+(?: [A-Z][a-zÀ-ž'-]+){0,3}\b",
}
"""Kinds of what may vary, in the order in which they are looked for."""
_TOKEN = re.compile(rb"[\w:.,+@/-]")
_WORD = re.compile(r"\w[\w:.+@-]*")
_SHARED = 0.8
_SHOWN, _AROUND = 28, 48
MOST_SPAN = 20_000


class Span(NamedTuple):
    """What varies: its kind, the part that holds it with its first and last character there, and the shared
    words before and behind it."""

    kind: str
    part: str
    first_char: int
    last_char: int
    before: str
    after: str


def span(prompts: Sequence[tuple[Words, int]]) -> Span | None:
    """What varies where prompts part, each at about the byte beside it, and go on alike; ``None``: none."""
    held = [(one, at) for one, at in prompts if len(one.data) > at]
    if len(held) < 2:
        return None
    stem = common_bytes([one.data[at:] for one, at in held])
    held = [(one, at + stem) for one, at in held]
    tails = [one.data[at:] for one, at in held]
    anchor = _anchor(tails)
    spans, places = [], []
    for (one, at), tail in zip(held, tails, strict=True):
        ends = tail.find(anchor) if anchor else -1
        begins = _widened(one.data, at, at + (ends if ends >= 0 else min(len(tail), 80)))
        begins = _whole(one.data, *begins)
        spans.append(one.data[begins[0] : begins[1]].decode("utf-8", "replace"))
        places.append((one, *begins, at))
    kind = _kind(spans)
    lengths = Counter((one.where(a), one.where(max(a, b - 1))[1]) for one, a, b, _ in places)
    (part, first), last = lengths.most_common(1)[0][0]
    one, a, b, at = next(place for place in places if place[0].where(place[1]) == (part, first))
    until = one.data.find(anchor, at) + len(anchor) if anchor else b
    return Span(
        kind, part, first, max(first, last), _shown(one.data[:a], True), _shown(one.data[b:until], False)
    )


def _kind(spans: Sequence[str]) -> str:
    """The kind of most of the spans; where they are text, of the words in them that are not in nearly all."""
    kind = Counter(map(kind_of, spans)).most_common(1)[0][0]
    if kind != "text":
        return kind
    held = Counter(word for text in spans for word in set(_WORD.findall(text)))
    usual = {word for word, count in held.items() if count >= _SHARED * len(spans)}
    rest = (" ".join(word for word in _WORD.findall(text) if word not in usual) for text in spans)
    return Counter(map(kind_of, rest)).most_common(1)[0][0]


def kind_of(text: str) -> str:
    """What a text is, from its looks.

    >>> kind_of("2026-11-23T05:51:13Z"), kind_of("8f14e45f-ceea-467f-a9f0-1c2d3e4f5a6b")
    ('timestamp', 'identifier')
    >>> kind_of("Maria Silva"), kind_of("maria@example.org"), kind_of("42")
    ('name', 'address', 'number')
    >>> kind_of("What is the capital of a country that has two of them?")
    'text'
    """
    found: list[str] = []
    rest = text.strip()
    whole = len(re.sub(r"\W", "", rest)) or 1
    for kind, pattern in KINDS.items():
        flags = 0 if kind == "name" else re.IGNORECASE
        less = re.sub(pattern, " ", rest, flags=flags)
        if less != rest:
            found.append(kind)
            rest = less
    left = len(re.sub(r"\W", "", rest))
    if not found or left > max(6, 0.4 * whole):
        return "text"
    if "timestamp" in found:
        return "timestamp" if len(found) == 1 or "identifier" not in found else "timestamp and identifier"
    return found[0]


def common_bytes(texts: Sequence[bytes]) -> int:
    """Bytes with which all texts begin."""
    low, high = min(texts), max(texts)
    n = min(len(low), len(high))
    return next((i for i in range(n) if low[i] != high[i]), n)


def _anchor(tails: Sequence[bytes]) -> bytes:
    """The first words that nearly all tails share, some 24 bytes; blank where there are none."""
    pattern = min(tails, key=len)[:MOST_SPAN]
    others = [tail[:MOST_SPAN] for tail in tails]
    need = 0.8 * len(tails)
    for at in range(max(0, len(pattern) - 12)):
        piece = pattern[at : at + 24]
        if sum(piece in tail for tail in others) >= need:
            return piece
    return b""


def _widened(data: bytes, begins: int, ends: int) -> tuple[int, int]:
    """A span drawn out to whole words: the first digits of two times are alike, the rest of them is not."""
    while begins > 0 and _TOKEN.match(data[begins - 1 : begins]):
        begins -= 1
    while ends < len(data) and _TOKEN.match(data[ends : ends + 1]):
        ends += 1
    while ends > begins + 1 and data[ends - 1 : ends] in (b".", b",", b":"):
        ends -= 1
    return begins, ends


def _whole(data: bytes, begins: int, ends: int) -> tuple[int, int]:
    """A span drawn out to the whole of a time or identifier that it is a part of: of a date the hour."""
    low, high = max(0, begins - _AROUND), min(len(data), ends + _AROUND)
    text = data[low:high].decode("latin-1")
    for kind in ("timestamp", "identifier"):
        for found in re.finditer(KINDS[kind], text, re.IGNORECASE):
            a, b = low + found.start(), low + found.end()
            if a <= begins and ends <= b:
                return a, b
    return begins, ends


def _shown(data: bytes, end: bool) -> str:
    """A few of the shared words, on one line, their digits hidden."""
    text = " ".join(data.decode("utf-8", "ignore").split())
    if end and len(text) > _SHOWN:
        text = "…" + text[-_SHOWN:].partition(" ")[2]
    text = text if end else text[:_SHOWN]
    return re.sub(r"\d", "#", text)
