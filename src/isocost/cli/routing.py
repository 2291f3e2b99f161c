"""What ``isocost validate routing`` prints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.text import Text

from isocost.cli.output import grid, show, wrapped
from isocost.units import percent, plural

MAX_LOSS_PP = 1.0
"""Loss that is certified against, points."""


def show_routing(found: Mapping[str, Any]) -> None:
    """What ``isocost validate routing`` found, for a person."""
    others = found["other_strong_frac"] > 0 or found["full_other_strong_frac"] > 0
    certified = f"{percent(found['certified_saving_frac'])} saved under a certificate"
    head = certified if found["verdict"] == "certified" else "Refused: no saving is certified"
    whom = "the best model of each split's A" if others else f"only {found['strong']}"
    show(
        Text(f"{head}, against {whom}", "bold"),
        f"  {found['file']}: {plural(found['questions'], 'question')}, {plural(found['models'], 'model')}",
        "",
    )
    table = grid(
        ("  held out, every attempt paid", "w"), ("saving", "r"), ("95%", "r"), ("quality", "r"),
        ("labels", "r"),
    )  # fmt: skip
    table.add_row(
        "  at full quality, no certificate", percent(found["full_saving_frac"]), _ends(found, "full_saving"),
        f"{found['full_quality_ratio']:.1%} of the best model", "all",
    )  # fmt: skip
    table.add_row(
        f"  certified: at most {MAX_LOSS_PP:g} pp lost, 95%", percent(found["certified_saving_frac"]),
        _ends(found, "certified_saving"), f"{found['certified_difference'] * 100:+.2f} pp",
        f"{found['labels']:,.0f}",
    )  # fmt: skip
    table.add_row(
        "  the same, every question graded",
        percent(found["strict_saving_frac"]),
        "",
        "",
        f"{found['strict_labels']:,.0f}",
    )
    table.add_row(
        "  unread mix at the first row's cost", percent(found["full_saving_frac"]), "",
        f"{found['full_blind_difference'] * 100:+.2f} pp", "",
    )  # fmt: skip
    show(table, "")
    if others:
        show(wrapped(_against(found)), "")
    show(
        wrapped(
            f"{percent(found['certified_splits_frac'])} of the splits gave a certificate (others count as "
            f"zero; most labels in one: {found['labels_most']:,.0f}). Of {found['rows']:,} resampled users, "
            f"who share {plural(found['choices'], 'choice')} of candidates, "
            f"{percent(found['violations_frac'])} were certified what was not true of all questions, and "
            f"{percent(found['dearer_frac'])} paid more than for strong-only. Looks at held-out answers: "
            f"{found['looks']}."
        ),
        wrapped(
            f"one split is not the mean: standard deviation {_points_of(found, 'full_saving_sd')} at full "
            f"quality, {_points_of(found, 'certified_saving_sd')} certified. The interval is that of one "
            f"split's policy (ends averaged){_coverage(found)}."
        ),
        wrapped(f"the boldest policy of the first split: {found['policy']}"),
    )
    if found["apgr"]:
        each = "; ".join(f"{name.replace('_', ' ')} {value:.3f}" for name, value in found["apgr"].items())
        show(wrapped(f"order by the question alone (APGR): {each}"))
    if found["shift"]:
        shift = found["shift"]
        show(
            wrapped(
                f"asked other tasks than certified: noticed in {percent(shift['noticed_frac'])} of trials "
                f"(false alarms {percent(shift['false_alarms_frac'])}), then strong-only; unnoticed it were "
                f"{shift['difference_if_unnoticed'] * 100:+.2f} pp"
            )
        )
    show("", *(wrapped(note) for note in found["notes"]))
    rules = {name: rule for name, rule in found["prices"].items() if not rule.startswith(("api/", "as "))}
    if rules:
        show(wrapped("; ".join(f"{name}: {rule}" for name, rule in list(rules.items())[:6]), "prices: "))


def _coverage(found: Mapping[str, Any]) -> str:
    """For how many users the interval held, or that no user is there to say it of.

    >>> _coverage({"saving_coverage_frac": None, "held_out_coverage_frac": None})
    '; no resampled user has a certificate, so how often it holds cannot be said'
    """
    certified, held_out = found["saving_coverage_frac"], found["held_out_coverage_frac"]
    if certified is None or held_out is None:
        return "; no resampled user has a certificate, so how often it holds cannot be said"
    return (
        f"; of the users with a certificate it held what is true of all questions for {certified:.1%} on as "
        f"many questions as certified it, for {held_out:.1%} on as many as are held out"
    )


def _ends(found: Mapping[str, Any], name: str) -> str:
    return f"{percent(found[name + '_low'])} to {percent(found[name + '_high'])}"


def _points_of(found: Mapping[str, Any], name: str) -> str:
    return f"{found[name] * 100:.0f} pp"


def _against(found: Mapping[str, Any]) -> str:
    """The same against the best model of all questions, where that is not the best of every split's A."""
    certified, full = (
        f"{_saved(found[f'against_strong_{key}_saving_frac'])}, "
        f"{found[f'against_strong_{key}_quality_ratio']:.1%} of its quality"
        for key in ("certified", "full")
    )
    chose, frac = "A", found["other_strong_frac"]
    if not frac:
        chose, frac = "A and B", found["full_other_strong_frac"]
    return (
        f"against {found['strong']} alone, best of all questions but not of {chose} in {percent(frac)} of "
        f"splits: certified {certified} (without a certificate A's best is paid), at full quality {full}"
    )


def _saved(frac: float) -> str:
    """A saving, which may be none.

    >>> _saved(0.65), _saved(-0.07)
    ('65% saved', '7.0% more paid')
    """
    return f"{percent(frac)} saved" if frac >= 0 else f"{percent(-frac)} more paid"
