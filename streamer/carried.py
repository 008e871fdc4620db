"""Points of a source that are no joints of the model, each carried by a joint that is one (carriers.py).

A point's place beside its joint, in the axes of the joint's rotation, is passed on as it came where the input is clean,
is smoothed where it is noisy, and is kept while the point is not seen. All of it happens at the time that a pose is
for: of a time between two frames the place is interpolated, beyond the newest it turns with the joint. The axes are
those of the stream's own poses, all of them as far from their frames: between poses of a time seen and one foretold a
joint seems to turn.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from math import exp
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from model.skeleton import J
from streamer.carriers import UNKNOWN, Carriers, Indices, world_rotations
from streamer.clock import SECOND_NS
from streamer.runtimes.block import F32

F64 = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Values = TypeVar("Values", F64, F32)

FRAMES = 48  # kept for poses of the past: 0.2 s at 240 Hz
RHO_M = 0.003  # as in the network: noisier places are smoothed, cleaner ones passed on
FAST_S = 0.15  # a place is followed by a mean over this,
SLOW_S = 20.0  # and kept as one over this, in which
KEPT_M = 0.1  # one frame counts for no more
NOISE_S = 1.0  # the noise is a mean over this,
MOVES_S = 0.5  # and how far a point moves off its steady place over this
FIRST_M2, FIRST_S = 1e-4, 0.01  # the noise before any was seen, and for how long that counts
RESET_S = 0.1  # what was missing for longer is followed anew
FADE_S = 1.0  # a missing point goes to where it is kept within this
JUMP_M = 0.12  # in a thirtieth of a second, beyond the noise: an outlier, unless a second frame says so, too
LEARNED = 30  # frames that say which joint an unknown point is near


class CarriedPoints:
    """Those (E) of one actor. Places are relative to the actor's origin [m]."""

    def __init__(self, of: Carriers) -> None:
        count, self._unknown, self._measured = len(of.others), np.flatnonzero(of.carriers == UNKNOWN), of.measured
        self._away_m: F64 = np.zeros((len(self._unknown), J))  # sums of the unknown ones' distances to each joint,
        self._met: F64 = np.zeros((len(self._unknown), J))  # and of how many
        self._carry(np.where(of.carriers == UNKNOWN, 0, of.carriers))
        self.local: F64 = np.full((count, 3), np.nan)  # places in the carriers' axes, as the last frame's pose has them
        self._fast: F64 = np.zeros((count, 3))
        self._slow: F64 = np.zeros((count, 3))
        self._steady: F64 = np.zeros((count, 3))  # a mix of the two
        self._seen_s: F64 = np.zeros((count, 1))
        self._noise_m2: F64 = np.full((count, 1), FIRST_M2)
        self._watched_s: F64 = np.full((count, 1), FIRST_S)
        self._moves_m2: F64 = np.full((count, 1), 3.0 * FIRST_M2)  # off the steady place, noise included
        self._share: F64 = np.ones((count, 1))  # of the steady place in the answer
        self.restart()

    def restart(self) -> None:
        """A new track: what was seen of the old one is no past of it."""
        count = len(self.carriers)
        self._t_ns: deque[int] = deque(maxlen=FRAMES)
        self._points: deque[F64] = deque(maxlen=FRAMES)  # (E, 3) as sent, NaN where missing
        self._beside: deque[F64] = deque(maxlen=FRAMES)  # (E, 3) the same from the carriers as sent
        self._heard: deque[F64] = deque(maxlen=5)  # whichever of the two the point's answer rests on
        self._axes: deque[F32] = deque(maxlen=FRAMES)  # (E, 3, 3) the carriers', in the stream's poses
        self._axes_ns: deque[int] = deque(maxlen=FRAMES)  # the times that these are for; ``local`` is for the newest
        self._jumped: Bools = np.zeros(count, np.bool_)
        self._gone_s: F64 = np.full((count, 1), np.inf)

    def take(self, t_ns: int, points: F64, joints: F32, for_ns: int, rotations: F32, free: F32) -> None:
        """A frame, and the pose that followed it.

        Args:
            points: (E, 3) as sent, NaN where missing. joints: (4, 24) x, y, z and present.
            for_ns: the time of the pose. rotations: (24, 4) its local quaternions. free: (24, 3) its joints.
        """
        if len(self._unknown):
            self._find(points, joints)
        dt_s = (t_ns - self._t_ns[-1]) / SECOND_NS if self._t_ns else 0.0
        given = joints[:3].T[self.carriers]
        if np.count_nonzero(joints[3]) < J:
            given = np.where(joints[3, self.carriers, None] > 0, given, np.nan)
        beside = points - given
        if self._beside:
            self._hide_outliers(points, beside, dt_s)
        self._t_ns.append(t_ns)
        self._points.append(points)
        self._beside.append(beside)
        self._heard.append(np.where(self._free, points, beside))
        self._axes.append(world_rotations(rotations, self.carriers))
        self._axes_ns.append(for_ns)
        step_s = min(max(dt_s, 1e-3), 0.1)
        if len(self._heard) == 5:
            self._watch(step_s)
        self._follow(self._shown(for_ns, free), dt_s, step_s)

    def at(self, for_ns: int, free: F32) -> F64:
        """(E, 3) the points of a pose for a time, whose joints are free (24, 3); NaN where nothing was ever seen."""
        local = self.local
        if for_ns != self._axes_ns[-1]:
            shown = self._shown(for_ns, free)
            local = np.where(np.isnan(shown), local, shown + self._share * (self._steady - shown))
        placed: F64 = free[self.carriers] + (self._axes_at(for_ns) @ local[..., None])[..., 0]
        return placed

    def _carry(self, carriers: Indices) -> None:
        self.carriers, self._free = carriers, ~self._measured[carriers, None]

    def _find(self, points: F64, joints: F32) -> None:
        """Looks which joint each unknown point is nearest to, for some frames."""
        away = np.linalg.norm(points[self._unknown, None] - joints[:3].T, axis=-1)
        there = ~np.isnan(away) & (joints[3] > 0)
        self._away_m += np.where(there, away, 0.0)
        self._met += there
        mean = np.where(self._met > 0, self._away_m / np.maximum(self._met, 1.0), np.inf)
        nearest = mean.argmin(1)
        moved = self._unknown[nearest != self.carriers[self._unknown]]
        if len(moved):
            self.carriers[self._unknown] = nearest
            self._carry(self.carriers)
            self._seen_s[moved], self.local[moved] = 0.0, np.nan
            self.restart()
        going = self._met.max(1) < LEARNED
        self._unknown, self._away_m, self._met = self._unknown[going], self._away_m[going], self._met[going]

    def _hide_outliers(self, points: F64, beside: F64, dt_s: float) -> None:
        """Points that are suddenly where nothing moves to are missing; who was one is believed the next time."""
        jump = beside - self._beside[-1]
        square = np.einsum("ij,ij->i", jump, jump)  # NaN where either is missing
        most = JUMP_M * min(max((dt_s / 0.033) ** 2, 0.3), 30.0)
        far = square > most * most
        if np.count_nonzero(far):
            far &= ~self._jumped & (square > (most + 4 * np.sqrt(self._noise_m2[:, 0])) ** 2)
            points[far], beside[far] = np.nan, np.nan
        self._jumped = far

    def _watch(self, step_s: float) -> None:
        """The noise: how far what was heard two frames ago lay off the cubic through its four neighbours."""
        t, p = self._t_ns, self._heard
        weights = _cubic(*((t[i] - t[-3]) / SECOND_NS for i in (-5, -4, -2, -1)))
        error = weights[0] * p[0] + weights[1] * p[1] + weights[2] * p[3] + weights[3] * p[4] - p[2]
        square = np.einsum("ij,ij->i", error, error)[:, None] / (3.0 * (1.0 + sum(w * w for w in weights)))
        told = square == square  # not NaN
        self._watched_s += step_s * told
        gain = step_s / np.minimum(self._watched_s, NOISE_S)
        self._noise_m2 += np.where(told, gain * (square - self._noise_m2), 0.0)

    def _shown(self, for_ns: int, free: F32) -> F64:
        """(E, 3) the places that frames show for a time, in the carriers' axes; NaN where none does.

        Beside a carrier that the layout measures: beside it as the frame gave it, so that the point goes where the
        filter moves the carrier. Else beside the filter's own.
        """
        newest_ns = self._t_ns[-1]
        if for_ns >= newest_ns:
            points, beside = self._points[-1], self._beside[-1]
        else:
            points, beside = _at(self._t_ns, self._points, for_ns), _at(self._t_ns, self._beside, for_ns)
        apart = np.isnan(beside)
        if for_ns <= newest_ns:  # else the carrier has moved on since
            apart |= self._free
        beside = np.where(apart, points - free[self.carriers], beside)
        shown: F64 = (beside[:, None] @ self._axes_at(min(for_ns, newest_ns)))[:, 0]
        return shown

    def _axes_at(self, t_ns: int) -> F32:
        """(E, 3, 3) the carriers' axes at a time; ahead of the poses they turn on as they have done."""
        times, axes = self._axes_ns, self._axes
        ahead_ns = t_ns - times[-1]
        if ahead_ns == 0 or len(times) == 1:
            return axes[-1]
        if ahead_ns < 0:
            return _at(times, axes, t_ns)
        k = max(min(bisect_right(times, times[-1] - ahead_ns), len(times) - 1) - 1, 0)
        share = min(ahead_ns / (times[-1] - times[k]), 1.0)
        turned = axes[-1] @ axes[k].swapaxes(1, 2) @ axes[-1]
        return (axes[-1] + share * (turned - axes[-1])).astype(np.float32)

    def _follow(self, shown: F64, dt_s: float, step_s: float) -> None:
        """Means of the places shown, NaN where none is; and ``local``, the places as they are answered."""
        there = shown[:, :1] == shown[:, :1]  # not NaN
        weight = step_s * there
        self._seen_s = np.minimum(self._seen_s + weight, SLOW_S)
        age_s = np.maximum(self._seen_s, 1e-3)
        gain = np.where(self._gone_s > RESET_S, there, weight / np.minimum(age_s, FAST_S))
        self._fast = np.where(there, self._fast + gain * (shown - self._fast), self._fast)
        self._gone_s = np.where(there, 0.0, self._gone_s + dt_s)
        # The fast mean counts for what its noise does not explain of its distance from the slow one.
        apart = self._fast - self._slow
        square = np.maximum(np.einsum("ij,ij->i", apart, apart), 1e-12)[:, None]
        noise = self._noise_m2 * (1.5 * step_s / FAST_S)
        self._steady = self._slow + apart * np.maximum(1.0 - noise / square, 0.0)
        most = np.where(age_s > step_s, KEPT_M / np.sqrt(square), 1.0)
        self._slow = self._slow + weight / age_s * np.minimum(most, 1.0) * apart
        off = shown - self._steady
        moved = np.einsum("ij,ij->i", off, off)[:, None]
        self._moves_m2 += np.where(there, step_s / MOVES_S * (moved - self._moves_m2), 0.0)
        level = (self._noise_m2 / RHO_M**2) ** 2
        self._share = level / (level + 1.0) * np.minimum(3.0 * self._noise_m2 / np.maximum(self._moves_m2, 1e-12), 1.0)
        kept = self._slow + exp(-dt_s / FADE_S) * (self.local - self._slow)
        self.local = np.where(there, shown - self._share * off, kept)


def _at(times_ns: deque[int], values: deque[Values], t_ns: int) -> Values:
    """Values between those of the times (rising) around a time, or the only or the first ones."""
    k = bisect_right(times_ns, t_ns)
    if k == 0 or len(times_ns) == 1:
        return values[0]
    share = (t_ns - times_ns[k - 1]) / (times_ns[k] - times_ns[k - 1])
    return values[k - 1] + values[k].dtype.type(share) * (values[k] - values[k - 1])


def _cubic(a: float, b: float, c: float, d: float) -> tuple[float, float, float, float]:
    """What values at four times (differing, none of them 0) count for on the cubic through them at time 0."""
    ab, ac, ad, bc, bd, cd = a - b, a - c, a - d, b - c, b - d, c - d
    return (
        -b * c * d / (ab * ac * ad),
        a * c * d / (ab * bc * bd),
        -a * b * d / (ac * bc * cd),
        a * b * c / (ad * bd * cd),
    )
