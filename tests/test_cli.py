"""The command line: a wrong input gets one line, nothing is half-written, output fits and can be piped."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest

from golden import Golden
from isocost.cli import app, main
from isocost.cli.output import staged
from isocost.cli.root import NOT_BUILT
from isocost.deployment import Api
from isocost.errors import BadInput, Infeasible
from isocost.fleet import Fleet
from isocost.ledger import Charge, Ledger, fusd
from isocost.plan.asked.limits import Limits, Slo
from isocost.plan.result import PlanResult
from isocost.plan.written.file import Basis, PlanFile, dumps
from isocost.policy.route import Route, Share

CASES = Path(__file__).parent / "cases"
FACTS = str(CASES / "cli" / "facts")
ACME = ("--facts", FACTS)
SCRIPT = "import sys; from isocost.cli import main; sys.argv[0] = 'isocost'; sys.exit(main())"
ERRORS = json.loads((CASES / "cli" / "errors.json").read_text())


@pytest.fixture(autouse=True)
def _plain_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("NO_COLOR", "1")


def ran(*argv: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """A command in a process of its own, its output piped."""
    return subprocess.run(
        [sys.executable, "-c", SCRIPT, *argv],
        env={**os.environ, "PYTHONUTF8": "1", **(env or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("case", ERRORS, ids=[" ".join(case["argv"]) for case in ERRORS])
def test_wrong_input_gets_one_line_and_leaves_nothing(
    case: dict[str, object], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    argv, says = case["argv"], case["says"]
    assert isinstance(argv, list)
    assert isinstance(says, str)
    code = main([FACTS if word == "FACTS" else word for word in argv])
    out, err = capsys.readouterr()
    assert err.startswith(says), err
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", NOT_BUILT)
def test_what_is_not_built_says_so_and_is_not_shown(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "x", "--json"]) == 2
    assert f"'{name}' is not built yet." in capsys.readouterr().err
    assert name not in list(app)


def test_commands_in_not_built_advice_exist() -> None:
    named = {word for text in NOT_BUILT.values() for word in re.findall(r"isocost (\w+)", text)}
    assert named <= set(app)


def test_infeasible_lists_conflict_and_ways_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def nothing_holds(request: object) -> None:
        raise Infeasible(
            "no plan meets the limits",
            conflict=["TTFT p95 <= 0.05 s", "region eu"],
            ways_out=[("TTFT p95 <= 0.40 s", "$310 a month")],
        )

    monkeypatch.setattr("isocost.plan.run.make_plan", nothing_holds)
    assert main(["plan"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "isocost: no plan meets the limits",
        "  cannot hold together:",
        "    TTFT p95 <= 0.05 s",
        "    region eu",
        "  ways out:",
        "    TTFT p95 <= 0.40 s: $310 a month",
    ]
    assert list(tmp_path.iterdir()) == []


def test_interrupt_exits_130_and_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def interrupted(request: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("isocost.plan.run.make_plan", interrupted)
    assert main(["plan"]) == 130
    assert capsys.readouterr().err == "isocost: interrupted; nothing was written\n"
    assert list(tmp_path.iterdir()) == []


def test_staged_files_appear_together_or_not_at_all(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "er"

    def half() -> None:
        with staged(folder) as stage:
            (stage / "plan.toml").write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        half()
    assert list(tmp_path.iterdir()) == [], "not even the folders that were made for it"
    folder.mkdir(parents=True)
    (folder / "plan.toml").write_text("old")
    with staged(folder) as stage:
        (stage / "plan.toml").write_text("new")
        (stage / "report.html").write_text("page")
        assert (folder / "plan.toml").read_text() == "old"
    assert {path.name: path.read_text() for path in folder.iterdir()} == {
        "plan.toml": "new",
        "report.html": "page",
    }
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="--to DIR"), staged(tmp_path / "file" / "under"):
        pass


@pytest.fixture
def outcome(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A plan made elsewhere, so that only what is printed and written is tested."""
    result = msgspec.json.decode((CASES / "report" / "support.json").read_bytes(), type=PlanResult)
    charge = Charge(
        "mon 00h", "api", "d", "deployment", "tokens", "w", "t", "m", 1.0, "tok", "", 1.0, fusd(1.0)
    )
    made = SimpleNamespace(result=result, toml="title = 'a plan'\n", ledger=Ledger([charge]))
    monkeypatch.setattr("isocost.plan.run.make_plan", lambda request: made)
    return made


def test_plan_writes_and_says_so(
    outcome: SimpleNamespace, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main([]) == 0
    assert capsys.readouterr().out.rstrip().endswith("Wrote: plan.toml, ledger.parquet, report.html")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ledger.parquet", "plan.toml", "report.html"]
    assert Ledger.read(tmp_path / "ledger.parquet").total_usd == 1.0
    assert (tmp_path / "plan.toml").read_text() == outcome.toml
    assert main(["plan", "--no-report", "--to", "there"]) == 0
    assert capsys.readouterr().out.rstrip().endswith("Wrote: there/plan.toml, there/ledger.parquet")
    assert sorted(path.name for path in (tmp_path / "there").iterdir()) == ["ledger.parquet", "plan.toml"]


def test_plan_as_json_is_its_result(outcome: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--json"]) == 0
    assert msgspec.json.decode(capsys.readouterr().out, type=PlanResult) == outcome.result


@pytest.mark.parametrize(
    "argv",
    [
        ("price", "acme/big", *ACME),
        ("trace", "--example"),
        ("catalog", "list"),
        ("catalog", "list", "gpu/"),
        ("catalog", "show", "gpu/h100-sxm"),
        ("catalog", "check"),
        ("size", "llama-3.1-8b", "--rate", "1", "--in", "500", "--out", "100", "--gpus", "l4"),
        ("why", "self/llama-3.1-8b@1xl4.weight_bytes"),
        ("why", "gpu/h100-sxm.memory_bytes"),
    ],
    ids=" ".join,
)
def test_json_is_one_document_and_nothing_else(
    argv: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*argv, "--json"]) in (0, 1)
    out, err = capsys.readouterr()
    json.loads(out)
    assert err == ""


@pytest.mark.parametrize(
    "more", [["--horizon", "36mo", "--growth", "4%/mo"], ["--memo", "m.md"], ["--frontier"]]
)
def test_a_plan_from_numbers_refuses_what_it_cannot_give(
    more: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["plan", "--requests", "100k/mo", "--in", "600", "--out", "150", "--to", str(tmp_path)]
    assert main([*words, *more]) == 2
    err = capsys.readouterr().err
    assert more[0] in err
    assert "examples/startup.toml" in err
    assert list(tmp_path.iterdir()) == []


def test_price_prints_each_line_with_its_fact(capsys: pytest.CaptureFixture[str], golden: Golden) -> None:
    words = ["price", "acme/big", "--in", "20k", "--cached", "8k", "--out", "500", "--at", "2026-01-01"]
    assert main([*words, "--requests", "200k..5M/mo", *ACME]) == 0
    golden.check("cli_price.txt", capsys.readouterr().out)
    assert main(["price", "acme/big", "--tier", "batch", "--at", "2026-01-01", *ACME]) == 0
    golden.check("cli_price_batch.txt", capsys.readouterr().out)


def test_price_as_json_adds_up(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["price", "acme/big", "--in", "20k", "--cached", "8k", "--out", "500", "--at", "2026-01-01"]
    assert main([*words, "--requests", "2M/mo", "--json", *ACME]) == 0
    found = json.loads(capsys.readouterr().out)
    # 12,000 x $2.50/M + 8,000 x $0.25/M + 500 x $10/M
    assert float(found["usd"]) == 0.037
    assert sum(float(line["amount_usd"]) for line in found["lines"]) == pytest.approx(0.037, abs=1e-15)
    assert found["usd_per_month"] == pytest.approx([74_000.0, 74_000.0])
    # Without a cache all 20,000 input tokens cost $2/M at the other host.
    elsewhere = {each["offering"]: float(each["usd"]) for each in found["elsewhere"]}
    assert elsewhere == {"acme/big": 0.037, "bolt/big": 0.0445}


def test_catalog_show_cites(capsys: pytest.CaptureFixture[str], golden: Golden) -> None:
    assert main(["catalog", "show", "api/acme/big", "--on", "2026-01-01", *ACME]) == 0
    golden.check("cli_catalog_show.txt", capsys.readouterr().out)


def test_catalog_check_finds_what_is_wrong(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "wrong").mkdir()
    (tmp_path / "wrong" / "mine.csv").write_text(
        "subject,attribute,value,unit,source,checked,kind\n"
        "gpu/h100-sxm,memory_bytes,-1,GB,nobody,2026-01-01,measured\n"
    )
    assert main(["catalog", "check", "--facts", "wrong"]) == 1
    out = capsys.readouterr().out
    assert "mine.csv:2: source 'nobody' is not in sources.csv." in out
    assert "mine.csv:2: unit 'GB', the attribute's is 'bytes'." in out


def test_catalog_show_of_one_fact(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["catalog", "show", "gpu/h100-sxm.memory_bytes", "--json"]) == 0
    assert {row["attribute"] for row in json.loads(capsys.readouterr().out)} == {"memory_bytes"}


def test_no_log_gives_a_memo(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = ["plan", "--requests", "50k..200k/mo", "--in", "600", "--out", "150"]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert out.rstrip().endswith("Wrote: memo.md")
    assert max(len(line) for line in out.splitlines()) <= 100
    (page,) = tmp_path.iterdir()
    assert page.read_text().startswith("# 50k to 200k requests a month")


PLAN = PlanFile(
    Basis("a log", "0", "2026-01-01", "0", "", 10.0, 5.0),
    Limits(default=Slo(ttft_p95_s=1.0)),
    (Api("acme/big", "api/acme/big", "acme", "acme-big", "api"),),
    (Route("log", "*", (Share("acme/big", (1.0,)),)),),
    Fleet(),
)


def test_replay_prices_a_plan_on_another_log(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "plan.toml").write_text(dumps(PLAN))
    rows = "\n".join(f"2026-01-0{1 + i // 24}T{i % 24:02}:00:00Z,acme/big,1000,100,0.5" for i in range(96))
    (tmp_path / "log.csv").write_text(f"timestamp,model,input_tokens,output_tokens,ttft_s\n{rows}\n")
    assert main(["replay", "log.csv", "--json", *ACME]) == 0
    found = json.loads(capsys.readouterr().out)
    # 96 requests of 1,000 x $2.50/M + 100 x $10/M
    assert found["usd"] == pytest.approx(96 * 0.0035)
    assert found["requests"] == 96
    assert found["served"][0]["deployment"] == "acme/big"
    ttft = next(limit for limit in found["limits"] if limit["name"] == "ttft_p95")
    assert (ttft["target"], ttft["found"], ttft["status"]) == (1.0, 0.5, "held")
    assert main(["replay", "log.csv", *ACME]) == 0
    out = capsys.readouterr().out
    assert "planned $5.00" in out
    assert "TTFT p95 <= 1.00 s: log 0.50 s" in out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log.csv", "plan.toml"]


def test_why_of_a_plan_adds_up_its_ledger(
    outcome: SimpleNamespace, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["plan", "--no-report"]) == 0
    capsys.readouterr()
    assert main(["why", "plan", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["why"]["value"] == 1.0


def test_validate_bills_counts(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    head = (
        "id,provider,model,at,tier,region,input_uncached,cache_read,cache_write_5m,cache_write_1h,output_total,"
        "reasoning,audio_in,audio_cached,audio_out,web_searches,expected_usd\n"
    )
    row = "{},acme,big,2026-01-01T00:00:00,standard,,1000000,0,0,0,0,0,0,0,0,0,{}\n"
    (tmp_path / "bills.csv").write_text(head + row.format("right", "2.5") + row.format("wrong", "2.4"))
    assert main(["validate", "bills", "bills.csv", "--json", *ACME]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["rows"], found["passed"], found["failed"]) == (2, 1, ["wrong"])
    assert main(["validate", "bills", "bills.csv", *ACME]) == 0
    assert "failed: wrong" in capsys.readouterr().out


def test_trace_says_what_a_log_holds(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    rows = "\n".join(f"2026-01-0{1 + i // 24}T{i % 24:02}:00:00Z,{100 + i},{10 + i}" for i in range(96))
    (tmp_path / "log.csv").write_text(f"when,asked,said\n{rows}\n")
    words = ["trace", "log.csv", "--map", "arrival=when,input_tok=asked,output_tok=said"]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert out.startswith("log: 96 requests in 4 days, read as generic\n")
    for said in ("guessed", "cannot", "What does it cost today", "Mon |", "Next: isocost plan log.csv"):
        assert said in out
    assert max(len(line) for line in out.splitlines()) <= 100


@pytest.mark.parametrize("words", [[], ["price", "acme/big", *ACME], ["catalog", "list", "api/acme", *ACME]])
def test_piped_output_is_plain_and_without_trailing_space(
    words: list[str], outcome: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert [line for line in out.splitlines() if line != line.rstrip()] == []


@pytest.mark.parametrize("width", ["40", "80", "100"])
@pytest.mark.parametrize(
    "words",
    [
        ("catalog", "show", "rental/aws/h100-sxm"),
        ("catalog", "show", "api/anthropic/claude-sonnet-4-5"),
        ("price", "anthropic/claude-sonnet-4-5"),
        ("trace", "--example"),
        ("size", "llama-3.3-70b", "--rate", "5", "--in", "1000", "--out", "200", "--gpus", "h100-sxm"),
    ],
    ids=" ".join,
)
def test_no_number_is_cut_where_it_is_narrow(
    words: tuple[str, ...], width: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every number of the widest print is in the narrow one, but for columns that are left out."""
    monkeypatch.setenv("COLUMNS", "120")
    assert main(list(words)) == 0
    wide = capsys.readouterr().out
    monkeypatch.setenv("COLUMNS", width)
    assert main(list(words)) == 0
    narrow = capsys.readouterr().out
    assert "…" not in narrow
    number = re.compile(r"[$\d][\d,.]*\d")
    assert set(number.findall(narrow)) <= set(number.findall(wide))


def in_terminal(words: list[str], env: dict[str, str]) -> str:
    """What a command prints to a terminal."""
    leader, follower = pty.openpty()
    done = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, *words],
        env={**{k: v for k, v in os.environ.items() if k != "NO_COLOR"}, "TERM": "xterm-256color", **env},
        stdin=subprocess.DEVNULL,
        stdout=follower,
        stderr=subprocess.DEVNULL,
    )
    os.close(follower)
    parts = []
    while True:
        try:
            part = os.read(leader, 65536)
        except OSError:
            break
        if not part:
            break
        parts.append(part)
    os.close(leader)
    assert done.wait() == 0
    return b"".join(parts).decode()


def test_colour_in_a_terminal_unless_refused() -> None:
    words = ["price", "acme/big", "--at", "2025-02-01", *ACME]
    assert "\x1b[1m" in in_terminal(words, {})
    assert not re.search(r"\x1b\[[0-9;]*3\dm", in_terminal(words, {"NO_COLOR": "1"}))


def test_help_loads_no_heavy_room() -> None:
    code = (
        "import sys, io, contextlib\nfrom isocost.cli import main\n"
        "with contextlib.redirect_stdout(io.StringIO()):\n    main(['--help']); main(['plan', '--help'])\n"
        "heavy = ('numpy', 'numba', 'duckdb', 'highspy', 'vl_convert', 'jinja2', 'msgspec')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_reader_that_leaves_is_no_error() -> None:
    command = f'{sys.executable} -c "{SCRIPT}" catalog list api/ | head -1'
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.stdout.startswith("subject")
    assert done.stderr == ""


def test_version() -> None:
    done = ran("--version")
    assert done.returncode == 0
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", done.stdout)


@pytest.mark.parametrize(
    "words",
    [
        ["policy", "check", "bin.toml"],
        ["plan", "bin.toml"],
        ["plan", "log.csv", "--slo", "bin.toml"],
        ["keep", "bin.toml"],
        ["bill", "log.csv", "--facts", "."],
    ],
    ids=" ".join,
)
def test_what_is_no_text_is_said_to_be_none(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("bin.toml", "facts.csv"):
        Path(name).write_bytes(b"\x95\xff\x00binary")
    Path("log.csv").write_text(
        "timestamp,model,input_tokens,output_tokens\n2026-01-01T00:00:00Z,gpt-4o,5,1\n"
    )
    assert main(words) == 2
    said = capsys.readouterr().err
    assert "not a text in UTF-8" in said
    assert len(said.splitlines()) == 1


def test_a_volume_beyond_the_world_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--requests", "1e30/mo", "--in", "10", "--out", "10"]) == 2
    assert "more than 1e+15 requests a month" in capsys.readouterr().err


def test_the_package_runs_as_a_module() -> None:
    """``python -m isocost`` is the script ``isocost``."""
    told = subprocess.run(
        [sys.executable, "-m", "isocost", "price"], capture_output=True, text=True, check=False
    )
    assert told.returncode == 2
    assert told.stderr.startswith("isocost: ")
