"""Rotations that sources show, beside the network's: filtered per actor, and put into the poses.

What is seen of a joint turns it about its bone only, a leaf freely: no joint of a pose moves. evidence.py says what
frames show. It is seen vectors that are smoothed, not rotations: errors of landmarks just add up in them, so a line
through the last ones, at the time that is asked for, is causal filter, fixed lag and prediction alike.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from model.layouts import Layout, get_layout
from model.skeleton import CHILDREN, FORKS, LEAVES, PARENTS, J
from streamer.clock import SECOND_NS
from streamer.evidence import Kind, Sample, kind_of
from streamer.frames import Frame
from streamer.quaternions import Quaternion, Turn, Vector, about, freely, inverse, partly, product

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

KEPT = 32  # samples of the past
SPACING_S = 1 / 90  # so far apart at least; a closer one takes the place of the last
NARROW_S, WIDE_S = 0.02, 0.3  # reach of the line: REACH times the root of noise over what turning changes by
REACH, CALM_RAD_S2, HASTE_HZ = 3.0, 3.0, 5.0  # which is so much at rest, and the more, the faster it is
LEVEL = 0.03  # pull of the line's slope to zero
AHEAD_S = 0.06  # after the newest sample the line goes on for so long
SPEED_S = 0.1  # turning's speed is a mean over so long
NOISE_S, SURE_RAD = 0.7, 0.03  # the noise is a mean over so long, and so much at first
STRIKES, FAR, FAR_RAD = 2, 4.0, 0.3  # so many samples on end that lie so far off, sigma and more, are left out
FAINT = 0.1  # confidence below which nothing is seen
HOLD_S, FADE_S, BACK_S = 0.25, 1.0, 0.2  # unseen: held; the network's own, little by little; and back
DRIFT_RAD_S = 0.5  # doubt grows by, while it is held
NEVER_S = -1e9

TWIST_RAD, LEAF_RAD = 0.45, 0.6  # how far the network is off where nothing is seen: about a bone, of a leaf
_UNSEEN = np.array([LEAF_RAD**2 if j in LEAVES else 0.0 if j in FORKS else TWIST_RAD**2 for j in range(J)], np.float32)
SWING = 0.5  # part of the variance of a bone's ends that is not of both alike
LEAST_M2, MOST_RAD2 = 0.03**2, 1.5**2
_TRACE = np.eye(3, dtype=np.float32).reshape(9)
_ENDS, _OF_BONES = np.eye(J, dtype=np.float32), np.zeros((J, J), np.float32)
for _joint in range(1, J):
    _ENDS[PARENTS[_joint], _joint] = 1.0  # bone = its end and its beginning
    _OF_BONES[_joint, PARENTS[_joint]] = SWING * 2.0 / 3.0 / len(CHILDREN[PARENTS[_joint]])


class Track:
    """What one actor's frames of one kind have shown. Arrays over joints E, samples, vectors 2."""

    def __init__(self, kind: Kind, t_ns: int) -> None:
        e = len(kind.joints)
        self.kind, self.epoch_ns = kind, t_ns
        self._chain = _chain(kind.joints)
        self._times, self._samples, self._trust = np.full(KEPT, NEVER_S), np.zeros((e, KEPT, 6)), np.zeros((e, KEPT))
        self._slot = 0
        self._last, self._before = np.zeros((e, 2, 3)), np.zeros((e, 2, 3))  # samples that were believed
        self._last_s, self._before_s = np.full(e, NEVER_S), np.full(e, NEVER_S)
        self._strikes = np.zeros(e)
        self._noise, self._velocity = np.full(e, SURE_RAD**2), np.zeros((e, 2, 3))  # [rad^2], [rad/s]
        self._back = [(NEVER_S, 1.0)] * e  # when seen again after a gap, and its part then
        self._weight = kind.weight / kind.weight.sum(1, keepdims=True)
        self._turns: list[Turn] = []
        self._version: int | None = None

    # -- what comes in

    def take(self, sample: Sample, t_ns: int) -> None:
        """Take in what a frame shows."""
        now_s = (t_ns - self.epoch_ns) / SECOND_NS
        size = np.sqrt((sample.vectors * sample.vectors).sum(-1, keepdims=True))
        vectors = sample.vectors / np.maximum(size, 1e-9)
        seen = sample.confidence > FAINT
        step_s, gap_s = self._last_s - self._before_s, now_s - self._last_s
        recent = gap_s < WIDE_S
        ratio = np.minimum(gap_s / np.maximum(step_s, 1e-9), 2.0) * (step_s < WIDE_S)
        moved = vectors - self._last
        off = moved - (self._last - self._before) * ratio[:, None, None]
        square = ((off * off).sum(-1) * self._weight).sum(1)
        factor = 1.0 + (1.0 + ratio) ** 2 + ratio**2  # of the noise of one sample
        bound = (FAR * np.sqrt(self._noise * factor) + FAR_RAD) ** 2
        far = seen & recent & (square > bound) & (self._strikes < STRIKES)
        self._strikes = np.where(far, self._strikes + 1, 0)
        seen &= ~far
        if np.count_nonzero(recent) < len(recent):
            self._return(seen & (gap_s > HOLD_S), now_s)
        share = np.minimum(gap_s / NOISE_S, 0.5) * (seen & recent)
        self._noise += share * (np.minimum(square, bound) / (2.0 * factor) - self._noise)
        keep = seen[:, None, None]
        part = np.minimum(gap_s / (gap_s + SPEED_S), 1.0) * seen
        self._velocity += part[:, None, None] * (moved / np.maximum(gap_s, 1e-3)[:, None, None] - self._velocity)
        self._before = np.where(keep, self._last, self._before)
        self._before_s = np.where(seen, self._last_s, self._before_s)
        self._last, self._last_s = np.where(keep, vectors, self._last), np.where(seen, now_s, self._last_s)
        if self._times[self._slot] - self._times[self._slot - 1] >= SPACING_S:
            self._slot = (self._slot + 1) % KEPT
        self._times[self._slot] = now_s
        self._samples[:, self._slot] = vectors.reshape(-1, 6)
        self._trust[:, self._slot] = np.where(seen, sample.confidence, 0.0)

    def _return(self, seen: Bools, now_s: float) -> None:
        """Joints that are seen again: their part in the pose grows from what it had come down to."""
        last = self._last_s.tolist()
        for e in np.flatnonzero(seen).tolist():
            if last[e] > NEVER_S:
                self._back[e] = now_s, self._part(e, now_s, last[e])

    def _part(self, e: int, at_s: float, last_s: float) -> float:
        """How much what was seen of a joint counts at a time, 0 to 1."""
        back_s, before = self._back[e]
        return max(0.0, min(1.0, before + (at_s - back_s) / BACK_S, 1.0 - (at_s - last_s - HOLD_S) / FADE_S))

    # -- what comes out

    def put(
        self, rotations: F32, previous: F32, variance: F32, offsets_m: F32, version: int, t_ns: int, wanted_ns: int
    ) -> None:
        """Turns the joints of a pose as they were seen to be turned, in place.

        Args:
            rotations: (24, 4) of the pose, parent_from_joint, relative to the rest pose.
            previous: (24, 4) those of the pose before, whose signs go on.
            variance: (24,) of ``doubts``, of that pose.
            offsets_m: (24, 3) its skeleton; version: that one's number.
            t_ns: the time that it is for; wanted_ns: the one that was asked for.
        """
        at_s, wanted_s = (t_ns - self.epoch_ns) / SECOND_NS, (wanted_ns - self.epoch_ns) / SECOND_NS
        last_s = self._last_s.tolist()
        parts = [self._part(e, wanted_s, last) for e, last in enumerate(last_s)]
        if max(parts) <= 0.0:
            return
        if version != self._version:
            self._version, kind = version, self.kind
            self._turns = [_turn_of(*of, offsets_m) for of in zip(kind.joints, kind.rest, kind.weight)]
        fitted, spread = self._line(at_s)
        local: list[Quaternion] = rotations.tolist()
        world: dict[int, Quaternion] = {}
        for joint, parent in self._chain:
            world[joint] = product(world[parent], local[joint]) if parent >= 0 else local[joint]
        found: dict[int, Quaternion] = {}
        for e, joint in enumerate(self.kind.joints):
            if parts[e] > 0.0:
                turn = self._turns[e](world[joint], *fitted[e])
                if turn is not None:
                    found[joint] = partly(turn, parts[e])
                    seen = spread[e] + self.kind.error_rad**2 + (DRIFT_RAD_S * max(0.0, wanted_s - last_s[e])) ** 2
                    variance[joint] += parts[e] * (min(seen, _UNSEEN[joint]) - _UNSEEN[joint])
        _turn_all(rotations, local, found, previous)

    def _line(self, at_s: float) -> tuple[list[list[Vector]], list[float]]:
        """(E, 2, 3) the vectors at a time, and the variance (E,) [rad^2] of a turn by them."""
        x = self._times - np.minimum(at_s, self._last_s + AHEAD_S)[:, None]  # (E, KEPT)
        speed = np.sqrt((self._velocity * self._velocity).sum((1, 2)))
        reach = REACH * np.sqrt(np.sqrt(self._noise) / (CALM_RAD_S2 + HASTE_HZ * speed))
        there = self._trust > 0.0
        near = np.where(there, np.abs(x), 1e9).min(1)
        reach = np.minimum(np.maximum(reach, NARROW_S), WIDE_S) + 1.5 * near
        part = x / reach[:, None]
        weight = np.maximum(1.0 - part * part, 0.0) * self._trust
        first = weight * part
        w0, w1 = weight.sum(1, keepdims=True), first.sum(1, keepdims=True)
        w2 = (first * part).sum(1, keepdims=True) + LEVEL * w0
        share = (weight * w2 - first * w1) / np.maximum(w0 * w2 - w1 * w1, 1e-12)
        fitted = (share[:, None] @ self._samples).reshape(-1, 2, 3)
        return fitted.tolist(), (2.0 * self._noise * (share * share).sum(1)).tolist()


def _chain(joints: list[int]) -> list[tuple[int, int]]:
    """The joints and all that they hang on, each after its parent: (joint, parent)."""
    needed = set()
    for joint in joints:
        while joint >= 0:
            needed.add(joint)
            joint = PARENTS[joint]
    return [(joint, PARENTS[joint]) for joint in sorted(needed)]


def _turn_of(joint: int, rest: F64, weight: F64, offsets_m: F32) -> Turn:
    """How a joint's turn follows from the two vectors: about its bone, or, of a leaf, any."""
    if joint in LEAVES:
        return freely(*rest)
    bone = offsets_m[CHILDREN[joint][0]].astype(np.float64)
    return about(bone / max(float(np.linalg.norm(bone)), 1e-9), rest, weight)


def _turn_all(rotations: F32, local: list[Quaternion], found: dict[int, Quaternion], previous: F32) -> None:
    """Joints turned in their own axes, in place; what hangs on them stays as it is turned in the world.

    A leaf that nothing is seen of goes with its joint.
    """
    for joint in _touched(tuple(found)):
        q, before = local[joint], previous[joint].tolist()
        if PARENTS[joint] in found:
            q = product(inverse(found[PARENTS[joint]]), q)
        if joint in found:
            q = product(q, found[joint])
        same = q[0] * before[0] + q[1] * before[1] + q[2] * before[2] + q[3] * before[3] >= 0.0
        rotations[joint] = q if same else (-q[0], -q[1], -q[2], -q[3])


@lru_cache(maxsize=256)
def _touched(joints: tuple[int, ...]) -> tuple[int, ...]:
    below = {child for joint in joints for child in CHILDREN[joint] if child not in LEAVES}
    return tuple(sorted(below | set(joints)))


def doubts(covariance: F32, lengths_m: F32) -> F32:
    """(..., 24) variance of the angles [rad^2] by which rotations may be off that nothing but joints shows.

    What turns a bone's direction follows from the covariance (..., 24, 3, 3) of its ends over its length (..., 24); a
    turn about it, and any of a leaf, is not seen.
    """
    trace = covariance.reshape(*covariance.shape[:-2], 9) @ _TRACE
    swing = (trace @ _ENDS) / np.maximum(lengths_m * lengths_m, LEAST_M2)
    out: F32 = np.minimum(swing @ _OF_BONES, MOST_RAD2) + _UNSEEN
    return out


class Orientation:
    """By rows: what actors' sources show of their rotations."""

    def __init__(self, capacity: int) -> None:
        self._tracks: list[Track | None] = [None] * capacity
        self._layouts: dict[str, Layout] = {}

    def forget(self, row: int) -> None:
        self._tracks[row] = None

    def take(self, row: int, frame: Frame, t_ns: int) -> None:
        """Take in a frame that intake.py has found right, for a time on the row's clock."""
        layout = self._layouts.get(frame.layout)
        if layout is None:
            layout = self._layouts[frame.layout] = get_layout(frame.layout)
        kind = kind_of(layout, frame.rotations is not None)
        if kind is None:
            return
        track = self._tracks[row]
        if track is None or track.kind is not kind:
            track = self._tracks[row] = Track(kind, t_ns)
        track.take(kind.read(frame), t_ns)

    def of(self, row: int) -> Track | None:
        return self._tracks[row]
