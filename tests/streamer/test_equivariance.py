"""What the bundled model promises to a user: constant bones, consistent poses, clean in - clean out, no special place.

Accuracy on noise is evaluate's business; here noise only has to leave the promises whole. Numbers are printed (-s).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
import pytest

from model.kinematics import forward_kinematics
from model.motion.endless import regauge
from model.motion.synthetic import SyntheticActor
from model.skeleton import J
from streamer.filter import PoseFilter
from streamer.frames import Frame, Pose
from streamer.runtimes import load_runtime
from streamer.runtimes.block import Runtime
from tests.helpers.networks import (
    BUNDLED,
    NOT_BUNDLED,
    SECOND_NS,
    arrays,
    assert_finite,
    assert_pose_holds,
    assert_poses_equal,
    mean_mm,
    noisy_stream,
    stream,
)

pytestmark = pytest.mark.skipif(not BUNDLED, reason=NOT_BUNDLED)
CALIBRATED_S = 4.0
YAW_MM = 0.1  # the stated tolerance of a turn of the world, mean over joints and frames


@functools.cache
def runtime(name: str = "onnx") -> Runtime:
    return load_runtime("torch", double=True) if name == "double" else load_runtime(name)


def refined(frames: list[Frame], name: str = "onnx", **settings: float) -> list[Pose]:
    filter_ = PoseFilter(runtime(name), **settings)
    return [filter_.push(frame) for frame in frames]


def xyz(poses: Sequence[Pose]) -> np.ndarray:
    return np.stack([pose.positions for pose in poses])


def about_y(degrees: float) -> np.ndarray:
    """(3, 3) turn of the world about the vertical."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])


def moved(frames: list[Frame], turn: np.ndarray | None = None, shift: np.ndarray | None = None) -> list[Frame]:
    turn, shift = np.eye(3) if turn is None else turn, np.zeros(3) if shift is None else shift
    return [Frame(f.actor, f.seq, f.t_ns, f.positions @ turn.T + shift, f.confidence) for f in frames]


@functools.cache
def clean(fps: float, seconds: float = 8.0, seed: int = 0) -> tuple[list[Frame], np.ndarray]:
    """A body in the canonical gauge in smooth motion: frames and the truth."""
    times = np.arange(round(seconds * fps)) / fps
    actor = SyntheticActor(seed)
    world, root = actor.poses(times)
    truth = forward_kinematics(world, regauge(actor.offsets_m), root)
    return stream(truth, times), truth


@functools.cache
def noisy(count: int = 480) -> tuple[Frame, ...]:
    return tuple(noisy_stream(0, count, fps=60.0))


# ---- every pose


@functools.cache
def noisy_poses() -> tuple[Pose, ...]:
    return tuple(refined(list(noisy())))


@functools.cache
def clean_poses(fps: float) -> tuple[Pose, ...]:
    return tuple(refined(clean(fps)[0]))


def test_bones_are_constant_once_calibrated() -> None:
    tracking = [pose for pose in noisy_poses() if pose.captured_ns > CALIBRATED_S * SECOND_NS + SECOND_NS // 20]
    assert len(tracking) > 100
    assert all(pose.status == "tracking" for pose in tracking)
    for pose in tracking:
        np.testing.assert_array_equal(pose.lengths_m, tracking[0].lengths_m)
        np.testing.assert_array_equal(pose.offsets_m, tracking[0].offsets_m)
        bones = np.linalg.norm(pose.positions[1:] - pose.positions[_PARENTS], axis=-1)
        np.testing.assert_allclose(bones, pose.lengths_m[1:], rtol=0, atol=2e-6)  # float32 places metres away


_PARENTS = [0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21]


def test_rotations_and_offsets_give_the_positions_at_every_frame() -> None:
    poses = noisy_poses()
    for before, pose in zip((None, *poses[:-1]), poses, strict=True):
        assert_finite(pose)
        assert_pose_holds(pose, before)


@pytest.mark.parametrize("gap_s", [0.5, 1.0, 2.0, 3.0])
def test_poses_hold_after_a_pause_of_the_source(gap_s: float) -> None:
    """No frames at all for a while, shorter and longer than the ring's time (2.1 s at 30 Hz)."""
    times = np.arange(80) / 30.0
    for seed in range(5):
        noise = 0.02 * np.random.default_rng(seed).standard_normal((80, J, 3))
        frames = stream(SyntheticActor(seed).positions(times) + noise, times + gap_s * (times >= 2.0))
        for pose in refined(frames)[58:]:
            assert_finite(pose)
            assert_pose_holds(pose)


@pytest.mark.parametrize("setting", [{"delay_s": 0.1}, {"delay_s": 0.2}, {"predict_s": 0.15}])
def test_poses_of_other_times_hold_as_well(setting: dict[str, float]) -> None:
    poses = refined(list(noisy()[:150]), **setting)
    for before, pose in zip((None, *poses[:-1]), poses, strict=True):
        assert_finite(pose)
        assert_pose_holds(pose, before)


# ---- clean in, clean out


@pytest.mark.parametrize("fps", [30.0, 60.0, 120.0])
def test_clean_in_clean_out(fps: float) -> None:
    _, truth = clean(fps)
    out = xyz(clean_poses(fps))
    begin, calibrated = round(fps), round((CALIBRATED_S + 0.1) * fps)
    after_1_s, after_4_s = mean_mm(out[begin:], truth[begin:]), mean_mm(out[calibrated:], truth[calibrated:])
    print(f"\nclean at {fps:g} Hz: {after_1_s:.3f} mm after 1 s, {after_4_s:.3f} mm once calibrated")
    assert after_4_s < 2.0
    assert after_1_s < 2.0


@pytest.mark.parametrize("delay_s", [0.05, 0.1, 0.2])
def test_a_delayed_clean_pose_is_the_pose_of_then(delay_s: float) -> None:
    frames, truth = clean(60.0)
    late = round(delay_s * 60)
    out = xyz(refined(frames, delay_s=delay_s))
    begin = round((CALIBRATED_S + 0.1) * 60)
    error = mean_mm(out[begin:], truth[begin - late : len(truth) - late])
    print(f"\nclean, {delay_s:g} s late: {error:.3f} mm")
    assert error < 2.0


def test_a_predicted_clean_pose_is_nearer_to_what_comes() -> None:
    """Prediction has its limits, but must beat publishing the present."""
    frames, truth = clean(60.0)
    begin, ahead = round((CALIBRATED_S + 0.1) * 60), 6
    out = xyz(refined(frames, predict_s=0.1))
    to_come = truth[begin + ahead :]
    error, still = mean_mm(out[begin:-ahead], to_come), mean_mm(truth[begin:-ahead], to_come)
    print(f"\nclean, 0.1 s ahead: {error:.2f} mm; holding the present: {still:.2f} mm")
    assert error < still


def test_the_clean_skeleton_is_measured() -> None:
    lengths = clean_poses(60.0)[-1].lengths_m
    error = 1e3 * np.abs(lengths - SyntheticActor(0).lengths_m)[1:]
    print(f"\nbone lengths on clean input: mean {error.mean():.3f} mm, worst {error.max():.3f} mm")
    assert error.max() < 1.0


# ---- no special place, time or heading


def snapped(frames: list[Frame] | tuple[Frame, ...]) -> list[Frame]:
    """Coordinates on a grid of 2^-12 m: with a whole-metre shift below 1024 m they stay exact in float32."""
    grid = 4096.0
    return [Frame(f.actor, f.seq, f.t_ns, np.round(f.positions * grid) / grid, f.confidence) for f in frames]


@pytest.mark.parametrize("name", ["onnx", "double"])
def test_a_shifted_world_shifts_the_poses(name: str) -> None:
    frames, shift = snapped(noisy()[:150]), np.array([10.0, -3.0, 250.0])
    here, there = refined(frames, name), refined(moved(frames, shift=shift), name)
    rounding = 2 * float(np.spacing(np.float32(260.0)))  # positions are published in float32
    worst = dict.fromkeys(arrays(here[0]), 0.0)
    for a, b in zip(here, there, strict=True):
        for key in worst:
            back = arrays(b)[key].astype(np.float64) - (shift if key in ("positions", "root") else 0.0)
            worst[key] = max(worst[key], float(np.abs(back - arrays(a)[key]).max()))
    print(f"\nshift of 250 m, {name}: {worst}")
    assert worst["positions"] < (1e-4 if name == "onnx" else rounding)
    # Beside the place nothing differs but by the rounding of the mean that is the origin.
    assert worst["rotations"] < (1e-4 if name == "onnx" else 1e-6)
    assert worst["offsets_m"] < (1e-6 if name == "onnx" else 1e-7)


def test_another_start_of_the_clock_changes_nothing() -> None:
    year_ns = 365 * 86_400 * SECOND_NS
    here, later = refined(noisy_stream(0, 150)), refined(noisy_stream(0, 150, start_ns=year_ns))
    assert_poses_equal(later, here, clock_ns=year_ns)


def turned_deviation(frames: Sequence[Frame], poses: Sequence[Pose], degrees: float) -> float:
    """Mean distance [mm], after calibration, of the poses of a turned world from the turned ``poses`` of ``frames``."""
    turn = about_y(degrees)
    here, there = xyz(poses), xyz(refined(moved(list(frames), turn=turn)))
    begin = round(CALIBRATED_S * 60) + 6
    return mean_mm(there[begin:], here[begin:].astype(np.float64) @ turn.T)


@pytest.mark.parametrize("degrees", [30.0, 90.0, 135.0, 180.0, -75.0])
def test_a_turned_world_turns_the_poses(degrees: float) -> None:
    """The network sees and answers in heading axes, so only rounding is left."""
    on_clean = turned_deviation(clean(60.0)[0], clean_poses(60.0), degrees)
    on_noisy = turned_deviation(noisy(), noisy_poses(), degrees)
    print(f"\nworld turned by {degrees:g} degrees: {on_clean:.3f} mm on clean input, {on_noisy:.2f} mm on noisy")
    assert on_clean < YAW_MM
    assert on_noisy < YAW_MM


# ---- noise comes out smaller


def test_noise_and_jitter_come_out_smaller() -> None:
    times = np.arange(480) / 60.0
    truth = SyntheticActor(3).positions(times)
    noise = 0.015 * np.random.default_rng(3).standard_normal((480, J, 3))
    out = xyz(refined(stream(truth + noise, times)))
    late = slice(round(CALIBRATED_S * 60) + 6, None)
    error_in, error_out = mean_mm((truth + noise)[late], truth[late]), mean_mm(out[late], truth[late])
    jitter_in, jitter_out = (np.abs(np.diff(x[late], 3, axis=0)).mean() for x in (truth + noise, out))
    print(f"\nwhite noise of 15 mm: error {error_in:.1f} -> {error_out:.1f} mm, jitter x {jitter_out / jitter_in:.3f}")
    assert error_out < error_in
    assert jitter_out < 0.3 * jitter_in
