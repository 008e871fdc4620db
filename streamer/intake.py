"""What comes in: frames of any layout -> canonical joints of all of them in one array, bad ones named and left out.

Nothing here knows an actor's history: that is actors.py. filter.py has the whole data path.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from model.layouts import Layout, LayoutError, get_layout
from model.skeleton import J
from streamer.errors import FrameError
from streamer.frames import Array, Frame
from streamer.runtimes.block import F32
from streamer.vetting import COLLAPSED, Shown, collapsed, plainly_a_body

Bools = npt.NDArray[np.bool_]

FARTHEST_M = 1e5  # beyond this a coordinate is not a place
BODY_M = 4.0  # a joint farther than this from the body's median is not a joint
ADULT_M = 1.7
_UNITS = {"feet": 0.3048, "decimetres": 0.1, "inches": 0.0254, "centimetres": 0.01, "millimetres": 0.001}
UNIT = 0.2  # by which the square of a quaternion's length may differ from 1
FARTHEST_NS = 4 * 10**18  # 126 years from the clock's zero: the difference of any two times fits in 64 bits
FLOAT32 = np.dtype(np.float32)


class Seen(NamedTuple):
    """Frames that can be used, as arrays over frames."""

    places: list[int]  # which of the frames that were read
    frames: list[Frame]
    t_ns: list[int]
    joints: F32  # (B, 6, 24) canonical: x, y, z in the world [m], present, confidence, derived; last two 0 where absent
    shown: list[Shown]  # the first four of ``joints`` as plain numbers

    def at(self, index: list[int]) -> Seen:
        """Those at some indices, in that order."""
        places, frames = [self.places[i] for i in index], [self.frames[i] for i in index]
        t_ns, shown = [self.t_ns[i] for i in index], [self.shown[i] for i in index]
        return Seen(places, frames, t_ns, self.joints[index], shown)


class Group(NamedTuple):
    """Frames of one layout that all have a confidence, or all have none."""

    places: list[int]
    frames: list[Frame]
    positions: list[Array]
    confidence: list[Array]  # empty: they have none


class Intake:
    """Checks frames and brings them to canonical joints; keeps the layouts it has met."""

    def __init__(self) -> None:
        self._layouts: dict[str, Layout] = {}

    def read(self, frames: Sequence[Frame], errors: dict[int, FrameError]) -> Seen:
        """The usable ones of ``frames``, in their order; why another is not goes to ``errors``, under its place."""
        groups: dict[tuple[Layout, bool], Group] = {}
        for place, frame in enumerate(frames):
            try:
                layout = self.layout(frame.layout)
                positions, confidence = _checked(frame, layout)
            except FrameError as error:
                errors[place] = error
                continue
            group = groups.setdefault((layout, confidence is None), Group([], [], [], []))
            group.places.append(place)
            group.frames.append(frame)
            group.positions.append(positions)
            if confidence is not None:
                group.confidence.append(confidence)
        parts = [_canonical(layout, group, errors) for (layout, _), group in groups.items()]
        if len(parts) == 1:
            return parts[0]
        places = [place for part in parts for place in part.places]
        seen = Seen(
            places, [frame for part in parts for frame in part.frames], [t_ns for part in parts for t_ns in part.t_ns],
            np.concatenate([np.empty((0, 6, J), np.float32), *(part.joints for part in parts)]),
            [shown for part in parts for shown in part.shown],
        )  # fmt: skip
        return seen.at(sorted(range(len(places)), key=places.__getitem__))

    def layout(self, name: str) -> Layout:
        """The layout that frames call by this name. Raises FrameError."""
        layout = self._layouts.get(name)
        if layout is None:
            try:
                layout = get_layout(name)
            except (LayoutError, OSError) as error:
                raise FrameError("layout", f"layout: {error}") from error
            self._layouts[name] = layout
        return layout


def _checked(frame: Frame, layout: Layout) -> tuple[Array, Array | None]:
    """Positions (J, 3) and confidence (J,) of a frame that has an integer time and the layout's shape."""
    t_ns = frame.t_ns
    if isinstance(t_ns, bool) or not isinstance(t_ns, (int, np.integer)):
        raise FrameError("time", f"t_ns must be integer nanoseconds, not {type(t_ns).__name__}")
    if not -FARTHEST_NS <= t_ns <= FARTHEST_NS:
        raise FrameError("time", f"t_ns {t_ns} lies more than 126 years from 0; it is in nanoseconds")
    joints = len(layout.joints)
    positions = _numbers(frame.positions, np.float64, "joint_count", "positions")
    if positions.shape != (joints, 3):
        raise FrameError("joint_count", f"positions: {layout.name} has {joints} x 3, not {positions.shape}")
    if frame.rotations is not None:
        _check_rotations(frame.rotations, joints)
    if frame.confidence is None:
        return positions, None
    try:
        confidence = _numbers(frame.confidence, np.float32, "confidence", "confidence")
        if confidence.shape != (joints,):
            raise FrameError("confidence", f"confidence: {joints} numbers, one a joint, not {confidence.shape}")
    except FrameError:
        if np.fmax.reduce(np.abs(positions), axis=None) > FARTHEST_M:  # the first thing wrong with it is told
            raise _beyond() from None
        raise
    return positions, confidence


def _check_rotations(value: Any, joints: int) -> None:
    """Raises where rotations are not unit quaternions (J, 4), or NaN where they are not known."""
    rotations = _numbers(value, np.float64, "rotations", "rotations")
    if rotations.shape != (joints, 4):
        raise FrameError("rotations", f"rotations: {joints} x 4 numbers, xyzw, one a joint, not {rotations.shape}")
    with np.errstate(over="ignore"):
        square = np.add.reduce(rotations * rotations, 1)
    wrong = np.abs(square - 1.0) > UNIT  # NaN is not
    if np.count_nonzero(wrong):
        at = int(wrong.argmax())
        raise FrameError(
            "rotations",
            f"rotations: the quaternion of joint {at} has the length {np.sqrt(square[at]):.3g}, and must have 1; "
            "where none is known, send NaN",
        )


def _numbers(value: Any, dtype: Any, reason: str, field: str) -> Array:
    """An array of floats: float32 as it came, anything else as ``dtype``."""
    try:
        if type(value) is np.ndarray and value.dtype is FLOAT32:
            return value
        return np.asarray(value, dtype)
    except (TypeError, ValueError) as error:
        raise FrameError(reason, f"{field}: not an array of numbers ({error})") from error


def _beyond() -> FrameError:
    return FrameError("absurd", f"positions: a coordinate lies beyond {FARTHEST_M:g} m; positions are in metres")


def _canonical(layout: Layout, group: Group, errors: dict[int, FrameError]) -> Seen:
    """The usable frames of a group; far coordinates are refused, far joints hidden."""
    positions = np.array(group.positions)
    beyond = np.abs(positions) > FARTHEST_M  # infinity included, NaN not
    if np.count_nonzero(beyond):
        far = beyond.any((1, 2))
        errors |= {group.places[i]: _beyond() for i in np.flatnonzero(far)}
        positions[far] = np.nan  # left out below
    confidence = np.array(group.confidence) if group.confidence else None
    xyz, measured, derived, trust = layout.to_canonical(positions, confidence)
    visible = measured | derived
    joints: F32 = np.empty((len(xyz), 6, J), np.float32)
    joints[:, :3], joints[:, 3], joints[:, 4], joints[:, 5] = xyz.swapaxes(1, 2), visible, trust, derived
    whole = np.count_nonzero(visible) == visible.size
    shown: list[Shown] = joints[:, :4].tolist()
    seen = Seen(group.places, group.frames, [int(frame.t_ns) for frame in group.frames], joints, shown)
    for i in _wide(shown, joints, None if whole else visible):
        error = _hide_strays(joints[i])
        if error is not None:
            errors[group.places[i]] = error
        shown[i] = joints[i, :4].tolist()
    for i, own in enumerate(shown):
        if plainly_a_body(own):
            continue
        if collapsed(joints[i], own) or not (joints[i, 3].any() or np.count_nonzero(positions[i])):
            errors.setdefault(group.places[i], FrameError("collapsed", COLLAPSED))
    if errors:
        seen = seen.at([i for i, place in enumerate(seen.places) if place not in errors])
    return seen


def _wide(shown: list[Shown], joints: F32, visible: Bools | None) -> list[int]:
    """Which of the frames (B, 6, 24) spread farther along an axis than a body, over joints that are ``visible``,
    (B, 24) or (24,), None for all of them."""
    if visible is None and len(shown) == 1:
        return [0] if any(max(row) - min(row) > BODY_M for row in shown[0]) else []
    xyz = joints[:, :3]
    if visible is None:
        span = np.maximum.reduce(xyz, 2) - np.minimum.reduce(xyz, 2)
    else:
        which = visible[..., None, :]
        span = np.maximum.reduce(xyz, 2, where=which, initial=-np.inf)
        span -= np.minimum.reduce(xyz, 2, where=which, initial=np.inf)  # -inf where there is none
    wide = span > BODY_M
    return np.flatnonzero(wide.any(1)).tolist() if np.count_nonzero(wide) else []


def _hide_strays(joints: F32) -> FrameError | None:
    """Hides joints of a frame (6, 24) that lie metres off the body, in place; an error if most do."""
    visible = joints[3] > 0
    away = np.linalg.norm(joints[:3] - np.median(joints[:3, visible], 1, keepdims=True), axis=0)
    far = visible & (away > BODY_M)
    if 2 * far.sum() <= visible.sum():
        joints[3:, far] = 0.0
        return None
    span_m = float(np.ptp(joints[:3, visible], axis=1).max())
    unit, factor = min(_UNITS.items(), key=lambda unit: abs(np.log(span_m * unit[1] / ADULT_M)))
    said = f"the body spans {span_m:.3g} m (scale), they are in metres; in {unit} it would be {span_m * factor:.2g} m"
    return FrameError("absurd", f"positions: {said}")
