"""Endless training batches: clips -> augmented motion at random rates -> noise -> layout -> front.

Everything without weights happens here, in a worker process: the trainer only sees what the network needs.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
from cyclopts import Parameter
from torch import Tensor

from model.kinematics import bone_vectors, fork_frames
from model.motion.endless import WILD, Motion, MotionSampler, Moving
from model.network import front
from model.network.causal import Seen, run_front
from model.network.head import TAU_RANGE_S
from model.noise.config import REALISTIC, SOURCES, STAGE, NoiseConfig
from model.noise.corruption import corrupt, sample_times
from model.noise.definitions import KINDS, ODDS, Defined, define, mean_bones, moved_by, put
from model.noise.fixed import make_noise
from model.skeleton import CHILDREN, FORKS, rest_directions, rest_offsets
from model.training import pairs
from model.training.derivation import LayoutOfTruth
from model.training.held_out import RENDERED_HELD_OUT, training_clips
from model.training.losses import Target

OWN = 0.4  # share of sources whose joints are our own, in layouts by LAYOUT_ODDS; the rest define theirs
STRANGE = 0.9  # share of motions that are strange, before several cameras
LAYOUT_ODDS = {"smpl_24": 0.66, "smpl_22": 0.06, "h36m_17": 0.08, "coco_17": 0.07, "mediapipe_33": 0.13}


def _must_be_there(_: Any, path: Path) -> None:
    if not path.is_file():
        raise ValueError(f"{path}: no such file; `hpstm prepare` writes it")


Packed = Annotated[Path, Parameter(validator=_must_be_there, help="train.npz, from `hpstm prepare`.")]  # of a command


class Mix(NamedTuple):
    """Shares of batches, those of drawn noise of what paired and lent leave; the rest is of what sources really do
    (config.SOURCES)."""

    staged: float  # several cameras
    published: float  # NoiseConfig's own odds: an estimator's errors at their published size
    realistic: float  # the same, every sequence, with gaps
    paired: float  # a real estimator: more of its few motions would be learned by heart
    lent: float  # the errors of a real estimator on other motions
    defined: bool = True  # what a real estimator is always off by is its definition, and no error
    wild: float = WILD  # share of motions that are strange, but before several cameras
    turned: float = 0.0  # suits whose rigid bones tremble


# How far to trust filters hangs on how people move and what the noise is, not on whom one knows.
FOR_TRUST = Mix(staged=0.3, published=0.05, realistic=0.05, paired=0.0, lent=0.12, wild=0.4, turned=0.08)
FOR_POSES = Mix(staged=0.2, published=0.05, realistic=0.0, paired=0.06, lent=0.0)
# Whoever is unsure is an estimator, mostly; and of what it is always off by, its covariance is to know.
FOR_COVARIANCES = Mix(staged=0.5, published=0.0, realistic=0.35, paired=0.15, lent=0.03, defined=False)


class Drawn(NamedTuple):
    """A batch of what sources send, and of the truth."""

    frames: front.Frame  # (B, T, ...) each
    times_s: Tensor  # (B, T) float64
    tau_s: Tensor  # (B,)
    given: Tensor  # (B,) True: the actor's skeleton is given, not calibrated
    target: Target


class Batch(NamedTuple):
    """The same with the front run over it: what the network needs."""

    seen: Seen
    times_s: Tensor  # (B, T) float64
    dt_s: Tensor  # (B, T)
    tau_s: Tensor  # (B,)
    given: Tensor  # (B,) True: the actor's skeleton is given, not calibrated
    target: Target
    own_target_m: Tensor  # (B, T, J, 3) true bones, entry 0 the root from the anchor

    @classmethod
    def of(cls, drawn: Drawn) -> Batch:
        """On the device where the parts of ``drawn`` lie."""
        seen = run_front(drawn.frames, drawn.tau_s)
        joints = drawn.target.positions.transpose(2, 3)
        own = front.bones_of(joints).transpose(2, 3).contiguous()
        own[:, :, 0] = drawn.target.positions[:, :, 0] - seen.evidence.anchor_m[:, :, 0, :, 0]
        return cls(seen, drawn.times_s, seen.dt_s, drawn.tau_s, drawn.given, drawn.target, own)


def moved(parts: Any, device: torch.device) -> Any:
    """Tensors, and tuples of them, on a device."""
    if isinstance(parts, Tensor):
        return parts.to(device)
    return type(parts)(*(moved(part, device) for part in parts))


class Sampler:
    """Draws augmented, corrupted sequences; the same seed gives the same batches."""

    def __init__(
        self, motion: Motion, seed: int, noise: NoiseConfig | str | None = None, augment: bool = True,
        kind: str = "own", mix: Mix = FOR_POSES,
    ) -> None:  # fmt: skip
        """``noise``: its odds and sizes (None: what sources really do), or the name of a test noise. Without
        ``augment`` every source has the joints of one ``kind``: our own, all of them, or another of KINDS."""
        self.noise, self.augment, self.kind, self.mix = noise, augment, kind, mix
        self.rng = np.random.default_rng(seed)
        self.motion = motion
        self.motions = MotionSampler(motion, self.rng, augment)
        self.layouts = {name: LayoutOfTruth.of(name) for name in LAYOUT_ODDS}

    def batch(self, size: int, length: int, tau_s: float | None = None, fps: float | None = None) -> Batch:
        """``draw`` with the front run over it."""
        return Batch.of(self.draw(size, length, tau_s, fps))

    def draw(self, size: int, length: int, tau_s: float | None = None, fps: float | None = None) -> Drawn:
        """One batch of ``size`` sequences of ``length`` frames, each asked for its own tau (or the one given), at its
        own rate (or evenly at ``fps``)."""
        rng = self.rng
        if fps is None:
            times, motions = sample_times(rng, size, length), self.motions
        else:
            times = np.tile(np.arange(length) / fps, (size, 1))
            motions = MotionSampler(self.motion, rng, self.augment, times[0, -1])
        tau = (
            np.full(size, tau_s)
            if tau_s is not None
            else np.where(rng.random(size) < 0.4, 0, rng.uniform(*TAU_RANGE_S, size))
        )
        noise, wild = self._kind()
        times, now, then, offsets = motions.draw(times - times[:, :1], tau, wild)
        return self.observed(now, times, tau, then, offsets, noise)

    def _kind(self) -> tuple[NoiseConfig | str, float]:
        """The noise of a batch, and the share of its motions that nobody in the data makes."""
        if self.noise is not None:
            return self.noise, WILD
        which, mix = self.rng.random(), self.mix
        if which < mix.staged:
            return STAGE, STRANGE
        which -= mix.staged
        for share, noise in ((mix.published, NoiseConfig()), (mix.turned, "turns"), (mix.realistic, REALISTIC)):
            if which < share:
                return noise, mix.wild
            which -= share
        return SOURCES, mix.wild

    def observed(
        self, now: Moving, times: np.ndarray, tau: np.ndarray, then: Moving, offsets: np.ndarray,
        noise: NoiseConfig | str,
    ) -> Drawn:  # fmt: skip
        """A batch of motions at times (B, T): what sources of some layout and definition see of them, and the truth
        then as they define it: a constant difference from our joints is no error."""
        kinds, layouts = self._sources(len(tau))
        ways = [self.layouts[name] for name in layouts]
        source = define(self.rng, now.positions(offsets), now.world_rot, kinds)
        frames = self._observe(source, times, ways, noise)
        defined = put(then.positions(offsets), then.world_rot, source.offsets_m)
        wanted = np.stack([way.told @ joints for way, joints in zip(ways, defined)])
        world_rot, skeleton = gauged(wanted, then.world_rot)
        if not self.augment and self.kind == "own":
            world_rot, skeleton = then.world_rot, offsets
        return self._drawn(frames, times, tau, target_of(wanted, world_rot, skeleton, then.contact))

    def _sources(self, size: int) -> tuple[list[str], list[str]]:
        """A definition and a layout for each of ``size`` sources."""
        rng = self.rng
        if not self.augment:
            return [self.kind] * size, [KINDS[self.kind].layout] * size
        kinds = rng.choice(list(ODDS), size, p=list(ODDS.values())).tolist()
        layouts = rng.choice(list(LAYOUT_ODDS), size, p=list(LAYOUT_ODDS.values())).tolist()
        kinds = ["own" if own else kind for own, kind in zip(rng.random(size) < OWN, kinds)]
        return kinds, [of if kind == "own" else KINDS[kind].layout for of, kind in zip(layouts, kinds)]

    def lent(self, takes: Sequence[pairs.PairTake], size: int, length: int) -> Drawn:
        """A batch of other motions, seen by a source that errs as a real estimator did: few motions have a truth, and
        those are learned by heart."""
        tau = np.where(self.rng.random(size) < 0.4, 0, self.rng.uniform(*TAU_RANGE_S, size))
        drawn = pairs.cut(self.rng, takes, size, length, tau)
        times, now, then, offsets = self.motions.draw(drawn.times_s, tau)
        source = define(self.rng, now.positions(offsets), now.world_rot)
        known = np.isfinite(drawn.error).all(-1)
        error = np.where(known[..., None], drawn.error, 0.0)
        noisy = source.positions + moved_by(error, now.world_rot)
        present, derived = drawn.present & known, drawn.derived & known
        dt = np.diff(times, axis=1, prepend=times[:, :1])
        frames = as_frames(noisy, present, drawn.confidence * known, derived, dt)
        wanted = put(then.positions(offsets), then.world_rot, source.offsets_m)
        world_rot, skeleton = gauged(wanted, then.world_rot)
        return self._drawn(frames, times, tau, target_of(wanted, world_rot, skeleton, then.contact))

    def pairs(self, takes: Sequence[pairs.PairTake], size: int, length: int) -> Drawn:
        """A batch of what a real estimator said."""
        tau = np.where(self.rng.random(size) < 0.4, 0, self.rng.uniform(*TAU_RANGE_S, size))
        drawn = pairs.cut(self.rng, takes, size, length, tau)
        dt = np.diff(drawn.times_s, axis=1, prepend=drawn.times_s[:, :1])
        frames = as_frames(drawn.noisy, drawn.present, drawn.confidence, drawn.derived, dt)
        truth, world_rot = drawn.truth.astype(np.float32), np.full_like(drawn.world_rot, np.nan)
        skeleton = np.full((size, *truth.shape[2:]), np.nan)
        whole = np.isfinite(truth).all((1, 2, 3)) & np.isfinite(drawn.world_rot).all((1, 2, 3, 4))
        if whole.any():
            world_rot[whole], skeleton[whole] = gauged(truth[whole], drawn.world_rot[whole])
        unknown = np.full((size, length, 2), np.nan)  # nobody's floor is in it
        return self._drawn(frames, drawn.times_s, tau, target_of(truth, world_rot, skeleton, unknown))

    def _drawn(self, frames: front.Frame, times: np.ndarray, tau: np.ndarray, target: Target) -> Drawn:
        given = torch.from_numpy(self.rng.random(len(tau)) < 0.3) & target.offsets_m.isfinite().all(-1).all(-1)
        return Drawn(frames, torch.from_numpy(times), torch.from_numpy(tau.astype(np.float32)), given, target)

    def _observe(
        self, source: Defined, times: np.ndarray, ways: Sequence[LayoutOfTruth], noise: NoiseConfig | str
    ) -> front.Frame:
        """Noise, then what the source and its layout leave of it, as the filter's frames."""
        if isinstance(noise, str):
            noisy = make_noise(noise, self.rng, source.positions, times)
        else:
            noisy = corrupt(self.rng, source.positions, times, noise)
        seen = noisy.mask & source.given[:, None]
        parts = [way.of_source(*row) for way, *row in zip(ways, noisy.positions, seen, noisy.confidence)]
        xyz, mask, conf, derived = (np.stack(part) for part in zip(*parts))
        return as_frames(xyz, mask, conf, derived, np.diff(times, axis=1, prepend=times[:, :1]))


def as_frames(
    xyz: np.ndarray, present: np.ndarray, confidence: np.ndarray, derived: np.ndarray, dt_s: np.ndarray
) -> front.Frame:
    """The filter's frames of joints (B, T, J, 3) [m], of (B, T, J) of each, and of steps (B, T) [s]."""
    scalars = [part[:, :, None, None] for part in (present, confidence, derived, dt_s[..., None])]
    parts = ((xyz * present[..., None]).swapaxes(2, 3)[:, :, None], *scalars)
    return front.Frame(*(torch.from_numpy(np.ascontiguousarray(p, np.float32)) for p in parts))


def target_of(positions: np.ndarray, world_rot: np.ndarray, skeleton: np.ndarray, contact: np.ndarray) -> Target:
    parts = (positions, world_rot, skeleton, contact)
    return Target(*(torch.from_numpy(np.ascontiguousarray(x, np.float32)) for x in parts))


def gauged(positions: np.ndarray, world_rot: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rotations (B, T, J, 3, 3) and the skeleton (B, J, 3) that fit joints (B, T, J, 3) best, as the filter measures
    skeletons: lengths along our rest directions, the children of forks in their fork's own frame."""
    mean = mean_bones(positions, world_rot).astype(np.float64)
    length = np.linalg.norm(bone_vectors(positions), axis=-1).mean(1)
    skeleton = rest_directions() * length[..., None]
    rest = np.broadcast_to(rest_offsets(), mean.shape)
    turn = fork_frames(rest, mean) @ np.swapaxes(fork_frames(mean, mean), -1, -2)  # (B, 2, 3, 3)
    out = world_rot.copy()
    for f, fork in enumerate(FORKS):
        for child in CHILDREN[fork]:
            skeleton[:, child] = (turn[:, f] @ mean[:, child, :, None])[..., 0]
        out[:, :, fork] = world_rot[:, :, fork] @ np.swapaxes(turn[:, f], -1, -2)[:, None]
    return out.astype(np.float32), skeleton.astype(np.float32)


class Stream(torch.utils.data.IterableDataset[Drawn | Batch]):
    """Batches for ever, for a DataLoader with one worker and batch_size=None."""

    def __init__(
        self, path: Path, size: int, length: int, seed: int, leave_out: tuple[str, ...], pairs: Sequence[Path] = (),
        finished: bool = True, mix: Mix = FOR_POSES,
    ) -> None:  # fmt: skip
        """``pairs``: recordings of a real estimator with truth, for a share of the batches. Not ``finished``: the front
        is left to who takes the batches."""
        self.path, self.size, self.length, self.seed, self.leave_out = path, size, length, seed, leave_out
        self.pairs, self.finished, self.mix = pairs, finished, mix

    def __iter__(self) -> Iterator[Drawn | Batch]:
        torch.set_num_threads(1)
        for drawn in self._draw():
            yield Batch.of(drawn) if self.finished else drawn

    def _draw(self) -> Iterator[Drawn]:
        motion = Motion.from_clips(training_clips(self.path, self.leave_out))
        sampler, mix = Sampler(motion, self.seed, mix=self.mix), self.mix
        takes = pairs.read_takes(self.pairs, RENDERED_HELD_OUT, mix.defined)
        for n in itertools.count():
            real = sampler.rng.random() if takes else 1.0
            if real < mix.paired:
                yield sampler.pairs(takes, self.size, self.length)
            elif real < mix.paired + mix.lent:
                yield sampler.lent(takes, self.size, self.length)
            elif n % 2:
                yield sampler.draw(max(1, self.size // 2), 2 * self.length)
            else:
                yield sampler.draw(self.size, self.length)
