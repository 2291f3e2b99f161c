"""The page's own script, run in a browser: sliders against their twin in Python, filter, sorting, no errors.

Skipped, saying so, where no Chromium is installed.
"""

from __future__ import annotations

import base64
import hashlib
import json
import queue
import re
import shutil
import subprocess
import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest

from isocost import report
from isocost.plan.result import PlanResult
from isocost.report.charts.breakeven import POOLED, at, sliders
from isocost.units import count, money

CASE = Path(__file__).parent / "cases" / "report" / "support.json"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
LIMIT_S = 60.0
RECOST_MS = 50.0
MARK = "ISOCOST "
MOVES = [(0.0, 0, 0), (0.5, 0, 0), (-0.3, -50, 40), (1.0, 100, -80), (0.0, -80, 100)]
"""Powers of ten of volume, and changes of API and GPU prices in per cent."""

SCRIPT = """
(async () => {
  const errors = [];
  window.addEventListener("error", (e) => errors.push(String(e.message)));
  window.addEventListener("securitypolicyviolation", (e) => errors.push(e.violatedDirective));
  const form = document.getElementById("sliders");
  for (let i = 0; i < 400 && form.hidden; i++) await new Promise((done) => setTimeout(done, 50));
  const put = (id, value) => { document.getElementById(id).value = value; };
  const times = [], said = [];
  for (const [volume, api, gpu] of MOVES) {
    put("in-volume", volume); put("in-api", api); put("in-gpu", gpu);
    const start = performance.now();
    document.getElementById("in-gpu").dispatchEvent(new Event("input"));
    times.push(performance.now() - start);
    said.push(document.getElementById("said").textContent);
  }
  document.getElementById("back").click();
  const rows = () => [...document.querySelectorAll("#facts-table tbody tr")];
  const filter = document.getElementById("filter");
  filter.value = "assumed"; filter.dispatchEvent(new Event("input"));
  const kept = rows().filter((row) => !row.hidden).length;
  filter.value = ""; filter.dispatchEvent(new Event("input"));
  document.querySelectorAll("#facts-table th[data-on]")[1].click();
  const values = rows().map((row) => row.cells[1].dataset.sort);
  console.log(MARK + JSON.stringify({
    errors, times, said, kept, values, hidden: form.hidden,
    back: document.getElementById("said").textContent,
    drawn: document.querySelectorAll(".vega-embed svg").length,
    lines: document.querySelectorAll("#chart-breakeven .mark-line path").length,
  }));
})();
"""


@pytest.fixture(scope="module")
def result() -> PlanResult:
    return msgspec.json.decode(CASE.read_bytes(), type=PlanResult)


@pytest.fixture(scope="module")
def seen(result: PlanResult, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a browser found on the page, with the page's policy in force."""
    browser = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if browser is None:
        pytest.skip("no Chromium: the page's script is not run")
    folder = tmp_path_factory.mktemp("page")
    script = SCRIPT.replace("MOVES", json.dumps(MOVES)).replace("MARK", json.dumps(MARK))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    html = report.render(result).replace("script-src ", f"script-src 'sha256-{digest}' ", 1)
    end = html.rindex("</body>")
    page = folder / "report.html"
    page.write_text(f"{html[:end]}<script>{script}</script>{html[end:]}", encoding="utf-8")
    command = [
        *(browser, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"),
        *("--remote-debugging-port=0", f"--user-data-dir={folder / 'profile'}", page.as_uri()),
    ]
    run = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    lines: queue.Queue[str] = queue.Queue()

    def listen() -> None:
        assert run.stderr is not None
        for line in run.stderr:
            lines.put(line)
        lines.put("")

    threading.Thread(target=listen, daemon=True).start()
    try:
        while line := lines.get(timeout=LIMIT_S):
            found = re.search(rf'"{MARK}(.*)", source:', line)
            if found:
                told: dict[str, Any] = json.loads(found[1])
                return told
        pytest.skip("the browser does not run here: the page's script is not run")
    except queue.Empty:
        pytest.fail("the page's script said nothing")
    finally:
        run.terminate()
        run.wait(timeout=10)


def cheapest(result: PlanResult, power: float, api_percent: int, gpu_percent: int) -> str:
    """What the sliders' sentence must begin with: the twin of the script's arithmetic."""
    told, found = sliders(result), result.breakeven
    assert told is not None
    assert found is not None
    volume = result.trace.requests_per_month * 10**power
    api, gpu = 1 + api_percent / 100, 1 + gpu_percent / 100
    costs = []
    for i, series in enumerate(told["series"]):
        scale = 1 - series["api"] - series["gpu"] + series["api"] * api + series["gpu"] * gpu
        usd = [None if c is None else series["fixed"] + (c - series["fixed"]) * scale for c in series["usd"]]
        moved = msgspec.structs.replace(
            found, usd_per_month=[*found.usd_per_month[:i], usd, *found.usd_per_month[i + 1 :]]
        )
        cost = at(moved, i, volume)
        assert series["stairs"] == (found.options[i] in POOLED)
        if series["ok"] and cost is not None:
            costs.append((cost, series["label"]))
    lead = f"At {count(volume)} requests a month "
    if not costs:
        return lead + "nothing tabulated that is allowed serves all the traffic."
    usd_least, label = min(costs)
    return lead + f"{label} costs least of what is allowed: {money(usd_least)} a month."


def test_a_moved_slider_says_what_python_says(seen: dict[str, Any], result: PlanResult) -> None:
    for said, move in zip(seen["said"], MOVES, strict=True):
        assert said.startswith(cheapest(result, *move)), move
    assert seen["back"] == seen["said"][0]


def test_pricing_again_takes_at_most_50_ms(seen: dict[str, Any]) -> None:
    # The page's own clock runs on while others have the processor: the quickest is nearest to what it takes.
    assert min(seen["times"]) <= RECOST_MS


def test_every_chart_is_drawn_under_the_pages_own_policy(seen: dict[str, Any], result: PlanResult) -> None:
    assert seen["errors"] == []
    assert not seen["hidden"]
    assert seen["drawn"] == len(report.charts(result))
    assert result.breakeven is not None
    assert seen["lines"] >= len(result.breakeven.options)


def test_the_facts_are_filtered_and_sorted(seen: dict[str, Any], result: PlanResult) -> None:
    assert seen["kept"] == sum(
        "assumed" in f"{f.id} {f.kind} {f.source} {f.quote}".lower() for f in result.facts
    )
    numbers = [float(v) for v in seen["values"] if re.fullmatch(r"[-+.\de]+", v)]
    assert numbers == sorted(numbers)
