"""The targets of model 2: how they are judged, and one command that measures and prints them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench.accuracy import targets
from bench.accuracy.case_bench import WHOLE
from bench.accuracy.methods import FILTER
from bench.accuracy.pair_methods import REFINED
from bench.accuracy.target_table import TARGETS, Measured, Target, most
from streamer import cli
from streamer.errors import ConfigError

NOBODY = Measured([], [], [])


def row(source: str, method: str = FILTER, at_s: float = 0.0, group: str = "", **scores: float) -> dict[str, Any]:
    return {"source": source, "method": method, "at_s": at_s, "group": group, "scores": scores, "broken": 0}


def named(word: str) -> Target:
    (target,) = (target for target in TARGETS if word in target.text)
    return target


def test_the_worst_value_decides_and_is_named() -> None:
    target = Target("x", lambda m: {"a": 3.0, "b": 7.0, "c": 1.0}, most(5.0), most(2.0), "mm")
    judged = target.judged(NOBODY)
    assert (judged["worst"], judged["where"], judged["held"], judged["reached"]) == (7.0, "b", False, False)
    assert Target("x", lambda m: {"a": 3.0}, most(5.0), most(2.0)).judged(NOBODY)["held"]
    between = Target("x", lambda m: {"low": 0.5, "high": 0.77}, (0.6, 0.76), (0.65, 0.71)).judged(NOBODY)
    assert (between["where"], between["held"]) == ("low", False)
    anything = Target("x", lambda m: {"a": 3.0}, most(None), most(2.0)).judged(NOBODY)
    assert (anything["held"], anything["reached"]) == (None, False)


def test_what_is_not_measured_is_neither_held_nor_not() -> None:
    for target in TARGETS:
        judged = target.judged(NOBODY)
        assert (judged["held"], judged["worst"]) == (None, None), target.text


def test_poses_with_nan_hold_nothing() -> None:
    broken = row("own, clean", group="definitions", mpjpe_world_mm=0.5) | {"broken": 3}
    judged = named("clean, any definition").judged(Measured([], [broken], []))
    assert judged["held"] is False
    assert "NaN" in judged["where"]


def test_ratios_are_against_the_row_they_name() -> None:
    rows = [
        row("smpl_24, white 10, no arm", group="half seen", mpjpe_world_mm=12.0),
        row("smpl_24, white 10, no arm", WHOLE, group="half seen", mpjpe_world_mm=10.0),
        row("smpl_24, clean, no arm", group="half seen", mpjpe_world_mm=9.0),
        row("smpl_24, clean, no arm", WHOLE, group="half seen", mpjpe_world_mm=0.1),
    ]
    measured = Measured([], rows, [])
    assert named("hidden for good, 10 mm").judged(measured)["worst"] == pytest.approx(20.0)
    assert named("hidden for good, clean").judged(measured)["worst"] == 9.0


def test_the_sources_own_joints_are_read_where_there_are_some() -> None:
    rows = [row("h36m, clean", group="definitions", mpjpe_world_mm=40.0),
            row("h36m, clean", REFINED, group="definitions", mpjpe_world_mm=0.4)]  # fmt: skip
    judged = named("clean, any definition").judged(Measured([], rows, []))
    assert (judged["worst"], judged["reached"]) == (0.4, True)
    assert named("clean, any definition").judged(Measured([], rows[:1], []))["held"] is False


def test_today_is_compared_where_it_is_known() -> None:
    def own(mm: float) -> list[dict[str, Any]]:
        return [{"noise": "ar30", "at_s": 0.0, "method": FILTER, "all": {"mpjpe_root_mm": mm}}]

    before = Measured([], [], own(50.0), 100.0)
    after = Measured([], [], own(52.0), 120.0, before)
    assert named("own skeletons, against today").judged(after)["worst"] == pytest.approx(4.0)
    assert named("push p50").judged(after)["worst"] == pytest.approx(1.2)


def test_one_command_measures_judges_and_writes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(targets, "WARMUP", 10)
    monkeypatch.setattr(targets, "PUSHES", 50)
    out, text, keep = tmp_path / "t.json", tmp_path / "t.md", tmp_path / "k.json"
    words = ["bench", "targets", "synthetic", "--only", "outliers", "push", "--bodies", "1", "--seconds", "9.5",
             "--runtime", "onnx", "--json", str(out), "--markdown", str(text), "--keep", str(keep)]  # fmt: skip
    assert cli.main(words) == 0
    assert "gross outliers" in capsys.readouterr().out

    def none(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    result = json.loads(out.read_text(), parse_constant=none)
    outliers = next(one for one in result["targets"] if "outliers" in one["target"])
    assert len(outliers["values"]) == 4
    assert outliers["held"] in (True, False)
    assert "takes" not in result["cases"][0]
    assert result["push_us"] > 0
    assert "| gross outliers" in text.read_text()
    again = targets.read_before(keep)
    assert targets.comparable(again, result["settings"], result["machine"]) == again
    judged = targets.judged(result, again)
    assert next(one for one in judged if "push" in one["target"])["worst"] == 1.0
    elsewhere = targets.comparable(again, result["settings"] | {"clips": 7}, {"cpu": "another"})
    assert (elsewhere["own"], elsewhere["push_us"]) == ([], None)


def test_another_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(ConfigError, match="--before"):
        targets.read_before(tmp_path / "x.json")
