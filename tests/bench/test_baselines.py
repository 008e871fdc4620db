"""Every baseline: reset equals new, gaps are coasted over, and it does what its name says at the time asked for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.accuracy.baselines import BASELINES, Baseline, Hold, Holt, Kalman, OneEuro, Raw, SavitzkyGolay, run
from model.evaluate import accel_mm, lag_s, mpjpe_mm
from model.motion.synthetic import SyntheticActor

FPS = 30.0
AT_S = (-0.1, -0.05, 0.0, 0.05)
everyone = pytest.mark.parametrize("name", BASELINES)


def stream(seconds: float = 6.0, noise_m: float = 0.01, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Uneven times, noisy and true joints."""
    rng = np.random.default_rng(seed)
    times = np.cumsum(rng.uniform(0.6, 1.4, round(seconds * FPS))) / FPS
    true = SyntheticActor(seed).positions(times)
    return times, true + noise_m * rng.standard_normal(true.shape), true


@everyone
@pytest.mark.parametrize("at_s", AT_S)
def test_reset_equals_new(name: str, at_s: float) -> None:
    times, noisy, _ = stream(2.0)
    noisy[10:20, 3] = np.nan
    used, new = BASELINES[name](at_s), BASELINES[name](at_s)
    for t, frame in zip(times[:37], noisy[:37]):
        used.push(float(t) + 100.0, frame)
    used.reset()
    for t, frame in zip(times, noisy):
        np.testing.assert_array_equal(used.push(float(t), frame), new.push(float(t), frame))


@everyone
@pytest.mark.parametrize("at_s", AT_S)
@given(seed=st.integers(0, 10_000))
@settings(max_examples=8, deadline=None)
def test_missing_joints_are_coasted_over_and_spread_nowhere(name: str, at_s: float, seed: int) -> None:
    times, noisy, _ = stream(2.0, seed=seed % 7)
    lost = np.random.default_rng(seed).random(noisy.shape[:2]) < 0.3
    lost[0] = False
    lost[:, 20] = False
    broken = noisy.copy()
    broken[lost] = np.nan if seed % 2 else np.inf
    out = run(BASELINES[name](at_s), times, broken)
    if name != "raw":
        assert np.isfinite(out).all()
        assert np.abs(out - noisy).max() < 4.0
    np.testing.assert_allclose(out[:, 20], run(BASELINES[name](at_s), times, noisy)[:, 20], atol=1e-9)


@everyone
def test_a_joint_not_seen_yet_is_nan_and_then_appears(name: str) -> None:
    times, noisy, _ = stream(2.0)
    noisy[:15, 4] = np.nan
    out = run(BASELINES[name](0.0), times, noisy)
    assert np.isnan(out[:15, 4]).all()
    assert np.isfinite(out[15:]).all()
    assert np.linalg.norm(out[15, 4] - noisy[15, 4]) < 1e-6


@everyone
@pytest.mark.parametrize("at_s", AT_S)
def test_a_still_body_stays_where_it_is(name: str, at_s: float) -> None:
    times, _, true = stream(2.0)
    still = np.repeat(true[:1], len(times), 0)
    np.testing.assert_allclose(run(BASELINES[name](at_s), times, still), still, atol=1e-6)


@everyone
def test_time_must_rise(name: str) -> None:
    _, noisy, _ = stream(1.0)
    baseline = BASELINES[name](0.0)
    baseline.push(1.0, noisy[0])
    with pytest.raises(ValueError, match="times must rise"):
        baseline.push(1.0, noisy[1])


@everyone
@pytest.mark.parametrize("at_s", AT_S)
def test_the_clock_may_start_a_year_later(name: str, at_s: float) -> None:
    times, noisy, _ = stream(2.0)
    later = run(BASELINES[name](at_s), times + 3.2e7, noisy)
    np.testing.assert_allclose(later, run(BASELINES[name](at_s), times, noisy), atol=1e-5)


def score(baseline: Baseline, at_s: float) -> tuple[float, float]:
    """MPJPE and Accel at the time the pose is for, on even frames."""
    times = np.arange(0.0, 20.0, 1 / FPS)
    actor = SyntheticActor(2)
    noisy = actor.positions(times) + 0.01 * np.random.default_rng(0).standard_normal((len(times), 24, 3))
    out, true = run(baseline, times, noisy)[15:], actor.positions(times + at_s)[15:]
    return mpjpe_mm(out, true), accel_mm(out, true)


def test_kalman_gains_from_lag_and_loses_by_prediction() -> None:
    raw, accel = score(Raw(), 0.0)
    now, smooth = score(Kalman(0.0), 0.0)
    lagged, smoother = score(Kalman(-2 / FPS), -2 / FPS)
    ahead, _ = score(Kalman(1 / FPS), 1 / FPS)
    assert lagged < now < raw
    assert smoother < smooth < accel
    assert lagged < 0.65 * raw
    assert now < ahead < score(Hold(1 / FPS), 1 / FPS)[0]


@pytest.mark.parametrize("kind", [OneEuro, Holt, SavitzkyGolay])
def test_the_others_smooth(kind: type[Baseline]) -> None:
    assert score(kind(0.0), 0.0)[1] < 0.8 * score(Raw(), 0.0)[1]


def test_kalman_between_frames_is_the_smoother_with_an_unseen_frame_there() -> None:
    times, noisy, _ = stream(1.0)
    target = float(times[-4] + 0.4 * (times[-3] - times[-4]))
    out = run(Kalman(target - float(times[-1])), times, noisy)[-1]
    extra = np.insert(times, len(times) - 3, target)
    unseen = np.insert(noisy, len(times) - 3, np.nan, axis=0)
    np.testing.assert_allclose(run(Kalman(target - float(times[-1])), extra, unseen)[-1], out, atol=1e-9)


def test_kalman_smoother_is_the_least_squares_solution() -> None:
    """One coordinate, constant velocity, white acceleration: the whole problem as one linear system."""
    times, noisy, _ = stream(0.5)
    z, n, noise, q = noisy[:, 5, 0], len(times), 0.01, 3.0
    information, vector = np.zeros((2 * n, 2 * n)), np.zeros(2 * n)
    # The filter starts at the first frame with variances noise^2 and 1, the velocity 0.
    information[0, 0], vector[0], information[1, 1] = 1 / noise**2, z[0] / noise**2, 1.0
    for k in range(1, n):
        dt = times[k] - times[k - 1]
        step = np.zeros((2, 2 * n))
        step[:, 2 * k : 2 * k + 2], step[:, 2 * k - 2 : 2 * k] = np.eye(2), -np.array([[1, dt], [0, 1]])
        weight = np.linalg.inv(q * np.array([[dt**3 / 3, dt**2 / 2], [dt**2 / 2, dt]]))
        information += step.T @ weight @ step
        information[2 * k, 2 * k] += 1 / noise**2
        vector[2 * k] += z[k] / noise**2
    best = np.linalg.solve(information, vector)[::2]
    for lag in (0, 1, 3, 7):
        out = run(Kalman(float(times[-1 - lag] - times[-1]), noise, q), times, noisy)[-1, 5, 0]
        assert out == pytest.approx(best[-1 - lag], abs=1e-9)


def test_savitzky_golay_is_exact_on_its_polynomial_at_any_time() -> None:
    times = np.cumsum(np.random.default_rng(0).uniform(0.02, 0.05, 40))
    for at_s in AT_S:
        out = run(SavitzkyGolay(at_s), times, parabola(times))
        np.testing.assert_allclose(out[15:], parabola(times + at_s)[15:], atol=1e-4)


def parabola(times: np.ndarray) -> np.ndarray:
    return np.stack([times, 3 * times**2, 1 - times], -1)[:, None]


def test_holt_predicts_along_the_trend() -> None:
    times = np.arange(0.0, 4.0, 1 / FPS)
    line = np.stack([2 * times, 0 * times, -times], -1)[:, None]
    np.testing.assert_allclose(
        run(Holt(0.1), times, line)[-1, 0], [2 * (times[-1] + 0.1), 0, -times[-1] - 0.1], atol=1e-3
    )


def test_lag_of_the_published_settings() -> None:
    """SmoothNet's One-Euro setting is late (FIELD.md: 42-84 ms; less where people walk), MediaPipe's hardly."""
    times = np.arange(0.0, 20.0, 1 / FPS)
    true = SyntheticActor(2).positions(times)
    assert 0.02 < lag_s(run(BASELINES["one_euro_smoothnet"](0.0), times, true), true, FPS) < 0.12
    assert lag_s(run(BASELINES["one_euro_mediapipe"](0.0), times, true), true, FPS) < 0.02


def test_raw_is_the_input_and_a_lag_is_the_past() -> None:
    times, noisy, _ = stream(1.0)
    np.testing.assert_array_equal(run(Raw(0.0), times, noisy), noisy)
    even = np.arange(len(noisy)) * 0.03125
    np.testing.assert_array_equal(run(Raw(-0.0625), even, noisy)[2:], noisy[:-2])
