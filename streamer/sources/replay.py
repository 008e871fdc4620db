"""Frames from files: MediaPipe npz, motion clips (BVH, AMC, AMASS npz), named joints (TRC, csv), our own recordings.

A Take is what one file holds, its times counted from 0; streamer.replay plays it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from model.kinematics import quaternions_of
from model.prepare import Arrays, Clip, ClipError, NamedJoints, is_named_joints, read_clip, read_named
from streamer.clock import SECOND_NS
from streamer.errors import ConfigError
from streamer.frames import Array, Frame
from streamer.sinks.recording import is_recording, read_recording

DEFAULT_ACTOR = "actor"
_LONGEST_S = 1e9  # beyond, a time is no time in seconds
_FARTHEST_M = 1e6  # and a place none in metres


@dataclass(slots=True)
class Take:
    """The frames of one file in time order, ``t_ns`` from 0; ``fps`` is the median rate of one actor."""

    name: str
    frames: list[Frame]
    fps: float

    def first(self, seconds: float) -> Take:
        """The part before ``seconds``."""
        return replace(self, frames=[f for f in self.frames if f.t_ns < seconds * SECOND_NS])

    def noisy(self, noise_m: float, seed: int = 0) -> Take:
        """With a normal error of ``noise_m`` [m] on each coordinate; the same seed, the same noise."""
        if not noise_m:
            return self
        rng = np.random.default_rng(seed)
        errors = [(noise_m * rng.standard_normal(f.positions.shape)).astype(np.float32) for f in self.frames]
        return replace(self, frames=[replace(f, positions=f.positions + e) for f, e in zip(self.frames, errors)])


def read_take(
    path: str | Path, actor: str | None = None, fps: float | None = None, unit_m: float | None = None,
    up: str | None = None,
) -> Take:  # fmt: skip
    """The frames in ``path``.

    Args:
        path: .npz (MediaPipe: world_m, visibility, time_s; or AMASS), .bvh, .amc, .trc or .csv (each also .gz), or a
            recording.
        actor: name to give the actor; None: "actor", or as recorded.
        fps, unit_m, up: true frame rate, metres per unit and upward axis of a motion file; None: as it says.
    Raises:
        ConfigError: the file is missing, of no known format, or empty.
    """
    path = Path(path)
    if not path.is_file():
        raise ConfigError(f"{path}: no such file")
    if is_recording(path):
        frames = _recorded(path, actor)
    elif is_landmarks(path):
        frames = _mediapipe(path, actor or DEFAULT_ACTOR)
    else:
        frames = _motion(path, actor or DEFAULT_ACTOR, fps, unit_m, up)
    if not frames:
        raise ConfigError(f"{path}: no frames in it")
    return Take(path.name, frames, median_fps(frames))


def median_fps(frames: list[Frame]) -> float:
    """Frames per second of the first frame's actor, from the median step; 0 when there is only one."""
    t_ns = np.array([f.t_ns for f in frames if f.actor == frames[0].actor], dtype=np.int64)
    steps = np.diff(t_ns)
    steps = steps[steps > 0]
    return float(SECOND_NS / np.median(steps)) if steps.size else 0.0


def _recorded(path: Path, actor: str | None) -> list[Frame]:
    frames = read_recording(path).frames
    if not frames:
        raise ConfigError(f"{path}: a recording of poses only; record with --frames to replay it")
    origin = min(frame.t_ns for frame in frames)
    # In the order they came, not sorted: what arrived late then arrives late again.
    return [replace(f, t_ns=f.t_ns - origin, actor=actor or f.actor, received_ns=0) for f in frames]


def is_landmarks(path: Path) -> bool:
    """Whether a file is an ``.npz`` of MediaPipe's world landmarks."""
    if path.suffix.lower() != ".npz":
        return False
    try:
        with Arrays(path) as data:
            return "world_m" in data
    except ClipError as error:
        raise ConfigError(str(error)) from error


def _mediapipe(path: Path, actor: str) -> list[Frame]:
    try:
        with Arrays(path) as data:
            missing = [key for key in ("world_m", "visibility", "time_s") if key not in data]
            if missing:
                raise ConfigError(f"{path}: a MediaPipe npz without {', '.join(missing)}")
            world_m, visibility, time_s = data["world_m"], data["visibility"], data["time_s"]
    except ClipError as error:
        raise ConfigError(str(error)) from error
    if world_m.shape[1:] != (33, 3) or visibility.shape != world_m.shape[:2] or time_s.shape != world_m.shape[:1]:
        raise ConfigError(f"{path}: expected world_m (T, 33, 3), visibility (T, 33), time_s (T,)")
    numeric = all(array.dtype.kind in "fiu" for array in (world_m, visibility, time_s))
    if (
        not numeric
        or not (np.abs(time_s) < _LONGEST_S).all()
        or any((np.abs(array.astype(np.float64)) > _FARTHEST_M).any() for array in (world_m, visibility))
    ):
        raise ConfigError(f"{path}: world_m, visibility and time_s should be numbers, in metres and seconds")
    positions = canonical_axes(world_m)
    t_ns = np.round((time_s - time_s[:1]) * SECOND_NS).astype(np.int64)
    return [
        Frame(actor, n, int(t_ns[n]), positions[n], visibility[n].astype(np.float32), "mediapipe_33")
        for n in range(len(positions))
    ]


def canonical_axes(world_m: Array) -> Array:
    """MediaPipe world landmarks (x image-right, y down, z away from the camera) as ours: Y up, right-handed [m]."""
    canonical: Array = (world_m * np.array([1.0, -1.0, -1.0])).astype(np.float32)
    return canonical


def _motion(path: Path, actor: str, fps: float | None, unit_m: float | None, up: str | None) -> list[Frame]:
    try:
        if is_named_joints(path):
            return frames_of_joints(read_named(path, fps, unit_m, up), actor)
        return frames_of_clip(read_clip(path, fps, unit_m, up), actor)
    except ClipError as error:
        raise ConfigError(str(error)) from error


def frames_of_clip(clip: Clip, actor: str) -> list[Frame]:
    """A clip's joints, and its rotations where it has them."""
    positions = np.asarray(clip.positions, dtype=np.float32)
    frames = [Frame(actor, n, round(n * SECOND_NS / clip.fps), xyz) for n, xyz in enumerate(positions)]
    if clip.world_rotations is not None:
        rotations = quaternions_of(clip.world_rotations).astype(np.float32)
        frames = [replace(frame, rotations=own) for frame, own in zip(frames, rotations, strict=True)]
    return frames


def frames_of_joints(joints: NamedJoints, actor: str) -> list[Frame]:
    """Named joints, on the layout that their names are of."""
    positions, trust = joints.positions.astype(np.float32), joints.confidence
    t_ns = np.round(joints.times_s * SECOND_NS).astype(np.int64).tolist()
    own = [None] * len(t_ns) if trust is None else list(trust.astype(np.float32))
    return [Frame(actor, n, t, xyz, own[n], joints.layout) for n, (t, xyz) in enumerate(zip(t_ns, positions))]
