"""Cases: what a source makes of a clean body. Each is a few lines in CASES, and gives a Pair of any Body.

A source defines joints its own way, sees some of them, adds noise, and says how sure it is. The truth of a pair is the
clean joint as the source defines it, of the joints that are scored.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from bench.accuracy.bodies import CALM_S, Body, Motion, back_and_forth, flipping, spinning, standing, striking
from bench.accuracy.pairs import Bools, Pair
from bench.track import Floats, Times
from model.landmarks import landmarks
from model.layouts import get_layout
from model.noise.cameras import astray
from model.noise.definitions import KINDS, define
from model.noise.fixed import NOISES, make_noise
from model.skeleton import INDEX

RATE_HZ = 30.0
HEEL_STAYS_M, HEEL_MOVES_M, HEEL_MOVES_S = 0.0065, 0.0055, 0.4  # of a coordinate; see _heel_error


def _both(*names: str) -> tuple[str, ...]:
    return tuple(f"{side}_{name}" for name in names for side in ("left", "right"))


LIMBS: dict[str, tuple[str, ...]] = {
    "hand": ("left_wrist", "left_hand"),
    "arm": ("left_elbow", "left_wrist", "left_hand"),
    "head": ("head",),
    "leg": ("left_knee", "left_ankle", "left_foot"),
    "both legs + pelvis": ("pelvis", *_both("hip", "knee", "ankle", "foot")),
}
LEGS = _both("knee", "ankle", "foot")
LAYOUTS = ("smpl_24", "h36m_17", "coco_17", "mediapipe_33")


@dataclass(frozen=True)
class Case:
    """One kind of stream.

    Args:
        group: which rows of the targets it belongs to.
        noise: "clean", "white 10" (mm), or one of NOISES.
        kind: how the joints are defined, of definitions.KINDS; None: as ours.
        motion: what is added to the body's own.
        hidden: canonical joints that are not seen from ``from_s`` on, nor scored.
        invented: joints whose place the source makes up at low confidence; not scored.
        outliers: share of joints and frames that are 200 to 500 mm off.
        astray_hz: how often a limb is elsewhere for up to a second.
        after_s: what comes before is not scored.
        against: the case whose poses are scored on the same joints, beside.
        split: whose bodies: "test", or "still" for people who stand.
        tuned: the noises whose settings today's filters have, the best by hindsight; none: all.
    """

    name: str
    group: str
    layout: str = "smpl_24"
    noise: str = "white 10"
    kind: str | None = None
    motion: Motion | None = None
    hidden: tuple[str, ...] = ()
    from_s: float = 0.0
    invented: tuple[str, ...] = ()
    outliers: float = 0.0
    astray_hz: float = 0.0
    after_s: float = 0.0
    against: str | None = None
    split: str = "test"
    tuned: tuple[str, ...] = ("white10",)

    def pair(self, body: Body) -> Pair:
        """What the source sends of a body, and what is true of it; the draw depends on the body and the noise alone."""
        rng = np.random.default_rng(zlib.crc32(f"{body.name} {self.noise} {self.layout}".encode()))
        if self.motion is not None:
            body = self.motion(body)
        truth = body.positions.copy()
        if self.kind is not None:
            drawn = np.random.default_rng(zlib.crc32(f"{body.name} {self.kind}".encode()))
            defined = define(drawn, truth[None], body.rotations[None], [self.kind])
            truth = np.where(defined.given[0][:, None], defined.positions[0], np.nan)
        marks = landmarks(self.layout)
        clean = marks.at(truth, body.rotations)
        noisy, confidence = _noisy(rng, self.noise, body, marks.host, clean)
        if self.noise != "clean" and not self.noise.startswith("white "):
            noisy = noisy + _heel_error(rng, self.layout, body.times_s)
        if self.astray_hz:
            error = astray(rng, np.asarray(body.times_s, np.float64)[None], np.array([self.astray_hz], np.float32))[0]
            noisy = noisy + error[:, marks.host]
        if self.outliers:
            _throw(rng, noisy, self.outliers)
        unseen = np.isin(marks.host, _indices(self.hidden))
        noisy[np.ix_(body.times_s >= self.from_s, unseen)] = np.nan
        if self.invented:
            _invent(noisy, confidence, truth, np.isin(marks.host, _indices(self.invented)))
        truth[:, _indices((*self.hidden, *self.invented))] = np.nan
        return Pair(body.name, self.name, "", self.layout, body.times_s, noisy, truth, confidence, body.rotations)


def _indices(names: Sequence[str]) -> list[int]:
    return [INDEX[name] for name in names]


def _noisy(rng: np.random.Generator, noise: str, body: Body, host: Times, clean: Floats) -> tuple[Floats, Floats]:
    """The layout's joints (T, J, 3) with noise, NaN where lost, and confidence (T, J).

    A landmark has the error of the joint that it moves with, and some of its own: a head seen to turn is seen badly.
    """
    confidence = np.ones(clean.shape[:2])
    if noise == "clean":
        return clean.copy(), confidence
    if noise.startswith("white "):
        return clean + rng.normal(0.0, 1e-3 * float(noise.split()[1]), clean.shape), confidence
    drawn = make_noise(noise, rng, body.positions[None].astype(np.float32), np.asarray(body.times_s, np.float64)[None])
    error = np.where(drawn.mask[0, :, :, None], drawn.positions[0] - body.positions, np.nan)[:, host]
    mark = np.bincount(host[host >= 0], minlength=24)[host] > 1
    own = rng.normal(0.0, 0.004, clean.shape) * mark[:, None]
    return clean + error + own, np.asarray(drawn.confidence[0][:, host], np.float64)


def _heel_error(rng: np.random.Generator, layout: str, times_s: Floats) -> Floats:
    """(T, J, 3) what MediaPipe's heels are off beyond the rest: 0 for other landmarks and layouts.

    Measured on ``data/rendered`` (53 takes), in the axes of the true foot: heel less ankle is off by 11 mm rms for a
    whole take and 14 mm in it, with a correlation of .79 after .1 s and .28 after .5 s. The noise of landmarks gives 10
    mm of that already, from frame to frame.
    """
    names = get_layout(layout).joints
    heels = [n for n, name in enumerate(names) if name.endswith("_heel") and "left_foot_index" in names]
    out = np.zeros((len(times_s), len(names), 3))
    drawn = rng.standard_normal((len(times_s), len(heels), 3))
    keep = np.exp(-np.diff(times_s) / HEEL_MOVES_S)
    for t, rho in enumerate(keep, 1):
        drawn[t] = rho * drawn[t - 1] + np.sqrt(1.0 - rho * rho) * drawn[t]
    out[:, heels] = HEEL_MOVES_M * drawn + HEEL_STAYS_M * rng.standard_normal((len(heels), 3))
    return out


def _throw(rng: np.random.Generator, noisy: Floats, share: float) -> None:
    """Single frames of single joints somewhere else, in place."""
    hit = rng.random(noisy.shape[:2]) < share
    hit[1:] &= ~hit[:-1]
    direction = rng.standard_normal((int(hit.sum()), 3))
    direction /= np.linalg.norm(direction, axis=-1, keepdims=True)
    noisy[hit] += direction * rng.uniform(0.2, 0.5, (len(direction), 1))


def _invent(noisy: Floats, confidence: Floats, truth: Floats, which: Bools) -> None:
    """Legs under a desk as an estimator makes them up, in place: straight down from the hips, steady, unsure."""
    hips = np.nanmean(truth[:, _indices(_both("hip"))], axis=1)
    shape = np.nanmedian(noisy[:, which] - hips[:, None], axis=0)
    shape = shape * (0.6, 1.0, 0.6) + (0.08, 0.05, 0.30)
    noisy[:, which] = hips[:, None] + shape
    confidence[:, which] = 0.05


def _definitions() -> list[Case]:
    cases = []
    for kind, of in KINDS.items():
        any_noise = Case(kind, "definitions", of.layout, kind=kind)
        cases += [
            replace(any_noise, name=f"{kind}, clean", noise="clean", after_s=4.0),
            replace(any_noise, name=f"{kind}, 10 mm"),
            replace(any_noise, name=f"{kind}, realistic", noise="realistic", tuned=("realistic",)),
        ]
        if kind in ("own", "h36m"):  # what a lifter gives
            cases.append(replace(any_noise, name=f"{kind}, lifted", noise="lifted", tuned=("lifted",)))
    return cases


def _half_seen() -> list[Case]:
    cases = []
    for layout, noise in product(LAYOUTS, ("clean", "white 10")):
        whole = Case(f"{layout}, {noise}, all seen", "whole", layout, noise)
        part = replace(whole, group="half seen", against=whole.name)
        parts = (replace(part, name=f"{layout}, {noise}, no {limb}", hidden=LIMBS[limb]) for limb in LIMBS)
        cases += [whole, *parts]
    whole = Case("", "half seen", against="smpl_24, white 10, all seen", from_s=5.0, after_s=7.0)
    cases += [replace(whole, name=f"{limb} lost at 5 s", hidden=LIMBS[limb]) for limb in ("arm", "both legs + pelvis")]
    minute = Case("a minute, all seen", "whole", motion=back_and_forth(70.0))
    part = replace(minute, group="half seen", against=minute.name, from_s=5.0, after_s=50.0)
    cases += [
        minute,
        *(replace(part, name=f"{limb} lost for a minute", hidden=LIMBS[limb]) for limb in ("hand", "arm")),
    ]
    cases += [
        Case(f"{layout}, invented legs", "invented", layout, invented=LEGS, against=f"{layout}, white 10, all seen")
        for layout in LAYOUTS
    ]
    return cases


def _moving() -> list[Case]:
    fast = [(f"spins {n} a second", spinning(n)) for n in (1.0, 2.0, 3.0)]
    fast += [("strikes", striking), ("flips", flipping)]
    still = []
    for mm in (2, 5, 10):
        people = Case(f"people, {mm} mm", "stillness", noise=f"white {mm}", after_s=CALM_S, split="still", tuned=())
        still += [people, replace(people, name=f"a held pose, {mm} mm", motion=standing, split="test")]
    return [Case(name, "fast", motion=motion, after_s=CALM_S) for name, motion in fast] + still


def _rest() -> list[Case]:
    return [
        Case("gross outliers", "outliers", outliers=0.05),
        Case("gross outliers, mediapipe_33", "outliers", "mediapipe_33", outliers=0.05),
        Case("limbs astray", "astray", astray_hz=1.5),
        Case("limbs astray, coco_17", "astray", "coco_17", astray_hz=1.5),
        Case("a minute astray, coco_17", "astray", "coco_17", astray_hz=1.5, motion=back_and_forth(70.0), after_s=50.0),
        Case("head, hands, feet shown", "rotations", "mediapipe_33", "realistic", tuned=("realistic",)),
        Case("head shown", "rotations", "coco_17", "realistic", tuned=("realistic",)),
    ]


CASES: dict[str, Case] = {case.name: case for case in [*_definitions(), *_half_seen(), *_moving(), *_rest()]}
GROUPS: tuple[str, ...] = tuple(dict.fromkeys(case.group for case in CASES.values()))
assert all(case.noise in NOISES or case.noise.startswith("white ") for case in CASES.values())
