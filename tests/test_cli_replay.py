"""What ``isocost replay`` says while it works, and where a plan covers not all of a log."""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path

import pytest
from numba.core.event import end_event, start_event
from rich.status import Status

from isocost.cli import main
from isocost.cli.output import working
from test_policed_seen import BASIS, BIG

ROUTE = '\n[[route]]\nworkload = "{name}"\nmodel = "*"\nshare = [{{ deployment = "{id}", frac = 1 }}]\n'
POLICY = '\n[[policy]]\nworkload = "{name}"\n[policy.choose]\nkind = "fixed"\ndeployment = "{id}"\n'


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_is_told_of_kernels_while_they_are_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setattr(Status, "update", lambda _, what: told.append(what))
    with working("replaying", compiles=True):
        assert told == []
        start_event("numba:compile", {})
        start_event("numba:compile", {})
        end_event("numba:compile", {})
        assert set(told) == {"replaying: compiling kernels, once"}
        end_event("numba:compile", {})
        assert told[-1] == "replaying"
    told.clear()
    start_event("numba:compile", {})
    end_event("numba:compile", {})
    assert told == []


def test_a_pipe_is_told_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with working("replaying", compiles=True):
        start_event("numba:compile", {})
        end_event("numba:compile", {})
    assert capsys.readouterr() == ("", "")


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    rows = "".join(f"2026-11-{1 + i % 9:02d}T10:00:00Z,in-house,1000,100\n" for i in range(30))
    (tmp_path / "log.csv").write_text("timestamp,model,input_tokens,output_tokens\n" + rows)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(log: Path, plan: str, capsys: pytest.CaptureFixture[str]) -> str:
    """What is said of a plan in a file of another name than plan.toml."""
    (log / "shop.toml").write_text(BASIS + plan)
    assert main(["replay", "log.csv", "--plan", "shop.toml"]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    return shown.err


def test_a_missing_route_is_told_with_the_file_and_what_to_type(
    log: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refused(log, "", capsys)
    assert said.startswith("isocost: shop.toml: no route for workload 'log' and model 'in-house'; it has no")
    assert "plan.toml" not in said
    typed = re.search(r"Add a (.*) with (workload = .*), (model = .*) \(any\), (share = .*)", said)
    assert typed is not None
    (log / "shop.toml").write_text(BASIS + "\n".join(["", *typed.groups(), ""]))
    assert main(["replay", "log.csv", "--plan", "shop.toml", "--json"]) == 0


def test_a_missing_route_is_told_with_those_that_are_there(
    log: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = refused(log, ROUTE.format(name="faq", id=BIG), capsys)
    assert "; it has faq (*). Add" in one
    many = "".join(ROUTE.format(name=f"w{i}", id=BIG) for i in range(9))
    assert "w5 (*) and 3 more. Add" in refused(log, many, capsys)
    policy = refused(log, POLICY.format(name="law", id=BIG) + ROUTE.format(name="faq", id=BIG), capsys)
    assert "shop.toml: no policy or route for workload 'log'" in policy
    assert "; it has law (*), faq (*). Add" in policy
    assert "--workload-by" in policy
    assert "--workload-by" not in refused(log, "", capsys)
