"""Where people stand, from a synthetic pinhole camera; and the ground under their feet."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from streamer.clock import SECOND_NS
from streamer.sources.perspective import FEET, Place, camera_from_ray, focal_px, standing, translation

BODY = np.random.default_rng(0).normal(0.0, (0.2, 0.5, 0.15), (33, 3))  # [m], camera's axes
BODY[list(FEET), 1] = 0.9  # down
ONES = np.ones(33)
UPRIGHT = BODY * (1.0, -1.0, -1.0)


def seen(at: np.ndarray, size_px: tuple[int, int], fov_deg: float, body: np.ndarray = BODY) -> np.ndarray:
    """(33, 2) where a pinhole camera sees the body [px]."""
    points = body + at
    return np.asarray(focal_px(*size_px, fov_deg) * points[:, :2] / points[:, 2:] + np.array(size_px) / 2)


@settings(deadline=None, max_examples=50)
@given(
    st.tuples(st.floats(-2, 2), st.floats(-1, 1), st.floats(2, 9)), st.floats(30, 110),
    st.sampled_from([(640, 480), (1920, 1080), (1080, 1920)]),
)  # fmt: skip
def test_the_place_comes_back(at: tuple[float, float, float], fov_deg: float, size_px: tuple[int, int]) -> None:
    found = translation(BODY, seen(np.array(at), size_px, fov_deg), ONES, size_px, fov_deg)
    np.testing.assert_allclose(found, at, atol=1e-9)


def test_the_field_of_view_is_that_of_the_longer_side() -> None:
    half = np.tan(np.radians(30))
    corner = np.array([[half, 0.0, 0.0]])
    assert seen(np.array([0, 0, 1.0]), (1920, 1080), 60, corner)[0, 0] == pytest.approx(1920)
    assert seen(np.array([0, 0, 1.0]), (1080, 1920), 60, corner[:, [1, 0, 2]])[0, 1] == pytest.approx(1920)


@settings(deadline=None, max_examples=50)
@given(st.floats(0, 1920), st.floats(0, 1080), st.floats(30, 110))
def test_a_camera_that_looks_straight_at_a_point_is_turned_by_the_smallest_angle(
    right: float, down: float, fov_deg: float
) -> None:
    turn = camera_from_ray(np.array([right, down]), (1920, 1080), fov_deg)
    ray = np.array([right - 960, down - 540, focal_px(1920, 1080, fov_deg)])
    ray /= np.linalg.norm(ray)
    np.testing.assert_allclose(turn @ (0.0, 0.0, 1.0), ray, atol=1e-12)
    assert Rotation.from_matrix(turn).magnitude() == pytest.approx(np.arccos(ray[2]), abs=1e-6)
    np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-12)


def test_noise_and_what_is_hidden_hardly_move_it() -> None:
    rng, at, size = np.random.default_rng(3), np.array([0.5, -0.2, 4.0]), (1280, 720)
    errors = []
    for _ in range(50):
        image = seen(at, size, 60) + rng.normal(0, 3, (33, 2))  # 3 px are 11 mm there
        world = BODY + rng.normal(0, 0.03, (33, 3))
        weight = np.where(np.arange(33) < 5, 0.0, 1.0)
        image[:5] += 500
        found = translation(world, image, weight, size, 60)
        assert found is not None
        errors.append(found - at)
    sideways, _, depth = np.abs(errors).mean(0)
    assert sideways < 0.03
    assert depth < 0.15


def test_a_wrong_field_of_view_or_size_is_a_wrong_depth_and_nothing_else() -> None:
    at, size = np.array([0.4, 0.1, 4.0]), (1280, 720)
    image = seen(at, size, 60)
    narrow = translation(BODY, image, ONES, size, 50)
    small = translation(0.9 * BODY, image, ONES, size, 60)
    assert narrow is not None
    assert small is not None
    assert narrow[2] == pytest.approx(4.0 * np.tan(np.radians(30)) / np.tan(np.radians(25)), rel=0.02)
    assert narrow[0] == pytest.approx(0.4, abs=0.03)
    np.testing.assert_allclose(small, 0.9 * at, atol=1e-9)


def test_too_little_seen_is_nowhere() -> None:
    at, size = np.array([0.0, 0.0, 3.0]), (640, 480)
    assert translation(BODY, seen(at, size, 60), ONES * 0.05, size, 60) is None
    assert translation(BODY, seen(-at, size, 60), ONES, size, 60) is None  # behind the camera
    assert translation(BODY, np.full((33, 2), 100.0), ONES, size, 60) is None  # all in one point: infinitely far


def steps(place: Place, ats: list[np.ndarray | None], hz: float = 30.0, body: np.ndarray = UPRIGHT) -> list[np.ndarray]:
    return [place.put(round(n * SECOND_NS / hz), body, at) for n, at in enumerate(ats)]


def test_feet_stand_on_the_ground_and_a_jump_leaves_it() -> None:
    still = np.array([0.0, 0.0, 4.0])
    jump = [still - np.array([0.0, height, 0.0]) for height in 0.4 * np.sin(np.linspace(0, np.pi, 15))]
    lowest = [placed[FEET, 1].min() for placed in steps(Place(), [still] * 30 + jump + [still] * 30)]
    np.testing.assert_allclose(lowest[:30], 0.0, atol=1e-9)
    assert max(lowest) == pytest.approx(0.4, abs=0.05)
    assert abs(lowest[-1]) < 0.01


def test_somebody_who_squats_comes_down() -> None:
    still = np.array([0.0, 0.0, 4.0])
    deep = UPRIGHT.copy()
    deep[list(FEET), 1] += 0.4  # the hips' middle is the origin: the feet come up to it
    place = Place()
    steps(place, [still] * 30)
    down = place.put(SECOND_NS, deep, still + np.array([0.0, 0.4, 0.0]))  # and the hips sink
    assert down[FEET, 1].min() == pytest.approx(0.0, abs=0.02)
    assert standing(deep)[FEET, 1].min() == 0.0
    assert np.ptp(standing(deep)[:, 1]) == pytest.approx(np.ptp(deep[:, 1]))


def test_to_walk_sideways_and_away_is_to_walk() -> None:
    ats: list[np.ndarray | None] = [np.array([0.01 * n, 0.0, 4.0 + 0.02 * n]) for n in range(60)]
    place = Place()
    placed = steps(place, ats)
    moved = placed[-1].mean(0) - placed[0].mean(0)
    np.testing.assert_allclose(moved, (0.59, 0.0, -1.18), atol=0.17)  # what is away lags by a quarter of a second
    np.testing.assert_allclose(place.at_m, placed[-1].mean(0) * (1, 0, 1) - UPRIGHT.mean(0) * (1, 0, 1), atol=1e-9)


def test_where_the_place_is_not_known_it_stays() -> None:
    at = np.array([0.5, 0.0, 4.0])
    placed = steps(Place(), [at, None, None, at])
    for one in placed:
        np.testing.assert_allclose(one, placed[0], atol=1e-9)
    np.testing.assert_allclose(steps(Place(), [None])[0][:, [0, 2]], UPRIGHT[:, [0, 2]])
