"""Forward kinematics and fork frames against their oracles, in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from model.kinematics import (
    bone_vectors,
    chosen_axes,
    fork_axis_weights,
    fork_frames,
    forward_kinematics,
    frame_from_axes,
    frames_of,
    quaternions_of,
)
from model.network.matrices import constant
from model.network.measured import fork_axes
from model.skeleton import (
    CHILDREN,
    FORK_CHILDREN,
    FORKS,
    INDEX,
    JOINTS,
    LEAVES,
    MIRROR,
    PARENTS,
    J,
    ancestor_matrix,
    rest_directions,
    rest_lengths_m,
    rest_offsets,
)
from tests.helpers import reference
from tests.helpers.forks import KINDS, odd_offsets

seeds = st.integers(0, 2**32 - 1)


def random_rotations(rng: np.random.Generator, *shape: int) -> np.ndarray:
    flat = Rotation.from_quat(rng.standard_normal((int(np.prod(shape)), 4))).as_matrix()
    return np.asarray(flat).reshape(*shape, 3, 3)


@given(seed=seeds)
@settings(max_examples=30, deadline=None)
def test_ancestor_matrix_fk_is_the_loop_down_the_chain(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rotations, offsets = random_rotations(rng, 2, 3, J), rng.standard_normal((J, 3))
    root = 100.0 * rng.standard_normal((2, 3, 3))
    fast = forward_kinematics(rotations, offsets, root)
    slow = [[reference.forward_kinematics(rotations[b, t], offsets, root[b, t]) for t in range(3)] for b in range(2)]
    np.testing.assert_allclose(fast, slow, rtol=0, atol=1e-12)


@given(seed=seeds)
@settings(max_examples=20, deadline=None)
def test_numpy_and_torch_are_the_same_arithmetic(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rotations, offsets, root = random_rotations(rng, 4, J), rng.standard_normal((4, J, 3)), rng.standard_normal((4, 3))
    arrays = forward_kinematics(rotations, offsets, root)
    tensors = forward_kinematics(*(torch.from_numpy(x) for x in (rotations, offsets, root)))
    np.testing.assert_allclose(tensors.numpy(), arrays, rtol=0, atol=1e-12)
    bones = bone_vectors(arrays)
    np.testing.assert_allclose(bone_vectors(tensors).numpy(), bones, rtol=0, atol=1e-12)
    np.testing.assert_allclose(fork_frames(torch.from_numpy(bones)).numpy(), fork_frames(bones), rtol=0, atol=1e-12)


@given(seed=seeds)
@settings(max_examples=20, deadline=None)
def test_bone_vectors_keep_the_lengths_and_give_the_positions_back(seed: int) -> None:
    rng = np.random.default_rng(seed)
    positions = forward_kinematics(random_rotations(rng, J), rest_offsets(), rng.standard_normal(3))
    bones = bone_vectors(positions)
    np.testing.assert_allclose(np.linalg.norm(bones, axis=-1), rest_lengths_m(), rtol=0, atol=1e-12)
    np.testing.assert_allclose(positions[0] + ancestor_matrix() @ bones, positions, rtol=0, atol=1e-12)


@given(seed=seeds)
@settings(max_examples=30, deadline=None)
def test_fork_frames_give_the_rotation_of_a_rigid_torso_exactly(seed: int) -> None:
    rng = np.random.default_rng(seed)
    offsets = rest_offsets() + 0.01 * rng.standard_normal((J, 3))  # an actor's own, not symmetric
    rotations = random_rotations(rng, J)
    bones = bone_vectors(forward_kinematics(rotations, offsets, np.zeros(3)))
    back = fork_frames(bones) @ fork_frames(offsets).swapaxes(-1, -2)
    np.testing.assert_allclose(back, rotations[list(FORKS)], rtol=0, atol=1e-10)


@given(seed=seeds)
@settings(max_examples=30, deadline=None)
def test_frame_from_axes_is_a_rotation_that_starts_with_the_primary(seed: int) -> None:
    rng = np.random.default_rng(seed)
    primary, secondary = rng.standard_normal((2, 5, 3))
    frame = frame_from_axes(primary, secondary)
    np.testing.assert_allclose(frame @ frame.swapaxes(-1, -2), np.broadcast_to(np.eye(3), (5, 3, 3)), atol=1e-9)
    np.testing.assert_allclose(np.linalg.det(frame), 1.0, atol=1e-9)
    np.testing.assert_allclose(frame[..., 0], primary / np.linalg.norm(primary, axis=-1, keepdims=True), atol=1e-12)
    assert np.all((frame[..., 1] * secondary).sum(-1) > 0)


def test_fork_frames_survive_a_collapsed_torso() -> None:
    assert np.isfinite(fork_frames(np.zeros((J, 3)))).all()


@pytest.mark.parametrize("kind", KINDS)
def test_fork_frames_are_well_defined_by_whatever_points_there_are(kind: str) -> None:
    """Collars at the neck, hips at the pelvis: a turn of such a body puts its joints where they are."""
    rng = np.random.default_rng(0)
    offsets = odd_offsets(kind)
    rotations = random_rotations(rng, 20, J)
    rotations[:, 1:] = rotations[:, :1]  # the body turns as one: what stands in for an axis is beyond the fork
    positions = forward_kinematics(rotations, offsets, np.zeros((20, 3)))
    turns = fork_frames(bone_vectors(positions), offsets) @ fork_frames(offsets, offsets).swapaxes(-1, -2)
    np.testing.assert_allclose(turns @ turns.swapaxes(-1, -2), np.broadcast_to(np.eye(3), turns.shape), atol=1e-9)
    for fork, turn in zip(FORKS, np.moveaxis(turns, 1, 0)):
        children = list(CHILDREN[fork])
        placed = (turn @ offsets[children].T).swapaxes(-1, -2)
        np.testing.assert_allclose(placed, bone_vectors(positions)[:, children], atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_the_graphs_choose_the_same_axes(kind: str) -> None:
    rng = np.random.default_rng(0)
    like, bones = odd_offsets(kind), rng.standard_normal((J, 3))
    a, b = (fork_axes(torch.tensor(x).T[None, None]) for x in (like, bones))
    ((main, across),) = chosen_axes(a, [b], constant("fork_sums", a), constant("fork_before", a))
    np.testing.assert_allclose(frames_of(main, across)[0].numpy(), fork_frames(bones, like), atol=1e-9)


def test_a_whole_skeleton_has_the_frames_it_always_had() -> None:
    bones = np.random.default_rng(0).standard_normal((9, J, 3))
    np.testing.assert_allclose(fork_frames(bones, rest_offsets()), fork_frames(bones), rtol=0, atol=1e-12)


def test_fk_keeps_the_dtype() -> None:
    rotations = np.broadcast_to(np.eye(3, dtype=np.float32), (J, 3, 3))
    offsets, root = rest_offsets().astype(np.float32), np.zeros(3, np.float32)
    assert forward_kinematics(rotations, offsets, root).dtype == np.float32


# ---- the skeleton itself


def test_the_skeleton_is_the_designs() -> None:
    assert J == 24
    assert PARENTS == (-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21)
    assert [JOINTS[f] for f in FORKS] == ["pelvis", "spine3"]
    assert {JOINTS[leaf] for leaf in LEAVES} == {"left_foot", "right_foot", "head", "left_hand", "right_hand"}
    assert len(FORK_CHILDREN) == 6
    assert all(PARENTS[child] == joint for joint in range(J) for child in CHILDREN[joint])
    assert all(MIRROR[MIRROR[joint]] == joint for joint in range(J))


def test_the_rest_pose_is_a_symmetric_t_pose_facing_z() -> None:
    offsets, directions = rest_offsets(), rest_directions()
    np.testing.assert_allclose(offsets[list(MIRROR)] * (-1, 1, 1), offsets, atol=1e-12)
    np.testing.assert_allclose(directions * rest_lengths_m()[:, None], offsets, atol=1e-12)
    np.testing.assert_array_equal(directions[INDEX["left_elbow"]], (1.0, 0.0, 0.0))
    np.testing.assert_array_equal(directions[INDEX["right_knee"]], (0.0, -1.0, 0.0))
    assert directions[INDEX["left_foot"], 2] > 0.9
    assert fork_axis_weights().shape == (2, 2, J)


def test_the_oracle_itself_at_rest() -> None:
    still = reference.forward_kinematics(np.broadcast_to(np.eye(3), (J, 3, 3)), rest_offsets(), np.zeros(3))
    np.testing.assert_allclose(still, ancestor_matrix() @ rest_offsets(), atol=1e-12)
    assert reference.angle_rad(np.eye(3), Rotation.from_rotvec([0, 0.3, 0]).as_matrix()) == pytest.approx(0.3)


def test_quaternions_of_rotations_are_scipys() -> None:
    """Half turns included, where three of the four numbers are small."""
    rng = np.random.default_rng(0)
    vectors = np.concatenate([rng.standard_normal((200, 3)) * 3.0, np.pi * np.eye(3), np.zeros((1, 3))])
    turns = Rotation.from_rotvec(vectors)
    got = quaternions_of(turns.as_matrix())
    assert (np.abs((got * turns.as_quat()).sum(-1)) > 1.0 - 1e-12).all()
    assert (np.take_along_axis(got, np.abs(got).argmax(-1)[:, None], -1) > 0).all()
