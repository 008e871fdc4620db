"""Frames for the part without weights, and what it makes of them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from model.motion.synthetic import SyntheticActor
from model.network import front
from model.skeleton import PARENTS, J
from tests.helpers.networks import at, network_frames

PARENT = [max(p, 0) for p in PARENTS]


def frames_of(positions: np.ndarray, dt_s: np.ndarray, mask: np.ndarray | None = None) -> front.Frame:
    """One actor's frames of (T, J, 3) m with steps (T,) s."""
    mask = np.ones(positions.shape[:2]) if mask is None else mask
    return network_frames(positions[None], mask[None], dt_s[None])


def steps(fps: float, seconds: float, jitter: float = 0.0, seed: int = 0) -> np.ndarray:
    dt = (1 + jitter * np.random.default_rng(seed).uniform(-1, 1, round(fps * seconds))) / fps
    dt[0] = 0.0
    return dt


def walk(dt_s: np.ndarray, seed: int = 0) -> np.ndarray:
    """(T, J, 3) smooth motion of a rigid skeleton, from the origin."""
    xyz = SyntheticActor(seed).positions(np.cumsum(dt_s))
    return np.asarray(xyz - xyz[:1, :1])


def run(frames: front.Frame) -> front.State:
    """The state after the last frame."""
    state = front.initial_state(frames.dt_s.shape[0], torch.float64)
    for t in range(frames.dt_s.shape[1]):
        state, _ = front.step(at(frames, t), state)
    return state


def noise_mm(state: front.State) -> np.ndarray:
    """(J,) noise level [mm] of the one actor."""
    return 1e3 * np.sqrt(state.noise_m2.reshape(J).numpy())


def tau(seconds: float) -> Tensor:
    return torch.full((1, 1, 1, 1), seconds, dtype=torch.float64)


def members(state: front.State, tau_s: float) -> np.ndarray:
    """(MEMBERS, J, 3) what the head is offered for a time [m]."""
    evidence = front.evidence(state, tau(tau_s))
    places: np.ndarray = (evidence.joints_m + evidence.anchor_m)[0].transpose(-1, -2).numpy()
    return places
