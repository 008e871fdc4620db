"""Points of a source that are no joints of the model, each carried by a joint that is one (carriers.py).

A point's place beside its joint, in the axes of the joint's rotation, is passed on as it came where the input is clean,
is smoothed where it is noisy, and is kept while the point is not seen. All of it happens at the time that a pose is
for: of a time between two frames the place is interpolated, beyond the newest it turns with the joint.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from math import exp

import numpy as np
import numpy.typing as npt

from model.skeleton import J
from streamer.carriers import UNKNOWN, Indices
from streamer.clock import SECOND_NS
from streamer.runtimes.block import F32

F64 = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

FRAMES = 48  # kept for poses of the past: 0.2 s at 240 Hz
RHO_M = 0.003  # as in the network: noisier places are smoothed, cleaner ones passed on
FAST_S = 0.15  # a place is followed by a mean over this,
SLOW_S = 20.0  # and kept as one over this, in which
KEPT_M = 0.1  # one frame counts for no more
NOISE_S = 1.0  # the noise is a mean over this
FIRST_M2, FIRST_S = 1e-4, 0.01  # the noise before any was seen, and for how long that counts
RESET_S = 0.1  # what was missing for longer is followed anew
FADE_S = 1.0  # a missing point goes to where it is kept within this
JUMP_M = 0.12  # in a thirtieth of a second, beyond the noise: an outlier, unless a second frame says so, too
NEAR_NS = 40_000_000  # a rotation this near to a frame's time is that of the frame
LEARNED = 30  # frames that say which joint an unknown point is near


class CarriedPoints:
    """Those (E) of one actor. Places are relative to the actor's origin [m]."""

    def __init__(self, carriers: Indices) -> None:
        count, self._unknown = len(carriers), np.flatnonzero(carriers == UNKNOWN)
        self.carriers = np.where(carriers == UNKNOWN, 0, carriers)
        self._away_m: F64 = np.zeros((len(self._unknown), J))  # sums of the unknown ones' distances to each joint,
        self._met: F64 = np.zeros((len(self._unknown), J))  # and of how many
        self.local: F64 = np.full((count, 3), np.nan)  # places in the carriers' axes, as the last frame's pose has them
        self._fast: F64 = np.zeros((count, 3))
        self._slow: F64 = np.zeros((count, 3))
        self._steady: F64 = np.zeros((count, 3))  # a mix of the two
        self._seen_s: F64 = np.zeros((count, 1))
        self._noise_m2: F64 = np.full((count, 1), FIRST_M2)
        self._watched_s: F64 = np.full((count, 1), FIRST_S)
        self._share: F64 = np.ones((count, 1))  # of the steady place in the answer
        self.restart()

    def restart(self) -> None:
        """A new track: what was seen of the old one is no past of it."""
        count = len(self.carriers)
        self._t_ns: deque[int] = deque(maxlen=FRAMES)
        self._points: deque[F64] = deque(maxlen=FRAMES)  # (E, 3) as sent, NaN where missing
        self._beside: deque[F64] = deque(maxlen=FRAMES)  # (E, 3) the same from the carriers as sent
        self._turns: deque[tuple[int, F32]] = deque(maxlen=FRAMES)  # rotations of the carriers in the stream's poses
        self._jumped: Bools = np.zeros(count, np.bool_)
        self._gone_s: F64 = np.full((count, 1), np.inf)
        self._for_ns: int | None = None  # the time that ``local`` is for

    def take(self, t_ns: int, points: F64, joints: F32, for_ns: int, world: F32, free: F32) -> None:
        """A frame, and the pose that followed it.

        Args:
            points: (E, 3) as sent, NaN where missing. joints: (4, 24) x, y, z and present.
            for_ns: the time of the pose. world: (24, 3, 3) its rotations. free: (24, 3) its joints.
        """
        if len(self._unknown):
            self._find(points, joints)
        dt_s = (t_ns - self._t_ns[-1]) / SECOND_NS if self._t_ns else 0.0
        beside = points - np.where(joints[3] > 0, joints[:3], np.nan).T[self.carriers]
        if self._beside:
            outliers = self._outliers(beside, dt_s)
            points[outliers], beside[outliers] = np.nan, np.nan
        self._t_ns.append(t_ns)
        self._points.append(points)
        self._beside.append(beside)
        self._turns.append((for_ns, world[self.carriers]))
        step_s = min(max(dt_s, 1e-3), 0.1)
        self._watch(step_s)
        shown = self._shown(for_ns, self._turns[-1][1], free)
        self._follow(shown, ~np.isnan(shown[:, :1]), dt_s, step_s)
        self._for_ns = for_ns

    def at(self, for_ns: int, world: F32, free: F32) -> F64:
        """(E, 3) the points of a pose for a time; as in ``take``. NaN where nothing was ever seen."""
        turned, local = world[self.carriers], self.local
        if for_ns != self._for_ns and self._t_ns:
            shown = self._shown(for_ns, turned, free)
            local = np.where(np.isnan(shown), local, shown + self._share * (self._steady - shown))
        return free[self.carriers] + (turned @ local[..., None])[..., 0]

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
            self._seen_s[moved], self.local[moved] = 0.0, np.nan
            self.restart()
        going = self._met.max(1) < LEARNED
        self._unknown, self._away_m, self._met = self._unknown[going], self._away_m[going], self._met[going]

    def _outliers(self, beside: F64, dt_s: float) -> Bools:
        """(E,) which points are suddenly where nothing moves to; who was one is believed the next time."""
        most = JUMP_M * min(max((dt_s / 0.033) ** 2, 0.3), 30.0) + 4 * np.sqrt(self._noise_m2[:, 0])
        jump = beside - self._beside[-1]
        far: Bools = (jump * jump).sum(1) > most * most  # not where either is missing
        far &= ~self._jumped
        self._jumped = far
        return far

    def _watch(self, step_s: float) -> None:
        """The noise: how far a place two frames ago lies off the cubic through its four neighbours."""
        if len(self._t_ns) < 5:
            return
        times = [(self._t_ns[i] - self._t_ns[-3]) / SECOND_NS for i in (-5, -4, -2, -1)]
        weights = [1.0] * 4
        for i, own in enumerate(times):
            for k, other in enumerate(times):
                if k != i:
                    weights[i] *= other / (other - own)
        b = self._beside
        error = weights[0] * b[-5] + weights[1] * b[-4] + weights[2] * b[-2] + weights[3] * b[-1] - b[-3]
        square = (error * error).sum(1, keepdims=True) / (3.0 * (1.0 + sum(w * w for w in weights)))
        told = ~np.isnan(square)
        self._watched_s += step_s * told
        gain = step_s / np.minimum(self._watched_s, NOISE_S)
        self._noise_m2 += np.where(told, gain * (square - self._noise_m2), 0.0)
        level = self._noise_m2 / RHO_M**2
        level *= level
        self._share = level / (level + 1.0)

    def _shown(self, for_ns: int, turned: F32, free: F32) -> F64:
        """(E, 3) the places that frames show for a time, in axes of the carriers; NaN where none does."""
        newest_ns = self._t_ns[-1]
        if for_ns >= newest_ns or len(self._t_ns) == 1:
            points, beside = self._points[-1], self._beside[-1]
            if for_ns > newest_ns:
                turned = self._turned(newest_ns, turned)
        else:
            k = max(bisect_right(self._t_ns, for_ns), 1)
            share = max(0.0, (for_ns - self._t_ns[k - 1]) / (self._t_ns[k] - self._t_ns[k - 1]))
            points, beside = (of[k - 1] + share * (of[k] - of[k - 1]) for of in (self._points, self._beside))
        apart = np.isnan(beside)
        if np.count_nonzero(apart):  # the carrier is not seen: beside where it is thought to be
            beside = np.where(apart, points - free[self.carriers], beside)
        shown: F64 = (beside[:, None] @ turned)[:, 0]
        return shown

    def _turned(self, t_ns: int, turned: F32) -> F32:
        """(E, 3, 3) the carriers' rotations in the stream's pose for a time; ``turned`` where there is none."""
        for_ns, known = min(self._turns, key=lambda turn: abs(turn[0] - t_ns))
        return known if abs(for_ns - t_ns) < NEAR_NS else turned

    def _follow(self, shown: F64, there: Bools, dt_s: float, step_s: float) -> None:
        """Means of the places shown, where they are there (E, 1); and ``local``, the places as they are answered."""
        weight = step_s * there
        first = self._seen_s == 0
        self._seen_s = np.minimum(self._seen_s + weight, SLOW_S)
        news = np.where(there, shown - self._slow, 0.0)
        far = np.sqrt((news * news).sum(1, keepdims=True)) / KEPT_M
        share = weight / np.maximum(self._seen_s, 1e-3)
        self._slow += share * news / np.where(first, 1.0, np.maximum(far, 1.0))
        anew = self._gone_s > RESET_S
        gain = np.where(anew, 1.0, weight / np.minimum(np.maximum(self._seen_s, 1e-3), FAST_S))
        self._fast += np.where(there, gain * (shown - self._fast), 0.0)
        self._gone_s = np.where(there, 0.0, self._gone_s + dt_s)
        # The fast mean counts for what its noise does not explain of its distance from the slow one.
        apart = self._fast - self._slow
        noise = 3.0 * self._noise_m2 * (0.5 * step_s / FAST_S)
        self._steady = self._slow + apart * np.maximum(
            1.0 - noise / np.maximum((apart * apart).sum(1, keepdims=True), 1e-12), 0.0
        )
        kept = self._slow + exp(-dt_s / FADE_S) * (self.local - self._slow)
        self.local = np.where(there, shown + self._share * (self._steady - shown), kept)
