"""What a file holds for the filter: each actor's frames in order, the bones if the file has them, and what is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from model.layouts import get_layout
from model.prepare import (
    MOST_FRAMES,
    ClipError,
    frames_at,
    is_named_joints,
    read_file,
    read_named,
    usual_fps,
)
from model.skeleton import J
from streamer.clock import SECOND_NS
from streamer.errors import ConfigError
from streamer.frames import Array, Frame
from streamer.sinks.recording import is_recording, read_recording
from streamer.sinks.takes import in_order
from streamer.sources.replay import frames_of_clip, frames_of_joints, is_landmarks, read_take

ACTOR = "actor"  # of a file that names nobody
_LATE_NS = SECOND_NS  # a frame that comes this late was late; later, its source was started anew
_ROUNDED_S = 0.51e-3  # by which a time that is written to a millisecond is off
_EVEN = 0.25  # of a frame, by which times may lie beside an even rate


@dataclass(frozen=True)
class Stream:
    """One actor's frames in growing time, and the even rate they are to be answered at.

    Attributes:
        actor: as named in the file, "" where it names nobody.
        fps, count: of the answer, which begins at the first frame.
        offsets_m: (24, 3) the bones that the file gives the actor [m], None: they are to be measured.
    """

    actor: str
    frames: list[Frame]
    fps: float
    count: int
    offsets_m: Array | None = None


@dataclass(frozen=True)
class Source:
    """What was read of a file: its kind and what of it was mapped, in words; the actors; what had to be decided."""

    kind: str
    mapped: str
    streams: list[Stream]
    notes: tuple[str, ...] = ()


def read_source(
    path: Path, fps: float | None = None, unit_m: float | None = None, up: str | None = None
) -> Source:  # fmt: skip
    """Every actor of a file, of any kind that is read here.

    Args:
        fps: of the answer [Hz]; None: that of the file, or the usual one next to it where its times are uneven.
        unit_m, up: as of ``read_clip``.
    Raises:
        ConfigError: the file cannot be read, or holds nobody; one line that names it.
    """
    try:
        if not path.is_file():
            raise ConfigError(f"{path}: no such file")
        if is_recording(path):
            return _recording(path, fps)
        if is_landmarks(path):
            frames = read_take(path).frames
            return Source("MediaPipe landmarks", _mapped(frames), [_timed(path, "", frames, fps)])
        if is_named_joints(path):
            joints = read_named(path, unit_m=unit_m, up=up)
            frames = frames_of_joints(joints, ACTOR)
            mapped = f"{len(joints.used)} of {len(joints.used) + len(joints.unused)} names are {joints.layout}'s"
            return Source(joints.kind, mapped, [_timed(path, "", frames, fps)], joints.notes)
        reading = read_file(path, unit_m=unit_m, up=up)
    except (ClipError, OSError) as error:
        raise ConfigError(str(error) if isinstance(error, ClipError) else f"{path}: {error.strerror}") from error
    clip, nodes = reading.clip, len(reading.nodes)
    seconds = (len(clip) - 1) / clip.fps
    rate, count = (clip.fps, len(clip)) if fps is None else (fps, int(seconds * fps + 1e-6) + 1)
    bones = None if clip.world_rotations is None else clip.offsets_m
    mapped = f"{nodes} of {J} joints are driven by {len(reading.joints)} of the file" if nodes else f"{J} joints"
    stream = Stream("", frames_of_clip(clip, ACTOR), rate, _checked(path, count, rate), bones)
    return Source(reading.kind, mapped, [stream], clip.notes)


def _recording(path: Path, fps: float | None) -> Source:
    recording = read_recording(path)
    if not recording.frames:
        raise ConfigError(f"{path}: a recording of poses only, which are refined already; nothing to do")
    names = list(dict.fromkeys(frame.actor for frame in recording.frames))
    streams, notes = [], []
    for name in names:
        frames, said = in_time([frame for frame in recording.frames if frame.actor == name])
        streams.append(_timed(path, name, frames, fps))
        notes += [f"{name}: {note}" for note in said]
    notes += [f"{recording.bad} messages do not decode, and are left out"] if recording.bad else []
    notes += ["cut off in the middle of a message"] if recording.truncated else []
    return Source("recording", _mapped(recording.frames), streams, tuple(notes))


def in_time(frames: Sequence[Frame]) -> tuple[list[Frame], list[str]]:
    """Frames as they were captured, their times growing from 0, and what is to be said of that.

    What came late goes to its place; of frames for the same time the last counts; a clock that went far back goes on.
    """
    t_ns = np.array([frame.t_ns for frame in frames], np.int64)
    runs = np.concatenate([[0], np.cumsum(np.diff(t_ns) < -_LATE_NS)])
    order = np.lexsort((t_ns, runs))
    keep, times_s, notes = in_order(t_ns[order])
    times = np.round(times_s * SECOND_NS).astype(np.int64).tolist()
    late = int((np.diff(t_ns) < 0).sum()) - int(runs[-1])
    notes += [f"{late} frames came late, and were put where they belong"] if late else []
    chosen = [frames[int(order[n])] for n in keep]
    return [replace(frame, t_ns=t, received_ns=0) for frame, t in zip(chosen, times)], notes


def _timed(path: Path, actor: str, frames: list[Frame], fps: float | None) -> Stream:
    if not frames:
        raise ConfigError(f"{path}: no frames in it")
    times_s = np.array([frame.t_ns for frame in frames], np.int64) / SECOND_NS
    rate, count = rate_of(times_s - times_s[0]) if fps is None else (fps, frames_at(times_s, fps))
    return Stream(actor, frames, rate, _checked(path, count, rate))


def rate_of(times_s: npt.NDArray[np.float64]) -> tuple[float, int]:
    """(frames per second, frames) for times (T,) from 0 [s]: their own rate if they are even, else the usual one."""
    if len(times_s) < 2:
        return usual_fps(times_s), 1
    places = np.arange(len(times_s))
    rate = (len(times_s) - 1) / float(times_s[-1])
    whole = float(max(1, round(rate)))
    if float(np.abs(times_s - places / whole).max()) <= _ROUNDED_S:
        return whole, len(times_s)
    if float(np.abs(times_s * rate - places).max()) <= _EVEN:
        return rate, len(times_s)
    usual = usual_fps(times_s)
    return usual, frames_at(times_s, usual)


def _checked(path: Path, count: int, fps: float) -> int:
    if count > MOST_FRAMES:
        raise ConfigError(
            f"{path}: {count} frames at {fps:g} fps, and {MOST_FRAMES} are the most; cut it, or --fps less"
        )
    return count


def _mapped(frames: Sequence[Frame]) -> str:
    """Which layouts the frames are of, and how many of our joints those show."""
    return "; ".join(f"{name}: {_shown(name)}" for name in dict.fromkeys(frame.layout for frame in frames))


def _shown(layout: str) -> str:
    try:
        known = get_layout(layout)
    except (ValueError, OSError):  # one that only the recording's server knew
        return "not known here"
    return f"{int((known.measured | known.derived).sum())} of {J} joints"
