"""The ROS 2 example: frames and markers in the axes of REP-103, and the node around stand-ins for what ROS brings."""

from __future__ import annotations

import json
import os
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import msgpack
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from bench.service.child import ServerProcess
from model.skeleton import INDEX, JOINTS, PARENTS
from streamer.frames import Pose, Status
from streamer.wire.protocol import Encoder
from tests.helpers.live import BODY, streaming
from tests.helpers.program import Program
from tests.helpers.project import ROOT
from tests.helpers.ros_messages import write_ros
from tests.helpers.vmc import a_pose, any_pose

EXAMPLES = ROOT / "examples"
TO_ROS = Rotation.from_matrix([[0, 0, 1], [1, 0, 0], [0, 1, 0]])  # x ahead, y left, z up, of z, x, y


@pytest.fixture(scope="module")
def mapping() -> ModuleType:
    spec = spec_from_file_location("ros2_mapping", EXAMPLES / "ros2_mapping.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def sent(pose: Pose) -> dict[str, Any]:
    """A pose as it is on the wire."""
    fields: dict[str, Any] = msgpack.unpackb(Encoder().pose(pose).partition(b"\0")[2])
    return fields


def chained(transforms: list[Any]) -> dict[str, tuple[np.ndarray, Rotation]]:
    """Child -> place and turn in the world, as TF adds them up."""
    found = {"map": (np.zeros(3), Rotation.identity())}
    for one in transforms:
        place, turn = found[one.parent]
        found[one.child] = (place + turn.apply(one.translation), turn * Rotation.from_quat(one.rotation))
    return found


@pytest.mark.parametrize("seed", range(4))
def test_frames_add_up_to_the_pose(mapping: ModuleType, seed: int) -> None:
    pose = any_pose(seed)
    frames = chained(mapping.transforms(sent(pose), list(JOINTS), list(PARENTS)))
    for joint, name in enumerate(JOINTS):
        np.testing.assert_allclose(frames[f"a/{name}"][0], TO_ROS.apply(pose.positions[joint]), atol=1e-5)
    root = TO_ROS * Rotation.from_quat(pose.rotations[0]) * TO_ROS.inv()
    assert (frames["a/pelvis"][1].inv() * root).magnitude() < 1e-5


def test_ahead_is_x_left_is_y_and_up_is_z(mapping: ModuleType) -> None:
    arm, head = Rotation.from_euler("z", 60, degrees=True), Rotation.from_euler("y", 40, degrees=True)
    pose = a_pose({"left_shoulder": arm, "head": head})
    frames = chained(mapping.transforms(sent(pose), list(JOINTS), list(PARENTS), "map"))
    at = {name: frames[f"a/{name}"][0] for name in JOINTS}
    upper = at["left_elbow"] - at["left_shoulder"]
    np.testing.assert_allclose(upper / np.linalg.norm(upper), [0, 0.5, np.sqrt(0.75)], atol=1e-6)
    assert at["right_wrist"][1] < -0.4
    assert at["left_foot"][0] > at["left_ankle"][0] + 0.05
    assert at["head"][2] > at["pelvis"][2] + 0.4
    assert (frames["a/right_wrist"][1]).magnitude() < 1e-6  # as at rest: X ahead, Y left, Z up
    sin, cos = np.sin(np.radians(40)), np.cos(np.radians(40))
    np.testing.assert_allclose(frames["a/head"][1].apply([1, 0, 0]), [cos, sin, 0], atol=1e-6)  # to the left


def test_markers_are_joints_bones_and_a_name_above(mapping: ModuleType) -> None:
    pose = any_pose(1)
    joints, bones, name = mapping.markers(sent(pose), list(PARENTS))
    at = TO_ROS.apply(pose.positions)
    assert (joints.kind, bones.kind, name.kind) == (7, 5, 9)
    np.testing.assert_allclose(joints.points, at, atol=1e-5)
    np.testing.assert_allclose(np.reshape(bones.points, (23, 2, 3))[:, 1], at[1:], atol=1e-5)
    np.testing.assert_allclose(np.reshape(bones.points, (23, 2, 3))[:, 0], at[list(PARENTS[1:])], atol=1e-5)
    assert name.points[0][2] > at[:, 2].max()
    assert name.text == "a (tracking)"


@pytest.mark.parametrize("status", ["calibrating", "coasting", "lost"])
def test_every_status_is_known_and_nobody_is_shown_who_is_lost(mapping: ModuleType, status: Status) -> None:
    pose = sent(a_pose(status=status))
    shown = 0 if status == "lost" else 24
    assert len(mapping.transforms(pose, list(JOINTS), list(PARENTS))) == shown
    assert len(mapping.markers(pose, list(PARENTS))) == min(shown, 3)


def test_stamps_say_when_what_is_seen_was(mapping: ModuleType) -> None:
    pose = {"t_ns": 70, "captured_ns": 100, "received_ns": 10**12, "published_ns": 10**12 + 2_000_000}
    now, ros = 10**12 + 5_000_000, 1_700 * 10**15
    assert mapping.stamp_ns(pose, ros, now) == ros - 5_000_000 - 30  # delayed by 30 ns
    assert mapping.stamp_ns(pose, ros, 77) == ros - 2_000_000 - 30  # another machine's clock


def test_the_node_publishes_a_server_s_poses(tmp_path: Path) -> None:
    write_ros(tmp_path)
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    with ServerProcess() as server, streaming(server, "mover", 60.0):
        words = [sys.executable, "ros2_node.py", server.out_endpoint, "odom"]
        with Program(words, cwd=EXAMPLES, env=environment) as node:
            lines = [node.stdout.readline() for _ in range(8)]
            assert all(lines), node.stderr.read()
    said = [json.loads(line) for line in lines]
    frames, drawn = said[-2]["transforms"], said[-1]["markers"]
    assert (said[-2]["topic"], said[-1]["topic"]) == ("/tf", "hpstm/markers")
    assert [one["child_frame_id"] for one in frames] == [f"mover/{joint}" for joint in JOINTS]
    assert frames[0]["header"]["frame_id"] == "odom"
    assert 0 <= 1_700_000_000 - frames[0]["header"]["stamp"]["sec"] <= 1
    assert {(one["header"]["frame_id"], one["ns"]) for one in drawn} == {("odom", "mover")}
    head = drawn[0]["points"][INDEX["head"]]
    assert head["z"] == pytest.approx(BODY[INDEX["head"], 1], abs=0.15)
    assert all(one["color"]["a"] > 0 and one["lifetime"]["nanosec"] > 0 for one in drawn)
