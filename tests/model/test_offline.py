"""The windowed ancestor: its size, its shapes, and overlap averaging against the obvious loop."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from model.motion.synthetic import SyntheticActor
from model.peers.offline import OfflineConfig, OfflineModel, hold_missing, smooth_sequence
from model.skeleton import J

SMALL = OfflineConfig(window=9, d_model=32, heads=4, encoder_layers=1, decoder_layers=1, feedforward=64)


@pytest.fixture
def small() -> OfflineModel:
    torch.manual_seed(0)
    model = OfflineModel(SMALL)
    with torch.no_grad():  # away from the rest pose, so that windows disagree
        model.rotation_head.weight.mul_(10.0)
        model.root_head.weight.mul_(5.0)
    return model.double().eval()


def sequence(steps: int) -> np.ndarray:
    positions = SyntheticActor(0).clip(steps / 30.0, 30.0)
    return (positions + 0.02 * np.random.default_rng(0).standard_normal(positions.shape)).reshape(steps, 3 * J)


def test_published_size() -> None:
    model = OfflineModel()
    parameters = sum(p.numel() for p in model.parameters())
    assert abs(parameters / 29.6e6 - 1.0) < 0.1
    assert model.config.window == 31


def test_shapes_and_meanings(small: OfflineModel) -> None:
    noisy = torch.from_numpy(sequence(18)).view(2, 9, J, 3)
    pose = small(noisy)
    assert pose.positions.shape == (2, 9, J, 3)
    assert pose.root.shape == (2, 9, 3)
    eye = torch.eye(3, dtype=torch.float64).expand(2, 9, J, 3, 3)
    torch.testing.assert_close(pose.rotations @ pose.rotations.mT, eye, atol=1e-9, rtol=0)
    assert torch.all(pose.lengths_m[..., 1:] > 0)
    assert torch.all(pose.lengths_m[..., 0] == 0)
    torch.testing.assert_close(pose.positions[:, :, 0], pose.root)
    assert torch.all(pose.cholesky.diagonal(dim1=-2, dim2=-1) > 0)
    assert torch.all(pose.cholesky.triu(1) == 0)
    assert torch.linalg.eigvalsh(pose.cholesky @ pose.cholesky.mT).min() > 0


def test_moving_the_world_moves_the_result(small: OfflineModel) -> None:
    noisy = torch.from_numpy(sequence(9)).view(1, 9, J, 3)
    shift = torch.tensor([30.0, -2.0, 7.0], dtype=torch.float64)
    torch.testing.assert_close(small(noisy + shift).positions, small(noisy).positions + shift, atol=1e-9, rtol=0)


def test_gradients_reach_every_parameter() -> None:
    model = OfflineModel(SMALL)
    pose = model(torch.from_numpy(sequence(9)).float().view(1, 9, J, 3))
    (pose.positions.square().mean() + pose.cholesky.square().mean()).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())


def slow_smooth(model: OfflineModel, noisy: np.ndarray, window: int) -> np.ndarray:
    """One window at a time, lists of answers per frame."""
    frames = noisy.reshape(-1, J, 3)
    answers: list[list[np.ndarray]] = [[] for _ in frames]
    for begin in range(len(frames) - window + 1):
        with torch.no_grad():
            pose = model(torch.from_numpy(frames[begin : begin + window])[None]).positions[0].numpy()
        for w in range(window):
            answers[begin + w].append(pose[w])
    return np.stack([np.mean(a, axis=0) for a in answers]).reshape(len(frames), 3 * J)


@pytest.mark.parametrize(("steps", "window", "batch"), [(25, 9, 64), (25, 9, 4), (12, 5, 3), (9, 9, 64), (10, 1, 2)])
def test_overlap_averaging_is_the_obvious_loop(small: OfflineModel, steps: int, window: int, batch: int) -> None:
    noisy = sequence(steps)
    fast = smooth_sequence(small, noisy, window, batch=batch)
    np.testing.assert_allclose(fast, slow_smooth(small, noisy, window), rtol=0, atol=1e-12)


@pytest.mark.parametrize("steps", [1, 2, 8])
def test_a_sequence_shorter_than_the_window_is_one_window(small: OfflineModel, steps: int) -> None:
    noisy = sequence(steps)
    np.testing.assert_allclose(smooth_sequence(small, noisy), slow_smooth(small, noisy, steps), rtol=0, atol=1e-12)


def test_missing_joints_do_not_spread(small: OfflineModel) -> None:
    noisy = sequence(20)
    noisy[3:7, 5:9], noisy[:4, 30] = np.nan, np.inf
    noisy[:, 66:69] = np.nan  # one joint never seen
    assert np.isfinite(smooth_sequence(small, noisy)).all()
    assert np.isfinite(smooth_sequence(small, np.full((5, 3 * J), np.nan))).all()


def test_hold_missing_is_last_sight_then_first_sight() -> None:
    frames = torch.arange(5.0)[:, None, None].expand(5, J, 3).clone()
    frames[:2, 1] = torch.nan
    frames[3:, 1, 2] = torch.nan
    frames[:, 2] = torch.nan
    held = hold_missing(frames)
    assert held[:, 1, 0].tolist() == [2.0, 2.0, 2.0, 2.0, 2.0]
    assert held[:, 0, 0].tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]
    torch.testing.assert_close(held[:, 2], (held.sum(1) - held[:, 2]) / (J - 1))


def test_the_kind_goes_through_and_training_mode_comes_back(small: OfflineModel) -> None:
    noisy = sequence(12).astype(np.float32)
    small.train()
    out = smooth_sequence(small, noisy)
    assert isinstance(out, np.ndarray)
    assert out.dtype == np.float32
    assert small.training
    assert isinstance(smooth_sequence(small, torch.from_numpy(noisy)), torch.Tensor)
    np.testing.assert_array_equal(out, smooth_sequence(small, noisy))  # no dropout


@pytest.mark.parametrize(("shape", "window"), [((5, 71), None), ((0, 72), None), ((5, 72), 10), ((5, 72), 0)])
def test_what_it_cannot_take_is_named(small: OfflineModel, shape: tuple[int, int], window: int | None) -> None:
    with pytest.raises(ValueError, match=r"noisy must be|window_size must be"):
        smooth_sequence(small, np.zeros(shape), window)
