"""Frames from lines of JSON: each broken one is named and counted, and ends nothing."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from model.layouts import LAYOUTS, LayoutError, get_layout
from streamer.clock import SECOND_NS, now_ns
from streamer.errors import ConfigError, FrameError
from streamer.frames import Frame
from streamer.server.metrics import Histogram
from streamer.wire.json_lines import DEFAULT_ACTOR, FRAME_KEYS, MOST_BYTES, LineReader, own_layout
from streamer.wire.protocol import is_actor_name

_LONGEST_WAIT_NS = 5 * SECOND_NS  # a longer step is another take's beginning


@dataclass
class Report:
    """What became of the lines so far."""

    lines: int = 0
    frames: int = 0
    broken: Counter[str] = field(default_factory=Counter)
    first: dict[str, int] = field(default_factory=dict)  # the first line of each kind

    def text(self, dropped: int, to: str) -> str:
        """One line for people."""
        said = f"{self.lines} lines, {self.frames - dropped} frames sent to {to}"
        if dropped:
            said += f", {dropped} dropped: no server took them, or not fast enough"
        if self.broken:
            kinds = ", ".join(f"{kind} {n} (first in line {self.first[kind]})" for kind, n in self.broken.items())
            said += f"; {self.broken.total()} broken: {kinds}"
        return said


def line_reader(layout: str | None, actor: str = DEFAULT_ACTOR) -> LineReader:
    """A reader of lines that name no ``layout`` (a name, or a .toml file of one's own) or no ``actor``.

    Raises:
        ConfigError: one of them cannot be.
    """
    if not is_actor_name(actor):
        raise ConfigError(f"--actor {actor!r}: 1 to 64 bytes without spaces")
    if layout is None or layout in LAYOUTS:
        return LineReader(layout, None, actor)
    try:
        if layout.endswith(".toml") or "/" in layout:
            named = own_layout(layout)
            return LineReader(named.name, {named.name: named}, actor)
        return LineReader(get_layout(layout).name, None, actor)
    except LayoutError as error:
        raise ConfigError(f"--layout: {error}") from error


class LineSource:
    """Frames of a stream's lines until it ends; ``report`` says what became of them so far.

    Args:
        stream: is read by whoever iterates, and waited for.
        say: takes one line of text for each broken line, and for each key that means nothing.
        paced: wait for each frame's time, counted from the first one's: for what was recorded.
    """

    name = "lines of JSON"

    def __init__(self, stream: BinaryIO, reader: LineReader, say: Callable[[str], None], paced: bool = False) -> None:
        self._stream, self._reader, self._say, self._paced = stream, reader, say, paced
        self.latency: dict[str, Histogram] = {}
        self.report = Report()
        self._frames, self._ended = self._read(), False

    @property
    def ended(self) -> bool:
        return self._ended

    def receive(self, timeout_s: float) -> Frame | None:
        """The next frame, however long its line takes to come; None at the end."""
        frame = next(self._frames, None)
        self._ended = frame is None
        return frame

    def __iter__(self) -> Iterator[Frame]:
        return self._frames

    def lost(self) -> dict[str, int]:
        return {f"broken lines ({reason})": n for reason, n in self.report.broken.items()}

    def kinds(self) -> tuple[object, ...]:
        return ()  # what is wrong is said line by line

    def status(self) -> str:
        return f"{self.report.lines} lines, {self.report.frames} frames"

    def close(self) -> None:
        """Nothing: the stream is its owner's."""

    def _read(self) -> Iterator[Frame]:
        pace, report, told = _Pace(), self.report, 0
        for line in _lines(self._stream):
            report.lines += 1
            if line is not None and not line.strip():
                continue
            try:
                if line is None:
                    raise FrameError("too_long", f"longer than {MOST_BYTES:,} bytes: is there an end to it?")
                frame = self._reader.frame(line, now_ns())
            except FrameError as error:
                report.broken[error.reason] += 1
                report.first.setdefault(error.reason, report.lines)
                self._say(f"line {report.lines}: {error}")
                continue
            if len(unread := self._reader.unread) > told:
                told = len(unread)
                self._say(f"line {report.lines}: not read: {', '.join(sorted(unread))}; read: {', '.join(FRAME_KEYS)}")
            if self._paced:
                pace.wait_for(frame.t_ns)
            report.frames += 1
            yield frame


class _Pace:
    """Lets time pass as it did when the frames were captured."""

    def __init__(self) -> None:
        self._ahead_ns: int | None = None  # of the source's clock

    def wait_for(self, t_ns: int) -> None:
        now = now_ns()
        left_ns = -1 if self._ahead_ns is None else t_ns - self._ahead_ns - now
        if self._ahead_ns is None or abs(left_ns) > _LONGEST_WAIT_NS:
            self._ahead_ns = t_ns - now
        elif left_ns > 0:
            time.sleep(left_ns / SECOND_NS)


def _lines(stream: BinaryIO) -> Iterator[bytes | None]:
    """The lines of a stream as they come; None for one that is too long."""
    while line := stream.readline(MOST_BYTES + 1):
        if len(line) <= MOST_BYTES or line.endswith(b"\n"):
            yield line
            continue
        while (rest := stream.readline(MOST_BYTES)) and not rest.endswith(b"\n"):
            pass
        yield None
