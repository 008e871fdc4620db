"""Rotations that sources show, by landmarks or sent: against known truth, and what they may change in a pose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from model.kinematics import forward_kinematics, quaternions_of
from model.landmarks import landmarks
from model.layouts import get_layout
from model.motion.synthetic import SyntheticActor
from model.skeleton import CHILDREN, FORKS, INDEX, LEAVES, PARENTS, J
from streamer.doubt import UNSEEN_RAD2
from streamer.errors import FrameError
from streamer.filter import PoseFilter
from streamer.frames import Frame
from streamer.orientation import Orientation
from streamer.sinks.recording import RecordingWriter, read_recording
from streamer.sources.replay import read_take
from streamer.wire.protocol import Encoder
from tests.helpers.motion_files import humanoid_text
from tests.helpers.networks import SECOND_NS, DoubleRuntime, assert_pose_holds, assert_poses_equal, poses_of

FPS = 30.0
HEAD, WRISTS = INDEX["head"], [INDEX["left_wrist"], INDEX["right_wrist"]]
SINGLE = [j for j in range(J) if j not in LEAVES and j not in FORKS]
PARENT = [max(parent, 0) for parent in PARENTS]
MEDIAPIPE = "mediapipe_33"


class Shot(NamedTuple):
    """Somebody who moves, shakes the head and turns the hands: joints (T, 24, 3), world rotations (T, 24, 3, 3), bones
    (24, 3), and what a network says that sees joints alone: local rotations (T, 24, 4), head and hands as at rest."""

    positions: np.ndarray
    world: np.ndarray
    offsets_m: np.ndarray
    network: np.ndarray


def shot(seconds: float, seed: int = 1) -> Shot:
    t = np.arange(round(seconds * FPS)) / FPS
    actor = SyntheticActor(seed)
    world, root = actor.poses(t)
    nod = np.stack([0.4 * np.sin(2.0 * t), 0.9 * np.sin(1.7 * t + 1.0), 0.2 * np.sin(2.3 * t)], -1)
    untwisted = world.copy()
    untwisted[:, [HEAD, *WRISTS]] = world[:, [PARENTS[j] for j in (HEAD, *WRISTS)]]
    world = untwisted.copy()
    world[:, HEAD] = world[:, HEAD] @ Rotation.from_rotvec(nod).as_matrix()
    for joint, size in zip(WRISTS, (1.0, -1.0), strict=True):
        angle = size * np.sin(2.1 * t)
        world[:, joint] = world[:, joint] @ Rotation.from_euler("x", angle[:, None]).as_matrix()
    for child in (INDEX["left_hand"], INDEX["right_hand"]):
        world[:, child] = world[:, PARENTS[child]]
    positions = np.asarray(forward_kinematics(world, actor.offsets_m, root))
    local = np.swapaxes(untwisted[:, PARENT], -1, -2) @ untwisted
    local[:, 0] = untwisted[:, 0]
    return Shot(positions, world, np.asarray(actor.offsets_m), quaternions_of(local))


def by_landmarks(of: Shot, layout: str = MEDIAPIPE, noise_m: float = 0.004) -> list[Frame]:
    seen = landmarks(layout).at(of.positions, of.world)
    seen = (seen + noise_m * np.random.default_rng(0).standard_normal(seen.shape)).astype(np.float32)
    return [Frame("a", n, round(n * SECOND_NS / FPS), xyz, layout=layout) for n, xyz in enumerate(seen)]


def by_rotations(of: Shot) -> list[Frame]:
    sent = quaternions_of(of.world)
    return [Frame("a", n, round(n * SECOND_NS / FPS), of.positions[n], rotations=sent[n]) for n in range(len(sent))]


class Said(NamedTuple):
    """Local (T, 24, 4) and world rotations (T, 24, 3, 3) that are published, their sigma (T, 24) [rad]."""

    local: np.ndarray
    world: np.ndarray
    sigma: np.ndarray


def refined(of: Shot, frames: Sequence[Frame], at_s: float = 0.0) -> Said:
    """What is published for so long from each frame, of what the network says then."""
    orientation, previous = Orientation(1, landmarks=True), of.network[0].astype(np.float32)
    local, sigma = [], []
    for frame in frames:
        orientation.take(0, frame, frame.t_ns)
        t_ns = frame.t_ns + round(at_s * SECOND_NS)
        at = np.clip(round(t_ns * FPS / SECOND_NS), 0, len(of.network) - 1)
        now = of.network[at].astype(np.float32)
        now *= np.where((now * previous).sum(-1, keepdims=True) < 0, -1, 1)  # as the network's graph does
        variance = np.array(UNSEEN_RAD2, np.float32)
        track = orientation.tracks[0]
        if track is not None:
            track.put(of.positions[at].copy(), now, previous, variance, of.offsets_m.astype(np.float32), 1, t_ns, t_ns)
        previous = now
        local.append(now)
        sigma.append(np.sqrt(variance))
    return Said(np.array(local), world_of(np.array(local)), np.array(sigma))


def world_of(local: np.ndarray) -> np.ndarray:
    """(T, 24, 3, 3) world_from_joint of local quaternions (T, 24, 4)."""
    turn = Rotation.from_quat(local.reshape(-1, 4).astype(np.float64)).as_matrix().reshape(-1, J, 3, 3)
    world = turn.copy()
    for joint in range(1, J):
        world[:, joint] = world[:, PARENTS[joint]] @ turn[:, joint]
    return world


def angle_deg(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(...) angle between rotations."""
    turn = np.swapaxes(a, -1, -2) @ b
    return np.degrees(Rotation.from_matrix(turn.reshape(-1, 3, 3)).magnitude()).reshape(turn.shape[:-2])


def errors_deg(of: Shot, said: Said, joints: int | list[int], at_s: float = 0.0) -> np.ndarray:
    """Angles (T, ...) from the truth, after half a second."""
    at = np.clip(np.arange(len(said.world)) + round(at_s * FPS), 0, len(of.world) - 1)
    return angle_deg(said.world[15:, joints], of.world[at][15:, joints])


# -- landmarks


@pytest.mark.parametrize("layout", [MEDIAPIPE, "coco_17"])
@pytest.mark.parametrize(("at_s", "bound_deg"), [(0.0, 4.0), (-0.1, 3.0), (0.1, 10.0)], ids=["now", "delay", "predict"])
def test_the_head_turns_as_its_landmarks_do(layout: str, at_s: float, bound_deg: float) -> None:
    """Landmarks are 4 mm off, each for itself; the network knows nothing of the head."""
    of = shot(4.0)
    said = refined(of, by_landmarks(of, layout), at_s)
    assert np.median(errors_deg(of, said, HEAD, at_s)) < bound_deg
    assert np.median(angle_deg(world_of(of.network)[:, HEAD], of.world[:, HEAD])) > 30.0


def test_hands_turn_as_their_landmarks_do() -> None:
    of = shot(4.0)
    assert np.median(errors_deg(of, refined(of, by_landmarks(of)), WRISTS)) < 5.0
    assert np.median(angle_deg(world_of(of.network)[:, WRISTS], of.world[:, WRISTS])) > 25.0


def test_without_noise_the_truth_comes_out() -> None:
    of = shot(3.0)
    said = refined(of, by_landmarks(of, noise_m=0.0))
    assert errors_deg(of, said, [HEAD, *WRISTS]).max() < 6.0
    assert np.median(errors_deg(of, said, [HEAD, *WRISTS])) < 1.0


def test_a_fixed_lag_is_surer_than_now() -> None:
    of = shot(4.0)
    now, late = (errors_deg(of, refined(of, by_landmarks(of), at_s), HEAD, at_s).mean() for at_s in (0.0, -0.1))
    assert late < 0.85 * now


def test_uneven_and_slow_frames_do_no_harm() -> None:
    of = shot(4.0)
    frames = by_landmarks(of)
    kept = [frame for n, frame in enumerate(frames) if n % 5 in (0, 1, 3)]
    said = refined(of, kept)
    true = of.world[[frame.seq for frame in kept]]
    assert np.median(angle_deg(said.world[10:, HEAD], true[10:, HEAD])) < 5.0


def test_what_is_no_longer_seen_is_held_then_left_to_the_network_and_comes_back_without_a_jump() -> None:
    of = shot(7.0)
    frames = by_landmarks(of, noise_m=0.0)
    face = [n for n, host in enumerate(landmarks(MEDIAPIPE).host) if host == HEAD]
    for frame in frames[60:150]:  # 2 to 5 s
        frame.positions[face] = np.nan
    said = refined(of, frames)
    off, network = (angle_deg(x[:, HEAD], of.world[:, HEAD]) for x in (said.world, world_of(of.network)))
    assert off[60:64].max() < 15.0  # held, while the head goes on
    left = angle_deg(said.world[:, HEAD], world_of(of.network)[:, HEAD])
    assert left[100:150].max() < 1e-3  # 1.3 s later: the network's own
    assert network[100:150].max() > 30.0
    assert angle_deg(*np.array(list(pairwise(said.world[:, HEAD]))).swapaxes(0, 1)).max() < 20.0
    assert np.median(off[160:]) < 2.0
    assert said.sigma[100:150, HEAD].min() > 3.0 * np.median(said.sigma[15:60, HEAD])


def test_a_landmark_thrown_once_turns_nothing_but_a_head_that_turned_is_believed() -> None:
    of = shot(3.0)
    frames = by_landmarks(of, noise_m=0.001)
    ear = get_layout(MEDIAPIPE).joints.index("left_ear")
    for frame in frames[30::10]:
        frame.positions[ear] += (0.3, 0.2, -0.3)
    assert errors_deg(of, refined(of, frames), HEAD).max() < 12.0
    turned = of._replace(world=of.world.copy())
    turned.world[60:, HEAD] = turned.world[60:, HEAD] @ Rotation.from_euler("y", 2.0).as_matrix()
    off = errors_deg(turned, refined(of, by_landmarks(turned)), HEAD)
    assert np.median(off[52:]) < 6.0  # a quarter of a second after the cut


def test_faint_landmarks_are_not_seen() -> None:
    of = shot(1.0)
    frames = by_landmarks(of)
    for frame in frames:
        frame.confidence = np.full(33, 0.05, np.float32)
    np.testing.assert_array_equal(np.abs(refined(of, frames).local), np.abs(of.network.astype(np.float32)))


def test_how_sure_a_rotation_is_is_honest() -> None:
    """At least 68 % of the errors are within one sigma, which is not vast either."""
    of = shot(6.0)
    said = refined(of, by_landmarks(of))
    off = np.radians(errors_deg(of, said, [HEAD, *WRISTS]))
    assert (off < said.sigma[15:, [HEAD, *WRISTS]]).mean() > 0.68
    assert said.sigma[15:, HEAD].mean() < 0.2


# -- rotations that are sent


def test_rotations_that_are_sent_come_out() -> None:
    """Where the network is wrong about turns, what was sent is published: of leaves, and about every bone."""
    of = shot(2.0)
    rng = np.random.default_rng(3)
    wrong = of.network.copy()
    for joint in (*SINGLE, *LEAVES):
        axis = of.offsets_m[CHILDREN[joint][0]] if CHILDREN[joint] else rng.standard_normal(3)
        turn = Rotation.from_rotvec(rng.uniform(-1.2, 1.2) * axis / np.linalg.norm(axis))
        wrong[:, joint] = (Rotation.from_quat(wrong[:, joint]) * turn).as_quat()
        for child in CHILDREN[joint]:
            wrong[:, child] = (turn.inv() * Rotation.from_quat(wrong[:, child])).as_quat()
    said = refined(of._replace(network=wrong), by_rotations(of))
    joints = [j for j in range(J) if j not in FORKS]
    assert np.median(angle_deg(world_of(wrong)[:, joints], of.world[:, joints])) > 15.0
    assert np.median(errors_deg(of, said, joints)) < 0.5
    assert errors_deg(of, said, joints).max() < 6.0
    np.testing.assert_allclose(said.world[:, FORKS], world_of(wrong)[:, FORKS], rtol=0, atol=1e-5)


def test_signs_of_quaternions_go_on() -> None:
    of = shot(4.0)
    local = refined(of, by_rotations(of)).local
    assert ((local[1:] * local[:-1]).sum(-1) > 0).all()


def test_rotations_of_a_source_with_another_up_axis_and_unit(tmp_path: Path) -> None:
    of = shot(1.0)
    names = ", ".join(f'"{name}"' for name in get_layout("smpl_24").joints)
    file = tmp_path / "rig.toml"
    file.write_text(f'joints = [{names}]\nup_axis = "z"\nunits = "mm"\n')
    turn = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])  # Y up -> Z up
    theirs = by_rotations(of._replace(positions=1e3 * of.positions @ turn.T, world=turn @ of.world @ turn.T))
    said = refined(of, [replace(frame, layout=str(file)) for frame in theirs])
    np.testing.assert_allclose(said.world, refined(of, by_rotations(of)).world, rtol=0, atol=1e-5)


def test_joints_whose_rotation_is_not_known_are_left_to_the_network() -> None:
    of = shot(1.0)
    frames = by_rotations(of)
    others = [j for j in range(J) if j != HEAD]
    for frame in frames:
        assert frame.rotations is not None
        frame.rotations[others] = np.nan
    said = refined(of, frames)
    assert angle_deg(said.world[:, others], world_of(of.network)[:, others]).max() < 1e-3
    assert errors_deg(of, said, HEAD).max() < 4.0


# -- through the filter


def test_no_joint_moves_by_what_is_seen_of_rotations(tiny_runtime: DoubleRuntime) -> None:
    """Joints, bones, covariance are those of the stream without; the rotations still give the joints."""
    frames = by_rotations(shot(0.7))
    without = poses_of(PoseFilter(tiny_runtime, delay_s=0.1), [replace(frame, rotations=None) for frame in frames])
    before = None
    for pose, plain in zip(poses_of(PoseFilter(tiny_runtime, delay_s=0.1), frames), without, strict=True):
        assert_pose_holds(pose, before)
        for name in ("positions", "root", "lengths_m", "offsets_m", "covariance", "contact"):
            np.testing.assert_array_equal(getattr(pose, name), getattr(plain, name), err_msg=name)
        assert (pose.rotation_sigma < plain.rotation_sigma)[list(LEAVES)].all()
        before = pose
    assert angle_deg(world_of(pose.rotations[None])[0, HEAD], shot(0.7).world[-4, HEAD]) < 2.0  # 0.1 s before


def test_an_actor_is_alone_with_what_is_seen_of_it_and_as_new_after_a_reset(tiny_runtime: DoubleRuntime) -> None:
    a = by_landmarks(shot(0.4))
    b = [replace(frame, actor="b") for frame in by_rotations(shot(0.4, seed=2))]
    alone = poses_of(PoseFilter(tiny_runtime, landmarks=True), a)
    together = PoseFilter(tiny_runtime, landmarks=True)
    assert_poses_equal([together.push_many(pair)[0] for pair in zip(a, b, strict=True)], alone)
    together.reset("a")
    assert_poses_equal(poses_of(together, a), alone)


def test_landmarks_turn_nothing_unless_asked(tiny_runtime: DoubleRuntime) -> None:
    frames = by_landmarks(shot(0.4))
    plain, asked = (poses_of(PoseFilter(tiny_runtime, landmarks=asks), frames)[-1] for asks in (False, True))
    others = [j for j in range(J) if j not in (INDEX["left_foot"], INDEX["right_foot"])]  # heels: test_heels.py
    np.testing.assert_array_equal(plain.positions[others], asked.positions[others])
    assert abs(plain.rotations[HEAD] @ asked.rotations[HEAD]) < 0.999
    assert plain.sigma_rad is None or plain.rotation_sigma[HEAD] > asked.rotation_sigma[HEAD]


def test_rotations_that_are_none_are_named_and_counted(tiny_runtime: DoubleRuntime) -> None:
    frames = by_rotations(shot(0.2))
    pose_filter = PoseFilter(tiny_runtime)
    pose_filter.push(frames[0])
    ones, zeros = np.ones((J, 4)), np.zeros((J, 4))
    for wrong in (
        zeros,
        0.7 * ones,
        np.inf * ones,
        1e200 * ones,
        ones[:, :3],
        0.5 * ones[1:],
        "none",
        [[1.0], [2.0, 3.0]],
    ):
        with pytest.raises(FrameError, match="rotations") as caught:
            pose_filter.push(replace(frames[1], rotations=wrong))
        assert caught.value.reason == "rotations"
    assert pose_filter.rejected == {"rotations": 8}
    assert pose_filter.push(frames[1]).status == "calibrating"


# -- files


def test_recordings_keep_rotations(tmp_path: Path) -> None:
    frames = by_rotations(shot(0.1))
    with RecordingWriter(tmp_path / "take.hpstm") as writer:
        for frame in frames:
            writer.write(Encoder().frame(frame), 0)
    for got, sent in zip(read_recording(tmp_path / "take.hpstm").frames, frames, strict=True):
        np.testing.assert_array_equal(got.rotations, np.asarray(sent.rotations, np.float32))


def test_motion_files_send_their_rotations(tmp_path: Path) -> None:
    """A head that looks to the left does; by forward kinematics they give the joints that are sent beside them."""
    file = tmp_path / "look.bvh"
    file.write_text(humanoid_text([{"Head": (0.0, 3.0 * n, 0.0), "Hips": (0.0, 10.0, 0.0)} for n in range(11)]))
    frames = read_take(file).frames
    sent = np.array([frame.rotations for frame in frames], np.float64)
    world = Rotation.from_quat(sent.reshape(-1, 4)).as_matrix().reshape(-1, J, 3, 3)
    left = Rotation.from_euler("y", 10.0 + 3.0 * np.arange(11)[:, None], degrees=True).as_matrix()
    np.testing.assert_allclose(world[:, HEAD], left, atol=1e-5)
    xyz = np.array([frame.positions for frame in frames], np.float64)
    bones = np.einsum("tjba,tjb->tja", world[:, PARENT], xyz - xyz[:, PARENT])
    np.testing.assert_allclose(bones, np.broadcast_to(bones[:1], bones.shape), atol=1e-5)
