"""The accuracy bench: its clips, its arithmetic, and a short run of the real filter on synthetic motion."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from scipy.spatial.transform import Rotation

from bench.accuracy import accuracy, recordings, twin
from bench.accuracy.answers import Seen
from bench.accuracy.methods import (
    DEFAULT_METHODS,
    FILTER,
    METHODS,
    Case,
    corrupted,
    filtered,
    smoothed,
    world_from_local,
)
from bench.accuracy.tables import markdown, show
from bench.accuracy.takes import Take, load_takes, take_of
from model.motion.synthetic import SyntheticActor
from model.network.causal import CausalFilter
from model.noise.fixed import LOSSES, NOISES
from model.prepare import prepare
from model.skeleton import PARENTS
from streamer import cli
from streamer.errors import ConfigError
from streamer.filter import PoseFilter
from streamer.frames import Frame
from streamer.runtimes import load_runtime
from streamer.runtimes.block import Runtime
from tests.helpers.motion_files import amc_text, asf_text, random_angles
from tests.helpers.networks import TINY


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


def test_truth_of_a_time_is_that_of_the_nearest_captured_frame() -> None:
    rotations = np.arange(121.0)[:, None, None, None] * np.ones((24, 3, 3))
    positions = np.zeros((121, 24, 3))
    positions[60:, 10, 1] = 1.0  # the left foot is up from the middle on
    take = take_of("a", positions, 120.0, seconds=0.5, rotations=rotations)
    assert take.rotations is not None
    assert take.rotations[0, 0, 0, 0] == 30.0
    assert take.nearest(np.array([0, 4_000_000, 5_000_000, 10**9])).tolist() == [0, 0, 1, 60]
    assert take.contact[:29].all()
    assert (take.contact[31:] == [False, True]).all()


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
    assert hidden.any() == (noise in ("realistic", "mild", "lifted", *LOSSES))
    assert (first.confidence[hidden] == 0).all()


@pytest.mark.parametrize("at_s", [0.0, -0.1, 0.1])
def test_every_method_answers_for_the_same_times(runtime: Runtime, take: Take, at_s: float) -> None:
    seen = corrupted(take, "clean")
    (live,) = filtered(runtime, take, seen, [at_s])
    np.testing.assert_array_equal(live.t_ns, take.t_ns + round(at_s * 1e9))
    held = smoothed("input", take, seen, Case("clean", 30.0, at_s))
    np.testing.assert_array_equal(held.t_ns, live.t_ns)
    if at_s <= 0:  # the clean input of that time is the truth of that time
        later = take.holds(held.t_ns)
        np.testing.assert_allclose(held.positions[later], take.truth_at(held.t_ns)[later], atol=1e-6)


def test_frames_before_the_first_sight_are_not_scored(runtime: Runtime, take: Take) -> None:
    seen = corrupted(take, "clean")
    blind = seen.positions.copy()
    blind[:7] = np.nan
    (live,) = filtered(runtime, take, Seen(blind, seen.confidence), [0.0])
    assert np.isnan(live.positions[:7]).all()
    assert np.isfinite(live.positions[7:]).all()


def test_many_times_in_one_pass_are_the_filter_set_to_each(runtime: Runtime, take: Take) -> None:
    seen, at_s = corrupted(take, "realistic"), (0.0, -0.1, 0.1, -0.2)
    for at, live in zip(at_s, filtered(runtime, take, seen, at_s), strict=True):
        alone = PoseFilter(runtime, delay_s=max(0.0, -at), predict_s=max(0.0, at))
        for i, t_ns in enumerate(take.t_ns[:40]):
            pose = alone.push(Frame("a", i, int(t_ns), seen.positions[i], seen.confidence[i]))
            if take.t_ns[0] <= live.t_ns[i]:
                np.testing.assert_allclose(live.positions[i], pose.positions, atol=1e-5)
                np.testing.assert_allclose(live.covariance[i], pose.covariance, atol=1e-6)  # type: ignore[index]


def test_a_delay_beyond_reach_is_the_pose_at_its_end_kept_back(runtime: Runtime, take: Take) -> None:
    seen = corrupted(take, "white10")
    longest, later = filtered(runtime, take, seen, [-0.2, -0.3])
    np.testing.assert_array_equal(later.t_ns, take.t_ns - 300_000_000)
    np.testing.assert_allclose(later.positions[9:], longest.positions[6:-3], atol=1e-6)


def test_rotations_of_a_pose_are_the_world_s(take: Take) -> None:
    rotations = take.rotations
    assert rotations is not None
    local = np.array([
        [rotations[i, p].T @ rotations[i, j] if p >= 0 else rotations[i, j] for j, p in enumerate(PARENTS)]
        for i in range(0, 100, 10)
    ])  # fmt: skip
    quaternions = Rotation.from_matrix(local.reshape(-1, 3, 3)).as_quat().reshape(-1, 24, 4)
    np.testing.assert_allclose(world_from_local(quaternions), rotations[:100:10], atol=1e-9)


@pytest.fixture
def untrained_twin(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has trained one for this model yet."""
    both_sides = CausalFilter(replace(TINY, bidirectional=True)).eval()
    monkeypatch.setattr(twin, "network", lambda: both_sides)


@pytest.mark.usefixtures("untrained_twin")
def test_a_joint_seen_late_counts_for_no_method_before(
    runtime: Runtime, take: Take, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = corrupted(take, "clean")
    late = seen.positions.copy()
    late[:40, 20] = np.nan
    monkeypatch.setattr(accuracy, "corrupted", lambda *_: Seen(late, seen.confidence))
    for at_s, frames in ((0.0, 140), (-0.1, 137), (0.1, 138)):  # of 181; 0.1 s ahead: no truth for the last three
        (result,) = accuracy.score_take(runtime, take, "clean", 30.0, [at_s], METHODS)
        assert {result[method]["all"]["frames"] for method in METHODS} == {frames}


def test_bones_are_scored_from_their_last_change_on(runtime: Runtime, take: Take, monkeypatch: Any) -> None:
    seen = corrupted(take, "hpstm")
    blind = seen.positions.copy()
    blind[:20] = np.nan  # the filter starts when it first sees somebody
    monkeypatch.setattr(accuracy, "corrupted", lambda *_: Seen(blind, seen.confidence))
    now, kept_back = accuracy.score_take(runtime, take, "hpstm", 30.0, [0.0, -0.3], [FILTER])
    assert kept_back[FILTER]["settled"]["frames"] == 181 - 20 - 123
    assert kept_back[FILTER]["settled"]["bone_std_mm"] < 1e-3
    scores = now[FILTER]["settled"]
    assert scores["frames"] == 181 - 20 - 120
    assert scores["bone_std_mm"] < 1e-3


# -- the command


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("accuracy")


@pytest.fixture(scope="module")
def result(folder: Path) -> dict[str, Any]:
    path = folder / "result.json"
    words = ["synthetic", "--clips", "2", "--seconds", "6", "--noise", "white10", "clean", "lost_arm"]
    outputs = ["--json", str(path), "--markdown", str(folder / "new" / "a.md"), "--plots", str(folder / "plots")]
    assert cli.main(["evaluate", *words, *outputs]) == 0
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def test_every_case_has_every_method(result: dict[str, Any]) -> None:
    cases = {(row["noise"], row["at_s"], row["method"]) for row in result["rows"]}
    assert cases == {
        (n, at, m) for n in ("white10", "clean", "lost_arm") for at in (0.0, -0.1) for m in DEFAULT_METHODS
    }
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
        assert row["all"]["swing_deg"] < 45
        if row["noise"] == "clean":
            assert row["settled"]["mpjpe_root_mm"] < 2.0


def test_the_tables_say_what_they_rest_on(result: dict[str, Any], folder: Path) -> None:
    screen = Console(file=io.StringIO(), width=120)
    show(result, screen)
    printed: str = screen.file.getvalue()  # type: ignore[attr-defined]
    written = (folder / "new" / "a.md").read_text()
    assert written == markdown(result)
    for text in (printed, written):
        for word in (*DEFAULT_METHODS, "white10", "-100 ms", result["machine"]["cpu"], "2 clips of synthetic", "train"):
            assert word in text
        assert "…" not in text  # nothing is cut off
    assert "swing" in written
    gap = next(row for row in result["rows"] if row["noise"] == "lost_arm" and row["method"] == FILTER)
    assert f"{gap['all']['gap_mm']:.1f}" in printed[printed.index("Through gaps") :]


def test_the_gaps_are_of_the_arm_only(result: dict[str, Any]) -> None:
    for row in result["rows"]:
        assert ("gap_mm" in row["all"]) == (row["noise"] == "lost_arm")
    samples = {row["all"]["gap_samples"] for row in result["rows"] if row["noise"] == "lost_arm"}
    assert all(n > 0 and n % 3 == 0 for n in samples)


def test_every_curve_is_drawn(result: dict[str, Any], folder: Path) -> None:
    names = {"accuracy_against_delay", "accuracy_against_jitter", "error_through_a_gap", "calibration"}
    assert {path.stem for path in (folder / "plots").glob("*.png")} == names
    assert all(path.stat().st_size > 10_000 for path in (folder / "plots").iterdir())


def test_delays_in_frames_are_of_each_rate(runtime: Runtime) -> None:
    options = accuracy.Options(delay_frames="-1..2", rate=(30.0, 60.0))
    assert options.asked(30.0) == pytest.approx([1 / 30, 0, -1 / 30, -2 / 30])
    assert options.asked(60.0) == pytest.approx([1 / 60, 0, -1 / 60, -2 / 60])
    assert str(accuracy.Options().asked(30.0)) == "[0.0, -0.1]"  # no -0.0
    takes = load_takes("synthetic", clips=1, seconds=5.0, rate_hz=60.0)
    rows = accuracy.run(takes, runtime, ["clean"], [0.0, -1 / 60], ["input", "Holt"], 60.0)
    assert [(row["rate_hz"], row["at_s"]) for row in rows] == [(60.0, 0.0)] * 2 + [(60.0, -1 / 60)] * 2
    assert {row["all"]["frames"] for row in rows} == {300, 299}
    assert rows[0]["all"]["mpjpe_world_mm"] == pytest.approx(0.0, abs=1e-3)


@pytest.mark.usefixtures("untrained_twin")
def test_recordings_are_scored_by_every_method(runtime: Runtime, tmp_path: Path, shared_data: Path) -> None:
    (tmp_path / "beam.npz").write_bytes((shared_data / "mediapipe" / "beam_60hz.npz").read_bytes())
    rows = {row["method"]: row for row in recordings.run(tmp_path, runtime, METHODS)}
    assert tuple(rows) == METHODS
    assert rows["input"]["lag_ms"] == pytest.approx(0.0, abs=1e-6)
    for method in ("Kalman", FILTER):
        assert 0 < rows[method]["accel_mm"] < rows["input"]["accel_mm"]
        assert rows[method]["bone_std_settled_mm"] is None  # 1.6 s
    with pytest.raises(ConfigError, match=r"no \.npz"):
        recordings.run(tmp_path / "nowhere", runtime, METHODS)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["synthetic", "--noise", "loud"], "Choose from"),
        (["synthetic", "--delay", "--predict"], "at least one"),
        (["synthetic", "--predict", "0.5"], "predict_s must lie in"),
        (["synthetic", "--delay-frames=-9"], "predict_s must lie in"),
        (["synthetic", "--delay-frames", "8..3"], "give a range as"),
        (["synthetic", "--rate", "0"], "--rate must be positive"),
        (["synthetic", "--methods", "median"], "Choose from"),
        (["synthetic", "--runtime", "abacus"], "does not exist"),
    ],
)
def test_wrong_settings_are_refused_before_the_work(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["bench", "accuracy", *words]) == 2
    assert said in capsys.readouterr().err
