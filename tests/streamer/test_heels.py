"""Feet that heels turn: where joints are in doubt, all of the foot, its joint too; where they are sure, nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from model.kinematics import forward_kinematics
from model.landmarks import landmarks, shown_by
from model.layouts import get_layout
from model.motion.synthetic import SyntheticActor
from model.skeleton import CHILDREN, PARENTS, J
from streamer.doubt import UNSEEN_RAD2
from streamer.filter import PoseFilter
from streamer.frames import Frame
from streamer.heels import ANKLES, foot_turn
from streamer.orientation import Orientation
from tests.helpers.networks import SECOND_NS, DoubleRuntime, assert_pose_holds, poses_of

FPS = 30.0
MEDIAPIPE = "mediapipe_33"
NAMES = get_layout(MEDIAPIPE).joints
HEELS = [NAMES.index(f"{side}_heel") for side in ("left", "right")]
FEET = [CHILDREN[ankle][0] for ankle in ANKLES]
ANY = np.random.default_rng(4)


def quaternion(turn: Rotation) -> tuple[float, float, float, float]:
    x, y, z, w = turn.as_quat().tolist()
    return x, y, z, w


# -- the turn of one foot


def test_a_foot_turns_all_the_way_to_its_heel_and_is_near_the_shin_about_it() -> None:
    for _ in range(50):
        shin = Rotation.random(rng=ANY)
        ankle, true = (shin * Rotation.from_rotvec(ANY.normal(0.0, 0.5, 3)) for _ in range(2))
        rest = np.array([0.0, -1.0, 0.0])
        heel = true.apply(rest) * ANY.uniform(0.6, 1.5)
        turn = foot_turn(quaternion(ankle), quaternion(shin), rest.tolist(), heel.tolist(), 1.0)
        assert turn is not None
        turned = ankle * Rotation.from_quat(turn)
        np.testing.assert_allclose(turned.apply(rest), true.apply(rest), atol=1e-9)
        same = foot_turn(quaternion(shin), quaternion(shin), rest.tolist(), shin.apply(rest).tolist(), 1.0)
        np.testing.assert_allclose(same, (0, 0, 0, 1), atol=1e-9)


def test_no_part_of_the_way_is_no_turn_and_the_other_way_round_shows_none() -> None:
    ankle, shin = Rotation.random(2, rng=ANY)
    down = [0.0, -1.0, 0.0]
    still = foot_turn(quaternion(ankle), quaternion(shin), down, [0.3, 0.2, -0.9], 0.0)
    np.testing.assert_allclose(still, (0, 0, 0, 1), atol=1e-12)
    assert foot_turn(quaternion(ankle), quaternion(ankle), down, ankle.apply([0.0, 1.0, 0.0]).tolist(), 1.0) is None
    assert foot_turn(quaternion(ankle), quaternion(ankle), down, [0.0, 0.0, 0.0], 1.0) is None


# -- of a stream


def walker(seconds: float = 2.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Joints (T, 24, 3), world rotations (T, 24, 3, 3), bones (24, 3) of somebody who bends the feet, too."""
    t = np.arange(round(seconds * FPS)) / FPS
    actor = SyntheticActor(2)
    world, root = actor.poses(t)
    for ankle, size in zip(ANKLES, (0.4, -0.4), strict=True):
        bent = Rotation.from_rotvec(np.stack([size * np.sin(3.0 * t), 0.3 * size * np.cos(2.0 * t), 0 * t], -1))
        world[:, ankle] = world[:, PARENTS[ankle]] @ bent.as_matrix()
        world[:, CHILDREN[ankle][0]] = world[:, ankle]
    offsets_m = np.asarray(actor.offsets_m)
    return np.asarray(forward_kinematics(world, offsets_m, root)), world, offsets_m


def frames_of(positions: np.ndarray, world: np.ndarray, noise_m: float = 0.0) -> list[Frame]:
    seen = landmarks(MEDIAPIPE).at(positions, world)
    seen = (seen + noise_m * np.random.default_rng(0).standard_normal(seen.shape)).astype(np.float32)
    return [Frame("a", n, round(n * SECOND_NS / FPS), xyz, layout=MEDIAPIPE) for n, xyz in enumerate(seen)]


def local_of(world: np.ndarray) -> np.ndarray:
    """(24, 4) quaternions from the parent's axes."""
    parent = [max(p, 0) for p in PARENTS]
    turn = np.swapaxes(world[parent], -1, -2) @ world
    turn[0] = world[0]
    return Rotation.from_matrix(turn).as_quat().astype(np.float32)


def world_of(local: np.ndarray) -> np.ndarray:
    world = Rotation.from_quat(local.astype(np.float64)).as_matrix()
    for joint in range(1, J):
        world[joint] = world[PARENTS[joint]] @ world[joint]
    return world


def feet_of(swing_rad: float, at_s: float = 0.0) -> tuple[float, float, float]:
    """Of feet that the joints have 35 degrees wrong, and doubt by so much: the median angles from the truth [degrees],
    before and after, and by how much a foot's joint is not where the new rotations have it [m]."""
    positions, world, offsets_m = walker()
    orientation, off = Orientation(1, landmarks=True), Rotation.from_rotvec([0.45, 0.35, -0.2])
    before, after, apart = [], [], []
    for n, frame in enumerate(frames_of(positions, world)):
        orientation.take(0, frame, frame.t_ns)
        at = int(np.clip(n + round(at_s * FPS), 0, len(world) - 1))
        wrong = world[at].copy()
        wrong[[*ANKLES, *FEET]] = wrong[[*ANKLES, *FEET]] @ off.as_matrix()
        local, placed, variance = local_of(wrong), positions[at].copy(), np.array(UNSEEN_RAD2, np.float32)
        variance[list(ANKLES)] += np.float32(swing_rad**2)
        track = orientation.tracks[0]
        assert track is not None
        t_ns = frame.t_ns + round(at_s * SECOND_NS)
        previous = local.copy()
        track.put(placed, local, previous, variance, offsets_m.astype(np.float32), 1, t_ns, t_ns)
        if n < 15:
            continue
        now = world_of(local)
        for ankle, foot in zip(ANKLES, FEET, strict=True):
            before.append(np.degrees(Rotation.from_matrix(world[at][ankle].T @ wrong[ankle]).magnitude()))
            after.append(np.degrees(Rotation.from_matrix(world[at][ankle].T @ now[ankle]).magnitude()))
            if swing_rad > 0:
                bone = now[ankle] @ offsets_m[foot]
                apart.append(np.abs(placed[foot] - placed[ankle] - bone).max())
    return float(np.median(before)), float(np.median(after)), float(max(apart, default=0.0))


@pytest.mark.parametrize("at_s", [0.0, -0.1], ids=["now", "delay"])
def test_feet_in_doubt_turn_as_heels_do_and_their_joints_go_along(at_s: float) -> None:
    before, after, apart = feet_of(swing_rad=0.8, at_s=at_s)
    assert before > 30.0
    assert after < 14.0
    assert apart < 1e-5


def test_feet_that_the_joints_show_are_left_to_them_but_for_the_turn_about_their_bone() -> None:
    positions, world, offsets_m = walker()
    orientation = Orientation(1, landmarks=True)
    for frame in frames_of(positions, world):
        orientation.take(0, frame, frame.t_ns)
    local, placed = local_of(world[-1]), positions[-1].copy()
    track = orientation.tracks[0]
    assert track is not None
    end_ns = round((len(world) - 1) * SECOND_NS / FPS)
    given = local.copy()
    variance = np.array(UNSEEN_RAD2, np.float32)
    track.put(placed, local, given, variance, offsets_m.astype(np.float32), 1, end_ns, end_ns)
    np.testing.assert_allclose(placed, positions[-1], rtol=0, atol=1e-6)
    turned = np.swapaxes(world[-1], -1, -2) @ world_of(local)
    assert np.degrees(Rotation.from_matrix(turned[list(ANKLES)]).magnitude()).max() < 2.0


def test_mediapipes_heel_is_below_the_ankle_and_others_are_behind_it() -> None:
    """As measured on rendered people; Halpe's and OpenPose's are people's own heels."""
    for name, below in ((MEDIAPIPE, True), ("freemocap_33", True), ("halpe_26", False)):
        marks = landmarks(name)
        offset = marks.offset_m[get_layout(name).joints.index("left_heel")]
        assert (offset[2] > -0.01) == below
        assert offset[1] < -0.03
    shown = shown_by(get_layout(MEDIAPIPE))
    assert shown is not None
    np.testing.assert_allclose(np.abs(shown.rest[np.isin(shown.joints, ANKLES), 0]), [[0, 1, 0], [0, 1, 0]], atol=1e-9)


# -- through the filter


def test_rotations_give_the_joints_of_feet_that_heels_turn(tiny_runtime: DoubleRuntime) -> None:
    """Forward kinematics, signs and all else that a pose promises; only feet differ from the stream without."""
    positions, world, _ = walker(0.7)
    frames = frames_of(positions, world, noise_m=0.03)
    plain = poses_of(PoseFilter(tiny_runtime, delay_s=0.1, velocities=True), frames)
    asked = poses_of(PoseFilter(tiny_runtime, delay_s=0.1, velocities=True, landmarks=True), frames)
    before, moved_m = None, 0.0
    others = [j for j in range(J) if j not in FEET]
    for pose, without in zip(asked, plain, strict=True):
        assert_pose_holds(pose, before)
        np.testing.assert_array_equal(pose.positions[others], without.positions[others])
        np.testing.assert_array_equal(pose.offsets_m, without.offsets_m)
        assert pose.velocity is not None
        assert without.velocity is not None
        np.testing.assert_array_equal(pose.velocity[others], without.velocity[others])
        before, moved_m = pose, max(moved_m, float(np.abs(pose.positions - without.positions).max()))
    assert moved_m > 0.005


def test_a_heel_that_is_not_seen_turns_nothing(tiny_runtime: DoubleRuntime) -> None:
    positions, world, _ = walker(0.4)
    frames = [replace(frame, positions=frame.positions.copy()) for frame in frames_of(positions, world, noise_m=0.03)]
    for frame in frames:
        frame.positions[HEELS] = np.nan
    plain, asked = (poses_of(PoseFilter(tiny_runtime, landmarks=asks), frames)[-1] for asks in (False, True))
    np.testing.assert_array_equal(asked.positions, plain.positions)
