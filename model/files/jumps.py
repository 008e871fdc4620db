"""Where a capture jumps, and the pieces of a clip between."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from model.files.retarget import Clip


def jumps(clip: Clip) -> npt.NDArray[np.int64]:
    """Frames t between which and t - 1 the capture jumps: a marker swap or an Euler flip, not motion.

    A joint turns faster than 4800 deg/s, or moves faster than 25 m/s, or faster than 10 m/s and thrice as fast as both
    in the step before and in the step after. Found in about one clip in eight of CMU.
    """
    step = np.linalg.norm(np.diff(clip.positions, axis=0), axis=-1) * clip.fps  # (T-1, J) m/s
    around = np.pad(step, ((1, 1), (0, 0)), mode="edge")
    around[0], around[-1] = 0.0, 0.0
    lonely = (step > 10.0) & (step > 3.0 * np.maximum(around[:-2], around[2:]))
    bad = (lonely | (step > 25.0)).any(1)
    if clip.world_rotations is not None:
        a, b = clip.world_rotations[:-1], clip.world_rotations[1:]
        trace = np.einsum("tjik,tjik->tj", a, b)
        turn = np.degrees(np.arccos(np.clip((trace - 1.0) / 2.0, -1.0, 1.0))) * clip.fps
        bad |= (turn > 4800.0).any(1)
    return np.flatnonzero(bad) + 1


def split_at_jumps(clip: Clip, shortest_s: float = 0.5) -> list[Clip]:
    """The pieces of a clip between its jumps, those of at least ``shortest_s``; named clip, clip#1, ..."""
    cuts = [0, *jumps(clip), len(clip)]
    pieces = [(a, b) for a, b in itertools.pairwise(cuts) if b - a >= max(2, shortest_s * clip.fps)]
    if len(cuts) == 2:
        return [clip]
    rot = clip.world_rotations
    return [
        replace(clip, name=f"{clip.name}#{i}" if i else clip.name, positions=clip.positions[a:b],
                world_rotations=None if rot is None else rot[a:b])
        for i, (a, b) in enumerate(pieces)
    ]  # fmt: skip
