"""Limits and holdings: what is wrong is refused with the file, the table and what to type."""

from __future__ import annotations

import tomllib
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isocost.errors import BadLimits
from isocost.plan.asked.limits import Have, HeldGpus, Limits, Slo, read_have, read_limits

CASES = tomllib.loads((Path(__file__).parent / "cases" / "limits.toml").read_text(encoding="utf-8"))["case"]


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_a_bad_file_says_what_where_and_what_to_type(case: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / case["file"]
    path.write_text(case["text"], encoding="utf-8")
    read = read_have if case["file"] == "have.toml" else read_limits
    with pytest.raises(BadLimits) as wrong:
        read(path, *((("faq", "reports"),) if read is read_limits else ()))
    assert case["what"] in wrong.value.what
    assert wrong.value.where.startswith(case.get("where", case["file"]))
    assert case["fix"] in wrong.value.fix


@pytest.mark.parametrize("read", [read_limits, read_have])
def test_a_file_that_is_not_there_or_not_text(read: object, tmp_path: Path) -> None:
    assert callable(read)
    with pytest.raises(BadLimits, match=r"nowhere\.toml: no such file\. Check the path"):
        read(tmp_path / "nowhere.toml")
    with pytest.raises(BadLimits, match="cannot be read"):
        read(tmp_path)
    (tmp_path / "slo.toml").write_bytes(b"a = '\xff'")
    with pytest.raises(BadLimits, match=r"slo\.toml: not a text in UTF-8 \(byte 0xff\)\. Save it as UTF-8"):
        read(tmp_path / "slo.toml")


def test_the_example_of_the_docs_is_read(tmp_path: Path) -> None:
    docs = (Path(__file__).parents[1] / "docs" / "limits.md").read_text(encoding="utf-8")
    slo, have = (part.split("```")[0] for part in docs.split("```toml\n")[1:])
    (tmp_path / "slo.toml").write_text(slo, encoding="utf-8")
    (tmp_path / "have.toml").write_text(have, encoding="utf-8")
    limits = read_limits(tmp_path / "slo.toml", ("reports",))
    assert limits.of("reports").wait_s == 24 * 3600
    assert limits.of("reports").ttft_p95_s == limits.default.ttft_p95_s == 0.8
    assert limits.of("other") == limits.default
    assert read_have(tmp_path / "have.toml").gpus[0].until == date(2027, 6, 30)


def test_an_empty_file_asks_nothing(tmp_path: Path) -> None:
    path = tmp_path / "slo.toml"
    path.write_text("", encoding="utf-8")
    assert read_limits(path, ("faq",)) == Limits()
    assert read_have(path) == Have()


slos = st.builds(
    Slo,
    ttft_p95_s=st.none() | st.floats(0.01, 10),
    place=st.none() | st.sampled_from(["any", "own"]),
    wait=st.none() | st.sampled_from(["6h", "30s"]),
    regions=st.none() | st.just(("eu",)),
    spare_replicas=st.none() | st.integers(0, 3),
)


@given(slos, slos, slos)
def test_what_is_left_out_is_the_defaults(one: Slo, two: Slo, three: Slo) -> None:
    over = one.over(two)
    for name in Slo.__struct_fields__:
        mine = getattr(one, name)
        assert getattr(over, name) == (getattr(two, name) if mine is None else mine)
    assert one.over(Slo()) == Slo().over(one) == one
    assert one.over(two).over(three) == one.over(two.over(three))


def test_what_is_held_ends_on_its_day() -> None:
    have = Have((HeldGpus("g", 2, 1.0, date(2027, 1, 1)), HeldGpus("h", 1, 1.0, date(2028, 1, 1))), 0.5)
    assert [h.gpu for h in have.on(date(2026, 12, 31)).gpus] == ["g", "h"]
    assert [h.gpu for h in have.on(date(2027, 1, 1)).gpus] == ["h"]
    assert have.on(date(2030, 1, 1)).platform_fte == 0.5
