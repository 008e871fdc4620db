"""Bars: something measured of a run, and what it must be at most or at least. ``held`` says whether it is.

A bar that cannot be measured (NaN) is not held. ``counts`` names the counter that a bar reads, for docs/faults.md;
``due`` names what is to hold a bar that today's model does not: until then it fails nobody.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.streams.run import Run
from bench.track import Floats

Measure = Callable[[Any], float]


NEXT = "model 3"  # due where today's model does not hold a bar


@dataclass(frozen=True)
class Bar:
    """``text`` says what is measured, with its unit."""

    text: str
    measure: Measure
    most: float = np.inf
    least: float = -np.inf
    counts: str = ""
    due: str = ""

    def held(self, value: float) -> bool:
        return self.least <= value <= self.most

    def worst(self, values: list[float]) -> float:
        """The one of several that is farthest on the wrong side, or nearest to it; NaN is worst of all."""
        if any(np.isnan(values)):
            return float("nan")
        return max(values, key=lambda value: max(value - self.most, self.least - value))

    def wanted(self) -> str:
        """What it must be, in words."""
        if self.most == self.least:
            return f"{self.text}: {self.most:g}"
        low = f"at least {self.least:g}" if np.isfinite(self.least) else ""
        high = f"at most {self.most:g}" if np.isfinite(self.most) else ""
        return f"{self.text}: {' and '.join(filter(None, (low, high)))}"


# -- what comes out


def finite() -> Bar:
    """No pose ever holds a number that is none."""
    return Bar("poses that are finite, share", lambda run: float(run.finite.mean()), 1.0, 1.0)


def error(most_mm: float, start_s: float = 0.0, end_s: float = np.inf) -> Bar:
    """Mean error over a time."""
    return Bar(f"error{_when(start_s, end_s)}, mm", lambda run: run.error_mm(run.ours, start_s, end_s), most_mm)


def better(start_s: float = 0.0) -> Bar:
    """Never worse than the input: our error / its error."""
    return Bar(f"error / the input's{_when(start_s, np.inf)}",
               lambda run: run.error_mm(run.ours, start_s) / run.error_mm(run.given, start_s), 1.0)  # fmt: skip


def worst_error(most_mm: float, start_s: float = 0.0, end_s: float = np.inf) -> Bar:
    """Error of the worst frame in a time."""
    return Bar(f"error of the worst frame{_when(start_s, end_s)}, mm",
               lambda run: _max(run.errors_mm(run.ours)[run.stream.between(start_s, end_s)]), most_mm)  # fmt: skip


def within(most_s: float, start_s: float, limit_mm: float, end_s: float = np.inf) -> Bar:
    """How long after ``start_s`` a frame's error still is beyond a limit."""

    def measure(run: Run) -> float:
        part = run.stream.between(start_s, end_s)
        beyond = run.stream.at_s[part][run.errors_mm(run.ours)[part] > limit_mm]
        return float(beyond[-1] - start_s) if len(beyond) else 0.0

    return Bar(f"until the error stays under {limit_mm:g} mm, s", measure, most_s)


def against_one_euro(start_s: float = 0.0, worst: bool = False) -> Bar:
    """No worse than the One-Euro filter: ours / theirs."""

    def measure(run: Run) -> float:
        part = run.stream.between(start_s)
        of = _max if worst else lambda errors: float(np.nanmean(errors))
        return of(run.errors_mm(run.ours)[part]) / of(run.errors_mm(run.euro)[part])

    return Bar(f"{'worst ' if worst else ''}error / One-Euro's", measure, 1.0)


def as_twin(most_mm: float, start_s: float = 0.0, end_s: float = np.inf, more: bool = False) -> Bar:
    """How far from the poses for the twin, in the worst frame; ``more``: how much larger the mean error is."""

    def apart(run: Run) -> float:
        assert run.twin is not None
        _, here, there = np.intersect1d(run.stream.at_s, run.twin.stream.at_s, return_indices=True)
        part = run.stream.between(start_s, end_s)[here]
        shown = run.stream.shown[here][part]
        gap = 1e3 * np.linalg.norm(run.ours[here][part] - run.twin.ours[there][part], axis=-1)
        mean = np.where(shown, gap, 0.0).sum(1) / np.maximum(shown.sum(1), 1)
        return _max(np.where(np.isfinite(gap).all(1), mean, np.inf))

    def larger(run: Run) -> float:
        assert run.twin is not None
        return run.error_mm(run.ours, start_s, end_s) - run.twin.error_mm(run.twin.ours, start_s, end_s)

    if more:
        return Bar(f"error above that without the fault{_when(start_s, end_s)}, mm", larger, most_mm)
    return Bar(f"away from the poses without the fault{_when(start_s, end_s)}, mm", apart, most_mm)


def silence(most_s: float, start_s: float = 0.0) -> Bar:
    """The longest time without a pose."""

    def measure(run: Run) -> float:
        at_s = run.stream.at_s[run.stream.between(start_s)]
        came = at_s[run.came[run.stream.between(start_s)]]
        return float(np.diff([at_s[0], *came, at_s[-1]]).max())

    return Bar("longest time without a pose, s", measure, most_s)


def poses(most: int) -> Bar:
    """How many poses come of a stream that cannot be used."""
    return Bar("poses of it", lambda run: float(run.came.sum()), most)


def turned(most_deg: float) -> Bar:
    """The largest angle of a joint from its rotation in the poses for the twin, frame by frame."""

    def measure(run: Run) -> float:
        assert run.twin is not None
        ours, theirs = (one.rotations[run.came & run.twin.came] for one in (run, run.twin))
        chord = np.minimum(np.linalg.norm(ours - theirs, axis=-1), np.linalg.norm(ours + theirs, axis=-1))
        return _max(np.degrees(4.0 * np.arcsin(np.clip(chord / 2.0, 0.0, 1.0))).max(1))

    return Bar("turned from the rotations without the fault, degrees", measure, most_deg)


# -- skeleton, status, uncertainty


def same_skeleton(since_s: float, most_mm: float = 0.0) -> Bar:
    """How far any bone's end moves in the rest pose from what it was then."""

    def measure(run: Run) -> float:
        after = run.offsets_m[run.came & run.stream.between(since_s)]
        before = run.offsets_m[max(run.stream.index(since_s) - 1, 0)]
        return 1e3 * _max(np.linalg.norm(after - before, axis=-1).max(-1)) if len(after) else float("nan")

    return Bar("change of the skeleton, mm", measure, most_mm)


def new_version(since_s: float) -> Bar:
    """A changed skeleton is published as one."""
    return Bar("versions of the skeleton afterwards", lambda run: float(
        run.version[-1] - run.version[max(run.stream.index(since_s) - 1, 0)]), least=1)  # fmt: skip


def status(name: str, least: float, start_s: float = 0.0, end_s: float = np.inf, shown: bool | None = None) -> Bar:
    """Share of frames whose pose has that status; ``shown``: of frames that show somebody, or that do not."""

    def measure(run: Run) -> float:
        part = run.came & run.stream.between(start_s, end_s)
        if shown is not None:
            part &= run.stream.shown.any(1) == shown
        return float((run.status[part] == name).mean()) if part.any() else float("nan")

    return Bar(f"status {name}{_when(start_s, end_s)}, share", measure, least=least)


def doubt(least: float, start_s: float, end_s: float) -> Bar:
    """Stated uncertainty just before the end of a time, against the error then: sigma of a joint / its error."""

    def measure(run: Run) -> float:
        n = run.stream.index(end_s) - 1
        apart = np.linalg.norm(run.ours[n] - run.stream.truth[n], axis=-1).mean()
        return float(np.sqrt(3.0) * run.sigma_m[n] / apart)

    return Bar(f"stated sigma / error at {end_s:g} s", measure, least=least)


def more_doubt(least: float, start_s: float, end_s: float) -> Bar:
    """How often larger the stated sigma is at the end of a time than before it."""

    def measure(run: Run) -> float:
        before, end = (run.sigma_m[run.stream.index(at_s) - 1] for at_s in (start_s, end_s))
        return float(end / before)

    return Bar(f"sigma at {end_s:g} s / before", measure, least=least)


# -- what is said and counted


def counted(name: str, least: int = 1, most: float = np.inf) -> Bar:
    """A counter, or a reason of rejection."""
    return Bar(f"counted {name}", lambda run: float(run.counted[name]), most, least, counts=name)


def quiet() -> Bar:
    """Nothing counted, refused or warned of."""
    return Bar("counted, refused or warned of", lambda run: float(sum(run.counted.values()) + len(run.words)), 0)


def says(*words: str) -> Bar:
    """A line that holds one of the words, and only one such for the whole stream."""

    def measure(run: Run) -> float:
        return float(sum(any(word in line for word in words) for line in run.words))

    return Bar(f"lines that say {' or '.join(map(repr, words))}", measure, least=1)


def clear_lines() -> Bar:
    """Every warning is one line and names an actor of the stream."""

    def measure(run: Run) -> float:
        names = {frame.actor for frame in run.stream.frames}
        return float(sum("\n" in line or not any(f"'{name}'" in line for name in names) for line in run.warnings))

    return Bar("warnings that are not one line with the actor's name", measure, 0)


def _when(start_s: float, end_s: float) -> str:
    if start_s <= 0 and end_s == np.inf:
        return ""
    return f" from {start_s:g} s on" if end_s == np.inf else f" from {start_s:g} to {end_s:g} s"


def _max(values: Floats) -> float:
    values = values[~np.isnan(values)]
    return float(values.max()) if len(values) else float("nan")
