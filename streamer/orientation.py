"""Rotations that sources show, beside the network's: filtered per actor, and put into the poses.

What is seen of a joint turns it about its bone only, a leaf freely: no joint moves, but those of feet that heels turn
(heels.py). evidence.py says what frames show. It is seen vectors that are smoothed, not rotations: errors of landmarks
just add up in them, so a line through the last ones, at the time asked for, is causal filter, fixed lag and prediction.
"""

from __future__ import annotations

from functools import lru_cache
from math import sqrt
from typing import Any

import numpy as np
import numpy.typing as npt

from model.layouts import get_layout
from model.skeleton import CHILDREN, LEAVES, PARENTS
from streamer.clock import SECOND_NS
from streamer.doubt import UNSEEN_RAD2
from streamer.evidence import Kind, Sample, kind_of
from streamer.frames import Frame
from streamer.heels import LEFT_RAD, LONGER, believed, foot_turn
from streamer.quaternions import Quaternion, Turn, about, freely, inverse, partly, product, turned

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
Floats = npt.NDArray[np.floating[Any]]
Bools = npt.NDArray[np.bool_]

KEPT = 32  # samples of the past
SPACING_S = 1 / 90  # so far apart at least; a closer one takes the place of the last
NARROW_S, WIDE_S = 0.02, 0.3  # reach of the line: REACH times the root of noise over what turning changes by
REACH, CALM_RAD_S2, HASTE_HZ = 2.5, 3.0, 10.0  # which is so much at rest, and the more, the faster it is
LEVEL = 0.05  # pull of the line's slope to zero
AHEAD_S = 0.08  # after the newest sample the line goes on for so long
HASTE_SLOTS = 4  # its speed is that since so many samples ago
NOISE_S, SURE_RAD = 0.7, 0.03  # the noise is a mean over so long, and so much at first
STRIKES, FAR, FAR_RAD = 2, 4.0, 0.3  # so many samples on end that lie so far off, sigma and more, are left out
MOST = 2.5  # times the step before, at most, tells a step what the sample should be
FAINT = 0.1  # confidence below which nothing is seen
HOLD_S, FADE_S, BACK_S = 0.25, 1.0, 0.2  # unseen: held; the network's own, little by little; and back
DRIFT_RAD_S = 0.5  # doubt grows by, while it is held
NEVER_S = -1e9


class Track:
    """What one actor's frames of one kind have shown of E joints.

    Arrays hold what is six numbers a joint, lists what is one: for so few, plain numbers cost less than numpy's calls.
    """

    def __init__(self, kind: Kind, t_ns: int) -> None:
        e = len(kind.joints)
        self.kind, self.epoch_ns = kind, t_ns
        self._chain = _chain(kind.joints)
        self._times = np.full(KEPT, NEVER_S)
        self._samples = np.zeros((e, KEPT, 8))  # both vectors, 1, the time; all of it times the confidence
        self._slot, self._interval_s = 0, SPACING_S
        self._last: Floats = np.zeros((e, 6))  # of the samples that were believed
        self._slope: Floats = np.zeros((e, 6))
        self._last_s, self._step_s = [NEVER_S] * e, [NEVER_S] * e  # time of the last, and since the one before
        self._strikes = [0] * e
        self._noise, self._speed = [SURE_RAD**2] * e, [0.0] * e  # [rad^2], [rad/s]
        self._back = [(NEVER_S, 1.0)] * e  # when seen again after a gap, and its part then
        self._mean = np.repeat(kind.weight / kind.weight.sum(1, keepdims=True), 3, axis=1)  # (E, 6)
        self._weights = np.zeros((e, 2, KEPT))
        self._turns: tuple[Turn, ...] = ()
        self._leaks: tuple[float, ...] = ()
        self._reach = [REACH * LONGER if heel else REACH for heel in kind.heels]
        self._rest: list[list[float]] = kind.rest[:, 0].tolist()
        self._version: int | None = None

    # -- what comes in

    def take(self, sample: Sample, t_ns: int) -> None:
        """Take in what a frame shows."""
        now_s = (t_ns - self.epoch_ns) / SECOND_NS
        vectors = sample.vectors.reshape(-1, 6)
        gap_s = [now_s - last for last in self._last_s]
        gaps: F64 = np.array(gap_s[:1]) if min(gap_s) == max(gap_s) else np.array(gap_s)[:, None]
        moved: Floats = vectors - self._last
        off = moved - self._slope * gaps
        past = self._slot - HASTE_SLOTS
        across = vectors * self._samples[:, past, 6:7] - self._samples[:, past, :6]
        far = ((off * off) * self._mean).sum(1).tolist()
        size = ((vectors * vectors) * self._mean).sum(1).tolist()
        turned = ((across * across) * self._mean).sum(1).tolist()
        trust = sample.confidence.tolist()
        since_s = max(now_s - float(self._times[past]), 1e-3)
        seen = [
            self._believe(e, now_s, gap_s[e], far[e] / max(size[e], 1e-6), sample_trust)
            for e, sample_trust in enumerate(trust)
        ]
        self._speed = [sqrt(x / max(s, 1e-6)) / since_s for x, s in zip(turned, size)]
        if all(seen):
            self._slope, self._last = moved / np.maximum(gaps, 1e-3), vectors
        else:
            keep = np.array(seen)[:, None]
            trust = [t if there else 0.0 for t, there in zip(trust, seen)]
            self._slope = np.where(keep, moved / np.maximum(gaps, 1e-3), self._slope)
            self._last = np.where(keep, vectors, self._last)
        before_s = float(self._times[self._slot])
        self._interval_s += 0.1 * (min(max(now_s - before_s, 0.0), WIDE_S) - self._interval_s)
        if before_s - self._times[self._slot - 1] >= SPACING_S:
            self._slot = (self._slot + 1) % KEPT
        self._times[self._slot] = now_s
        row, weight = self._samples[:, self._slot], np.array(trust)
        np.multiply(vectors, weight[:, None], out=row[:, :6])
        row[:, 6], row[:, 7] = weight, weight * now_s

    def _believe(self, e: int, now_s: float, gap_s: float, far: float, trust: float) -> bool:
        """Whether a joint is seen in a sample that lies ``far`` [rad^2] off the line through the two before it."""
        if trust < FAINT:
            return False
        if gap_s > HOLD_S and self._last_s[e] > NEVER_S:
            self._back[e] = now_s, self._part(e, now_s, self._last_s[e])
        ratio = gap_s / self._step_s[e] if self._step_s[e] > 0.0 else MOST
        if gap_s < WIDE_S and ratio < MOST:
            factor = 1.0 + (1.0 + ratio) ** 2 + ratio * ratio  # of the noise of one sample
            bound = (FAR * sqrt(self._noise[e] * factor) + FAR_RAD) ** 2
            if far > bound and self._strikes[e] < STRIKES:
                self._strikes[e] += 1
                return False
            self._noise[e] += min(gap_s / NOISE_S, 0.5) * (0.5 * min(far, bound) / factor - self._noise[e])
        self._strikes[e] = 0
        self._last_s[e], self._step_s[e] = now_s, gap_s if self._last_s[e] > NEVER_S else NEVER_S
        return True

    def _part(self, e: int, at_s: float, last_s: float) -> float:
        """How much what was seen of a joint counts at a time, 0 to 1: grows after a gap, from what it had come down to
        in it."""
        back_s, before = self._back[e]
        return max(0.0, min(1.0, before + (at_s - back_s) / BACK_S, 1.0 - (at_s - last_s - HOLD_S) / FADE_S))

    # -- what comes out

    def put(
        self, positions: Floats, rotations: F32, previous: F32, variance: F32, offsets_m: F32, version: int, t_ns: int,
        wanted_ns: int,
    ) -> None:  # fmt: skip
        """Turns the joints of a pose as they were seen to be turned, in place.

        Args:
            positions: (24, 3) of the pose [m]; of feet that heels turn, the foot's moves.
            rotations: (24, 4) of the pose, parent_from_joint, relative to the rest pose.
            previous: (24, 4) those of the pose before, whose signs go on.
            variance: (24,) of ``doubts``, of that pose.
            offsets_m: (24, 3) its skeleton; version: that one's number.
            t_ns: the time that it is for; wanted_ns: the one that was asked for.
        """
        at_s, wanted_s = (t_ns - self.epoch_ns) / SECOND_NS, (wanted_ns - self.epoch_ns) / SECOND_NS
        parts = [self._part(e, wanted_s, last_s) for e, last_s in enumerate(self._last_s)]
        if max(parts) <= 0.0:
            return
        if version != self._version:
            self._version, kind = version, self.kind
            found = (_turn_of(*of, offsets_m) for of in zip(kind.joints, kind.rest, kind.weight))
            self._turns, self._leaks = zip(*found)
        local: list[Quaternion] = rotations.tolist()
        world: dict[int, Quaternion] = {}
        for joint, parent in self._chain:
            world[joint] = product(world[parent], local[joint]) if parent >= 0 else local[joint]
        turns: dict[int, Quaternion] = {}
        doubt, fixed = variance.tolist(), self.kind.error_rad**2
        for e, (joint, seen) in enumerate(zip(self.kind.joints, self._line(at_s))):
            if parts[e] <= 0.0:
                continue
            prior, late_rad = UNSEEN_RAD2[joint], DRIFT_RAD_S * max(0.0, wanted_s - self._last_s[e])
            swing, off = max(0.0, doubt[joint] - prior), seen[2] + late_rad * late_rad
            here, heel = world[joint], None
            if self.kind.heels[e]:
                part = parts[e] * believed(swing, off)
                heel = foot_turn(here, world[PARENTS[joint]], self._rest[e], seen[0], part)
            if heel is not None:
                here = product(here, heel)
                variance[joint] = doubt[joint] = doubt[joint] + part * min(0.0, off + LEFT_RAD**2 - swing)
            turn = self._turns[e](here, *seen[:2])
            if turn is not None:
                noise = off + 0.5 * self._leaks[e] * swing
                gain = 1.0 if self.kind.sent else prior / (prior + noise)  # as sure as this is beside the network
                turn = partly(turn, parts[e] * gain)
                left = gain * fixed + (noise if self.kind.sent else (1.0 - gain) * prior)
                variance[joint] = doubt[joint] + parts[e] * (left - prior)
            if heel is not None:
                turn = heel if turn is None else product(heel, turn)
                bone = turned(product(world[joint], turn), offsets_m[CHILDREN[joint][0]].tolist())
                np.add(positions[joint], bone, out=positions[CHILDREN[joint][0]])
            if turn is not None:
                turns[joint] = turn
        _turn_all(rotations, local, turns, previous)

    def _line(self, at_s: float) -> list[tuple[list[float], list[float], float]]:
        """Of each joint, the two vectors at a time, and the variance [rad^2] of a turn by them."""
        ats = [min(at_s, last_s + AHEAD_S) for last_s in self._last_s]
        reaches = [
            min(max(reach * sqrt(sqrt(noise) / (CALM_RAD_S2 + HASTE_HZ * speed)), NARROW_S), WIDE_S)
            + 1.5 * min(abs(at - last_s), self._interval_s + AHEAD_S)
            for reach, at, last_s, noise, speed in zip(self._reach, ats, self._last_s, self._noise, self._speed)
        ]
        x = self._times - (ats[0] if min(ats) == max(ats) else np.array(ats)[:, None])
        part = x / np.array(reaches)[:, None]  # (E, KEPT)
        level, sloped = self._weights[:, 0], self._weights[:, 1]
        np.maximum(1.0 - part * part, 0.0, out=level)
        np.multiply(level, part, out=sloped)
        sums = (self._weights @ self._samples).tolist()  # (E, 2, 8)
        return [self._fitted(e, *of) for e, of in enumerate(zip(sums, ats, reaches))]

    def _fitted(
        self, e: int, sums: list[list[float]], at_s: float, reach_s: float
    ) -> tuple[list[float], list[float], float]:
        """The line of least squares at a time, its slope a little levelled, from the weighted sums of a joint."""
        (*a, w0, _), (*b, w1, t1) = sums
        if w0 < 1e-6:
            last = self._last[e].tolist()
            return last[:3], last[3:], 2.0 * self._noise[e]
        w2 = (t1 - at_s * w1) / reach_s + LEVEL * w0
        scale = 1.0 / (w0 * w2 - w1 * w1)
        p, q = w2 * scale, w1 * scale
        v = [p * y - q * z for y, z in zip(a, b)]
        return v[:3], v[3:], 2.0 * self._noise[e] * p


def _chain(joints: list[int]) -> list[tuple[int, int]]:
    """The joints and all that they hang on, each after its parent: (joint, parent)."""
    needed = set()
    for joint in joints:
        while joint >= 0:
            needed.add(joint)
            joint = PARENTS[joint]
    return [(joint, PARENTS[joint]) for joint in sorted(needed)]


def _turn_of(joint: int, rest: F64, weight: F64, offsets_m: F32) -> tuple[Turn, float]:
    """How a joint's turn follows from the two vectors: about its bone, or, of a leaf, any. And what part of the
    variance of its bone's direction goes into a turn about it: vectors along the bone cannot tell the two apart."""
    if joint in LEAVES:
        return freely(*rest), 0.0
    bone = offsets_m[CHILDREN[joint][0]].astype(np.float64)
    bone /= max(float(np.linalg.norm(bone)), 1e-9)
    along = rest @ bone
    level = rest - along[:, None] * bone
    leak = (weight * along) @ level / max(float(weight @ (level * level).sum(1)), 1e-9)
    return about(bone, rest, weight), float(leak @ leak)


def _turn_all(rotations: F32, local: list[Quaternion], turns: dict[int, Quaternion], previous: F32) -> None:
    """Joints turned in their own axes, in place; what hangs on them stays as it is turned in the world.

    A leaf that nothing is seen of goes with its joint.
    """
    joints = _touched(tuple(turns))
    before, now = previous.tolist(), []
    for joint in joints:
        q, p = local[joint], before[joint]
        if PARENTS[joint] in turns:
            q = product(inverse(turns[PARENTS[joint]]), q)
        if joint in turns:
            q = product(q, turns[joint])
        same = q[0] * p[0] + q[1] * p[1] + q[2] * p[2] + q[3] * p[3] >= 0.0
        now.append(q if same else (-q[0], -q[1], -q[2], -q[3]))
    if now:
        rotations[list(joints)] = now


@lru_cache(maxsize=256)
def _touched(joints: tuple[int, ...]) -> tuple[int, ...]:
    below = {child for joint in joints for child in CHILDREN[joint] if child not in LEAVES}
    return tuple(sorted(below | set(joints)))


class Orientation:
    """By rows: what actors' sources show of their rotations."""

    def __init__(self, capacity: int, landmarks: bool) -> None:
        """Without ``landmarks``, by rotations that frames bring alone."""
        self._landmarks = landmarks
        self.tracks: list[Track | None] = [None] * capacity  # None: nothing, so far
        self._kinds: tuple[dict[str, Kind | None], ...] = ({}, {})  # by layout: without rotations, and with them

    def forget(self, row: int) -> None:
        self.tracks[row] = None

    def take(self, row: int, frame: Frame, t_ns: int) -> None:
        """Take in a frame that intake.py has found right, for a time on the row's clock."""
        brings = frame.rotations is not None
        if not (brings or self._landmarks):
            return
        kinds, name = self._kinds[brings], frame.layout
        if name not in kinds:
            kinds[name] = kind_of(get_layout(name), brings)
        kind = kinds[name]
        if kind is None:
            return
        track = self.tracks[row]
        if track is None or track.kind is not kind:
            track = self.tracks[row] = Track(kind, t_ns)
        track.take(kind.read(frame), t_ns)
