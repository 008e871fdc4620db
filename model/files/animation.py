"""A motion as files of animation hold it: turns of the joints of one skeleton at an even rate, and its root."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from model.files.quaternions import (
    between,
    continuous,
    local_from_world,
    matrices,
    quaternions,
    world_from_local,
)
from model.files.retarget import Clip
from model.files.source import MAX_CELLS, MAX_FRAMES
from model.files.tree import Floats
from model.kinematics import forward_kinematics
from model.skeleton import J

# A rate that is none of these is taken to the next above, so that nothing of the motion is lost.
USUAL_FPS = (15.0, 20.0, 24.0, 25.0, 30.0, 48.0, 50.0, 60.0, 72.0, 75.0, 90.0, 100.0, 120.0, 144.0, 200.0, 240.0)
_NEAR = 0.95  # of a rate: measured rates are a little off, and 29.97 is meant as 30
MOST_FRAMES = min(MAX_FRAMES, MAX_CELLS // J)  # what our own readers take
_CHUNK = 4096


@dataclass(frozen=True)
class Animation:
    """Turns and root of a person at an even rate, on the canonical skeleton in its rest pose (a T-pose facing +Z).

    Attributes:
        name: of the take. fps: frames per second.
        local: (T, 24, 4) quaternions xyzw, parent_from_joint relative to the rest pose, the root's world_from_joint;
            unit length, their signs continuous.
        root: (T, 3) pelvis in the world [m], Y up.
        offsets_m: (24, 3) rest-pose vector from the parent to each joint [m]; the root's is zero.
        start_ns: time of the first frame on the source's clock [ns].
    """

    name: str
    fps: float
    local: Floats
    root: Floats
    offsets_m: Floats
    start_ns: int = 0

    def __len__(self) -> int:
        return len(self.root)

    @property
    def times_s(self) -> Floats:
        """(T,) time of each frame from the first [s]."""
        return np.arange(len(self)) / self.fps

    def positions(self) -> Iterator[Floats]:
        """(24, 3) joint positions [m] of one frame after the other."""
        for at in range(0, len(self), _CHUNK):
            part = slice(at, at + _CHUNK)
            world = world_from_local(matrices(self.local[part]))
            yield from forward_kinematics(world, self.offsets_m, self.root[part])


def animation_of(clip: Clip) -> Animation | None:
    """The animation of a clip; None where it has no rotations."""
    if clip.world_rotations is None:
        return None
    local = continuous(quaternions(local_from_world(clip.world_rotations.astype(np.float64))))
    root, offsets = clip.positions[:, 0].astype(np.float64), clip.offsets_m.astype(np.float64)
    return Animation(clip.name, clip.fps, local, root, offsets)


def usual_fps(times_s: Floats) -> float:
    """The usual frame rate nearest above the median rate of ``times_s`` (T,) [s], or at most 5 % below it."""
    steps = np.diff(times_s)
    rate = 1.0 / float(np.median(steps)) if len(steps) else USUAL_FPS[0]
    return next((fps for fps in USUAL_FPS if fps >= _NEAR * rate), float(round(rate)))


def frames_at(times_s: Floats, fps: float) -> int:
    """How many frames ``times_s`` (T,) [s] are at an even rate; before ``sampled``, for it may be very many."""
    return int((times_s[-1] - times_s[0]) * fps + 1e-6) + 1


def sampled(
    name: str, times_s: Floats, local: Floats, root: Floats, offsets_m: Floats, fps: float, start_ns: int = 0
) -> Animation:
    """The animation at an even rate of turns and roots at true times: slerp and lerp between the two beside a frame.

    Args:
        times_s: (T,) growing [s], T at least 1. local: (T, 24, 4) unit quaternions xyzw. root: (T, 3) [m].
        start_ns: of the first of ``times_s``, kept.
    """
    wanted = times_s[0] + np.arange(frames_at(times_s, fps)) / fps
    after = np.clip(np.searchsorted(times_s, wanted, side="right"), 1, max(1, len(times_s) - 1))
    before = after - 1
    after = np.minimum(after, len(times_s) - 1)
    step = times_s[after] - times_s[before]
    share = np.clip((wanted - times_s[before]) / np.where(step > 0.0, step, 1.0), 0.0, 1.0)
    turns = between(local[before], local[after], np.broadcast_to(share[:, None], (len(share), J)))
    places = root[before] + share[:, None] * (root[after] - root[before])
    return Animation(name, fps, continuous(turns), places, offsets_m, start_ns)


def resampled(animation: Animation, fps: float) -> Animation:
    """The same at another rate."""
    if fps == animation.fps:
        return animation
    return sampled(
        animation.name, animation.times_s, animation.local, animation.root, animation.offsets_m, fps, animation.start_ns
    )
