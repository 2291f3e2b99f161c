"""The page, the pictures and the specifications of a plan.

The page draws every chart once with vl-convert, so that it reads, prints and mails without
JavaScript; where JavaScript runs, Vega draws the same specification again with tooltips and, for
break-even, sliders.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import os
import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from isocost.plan.path.result import PathResult
from isocost.plan.result import PlanResult
from isocost.report import costs, palette, sections, sure, words
from isocost.report.accounts import break_evens
from isocost.report.chart import Absent, Chart
from isocost.report.charts import AHEAD, BUILDERS
from isocost.report.charts.breakeven import sliders

VEGALITE = "6.4"
"""The Vega-Lite that draws both the page's and the files' charts."""

_OWN_ID = re.compile(r'(?<=id=")(?:clip|gradient_)\d+|(?<=url\(#)(?:clip|gradient_)\d+')
_BETWEEN_TICKS = re.compile(r"`([^`]+)`")
_AFTER_MARK = re.compile(r"([/.\[@])")


def charts(result: PlanResult, path: PathResult | None = None) -> dict[str, Chart]:
    """Every chart that this result supports, by name, in reading order, in light colours.

    ``path`` adds those of a path over a horizon. ``spec`` is a complete Vega-Lite specification with its
    title: paste it into any Vega editor.
    """
    return {name: _in_light(chart) for name, chart in _drawn(result, path).items()}


def pngs(result: PlanResult, folder: Path | str, path: PathResult | None = None) -> list[Path]:
    """Write each chart as ``<nn>-<name>.png`` (2x, white ground) into ``folder``; the paths written."""
    import vl_convert

    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    written = []
    for i, (name, chart) in enumerate(_drawn(result, path).items(), start=1):
        svg = vl_convert.vegalite_to_svg(chart.standalone(), vl_version=VEGALITE)
        svg = _with_hatches(svg, palette.hatches(palette.LIGHT))
        file = target / f"{i:02d}-{name}.png"
        file.write_bytes(vl_convert.svg_to_png(svg, scale=2.0))
        written.append(file)
    return written


def render(result: PlanResult, path: PathResult | None = None) -> str:
    """The whole report as one HTML page that reaches for nothing outside itself.

    ``path`` adds what to run quarter by quarter. The same result gives the same bytes. Text from the result
    is escaped; the page's own policy forbids network access and any script but its own two, named by hash.
    """
    found = _built(result, path)
    drawn = {name: chart for name, chart in found.items() if isinstance(chart, Chart)}
    svgs = {name: Markup(_svg(name, chart)) for name, chart in drawn.items()}
    specs = {name: chart.spec for name, chart in drawn.items()}
    library = _inline(_library()) if drawn else ""
    own = _inline(asset("report.js"))
    scripts = [Markup(text) for text in (library, own) if text]
    page = environment().get_template("report.html.j2")
    return page.render(
        result=result,
        charts=drawn,
        absent={name: chart.reason for name, chart in found.items() if isinstance(chart, Absent)},
        svgs=svgs,
        specs=Markup(_json(specs)),
        sliders=Markup(_json(sliders(result))),
        style=Markup(palette.css() + "\n" + asset("report.css")),
        hatches=Markup(palette.hatches(None)),
        scripts=scripts,
        policy=_policy([str(text) for text in scripts]),
        figures=sections.figures(result),
        plan_said=sections.plan_sentence(result),
        rest=sections.rest(result),
        today_label=sections.today_label(result),
        today_ttft=sections.today_ttft(result),
        matrix_said=sections.matrix_sentence(result),
        unproven_said=sections.unproven_sentence(result),
        trace_said=sections.trace_sentence(result),
        plan=sections.plan_rows(result),
        matrix=sections.matrix(result),
        accounts=costs.accounts(result),
        units=costs.units(result),
        margins=costs.margins(result),
        margins_said=costs.margins_sentence(result),
        energies=costs.energies(result),
        boundaries=costs.boundaries(result),
        energy_said=costs.energy_sentence(result),
        break_evens=break_evens(result),
        limits=sections.limit_rows(result),
        limits_said=sections.limits_sentence(result),
        unproven=sections.unproven_rows(result),
        facts=sections.fact_rows(result),
        facts_said=sections.facts_sentence(result),
        rebuild=sections.rebuild_rows(result),
        basis=sections.basis(result),
        path=path,
        signings=[] if path is None else sure.signing_rows(path),
        rivals=[] if path is None else sure.rival_rows(path),
        path_worths=[] if path is None else sure.worth_rows(path.worths),
        odds=sure.odds_rows(result),
        odds_said=sure.odds_sentence(result),
        worths=sure.worths(result),
        worths_said=sure.worths_sentence(result),
        infeasible=result.verdict == "infeasible",
        words=words,
        nil=sections.NIL,
        accent=palette.accent,
    )


def _built(result: PlanResult, path: PathResult | None) -> dict[str, Chart | Absent]:
    """Every chart, or why it is left out; those of a path first, as its page has them."""
    found: dict[str, Chart | Absent] = {}
    if path is not None:
        found = {name: build(path, result) for name, build in AHEAD.items()}
    return found | {name: build(result) for name, build in BUILDERS.items()}


def _drawn(result: PlanResult, path: PathResult | None) -> dict[str, Chart]:
    return {name: chart for name, chart in _built(result, path).items() if isinstance(chart, Chart)}


def _in_light(chart: Chart) -> Chart:
    return Chart(chart.title, chart.subtitle, chart.standalone(), chart.table)


def _svg(name: str, chart: Chart) -> str:
    """A chart's picture. Vega counts its ids through the life of the process: here they start again."""
    import vl_convert

    svg = vl_convert.vegalite_to_svg(chart.spec, vl_version=VEGALITE)
    found = dict.fromkeys(_OWN_ID.findall(svg))
    ids = {old: f"{name}-{i}" for i, old in enumerate(found)}
    return _OWN_ID.sub(lambda match: ids[match[0]], svg)


def _with_hatches(svg: str, defs: str) -> str:
    start = svg.index(">") + 1
    return svg[:start] + defs + svg[start:]


def environment() -> Environment:
    """Templates that escape what they are given, and refuse a name that is not."""
    found = Environment(
        loader=PackageLoader("isocost.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters["ticks"] = _ticks
    found.filters["breaks"] = _breaks
    return found


def _ticks(text: str) -> Markup:
    """Escaped text with what stands between backticks set as code."""
    return Markup(_BETWEEN_TICKS.sub(r"<code>\1</code>", str(escape(text))))


def _breaks(text: str) -> Markup:
    """Escaped text that may break after a slash, a dot, a semicolon or a bracket."""
    return Markup(_AFTER_MARK.sub(r"\1<wbr>", str(escape(text))))


def asset(name: str) -> str:
    """The text of a file beside the templates."""
    return (Path(__file__).parent / "assets" / name).read_text(encoding="utf-8")


def _library() -> str:
    """Vega, Vega-Lite and Vega-Embed in one script.

    Bundling takes longer than all charts together and gives the same bytes for one version, so the script
    is kept in the user's cache folder; where that cannot be written, it is bundled each time.
    """
    import vl_convert

    kept = _cache() / f"vega-lite-{VEGALITE}-{version('vl-convert-python')}.js"
    try:
        return kept.read_text(encoding="utf-8")
    except (OSError, ValueError):
        pass
    bundle: str = vl_convert.javascript_bundle(vl_version=VEGALITE)  # type: ignore[call-arg]
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        part = kept.with_suffix(f".{os.getpid()}.part")
        part.write_text(bundle, encoding="utf-8")
        part.replace(kept)
    except OSError:
        pass
    return bundle


def _cache() -> Path:
    """The folder for what can be made again: ``$XDG_CACHE_HOME/isocost``, else the system's own."""
    named = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA")
    return (Path(named) if named else Path.home() / ".cache") / "isocost"


def _inline(script: str) -> str:
    """A script that cannot end its own element or open a comment in it."""
    return (
        script.replace("</script", "<\\/script").replace("</SCRIPT", "<\\/SCRIPT").replace("<!--", "<\\!--")
    )


def _json(value: Any) -> str:
    """JSON that is safe inside a ``<script>`` element; a figure that is not finite becomes null."""
    text = json.dumps(_finite(value), ensure_ascii=False, separators=(",", ":"), sort_keys=False)
    for raw, escaped in (
        ("<", "\\u003c"),
        (">", "\\u003e"),
        ("&", "\\u0026"),
        ("\u2028", "\\u2028"),
        ("\u2029", "\\u2029"),
    ):
        text = text.replace(raw, escaped)
    return text


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _policy(scripts: list[str]) -> str:
    """Content-Security-Policy: nothing from anywhere, and only these scripts."""
    hashes = []
    for text in scripts:
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        hashes.append(f"'sha256-{digest}'")
    sources = " ".join(hashes) or "'none'"
    return (
        f"default-src 'none'; script-src {sources}; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
