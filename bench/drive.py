"""How the benches drive a filter in this process: noisy frames, a stopwatch around the network, pushes that are timed.

Everything that knows how a runtime is called is ``StageClock``, ``Recorder`` and ``step_alone``; the rest goes through
``PoseFilter``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from time import perf_counter_ns

import numpy as np
import numpy.typing as npt

from bench.noise import demo_events, observed
from model.motion.synthetic import SyntheticActor
from streamer.filter import PoseFilter
from streamer.frames import Frame
from streamer.runtimes.block import F32, Block, RowIndex, Runtime

Times = npt.NDArray[np.int64]

RATE_HZ = 60.0
GIVEN = ("frame", "time", "tau_s", "offsets_m", "previous")  # what a step is given of each actor


def noisy_frames(count: int, rate_hz: float = RATE_HZ, seed: int = 1) -> list[Frame]:
    """Frames of a synthetic actor with an estimator's noise and gaps, evenly timed."""
    t_s = np.arange(count) / rate_hz
    seen, confidence = observed(SyntheticActor(seed).positions(t_s), t_s, seed, demo_events(count / rate_hz))
    return [
        Frame("a", seq, round(float(t) * 1e9), seen[seq].astype(np.float32), confidence[seq])
        for seq, t in enumerate(t_s)
    ]


class StageClock:
    """A runtime that also notes how long its steps take: ``step_ns``, one a call, shared by the actors of the call."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self.name, self.contract = runtime.name, runtime.contract
        self.step_ns: list[int] = []

    def open(self, capacity: int) -> Block:
        block = self._runtime.open(capacity)
        step = block.step

        def timed(rows: RowIndex) -> None:
            started = perf_counter_ns()
            step(rows)
            taken = perf_counter_ns() - started
            self.step_ns.append(taken // (rows.stop - rows.start if isinstance(rows, slice) else len(rows)))

        block.step = timed  # type: ignore[method-assign]
        return block


class Recorder:
    """A runtime that keeps what goes into its steps: ``inputs``, by the names of the exported graph's, batch axis 1."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self.name, self.contract = runtime.name, runtime.contract
        self.inputs: list[dict[str, F32]] = []

    def open(self, capacity: int) -> Block:
        block = self._runtime.open(capacity)
        step = block.step

        def kept(rows: RowIndex) -> None:
            self.inputs.append({name: getattr(block, name)[rows].copy() for name in GIVEN})
            step(rows)

        block.step = kept  # type: ignore[method-assign]
        return block


def step_alone(runtime: Runtime) -> Callable[[dict[str, F32]], F32]:
    """A function from a step's inputs, as ``Recorder`` keeps them, to positions (24, 3) [m]: one actor, no filter."""
    block, row = runtime.open(1), slice(0, 1)
    block.reset(0)
    buffers = [(name, getattr(block, name)) for name in GIVEN]

    def step(inputs: dict[str, F32]) -> F32:
        for name, buffer in buffers:
            buffer[row] = inputs[name]
        block.step(row)
        positions: F32 = block.positions[0]
        return positions

    return step


class Pushing:
    """A filter that is pushed the frames of ``actors`` actors, a tick at a time, every tick timed.

    ``push_ns`` and ``step_ns`` hold the durations per actor [ns]: of the whole push, and of the network's step in it.
    """

    def __init__(self, runtime: Runtime, frames: Sequence[Frame], actors: int = 1) -> None:
        self._clock = StageClock(runtime)
        self.actors = actors
        self._filter = PoseFilter(self._clock, max_actors=actors)
        self._ticks = iter(list(_ticks(frames, actors)))
        self.push_ns: list[int] = []

    @property
    def step_ns(self) -> list[int]:
        return self._clock.step_ns

    def advance(self, ticks: int) -> None:
        """Push so many ticks: ``push`` for one actor, ``push_many`` for several."""
        push, push_many = self._filter.push, self._filter.push_many
        for tick in islice(self._ticks, ticks):
            started = perf_counter_ns()
            if self.actors == 1:
                push(tick[0])
            else:
                push_many(tick)
            self.push_ns.append((perf_counter_ns() - started) // self.actors)

    def forget(self) -> None:
        """Drop what was timed so far: it was the warm-up."""
        self.push_ns.clear()
        self._clock.step_ns.clear()


def _ticks(frames: Sequence[Frame], actors: int) -> Iterator[list[Frame]]:
    for frame in frames:
        yield [replace(frame, actor=f"a{i}") for i in range(actors)]
