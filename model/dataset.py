"""Endless training batches: clips -> augmented motion at random rates -> noise -> layout -> front.

Everything without weights happens here, in a worker process: the trainer only sees what the network needs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from model import front
from model.causal import Seen, run_front
from model.corruption import NoiseConfig, corrupt, sample_times
from model.evaluate import foot_contact
from model.head import TAU_RANGE_S
from model.kinematics import bone_vectors, fork_frames, forward_kinematics, frame_from_axes
from model.layouts import canonical_derivation
from model.losses import Target
from model.prepare import Clip, PackedClip, load_packed
from model.skeleton import FORK_CHILDREN, FORKS, INDEX, JOINTS, MIRROR, PARENTS, J, rest_offsets

LAYOUT_ODDS = {"smpl_24": 0.66, "smpl_22": 0.06, "h36m_17": 0.08, "coco_17": 0.07, "mediapipe_33": 0.13}
_ARMS = [j for j, name in enumerate(JOINTS) if name.split("_")[-1] in ("collar", "shoulder", "elbow", "wrist", "hand")]
_FLIP = np.array([-1.0, 1.0, 1.0], np.float32)


class Batch(NamedTuple):
    seen: Seen
    times_s: Tensor  # (B, T) float64
    dt_s: Tensor  # (B, T)
    tau_s: Tensor  # (B,)
    given: Tensor  # (B,) True: the actor's skeleton is given, not calibrated
    target: Target
    own_target_m: Tensor  # (B, T, J, 3) true bones, entry 0 the root from the anchor


@dataclass(frozen=True)
class Motion:
    """All clips end to end, as flat arrays."""

    root: np.ndarray  # (N, 3) m
    world_rot: np.ndarray  # (N, J, 3, 3)
    contact: np.ndarray  # (N, 2)
    start: np.ndarray  # (C,) first frame of each clip
    length: np.ndarray  # (C,)
    fps: np.ndarray  # (C,)
    offsets_m: np.ndarray  # (C, J, 3)

    @classmethod
    def from_clips(cls, clips: Sequence[Clip]) -> Motion:
        lengths = np.array([len(c.positions) for c in clips])
        return cls(
            root=np.concatenate([c.positions[:, 0] for c in clips]).astype(np.float32),
            world_rot=np.concatenate([c.world_rotations for c in clips if c.world_rotations is not None]).astype(
                np.float32
            ),
            contact=np.concatenate([foot_contact(c.positions, c.fps) for c in clips]),
            start=np.concatenate([[0], np.cumsum(lengths)[:-1]]),
            length=lengths,
            fps=np.array([c.fps for c in clips]),
            offsets_m=np.stack([c.offsets_m for c in clips]).astype(np.float32),
        )


class Sampler:
    """Draws augmented, corrupted sequences; the same seed gives the same batches."""

    def __init__(self, motion: Motion, seed: int, noise: NoiseConfig | None = None, augment: bool = True) -> None:
        self.motion, self.noise, self.augment = motion, noise, augment
        self.rng = np.random.default_rng(seed)
        duration = motion.length / motion.fps
        self.odds = np.sqrt(duration) * (duration > 1.0)  # long clips repeat themselves: less than by length
        self.odds = self.odds / self.odds.sum()
        self.derivation = [canonical_derivation(name) for name in LAYOUT_ODDS]

    def batch(self, size: int, length: int, tau_s: float | None = None) -> Batch:
        """One batch of ``size`` sequences of ``length`` frames, each asked for its own tau (or the one given)."""
        rng = self.rng
        clip = rng.choice(len(self.odds), size, p=self.odds)
        times = sample_times(rng, size, length)
        times = times - times[:, :1]
        tau = (
            np.full(size, tau_s)
            if tau_s is not None
            else np.where(rng.random(size) < 0.4, 0, rng.uniform(*TAU_RANGE_S, size))
        )
        speed = rng.uniform(0.8, 1.25, size) if self.augment else np.ones(size)
        reach = (self.motion.length[clip] - 2) / self.motion.fps[clip] - speed * (TAU_RANGE_S[1] - TAU_RANGE_S[0])
        times = times * np.minimum(1.0, reach / (speed * times[:, -1]))[:, None]  # short clips: at a higher rate
        free = reach - speed * times[:, -1]
        begin = free * rng.random(size) - speed * TAU_RANGE_S[0]
        source = begin[:, None] + speed[:, None] * times
        offsets = self._bodies(clip)
        mirror, yaw = rng.random(size) < 0.5 * self.augment, rng.uniform(-np.pi, np.pi, size) * self.augment
        ahead = (speed * tau)[:, None]
        now, then = (self._motion(clip, source + late, mirror, yaw) for late in (0.0, ahead))
        if self.augment:
            other, there, rows = self._other_arms(speed, times)
            for rotations, late in ((now[0], 0.0), (then[0], ahead[rows])):
                arms = self._motion(other, there + late, mirror[rows], yaw[rows])[0]
                rotations[rows] = with_arms_of(rotations[rows], arms)
        shift = rng.normal(0, 2, (size, 1, 3)) * [1.0, 0.2, 1.0] - now[1][:, :1]
        positions = forward_kinematics(now[0], offsets[:, None], (now[1] + shift).astype(np.float32))
        wanted = forward_kinematics(then[0], offsets[:, None], (then[1] + shift).astype(np.float32))
        frames = self._observe(positions, times)
        tensors = [torch.from_numpy(np.ascontiguousarray(x, np.float32)) for x in (wanted, then[0], offsets, then[2])]
        tau_t = torch.from_numpy(tau.astype(np.float32))
        seen = run_front(frames, tau_t)
        own = bone_vectors(tensors[0])
        own[:, :, 0] = tensors[0][:, :, 0] - seen.evidence.anchor_m[:, :, 0, :, 0]
        given = torch.from_numpy(rng.random(size) < 0.3)
        return Batch(seen, torch.from_numpy(times), frames.dt_s.flatten(1), tau_t, given, Target(*tensors), own)

    def _other_arms(self, speed: np.ndarray, times: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Half of the sequences (rows) get the arms of another clip (N,) at source times (N, T): few motions are in
        the data, and arms are free of the rest."""
        rng = self.rng
        clip = rng.choice(len(self.odds), len(speed), p=self.odds)
        reach = (self.motion.length[clip] - 2) / self.motion.fps[clip] - speed * (TAU_RANGE_S[1] - TAU_RANGE_S[0])
        free = reach - speed * times[:, -1]
        rows = np.flatnonzero((free > 0) & (rng.random(len(speed)) < 0.5))
        begin = free * rng.random(len(speed)) - speed * TAU_RANGE_S[0]
        return clip[rows], (begin[:, None] + speed[:, None] * times)[rows], rows

    def _motion(
        self, clip: np.ndarray, source_s: np.ndarray, mirror: np.ndarray, yaw: np.ndarray
    ) -> tuple[np.ndarray, ...]:
        """World rotations (B, T, J, 3, 3), root (B, T, 3) and contact (B, T, 2) at source times (B, T)."""
        m = self.motion
        at = np.clip(source_s * m.fps[clip][:, None], 0, (m.length[clip] - 1.001)[:, None])
        low = at.astype(np.int64)
        part = (at - low).astype(np.float32)
        index = m.start[clip][:, None] + low
        columns = m.world_rot[..., :2]  # two columns say it all: half the memory traffic
        mixed = columns[index] * (1 - part)[..., None, None, None] + columns[index + 1] * part[..., None, None, None]
        root = m.root[index] * (1 - part)[..., None] + m.root[index + 1] * part[..., None]
        contact = m.contact[index].copy()
        flip = np.flatnonzero(mirror)
        sign = _FLIP[:, None] * _FLIP[None, :2]
        mixed[flip] = mixed[flip][:, :, list(MIRROR)] * sign
        root[flip] *= _FLIP
        contact[flip] = contact[flip][..., ::-1]
        c, s, o = np.cos(yaw), np.sin(yaw), np.zeros_like(yaw)
        turn = np.stack([c, o, s, o, o + 1, o, -s, o, c], -1).reshape(-1, 3, 3).astype(np.float32)
        mixed = turn[:, None, None] @ mixed
        root = (turn[:, None] @ root[..., None])[..., 0]
        return frame_from_axes(mixed[..., 0], mixed[..., 1]), root, contact

    def _bodies(self, clip: np.ndarray) -> np.ndarray:
        """(B, J, 3) the clip's skeleton with another size, proportions and torso shape (few bodies are in the data)."""
        offsets, rng, n = self.motion.offsets_m[clip].copy(), self.rng, len(clip)
        if not self.augment:
            return offsets
        bone = np.exp(rng.normal(0, 0.07, (n, J)))
        bone = 0.5 * (bone + bone[:, list(MIRROR)]) * np.exp(rng.normal(0, 0.008, (n, J)))
        offsets *= (bone * np.exp(rng.normal(0, 0.08, (n, 1))))[..., None]
        shape = rng.normal(0, 0.02, (n, J, 3))
        shape = 0.5 * (shape + shape[:, list(MIRROR)] * _FLIP)
        torso = rng.random((n, 1, 1)) < 0.7
        other = _TORSOS[rng.integers(len(_TORSOS), size=n)] * np.exp(rng.normal(0, 0.1, (n, 1, 1)))
        forks = list(FORK_CHILDREN)
        swap = rng.random((n, 1, 1)) < 0.5
        offsets[:, forks] = np.where(swap, other, offsets[:, forks]) + torso * shape[:, forks]
        return regauge(offsets).astype(np.float32)

    def _observe(self, positions: np.ndarray, times: np.ndarray) -> front.Frame:
        """Noise, then what an input layout leaves of it, as the filter's frames."""
        size = len(positions)
        noisy = corrupt(self.rng, positions, times, self.noise)
        odds = list(LAYOUT_ODDS.values())
        layout = self.rng.choice(len(odds), size, p=odds) if self.augment else np.zeros(size, np.int64)
        xyz, mask, conf = noisy.positions.copy(), noisy.mask.astype(np.float32), noisy.confidence.copy()
        derived_all = np.zeros_like(mask)
        for k in range(1, len(odds)):
            rows = np.flatnonzero(layout == k)
            if len(rows):
                matrix, measured, derived = self.derivation[k]
                needs = (np.abs(matrix) > 1e-9).astype(np.float32)
                whole = (mask[rows] @ needs.T) > needs.sum(1) - 0.5
                mask[rows] = whole * (measured | derived)
                xyz[rows] = matrix.astype(np.float32) @ xyz[rows]
                conf[rows] = (conf[rows] @ needs.T) / np.maximum(needs.sum(1), 1)
                derived_all[rows] = derived
        dt = np.diff(times, axis=1, prepend=times[:, :1])
        scalars = [part[:, :, None, None] for part in (mask, conf * mask, derived_all, dt[..., None])]
        parts = ((xyz * mask[..., None]).swapaxes(2, 3)[:, :, None], *scalars)
        return front.Frame(*(torch.from_numpy(np.ascontiguousarray(p, np.float32)) for p in parts))


def with_arms_of(world_rot: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(B, T, J, 3, 3) world rotations with the arms of others, as they hang on the other's chest."""
    out = world_rot.copy()
    chest = INDEX["spine3"]
    turn = world_rot[:, :, chest] @ np.swapaxes(other[:, :, chest], -1, -2)
    out[:, :, _ARMS] = turn[:, :, None] @ other[:, :, _ARMS]
    return out


def regauge(offsets_m: np.ndarray) -> np.ndarray:
    """Turn the children of pelvis and spine3 so that their frame is the canonical one (see kinematics.fork_frames)."""
    turn = fork_frames(rest_offsets()) @ np.swapaxes(fork_frames(offsets_m.astype(np.float64)), -1, -2)
    out = offsets_m.copy()
    for c in FORK_CHILDREN:
        out[..., c, :] = (turn[..., FORKS.index(PARENTS[c]), :, :] @ offsets_m[..., c, :, None])[..., 0]
    return out


# Torsos of other rigs (hips, spine1; neck, collars) [m]: SMPL's mean body, and a game rig with level hips.
_TORSOS = np.array([
    [(0.059, -0.082, -0.018), (-0.059, -0.082, -0.018), (0.004, 0.124, -0.038),
     (-0.002, 0.215, -0.045), (0.071, 0.114, -0.019), (-0.071, 0.114, -0.019)],
    [(0.105, -0.010, 0.010), (-0.105, -0.010, 0.010), (0.0, 0.069, -0.026),
     (0.0, 0.258, 0.0), (0.060, 0.197, -0.010), (-0.060, 0.197, -0.010)],
])  # fmt: skip


class Stream(torch.utils.data.IterableDataset[Batch]):
    """Batches for ever, for a DataLoader with one worker and batch_size=None."""

    def __init__(self, path: Path, size: int, length: int, seed: int, leave_out: tuple[str, ...]) -> None:
        self.path, self.size, self.length, self.seed, self.leave_out = path, size, length, seed, leave_out

    def __iter__(self) -> Iterator[Batch]:
        torch.set_num_threads(1)
        sampler = Sampler(Motion.from_clips(training_clips(self.path, self.leave_out)), self.seed)
        while True:
            yield sampler.batch(self.size, self.length)
            yield sampler.batch(max(1, self.size // 2), 2 * self.length)


def training_clips(path: Path, leave_out: tuple[str, ...]) -> list[PackedClip]:
    return [c for c in load_packed(path) if c.subject not in leave_out]


def validation_clips(path: Path, only: tuple[str, ...]) -> list[PackedClip]:
    return [c for c in load_packed(path) if c.subject in only]
