"""A case: a fault that sources have, a small generator of such a stream, and its bars.

A case is a few lines in one of the files that hold CASES (broken.py, clocks.py, ...): a function of the Setting that
returns a Stream, and a Case that names it, its Fault and its bars. streams.py lists those files.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.streams.bars import Bar
from bench.streams.people import HEIGHT_M, People, Person
from bench.streams.stream import WARM_S, Stream, even, seen
from bench.track import Floats


@dataclass(frozen=True)
class Setting:
    """What a case is made of: who moves, for how long it goes on after the fault, where files may lie, a seed."""

    people: People
    seconds: float
    folder: Path
    seed: int = 1

    @property
    def times(self) -> Floats:
        """Even times of frames: WARM_S before the fault, ``seconds`` from it on."""
        return even(0.0, WARM_S + self.seconds)

    @property
    def rng(self) -> np.random.Generator:
        return np.random.default_rng(self.seed)

    def person(self, other: int = 0, height_m: float = HEIGHT_M) -> Person:
        """Somebody; somebody else for every other number."""
        return self.people(self.seed + 100 * other, height_m)

    def stream(self, noise_mm: float = 0.0, layout: str = "smpl_24") -> Stream:
        """A good stream of somebody."""
        return seen(self.person(), self.times, noise_mm, layout, self.seed)


@dataclass(frozen=True)
class Fault:
    """A row of docs/faults.md: what happens, what a user sees of it, and how long it lasts."""

    what: str
    see: str
    lasts: str


@dataclass(frozen=True)
class Case:
    """A stream through PoseFilter, and its bars."""

    name: str
    fault: Fault
    make: Callable[[Setting], Stream]
    bars: Sequence[Bar]
    procedural: bool = False  # on clips it would show nothing else


@dataclass(frozen=True)
class ServerCase:
    """A fault of the transport: ``measure(seconds)`` plays it to a real server and returns what its bars read."""

    name: str
    fault: Fault
    measure: Callable[[float], dict[str, float]]
    bars: Sequence[Bar]
