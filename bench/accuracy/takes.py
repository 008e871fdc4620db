"""Real motion to score on: some clips of a split, cut to a stretch, resampled by their true times.

A clip's place in the order is a hash of its name: the same clips come first from the packed file, from the folder it
was packed from, and on every machine; and a larger number of clips holds the smaller one.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bench.track import Floats, Times, at_time
from model.evaluate import foot_contact
from model.motion.synthetic import SyntheticActor
from model.prepare import Clip, ListedClip, PackedClip, listed_clips, load_packed, read_clip, split_at_jumps
from streamer.clock import SECOND_NS
from streamer.errors import ConfigError

Bools = npt.NDArray[np.bool_]

RATE_HZ = 30.0
SHORTEST_S = 5.0  # a second more than the bones are measured for


@dataclass(frozen=True)
class Take:
    """A stretch of true motion at its own rate, and the even times (T,) at which a source would have seen it.

    Of the N captured frames: native_ns (N,), native (N, 24, 3) [m], contact (N, 2) of the left and right foot with the
    ground, rotations (N, 24, 3, 3) world_from_joint or None where only positions are known.
    """

    name: str
    native_ns: Times
    native: Floats
    t_ns: Times
    contact: Bools
    rotations: Floats | None = None

    def truth_at(self, t_ns: Times) -> Floats:
        """(N, 24, 3) true joints [m]; exact where t_ns falls on a captured frame, else linear between two."""
        return at_time(self.native_ns, self.native, t_ns)

    def nearest(self, t_ns: Times) -> npt.NDArray[np.intp]:
        """(N,) the captured frame nearest to each time."""
        middles = (self.native_ns[1:] + self.native_ns[:-1]) // 2
        return np.searchsorted(middles, t_ns)

    def holds(self, t_ns: Times) -> Bools:
        """(N,) where the truth is known."""
        return np.asarray((t_ns >= self.native_ns[0]) & (t_ns <= self.native_ns[-1]))


def take_of(
    name: str,
    positions: Floats,
    fps: float,
    seconds: float | None = None,
    rate_hz: float = RATE_HZ,
    rotations: Floats | None = None,
) -> Take:
    """The middle ``seconds`` (None: all) of a motion (T, 24, 3) [m], seen ``rate_hz`` times a second."""
    wanted = len(positions) if seconds is None else min(len(positions), round(seconds * fps) + 1)
    first = (len(positions) - wanted) // 2
    part = slice(first, first + wanted)
    native_ns = np.round(np.arange(wanted) / fps * SECOND_NS).astype(np.int64)
    count = int((wanted - 1) / fps * rate_hz + 1e-6) + 1
    t_ns = np.round(np.arange(count) / rate_hz * SECOND_NS).astype(np.int64)
    contact = foot_contact(positions, fps)[part] > 0.5
    turned = None if rotations is None else rotations[part]
    return Take(name, native_ns, np.asarray(positions[part], np.float64), t_ns, contact, turned)


def load_takes(
    data: str | Path,
    split: str = "test",
    clips: int | None = None,
    seconds: float | None = None,
    rate_hz: float = RATE_HZ,
) -> list[Take]:
    """The first ``clips`` (None: all) takes of at least SHORTEST_S.

    Args:
        data: a file that ``hpstm prepare`` packed, the folder of clips.csv, or the word "synthetic".
        split: which clips of a folder; a packed file is one split already.
        seconds: the middle of each clip, None for all of it.
        rate_hz: how often a source sees it.
    Raises:
        ConfigError: no such data, or nothing long enough in it. ClipError: a file cannot be read.
    """
    if str(data) == "synthetic":
        return [_synthetic(seed, seconds or 20.0, rate_hz) for seed in range(1, 1 + (clips or 10))]
    long_enough = (clip for clip in _ordered(Path(data), split) if len(clip) >= SHORTEST_S * clip.fps)
    takes = [take_of(clip.name, clip.positions, clip.fps, seconds, rate_hz, clip.world_rotations)
             for clip in islice(long_enough, clips)]  # fmt: skip
    if not takes:
        raise ConfigError(f"{data}: no clip of at least {SHORTEST_S:g} s in it")
    return takes


def _synthetic(seed: int, seconds: float, rate_hz: float) -> Take:
    t_s = np.arange(round(seconds * 4 * RATE_HZ) + 1) / (4 * RATE_HZ)
    actor = SyntheticActor(seed)
    rotations, _ = actor.poses(t_s)
    return take_of(f"synthetic {seed}", actor.positions(t_s), 4 * RATE_HZ, rate_hz=rate_hz, rotations=rotations)


def _ordered(data: Path, split: str) -> Iterator[Clip]:
    if data.is_dir():
        for row in sorted(_rows(data, split), key=lambda row: _place(row.set, row.subject, row.path.name)):
            yield from split_at_jumps(read_clip(row.path, fps=row.fps))
    elif data.is_file():
        yield from sorted(_unpacked(data), key=lambda clip: _place(clip.set, clip.subject, clip.name))
    else:
        raise ConfigError(f"{data}: not found; give a file that `hpstm prepare` wrote, or the folder of clips.csv")


def _rows(data: Path, split: str) -> list[ListedClip]:
    rows = [row for row in listed_clips(data) if row.split == split]
    if not rows:
        raise ConfigError(f"{data}/clips.csv: no clip is in split {split!r}")
    return rows


def _unpacked(data: Path) -> list[PackedClip]:
    try:
        return load_packed(data)
    except (ValueError, KeyError, OSError) as error:
        raise ConfigError(f"{data}: not a file that `hpstm prepare` wrote ({error})") from error


def _place(group: str, subject: str, name: str) -> int:
    stem = name.split(".")[0].split("#")[0]  # pieces of one clip stay together, in their order
    return zlib.crc32(f"{group}/{subject}/{stem}".encode())
