"""What goes into a method of the accuracy bench, and what comes out."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from bench.track import Floats, Times


class Seen(NamedTuple):
    """What a source saw of a take: positions (T, 24, 3) [m], NaN = missing, and confidence (T, 24)."""

    positions: Floats
    confidence: Floats


class Answers(NamedTuple):
    """What a method said at each frame: the times it is for (T,), positions (T, 24, 3) [m], NaN before any sight.

    The live filter says its covariance (T, 24, 3, 3) [m^2] and world_from_joint rotations (T, 24, 3, 3), too; and where
    its poses have them, the source's own joints refined, source (T, J, 3).
    """

    t_ns: Times
    positions: Floats
    covariance: Floats | None = None
    rotations: Floats | None = None
    source: Floats | None = None


Asked = Callable[[float], Answers]  # a take's answers for a time from each frame [s]
