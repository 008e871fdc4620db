"""What an actor's stream looks like over a second: its size, which way up it is, left and right, and whose bones.

In plain numbers, six frames of a second: on the hot path that costs a tenth of what numpy would.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import dist, exp, isfinite, log, nan, sqrt
from statistics import median
from typing import NamedTuple

from model.skeleton import INDEX, rest_lengths_m
from streamer.clock import SECOND_NS
from streamer.runtimes.block import F32
from streamer.warnings import Warnings

EVERY_NS = SECOND_NS // 6  # a frame is looked at so often,
SAMPLES = 6  # and so many are judged together
SIZES = (0.35, 1.5)  # of people against the mean one: a baby, and 2.5 m
HEIGHT_M = 1.7  # of the mean skeleton, to the top of the head
SCALES = {"feet": 0.3048, "decimetres": 0.1, "units of 10 m": 10.0, "units of 100 m": 100.0, "yards": 0.9144}
SWAPPED = -0.05  # knees and toes point farther back than this; real estimators: above 0.0 in 98 of 100 looks
INVERTED = -0.5  # cosine of the trunk and the vertical; nobody stands on their hands for
LONG = 3  # so many looks
# Limbs that are longer or shorter than in use by this, and by so many times what they usually vary, are another body's.
GROWN, TIMES, VARY = 0.04, 3.0, 0.05

_LIMBS = [
    (INDEX[f"{side}_{above}"], INDEX[f"{side}_{below}"])
    for above, below in (("hip", "knee"), ("knee", "ankle"), ("shoulder", "elbow"), ("elbow", "wrist"))
    for side in ("left", "right")
]
_REST_M = [float(rest_lengths_m()[below]) for _, below in _LIMBS]
_HIPS, _SHOULDERS = ((INDEX[f"left_{name}"], INDEX[f"right_{name}"]) for name in ("hip", "shoulder"))
_LEGS = [[INDEX[f"{side}_{name}"] for name in ("hip", "knee", "ankle", "foot")] for side in ("left", "right")]

Point = tuple[float, float, float]


class Look(NamedTuple):
    """What a second of one actor says; NaN where it does not show it."""

    size: float  # of the limbs against the mean skeleton's
    grown: float  # of the limbs against the skeleton in use: natural logarithm
    forward: float  # how far toes and knees point to where hips and shoulders face [m]; < 0: sides are swapped
    upright: float  # cosine of the trunk and the vertical


@dataclass(slots=True)
class Opinion:
    """What is thought of one actor, from look to look."""

    mean: float = 0.0  # of ``grown``,
    vary: float = VARY  # and how much it varies
    swapped: int = 0  # looks in a row
    inverted: int = 0
    back: bool = False  # has just come back: somebody else, perhaps
    limbs_m: list[list[float]] = field(default_factory=list)  # samples: length of each limb, NaN where not measured
    forward_m: list[float] = field(default_factory=list)
    upright: list[float] = field(default_factory=list)

    def forget_samples(self) -> None:
        self.limbs_m, self.forward_m, self.upright = [], [], []

    def take(self, joints: F32) -> bool:
        """Looks at a frame (6, 24); True when there are enough to ``look`` at."""
        x, y, z, present, _, derived = joints.tolist()
        points = list(zip(x, y, z))
        there = [a > 0 and not b for a, b in zip(present, derived)]
        self.limbs_m.append([dist(points[a], points[b]) if there[a] and there[b] else nan for a, b in _LIMBS])
        if all(there[i] for i in (*_HIPS, *_SHOULDERS)):
            self._posture(points, there)
        return len(self.limbs_m) >= SAMPLES

    def _posture(self, points: list[Point], there: list[bool]) -> None:
        (a, b), (c, d) = ((points[i] for i in pair) for pair in (_HIPS, _SHOULDERS))
        across = [p + q - r - s for p, q, r, s in zip(a, c, b, d)]
        up = [p + q - r - s for p, q, r, s in zip(c, d, a, b)]
        self.upright.append(up[1] / max(sqrt(sum(x * x for x in up)), 1e-9))
        ahead = (
            across[1] * up[2] - across[2] * up[1], across[2] * up[0] - across[0] * up[2],
            across[0] * up[1] - across[1] * up[0],
        )  # fmt: skip
        far = max(sqrt(sum(x * x for x in ahead)), 1e-9)
        for hip, knee, ankle, foot in _LEGS:
            h, k, n, f = points[hip], points[knee], points[ankle], points[foot]
            if there[hip] and there[knee] and there[ankle]:
                self.forward_m.append(sum((k[i] - 0.5 * (h[i] + n[i])) * ahead[i] for i in range(3)) / far)
            if there[ankle] and there[foot]:
                self.forward_m.append(sum((f[i] - n[i]) * ahead[i] for i in range(3)) / far)

    def look(self, lengths_m: F32) -> Look:
        """What the samples say, on the skeleton's bone lengths (24,); they are forgotten."""
        ratios, grown = [], []
        for (_, below), rest_m, *limb in zip(_LIMBS, _REST_M, *self.limbs_m):
            seen = [x for x in limb if isfinite(x)]
            if 2 * len(seen) > len(limb) and (now_m := median(seen)) > 0:
                ratios.append(now_m / rest_m)
                grown.append(log(now_m / max(float(lengths_m[below]), 1e-6)))
        known = len(ratios) > 2
        forward = sum(self.forward_m) / len(self.forward_m) if len(self.forward_m) >= SAMPLES else nan
        upright = median(self.upright) if 2 * len(self.upright) > SAMPLES else nan
        self.forget_samples()
        return Look(median(ratios) if known else nan, median(grown) if known else nan, forward, upright)

    def is_another(self, grown: float) -> bool:
        """Whether limbs that differ so from the skeleton in use are somebody else's."""
        if not isfinite(grown):
            return False
        limit, self.back = (GROWN + TIMES * self.vary) * (0.5 if self.back else 1.0), False
        if abs(grown) > limit:
            self.mean, self.vary = 0.0, VARY
            return True
        self.vary += 0.3 * (abs(grown - self.mean) - self.vary)
        self.mean += 0.3 * (grown - self.mean)
        return False

    def report(self, seen: Look, actor: str, warnings: Warnings) -> None:
        """Says what looks wrong with the stream, and takes back what does not any more."""
        if isfinite(seen.size):
            warnings.state("scale", actor, _scale(seen.size))
        self.swapped = self.swapped + 1 if seen.forward < SWAPPED * min(seen.size, 1.0) else 0
        self.inverted = self.inverted + 1 if seen.upright < INVERTED else 0
        warnings.state(
            "mirrored", actor,
            "left and right look swapped, knees and toes point back: a layout file with mirror = true turns it round"
            if self.swapped >= LONG else None,
        )  # fmt: skip
        warnings.state(
            "upside_down", actor,
            'looks upside down, the head below the hips: a layout file with up_axis = "-y" turns it over'
            if self.inverted >= LONG else None,
        )  # fmt: skip


def _scale(size: float) -> str | None:
    """What is to be said of a body of that size against the mean one."""
    if SIZES[0] <= size <= SIZES[1]:
        return None
    height_m = size * HEIGHT_M
    said = f"looks {height_m:.2g} m tall (scale): positions are in metres"
    unit = min(SCALES, key=lambda name: abs(log(size * SCALES[name])))
    metres = height_m * SCALES[unit]
    return f"{said}; if they came in {unit}, it is one of {metres:.2f} m" if 0.5 < metres < 2.5 else said


def percent(grown: float) -> str:
    """A change of length in words."""
    return f"{abs(exp(min(grown, 5.0)) - 1):.0%} {'longer' if grown > 0 else 'shorter'}"
