"""Limbs that are suddenly too long, and joints that are not there: what the filters make of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from model.network import front
from model.network.limbs import limbs
from model.skeleton import INDEX, PARENTS, J
from tests.helpers.fronts import frames_of, members, run, steps, walk
from tests.helpers.networks import at

WRIST, ELBOW = INDEX["left_wrist"], INDEX["left_elbow"]
FPS = 60.0


def noisy(positions: np.ndarray, sigma_m: float, seed: int = 0) -> np.ndarray:
    return positions + sigma_m * np.random.default_rng(seed).standard_normal(positions.shape)


def away(positions: np.ndarray, joint: int, spells: list[tuple[int, int]], share: float) -> np.ndarray:
    """The joint further from its parent by a share of the bone, from frame to frame of each spell."""
    out, parent = positions.copy(), PARENTS[joint]
    for first, last in spells:
        bone = positions[first:last, joint] - positions[first:last, parent]
        out[first:last, joint] += share * bone
    return out


def followed(positions: np.ndarray, dt_s: np.ndarray) -> np.ndarray:
    """(T, J, 3) where the fastest filter has each joint."""
    state, frames, out = front.initial_state(1, torch.float64), frames_of(positions, dt_s), []
    for t in range(len(dt_s)):
        state, _ = front.step(at(frames, t), state)
        out.append(members(state, 0.0)[2])
    return np.stack(out)


def test_a_wrist_that_makes_the_forearm_too_long_is_hardly_followed() -> None:
    dt = steps(FPS, 4.0)
    truth = walk(dt)
    said = away(noisy(truth, 0.006), WRIST, [(150, 160), (190, 196)], 0.8)
    spell = np.r_[151:160, 191:196]
    off = np.linalg.norm(followed(said, dt) - truth, axis=-1)[spell]
    input_off = np.linalg.norm(said - truth, axis=-1)[spell]
    assert off[:, WRIST].mean() < 0.5 * input_off[:, WRIST].mean()
    others = [j for j in range(J) if j not in (WRIST, ELBOW)]
    assert off[:, others].mean() < 1.3 * np.linalg.norm(followed(noisy(truth, 0.006), dt) - truth, axis=-1)[
        np.ix_(spell, others)
    ].mean()  # fmt: skip


def test_who_stays_away_is_believed_in_the_end() -> None:
    dt = steps(FPS, 4.0)
    said = away(noisy(walk(dt), 0.006), WRIST, [(150, 240)], 0.5)
    off = np.linalg.norm(followed(said, dt) - said, axis=-1)[:, WRIST]
    assert off[151:155].min() > 0.06
    assert off[200:].mean() < 0.05  # what is drawn to the usual length stays


def test_clean_input_is_not_doubted_whatever_limbs_do() -> None:
    dt = steps(FPS, 4.0)
    said = away(walk(dt), WRIST, [(150, 170)], 0.1)
    frames = frames_of(said, dt)
    state = run(type(frames)(*(part[:, :161] for part in frames)))
    np.testing.assert_allclose(members(state, 0.0)[0], said[160], atol=5e-4)


def test_the_usual_length_is_that_of_most_frames() -> None:
    """A quarter of the frames have the forearm half as long again, as before two cameras."""
    dt = steps(FPS, 8.0)
    truth = walk(dt)
    spells = [(first, first + 15) for first in range(70, 470, 60)]
    said = away(noisy(truth, 0.004), WRIST, spells, 0.5)
    state = run(frames_of(said, dt))
    true = np.linalg.norm(truth[0, WRIST] - truth[0, ELBOW])
    assert abs(state.bone_mean_m.reshape(J)[WRIST].item() / true - 1) < 0.06


def test_an_upper_arm_may_change_by_a_fifth() -> None:
    """A source whose shoulder does not turn with the arm: to it, upper arms are longer and shorter as they swing."""
    dt = steps(FPS, 6.0)
    truth = walk(dt)
    swing = 0.2 * np.sin(2 * np.pi * 0.8 * np.cumsum(dt))[:, None]
    shoulder = PARENTS[ELBOW]
    truth[:, shoulder] -= swing * (truth[:, ELBOW] - truth[:, shoulder])
    frames, state = frames_of(noisy(truth, 0.006), dt), front.initial_state(1, torch.float64)
    right = []
    for t in range(len(dt)):
        right.append(limbs(at(frames, t), state, torch.ones(1, 1, 1, J, dtype=torch.float64)).right[0, 0, 0, ELBOW])
        state, _ = front.step(at(frames, t), state)
    assert torch.stack(right)[120:].mean() > 0.98


def test_another_body_is_believed_at_once_and_known_after_seconds() -> None:
    dt = steps(FPS, 8.0)
    said = walk(dt)
    middle = said.mean(1, keepdims=True)
    said[240:] = (middle + 1.2 * (said - middle))[240:]
    said = noisy(said, 0.006)
    off = np.linalg.norm(followed(said, dt) - said, axis=-1)
    assert off[260:].mean() < 1.8 * off[200:240].mean()
    usual = run(frames_of(said, dt)).bone_mean_m.reshape(J).numpy()[[WRIST, ELBOW]]
    true = np.linalg.norm(said[-60:, [WRIST, ELBOW]] - said[-60:, [PARENTS[WRIST], PARENTS[ELBOW]]], axis=-1).mean(0)
    np.testing.assert_allclose(usual, true, rtol=0.1)


@pytest.mark.parametrize("sight", ["never", "lost"])
def test_who_is_not_there_goes_with_the_body(sight: str) -> None:
    """A COCO source has no hands and feet: what stands for them must not wander off where the body's middle moves
    against its anchor; it did by metres in a minute."""
    dt = steps(FPS, 20.0)
    truth = walk(dt)
    rng = np.random.default_rng(1)
    said, mask = noisy(truth, 0.01), np.ones(truth.shape[:2])
    ends = [INDEX[f"{side}_{name}"] for side in ("left", "right") for name in ("hand", "foot")]
    mask[0 if sight == "never" else 60 :, ends] = 0.0
    spells = rng.random((len(dt) // 30 + 1, J)).repeat(30, 0)[: len(dt)] < 0.2
    said += spells[..., None] * np.array([0.0, 0.0, 0.4])  # always off to one side, as before few cameras
    state = run(frames_of(said, dt, mask))
    place = state.point_m[0, 0][:, ends].T.numpy()  # (4, 3) against the anchor
    if sight == "never":
        np.testing.assert_array_equal(place, 0.0)
    else:
        before, after = (np.delete(truth[t], ends, 0).mean(0) for t in (59, -1))
        anchor = state.point_m[0, 0, :, J].numpy()
        np.testing.assert_allclose(place + anchor - after, truth[59, ends] - before, atol=0.7)
