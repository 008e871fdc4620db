"""Files of animation: written by us, read by programs that are not ours, and by our own readers."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation, Slerp

from model.files import quaternions
from model.files.animation import Animation, animation_of, resampled, sampled, usual_fps
from model.files.new_file import new_file
from model.files.write import SUFFIXES, write_animation
from model.files.writers.bvh import euler_zyx_deg, smooth_angles
from model.files.writers.octahedra import octahedra
from model.files.writers.vrma import HUMAN_BONES
from model.prepare import Clip, ClipError, read_clip
from model.skeleton import INDEX, JOINTS, PARENTS, J
from tests.helpers.animations import (
    Seen,
    assert_raised,
    by_scipy,
    expected,
    judged,
    of_bvh,
    of_glb,
    of_lines,
    of_npz,
    of_three,
    raised,
    wild,
)

READERS: dict[str, Callable[[Path, list[int]], list[Seen]]] = {
    ".bvh": of_bvh, ".glb": of_glb, ".vrma": of_glb, ".npz": of_npz, ".jsonl": of_lines,
}  # fmt: skip


def written(animation: Animation, folder: Path, suffix: str) -> Path:
    path = folder / f"take{suffix}"
    write_animation(animation, path)
    return path


def turns_deg(a: np.ndarray, b: np.ndarray) -> float:
    """The largest angle between rotation matrices [deg]."""
    between = Rotation.from_matrix(a.reshape(-1, 3, 3)).inv() * Rotation.from_matrix(b.reshape(-1, 3, 3))
    return float(np.degrees(between.magnitude().max()))


def clip_of(animation: Animation) -> tuple[np.ndarray, np.ndarray]:
    """(T, 24, 3) positions and (T, 24, 3, 3) world rotations, by scipy."""
    world = [Rotation.from_quat(animation.local[:, 0])]
    for j in range(1, J):
        world.append(world[PARENTS[j]] * Rotation.from_quat(animation.local[:, j]))
    positions = [expected(animation, n).at for n in range(len(animation))]
    return np.array(positions), np.stack([turn.as_matrix() for turn in world], 1)


# -- what it looks like -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_raised_left_arm_is_a_raised_left_arm(suffix: str, tmp_path: Path) -> None:
    path = written(raised(), tmp_path, suffix)
    assert_raised(*READERS[suffix](path, [0, 30]), tolerance_m=2e-6)


def test_a_raised_left_arm_in_three_js(tmp_path: Path) -> None:
    assert_raised(*of_three(written(raised(), tmp_path, ".glb"), [0.0, 1.0]), tolerance_m=2e-6)


def test_a_raised_left_arm_of_a_vrm_avatar(tmp_path: Path) -> None:
    path = written(raised(), tmp_path, ".vrma")
    found = judged("avatar", str(path), "0", "1", package="@pixiv/three-vrm-animation")
    assert found["seconds"] == pytest.approx(1.0)
    assert 0.8 < found["rest_hips"][1] < 1.1  # what an avatar's own hips are scaled by
    assert set(found["frames"][1]["turns"]) == set(HUMAN_BONES)
    np.testing.assert_allclose(found["frames"][1]["hips"], raised().root[-1], atol=1e-6)
    for frame, turns in ((0, found["frames"][0]["turns"]), (30, found["frames"][1]["turns"])):
        want = {bone: raised().local[frame, INDEX[joint]] for bone, joint in HUMAN_BONES.items()}
        for bone, turn in turns.items():
            assert abs(np.dot(turn, want[bone])) == pytest.approx(1.0, abs=1e-6), bone
    z_turn = 2.0 * np.degrees(np.arctan2(turns["leftUpperArm"][2], turns["leftUpperArm"][3]))
    y_turn = 2.0 * np.degrees(np.arctan2(turns["head"][1], turns["head"][3]))
    assert (z_turn, y_turn) == (pytest.approx(80.0, abs=1e-3), pytest.approx(60.0, abs=1e-3))


def test_vrm_requires_these_bones() -> None:
    """VRM 1.0's required bones, and that each hangs on its parent there (specification, humanoid.md)."""
    required = {"hips", "spine", "head"} | {
        f"{side}{bone}" for side in ("left", "right")
        for bone in ("UpperLeg", "LowerLeg", "Foot", "UpperArm", "LowerArm", "Hand")
    }  # fmt: skip
    assert required <= set(HUMAN_BONES)
    chains = ["hips spine chest upperChest neck head"]
    for side in ("left", "right"):
        chains.append(f"hips {side}UpperLeg {side}LowerLeg {side}Foot {side}Toes")
        chains.append(f"upperChest {side}Shoulder {side}UpperArm {side}LowerArm {side}Hand")
    for chain in chains:
        joints = [INDEX[HUMAN_BONES[bone]] for bone in chain.split()]
        assert [PARENTS[j] for j in joints[1:]] == joints[:-1]


# -- exactness --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".bvh", ".npz"])
@pytest.mark.parametrize("who", [raised(), wild(), wild(seed=1, fps=24.0)], ids=["raised", "wild", "24 fps"])
def test_what_is_written_is_read_again(suffix: str, who: Animation, tmp_path: Path) -> None:
    """0.5 mm and 0.1 degrees are allowed; the skeleton's own forks come back as they were, not re-gauged."""
    clip = read_clip(written(who, tmp_path, suffix))
    positions, world = clip_of(who)
    assert clip.world_rotations is not None
    assert (len(clip), clip.fps) == (len(who), pytest.approx(who.fps, rel=1e-12))
    assert np.abs(clip.positions - positions).max() < 1e-6
    assert turns_deg(clip.world_rotations, world) < 1e-4
    np.testing.assert_allclose(clip.offsets_m, who.offsets_m, atol=1e-8)


def test_somebody_who_lies_on_the_ground_lies_there_again(tmp_path: Path) -> None:
    """Feet at the origin, along +Z: by the stance alone this is somebody who stands, in a file whose Z is up."""
    who = raised()
    lying = who.local.copy()
    lying[:, 0] = Rotation.from_euler("x", 90.0, degrees=True).as_quat()
    who = replace(who, local=lying, root=np.tile((0.0, 0.15, 0.92), (len(who), 1)))
    clip = read_clip(written(who, tmp_path, ".bvh"))
    np.testing.assert_allclose(clip.positions, clip_of(who)[0], atol=1e-6)
    assert clip.notes == ()


@pytest.mark.parametrize("suffix", [s for s in SUFFIXES if s != ".jsonl"])
def test_others_read_what_we_meant(suffix: str, tmp_path: Path) -> None:
    who, frames = wild(), [0, 17, 41, 89]
    for frame, seen in zip(frames, READERS[suffix](written(who, tmp_path, suffix), frames), strict=True):
        want = expected(who, frame)
        np.testing.assert_allclose(seen.at, want.at, rtol=0, atol=5e-6)
        np.testing.assert_allclose(seen.forward, want.forward, rtol=0, atol=1e-5)


def test_three_js_agrees_between_the_keys_too(tmp_path: Path) -> None:
    who = wild()
    times = [n / who.fps for n in (0, 1, 1.5, 33.25, 60, 88.5)]
    turn = [Slerp(who.times_s, Rotation.from_quat(who.local[:, j])) for j in range(J)]
    for time, seen in zip(times, of_three(written(who, tmp_path, ".glb"), times), strict=True):
        local = np.array([slerp(min(time, who.times_s[-1])).as_quat() for slerp in turn])
        root = [np.interp(time, who.times_s, who.root[:, axis]) for axis in range(3)]
        np.testing.assert_allclose(seen.at, by_scipy(local, np.array(root), who.offsets_m).at, rtol=0, atol=2e-5)


def test_a_plain_clip_goes_through_unchanged(tmp_path: Path) -> None:
    positions, world = clip_of(wild())
    clip = Clip("c", positions.astype(np.float32), world.astype(np.float32), 60.0, wild().offsets_m)
    animation = animation_of(clip)
    assert animation is not None
    assert np.abs(expected(animation, 50).at - positions[50]).max() < 2e-6
    assert animation_of(replace(clip, world_rotations=None)) is None


# -- glTF -------------------------------------------------------------------------------------------------------------


def test_the_validator_has_no_complaint(tmp_path: Path) -> None:
    for who in (raised(), wild(), wild(frames=1)):
        path = written(who, tmp_path, ".glb")
        assert judged("validate", str(path), package="gltf-validator") == []
        path.unlink()
    found = judged("validate", str(written(wild(), tmp_path, ".vrma")), package="gltf-validator")
    assert {issue["code"] for issue in found} == {"UNSUPPORTED_EXTENSION", "NODE_EMPTY"}  # VRM's own; a bone's end
    assert {issue["severity"] for issue in found} == {2}  # for information


def test_two_seconds_are_small_and_whole(tmp_path: Path) -> None:
    data = written(wild(frames=120), tmp_path, ".glb").read_bytes()
    assert len(data) < 70_000
    magic, version, length, size, kind = struct.unpack("<IIIII", data[:20])
    assert (magic, version, length, kind) == (0x46546C67, 2, len(data), 0x4E4F534A)
    document = json.loads(data[20 : 20 + size])
    assert document["buffers"][0]["byteLength"] == len(data) - 28 - size
    times = document["accessors"][document["animations"][0]["samplers"][0]["input"]]
    assert (times["min"], times["max"]) == ([0.0], [pytest.approx(119 / 60)])


def test_the_body_goes_with_the_bones(tmp_path: Path) -> None:
    who = wild()
    path = written(who, tmp_path, ".glb")
    (found,) = judged("three", str(path), str(40 / who.fps), package="three")
    vertices, want = np.array(found["vertices"]).reshape(-1, 6, 3), expected(who, 40).at
    assert len(vertices) == J  # a bone for each joint but the root, and the head
    for j, p in enumerate(PARENTS):
        if p >= 0:  # from the parent to the joint
            np.testing.assert_allclose(vertices[j - 1, [0, 5]], want[[p, j]], rtol=0, atol=1e-5)


def test_the_body_is_closed_and_its_triangles_face_outwards() -> None:
    vertices, joints, triangles = octahedra(expected(raised(), 0).at)
    assert len(joints) == len(vertices)
    edges = {(int(t[k]), int(t[(k + 1) % 3])) for t in triangles for k in range(3)}
    assert len(edges) == 3 * len(triangles)
    assert edges == {(b, a) for a, b in edges}
    corners = vertices[triangles.reshape(-1, 8, 3)] - vertices.reshape(-1, 1, 1, 6, 3).mean(-2)
    assert (np.linalg.det(corners) > 0.0).all()


# -- BVH --------------------------------------------------------------------------------------------------------------


def test_angles_are_exact_where_two_axes_fall_together() -> None:
    for y in (90.0, -90.0, 90.0 - 1e-7, 89.9):
        rot = Rotation.from_euler("ZYX", [[33.0, y, -70.0], [0.0, y, 0.0]], degrees=True).as_matrix()
        again = Rotation.from_euler("ZYX", euler_zyx_deg(rot), degrees=True).as_matrix()
        np.testing.assert_allclose(again, rot, atol=1e-12)


def test_curves_are_smooth_where_angles_wrap() -> None:
    """Somebody turns ten times; an arm swings through the pole of its axes."""
    time = np.linspace(0.0, 10.0, 601)
    spin = Rotation.from_rotvec(np.outer(2.0 * np.pi * time, (0.0, 1.0, 0.0))).as_matrix()
    pole = Rotation.from_euler(
        "ZYX", np.stack([0.0 * time + 5.0, 30.0 * time, 0.0 * time], -1), degrees=True
    ).as_matrix()
    degrees = smooth_angles(euler_zyx_deg(np.stack([spin, pole], 1)), np.zeros((2, 3)))
    assert np.abs(np.diff(degrees, axis=0)).max() < 6.1
    again = Rotation.from_euler("ZYX", degrees.reshape(-1, 3), degrees=True).as_matrix().reshape(-1, 2, 3, 3)
    np.testing.assert_allclose(again, np.stack([spin, pole], 1), atol=1e-12)
    last = smooth_angles(degrees[-1:], np.full((2, 3), 1e5))
    assert np.abs(last).max() < 36_000  # and do not wind up for ever


# -- rates ------------------------------------------------------------------------------------------------------------


def test_uneven_times_become_even_ones() -> None:
    """A steady turn and a steady walk, sampled at jittered times, are the same at even times."""
    rng = np.random.default_rng(3)
    times = np.cumsum(rng.uniform(0.005, 0.03, 200))
    axes = rng.normal(size=(J, 3))
    local = Rotation.from_rotvec((times[:, None, None] * axes).reshape(-1, 3)).as_quat().reshape(-1, J, 4)
    local[1::2] *= -1.0  # the same turns
    root = times[:, None] * (1.0, -0.5, 2.0)
    got = sampled("x", times, local, root, np.zeros((J, 3)), 50.0, start_ns=7)
    even = times[0] + np.arange(len(got)) / 50.0
    assert even[-1] <= times[-1] < even[-1] + 0.02
    want = Rotation.from_rotvec((even[:, None, None] * axes).reshape(-1, 3))
    assert (want.inv() * Rotation.from_quat(got.local.reshape(-1, 4))).magnitude().max() < 1e-6
    np.testing.assert_allclose(got.root, even[:, None] * (1.0, -0.5, 2.0), atol=1e-12)
    assert ((got.local[1:] * got.local[:-1]).sum(-1) > 0.0).all()
    assert got.start_ns == 7


def test_samples_at_the_wanted_times_are_kept() -> None:
    who = wild()
    again = resampled(resampled(who, 120.0), 60.0)
    assert len(again) == len(who)
    assert np.abs(again.local - who.local).max() < 1e-9
    assert resampled(who, 60.0) is who


@pytest.mark.parametrize("count", [1, 2])
def test_a_moment_is_enough(count: int, tmp_path: Path) -> None:
    who = wild(frames=2)
    got = sampled("x", who.times_s[:count], who.local[:count], who.root[:count], who.offsets_m, 60.0)
    assert len(got) == count
    assert np.abs(got.local - who.local[:count]).max() < 1e-12
    for suffix in SUFFIXES:
        write_animation(got, tmp_path / f"{count}{suffix}")
    assert len(read_clip(tmp_path / f"{count}.bvh")) == count


@pytest.mark.parametrize(
    ("measured", "usual"),
    [(59.8, 60), (60.3, 60), (63, 60), (64, 72), (29.97, 30), (23.976, 24), (37, 48), (7, 15), (239, 240), (500, 500)],
)
def test_the_usual_rate_next_to_a_measured_one(measured: float, usual: float) -> None:
    assert usual_fps(np.arange(50) / measured) == usual


def test_one_time_has_no_rate() -> None:
    assert usual_fps(np.zeros(1)) == 15.0


# -- quaternions ------------------------------------------------------------------------------------------------------


def test_quaternions_are_scipys() -> None:
    rng = np.random.default_rng(0)
    random = Rotation.random(500, rng=rng)
    half = Rotation.from_rotvec(np.pi * np.concatenate([np.eye(3), -np.eye(3), np.zeros((1, 3))]))
    turns = Rotation.concatenate([random, half])
    q, m = turns.as_quat(), turns.as_matrix()
    np.testing.assert_allclose(quaternions.matrices(q), m, atol=1e-14)
    assert np.abs(np.abs((quaternions.quaternions(m) * q).sum(-1)) - 1.0).max() < 1e-14
    np.testing.assert_allclose(Rotation.from_rotvec(quaternions.axis_angles(q)).as_matrix(), m, atol=1e-13)
    assert np.linalg.norm(quaternions.axis_angles(-q), axis=-1).max() <= np.pi + 1e-12
    ab = quaternions.product(q[:250], q[250:500])
    np.testing.assert_allclose(quaternions.matrices(ab), m[:250] @ m[250:500], atol=1e-14)
    share = rng.uniform(size=250)
    for n in range(0, 250, 10):
        want = Slerp([0.0, 1.0], random[[n, n + 250]])(share[n]).as_matrix()
        got = quaternions.between(q[n], q[n + 250], share[n])
        np.testing.assert_allclose(quaternions.matrices(got), want, atol=1e-12)
    np.testing.assert_allclose(quaternions.between(q, q, np.full(len(q), 0.3)), q, atol=1e-15)


# -- files ------------------------------------------------------------------------------------------------------------


def test_a_file_is_whole_or_not_there(tmp_path: Path) -> None:
    def fail() -> None:
        with new_file(tmp_path / "a.bvh") as file:
            file.write(b"half of it")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert list(tmp_path.iterdir()) == []
    with new_file(tmp_path / "a.bvh") as file:
        file.write(b"all of it")
        assert not (tmp_path / "a.bvh").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["a.bvh"]
    if os.name == "posix":
        mask = os.umask(0o022)
        os.umask(mask)
        assert (tmp_path / "a.bvh").stat().st_mode & 0o777 == 0o666 & ~mask


def test_a_file_that_comes_meanwhile_is_left(tmp_path: Path) -> None:
    def write() -> None:
        with new_file(tmp_path / "a.bvh") as file:
            file.write(b"ours")
            (tmp_path / "a.bvh").write_text("theirs")

    with pytest.raises(ClipError, match="exists"):
        write()
    assert (tmp_path / "a.bvh").read_text() == "theirs"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("name", "said"),
    [("a.xyz", "'.xyz'; give .bvh, .glb, .vrma, .npz, .jsonl"), ("a.fbx", "Blender"), ("a", "unknown kind"),
     ("missing/a.bvh", "make it first"), ("there.bvh", "exists")],
)  # fmt: skip
def test_what_cannot_be_written_is_said(name: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "there.bvh").write_text("before")
    with pytest.raises(ClipError, match=said) as caught:
        write_animation(raised(), tmp_path / name)
    assert name in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["there.bvh"]


def test_joint_names_are_in_the_files(tmp_path: Path) -> None:
    text = written(raised(), tmp_path, ".bvh").read_text()
    assert [line.split()[1] for line in text.splitlines() if line.split()[0] in ("ROOT", "JOINT")][:2] == [
        "pelvis", "left_hip"
    ]  # fmt: skip
    with np.load(written(raised(), tmp_path, ".npz"), allow_pickle=False) as data:
        assert tuple(data["joint_names"]) == JOINTS
        assert data["poses"].shape == (31, 156)
        assert float(data["mocap_framerate"]) == 30.0
