"""What a recording holds of one actor: poses as an animation at an even rate, or each message as it came.

A recording is read twice and never held whole: an hour of it is more than a gigabyte of poses.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from model.prepare import MOST_FRAMES, Animation, frames_at, sampled, usual_fps
from streamer.clock import SECOND_NS
from streamer.errors import ConfigError, ProtocolError
from streamer.frames import Array, Frame, Pose
from streamer.sinks.recording import read_messages
from streamer.wire.protocol import decode, topic

Kind = Literal["poses", "frames"]
_GAP_S = 0.2  # without a pose, above which it is said that a file goes straight on
_UNIT = 0.01  # by which a quaternion's length may differ from 1: one that is none is off by more
_FARTHEST_M = 1e6  # a pelvis; beyond, a place is none


@dataclass
class Faults:
    """What of a recording was left out, and why."""

    bad: int = 0
    truncated: bool = False
    unusable: int = 0

    def __str__(self) -> str:
        said = [f"{self.bad} messages do not decode, and are left out"] if self.bad else []
        said += [f"{self.unusable} poses are not finite, and are left out"] if self.unusable else []
        said += ["the recording is cut off in the middle of a message"] if self.truncated else []
        return "; ".join(said)


def actors_in(path: Path, kind: Kind) -> dict[str, int]:
    """How many poses, or frames, there are of each actor, in the order they appear."""
    start, counts = kind[:-1].encode() + b".", Counter[bytes]()
    for item in read_messages(path):
        if item is not None and item[1].startswith(start):
            counts[item[1][len(start) : len(start) + 100].partition(b"\0")[0]] += 1
    return {name.decode("utf-8", "replace"): n for name, n in counts.items()}


def messages_of(path: Path, kind: Kind, actor: str, faults: Faults) -> Iterator[Pose | Frame]:
    """An actor's poses, or frames, in the order they came."""
    start = topic(kind[:-1], actor)
    for item in read_messages(path):
        if item is None:
            faults.truncated = True
        elif item[1].startswith(start):
            try:
                message = decode(item[1])
            except ProtocolError:
                faults.bad += 1
                continue
            if isinstance(message, (Pose, Frame)):
                yield message


@dataclass
class _Take:
    """An actor's poses as they came: times, turns and roots; the bones of the last."""

    t_ns: list[int] = field(default_factory=list)
    local: list[Array] = field(default_factory=list)
    root: list[Array] = field(default_factory=list)
    offsets_m: Array | None = None
    changes: int = 0  # of the bones

    def add(self, pose: Pose) -> bool:
        """Take in a pose; False where its numbers are none."""
        lengths = np.linalg.norm(pose.rotations, axis=-1)
        fine = (np.abs(lengths - 1.0) < _UNIT).all() and (np.abs(pose.root) < _FARTHEST_M).all()
        if not fine or not np.isfinite(pose.offsets_m).all():
            return False
        self.changes += self.offsets_m is not None and not np.array_equal(self.offsets_m, pose.offsets_m)
        self.offsets_m = pose.offsets_m
        self.t_ns.append(pose.t_ns)
        self.local.append(pose.rotations)
        self.root.append(pose.root)
        return True


def animation_in(path: Path, actor: str, fps: float | None) -> tuple[Animation, list[str]]:
    """An actor's poses at an even rate on the last of its skeletons, and what is to be said of that.

    Args:
        fps: None: the usual rate next to the median one.
    Raises:
        ConfigError: no pose can be used, or the times reach further than a file can hold.
    """
    take, faults = _Take(), Faults()
    for pose in messages_of(path, "poses", actor, faults):
        assert isinstance(pose, Pose)
        faults.unusable += not take.add(pose)
    if take.offsets_m is None:
        raise ConfigError(f"{path}: no pose of actor {actor} can be used: {faults}")
    keep, times_s, notes = in_order(np.array(take.t_ns, np.int64))
    rate = usual_fps(times_s) if fps is None else fps
    if (count := frames_at(times_s, rate)) > MOST_FRAMES:
        raise ConfigError(
            f"{path}: the times of actor {actor} reach over {times_s[-1]:.0f} s, {count} frames at {rate:g} fps, and "
            f"{MOST_FRAMES} are the most; give a lower --fps, or write .jsonl, which keeps every time as it is"
        )
    local = np.array(take.local, np.float64)[keep]
    local /= np.linalg.norm(local, axis=-1, keepdims=True)
    root, bones = np.array(take.root, np.float64)[keep], take.offsets_m.astype(np.float64)
    animation = sampled(path.stem, times_s, local, root, bones, rate, take.t_ns[int(keep[0])])
    if len(times_s) > 1:
        notes.insert(0, f"from {len(times_s)} poses at {1.0 / float(np.median(np.diff(times_s))):.2f} Hz")
    if take.changes:
        notes.append(f"the bones changed {take.changes} times; the last are used throughout")
    return animation, notes + ([str(faults)] if str(faults) else [])


def in_order(t_ns: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float64], list[str]]:
    """Which poses to keep, growing times from 0 [s] for them, and what is to be said of that.

    Of poses for the same time the last counts. Where the clock goes back (the source was started anew) what comes
    after follows on what was before.
    """
    steps = np.diff(t_ns)
    keep = np.flatnonzero(np.concatenate([steps != 0, [True]]))
    steps = np.diff(t_ns[keep])
    ahead = steps[steps > 0]
    usual = int(np.median(ahead)) if len(ahead) else SECOND_NS // 60
    back = steps < 0
    times_s = np.concatenate([[0], np.cumsum(np.where(back, usual, steps))]) / SECOND_NS
    gaps = np.diff(times_s)[np.diff(times_s) > max(_GAP_S, 3.0 * usual / SECOND_NS)]
    notes = []
    if back.any():
        notes.append(f"the clock went back {int(back.sum())} times; what came after follows on what was before")
    if len(gaps):
        notes.append(f"{len(gaps)} gaps, the longest {gaps.max():.2f} s, are crossed on the shortest way")
    return keep, times_s, notes
