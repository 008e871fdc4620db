"""The accuracy bench: its clips, its arithmetic, and a short run of the real filter on synthetic motion."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from bench import accuracy
from bench.accuracy import FILTER, METHODS, Answers, Seen, averaged, corrupted, filtered, scores_of, smoothed
from bench.takes import Take, load_takes, take_of
from model.corruption import LOSSES, NOISES
from model.prepare import prepare
from model.synthetic import SyntheticActor
from streamer import cli
from streamer.errors import ConfigError
from streamer.runtimes import Runtime, load_runtime
from tests.motion_files import amc_text, asf_text, random_angles


@pytest.fixture(scope="module")
def runtime() -> Runtime:
    return load_runtime("onnx")


@pytest.fixture(scope="module")
def take() -> Take:
    return load_takes("synthetic", clips=1, seconds=6.0)[0]


# -- clips


@pytest.mark.parametrize("fps", [30.0, 60.0, 100.0, 120.0])
def test_a_take_is_the_middle_of_a_clip_at_30_fps(fps: float) -> None:
    actor, t_s = SyntheticActor(3), np.arange(round(9 * fps)) / fps
    take = take_of("a", actor.positions(t_s), fps, seconds=5.0)
    assert len(take.t_ns) == 151
    np.testing.assert_allclose(np.diff(take.t_ns), 1e9 / 30, atol=1)
    first = (len(t_s) - len(take.native)) // 2
    expected = actor.positions(t_s[first] + take.t_ns / 1e9)
    # Exact where 30 divides the rate: the nearest nanosecond is all that is lost.
    np.testing.assert_allclose(take.truth_at(take.t_ns), expected, atol=1e-7 if fps % 30 == 0 else 2e-3)


def test_truth_is_known_from_the_first_to_the_last_captured_frame() -> None:
    take = take_of("a", np.zeros((121, 24, 3)), 120.0)
    assert len(take.t_ns) == 31
    assert take.holds(take.t_ns).all()
    assert not take.holds(take.t_ns - 10**8)[:3].any()
    assert not take.holds(take.t_ns + 10**8)[-3:].any()


def test_a_folder_and_its_packed_file_give_the_same_takes(tmp_path: Path) -> None:
    (tmp_path / "07.asf").write_text(asf_text())
    listing = ["set,subject,file,fps,frames,split,description"]
    for k in range(1, 5):
        frames = 310 + 10 * k if k < 4 else 100  # the last one is too short to be scored
        (tmp_path / f"07_0{k}.amc").write_text(amc_text(random_angles(frames)))
        listing.append(f"cmu,07,07_0{k}.amc,60,{frames},test,made up")
    (tmp_path / "clips.csv").write_text("\n".join(listing) + "\n")
    prepare(tmp_path, tmp_path / "test.npz", split="test")
    takes, packed = load_takes(tmp_path), load_takes(tmp_path / "test.npz")
    assert len(takes) == 3
    assert [take.name for take in takes] == [take.name for take in packed]
    for a, b in zip(takes, packed, strict=True):
        np.testing.assert_allclose(a.truth_at(a.t_ns), b.truth_at(b.t_ns), atol=1e-5)
    assert [take.name for take in load_takes(tmp_path, clips=2)] == [take.name for take in takes[:2]]
    with pytest.raises(ConfigError, match="no clip is in split 'train'"):
        load_takes(tmp_path, split="train")


def test_no_data_is_one_line_that_says_what_to_give(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["evaluate", str(tmp_path / "nothing.npz")]) == 2
    assert "hpstm prepare" in capsys.readouterr().err
    (tmp_path / "wrong.npz").write_bytes(b"no zip")
    with pytest.raises(ConfigError, match="not a file that"):
        load_takes(tmp_path / "wrong.npz")


# -- noise and answers


@pytest.mark.parametrize("noise", list(NOISES))
def test_noise_is_the_same_whatever_else_is_scored(take: Take, noise: str) -> None:
    first, again = corrupted(take, noise), corrupted(take, noise)
    np.testing.assert_array_equal(first.positions, again.positions)
    hidden = np.isnan(first.positions).any(-1)
    assert hidden.any() == (noise in ("realistic", *LOSSES))
    assert (first.confidence[hidden] == 0).all()


@pytest.mark.parametrize("at_s", [0.0, -0.1, 0.1])
def test_every_method_answers_for_the_same_times(runtime: Runtime, take: Take, at_s: float) -> None:
    seen = corrupted(take, "clean")
    live = filtered(runtime, take, seen, at_s)
    np.testing.assert_array_equal(live.t_ns, take.t_ns + round(at_s * 1e9))
    held = smoothed("input", take, seen, at_s)
    np.testing.assert_array_equal(held.t_ns, live.t_ns)
    if at_s <= 0:  # the clean input of that time is the truth of that time
        later = take.holds(held.t_ns)
        np.testing.assert_allclose(held.positions[later], take.truth_at(held.t_ns)[later], atol=1e-6)


def test_frames_before_the_first_sight_are_not_scored(runtime: Runtime, take: Take) -> None:
    seen = corrupted(take, "clean")
    blind = seen.positions.copy()
    blind[:7] = np.nan
    assert np.isnan(filtered(runtime, take, Seen(blind, seen.confidence), 0.0).positions[:7]).all()


def test_a_joint_seen_late_counts_for_no_method_before(
    runtime: Runtime, take: Take, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = corrupted(take, "clean")
    late = seen.positions.copy()
    late[:40, 20] = np.nan
    monkeypatch.setattr(accuracy, "corrupted", lambda *_: Seen(late, seen.confidence))
    for at_s, frames in ((0.0, 140), (-0.1, 137), (0.1, 138)):  # of 181; 0.1 s ahead: no truth for the last three
        result = accuracy.score_take(runtime, take, "clean", at_s)
        assert {result[method]["all"]["frames"] for method in METHODS} == {frames}


def test_bones_are_scored_from_their_last_change_on(runtime: Runtime, take: Take, monkeypatch: Any) -> None:
    seen = corrupted(take, "hpstm")
    blind = seen.positions.copy()
    blind[:20] = np.nan  # the filter starts when it first sees somebody
    monkeypatch.setattr(accuracy, "corrupted", lambda *_: Seen(blind, seen.confidence))
    scores = accuracy.score_take(runtime, take, "hpstm", 0.0)[FILTER]["settled"]
    assert scores["frames"] == 181 - 20 - 120
    assert scores["bone_std_mm"] < 1e-3


# -- scores


def test_scores_of_a_known_error() -> None:
    truth = SyntheticActor(1).positions(np.arange(60) / 30)
    moved = Answers(
        np.zeros(60, np.int64), truth + np.array((0.003, 0.0, 0.004)), np.tile(np.eye(3) * 1e-4, (60, 24, 1, 1))
    )
    scores = scores_of(moved, truth, slice(None))
    assert scores["frames"] == 60
    assert scores["mpjpe_world_mm"] == pytest.approx(5.0)
    for name in ("mpjpe_root_mm", "pa_mpjpe_mm", "accel_mm"):
        assert scores[name] == pytest.approx(0.0, abs=1e-6)
    assert scores["in_1_sigma"] == 1.0
    assert scores_of(moved, truth, np.arange(60) < 2) == {"frames": 0}


def test_means_count_frames_and_the_interval_holds_them() -> None:
    names = ("mpjpe_root_mm", "accel_mm")
    rows = [{"frames": n} | dict.fromkeys(names, v) for n, v in ((100, 10.0), (300, 20.0), (0, 0.0))]
    rows[2] = {"frames": 0}
    mean = averaged(rows)
    assert mean["mpjpe_root_mm"] == mean["accel_mm"] == 17.5
    assert (mean["frames"], mean["clips"]) == (400, 2)
    assert mean["mpjpe_root_mm_95"] == [10.0, 20.0]
    assert averaged([{"frames": 0}]) == {"frames": 0, "clips": 0}


# -- the command


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    path = tmp_path_factory.mktemp("accuracy") / "result.json"
    words = ["synthetic", "--clips", "2", "--seconds", "6", "--noise", "white10", "clean", "--json", str(path)]
    assert accuracy.main(words) == 0
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def test_every_case_has_every_method(result: dict[str, Any]) -> None:
    cases = {(row["noise"], row["at_s"], row["method"]) for row in result["rows"]}
    assert cases == {(n, at, m) for n in ("white10", "clean") for at in (0.0, -0.1) for m in METHODS}
    for row in result["rows"]:
        assert row["all"]["frames"] == 2 * (
            180 if row["at_s"] == 0 else 177
        )  # 0.1 s ago: the first poses are before the clip
        assert row["settled"]["frames"] == 2 * 61
        low, high = row["all"]["mpjpe_root_mm_95"]
        assert low - 1e-9 <= row["all"]["mpjpe_root_mm"] <= high + 1e-9


def test_scores_are_those_of_the_noise_that_was_put_in(result: dict[str, Any]) -> None:
    rows = {(row["noise"], row["at_s"], row["method"]): row for row in result["rows"]}
    white = rows["white10", 0.0, "input"]["all"]
    assert white["mpjpe_world_mm"] == pytest.approx(16.0, rel=0.03)  # the mean of a 3-D Gaussian of 10 mm
    assert white["accel_mm"] == pytest.approx(16.0 * np.sqrt(6), rel=0.03)
    assert rows["clean", 0.0, "input"]["all"]["mpjpe_world_mm"] < 1e-3
    assert rows["white10", -0.1, "Kalman"]["all"]["mpjpe_root_mm"] < white["mpjpe_root_mm"]


def test_the_filter_keeps_bones_and_leaves_clean_input_alone(result: dict[str, Any]) -> None:
    for row in (row for row in result["rows"] if row["method"] == FILTER):
        assert row["settled"]["bone_std_mm"] < 1e-3
        assert 0 <= row["settled"]["in_1_sigma"] <= 1
        if row["noise"] == "clean":
            assert row["settled"]["mpjpe_root_mm"] < 2.0


def test_the_table_says_what_it_rests_on(result: dict[str, Any]) -> None:
    screen = Console(file=io.StringIO(), width=120)
    accuracy.show(result, screen)
    text = screen.file.getvalue()  # type: ignore[attr-defined]
    for word in (*METHODS, "white10", "-100 ms", result["machine"]["cpu"], "2 clips of synthetic"):
        assert word in text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["synthetic", "--noise", "loud"], "invalid choice"),
        (["synthetic", "--delay", "--predict"], "at least one"),
        (["synthetic", "--delay", "0.5"], "delay_s must lie in"),
        (["synthetic", "--runtime", "abacus"], "does not exist"),
    ],
)
def test_wrong_settings_are_refused_before_the_work(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["bench", "accuracy", *words]) == 2
    assert said in capsys.readouterr().err
