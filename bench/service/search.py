"""The search for the most actors that hold: throughput.py brings the trials."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from bench.report import Percentiles

LIMIT = 1024  # actors tried at most
FINENESS = 16  # the search ends when what is left between is a sixteenth


@dataclass(frozen=True)
class Trial:
    """One number of actors at one rate: latency [ms] from when a frame was due, and whether that was good enough."""

    actors: int
    rate_hz: float
    latency: Percentiles
    dropped: int = 0  # frames skipped, overtaken, rejected or lost
    frame_ms: float = 0.0  # processor or wall time that one frame took the filter, or the server
    stages: dict[str, float] = field(default_factory=dict)  # where the time goes, mean [ms]

    @property
    def holds(self) -> bool:
        return self.latency.p99 <= 1e3 / self.rate_hz and not self.dropped


def search(measure: Callable[[int], Trial], start: int = 1, limit: int = LIMIT) -> list[Trial]:
    """All trials of a search for the most actors that hold; ``best`` says which.

    A number has broken when it breaks twice: one interruption of a shared machine is not the filter's limit.

    Args:
        start: number to begin with, 1..limit: a good guess saves trials.
    """
    trials: list[Trial] = []

    def holds(actors: int) -> bool:
        for _ in range(2):
            trials.append(measure(actors))
            if trials[-1].holds:
                return True
        return False

    low, high, n = 0, limit + 1, max(1, min(start, limit))
    while high - low > max(1, low // FINENESS):
        if holds(n):
            low = n
        else:
            high = n
        n = min(2 * n, limit) if high > limit else (low + high) // 2
    return trials


def best(trials: Sequence[Trial]) -> Trial | None:
    """The most actors that held; None when not even one did."""
    held = [trial for trial in trials if trial.holds]
    return max(held, key=lambda trial: trial.actors) if held else None
