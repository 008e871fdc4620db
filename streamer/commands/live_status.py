"""What ``hpstm live`` says of itself: one line that is rewritten in a terminal, elsewhere one now and then."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from streamer.clock import SECOND_NS, now_ns
from streamer.commands.terminal import Screen
from streamer.server.metrics import Histogram, Metrics

EVERY_S = 10  # where there is no terminal
NOTHING_S = 3  # without a frame, after which that is said
MOST_WARNINGS = 200  # that are said, each once

Parts = Mapping[str, Histogram]


class Told(NamedTuple):
    """What a source said of itself last: see ``Source``."""

    kinds: tuple[object, ...]
    status: str
    lost: dict[str, int]


class LiveStatus:
    """Frames a second, latency by part, actors, what is lost; and in lines of its own, once, what is wrong.

    Args:
        source: what it says of itself, which is said when it is something new.
        parts: the latency of each part, in the order in which a frame passes them.
        lost: how much is lost, by what it was.
        warnings: what looks wrong with the actors' streams, in sentences.
    """

    def __init__(
        self, screen: Screen, metrics: Metrics, source: Callable[[], Told], parts: Parts,
        lost: Callable[[], dict[str, int]], warnings: Callable[[], Sequence[str]],
    ) -> None:  # fmt: skip
        self._screen, self._metrics, self._source = screen, metrics, source
        self._parts, self._lost, self._warnings = parts, lost, warnings
        self._warned: set[str] = set()
        self._losses: set[str] = set()
        self._kinds = source().kinds
        self._seconds = 0  # in which it was asked
        self._started_ns = self._last_ns = now_ns()
        self._frames = 0
        self._before = {name: part.counts.copy() for name, part in parts.items()}

    def each_second(self) -> None:
        """The line, where there is a terminal or something new; and above it what is new."""
        self._seconds += 1
        self._say_what_is_new()
        lost = {kind for kind, n in self._lost().items() if n}
        if self._screen.terminal or self._seconds % EVERY_S == NOTHING_S or not lost <= self._losses:
            self._screen.show(self._line())
        self._losses |= lost

    def last(self) -> None:
        """The line of the whole time."""
        self._say_what_is_new()
        self._last_ns, self._frames = self._started_ns, 0
        self._before = {name: [0] * len(part.counts) for name, part in self._parts.items()}
        frames, poses = self._metrics.value("frames_in"), self._metrics.value("poses_out")
        self._screen.show(f"{frames} frames, {poses} poses: {self._line()}")
        self._screen.end()

    def _say_what_is_new(self) -> None:
        source = self._source()
        if source.kinds != self._kinds:
            self._kinds = source.kinds
            self._screen.say(source.status)
        elif self._seconds == NOTHING_S and not self._metrics.value("frames_in"):
            self._screen.say("nothing has come yet")
        for warning in self._warnings():
            if warning not in self._warned and len(self._warned) < MOST_WARNINGS:
                self._warned.add(warning)
                self._screen.say(f"warning: {warning}")

    def _line(self) -> str:
        now, frames = now_ns(), self._metrics.value("frames_in")
        rate_hz = (frames - self._frames) * SECOND_NS / max(now - self._last_ns, SECOND_NS)
        self._frames, self._last_ns = frames, now
        said = [f"{rate_hz:.1f} frames/s", f"actors {self._metrics.gauges['actors']:.0f}", *self._latencies()]
        lost = {kind: n for kind, n in self._lost().items() if n}
        named = ", ".join(f"{kind} {n}" for kind, n in lost.items())
        said.append(f"lost {sum(lost.values())}" + (f" ({named})" if named else ""))
        return "  ".join([*said, f"warned {len(self._warned)}"])

    def _latencies(self) -> list[str]:
        """Median and p99 of each part since the last line [ms], of those that did something."""
        said = []
        for name, part in self._parts.items():
            lately = part.since(self._before[name])
            self._before[name] = part.counts.copy()
            if lately.total:
                said.append(f"{name} {lately.quantile_ms(0.5):.2f}/{lately.quantile_ms(0.99):.2f}")
        return [f"p50/p99 ms: {'  '.join(said)}"] if said else []
