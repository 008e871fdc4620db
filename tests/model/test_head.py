"""The geometry of the pose head: the nearest pose on the skeleton, and answers in heading axes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from model.kinematics import bone_vectors, forward_kinematics
from model.motion.synthetic import SyntheticActor
from model.network import front
from model.network.head import Pose, PoseHead, covariance
from model.skeleton import PARENTS, J, rest_offsets
from tests.helpers.networks import TINY, at, network_frames, tiny_model


def bodies(count: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Joint positions (count, J, 3) of a moving body, and its skeleton (J, 3) [m]."""
    actor = SyntheticActor(0)
    world, root = actor.poses(np.arange(count) / 3.0)
    return forward_kinematics(world, actor.offsets_m, root), actor.offsets_m


def as_bones(positions: np.ndarray) -> Tensor:
    """(B, 1, 3, J) bone vectors; entry 0 is the root."""
    bones = bone_vectors(positions)
    bones[:, 0] = positions[:, 0]
    return torch.from_numpy(bones).double().transpose(1, 2)[:, None]


def as_skeleton(offsets_m: np.ndarray, count: int) -> Tensor:
    return torch.from_numpy(offsets_m).double().T.expand(count, 1, 3, J)


@pytest.fixture(scope="module")
def head() -> PoseHead:
    """As training starts from: what is tested of the projection does not have to be learned."""
    return PoseHead(TINY.width, TINY.head_hidden).double().requires_grad_(False)


def length_error_mm(bones: Tensor, offsets_m: np.ndarray) -> float:
    excess = bones.norm(dim=2)[:, 0, 1:] - torch.from_numpy(offsets_m).double().norm(dim=1)[1:]
    return float(1e3 * excess.abs().mean())


def test_bones_that_fit_stay_as_they_are(head: PoseHead) -> None:
    positions, offsets = bodies()
    bones = as_bones(positions)
    fitted = head.fit(bones, as_skeleton(offsets, len(bones)))
    assert torch.allclose(fitted, bones, atol=1e-9)


def test_bones_that_do_not_fit_come_nearer_to_the_skeleton(head: PoseHead) -> None:
    positions, offsets = bodies()
    bones = as_bones(positions + 0.03 * np.random.default_rng(0).standard_normal(positions.shape))
    fitted = head.fit(bones, as_skeleton(offsets, len(bones)))
    assert length_error_mm(fitted, offsets) < 0.5 * length_error_mm(bones, offsets)


def turned_bones_mm(bones: Tensor, positions: np.ndarray, offsets_m: np.ndarray) -> float:
    """Root-relative error [mm] of the pose whose bones have these directions and the skeleton's lengths."""
    unit = (bones / bones.norm(dim=2, keepdim=True))[:, 0].transpose(1, 2).numpy()
    placed = np.zeros_like(unit)
    for j in range(1, J):
        placed[:, j] = placed[:, PARENTS[j]] + unit[:, j] * np.linalg.norm(offsets_m[j])
    truth = positions - positions[:, :1]
    return float(1e3 * np.linalg.norm(placed - truth, axis=-1).mean())


def test_the_whole_body_takes_part_in_the_projection(head: PoseHead) -> None:
    """Turning each bone by itself adds up errors along the chain; the nearest pose does not."""
    positions, offsets = bodies()
    noise = 0.02 * np.random.default_rng(1).standard_normal(positions.shape)
    bones = as_bones(positions + noise)
    fitted = head.fit(bones, as_skeleton(offsets, len(bones)))
    alone, together = (turned_bones_mm(x, positions, offsets) for x in (bones, fitted))
    raw = float(1e3 * np.linalg.norm(noise - noise[:, :1], axis=-1).mean())
    print(f"\nnoise of 20 mm: {raw:.1f} mm, each bone by itself {alone:.1f} mm, the whole body {together:.1f} mm")
    assert together < 0.85 * alone


@pytest.mark.parametrize("bad", [0.0, 1e-9, 5.0])
def test_bones_of_any_length_give_finite_bones(bad: float, head: PoseHead) -> None:
    bones = torch.full((1, 1, 3, J), bad, dtype=torch.float64)
    assert torch.isfinite(head.fit(bones, as_skeleton(rest_offsets(), 1))).all()


# ---- heading


def pose_of(positions: np.ndarray) -> Pose:
    """The pose of a tiny random network after a stream of positions (T, J, 3) at 30 fps."""
    model, state = tiny_model(), front.initial_state(1, torch.float64)
    dt = np.full((1, len(positions)), 1 / 30)
    frames = network_frames(positions[None], np.ones((1, *positions.shape[:2])), dt)
    for t in range(len(positions)):
        state, seen = front.step(at(frames, t), state)
    tau = torch.zeros(1, 1, 1, 1, dtype=torch.float64)
    latent = model.embed(front.features(at(frames, len(positions) - 1), state, seen))
    with torch.no_grad():
        return model.pose(latent, state, tau, as_skeleton(rest_offsets(), 1))[0]


@pytest.mark.parametrize("degrees", [20.0, 90.0, 180.0, -120.0])
def test_a_turned_body_gives_the_turned_answer(degrees: float) -> None:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turn = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
    positions = bodies(12)[0] + 0.02 * np.random.default_rng(2).standard_normal((12, J, 3))
    here, there = pose_of(positions), pose_of(positions @ turn.T)
    turn_t = torch.from_numpy(turn)
    pairs = {
        "positions": (there.positions, here.positions @ turn_t.T),
        "rotations": (there.world_rot, turn_t @ here.world_rot),
        "covariance": (covariance(there), turn_t @ covariance(here) @ turn_t.T),
        "contact": (there.contact, here.contact),
    }
    for name, (a, b) in pairs.items():
        assert torch.allclose(a, b, atol=2e-5), f"{name}: {float((a - b).abs().max())}"


def test_the_heading_is_upright_and_faces_where_the_body_does() -> None:
    for degrees in (0.0, 70.0, -160.0):
        c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        turn = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
        body = forward_kinematics(np.tile(turn, (1, J, 1, 1)), rest_offsets(), np.zeros((1, 3)))
        frames = network_frames(body[None], np.ones((1, 1, J)), np.zeros((1, 1)))
        state, _ = front.step(at(frames, 0), front.initial_state(1, torch.float64))
        assert np.allclose(front.heading(state)[0, 0].numpy(), turn, atol=1e-5)


def test_nothing_seen_faces_forward() -> None:
    state = front.initial_state(1, torch.float64)
    assert torch.equal(front.heading(state)[0, 0], torch.eye(3, dtype=torch.float64))
