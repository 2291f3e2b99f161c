"""The claims as one offline page: what it says is what was found, and it has no script."""

from __future__ import annotations

from datetime import date
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import pytest

from isocost.catalog import Catalog
from isocost.claims import Finding, World, judged
from isocost.claims.words import amount, decided, headline
from isocost.cli import main
from isocost.report.claims import page

DAY = date(2026, 11, 23)


class Text(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(html)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return Catalog.load()


@pytest.fixture(scope="module")
def found(catalog: Catalog) -> list[Finding]:
    world = World(catalog, DAY)
    return [judged(world, one) for one in ("Q2", "Q5", "Q23")]


def test_each_claim_has_verdict_figures_boundary_and_sources(catalog: Catalog, found: list[Finding]) -> None:
    html = Text(page(found, catalog, DAY))
    assert headline(found) in html.text
    for one in found:
        for said in (one.claim.text, decided(one), one.boundary, one.change):
            assert said in html.text, (one.claim.id, said)
        assert f"{one.claim.id} " in html.text
        for figure in one.figures:
            assert figure.name in html.text
            assert amount(figure) in html.text
        for source in one.sources:
            assert catalog.sources[source].title in html.text
    shown = [attrs["id"] for tag, attrs in html.tags if tag == "details"]
    assert shown == [one.claim.id for one in found]


def test_the_page_reaches_for_nothing_and_escapes_text(catalog: Catalog, found: list[Finding]) -> None:
    evil = "<script>alert(1)</script>"
    claim = msgspec.structs.replace(found[0].claim, text=evil)
    html = Text(page([msgspec.structs.replace(found[0], claim=claim, boundary=evil)], catalog, DAY))
    assert {tag for tag, _ in html.tags}.isdisjoint({"script", "img", "link", "iframe", "object"})
    assert evil in html.text
    for tag, attrs in html.tags:
        for name in ("src", "href", "action"):
            value = attrs.get(name) or ""
            assert tag == "a" or not value, (tag, value)
        assert not any(name.startswith("on") for name in attrs)


def test_a_changed_verdict_changes_the_page(catalog: Catalog, found: list[Finding]) -> None:
    turned = [msgspec.structs.replace(found[0], verdict="fails"), *found[1:]]
    one, two = page(found, catalog, DAY), page(turned, catalog, DAY)
    assert one == page(found, catalog, DAY), "the same findings give the same bytes"
    assert Text(two).text.count("✗ fails") == Text(one).text.count("✗ fails") + 1


def test_the_command_writes_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "out" / "claims.html"
    assert main(["claims", "Q2", "--date", DAY.isoformat(), "--html", str(target)]) == 0
    assert "claims.html" in capsys.readouterr().out
    assert "Training GPT-3 cost" in target.read_text(encoding="utf-8")
