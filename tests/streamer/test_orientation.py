"""Rotations that sources show: by landmarks or sent, against known truth; what they may change in a pose, and what not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from model.kinematics import forward_kinematics
from model.landmarks import landmarks
from model.layouts import get_layout
from model.motion.synthetic import SyntheticActor
from model.skeleton import CHILDREN, FORKS, INDEX, LEAVES, PARENTS, J
from streamer.errors import FrameError
from streamer.filter import PoseFilter
from streamer.frames import Frame, Pose
from streamer.sinks.recording import RecordingWriter, read_recording
from streamer.sources.replay import read_take
from streamer.wire.protocol import Encoder
from tests.helpers.motion_files import humanoid_text
from tests.helpers.networks import SECOND_NS, DoubleRuntime, assert_pose_holds, assert_poses_equal, poses_of

FPS = 30.0
WRISTS, HEAD = [INDEX["left_wrist"], INDEX["right_wrist"]], INDEX["head"]
SINGLE = [j for j in range(J) if j not in LEAVES and j not in FORKS]


def turning(seconds: float, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Somebody who moves, shakes and nods the head and turns the hands: joints (T, 24, 3), rotations (T, 24, 3, 3)."""
    t = np.arange(round(seconds * FPS)) / FPS
    actor = SyntheticActor(seed)
    world, root = actor.poses(t)
    nod = np.stack([0.4 * np.sin(2.0 * t), 0.9 * np.sin(1.7 * t + 1.0), 0.2 * np.sin(2.3 * t)], -1)
    world[:, HEAD] = world[:, PARENTS[HEAD]] @ Rotation.from_rotvec(nod).as_matrix()
    for joint, sign in zip(WRISTS, (1.0, -1.0)):
        twist = Rotation.from_rotvec(np.stack([sign * np.sin(2.1 * t), 0 * t, 0 * t], -1)).as_matrix()
        world[:, joint] = world[:, PARENTS[joint]] @ twist
    return np.asarray(forward_kinematics(world, actor.offsets_m, root)), world


def landmark_frames(
    positions: np.ndarray, world: np.ndarray, layout: str = "mediapipe_33", noise_m: float = 0.004, seed: int = 0
) -> list[Frame]:
    seen = landmarks(layout).at(positions, world)
    seen = (seen + noise_m * np.random.default_rng(seed).standard_normal(seen.shape)).astype(np.float32)
    return [Frame("a", n, round(n * SECOND_NS / FPS), xyz, layout=layout) for n, xyz in enumerate(seen)]


def rotation_frames(positions: np.ndarray, world: np.ndarray) -> list[Frame]:
    sent = Rotation.from_matrix(world.reshape(-1, 3, 3)).as_quat().reshape(-1, J, 4)
    return [
        Frame("a", n, round(n * SECOND_NS / FPS), xyz, rotations=own)
        for n, (xyz, own) in enumerate(zip(positions, sent))
    ]


def world_of(poses: list[Pose]) -> np.ndarray:
    """(T, 24, 3, 3) world_from_joint of poses."""
    quaternions = np.array([pose.rotations for pose in poses], np.float64)
    local = Rotation.from_quat(quaternions.reshape(-1, 4)).as_matrix().reshape(-1, J, 3, 3)
    world = local.copy()
    for joint in range(1, J):
        world[:, joint] = world[:, PARENTS[joint]] @ local[:, joint]
    return world


def angle_deg(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(...) angle between rotations."""
    turn = np.swapaxes(a, -1, -2) @ b
    return np.degrees(Rotation.from_matrix(turn.reshape(-1, 3, 3)).magnitude()).reshape(turn.shape[:-2])


def twist_deg(said: np.ndarray, true: np.ndarray, bone: np.ndarray) -> np.ndarray:
    """(T,) turn about the bone (3,) from what is said to what is true, the swing between them left out."""
    q = Rotation.from_matrix(np.swapaxes(said, -1, -2) @ true).as_quat()
    half = np.degrees(np.arctan2(q[:, :3] @ (bone / np.linalg.norm(bone)), q[:, 3]))
    return np.abs((2.0 * half + 180.0) % 360.0 - 180.0)


def true_at(poses: list[Pose], world: np.ndarray) -> np.ndarray:
    """The rotations of the frames that are nearest to the poses' times."""
    at = np.array([round(pose.t_ns * FPS / SECOND_NS) for pose in poses])
    return world[np.clip(at, 0, len(world) - 1)]


@pytest.mark.parametrize("layout", ["mediapipe_33", "coco_17"])
@pytest.mark.parametrize("shift", [{}, {"delay_s": 0.1}, {"predict_s": 0.05}], ids=["now", "delay", "predict"])
def test_the_head_turns_as_its_landmarks_do(layout: str, shift: dict[str, float], tiny_runtime: DoubleRuntime) -> None:
    """Within a few degrees, of landmarks that are 4 mm off each; the network knows nothing of heads, nor of anything."""
    positions, world = turning(3.0)
    poses = poses_of(PoseFilter(tiny_runtime, **shift), landmark_frames(positions, world, layout))[15:]
    off = angle_deg(world_of(poses)[:, HEAD], true_at(poses, world)[:, HEAD])
    assert np.median(off) < (5.0 if shift.get("predict_s") else 3.5)
    assert np.percentile(off, 95) < 10.0


def test_a_fixed_lag_is_surer_than_now(tiny_runtime: DoubleRuntime) -> None:
    positions, world = turning(3.0)
    off = []
    for delay_s in (0.0, 0.1):
        poses = poses_of(PoseFilter(tiny_runtime, delay_s=delay_s), landmark_frames(positions, world))[15:]
        off.append(angle_deg(world_of(poses)[:, HEAD], true_at(poses, world)[:, HEAD]).mean())
    assert off[1] < 0.85 * off[0]


def test_hands_turn_about_their_bones_as_their_landmarks_do(tiny_runtime: DoubleRuntime) -> None:
    positions, world = turning(3.0)
    poses = poses_of(PoseFilter(tiny_runtime), landmark_frames(positions, world, noise_m=0.002))[15:]
    said, true = world_of(poses), true_at(poses, world)
    for joint in WRISTS:
        bone = poses[-1].offsets_m[CHILDREN[joint][0]].astype(np.float64)
        swung = angle_deg(said[:, joint], true[:, joint]) < 120.0  # beyond, a turn about the bone means little
        assert swung.sum() > 20
        assert np.median(twist_deg(said[swung, joint], true[swung, joint], bone)) < 25.0


def test_no_joint_moves_by_what_is_seen_of_rotations(tiny_runtime: DoubleRuntime) -> None:
    """Joints, bones, covariance are those of the stream without; the rotations still give the joints."""
    positions, world = turning(1.5)
    frames = rotation_frames(positions + 0.01 * np.random.default_rng(0).standard_normal(positions.shape), world)
    with_them = poses_of(PoseFilter(tiny_runtime), frames)
    without = poses_of(PoseFilter(tiny_runtime), [replace(frame, rotations=None) for frame in frames])
    before = None
    for a, b in zip(with_them, without, strict=True):
        assert_pose_holds(a, before)
        for name in ("positions", "root", "lengths_m", "offsets_m", "covariance", "contact"):
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)
        before = a


def test_rotations_that_are_sent_come_out(tiny_runtime: DoubleRuntime) -> None:
    """Leaves as sent; of others the turn about the bone; forks stay as the joints place them."""
    positions, world = turning(2.0)
    frames = rotation_frames(positions, world)
    poses = poses_of(PoseFilter(tiny_runtime), frames)[10:]
    plain = poses_of(PoseFilter(tiny_runtime), [replace(frame, rotations=None) for frame in frames])[10:]
    said, true, without = world_of(poses), world[10:], world_of(plain)
    assert np.median(angle_deg(said[:, LEAVES], true[:, LEAVES])) < 1.0
    np.testing.assert_allclose(said[:, FORKS], without[:, FORKS], rtol=0, atol=1e-5)
    for joint in SINGLE:
        bone = poses[-1].offsets_m[CHILDREN[joint][0]].astype(np.float64)
        off, before = (angle_deg(x[:, joint], true[:, joint]) for x in (said, without))
        small = off < 150.0
        assert (off <= before + 3.0)[small].mean() > 0.9  # no turn about the bone comes nearer
        best = twist_deg(said[small, joint], true[small, joint], bone)
        assert np.median(best) < 6.0


def test_what_is_no_longer_seen_is_held_and_then_left_to_the_network(tiny_runtime: DoubleRuntime) -> None:
    """And comes back without a jump."""
    positions, world = turning(7.0)
    frames = landmark_frames(positions, world, noise_m=0.0)
    face = [n for n, host in enumerate(landmarks("mediapipe_33").host) if host == HEAD]
    for frame in frames[60:150]:  # 2 to 5 s
        frame.positions[face] = np.nan
    poses = poses_of(PoseFilter(tiny_runtime), frames)
    said = world_of(poses)[:, HEAD]
    alone = world_of(
        poses_of(PoseFilter(tiny_runtime), [replace(f, layout="smpl_24", positions=_canonical(f)) for f in frames])
    )
    local = [Rotation.from_quat(pose.rotations[HEAD].astype(float)) for pose in poses]
    assert angle_deg(said[58:67], world[58:67, HEAD]).max() < 15.0  # held
    steps = np.degrees([(a.inv() * b).magnitude() for a, b in zip(local[55:170], local[56:171])])
    assert steps.max() < 25.0
    far = angle_deg(said, alone[:, HEAD])
    assert far[100:149].max() < 0.5  # a second and a quarter later: the network's own
    assert np.median(angle_deg(said[165:], world[165:, HEAD])) < 3.0
    sigma = np.array([pose.rotation_sigma[HEAD] for pose in poses])
    assert sigma[100:149].min() > 3.0 * np.median(sigma[15:59])


def _canonical(frame: Frame) -> np.ndarray:
    xyz, measured, derived, _ = get_layout(frame.layout).to_canonical(frame.positions)
    return np.where((measured | derived)[:, None], xyz, np.nan)


def test_a_landmark_thrown_once_turns_nothing(tiny_runtime: DoubleRuntime) -> None:
    positions, world = turning(2.0)
    frames = landmark_frames(positions, world, noise_m=0.001)
    thrown = [replace(frame, positions=frame.positions.copy()) for frame in frames]
    ear = get_layout("mediapipe_33").joints.index("left_ear")
    for frame in thrown[30::10]:
        frame.positions[ear] += (0.3, 0.2, -0.3)
    said = world_of(poses_of(PoseFilter(tiny_runtime), thrown))[15:]
    assert angle_deg(said[:, HEAD], world[15:, HEAD]).max() < 12.0


def test_rotations_of_a_source_with_another_up_axis_and_unit(tmp_path: Path, tiny_runtime: DoubleRuntime) -> None:
    """The same body, sent as a Z-up source in mm has it, is turned alike."""
    positions, world = turning(1.0)
    names = ", ".join(f'"{name}"' for name in get_layout("smpl_24").joints)
    file = tmp_path / "rig.toml"
    file.write_text(f'joints = [{names}]\nup_axis = "z"\nunits = "mm"\n')
    turn = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])  # y up -> z up
    theirs = rotation_frames(1e3 * positions @ turn.T, turn @ world @ turn.T)
    ours = poses_of(PoseFilter(tiny_runtime), rotation_frames(positions, world))
    said = poses_of(PoseFilter(tiny_runtime), [replace(frame, layout=str(file)) for frame in theirs])
    assert angle_deg(world_of(said)[5:, LEAVES], world_of(ours)[5:, LEAVES]).max() < 0.5


def test_actors_do_not_share_what_is_seen_of_them(tiny_runtime: DoubleRuntime) -> None:
    a = landmark_frames(*turning(0.7, seed=1), seed=1)
    b = [replace(frame, actor="b") for frame in landmark_frames(*turning(0.7, seed=2), seed=2)]
    together = PoseFilter(tiny_runtime)
    mixed = [pose for pair in zip(a, b) for pose in together.push_many(pair)]
    assert_poses_equal(mixed[::2], poses_of(PoseFilter(tiny_runtime), a))
    assert_poses_equal(mixed[1::2], poses_of(PoseFilter(tiny_runtime), b))


def test_a_reset_actor_is_as_new(tiny_runtime: DoubleRuntime) -> None:
    frames = landmark_frames(*turning(0.5))
    used = PoseFilter(tiny_runtime)
    poses_of(used, frames)
    used.reset("a")
    assert_poses_equal(poses_of(used, frames), poses_of(PoseFilter(tiny_runtime), frames))


@pytest.mark.parametrize(
    "wrong",
    [np.zeros((J, 4)), np.full((J, 4), 0.7), np.full((J, 4), np.inf), np.ones((J, 3)), np.ones((J - 1, 4)), "none", 1e200 * np.ones((J, 4))],
    ids=["zeros", "too long", "infinite", "3 numbers", "a joint too few", "words", "huge"],
)  # fmt: skip
def test_rotations_that_are_none_are_named_and_counted(wrong: object, tiny_runtime: DoubleRuntime) -> None:
    positions, world = turning(0.1)
    frames = rotation_frames(positions, world)
    pose_filter = PoseFilter(tiny_runtime)
    pose_filter.push(frames[0])
    with pytest.raises(FrameError, match="rotations") as caught:
        pose_filter.push(replace(frames[1], rotations=wrong))  # type: ignore[arg-type]
    assert caught.value.reason == "rotations"
    assert pose_filter.rejected == {"rotations": 1}
    pose_filter.push(frames[2])


def test_joints_whose_rotation_is_not_known_are_left_to_the_network(tiny_runtime: DoubleRuntime) -> None:
    frames = rotation_frames(*turning(0.5))
    for frame in frames:
        assert frame.rotations is not None
        frame.rotations[[j for j in range(J) if j != HEAD]] = np.nan
    poses = poses_of(PoseFilter(tiny_runtime), frames)
    plain = poses_of(PoseFilter(tiny_runtime), [replace(frame, rotations=None) for frame in frames])
    others = [j for j in range(J) if j != HEAD]
    for a, b in zip(poses, plain):
        np.testing.assert_array_equal(a.rotations[others], b.rotations[others])
        assert not np.array_equal(a.rotations[HEAD], b.rotations[HEAD])


def test_recordings_keep_rotations(tmp_path: Path) -> None:
    frames = rotation_frames(*turning(0.1))
    with RecordingWriter(tmp_path / "take.hpstm") as writer:
        for frame in frames:
            writer.write(Encoder().frame(frame), 0)
    for got, sent in zip(read_recording(tmp_path / "take.hpstm").frames, frames, strict=True):
        np.testing.assert_array_equal(got.rotations, np.asarray(sent.rotations, np.float32))


def test_motion_files_send_their_rotations(tmp_path: Path) -> None:
    """A head that looks to the left does, and by forward kinematics they give the joints that are sent beside them."""
    file = tmp_path / "look.bvh"
    file.write_text(humanoid_text([{"Head": (0.0, 3.0 * n, 0.0), "Hips": (0.0, 10.0, 0.0)} for n in range(11)]))
    frames = read_take(file).frames
    world = Rotation.from_quat(np.array([f.rotations for f in frames]).reshape(-1, 4)).as_matrix().reshape(-1, J, 3, 3)
    left = Rotation.from_euler("y", 10.0 + 3.0 * np.arange(11), degrees=True).as_matrix()
    np.testing.assert_allclose(world[:, HEAD], left, atol=1e-5)
    xyz = np.array([frame.positions for frame in frames], np.float64)
    parents = [max(parent, 0) for parent in PARENTS]
    bones = np.einsum("tjba,tjb->tja", world[:, parents], xyz - xyz[:, parents])
    np.testing.assert_allclose(bones, np.broadcast_to(bones[:1], bones.shape), atol=1e-5)
