"""Poses to SONIC: what its reader takes out of them, on what body; a robot that is held, and led back slowly."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zmq
from scipy.spatial.transform import Rotation, Slerp

from bench.service.child import ServerProcess
from model.skeleton import CHILDREN, INDEX, ancestor_matrix, rest_offsets
from streamer.errors import ConfigError
from streamer.frames import Pose, Status
from streamer.sinks.human import Human, read_joints
from streamer.sinks.sonic import FASTEST_RAD_S, SonicPublisher, SonicStream
from streamer.sinks.sonic import between as way
from tests.helpers.live import streaming
from tests.helpers.program import HPSTM, Program
from tests.helpers.sonic import Player, as_theirs, checked, unpacked
from tests.helpers.vmc import OFFSETS, a_pose, any_pose

MS = 1_000_000
UP = Rotation.from_rotvec([np.pi / 2, 0, 0])  # Y up to Z up
SINGLE = [(j, CHILDREN[j][0]) for j in range(22) if len(CHILDREN[j]) == 1]


def a_human(seed: int = 0) -> np.ndarray:
    """(55, 3) joints of a body that is built otherwise than ours: every bone points some 15 degrees elsewhere."""
    rng = np.random.default_rng(seed)
    offsets = rest_offsets()
    offsets += 0.2 * np.linalg.norm(offsets, axis=-1, keepdims=True) * rng.standard_normal(offsets.shape)
    body = ancestor_matrix() @ offsets + (0.003, -0.35, 0.01)
    out = np.zeros((55, 3))
    out[:22] = body[:22]
    out[22:25] = body[INDEX["head"]]
    for wrist, first in ((20, 25), (21, 40)):
        out[first : first + 15] = body[wrist] + rng.uniform(0.02, 0.1, (15, 3))
    return out


def fields(pose: Pose, human: np.ndarray | None = None) -> dict[str, np.ndarray]:
    return Human(human).fields(pose.rotations, pose.offsets_m)


# -- of which body ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
def test_all_fields_are_what_their_own_sender_makes_of_these_rotations(seed: int) -> None:
    pose, human = any_pose(seed), a_human(seed)
    ours = fields(pose, human)
    quat, joints, wrists = as_theirs(ours["smpl_pose"].astype(float), Rotation.from_quat(pose.rotations[0]), human)
    assert abs(float(quat @ ours["body_quat"])) == pytest.approx(1.0, abs=1e-6)
    np.testing.assert_allclose(ours["smpl_joints"], joints, atol=1e-5)
    off = (ours["joint_pos"] - wrists + np.pi) % (2 * np.pi) - np.pi
    np.testing.assert_allclose(off, 0.0, atol=2e-3)
    assert not ours["joint_vel"].any()


@pytest.mark.parametrize("seed", range(4))
def test_their_bones_point_where_ours_do_whatever_the_body(seed: int) -> None:
    pose = any_pose(seed)
    ours = fields(pose, a_human(seed))
    body = Rotation.from_quat(ours["body_quat"][[1, 2, 3, 0]].astype(float))
    theirs = body.apply(ours["smpl_joints"].astype(float))  # Z up, in the world
    mine = UP.apply(pose.positions)
    for joint, child in SINGLE:
        if child < 22:  # beyond a wrist they have a thumb
            a, b = theirs[child] - theirs[joint], mine[child] - mine[joint]
            assert a @ b > (1 - 1e-5) * np.linalg.norm(a) * np.linalg.norm(b)


def test_a_left_arm_is_a_left_arm_with_the_root_ahead_along_x() -> None:
    """In the root's axes: X ahead, Y to the left, Z up, whichever way the person faces; a thumb up, besides."""
    turn = Rotation.from_euler("y", 75, degrees=True)
    arm, thumb = Rotation.from_euler("z", 60, degrees=True), Rotation.from_euler("x", -90, degrees=True)
    for root in (Rotation.identity(), turn):
        joints = fields(a_pose({"pelvis": root, "left_shoulder": arm, "right_wrist": thumb}))["smpl_joints"]
        along = joints[INDEX["left_wrist"]] - joints[INDEX["left_shoulder"]]
        np.testing.assert_allclose(along / np.linalg.norm(along), [0, 0.5, np.sqrt(0.75)], atol=1e-3)
        right = joints[INDEX["right_wrist"]] - joints[INDEX["right_shoulder"]]
        np.testing.assert_allclose(right / np.linalg.norm(right), [0, -1, 0], atol=1e-3)
        assert joints[INDEX["left_foot"], 0] > joints[INDEX["left_ankle"], 0] + 0.05
        thumbs = joints[[22, 23]] - joints[[20, 21]]  # where they have thumbs
        assert thumbs[0] @ [1, 0, 0] > 0.05  # ahead, of a hand with its palm down
        assert thumbs[1] @ [0, 0, 1] > 0.05  # and up
    quat = fields(a_pose({"pelvis": turn}))["body_quat"]
    still = Rotation.from_quat(fields(a_pose())["body_quat"][[1, 2, 3, 0]].astype(float))
    change = Rotation.from_quat(quat[[1, 2, 3, 0]].astype(float)) * still.inv()
    np.testing.assert_allclose(change.as_rotvec(), [0, 0, np.radians(75)], atol=1e-5)  # to the left, about Z


def test_a_forearm_s_twist_is_the_robot_s_wrist_and_a_bent_elbow_is_not() -> None:
    bend = Rotation.from_euler("y", -80, degrees=True)
    twist = Rotation.from_euler("x", 30, degrees=True)
    joints = fields(a_pose({"left_elbow": bend * twist}), None)["joint_pos"]
    assert joints[23] == pytest.approx(np.radians(30), abs=1e-3)
    assert np.abs(np.delete(joints, 23)).max() < 1e-3


def test_without_their_human_ours_stands_in_upright_as_itself() -> None:
    joints = fields(a_pose())["smpl_joints"]
    at_rest = (ancestor_matrix() @ OFFSETS)[:22, [2, 0, 1]]  # ahead, left, up
    np.testing.assert_allclose(joints[:22] - joints[0], at_rest, atol=1e-6)


@pytest.mark.parametrize("bad", [np.zeros((24, 3)), np.full((55, 3), np.nan), 1000.0 * a_human(), "text"])
def test_what_is_no_human_is_one_line_that_says_how_to_make_one(tmp_path: Path, bad: object) -> None:
    np.save(tmp_path / "human.npy", bad)
    with pytest.raises(ConfigError, match=r"--human .*human_joints_info"):
        read_joints(tmp_path / "human.npy")


def test_their_human_is_read(tmp_path: Path) -> None:
    np.save(tmp_path / "human.npy", a_human().astype(np.float32))
    np.testing.assert_allclose(read_joints(tmp_path / "human.npy"), a_human(), atol=1e-6)


# -- the stream -------------------------------------------------------------------------------------------------------


STILL = a_pose()


def about(joints: dict[str, tuple[int, float]], t_s: float, status: Status = "tracking") -> Pose:
    """Somebody at a time, joints turned about one of their axes by an angle [rad]."""
    rotations = STILL.rotations.copy()
    for name, (axis, angle) in joints.items():
        rotations[INDEX[name], [axis, 3]] = np.sin(angle / 2), np.cos(angle / 2)
    return replace(STILL, rotations=rotations, t_ns=round(t_s * 1e9), status=status)


def swing_rad(t_s: Any) -> Any:
    return np.sin(4 * t_s)


def turned(t_s: float, status: Status = "tracking") -> Pose:
    """Somebody who swings an arm and turns."""
    return about({"pelvis": (1, 0.5 * t_s), "left_shoulder": (2, float(swing_rad(t_s)))}, t_s, status)


def played(poses: Sequence[Pose], fade_s: float = 1.0) -> Player:
    stream, player = SonicStream(Human(), fade_s), Player()
    for pose in poses:
        message = stream.push(pose)
        if message is not None:
            player.take(message)
    return player


def steps_rad(player: Player) -> np.ndarray:
    """(T - 1) the largest angle that a joint or the root turns by from frame to frame."""
    local = player.track("smpl_pose").astype(float)
    turns = Rotation.from_rotvec(local.reshape(-1, 3)).as_quat().reshape(*local.shape[:2], 4)
    root = player.track("body_quat")[:, None].astype(float)  # wxyz: as good for angles
    chord = [np.minimum(*(np.linalg.norm(q[1:] + sign * q[:-1], axis=-1) for sign in (-1, 1))) for q in (turns, root)]
    return 4 * np.arcsin(np.max([one.max(1) for one in chord], axis=0) / 2)


@pytest.mark.parametrize("rate", [12.0, 30.0, 50.0, 59.94, 120.0])
def test_frames_are_fifty_a_second_without_a_gap_whatever_the_rate(rate: float) -> None:
    rng = np.random.default_rng(0)
    t = np.arange(round(2 * rate)) / rate
    t[1:] += rng.uniform(-0.1, 0.1, len(t) - 1) / rate
    player = played([turned(one) for one in t])
    assert player.jumps == 1  # the first
    index = sorted(player.frames)
    assert index == list(range(index[0], int(50 * t[-1]) + 1))
    assert index[0] < 5
    arm = Rotation.from_rotvec(player.track("smpl_pose")[:, INDEX["left_shoulder"] - 1].astype(float))
    off = arm.as_rotvec()[:, 2] - swing_rad(np.array(index) / 50)
    assert np.abs(off).max() < (4 * 1.2 / rate) ** 2 / 8 + 1e-4  # of a straight line between two poses


def test_who_is_lost_is_held_and_led_back_to_without_a_jump() -> None:
    t = np.arange(0, 4, 1 / 60)
    lost = (t > 0.5) & (t < 2.0)
    player = played([turned(one, "lost" if gone else "tracking") for one, gone in zip(t, lost)])
    assert player.jumps == 1
    pose = player.track("smpl_pose")
    held = [n for n in range(len(pose) - 1) if np.array_equal(pose[n], pose[n + 1])]
    assert len(held) > 0.95 * 1.5 * 50
    assert held == list(range(held[0], held[-1] + 1))
    after = steps_rad(player)[held[-1] :]
    live = steps_rad(played([turned(one) for one in t])).max()
    assert after.max() < live + 1.05 * FASTEST_RAD_S / 50
    assert after[:3].max() < 0.01  # it sets off slowly
    assert pose[-1, INDEX["left_shoulder"] - 1, 2] == pytest.approx(swing_rad(t[-1]), abs=0.05)


def test_somebody_who_faces_the_other_way_when_back_is_approached_no_faster() -> None:
    poses = [about({"pelvis": (1, 0.0)}, t) for t in np.arange(0.0, 0.5, 1 / 60)]
    poses += [about({"pelvis": (1, 2.0)}, t, "lost") for t in np.arange(0.5, 1.5, 1 / 60)]
    poses += [about({"pelvis": (1, 3.0)}, t) for t in np.arange(1.5, 4.5, 1 / 60)]
    player = played(poses)
    steps = steps_rad(player)
    assert 0.9 * FASTEST_RAD_S / 50 < steps.max() < 1.05 * FASTEST_RAD_S / 50
    assert steps.sum() == pytest.approx(3.0, abs=0.01)


@pytest.mark.parametrize("step_s", [0.4, 5.0, -3.0, -1e6], ids=["hiccup", "gap", "earlier", "another clock"])
def test_after_a_gap_or_with_a_new_clock_frames_go_on_and_nothing_jumps(step_s: float) -> None:
    poses = [turned(t) for t in np.arange(0.0, 0.5, 1 / 60)]
    poses += [about({"left_shoulder": (2, 1.0)}, 0.5 + step_s + t) for t in np.arange(0.0, 2.5, 1 / 60)]
    stream, player = SonicStream(Human(), 1.0), Player()
    for pose in poses:
        message = stream.push(pose)
        if message is not None:
            player.take(message)
    assert player.jumps == 1
    assert steps_rad(player)[25:].max() < 1.05 * FASTEST_RAD_S / 50
    assert not stream.held
    assert len(player.frames) == pytest.approx(150, abs=4)


def test_somebody_who_turns_round_meanwhile_makes_no_jump() -> None:
    """The shorter way to where they are changes from one side to the other."""
    poses = [about({"pelvis": (1, 0.0)}, t) for t in np.arange(0.0, 0.5, 1 / 60)]
    poses += [about({"pelvis": (1, 2.0 + 1.0 * t)}, 1.5 + t) for t in np.arange(0.0, 4.0, 1 / 60)]
    player = played(poses)
    assert steps_rad(player).max() < (1.0 + 1.5 * FASTEST_RAD_S) / 50
    body = Rotation.from_quat(player.track("body_quat")[[0, -1]][:, [1, 2, 3, 0]].astype(float))
    turned_rad = (body[1] * body[0].inv()).as_rotvec()[2]
    assert abs((turned_rad - 2.0 - 1.0 * 4.0 + np.pi) % (2 * np.pi) - np.pi) < 0.1


def test_hiccups_on_the_way_back_make_it_no_longer_and_hardly_shorter() -> None:
    stream = SonicStream(Human(), 2.0)
    for t in np.arange(0.0, 0.5, 1 / 60):
        stream.push(about({}, t))
    held = []
    for t in np.arange(0.0, 2.5, 1 / 60):
        if t % 0.5 < 0.35:
            stream.push(about({}, 3.0 + t))
        held.append(stream.held)
    assert all(held[: round(1.4 * 60)])  # what is left of it, when it is less than half a second, is not told
    assert not any(held[round(2.1 * 60) :])


def test_poses_that_are_not_later_are_left_out_and_a_person_lost_from_the_start_sends_nothing() -> None:
    stream = SonicStream(Human())
    assert all(stream.push(turned(one, "lost")) is None for one in np.arange(0, 1, 1 / 60))
    player = Player()
    for one in np.arange(1, 2, 1 / 60):
        for again in (one, one, one - 0.03):
            message = stream.push(turned(again))
            if message is not None:
                player.take(message)
    assert (player.jumps, len(player.frames)) == (1, 50)
    assert not stream.held


def test_between_is_slerp() -> None:
    a, b = Rotation.random(50, random_state=1), Rotation.random(50, random_state=2)
    for part in (0.0, 0.3, 1.0):
        mine = Rotation.from_quat(way(a.as_quat(), b.as_quat(), part))
        for n in range(50):
            theirs = Slerp([0, 1], Rotation.concatenate([a[n], b[n]]))(part)
            assert (mine[n].inv() * theirs).magnitude() < 1e-6


# -- the command ------------------------------------------------------------------------------------------------------


def until(program: Program, wanted: str) -> None:
    """Reads its lines until one begins so."""
    for line in program.stdout:
        if line.startswith(wanted):
            return
    pytest.fail(f"ended without {wanted!r}: {program.stderr.read()}")


def test_the_command_sends_a_person_and_nobody_else_and_says_when_the_robot_is_held(tmp_path: Path) -> None:
    np.save(tmp_path / "human.npy", a_human())
    with ServerProcess(["--rate", "50"]) as server, zmq.Context() as context, context.socket(zmq.SUB) as socket:
        at = ("--out", server.out_endpoint, "--port", "0", "--human", str(tmp_path / "human.npy"))
        with Program([*HPSTM, "sink", "sonic", *at]) as sink:
            with streaming(server, "me", 60.0):
                endpoint = sink.stdout.readline().strip().removeprefix("ready sonic=")
                socket.connect(endpoint)
                socket.subscribe(b"pose")
                until(sink, f"me -> {endpoint}\n")
                with streaming(server, "other", 60.0):
                    until(sink, "other: the robot follows me\n")
                    player = Player()
                    while len(player.frames) < 30:
                        assert socket.poll(10_000)
                        player.take(socket.recv())
            while socket.poll(500):  # the source is gone, and nothing is sent: the robot holds by itself
                player.take(socket.recv())
            with streaming(server, "me", 60.0):
                until(sink, "me: lost, or was away: the robot is held")
                until(sink, "me: followed")
            while socket.poll(100):
                player.take(socket.recv())
            assert sink.said(signal.SIGINT) == []
    assert player.jumps == 1
    left = player.track("smpl_joints")[-1, INDEX["left_wrist"]]  # of one who stands in a T-pose
    assert left[1] > 0.4


def test_a_message_is_one_frame_of_their_form() -> None:
    stream = SonicStream(Human())
    messages = [stream.push(turned(n / 50)) for n in range(6)]
    assert messages[:4] == [None] * 4
    assert messages[5] is not None
    header, arrays = unpacked(messages[5])
    assert {name: header[name] for name in ("v", "endian", "count")} == {"v": 3, "endian": "le", "count": 1}
    assert {one["name"]: (one["dtype"], one["shape"]) for one in header["fields"]} == {
        "body_quat": ("f32", [5, 4]), "smpl_joints": ("f32", [5, 24, 3]), "smpl_pose": ("f32", [5, 21, 3]),
        "joint_pos": ("f32", [5, 29]), "joint_vel": ("f32", [5, 29]), "frame_index": ("i64", [5]),
        "timestamp_monotonic": ("f64", [1]),
    }  # fmt: skip
    assert arrays["frame_index"].tolist() == [1, 2, 3, 4, 5]
    assert len(messages[5]) == 4 + 1280 + 4 * 5 * (4 + 72 + 63 + 58) + 8 * 5 + 8
    checked(messages[5])


def test_a_port_that_is_taken_is_one_line_and_nobody_has_to_listen() -> None:
    with SonicPublisher(0) as publisher:
        for _ in range(1000):
            publisher.send(b"pose")
        assert publisher.sent == 1000
        port = int(publisher.endpoint.rpartition(":")[2])
        with pytest.raises(ConfigError, match=f"--port {port}"):
            SonicPublisher(port)
