"""Calibration on request: the skeleton of somebody who stands still for a few seconds, and how sure it is.

Joints are averaged first and bones are measured then: noise, which makes every single bone of a frame too long, is
gone by that time. The body's sway is taken out before, by the turn and shift that bring each frame nearest to the
middle one.
skeletons.py is what measures while people move.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from model.kinematics import bone_vectors, fork_frames
from model.skeleton import CHILDREN, FORKS, INDEX, JOINTS, PARENTS, J, rest_directions, rest_offsets
from streamer.clock import SECOND_NS
from streamer.errors import ConfigError
from streamer.runtimes.block import F32

Floats = npt.NDArray[np.floating[Any]]
Bools = npt.NDArray[np.bool_]

SHORTEST_S, LONGEST_S = 0.5, 60.0
LONGEST_STEP_S = 0.1  # a gap counts as no more time than this
FEWEST = 10  # frames
MUST = tuple(
    INDEX[f"{side}_{joint}"]
    for joint in ("hip", "knee", "ankle", "shoulder", "elbow", "wrist") for side in ("left", "right")
)  # fmt: skip
SEEN = 0.6  # share of the frames in which a joint is seen, or it is not measured
PARTS = 5  # of the span: how they differ says whether somebody moved, and how sure the mean is
STEPPED_M, MOVED_M = 0.15, 0.06  # a joint's middle, from part to part: in the world; of the body that is held fast
OUTLIER = 3.0  # sigma


def check_seconds(seconds: Any) -> None:
    """Raises ConfigError: somebody cannot be asked to stand still for so long."""
    number = isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
    if not number or not SHORTEST_S <= seconds <= LONGEST_S:  # NaN, too
        raise ConfigError(f"seconds must be a number in {SHORTEST_S:g}..{LONGEST_S:g}, not {str(seconds)[:40]}")


class Standing(NamedTuple):
    """What came of a calibration on request, so far."""

    state: Literal["measuring", "done", "failed"]
    message: str  # in words: how far it is, how sure it is, or what to do
    seconds: float  # that were seen
    sigma_m: F32 | None = None  # (24,) standard error of each bone's length [m]; NaN of one that was kept as it was
    offsets_m: F32 | None = None  # (24, 3) the skeleton that was adopted


@dataclass
class Span:
    """The frames of one actor in the seconds that were asked for."""

    seconds: float
    elapsed_s: float = 0.0
    _last_ns: int | None = None
    _joints: list[Floats] = field(default_factory=list)  # (24, 3) m, world; NaN where not seen

    def __post_init__(self) -> None:
        check_seconds(self.seconds)

    def take(self, t_ns: int, joints: Floats, present: Bools) -> bool:
        """Take in a frame (24, 3) [m, world]; whether the span is over."""
        if self._last_ns is not None:
            self.elapsed_s += min(max((t_ns - self._last_ns) / SECOND_NS, 0.0), LONGEST_STEP_S)
        self._last_ns = t_ns
        self._joints.append(np.where(present[:, None], joints, np.nan))
        return self.elapsed_s >= self.seconds - 1e-6 and len(self._joints) >= FEWEST

    def so_far(self) -> Standing:
        return Standing("measuring", f"stand still: {self.elapsed_s:.1f} of {self.seconds:g} s", self.elapsed_s)

    def measured(self, in_use_m: F32) -> Standing:
        """The skeleton; bones that were not seen stay as they are ``in_use_m`` (24, 3)."""
        joints = np.array(self._joints)
        seen = np.isfinite(joints[..., 0]).mean(0) >= SEEN
        if missing := [JOINTS[j] for j in MUST if not seen[j]]:
            return self._failed(f"not seen: {', '.join(missing)}; show the whole body")
        if moved := _moved(joints, STEPPED_M):
            return self._failed(moved)
        fixed = _without_sway(joints)
        if moved := _moved(fixed, MOVED_M):
            return self._failed(moved)
        offsets, measured = _skeleton(_middle(fixed), seen, in_use_m.astype(np.float64))
        parts = [np.linalg.norm(bone_vectors(_middle(part)), axis=-1) for part in np.array_split(fixed, PARTS)]
        sigma = np.where(measured, np.std(parts, axis=0, ddof=1) / PARTS**0.5, np.nan)
        known = sigma[measured]
        worst = int(np.nanargmax(np.where(measured, sigma, np.nan)))
        kept = [JOINTS[j] for j in range(1, J) if not measured[j]]
        message = (
            f"{len(known)} bones measured, each to {1e3 * np.median(known):.1f} mm, "
            f"{JOINTS[worst]} to {1e3 * sigma[worst]:.1f} mm"
        ) + (f"; not seen and kept as they were: {', '.join(kept)}" if kept else "")
        told = sigma.astype(np.float32), offsets.astype(np.float32)
        return Standing("done", message, self.elapsed_s, *told)

    def _failed(self, why: str) -> Standing:
        return Standing("failed", f"{why}, and calibrate again; the skeleton is as it was", self.elapsed_s)


def _moved(joints: Floats, most_m: float) -> str:
    """Which joint moved farther than that from part to part of the span, in words; "" if none did."""
    middles = _middles(joints)[:, MUST]  # (PARTS, M, 3)
    way = np.nanmax(np.linalg.norm(middles - np.nanmedian(middles, axis=0), axis=-1), axis=0)
    worst = int(np.nanargmax(way))
    if way[worst] <= most_m:
        return ""
    return f"{JOINTS[MUST[worst]]} moved {100 * way[worst]:.0f} cm: stand still, as in a T-pose or with hanging arms"


def _middles(joints: Floats) -> Floats:
    with np.errstate(invalid="ignore"):
        return np.array([_median(part) for part in np.array_split(joints, PARTS)])


def _median(joints: Floats) -> Floats:
    """(24, 3) over the frames; NaN where a joint is in none."""
    known = np.isfinite(joints).any((0, 2))
    out = np.full(joints.shape[1:], np.nan)
    out[known] = np.nanmedian(joints[:, known], axis=0)
    return out


def _without_sway(joints: Floats) -> Floats:
    """Frames (T, 24, 3) turned and shifted to lie on the middle of all, by the joints of MUST."""
    middle, must = _median(joints)[list(MUST)], joints[:, MUST]
    weight = np.isfinite(must[..., :1]).astype(np.float64)  # (T, M, 1)
    total = np.maximum(weight.sum(1, keepdims=True), 1.0)
    filled = np.where(weight > 0, must, 0.0)
    centre, target = filled.sum(1, keepdims=True) / total, (weight * middle).sum(1, keepdims=True) / total
    u, _, vt = np.linalg.svd((weight * (filled - centre)).swapaxes(1, 2) @ (middle - target))
    flip = np.ones((len(joints), 3))
    flip[:, 2] = np.where(np.linalg.det(u @ vt) < 0, -1.0, 1.0)
    turn = (u * flip[:, None]) @ vt  # acts on row vectors
    enough = (weight.sum((1, 2)) >= 4)[:, None, None]
    out: Floats = np.where(enough, (joints - centre) @ turn + target, joints)
    return out


def _middle(joints: Floats) -> Floats:
    """(24, 3) mean over the frames without outliers; NaN where a joint is in none."""
    middle = _median(joints)
    off = np.abs(joints - middle)
    spread = 1.4826 * _median(off) + 1e-6
    with np.errstate(invalid="ignore"):
        good = (off <= OUTLIER * spread).all(-1, keepdims=True)
    count = good.sum(0)
    total = np.where(good, joints, 0.0).sum(0)
    return np.where(count > 0, total / np.maximum(count, 1), middle)


def _skeleton(joints: Floats, seen: Bools, in_use_m: Floats) -> tuple[Floats, Bools]:
    """Rest-pose vectors (24, 3) of averaged joints, and which of them are measured: what the network sees in a frame
    (model/network/measured.py), but of a frame without noise."""
    measured = seen & seen[[max(p, 0) for p in PARENTS]]
    measured[0] = False
    bones = np.where(measured[:, None], bone_vectors(np.where(seen[:, None], joints, 0.0)), 0.0)
    out = np.where(measured[:, None], rest_directions() * np.linalg.norm(bones, axis=-1, keepdims=True), in_use_m)
    whole = [all(measured[child] for child in CHILDREN[fork]) for fork in FORKS]
    like = np.where(measured[:, None], bones, rest_offsets())
    turns = fork_frames(rest_offsets(), like=like) @ fork_frames(like, like=like).swapaxes(-1, -2)  # rest_from_world
    for fork, complete, turn in zip(FORKS, whole, turns):
        for child in CHILDREN[fork]:
            out[child] = turn @ bones[child] if complete else in_use_m[child]
            measured[child] &= complete
    return out, measured


class Standings:
    """By actor: what was asked for, and what came of it."""

    def __init__(self) -> None:
        self._spans: dict[str, Span] = {}
        self._ended: dict[str, Standing] = {}

    def __bool__(self) -> bool:
        return bool(self._spans)

    def begin(self, actor: str, seconds: float) -> None:
        """Raises ConfigError: so many seconds cannot be asked for."""
        self._spans[actor] = Span(seconds)
        self._ended.pop(actor, None)

    def forget(self, actor: str) -> None:
        self._spans.pop(actor, None)
        self._ended.pop(actor, None)

    def of(self, actor: str) -> Standing | None:
        """None: it was not asked for."""
        span = self._spans.get(actor)
        return span.so_far() if span is not None else self._ended.get(actor)

    def take(self, t_ns: int, actor: str, joints: Floats, present: Bools, in_use_m: F32) -> F32 | None:
        """Take in a frame of an actor; the skeleton (24, 3) to adopt, once there is one."""
        span = self._spans.get(actor)
        if span is None or not span.take(t_ns, joints, present):
            return None
        del self._spans[actor]
        ended = self._ended[actor] = span.measured(in_use_m)
        return ended.offsets_m
