"""When the certificate of a semantic cache holds no more: other features, another verifier, other models."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import msgspec

from isocost.policy.proven import Proven
from isocost.policy.semantic import rarity_of, taken_apart
from isocost.policy.semantic_index import Groups, Index

_PROBES = (
    "Where is my card?", "where's my card now, it is late", "I can't pay 50 euros with it",
    "Can I pay 500 euros with it", "Fly from Oslo to Rome", "Who is Ada Lovelace of the café",
    "reset the PIN please", "my pin was not reset", "Can I pay 50$ in C++ with it",
    "Can I pay 50€ in C++ with it", "Can I pay -50$ in C# with it",
)  # fmt: skip
_DIGITS = 9


def features_digest() -> str:
    """A digest of what the verifier reads of a few fixed questions: another one where its features are.

    So a certificate lapses with the code that it was made by, without anyone counting versions.
    """
    questions = [taken_apart(text) for text in _PROBES]
    rarity, rarest = rarity_of(questions)
    some = {part: (weight, 1.0, 1.0 / weight, weight, 0.5) for part, weight in sorted(rarity.items())[::7]}
    index = Index(rarity, rarest, Groups.of(some))
    read: list[object] = []
    for question in questions:
        for one in index.near(question):
            told = [float(f"{value:.{_DIGITS}g}") + 0.0 for value in one.features]
            read.append((one.entry, told, list(one.hashed), one.against))
        index.add(question, "")
    return hashlib.sha256(msgspec.json.encode(read)).hexdigest()[:12]


def lapsed(
    found: Proven,
    *,
    verifier: str | None = None,
    versions: Mapping[str, str] | None = None,
    drift_p: float | None = None,
    alpha: float = 0.01,
) -> tuple[str, ...]:
    """Why a certificate does not hold any more; empty where it does. ``None``: was not looked at.

    ``verifier`` is the digest of the file that is there now; ``versions`` the models that answer now;
    ``drift_p`` the p-value that newer questions' scores are spread as the certified ones'.
    """
    why = []
    if not found.unit:
        why.append(
            "it took requests as independent, whichever session they came in: certify again "
            "(isocost policy fit PAIRS --cache --log LOG --plan PLAN)"
        )
    if found.features != features_digest():
        why.append("the features of questions are others than it was made with")
    if verifier is not None and verifier != found.verifier:
        why.append("the verifier's file is another one")
    for name, version in (versions or {}).items():
        was = found.versions.get(name)
        if was is not None and was != version:
            why.append(f"{name} is another version: {version or 'unnamed'}, was {was or 'unnamed'}")
        elif was is None and found.versions:
            why.append(f"answers of {name} were never graded: it has those of {', '.join(found.versions)}")
    if drift_p is not None and drift_p < alpha:
        why.append(f"questions are as near to earlier ones as others were not (p {drift_p:.2g})")
    return tuple(why)
