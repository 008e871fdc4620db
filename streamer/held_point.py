"""A point of a pose that may be held where it is, as a planted foot is: when, where, and how it is let go.

Whoever holds a point adds an offset to where the pose has it; once let go the offset fades with the speed that it had.
A point that is surer than SURE_M is left alone: what it does is what the person does.
"""

from __future__ import annotations

from math import exp, sqrt
from typing import NamedTuple

from streamer.quaternions import Vector

SURE_M = 0.004  # sigma a coordinate below which a point is not held; a rise counts after DOUBT_S alone
DOUBT_S = 1.0
SPEED_S = 0.05  # time constant of a point's speed
LEAVES = 1.4  # times the speed at which it stands, and it is let go
FAR_SIGMA = 4.0  # farther from where it is held than so many sigma, and it is let go
CREEP_M_S, CREEP_S, YOUNG_S = 0.04, 0.4, 0.15  # a held point goes to the pose's, so fast at most, in so long; at first
LONGEST_STEP_S = 0.1  # for a creeping point a gap is no longer than this
ARRIVE_HZ, FADE_HZ, SLOW_HZ = 120.0, 60.0, 8.0  # haste of an offset that fades: at taking hold, at letting go
FADE_M_S2 = 80.0  # large ones fade in less haste: with no more acceleration than this
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
        offset: Vector = mix(self.offset_m, part, self.speed_m_s, rest)
        if square(offset) < GONE_M2 and after_s * hz > 1e-3 and square(self.speed_m_s) * rest * rest < GONE_M2:
            return FREE if self.at_m is None else Hold(self.at_m, ZERO, ZERO, hz)
        return Hold(self.at_m, offset, mix(self.offset_m, -pull, self.speed_m_s, slow * left), hz)

    def moving(self, speed_m_s: Vector, after_s: float) -> Vector:
        """How fast the point is then, which the pose has at that speed [m/s]."""
        return mix(self.later(after_s).speed_m_s, 1.0, speed_m_s if self.at_m is None else ZERO, 1.0)


FREE = Hold(None, ZERO, ZERO, FADE_HZ)


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
        hold, speed = self.hold.later(dt_s), sqrt(square(self._speed))
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
        off = mix(self._mean, 1.0, at_m, -1.0)
        return square(off) > min(most_m, FAR_SIGMA * self._sigma_m) ** 2

    def _follow(self, raw: Vector, dt_s: float) -> None:
        """A fading-memory filter of order two, as the network's front has them."""
        left = exp(-dt_s / SPEED_S)
        ahead = mix(self._mean, 1.0, self._speed, dt_s)
        off = mix(raw, 1.0, ahead, -1.0)
        self._mean = mix(ahead, 1.0, off, 1.0 - left * left)
        self._speed = mix(self._speed, 1.0, off, (1.0 - left) ** 2 / dt_s)

    def _take_hold(self, raw: Vector, hold: Hold) -> Hold:
        """Where it comes to rest: on along its way, ever slower, and not back."""
        self._held_s = 0.0
        place, speed = mix(raw, 1.0, hold.offset_m, 1.0), mix(self._speed, 1.0, hold.speed_m_s, 1.0)
        on = mix(speed, 1.0 / ARRIVE_HZ, ZERO, 0.0)
        return Hold(mix(place, 1.0, on, 1.0), mix(on, -1.0, ZERO, 0.0), speed, ARRIVE_HZ)

    def _let_go(self, raw: Vector, hold: Hold, at_m: Vector) -> Hold:
        """On the way to where the pose has it, as fast as that moves from the start: feet leave abruptly."""
        offset = mix(mix(at_m, 1.0, raw, -1.0), 1.0, hold.offset_m, 1.0)
        size = sqrt(square(offset))
        haste = min(FADE_HZ, max(SLOW_HZ, sqrt(FADE_M_S2 / max(size, 1e-4))))
        return Hold(None, offset, hold.speed_m_s, haste)

    def _crept(self, raw: Vector, at_m: Vector, dt_s: float) -> Vector:
        """Nearer to where the pose has it: as a mean would, but slowly."""
        gap = mix(raw, 1.0, at_m, -1.0)
        dt_s = min(dt_s, LONGEST_STEP_S)
        self._held_s += dt_s
        part = 1.0 - exp(-dt_s / min(max(self._held_s, YOUNG_S), CREEP_S))
        way = part * sqrt(square(gap))
        return mix(at_m, 1.0, gap, part * min(1.0, CREEP_M_S * dt_s / max(way, 1e-9)))


def mix(a: Vector, p: float, b: Vector, q: float) -> Vector:
    return p * a[0] + q * b[0], p * a[1] + q * b[1], p * a[2] + q * b[2]


def square(a: Vector) -> float:
    return a[0] * a[0] + a[1] * a[1] + a[2] * a[2]
