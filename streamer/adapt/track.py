"""An actor's stream as it is measured here: the joints that its source itself gives, in the world, at real times."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from model.layouts import Layout
from model.skeleton import J
from streamer.clock import SECOND_NS
from streamer.frames import Frame

PAUSE_S = 1.0

F64 = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Track:
    """T frames of one actor.

    Attributes:
        layout: name of the source's layout.
        times_s: (T,) rising, from 0 [s].
        positions: (T, 24, 3) joints that the source itself gives [m], Y up; NaN where one is missing.
        given: (24,) the joints that the layout measures: missing where a frame does not have them.
        confidence: (T, 24) 0 to 1, 0 where missing; None: the source sends none.
    """

    layout: str
    times_s: F64
    positions: F64
    given: Bools
    confidence: F64 | None = None

    def __len__(self) -> int:
        return len(self.times_s)

    @property
    def seen(self) -> Bools:
        """(T, 24) True where a joint is there."""
        return np.asarray(np.isfinite(self.positions).all(-1))

    @property
    def fps(self) -> float:
        """By the median step [Hz]."""
        return float(1.0 / np.median(np.diff(self.times_s)))

    @property
    def seconds(self) -> float:
        """In which frames come: of a longer step than PAUSE_S only that counts [s]."""
        return float(np.minimum(np.diff(self.times_s), PAUSE_S).sum())


def track_of(frames: Sequence[Frame], layout_of: Callable[[str], Layout]) -> Track:
    """The frames of one actor, in growing time, those of the layout that most of them have.

    Raises:
        LayoutError: a layout is not known, or has another number of joints.
    """
    names = [frame.layout for frame in frames]
    layout = layout_of(max(set(names), key=names.count))
    chosen = [frame for frame, name in zip(frames, names) if layout_of(name) is layout]
    positions = np.full((len(chosen), J, 3), np.nan)
    told = any(frame.confidence is not None for frame in chosen)
    confidence = np.zeros((len(chosen), J))
    for n, frame in enumerate(chosen):
        xyz, measured, _, trust = layout.to_canonical(_numbers(frame.positions), frame.confidence)
        positions[n, measured] = xyz[measured]
        confidence[n] = np.where(measured, trust, 0.0)
    times_s = np.array([frame.t_ns - chosen[0].t_ns for frame in chosen], np.int64) / SECOND_NS
    return Track(layout.name, times_s, positions, layout.measured.copy(), confidence if told else None)


def _numbers(positions: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Infinite, which is no place, becomes NaN."""
    return np.where(np.isfinite(positions), positions, np.nan)
