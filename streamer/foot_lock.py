"""Foot-lock: planted feet of the published poses stand still, and are let go without a jerk.

A foot is held by its ball (the "foot" joint), and the way from there to the ankle is held beside it (held_point.py);
legs.py bends the leg for that.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from math import sqrt

import numpy as np

from model.skeleton import INDEX
from streamer.clock import SECOND_NS
from streamer.held_point import FREE, ZERO, Hold, Point, mix, square
from streamer.legs import arc, bent
from streamer.quaternions import Quaternion, Vector, inverse, product
from streamer.runtimes.block import F32
from streamer.skeletons import F64

LEGS = tuple(
    tuple(INDEX[f"{side}_{joint}"] for joint in ("hip", "knee", "ankle", "foot")) for side in ("left", "right")
)
STILL_M_S = 0.07  # a slower foot stands whatever the probability of contact,
PLANTED_M_S, OF_SIGMA_HZ = 0.03, 4.5  # and at even odds one that is slower by this and so many sigma a second,
MOST_M_S = 1.0  # or by as much times the root of other odds; no more than this
FAR_M = 0.2  # farther from where it is held than this it is let go
FOOT_TURN_M, FOOT_TURN_M_S = 0.05, 0.12  # the same of the way from ball to ankle
UNSEEN_NS = SECOND_NS  # a foot that was not seen for longer is let go
KEPT = 64  # moments of the past that poses are asked for: 0.25 s at 240 Hz
MOVED_PART = 0.5  # of the square of a way that a joint is moved is added to its variance

Holds = tuple[Hold, Hold, Hold, Hold]  # of ball and ankle, left and right
NOTHING: Holds = (FREE, FREE, FREE, FREE)


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

    def carry(
        self, rows: Sequence[int], t_ns: Sequence[int], ends_s: Sequence[F64], positions: Sequence[F64],
        rotations: Sequence[F32],
    ) -> None:  # fmt: skip
        """Puts the feet of answers for two times around each pose's where they go as that pose has them, in place.

        Args:
            t_ns: (B,) the times of the poses. ends_s: two (B,) those of the answers, from there; they differ.
            positions: two (B, 24, 3) m, world. rotations: two (B, 24, 4) parent_from_joint; signs mean nothing here.
        """
        for i, row in enumerate(rows):
            holds, after_s = self._feet[row].holds(t_ns[i])
            first_s, last_s = float(ends_s[0][i]), float(ends_s[1][i])
            for side, leg in enumerate(LEGS):
                if all(hold is FREE for hold in holds[2 * side : 2 * side + 2]):
                    continue
                first, last = (_points(there[i], leg) for there in positions)
                goes = []  # ball and way: at the time of the pose, and how fast
                for hold, a, b in zip(holds[2 * side : 2 * side + 2], first, last):
                    speed = mix(mix(b, 1.0, a, -1.0), 1.0 / (last_s - first_s), ZERO, 0.0)
                    goes.append((hold.put(mix(a, 1.0, speed, -first_s), after_s), hold.moving(speed, after_s)))
                for end_s, at, turned in zip((first_s, last_s), positions, rotations):
                    ball, way = (mix(place, 1.0, speed, end_s) for place, speed in goes)
                    at[i, leg[1:]], turned[i, leg[:3]] = _placed(leg, ball, way, at[i], turned[i])


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
    """Bends one leg in place."""
    was, way = _points(positions, leg)
    new, local = _placed(leg, ball.put(was, after_s), ankle.put(way, after_s), positions, rotations)
    where = list(leg[1:])
    shift = np.array(new) - positions[where]
    positions[where] = new
    covariance[where] += (MOVED_PART * shift[:, :, None] * shift[:, None]).astype(np.float32)
    for joint, (x, y, z, w) in zip(leg, local):
        a, b, c, d = previous[joint].tolist()
        rotations[joint] = (x, y, z, w) if x * a + y * b + z * c + w * d >= 0.0 else (-x, -y, -z, -w)


def _placed(
    leg: Sequence[int], ball: Vector, way: Vector, positions: F64, rotations: F32
) -> tuple[list[Vector], list[Quaternion]]:
    """Knee, ankle and ball of a leg, and the local rotations of hip, knee and ankle, whose ball is there.

    ``way``: to the ankle, which keeps its height: a leg that is nearly straight would bend by centimetres.
    """
    at = positions[list(leg)].tolist()
    _, was = _points(positions, leg)
    foot = mix((ball[0] + way[0], at[2][1], ball[2] + way[2]), 1.0, ball, -1.0)
    scale = sqrt(square(was) / max(square(foot), 1e-12))
    to = mix(ball, 1.0, foot, scale)
    q: list[Quaternion] = rotations[[0, *leg[:3]]].tolist()
    moved = bent(at[0], at[1], at[2], mix(to, 1.0, at[2], -1.0), q[0], q[1:])
    long = sqrt(square(was))
    world = moved.ankle_world
    if long > 1e-6:  # the foot turns as its bone does
        turn = arc(mix(was, -1.0 / long, ZERO, 0.0), mix(foot, -scale / long, ZERO, 0.0))
        world = product(turn, moved.ankle_world)
    local = [*moved.rotations, product(inverse(moved.knee_world), world)]
    return [moved.knee, moved.ankle, mix(moved.ankle, 1.0, foot, -scale)], local
