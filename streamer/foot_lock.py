"""Foot-lock: planted feet of the published poses stand still, and are let go without a jerk.

A foot is held by its ball (the "foot" joint), and the way from there to the ankle is held beside it; legs.py bends the
leg for that. Whoever holds a point adds an offset to where the pose has it; once let go the offset fades with the speed
that it had. A foot that is surer than SURE_M is left alone: what it does is what the person does.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from math import exp, sqrt
from typing import NamedTuple

import numpy as np

from model.skeleton import INDEX
from streamer.clock import SECOND_NS
from streamer.legs import arc, bent
from streamer.quaternions import Quaternion, Vector, inverse, product
from streamer.runtimes.block import F32
from streamer.skeletons import F64

LEGS = tuple(
    tuple(INDEX[f"{side}_{joint}"] for joint in ("hip", "knee", "ankle", "foot")) for side in ("left", "right")
)
SURE_M = 0.004  # sigma a coordinate below which a foot is not held; a rise counts after DOUBT_S alone
DOUBT_S = 1.0
SPEED_S = 0.05  # time constant of a point's speed
STILL_M_S = 0.07  # a slower foot stands whatever the probability of contact,
PLANTED_M_S, OF_SIGMA_HZ = 0.03, 4.5  # and at even odds one that is slower by this and so many sigma a second,
MOST_M_S = 1.0  # or by as much times the root of other odds; no more than this
LEAVES = 1.4  # times the speed at which it stands, and it is let go
FAR_SIGMA, FAR_M = 4.0, 0.3  # farther from where it is held than so many sigma, or than this, it is let go
FOOT_TURN_M, FOOT_TURN_M_S = 0.05, 0.12  # the same of the way from ball to ankle
CREEP_M_S, CREEP_S, YOUNG_S = 0.04, 0.4, 0.15  # a held point goes to the pose's, so fast at most, in so long; at first
ARRIVE_HZ, FADE_HZ, SLOW_HZ = 120.0, 60.0, 8.0  # haste of an offset that fades: at taking hold, at letting go
FADE_M_S2 = 80.0  # large ones fade in less haste: with no more acceleration than this
UNSEEN_NS = SECOND_NS // 2  # a foot that was not seen for longer is let go
LONGEST_STEP_S = 0.1  # for a creeping point a gap is no longer than this
KEPT = 64  # moments of the past that poses are asked for: 0.25 s at 240 Hz
MOVED_PART = 0.5  # of the square of a way that a joint is moved is added to its variance
GONE_M2 = 1e-10  # an offset of so little, squared, is none

ZERO: Vector = (0.0, 0.0, 0.0)


class Hold(NamedTuple):
    """How a point is held from a moment on: nothing in it changes."""

    at_m: Vector | None  # None: it is not
    offset_m: Vector  # fades
    speed_m_s: Vector  # of the offset
    haste_hz: float

    def put(self, raw: Vector, after_s: float) -> Vector:
        """Where the point is, so long after that moment, which the pose has at ``raw``."""
        base = raw if self.at_m is None else self.at_m
        if self.offset_m is ZERO:
            return base
        left = exp(-self.haste_hz * after_s)
        part, rest = (1.0 + self.haste_hz * after_s) * left, after_s * left
        (x, y, z), (a, b, c), (u, v, w) = base, self.offset_m, self.speed_m_s
        return x + part * a + rest * u, y + part * b + rest * v, z + part * c + rest * w

    def later(self, after_s: float) -> Hold:
        """The same, seen from so long after."""
        if self.offset_m is ZERO:
            return self
        hz, left = self.haste_hz, exp(-self.haste_hz * after_s)
        part, rest, pull, slow = (
            (1.0 + hz * after_s) * left,
            after_s * left,
            hz * hz * after_s * left,
            1.0 - hz * after_s,
        )
        offset: Vector = _mix(self.offset_m, part, self.speed_m_s, rest)
        if _square(offset) < GONE_M2 and after_s * hz > 1e-3 and _square(self.speed_m_s) * rest * rest < GONE_M2:
            return FREE if self.at_m is None else Hold(self.at_m, ZERO, ZERO, hz)
        return Hold(self.at_m, offset, _mix(self.offset_m, -pull, self.speed_m_s, slow * left), hz)


FREE = Hold(None, ZERO, ZERO, FADE_HZ)
Holds = tuple[Hold, Hold, Hold, Hold]  # of ball and ankle, left and right
NOTHING: Holds = (FREE, FREE, FREE, FREE)


class Point:
    """A point that may be held: its speed, smoothed, and the hold."""

    __slots__ = ("_held_s", "_mean", "_sigma_m", "_speed", "hold")

    def __init__(self, raw: Vector, sigma_m: float) -> None:
        self._mean, self._speed, self._sigma_m, self._held_s = raw, ZERO, sigma_m, 0.0
        self.hold = FREE

    def take(self, raw: Vector, dt_s: float, sigma_m: float, fast_m_s: float | None, far_m: float) -> None:
        """Take in where the pose has the point, ``dt_s`` after the last one.

        Args:
            sigma_m: how sure that is. fast_m_s: how fast a planted one is at most, None: it must not be held.
            far_m: how far from the pose it may be held, beside FAR_SIGMA.
        """
        self._follow(raw, dt_s)
        self._sigma_m = min(sigma_m, self._sigma_m + (sigma_m - self._sigma_m) * (1.0 - exp(-dt_s / DOUBT_S)))
        hold, speed = self.hold.later(dt_s), sqrt(_square(self._speed))
        at_m = hold.at_m
        if at_m is None:
            if fast_m_s is not None and speed < fast_m_s and self._sigma_m > SURE_M:
                hold = self._take_hold(raw, hold)
        elif fast_m_s is None or speed > LEAVES * fast_m_s or self._is_far(at_m, far_m):
            hold = self._let_go(raw, hold, at_m).later(dt_s)  # it left after the last time that it was seen
        else:
            hold = hold._replace(at_m=self._crept(raw, at_m, dt_s))
        self.hold = hold

    def _is_far(self, at_m: Vector, most_m: float) -> bool:
        off = _mix(self._mean, 1.0, at_m, -1.0)
        return _square(off) > min(most_m, FAR_SIGMA * self._sigma_m) ** 2

    def _follow(self, raw: Vector, dt_s: float) -> None:
        """A fading-memory filter of order two, as the network's front has them."""
        left = exp(-dt_s / SPEED_S)
        ahead = _mix(self._mean, 1.0, self._speed, dt_s)
        off = _mix(raw, 1.0, ahead, -1.0)
        self._mean = _mix(ahead, 1.0, off, 1.0 - left * left)
        self._speed = _mix(self._speed, 1.0, off, (1.0 - left) ** 2 / dt_s)

    def _take_hold(self, raw: Vector, hold: Hold) -> Hold:
        """Where it comes to rest: on along its way, ever slower, and not back."""
        self._held_s = 0.0
        place, speed = _mix(raw, 1.0, hold.offset_m, 1.0), _mix(self._speed, 1.0, hold.speed_m_s, 1.0)
        on = _mix(speed, 1.0 / ARRIVE_HZ, ZERO, 0.0)
        return Hold(_mix(place, 1.0, on, 1.0), _mix(on, -1.0, ZERO, 0.0), speed, ARRIVE_HZ)

    def _let_go(self, raw: Vector, hold: Hold, at_m: Vector) -> Hold:
        """On the way to where the pose has it, as fast as that moves from the start: feet leave abruptly."""
        offset = _mix(_mix(at_m, 1.0, raw, -1.0), 1.0, hold.offset_m, 1.0)
        size = sqrt(_square(offset))
        haste = min(FADE_HZ, max(SLOW_HZ, sqrt(FADE_M_S2 / max(size, 1e-4))))
        return Hold(None, offset, hold.speed_m_s, haste)

    def _crept(self, raw: Vector, at_m: Vector, dt_s: float) -> Vector:
        """Nearer to where the pose has it: as a mean would, but slowly."""
        gap = _mix(raw, 1.0, at_m, -1.0)
        dt_s = min(dt_s, LONGEST_STEP_S)
        self._held_s += dt_s
        part = 1.0 - exp(-dt_s / min(max(self._held_s, YOUNG_S), CREEP_S))
        way = part * sqrt(_square(gap))
        return _mix(at_m, 1.0, gap, part * min(1.0, CREEP_M_S * dt_s / max(way, 1e-9)))


class Feet:
    """Both feet of one actor, over time."""

    def __init__(self) -> None:
        self._points: list[Point] = []
        self._past: deque[tuple[int, Holds]] = deque(maxlen=KEPT)
        self._seen_ns = [0, 0]

    def take(self, t_ns: int, positions: F64, sigma_m: Sequence[float], contact: F32, present: Sequence[float]) -> None:
        """Take in the pose (24, 3) for a time, later than the last one; how sure ball and ankle are, left and right;
        the probability that each foot stands, and which joints (24,) the source shows."""
        raw = [of for leg in LEGS for of in _points(positions, leg)]
        for side, leg in enumerate(LEGS):
            if present[leg[2]] > 0.0 or present[leg[3]] > 0.0 or not self._past:
                self._seen_ns[side] = t_ns
        if not self._points:
            self._points = [Point(*of) for of in zip(raw, sigma_m)]
        elif t_ns <= self._past[-1][0]:
            return  # the past is as it was
        else:
            dt_s = (t_ns - self._past[-1][0]) / SECOND_NS
            for side in (0, 1):
                self._take_side(side, raw, dt_s, sigma_m, float(contact[side]), t_ns)
        now = tuple(point.hold for point in self._points)
        self._past.append((t_ns, now))  # type: ignore[arg-type]  # four

    def _take_side(
        self, side: int, raw: Sequence[Vector], dt_s: float, sigma_m: Sequence[float], contact: float, t_ns: int
    ) -> None:
        ball, ankle = 2 * side, 2 * side + 1
        odds = sqrt(contact / max(1.0 - contact, 1e-3))
        fast = fast_turn = None
        if t_ns - self._seen_ns[side] <= UNSEEN_NS:
            fast = STILL_M_S + min(odds * (PLANTED_M_S + OF_SIGMA_HZ * sigma_m[ball]), MOST_M_S)
        self._points[ball].take(raw[ball], dt_s, sigma_m[ball], fast, FAR_M)
        if self._points[ball].hold.at_m is not None:
            fast_turn = min(odds, 1.0) * (FOOT_TURN_M_S + OF_SIGMA_HZ * sigma_m[ankle])
        self._points[ankle].take(raw[ankle], dt_s, sigma_m[ankle], fast_turn, FOOT_TURN_M)

    def holds(self, t_ns: int) -> tuple[Holds, float]:
        """What held at a time, and for how long it had [s]."""
        for then_ns, holds in reversed(self._past):
            if then_ns <= t_ns:
                return holds, (t_ns - then_ns) / SECOND_NS
        return (self._past[0][1], 0.0) if self._past else (NOTHING, 0.0)


class FootLock:
    """By rows: the feet of all actors."""

    def __init__(self, capacity: int) -> None:
        self._feet = [Feet() for _ in range(capacity)]

    def forget(self, row: int) -> None:
        self._feet[row] = Feet()

    def hold(
        self, rows: Sequence[int], t_ns: Sequence[int], positions: F64, rotations: F32, previous: F32, covariance: F32,
        contact: F32, present: Sequence[Sequence[float]] | None,
    ) -> None:  # fmt: skip
        """Puts the feet of poses where they are held, in place.

        Args:
            t_ns: (B,) the times that the poses are for.
            positions: (B, 24, 3) m, world. rotations: (B, 24, 4) parent_from_joint.
            previous: (B, 24, 4) those of the poses before, whose signs go on.
            covariance: (B, 24, 3, 3) m^2; of joints that move it grows by the way they do.
            contact: (B, 2) probability that the left, right foot stands.
            present: (B) joints (24,) that the frames show which the poses rest on; None: the poses are for other times,
                and nothing is learned of them.
        """
        for i, row in enumerate(rows):
            feet = self._feet[row]
            if present is not None:
                feet.take(t_ns[i], positions[i], _sigmas(covariance[i]), contact[i], present[i])
            holds, after_s = feet.holds(t_ns[i])
            for side, leg in enumerate(LEGS):
                ball, ankle = holds[2 * side : 2 * side + 2]
                if ball is not FREE or ankle is not FREE:
                    _bend(leg, ball, ankle, after_s, positions[i], rotations[i], previous[i], covariance[i])


def _sigmas(covariance: F32) -> list[float]:
    """Of ball and ankle, left and right: of a coordinate [m]."""
    return [sqrt(max(float(covariance[j].trace()), 0.0) / 3.0) for leg in LEGS for j in (leg[3], leg[2])]


def _points(positions: F64, leg: Sequence[int]) -> tuple[Vector, Vector]:
    """The ball, and the way from there to the ankle."""
    a, b, c = positions[leg[3]].tolist()
    x, y, z = positions[leg[2]].tolist()
    return (a, b, c), (x - a, y - b, z - c)


def _bend(
    leg: Sequence[int], ball: Hold, ankle: Hold, after_s: float, positions: F64, rotations: F32, previous: F32,
    covariance: F32,
) -> None:  # fmt: skip
    """Bends one leg in place. The ankle keeps its height: a leg that is nearly straight would bend by centimetres."""
    at = positions[list(leg)].tolist()
    was, way = _points(positions, leg)
    there, turned = ball.put(was, after_s), ankle.put(way, after_s)
    to = (there[0] + turned[0], at[2][1], there[2] + turned[2])
    foot = _mix(to, 1.0, there, -1.0)
    scale = sqrt(_square(way) / max(_square(foot), 1e-12))
    to = _mix(there, 1.0, foot, scale)
    q: list[Quaternion] = rotations[[0, *leg[:3]]].tolist()
    moved = bent(at[0], at[1], at[2], _mix(to, 1.0, at[2], -1.0), q[0], q[1:])
    long = sqrt(_square(way))
    if long > 1e-6:  # the foot turns as its bone does
        turn = arc(_mix(way, -1.0 / long, ZERO, 0.0), _mix(foot, -scale / long, ZERO, 0.0))
        world = product(turn, moved.ankle_world)
    else:
        world = moved.ankle_world
    local = (*moved.rotations, product(inverse(moved.knee_world), world))
    new = np.array([moved.knee, moved.ankle, _mix(moved.ankle, 1.0, foot, -scale)])
    where = list(leg[1:])
    shift = new - positions[where]
    positions[where] = new
    covariance[where] += (MOVED_PART * shift[:, :, None] * shift[:, None]).astype(np.float32)
    for joint, (x, y, z, w) in zip(leg, local):
        a, b, c, d = previous[joint].tolist()
        rotations[joint] = (x, y, z, w) if x * a + y * b + z * c + w * d >= 0.0 else (-x, -y, -z, -w)


def _mix(a: Vector, p: float, b: Vector, q: float) -> Vector:
    return p * a[0] + q * b[0], p * a[1] + q * b[1], p * a[2] + q * b[2]


def _square(a: Vector) -> float:
    return a[0] * a[0] + a[1] * a[1] + a[2] * a[2]
