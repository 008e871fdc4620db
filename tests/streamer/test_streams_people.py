"""Somebody else under the same name, another unit, left for right, upside down; skeletons that are kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.files.retarget import ClipError
from model.motion.synthetic import SyntheticActor
from model.prepare import read_clip
from model.skeleton import INDEX, JOINTS, MIRROR, PARENTS, J, ancestor_matrix, rest_offsets
from streamer.errors import ConfigError, RuntimeUnavailable
from streamer.filter import PoseFilter
from streamer.frames import Frame, Pose
from streamer.runtimes import load_runtime
from streamer.runtimes.block import Runtime
from tests.helpers.networks import BUNDLED, NOT_BUNDLED, clean_stream, mean_mm, poses_of, stream


@pytest.fixture(scope="module")
def runtime() -> Runtime:
    if not BUNDLED:
        pytest.skip(NOT_BUNDLED)
    try:
        return load_runtime("native")
    except RuntimeUnavailable:
        return load_runtime("onnx")


@pytest.fixture
def live(runtime: Runtime) -> PoseFilter:
    return PoseFilter(runtime)


OUT = 300  # frames of the first, at 30 Hz


def in_turn(first: SyntheticActor, then: SyntheticActor, absent_s: float, noise_m: float, how: str) -> list[Frame]:
    """Ten seconds of one, nobody for a while (no frames, or frames that show nobody), ten seconds of the other."""
    times_s = np.arange(2 * OUT) / 30 + absent_s * (np.arange(2 * OUT) >= OUT)
    truth = np.concatenate([first.positions(times_s[:OUT]), then.positions(times_s[OUT:])])
    truth += noise_m * np.random.default_rng(0).standard_normal(truth.shape)
    frames = stream(truth, times_s)
    if how == "empty":
        gone = np.arange(OUT / 30, OUT / 30 + absent_s, 1 / 30)
        frames[OUT:OUT] = stream(np.full((len(gone), J, 3), np.nan), gone)
    return frames


@pytest.mark.parametrize("noise_m", [0.0, 0.005])
@pytest.mark.parametrize(("absent_s", "how"), [(0.0, "silent"), (1.0, "silent"), (3.0, "silent"), (3.0, "empty")])
@pytest.mark.parametrize(("before_m", "after_m"), [(1.75, 1.05), (1.1, 1.8)])
def test_another_body_gets_its_own_bones(
    before_m: float, after_m: float, absent_s: float, how: str, noise_m: float, live: PoseFilter
) -> None:
    first, then = SyntheticActor(0, before_m), SyntheticActor(3, after_m)
    frames = in_turn(first, then, absent_s, noise_m, how)
    answers = live.push_many(frames)
    after = [pose for pose in answers[-OUT:] if pose is not None]
    versions = {pose.skeleton_version for pose in answers[:-OUT] if pose is not None}
    assert after[-1].skeleton_version > max(versions)
    assert live.counts["new_bodies"] == 1
    assert any("another body" in said and "'a'" in said for said in live.warnings("a"))
    settled = after[-OUT + 150 :]
    truth = then.positions([pose.t_ns / 1e9 for pose in settled])
    assert mean_mm(np.stack([pose.positions for pose in settled]), truth) < 15
    thigh = INDEX["left_knee"]
    assert after[-1].lengths_m[thigh] == pytest.approx(then.lengths_m[thigh], rel=0.03)


def test_the_same_body_that_comes_back_keeps_its_bones(live: PoseFilter) -> None:
    actor = SyntheticActor(0)
    answers = live.push_many(in_turn(actor, actor, 3.0, 0.01, "silent"))
    poses = [pose for pose in answers if pose is not None]
    assert poses[-1].skeleton_version == poses[150].skeleton_version
    assert not live.counts["new_bodies"]


def test_noise_makes_nobody_another(live: PoseFilter) -> None:
    """A wandering estimator: errors of 5 cm that last for half a second."""
    rng, keep = np.random.default_rng(0), np.exp(-1 / 15)
    truth = SyntheticActor(0).clip(30.0, 30.0)
    error = np.zeros_like(truth)
    for i in range(1, len(error)):
        error[i] = keep * error[i - 1] + 0.05 * np.sqrt(1 - keep**2) * rng.standard_normal((J, 3))
    live.push_many(stream(truth + error, np.arange(len(truth)) / 30))
    assert live.counts["new_bodies"] <= 1
    assert set(live.counts) <= {"new_bodies", "new_tracks"}


def test_a_given_skeleton_is_the_users_word(live: PoseFilter) -> None:
    child = SyntheticActor(3, 1.05)
    live.set_skeleton("a", rest_offsets().astype(np.float32))
    pose = poses_of(live, stream(child.clip(5.0, 30.0), np.arange(150) / 30))[-1]
    np.testing.assert_array_equal(pose.offsets_m, rest_offsets().astype(np.float32))
    assert live.counts["new_bodies"] == 0
    assert live.counts["misfits"] == 1
    assert any("given" in said for said in live.warnings("a"))


@pytest.mark.parametrize("options", [{}, {"delay_s": 0.1, "foot_lock": True}, {"predict_s": 0.05}], ids=str)
def test_bones_are_constant_between_two_versions(runtime: Runtime, options: dict[str, Any]) -> None:
    """Joints are as far apart as their version's bones are long, whatever makes another version."""
    filter_, known, changes = PoseFilter(runtime, **options), {}, []
    adult, child = SyntheticActor(0, 1.75).clip(10.0, 30.0), SyntheticActor(3, 1.05).clip(10.0, 30.0)
    standing = np.repeat((ancestor_matrix() @ rest_offsets() + (0.0, 0.9, 0.0))[None], 45, axis=0)
    noise = 0.01 * np.random.default_rng(0).standard_normal((645, J, 3))
    frames = stream(np.concatenate([adult, child, standing]) + noise, np.arange(645) / 30)
    asked = {
        540: lambda: filter_.set_skeleton("a", rest_offsets().astype(np.float32)),
        570: lambda: filter_.calibrate("a"),
        605: lambda: filter_.calibrate("a", 1.0),
    }
    for n, frame in enumerate(frames):
        asked.get(n, lambda: None)()
        pose = filter_.push(frame)
        if pose.skeleton_version not in known:
            changes.append(n)
        lengths_m = known.setdefault(pose.skeleton_version, pose.lengths_m)
        np.testing.assert_array_equal(pose.lengths_m, lengths_m)
        bones = pose.positions[1:].astype(np.float64) - pose.positions[list(PARENTS[1:])]
        np.testing.assert_allclose(np.linalg.norm(bones, axis=-1), lengths_m[1:], rtol=0, atol=5e-6)
    assert filter_.counts["new_bodies"] == 1
    assert next(n for n in changes if 125 < n < 540) > 300  # of the other body
    assert {540, 570} < set(changes)
    assert 630 < changes[-1] < 640  # after a second of standing


# ---- skeletons that are kept


def test_a_kept_skeleton_comes_back_with_its_version(runtime: Runtime) -> None:
    """Saved, the process restarted, set again: the same bones and version at once, and not for another body."""
    frames, _ = clean_stream(0, 12.0, 30.0)
    before, after = PoseFilter(runtime), PoseFilter(runtime)
    last = poses_of(before, frames[:150])[-1]
    kept = before.get_skeleton("a")
    assert kept is not None
    assert (kept.version, kept.done) == (last.skeleton_version, True)
    assert kept.measured_s == pytest.approx(4.0)
    after.set_skeleton("a", kept.offsets_m, kept.version)
    pose = after.push(frames[150])
    assert (pose.status, pose.skeleton_version) == ("tracking", last.skeleton_version)
    np.testing.assert_array_equal(pose.offsets_m, last.offsets_m)
    child = stream(SyntheticActor(3, 1.05).clip(6.0, 30.0), 5.1 + np.arange(180) / 30)
    poses = [pose for pose in after.push_many(child) if pose is not None]
    assert after.counts["new_bodies"] == 1
    assert poses[-1].skeleton_version > last.skeleton_version


def test_a_version_never_comes_again_with_other_bones(new: Callable[..., PoseFilter]) -> None:
    """Whatever is done to an actor: removed, reset, measured anew, given bones with and without a version."""
    rng = np.random.default_rng(0)
    frames, _ = clean_stream(0, 40.0, 15.0)
    filter_, bones = new(max_actors=2), {}
    saved = []
    for i, frame in enumerate(frames):
        pose = filter_.push(frame)
        known = bones.setdefault(pose.skeleton_version, pose.offsets_m)
        np.testing.assert_array_equal(known, pose.offsets_m)
        kept = filter_.get_skeleton("a")
        assert kept is not None
        assert kept.version == pose.skeleton_version
        saved.append(kept)
        if i % 10 == 9:
            what, old = rng.choice(["remove", "reset", "calibrate", "set", "given"]), saved[rng.integers(len(saved))]
            if what == "set":
                filter_.set_skeleton("a", old.offsets_m, old.version)
            elif what == "given":
                filter_.set_skeleton("a", old.offsets_m * np.float32(1 + 0.1 * rng.random()))
            else:
                getattr(filter_, what)("a")
    assert len(bones) > 20


def test_who_is_not_there_has_no_skeleton(new: Callable[..., PoseFilter]) -> None:
    filter_ = new()
    assert filter_.get_skeleton("a") is None
    for version in (0, -1, 2**63):
        with pytest.raises(ConfigError, match="version"):
            filter_.set_skeleton("a", rest_offsets().astype(np.float32), version)
    for bad in (np.zeros((J, 3)), np.full((J, 3), 1e30)):
        with pytest.raises(ConfigError, match="offsets_m"):
            filter_.set_skeleton("a", bad.astype(np.float32))


# ---- what looks wrong


def told(live: PoseFilter, positions: np.ndarray, layout: str = "smpl_24") -> list[str]:
    frames = [replace(frame, layout=layout) for frame in stream(positions, np.arange(len(positions)) / 30)]
    live.push_many(frames)
    return live.warnings("a")


UNITS = {"feet": 3.28084, "decimetres": 10.0, "100 m": 0.01, "inches": 39.37}


@pytest.mark.parametrize(("says", "factor"), UNITS.items())
def test_another_unit_is_said_with_the_size_it_would_be(says: str, factor: float, live: PoseFilter) -> None:
    (said,) = told(live, factor * SyntheticActor(0).clip(4.0, 30.0))
    assert says in said
    assert "scale" in said
    assert "'a'" in said
    assert any(f"1.{n}" in said for n in range(4, 9))
    assert live.counts["scale"] == 1


@pytest.mark.parametrize("height_m", [0.75, 1.7, 2.2])
def test_people_of_all_sizes_are_people(height_m: float, live: PoseFilter) -> None:
    assert told(live, SyntheticActor(0, height_m).clip(6.0, 30.0)) == []
    assert not live.counts


WRONG_KINDS = ("mirrored", "upside_down")
WRONG = {
    "mirrored": (np.diag([-1.0, 1.0, 1.0]), slice(None), ["mirrored"]),
    "names of left and right swapped": (np.eye(3), list(MIRROR), ["mirrored"]),
    "upside down": (np.diag([1.0, -1.0, -1.0]), slice(None), ["upside_down"]),
    "mirrored, and y down": (np.diag([1.0, -1.0, 1.0]), slice(None), ["mirrored", "upside_down"]),
}


@pytest.mark.parametrize("what", WRONG)
@pytest.mark.parametrize("noise_m", [0.0, 0.03])
def test_left_for_right_and_up_for_down_are_said_once(what: str, noise_m: float, live: PoseFilter) -> None:
    turn, order, kinds = WRONG[what]
    truth = SyntheticActor(0).clip(12.0, 30.0)
    truth += noise_m * np.random.default_rng(0).standard_normal(truth.shape)
    said = told(live, (truth @ turn)[:, order])
    assert {kind: n for kind, n in live.counts.items() if kind in WRONG_KINDS} == dict.fromkeys(kinds, 1)
    assert len(said) == len(kinds)
    assert all("'a'" in text for text in said)


def test_a_layout_that_turns_it_round_ends_the_warning(live: PoseFilter, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(f'joints = {list(JOINTS)}\nmirror = true\nup_axis = "-y"')
    truth = SyntheticActor(0).clip(4.0, 30.0)
    sent = truth * (-1.0, -1.0, -1.0)
    assert told(live, sent, str(path)) == []
    other = PoseFilter(live.runtime)
    last: Pose = poses_of(other, stream(truth, np.arange(120) / 30))[-1]
    np.testing.assert_allclose(live.pose_at(last.t_ns, "a").positions, last.positions, atol=1e-4)


def test_real_motion_raises_no_warning(live: PoseFilter, shared_data: Path) -> None:
    """Test clips at 30 Hz, with noise of an estimator: falls, ground, dance, sport."""
    rng, read = np.random.default_rng(0), 0
    for path in sorted(shared_data.glob("lafan1/*.bvh.gz"))[::2] + sorted(shared_data.glob("hdm05/**/*.amc.gz"))[::20]:
        try:
            clip = read_clip(path, fps=30.0).positions[:600]
        except ClipError:
            continue
        read += 1
        live.push_many(stream(clip + 0.02 * rng.standard_normal(clip.shape), np.arange(len(clip)) / 30, str(path)))
        assert live.warnings(str(path)) == [], path
    assert read > 5
