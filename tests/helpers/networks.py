"""What the tests of model and filter share: a tiny random network, observed motion, the step in a loop, streams."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors.torch import save_file
from scipy.spatial.transform import Rotation
from torch import Tensor

from model.contract import WEIGHTS
from model.export import make_contract
from model.kinematics import forward_kinematics
from model.motion.synthetic import SyntheticActor
from model.network import front
from model.network.causal import CausalFilter, Config, phase_of, write_rows
from model.network.head import covariance
from model.skeleton import PARENTS, J, rest_offsets
from streamer.filter import PoseFilter
from streamer.frames import Frame, Pose
from streamer.runtimes.block import Block

TINY = Config(window=8, width=32, layers=2, heads=2, hidden=64, head_hidden=32, rotary=8)
TAUS_S = (-0.2, -0.07, 0.0, 0.05, 0.15)
SECOND_NS = 1_000_000_000
BUNDLED = (WEIGHTS / "head.onnx").exists()
NOT_BUNDLED = f"no bundled model: {WEIGHTS} has no head.onnx"


def tiny_model(seed: int = 0, dtype: torch.dtype = torch.float64) -> CausalFilter:
    """A tiny network none of whose parts is idle: sinks, skeleton corrections, offsets and gates are all random."""
    torch.manual_seed(seed)
    model = CausalFilter(TINY).double()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "sink" in name:
                parameter.copy_(torch.randn_like(parameter))
            elif "pulls" in name:  # a projection that leads away from the skeleton would amplify rounding
                parameter.add_(0.01 * torch.randn_like(parameter))
            elif parameter.ndim > 1:  # the head's last layer gently: bones must not shrink to nothing
                size = 0.2 if "fc3" in name or "shortcut" in name else 0.7
                parameter.add_(torch.randn_like(parameter) * size / parameter.shape[1] ** 0.5)
            else:
                parameter.add_(0.2 * torch.randn_like(parameter))
    return model.to(dtype).eval()


def save_weights(model: CausalFilter, path: Path) -> Path:
    config = {"config": json.dumps(model.config.to_dict()), "step": "0"}
    save_file(model.state_dict(), path, metadata=config)
    return path


# ---- sequences for the network


def observed(seed: int, batch: int, length: int, missing: float = 0.1) -> tuple[front.Frame, Tensor]:
    """Frames (B, T, ...) of moving people at irregular times, noisy, joints missing, once all of them; times (B, T)."""
    rng = np.random.default_rng(seed)
    dt = rng.choice([1 / 120, 1 / 60, 1 / 30, 0.09], (batch, length))
    dt[:, 0] = 0.0
    times = dt.cumsum(1)
    clean = np.stack([SyntheticActor(seed + b).positions(times[b]) for b in range(batch)])
    noisy = clean - clean[:, :1, :1] + 0.015 * rng.standard_normal(clean.shape)
    mask = (rng.random((batch, length, J)) >= missing).astype(float)
    mask[:, length // 3] = 0.0
    confidence = rng.random((batch, length, J)) * mask
    derived = (rng.random((batch, 1, J)) < 0.1) * mask
    return network_frames(noisy, mask, dt, confidence, derived), torch.from_numpy(times)


def network_frames(
    positions: np.ndarray, mask: np.ndarray, dt_s: np.ndarray, confidence: np.ndarray | None = None,
    derived: np.ndarray | None = None,
) -> front.Frame:  # fmt: skip
    """The network's frames of positions (B, T, J, 3), mask, confidence and derived (B, T, J), dt (B, T)."""
    confidence = mask if confidence is None else confidence
    derived = np.zeros_like(mask) if derived is None else derived
    xyz = np.swapaxes(positions * mask[..., None], -1, -2)[:, :, None]
    parts = (xyz, *(x[:, :, None, None] for x in (mask, confidence, derived)), dt_s[:, :, None, None, None])
    return front.Frame(*(torch.from_numpy(np.ascontiguousarray(p, np.float64)) for p in parts))


def skeletons(seed: int, batch: int, length: int) -> Tensor:
    """(B, T, J, 3) one body a sequence [m]."""
    size = 1 + 0.1 * np.random.default_rng(seed).standard_normal((batch, 1, J, 1))
    return torch.from_numpy(np.broadcast_to(rest_offsets() * size, (batch, length, J, 3)).copy())


def inner(offsets: Tensor) -> Tensor:
    """Skeletons (..., J, 3) as the network takes them."""
    return offsets.transpose(-1, -2).unsqueeze(-3)


def shifted(frames: front.Frame, shift_m: tuple[float, float, float]) -> front.Frame:
    """The same frames in a world moved by ``shift_m``; what is absent stays zero."""
    shift = torch.tensor(shift_m, dtype=frames.positions.dtype)[:, None]
    return frames._replace(positions=(frames.positions + shift) * frames.mask)


def at(frames: front.Frame, index: slice | int) -> front.Frame:
    """The frames of a span of time, or one frame."""
    return front.Frame(*(part[:, index] for part in frames))


class Answer(NamedTuple):
    """Everything the network says of a sequence; poses for each of TAUS_S."""

    latent: Tensor  # (B, T, width)
    skeleton: Tensor  # (B, T, 1, 3, J)
    weight: Tensor  # (B, T, 1, 1, J)
    positions: Tensor  # (B, T, tau, J, 3)
    free: Tensor  # (B, T, tau, J, 3)
    world_rot: Tensor  # (B, T, tau, J, 3, 3)
    covariance: Tensor  # (B, T, tau, J, 3, 3)
    contact: Tensor


@torch.no_grad()
def whole(model: CausalFilter, frames: front.Frame, times: Tensor, offsets: Tensor) -> Answer:
    """The training form, once for each tau."""
    shape, poses = times.shape, []
    for tau in TAUS_S:
        pose, encoded = model.forward(frames, times, inner(offsets), torch.full(shape[:1], tau, dtype=torch.float64))
        told = (pose.positions, pose.free, pose.world_rot, covariance(pose), pose.contact)
        poses.append([part.unflatten(0, shape) for part in told])
    return Answer(*encoded, *(torch.stack(part, 2) for part in zip(*poses, strict=True)))


class Live:
    """The live form of B actors in step: one state object, fed any number of frames at a time."""

    def __init__(self, model: CausalFilter, batch: int) -> None:
        self.model, self.batch = model, batch
        self.reset()

    def reset(self) -> None:
        self.state = front.initial_state(self.batch, torch.float64)
        self.states = [self.state] * len(TAUS_S)  # what is kept of the source's places rests on the time asked for
        self.ring = self.model.initial_ring(self.batch)

    @torch.no_grad()
    def feed(self, frames: front.Frame, times: Tensor, offsets: Tensor) -> Answer:
        rows = []
        for t in range(times.shape[1]):
            phase = phase_of(times[:, t], self.model.config)
            encoded, self.state, new = self.model.step(at(frames, t), phase, self.state, self.ring)
            self.ring = write_rows(self.ring, new, encoded.latent)
            rows.append((*encoded, *self._poses(encoded.latent, offsets[:, t], at(frames, t).dt_s)))
        return Answer(*(torch.stack(part, 1) for part in zip(*rows, strict=True)))

    def _poses(self, latent: Tensor, offsets: Tensor, dt_s: Tensor) -> list[Tensor]:
        poses = []
        for i, tau_s in enumerate(TAUS_S):
            tau = torch.full((self.batch, 1, 1, 1), tau_s, dtype=torch.float64)
            held = ("moved_m", "moved_s", "apart_m", "moves_m2")
            state = self.state._replace(**{name: getattr(self.states[i], name) for name in held})
            pose, self.states[i] = self.model.pose(latent, state, tau, inner(offsets), dt_s)
            poses.append((pose.positions, pose.free, pose.world_rot, covariance(pose), pose.contact))
        return [torch.stack(part, 1) for part in zip(*poses, strict=True)]


def fed_in_chunks(live: Live, sizes: Sequence[int], frames: front.Frame, times: Tensor, offsets: Tensor) -> Answer:
    """The answers of a sequence handed over in pieces of these sizes, over and over."""
    pieces, start, turn = [], 0, 0
    while start < times.shape[1]:
        span = slice(start, start + sizes[turn % len(sizes)])
        pieces.append(live.feed(at(frames, span), times[:, span], offsets[:, span]))
        start, turn = span.stop, turn + 1
    return Answer(*(torch.cat(part, 1) for part in zip(*pieces, strict=True)))


def assert_same(got: Answer, want: Answer, atol: float = 1e-12) -> None:
    for name, a, b in zip(Answer._fields, got, want, strict=True):
        torch.testing.assert_close(a, b, atol=atol, rtol=0, msg=lambda m, name=name: f"{name}: {m}")


# ---- streams for the filter


class DoubleRuntime:
    """A network in float64 as a runtime of PoseFilter, without an export."""

    name = "double"

    def __init__(self, model: CausalFilter, weights: Path) -> None:
        self.model, self.dtype = model, torch.float64
        self.contract = make_contract(model, save_weights(model, weights), "tiny")

    def open(self, capacity: int) -> Block:
        from streamer.runtimes.torch_reference import TorchBlock

        return TorchBlock(self, capacity)  # type: ignore[arg-type]


def stream(positions: np.ndarray, times_s: np.ndarray, actor: str = "a", start_ns: int = 0) -> list[Frame]:
    """Frames of (T, J, 3) at (T,) seconds after ``start_ns``."""
    stamps = [start_ns + round(float(t) * SECOND_NS) for t in times_s]
    return [Frame(actor=actor, seq=i, t_ns=t, positions=p) for i, (t, p) in enumerate(zip(stamps, positions))]


def noisy_stream(seed: int, count: int, actor: str = "a", fps: float = 60.0, start_ns: int = 0) -> list[Frame]:
    """A jittered stream with noise, missing joints, a confidence now and then and a moment without anybody."""
    rng = np.random.default_rng(seed)
    times = (np.arange(count) + rng.uniform(-0.3, 0.3, count)) / fps
    times -= times[0]
    xyz = SyntheticActor(seed).positions(times) + 0.01 * rng.standard_normal((count, J, 3))
    xyz[rng.random((count, J)) < 0.05] = np.nan
    if count > 40:
        xyz[30:36] = np.nan
    frames = stream(xyz, times, actor, start_ns)
    for frame in frames[1::2]:
        frame.confidence = rng.random(J)
    return frames


def clean_stream(seed: int, seconds: float, fps: float, actor: str = "a") -> tuple[list[Frame], np.ndarray]:
    """Noise-free frames and the truth (T, J, 3)."""
    truth = SyntheticActor(seed).clip(seconds, fps)
    return stream(truth, np.arange(len(truth)) / fps, actor), truth


def arrays(pose: Pose) -> dict[str, np.ndarray]:
    names = ("positions", "rotations", "root", "lengths_m", "offsets_m", "covariance", "contact")
    return {name: np.asarray(getattr(pose, name)) for name in names}


def assert_poses_equal(got: Iterable[Pose | None], want: Iterable[Pose | None], clock_ns: int = 0) -> None:
    """Bit for bit, time shifted by ``clock_ns``; stamps of this process's clock left out."""
    for a, b in zip(got, want, strict=True):
        assert (a is None) == (b is None)
        if a is None or b is None:
            continue
        assert (a.seq, a.status) == (b.seq, b.status)
        assert (a.t_ns - clock_ns, a.captured_ns - clock_ns) == (b.t_ns, b.captured_ns)
        for name, array in arrays(b).items():
            np.testing.assert_array_equal(arrays(a)[name], array, err_msg=f"{name} at frame {b.seq}")
        assert a.layout == b.layout
        np.testing.assert_array_equal(np.asarray(a.source), np.asarray(b.source), err_msg=f"source at frame {b.seq}")


def assert_finite(pose: Pose) -> None:
    for name, array in arrays(pose).items():
        assert np.isfinite(array).all(), f"{name} is not finite at frame {pose.seq}"


def fk_of_pose(pose: Pose) -> np.ndarray:
    """(24, 3) joints from what an avatar gets: local quaternions, offsets and root, in float64."""
    local = Rotation.from_quat(pose.rotations.astype(np.float64)).as_matrix()
    world = local.copy()
    for joint in range(1, J):
        world[joint] = world[PARENTS[joint]] @ local[joint]
    joints: np.ndarray = forward_kinematics(world, pose.offsets_m.astype(np.float64), pose.root.astype(np.float64))
    return joints


def assert_pose_holds(pose: Pose, before: Pose | None = None) -> None:
    """What every published pose promises: FK, unit quaternions continuous in sign, a positive definite covariance."""
    step_m = float(np.spacing(np.abs(pose.positions).max()))  # float32 on the wire: 15 micrometres at 200 m
    np.testing.assert_allclose(fk_of_pose(pose), pose.positions, rtol=0, atol=1e-5 + step_m)
    np.testing.assert_allclose(np.linalg.norm(pose.rotations, axis=-1), 1.0, rtol=0, atol=1e-6)
    np.testing.assert_allclose(pose.lengths_m, np.linalg.norm(pose.offsets_m, axis=-1), rtol=0, atol=1e-6)
    np.testing.assert_array_equal(pose.root, pose.positions[0])
    covariance = pose.covariance.astype(np.float64)
    np.testing.assert_array_equal(covariance, covariance.swapaxes(-1, -2))
    assert (np.linalg.eigvalsh(covariance) > 0).all()
    assert ((pose.contact >= 0) & (pose.contact <= 1)).all()
    if before is not None:
        assert ((pose.rotations * before.rotations).sum(-1) > 0).all()


def mean_mm(a: np.ndarray, b: np.ndarray) -> float:
    """Mean distance of joints [mm]."""
    return float(1e3 * np.linalg.norm(np.asarray(a, np.float64) - b, axis=-1).mean())


def max_mm(a: np.ndarray, b: np.ndarray) -> float:
    return float(1e3 * np.linalg.norm(np.asarray(a, np.float64) - b, axis=-1).max())


def poses_of(filter_: PoseFilter, frames: list[Frame]) -> list[Pose]:
    return [filter_.push(frame) for frame in frames]
