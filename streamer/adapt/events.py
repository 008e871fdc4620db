"""What comes and goes in a stream: gaps, joints far off for a moment, sides exchanged, a body that turns at once.

None of it needs the truth: people do not do such things from one frame to the next.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from model.skeleton import INDEX
from streamer.adapt.residual import Residual
from streamer.adapt.track import F64, Bools, Ints, Track

FAR_M, FAR_M_S, FAR_SIGMA = 0.08, 2.4, 8.0  # off its neighbours' curve: at least; where frames come below 30 Hz
FAR_TIMES = 4.0  # farther off than the neighbours are
AROUND = 4  # frames each way that stand for the neighbours
NEAR_M = 0.12  # joints of two sides that are nearer may pass for each other
SWAPPED, MOVES_M = 0.45, 0.25  # of the way that both went, if they were exchanged; a way that needs an explanation
LASTS_S = 1.0  # exchanged for longer, it may as well be the other way round
WITHIN_S = 0.2  # a joint that was not seen for longer may be anywhere
FLIP_DEG, FLIP_S = 110.0, 0.07  # a body that turns so far in so little time did not turn
ACROSS_M = 0.15  # hips and shoulders together, seen from above: below, nobody knows where it faces

ARMS, LEGS = ("shoulder", "elbow", "wrist", "hand"), ("hip", "knee", "ankle", "foot")


def spells(is_so: Bools, step_s: F64) -> F64:
    """How long each is [s] of the runs of True down the columns of (T, N), of frames that last (T,) each [s]."""
    lengths: list[float] = []
    passed = np.concatenate([[0.0], np.cumsum(step_s)])
    for column in is_so.T:
        edges = np.flatnonzero(np.diff(np.concatenate([[False], column, [False]]).astype(np.int8)))
        lengths += (passed[edges[1::2]] - passed[edges[::2]]).tolist()
    return np.array(lengths)


def outliers(rest: Residual, jitter_m: F64, step_s: float) -> Bools:
    """(T, 24) joints that are far from where the frames around say, and come back.

    Args:
        jitter_m: (24,) the usual fast noise [m].
        step_s: between frames [s]: the longer, the less is known of where a foot that swings will be.
    """
    limit = np.maximum(max(FAR_M, FAR_M_S * step_s), FAR_SIGMA * np.nan_to_num(jitter_m))
    padded = np.pad(rest.off_m, ((AROUND, AROUND), (0, 0)), constant_values=np.nan)
    around = np.stack([padded[n : n + len(rest.off_m)] for n in range(2 * AROUND + 1) if n != AROUND])
    usual = np.where(np.isfinite(around), around, np.inf)
    usual = np.sort(usual, axis=0)[AROUND - 1]  # the middle one of the neighbours
    with np.errstate(invalid="ignore"):
        return np.asarray((rest.off_m > limit) & (rest.off_m > FAR_TIMES * usual))


def swapped(track: Track) -> tuple[Bools, int]:
    """(T,) frames in which left and right of some limb are exchanged, and how many times that happened.

    A limb's joints that change places together are one event. Joints that change places and not back within LASTS_S are
    an event, too: which of the two states is the right one, nobody can tell from the stream.
    """
    exchanged, events = np.zeros(len(track), np.bool_), 0
    for limb in (ARMS, LEGS):
        state, for_good = np.zeros(len(track), np.bool_), np.zeros(len(track), np.bool_)
        for joint in limb[1:]:
            toggles = np.flatnonzero(_toggles(track, INDEX[f"left_{joint}"], INDEX[f"right_{joint}"]))
            _pair_up(toggles, track.times_s, state, for_good)
        exchanged |= state
        events += _runs(state) + _runs(for_good & ~state)
    return exchanged, events


def _pair_up(toggles: Ints, times_s: F64, state: Bools, for_good: Bools) -> None:
    """Marks in place the frames from one toggle to the next, and the toggles that have no next one soon."""
    n = 0
    while n < len(toggles):
        back = n + 1 < len(toggles) and times_s[toggles[n + 1]] - times_s[toggles[n]] <= LASTS_S
        if back:
            state[toggles[n] : toggles[n + 1]] = True
        else:
            for_good[toggles[n]] = True
        n += 1 + back


def _runs(is_so: Bools) -> int:
    return int(np.count_nonzero(np.diff(np.concatenate([[0], is_so.astype(np.int8)])) > 0))


def _toggles(track: Track, left: int, right: int) -> Bools:
    """(T,) True where two joints are, at once, where the other one was."""
    out = np.zeros(len(track), np.bool_)
    seen = np.flatnonzero(track.seen[:, left] & track.seen[:, right])
    if len(seen) < 2:
        return out
    a, b = track.positions[seen, left], track.positions[seen, right]
    kept = np.linalg.norm(np.diff(a, axis=0), axis=-1) + np.linalg.norm(np.diff(b, axis=0), axis=-1)
    changed = np.linalg.norm(a[1:] - b[:-1], axis=-1) + np.linalg.norm(b[1:] - a[:-1], axis=-1)
    apart = np.linalg.norm(a - b, axis=-1)
    soon = np.diff(track.times_s[seen]) <= WITHIN_S
    out[seen[1:]] = soon & (changed < SWAPPED * kept) & (kept > MOVES_M) & (np.minimum(apart[1:], apart[:-1]) > NEAR_M)
    return out


def flips(track: Track) -> int:
    """How many times the body faces elsewhere at once."""
    joints = [INDEX[f"{side}_{name}"] for name in ("hip", "shoulder") for side in ("left", "right")]
    seen = np.flatnonzero(track.seen[:, joints].all(1))
    if len(seen) < 2:
        return 0
    hips, shoulders = (track.positions[seen, left] - track.positions[seen, right] for left, right in _pairs(joints))
    across = (hips + shoulders)[:, [0, 2]]
    wide = np.linalg.norm(across, axis=-1) > ACROSS_M
    across, times_s = across[wide], track.times_s[seen][wide]
    heading = np.unwrap(np.arctan2(across[:, 0], across[:, 1]))
    turned = np.abs(np.diff(heading))
    soon = np.diff(times_s) <= max(FLIP_S, 1.5 / track.fps)
    return int(np.count_nonzero(soon & (turned > np.radians(FLIP_DEG))))


def _pairs(joints: Sequence[int]) -> list[tuple[int, int]]:
    return list(zip(joints[::2], joints[1::2]))
