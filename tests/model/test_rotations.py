"""Quaternions and local rotations against roma and scipy, in every corner where a branch would hide."""

from __future__ import annotations

import numpy as np
import pytest
import roma
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from model.rotations import local_from_world, quaternions_xyzw
from model.skeleton import PARENTS, J

seeds = st.integers(0, 2**32 - 1)


def same_rotation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Largest difference of quaternions up to sign."""
    return np.minimum(np.abs(a - b).max(-1), np.abs(a + b).max(-1))


@given(seed=seeds)
@settings(max_examples=50, deadline=None)
def test_quaternions_are_romas(seed: int) -> None:
    matrices = torch.from_numpy(Rotation.random(40, rng=np.random.default_rng(seed)).as_matrix())
    got, want = quaternions_xyzw(matrices), roma.rotmat_to_unitquat(matrices)
    assert same_rotation(got.numpy(), want.numpy()).max() < 1e-12
    two, at = got.abs().topk(2, -1)
    clear = two[:, 0] - two[:, 1] > 2e-3  # where two entries are about as large, either may give the sign
    assert torch.all(got.gather(-1, at[:, :1])[clear] > 0)


def test_the_24_right_angled_turns_where_entries_tie() -> None:
    """Two or four entries of equal size and any signs: no row may cancel another."""
    group = Rotation.create_group("O")
    matrices = np.rint(group.as_matrix())
    for dtype in (torch.float64, torch.float32):
        got = quaternions_xyzw(torch.tensor(matrices, dtype=dtype)).numpy()
        bad = np.flatnonzero(~np.isfinite(got).all(-1))
        assert len(bad) == 0, f"not finite: {matrices[bad].tolist()}"
        assert same_rotation(got, group.as_quat()).max() < 1e-6


@pytest.mark.parametrize("axis", ["x", "y", "z"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_whole_turns_about_an_axis_in_small_steps(axis: str, dtype: torch.dtype) -> None:
    degrees = np.arange(-360.0, 360.0, 0.5)
    turns = Rotation.from_euler(axis, degrees[:, None], degrees=True)
    got = quaternions_xyzw(torch.tensor(turns.as_matrix(), dtype=dtype)).numpy()
    assert np.isfinite(got).all(), f"not finite at {degrees[~np.isfinite(got).all(-1)]} degrees"
    assert same_rotation(got, turns.as_quat()).max() < (1e-12 if dtype is torch.float64 else 1e-6)
    np.testing.assert_allclose(np.linalg.norm(got, axis=-1), 1.0, atol=1e-6)


@given(seed=seeds)
@settings(max_examples=20, deadline=None)
def test_half_turns_and_tiny_turns(seed: int) -> None:
    rng = np.random.default_rng(seed)
    axes = rng.standard_normal((20, 3))
    axes /= np.linalg.norm(axes, axis=-1, keepdims=True)
    angles = np.concatenate([np.full(10, np.pi), 10.0 ** rng.uniform(-12, -4, 10)])
    turns = Rotation.from_rotvec(axes * angles[:, None])
    got = quaternions_xyzw(torch.from_numpy(turns.as_matrix())).numpy()
    assert same_rotation(got, turns.as_quat()).max() < 1e-9


@given(seed=seeds)
@settings(max_examples=20, deadline=None)
def test_chained_local_rotations_are_the_world_ones(seed: int) -> None:
    world = Rotation.random(J, rng=np.random.default_rng(seed)).as_matrix()
    local = local_from_world(torch.from_numpy(world)[None])[0].numpy()
    np.testing.assert_array_equal(local[0], world[0])
    back = local.copy()
    for joint in range(1, J):
        back[joint] = back[PARENTS[joint]] @ local[joint]
    np.testing.assert_allclose(back, world, rtol=0, atol=1e-12)
