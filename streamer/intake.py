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
from streamer.runtimes import F32

Bools = npt.NDArray[np.bool_]
Times = npt.NDArray[np.int64]

FARTHEST_M = 1e5  # beyond this a coordinate is not a place
BODY_M = 4.0  # a joint farther than this from the body's median is not a joint
FARTHEST_NS = 4 * 10**18  # 126 years from the clock's zero: the difference of any two times fits 64 bits
FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


class Seen(NamedTuple):
    """Frames that can be used, as arrays over frames."""

    places: list[int]  # which of the frames that were read
    frames: list[Frame]
    t_ns: Times  # (B,)
    xyz: F32  # (B, 24, 3) canonical joints in the world [m], meaningless where absent
    marks: F32  # (B, 3, 24) present, confidence (zero where absent), derived: each 0..1

    def at(self, index: Sequence[int]) -> Seen:
        """Those at some indices, in that order."""
        arrays = (array[np.asarray(index, np.intp)] for array in self[2:])
        return Seen([self.places[i] for i in index], [self.frames[i] for i in index], *arrays)


class Intake:
    """Checks frames and brings them to canonical joints; keeps the layouts it has met."""

    def __init__(self) -> None:
        self._layouts: dict[str, Layout] = {}

    def read(self, frames: Sequence[Frame], errors: dict[int, FrameError]) -> Seen:
        """The usable ones of ``frames``, in their order; why another is not goes to ``errors``, under its place."""
        groups: dict[tuple[Layout, bool], list[tuple[int, Frame, Array, Array | None]]] = {}
        for place, frame in enumerate(frames):
            try:
                layout = self._layout(frame.layout)
                positions, confidence = _checked(frame, layout)
            except FrameError as error:
                errors[place] = error
            else:
                groups.setdefault((layout, confidence is None), []).append((place, frame, positions, confidence))
        parts = [_canonical(layout, group, errors) for (layout, _), group in groups.items()]
        if len(parts) == 1:
            return parts[0]
        if not parts:
            return Seen([], [], np.empty(0, np.int64), np.empty((0, J, 3), np.float32), np.empty((0, 3, J), np.float32))
        places = [place for part in parts for place in part.places]
        kept = [frame for part in parts for frame in part.frames]
        arrays = (np.concatenate(arrays) for arrays in zip(*(part[2:] for part in parts)))
        return Seen(places, kept, *arrays).at(sorted(range(len(places)), key=places.__getitem__))

    def _layout(self, name: str) -> Layout:
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
    positions = _numbers(frame.positions, "joint_count", "positions")
    if positions.shape != (joints, 3):
        raise FrameError("joint_count", f"positions: {layout.name} has {joints} x 3, not {positions.shape}")
    if frame.confidence is None:
        return positions, None
    try:
        confidence = _numbers(frame.confidence, "confidence", "confidence")
        if confidence.shape != (joints,):
            raise FrameError("confidence", f"confidence: {joints} numbers, one a joint, not {confidence.shape}")
    except FrameError:
        if _beyond(positions).any():  # the first thing wrong with it
            raise _absurd() from None
        raise
    return positions, confidence


def _numbers(value: Any, reason: str, field: str) -> Array:
    """An array of floats, in the precision it came in."""
    try:
        array = np.asarray(value)
        return array if array.dtype in FLOATS else np.asarray(value, np.float64)
    except (TypeError, ValueError) as error:
        raise FrameError(reason, f"{field}: not an array of numbers ({error})") from error


def _beyond(positions: Array) -> Bools:
    """Where a coordinate is farther than any place: infinity included, NaN not."""
    out: Bools = np.abs(positions) > FARTHEST_M
    return out


def _absurd() -> FrameError:
    return FrameError("absurd", f"positions: a coordinate lies beyond {FARTHEST_M:g} m; positions are in metres")


def _canonical(
    layout: Layout, group: list[tuple[int, Frame, Array, Array | None]], errors: dict[int, FrameError]
) -> Seen:
    """Frames of one layout, that all have a confidence or all have none."""
    positions = np.array([positions for _, _, positions, _ in group])
    beyond = _beyond(positions)
    if beyond.any():
        away = beyond.any((1, 2))
        errors |= {group[i][0]: _absurd() for i in np.flatnonzero(away)}
        group, positions = [group[i] for i in np.flatnonzero(~away)], positions[~away]
    places, frames, _, given = zip(*group) if group else ((), (), (), ())
    confidence = None
    if given and given[0] is not None:
        confidence = np.fmin(np.fmax(np.array(given), 0.0), 1.0).astype(np.float32, copy=False)  # NaN: zero
    xyz, measured, derived, trust = layout.to_canonical(positions, confidence)
    visible = measured | derived
    times = np.array([int(frame.t_ns) for frame in frames], np.int64)
    marks = np.empty((len(frames), 3, J), np.float32)
    marks[:, 0], marks[:, 1], marks[:, 2] = visible, trust, derived
    seen = Seen(list(places), list(frames), times, xyz, marks)
    wide = _span(xyz, visible) > BODY_M
    return _without_strays(seen, np.flatnonzero(wide.any(1)), errors) if wide.any() else seen


def _span(xyz: F32, visible: Bools) -> F32:
    """(B, 3) extent of the visible joints [m] along each axis; -inf where there is none."""
    which = visible[..., None]
    high = np.maximum.reduce(xyz, 1, where=which, initial=-np.inf)
    out: F32 = high - np.minimum.reduce(xyz, 1, where=which, initial=np.inf)
    return out


def _without_strays(seen: Seen, wide: npt.NDArray[np.intp], errors: dict[int, FrameError]) -> Seen:
    """Hides joints that lie metres off the body in the frames ``wide``; a frame that is mostly so is left out."""
    for i in wide:
        visible = seen.marks[i, 0] > 0
        away = np.linalg.norm(seen.xyz[i] - np.median(seen.xyz[i, visible], 0), axis=-1)
        far = visible & (away > BODY_M)
        if 2 * far.sum() > visible.sum():
            said = "positions: most joints lie metres apart; positions are in metres, not mm or cm"
            errors[seen.places[i]] = FrameError("absurd", said)
        seen.marks[i, :, far] = 0.0
    kept = [i for i, place in enumerate(seen.places) if place not in errors]
    return seen if len(kept) == len(seen.places) else seen.at(kept)
