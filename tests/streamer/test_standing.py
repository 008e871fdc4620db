"""Calibration of somebody who stands still: what is measured, how sure it is, and what it says when it cannot be."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from bench.service.child import ServerProcess
from model.kinematics import forward_kinematics
from model.motion.synthetic import SyntheticActor
from model.skeleton import INDEX, J
from streamer.cli import main
from streamer.client import FrameSender
from streamer.clock import now_ns
from streamer.errors import ConfigError
from streamer.filter import PoseFilter
from streamer.frames import Frame, Pose
from streamer.runtimes import load_runtime
from streamer.runtimes.block import Runtime
from streamer.server.control import request
from streamer.standing import Span
from tests.helpers.live import status, wait_until
from tests.helpers.networks import BUNDLED, NOT_BUNDLED, assert_pose_holds, stream

RATE = 30
HANGING = Rotation.from_rotvec([[0.0, 0.0, -1.3], [0.0, 0.0, 1.3]]).as_matrix()


def standing_still(seed: int, seconds: float, noise_m: float, hanging: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """(T, 24, 3) joints of somebody who sways by a centimetre, with noise, and the skeleton (24, 3)."""
    rng, offsets = np.random.default_rng(seed), SyntheticActor(seed, 1.6 + 0.1 * seed).offsets_m
    world = np.broadcast_to(np.eye(3), (J, 3, 3)).copy()
    if hanging:
        for side, turn in zip(("left", "right"), HANGING):
            world[[INDEX[f"{side}_{joint}"] for joint in ("shoulder", "elbow", "wrist", "hand")]] = turn
    t = np.arange(round(seconds * RATE)) / RATE
    lean = Rotation.from_rotvec(
        0.012 * np.sin(2 * np.pi * t[:, None] * (0.2, 0.31, 0.11) + (0.0, 1.0, 2.0))
    ).as_matrix()
    still = forward_kinematics(world, offsets, np.zeros(3))
    swaying = np.einsum("tab,jb->tja", lean, still - still[INDEX["left_foot"]])
    return swaying + np.array([0.3, 0.02, 2.0]) + rng.normal(0.0, noise_m, swaying.shape), offsets


def span_of(joints: np.ndarray, seconds: float = 3.0) -> Span:
    span = Span(seconds)
    for k, frame in enumerate(joints):
        if span.take(k * 10**9 // RATE, frame, np.isfinite(frame[:, 0])):
            return span
    raise AssertionError("the span is not over")


@pytest.mark.parametrize("hanging", [False, True])
def test_without_noise_the_skeleton_is_the_true_one(hanging: bool) -> None:
    joints, offsets = standing_still(1, 3.2, 0.0, hanging)
    got = span_of(joints).measured(np.zeros((J, 3), np.float32))
    assert got.state == "done", got.message
    assert got.offsets_m is not None
    np.testing.assert_allclose(np.linalg.norm(got.offsets_m, axis=-1), np.linalg.norm(offsets, axis=-1), atol=1e-4)
    np.testing.assert_allclose(got.offsets_m, offsets, atol=0.02)  # to the directions of the mean rest pose


@pytest.mark.parametrize("noise_m", [0.005, 0.02])
def test_the_stated_error_is_the_error(noise_m: float) -> None:
    ratios = []
    for seed in range(1, 7):
        joints, offsets = standing_still(seed, 3.2, noise_m)
        joints[::17, 5] += 0.5  # outliers
        joints[np.random.default_rng(seed).random(joints.shape[:2]) < 0.1] = np.nan
        got = span_of(joints).measured(np.zeros((J, 3), np.float32))
        assert got.state == "done", got.message
        assert got.offsets_m is not None
        assert got.sigma_m is not None
        error = np.linalg.norm(got.offsets_m, axis=-1) - np.linalg.norm(offsets, axis=-1)
        assert np.abs(error[1:]).max() < 0.6 * noise_m
        assert 0.02 * noise_m < np.median(got.sigma_m[1:]) < 0.5 * noise_m
        ratios.append(error[1:] / got.sigma_m[1:])
    inside = (np.abs(ratios) < 1.0).mean()
    assert 0.45 < inside < 0.8, f"{inside:.2f} of the errors are inside one sigma"


@pytest.mark.parametrize("what", ["walked", "waved", "legs unseen", "one arm unseen"])
def test_it_says_why_not(what: str) -> None:
    joints, _ = standing_still(1, 3.2, 0.005)
    t = np.arange(len(joints)) / RATE
    if what == "walked":
        joints[..., 2] += 0.5 * t[:, None]
    elif what == "waved":
        joints[:, INDEX["left_wrist"], 1] += 0.3 * np.sin(2 * np.pi * 0.4 * t)
    else:
        which = ("left_knee", "right_knee", "left_ankle") if what == "legs unseen" else ("right_elbow", "right_wrist")
        joints[:, [INDEX[name] for name in which]] = np.nan
    got = span_of(joints).measured(np.zeros((J, 3), np.float32))
    assert got.state == "failed"
    assert got.offsets_m is None
    said = {"walked": "moved", "waved": "left_wrist moved", "legs unseen": "left_knee, right_knee, left_ankle",
            "one arm unseen": "right_elbow, right_wrist"}  # fmt: skip
    assert said[what] in got.message
    assert "calibrate again" in got.message


def test_what_a_layout_does_not_show_is_kept() -> None:
    joints, offsets = standing_still(1, 3.2, 0.0)
    unseen = [INDEX[name] for name in ("left_hand", "right_hand", "neck")]
    joints[:, unseen] = np.nan
    in_use = np.full((J, 3), 0.07, np.float32)
    got = span_of(joints).measured(in_use)
    assert got.state == "done"
    assert "left_hand" in got.message
    assert got.offsets_m is not None
    assert got.sigma_m is not None
    kept = [*unseen, INDEX["head"], INDEX["left_collar"], INDEX["right_collar"]]  # a fork is measured whole, or not
    np.testing.assert_array_equal(got.offsets_m[kept], in_use[kept])
    assert np.isnan(got.sigma_m[kept]).all()
    measured = [j for j in range(1, J) if j not in kept]
    np.testing.assert_allclose(
        np.linalg.norm(got.offsets_m[measured], axis=-1), np.linalg.norm(offsets[measured], axis=-1), atol=1e-4
    )


@pytest.mark.parametrize("seconds", [0.0, 61.0, float("nan"), "three", True])
def test_seconds_are_checked(seconds: float) -> None:
    with pytest.raises(ConfigError, match="seconds"):
        Span(seconds)


# ---- in the filter


@pytest.fixture(scope="module")
def runtime() -> Runtime:
    return load_runtime("onnx")


@pytest.mark.skipif(not BUNDLED, reason=NOT_BUNDLED)
def test_bones_are_nearer_to_the_truth_than_before_and_constant_after(runtime: Runtime) -> None:
    joints, offsets = standing_still(2, 9.0, 0.02)
    filter_, poses = PoseFilter(runtime), list[Pose]()
    for k, frame in enumerate(stream(joints, np.arange(len(joints)) / RATE)):
        poses.append(filter_.push(frame))
        if k == round(4.5 * RATE):
            filter_.calibrate("a", seconds=3.0)
            assert filter_.standing("a") is not None
    done = filter_.standing("a")
    assert done is not None
    assert done.state == "done", done.message
    for before, pose in itertools.pairwise(poses):
        assert_pose_holds(pose, before)
    truth = np.linalg.norm(offsets, axis=-1)
    error_mm = [1e3 * np.abs(pose.lengths_m - truth)[1:].mean() for pose in (poses[round(4.4 * RATE)], poses[-1])]
    print(f"\nbones, mean error: {error_mm[0]:.2f} mm after 4 s, {error_mm[1]:.2f} mm after standing still")
    assert error_mm[1] < 0.7 * error_mm[0]
    changes = [k for k, (a, b) in enumerate(itertools.pairwise(poses)) if not np.array_equal(a.offsets_m, b.offsets_m)]
    assert changes[-1] == round(7.5 * RATE) + 1, "adopted when the 3 s were over, and constant from then on"
    assert poses[-1].skeleton_version > poses[round(4.4 * RATE)].skeleton_version
    in_use = filter_.get_skeleton("a")
    assert in_use is not None
    assert in_use.done
    assert in_use.measured_s == pytest.approx(3.0, abs=0.05)


@pytest.mark.skipif(not BUNDLED, reason=NOT_BUNDLED)
def test_a_failure_leaves_the_skeleton_and_a_reset_ends_it(runtime: Runtime) -> None:
    filter_ = PoseFilter(runtime)
    walking = SyntheticActor(1).clip(4.0, RATE)
    for k, frame in enumerate(stream(walking, np.arange(len(walking)) / RATE)):
        filter_.push(frame)
        if k == 0:
            own = filter_.actors["a"].offsets_m
            filter_.set_skeleton("a", own)
            filter_.calibrate("a", seconds=2.0)
    failed = filter_.standing("a")
    assert failed is not None
    assert failed.state == "failed"
    np.testing.assert_array_equal(filter_.actors["a"].offsets_m, own)
    filter_.reset("a")
    assert filter_.standing("a") is None
    with pytest.raises(KeyError):
        filter_.calibrate("nobody", seconds=2.0)


# ---- through the server


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with ServerProcess() as running:
        yield running


@pytest.mark.timed
def test_the_command_measures_and_says_how_well(server: ServerProcess, capsys: pytest.CaptureFixture[str]) -> None:
    """The control socket and the command, while frames go on."""
    joints, _ = standing_still(1, 4.0, 0.01)
    over = threading.Event()

    def send() -> None:
        with FrameSender(server.in_endpoint) as sender:
            n = 0
            while not over.wait(1 / RATE):
                sender.send(Frame("alice", n, now_ns(), joints[n % len(joints)].astype(np.float32)))
                n += 1

    thread = threading.Thread(target=send)
    thread.start()
    try:
        wait_until(lambda: "alice" in status(server)["actor_states"])
        assert main(["calibrate", "alice", "--seconds", "1", "--control", server.control_endpoint]) == 0
        assert "bones measured" in capsys.readouterr().out
        said = status(server)["actor_states"]["alice"]["calibration"]
        assert said["state"] == "done"
        assert said["sigma_mm"]["left_knee"] < 10.0
        bad = request(server.control_endpoint, "calibrate", 5.0, actor="alice", seconds=1e9)
        assert bad is not None
        assert (bad["ok"], bad["error"]["field"]) == (False, "seconds")
        assert main(["calibrate", "nobody", "--control", server.control_endpoint]) == 2
        assert "nobody" in capsys.readouterr().err
    finally:
        over.set()
        thread.join()
