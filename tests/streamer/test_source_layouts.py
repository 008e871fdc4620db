"""Pose.source in any layout, one of somebody's own too, and over the wire."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event, Thread

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from bench.service.child import ServerProcess
from model.layouts import LAYOUTS, get_layout
from model.skeleton import INDEX, PARENTS, J
from streamer.carriers import UNKNOWN, carriers_of, joint_named, world_rotations
from streamer.client import FrameSender
from streamer.filter import PoseFilter
from streamer.frames import Frame
from streamer.sinks.recording import read_recording, record
from tests.helpers.live import counter, poses, subscribed, wait_until
from tests.helpers.networks import mean_mm
from tests.helpers.source_joints import FPS, HEEL, NOSE, SETTLED, body, bundled, pushed, seen, stream

# ---- layouts


def test_the_order_is_the_newest_frames(new: Callable[..., PoseFilter]) -> None:
    filter_ = new()
    coco, mediapipe = stream(seen("coco_17", 1.0), "coco_17"), stream(seen("mediapipe_33", 1.0), "mediapipe_33", 30)
    for frame in coco:
        pose = filter_.push(frame)
    mediapipe[0].positions[[NOSE, HEEL]] = np.nan
    assert pose.source is not None
    assert (pose.layout, pose.source.shape) == ("coco_17", (17, 3))
    for frame in mediapipe:
        pose = filter_.push(frame)
        assert pose.source is not None
        assert (pose.layout, pose.source.shape) == ("mediapipe_33", (33, 3))
        assert np.isnan(pose.source[NOSE, 0]) == (frame is mediapipe[0])  # what coco_17 showed is another source's
    pose = filter_.pose_at(pose.t_ns + 10_000_000, "a")
    assert pose.layout == "mediapipe_33"


def test_without_source_there_is_none(new: Callable[..., PoseFilter], frames: list[Frame]) -> None:
    pose = new(source=False).push(frames[0])
    assert pose.source is None
    np.testing.assert_array_equal(pose.positions, new().push(frames[0]).positions)


OWN_JOINTS = [
    "pelvis", "neck", "head", *(f"{side}_{part}" for part in ("hip", "knee", "ankle", "shoulder", "elbow", "wrist")
                                for side in ("left", "right")), "marker_a", "LHeel",
]  # fmt: skip
MARKER = 15


def own_frames(folder: Path, seconds: float) -> tuple[Path, np.ndarray, np.ndarray]:
    """A layout of somebody's own with a marker near the left elbow; the truth (T, 17, 3) m, Y up, and what is sent."""
    path = folder / "own.toml"
    path.write_text(f"joints = {json.dumps(OWN_JOINTS)}\nunits = 'cm'\nup_axis = 'z'\n")
    positions, rotations = body(seconds)
    elbow, ankle = INDEX["left_elbow"], INDEX["left_ankle"]
    marker = positions[:, elbow] + rotations[:, elbow] @ np.array([0.03, 0.05, 0.0])
    heel = positions[:, ankle] + rotations[:, ankle] @ np.array([0.0, -0.05, -0.06])
    truth = np.concatenate(
        [positions[:, [INDEX[name] for name in OWN_JOINTS[:MARKER]]], marker[:, None], heel[:, None]], 1
    )
    return path, truth, 100.0 * np.stack([truth[..., 0], -truth[..., 2], truth[..., 1]], -1)


@bundled
def test_a_layout_of_ones_own_comes_out_in_metres_and_a_nameless_marker_finds_its_joint(tmp_path: Path) -> None:
    path, truth, sent = own_frames(tmp_path, 8.0)
    assert carriers_of(get_layout(path)).carriers.tolist() == [UNKNOWN, INDEX["left_ankle"]]
    shown = sent.copy()
    shown[6 * FPS :, MARKER] = np.nan
    got = pushed(shown, str(path))
    np.testing.assert_allclose(got[SETTLED : 6 * FPS, MARKER:], truth[SETTLED : 6 * FPS, MARKER:], rtol=0, atol=1e-3)
    assert mean_mm(got[SETTLED:, :MARKER], truth[SETTLED:, :MARKER]) < 1.0
    assert mean_mm(got[6 * FPS :, MARKER], truth[6 * FPS :, MARKER]) < 40.0


@pytest.mark.parametrize(
    ("point", "joint"),
    [
        ("nose", "head"), ("mouth_left", "head"), ("leftEye", "head"), ("ear.L", "head"), ("left_heel", "left_ankle"),
        ("RightToeBase", "right_foot"), ("right_foot_index", "right_foot"), ("LeftHandIndex1", "left_hand"),
        ("l_thumb", "left_hand"), ("rightForeArm", None), ("neck_base", "neck"), ("mid_hip", "pelvis"),
        ("upperChest", "spine3"), ("thumb", None), ("marker_7", None), ("", None),
    ],
)  # fmt: skip
def test_names_say_what_a_point_hangs_on(point: str, joint: str | None) -> None:
    assert joint_named(point) == joint


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_point_is_a_joint_or_has_a_carrier(layout: str) -> None:
    known = get_layout(layout)
    parts = carriers_of(known)
    assert sorted([*parts.own, *parts.others]) == list(range(len(known.joints)))
    np.testing.assert_array_equal(known.weights[parts.joints].argmax(1), parts.own)
    assert (known.measured | known.derived)[parts.carriers].all()
    assert UNKNOWN not in parts.carriers


def test_world_rotations_are_products_along_the_chain() -> None:
    local = Rotation.random(J, random_state=0)
    world = [local[0].as_matrix()]
    for joint in range(1, J):
        world.append(world[PARENTS[joint]] @ local[joint].as_matrix())
    for side in ("left", "right"):  # a hand turns with the bone that leads to it
        world[INDEX[f"{side}_hand"]] = world[INDEX[f"{side}_wrist"]]
    joints = np.array([*range(J), INDEX["head"]])
    got = world_rotations(local.as_quat().astype(np.float32), joints)
    np.testing.assert_allclose(got, [*world, world[INDEX["head"]]], rtol=0, atol=1e-5)


# ---- over the wire


@pytest.fixture(scope="module")
def own_layout(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    path, _, sent = own_frames(tmp_path_factory.mktemp("layout"), 1.0)
    return path, sent


@pytest.fixture(scope="module")
def server(own_layout: tuple[Path, np.ndarray]) -> Iterator[ServerProcess]:
    with ServerProcess(["--source-joints", "--layout", str(own_layout[0])]) as running:
        yield running


@bundled
def test_a_server_that_is_asked_to_sends_what_the_filter_says(
    server: ServerProcess, own_layout: tuple[Path, np.ndarray], tmp_path: Path
) -> None:
    path, sent = own_layout
    alone, got = PoseFilter.load(), []
    with subscribed(server, "a") as subscriber, FrameSender(server.in_endpoint) as sender:
        for frame, local in zip(stream(sent, "own"), stream(sent, str(path))):
            sender.send(frame)
            (pose,) = poses(subscriber, least=1)
            got.append(pose)
            want = alone.push(local)
            assert pose.layout == "own"
            np.testing.assert_array_equal(pose.source, want.source)
    assert got[-1].source is not None
    assert got[-1].source.shape == (17, 3)


@bundled
def test_a_recording_holds_it(server: ServerProcess, tmp_path: Path) -> None:
    path, done, before = tmp_path / "take.hpstm", Event(), counter(server, "subscriptions")
    recorder = Thread(target=record, args=(server.out_endpoint, path, False, 60.0, done.is_set))
    recorder.start()
    wait_until(lambda: counter(server, "subscriptions") >= before + 3)  # poses, skeletons, books
    with FrameSender(server.in_endpoint) as sender, subscribed(server, "b") as subscriber:
        for frame in stream(seen("coco_17", 1.0), "coco_17"):
            frame.actor = "b"
            sender.send(frame)
            poses(subscriber, least=1)
    done.set()
    recorder.join()
    held = [pose for pose in read_recording(path).poses if pose.actor == "b"]
    assert len(held) >= 20
    assert {(pose.layout, np.shape(pose.source)) for pose in held} == {("coco_17", (17, 3))}
