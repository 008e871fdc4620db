"""Every score against its slow oracle or a case whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from model import evaluate as ev
from model.motion.synthetic import SyntheticActor
from model.skeleton import INDEX, J
from tests.helpers import reference

seeds = st.integers(0, 2**32 - 1)


def pair(seed: int, steps: int = 6) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    true = rng.standard_normal((steps, J, 3))
    return true + 0.1 * rng.standard_normal(true.shape), true


def random_rotations(rng: np.random.Generator, count: int) -> np.ndarray:
    return np.asarray(Rotation.from_quat(rng.standard_normal((count, 4))).as_matrix())


@given(seed=seeds)
@settings(max_examples=15, deadline=None)
def test_position_scores_are_the_obvious_loops(seed: int) -> None:
    predicted, true = pair(seed)
    relative = reference.mpjpe(reference.root_relative(predicted), reference.root_relative(true))
    assert ev.mpjpe_mm(predicted, true) == pytest.approx(1000 * reference.mpjpe(predicted, true), abs=1e-9)
    assert ev.mpjpe_root_mm(predicted, true) == pytest.approx(1000 * relative, abs=1e-9)
    assert ev.accel_mm(predicted, true) == pytest.approx(1000 * reference.acceleration(predicted, true), abs=1e-9)
    assert ev.pa_mpjpe_mm(predicted, true) == pytest.approx(1000 * reference.pa_mpjpe(predicted, true), abs=1e-6)


@given(seed=seeds)
@settings(max_examples=15, deadline=None)
def test_procrustes_undoes_any_similarity_and_never_mirrors(seed: int) -> None:
    rng = np.random.default_rng(seed)
    _, true = pair(seed)
    turn = random_rotations(rng, 1)[0]
    np.testing.assert_allclose(ev.procrustes(2.5 * true @ turn.T + rng.standard_normal(3), true), true, atol=1e-10)
    assert ev.pa_mpjpe_mm(true * (-1, 1, 1), true) > 100.0


def test_masks_choose_what_counts() -> None:
    predicted, true = pair(0)
    mask = np.zeros((6, J), bool)
    mask[2, 3] = True
    assert ev.mpjpe_mm(predicted, true, mask) == pytest.approx(1000 * np.linalg.norm((predicted - true)[2, 3]))
    assert np.isnan(ev.accel_mm(predicted, true, mask))
    assert np.isnan(ev.mpjpe_mm(predicted, true, np.zeros((6, J), bool)))
    mask[1:4, 3] = True
    second = (predicted - true)[3, 3] - 2 * (predicted - true)[2, 3] + (predicted - true)[1, 3]
    assert ev.accel_mm(predicted, true, mask) == pytest.approx(1000 * np.linalg.norm(second))


def test_jitter_of_a_cubic_is_its_third_derivative() -> None:
    t = np.arange(40) / 20.0
    path = np.zeros((40, J, 3))
    path[..., 1] = (2.0 * t**3)[:, None]
    assert ev.jitter_m_s3(path, 20.0) == pytest.approx(12.0)


def test_bone_length_std_is_zero_for_a_rigid_skeleton_only() -> None:
    positions = SyntheticActor(0).clip(5.0, 30.0)
    assert ev.bone_length_std_mm(positions) < 1e-9
    noisy = positions + 0.01 * np.random.default_rng(0).standard_normal(positions.shape)
    assert 12 < ev.bone_length_std_mm(noisy) < 16  # about sqrt(2) x 10 mm


@given(seed=seeds)
@settings(max_examples=20, deadline=None)
def test_rotation_errors_are_the_quaternions(seed: int) -> None:
    rng = np.random.default_rng(seed)
    predicted, true = random_rotations(rng, J), random_rotations(rng, J)
    swing, twist = ev.swing_twist_deg(predicted, true)
    angle = ev.rotation_error_deg(predicted, true)
    for j in range(J):
        assert angle[j] == pytest.approx(np.degrees(reference.angle_rad(true[j], predicted[j])), abs=1e-6)
        expected = reference.swing_twist_rad(true[j].T @ predicted[j], ev.TWIST_AXES[j])
        assert (swing[j], twist[j]) == pytest.approx(np.degrees(expected), abs=1e-5)


@pytest.mark.parametrize("degrees", [0.0, 1e-6, 30.0, 179.9, 180.0])
def test_a_twist_about_the_bone_is_no_swing(degrees: float) -> None:
    true = np.broadcast_to(np.eye(3), (J, 3, 3))
    predicted = Rotation.from_rotvec(np.radians(degrees) * ev.TWIST_AXES).as_matrix()
    swing, twist = ev.swing_twist_deg(predicted, true)
    np.testing.assert_allclose(swing, 0.0, atol=1e-5)
    np.testing.assert_allclose(twist, degrees, atol=1e-5)
    assert INDEX["left_elbow"] in ev.HIDDEN_TWIST
    assert 0 not in ev.HIDDEN_TWIST


def test_foot_sliding_counts_only_feet_on_the_ground() -> None:
    positions = np.zeros((31, J, 3))
    positions[:, INDEX["left_foot"], 0] = np.arange(31) * 0.01  # .3 m/s at 30 fps
    positions[:, INDEX["left_foot"], 1] = np.arange(31) * 0.05  # upwards does not count
    contact = np.zeros((31, 2), bool)
    assert np.isnan(ev.foot_sliding_mm_s(positions, contact, 30.0))
    contact[:, 0] = True
    assert ev.foot_sliding_mm_s(positions, contact, 30.0) == pytest.approx(300.0)
    contact[:, 1] = True
    assert ev.foot_sliding_mm_s(positions, contact, 30.0) == pytest.approx(150.0)


@pytest.mark.parametrize("late", [-0.1, 0.0, 0.033, 0.06, 0.21])
def test_lag_is_the_delay_that_was_put_in(late: float) -> None:
    actor, t = SyntheticActor(1), np.arange(0.0, 20.0, 1 / 30)
    assert ev.lag_s(actor.positions(t - late), actor.positions(t), 30.0) == pytest.approx(late, abs=0.003)


def test_coverage_of_honest_and_of_overconfident_covariances() -> None:
    rng = np.random.default_rng(0)
    factor = rng.standard_normal((20_000, 3, 3)) * 0.02 + 0.05 * np.eye(3)
    covariance = factor @ factor.swapaxes(-1, -2)
    error = (factor @ rng.standard_normal((20_000, 3, 1)))[..., 0]
    for level in ev.CHI2_3:
        assert ev.coverage(error, covariance, level) == pytest.approx(level, abs=0.015)
    assert ev.coverage_per_axis(error, covariance) == pytest.approx(0.6827, abs=0.01)
    assert ev.coverage(error, 0.25 * covariance) < 0.3
