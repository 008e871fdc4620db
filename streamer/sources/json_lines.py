"""Frames from lines of JSON: each broken one is named and counted, and ends nothing."""

from __future__ import annotations

import os
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from select import select
from typing import Protocol

from model.layouts import LAYOUTS, LayoutError, get_layout
from streamer.clock import SECOND_NS, now_ns
from streamer.errors import ConfigError, FrameError
from streamer.frames import Frame
from streamer.server.metrics import Histogram
from streamer.sources.told import NOTHING, Told
from streamer.wire.json_lines import DEFAULT_ACTOR, FRAME_KEYS, MOST_BYTES, LineReader, own_layout
from streamer.wire.protocol import is_actor_name

PIECE_BYTES = 64 * 1024  # are read at a time
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


class Stream(Protocol):
    """What lines are read from: a binary file that is buffered, or looks so."""

    def read1(self, size: int, /) -> bytes: ...
    def fileno(self) -> int: ...


class LineSource:
    """Frames of a stream's lines until it ends; ``report`` says what became of them so far.

    Args:
        stream: is read by whoever iterates, and waited for.
        say: takes one line of text for each broken line, and for each key that means nothing.
        paced: wait for each frame's time, counted from the first one's: for what was recorded.
        known: of the camera and the people before it, where lines are MediaPipe's landmarks.
    """

    name = "lines of JSON"

    def __init__(
        self, stream: Stream, reader: LineReader, say: Callable[[str], None], paced: bool = False, known: Told = NOTHING
    ) -> None:
        self._stream, self._reader, self._say, self._known = stream, reader, say, known
        self._pace = _Pace() if paced else None
        self.descriptor = _descriptor(stream)
        self.latency: dict[str, Histogram] = {}
        self.report = Report()
        self._pieces, self._lines = _Pieces(), deque[bytes | None]()
        self._read_all, self._told = False, 0
        self._last, self._twin = b"", reader.twin()

    @property
    def ended(self) -> bool:
        return self._read_all and not self._lines

    def receive(self, timeout_s: float | None) -> Frame | None:
        """The next frame; None when none came within ``timeout_s`` (None: wait for ever), or at the end.

        Without a ``descriptor`` it waits for however long a line takes to come.
        """
        frame = self._next()
        while frame is None and not self.ended and self._read(timeout_s):
            frame = self._next()
            if timeout_s is not None:  # whatever else comes: it may be broken lines for ever
                break
        return frame

    def rehearse(self) -> None:
        """Reads the last line that was a frame once more."""
        if self._last:
            self._twin.frame(self._last, 0)

    def __iter__(self) -> Iterator[Frame]:
        while (frame := self.receive(None)) is not None:
            yield frame

    def lost(self) -> dict[str, int]:
        return {f"broken lines ({reason})": n for reason, n in self.report.broken.items()}

    def kinds(self) -> tuple[object, ...]:
        return ()  # what is wrong is said line by line

    def status(self) -> str:
        return f"{self.report.lines} lines, {self.report.frames} frames"

    def close(self) -> None:
        """Nothing: the stream is its owner's."""

    def _read(self, timeout_s: float | None) -> bool:
        """Whether something came, or the end."""
        if (
            timeout_s is not None
            and self.descriptor is not None
            and not select([self.descriptor], [], [], timeout_s)[0]
        ):
            return False
        piece = self._stream.read1(PIECE_BYTES)
        self._lines += self._pieces.lines(piece)
        self._read_all = not piece
        return True

    def _next(self) -> Frame | None:
        """The next frame of the lines that are here."""
        while self._lines:
            frame = self._frame(self._lines.popleft())
            if frame is not None:
                return frame
        return None

    def _frame(self, line: bytes | None) -> Frame | None:
        """The frame of a line, None being one that was too long; None: there is none in it."""
        report = self.report
        report.lines += 1
        if line is not None and not line.strip():
            return None
        try:
            if line is None:
                raise FrameError("too_long", f"longer than {MOST_BYTES:,} bytes: is there an end to it?")
            frame, self._last = self._known.frame(self._reader.frame(line, now_ns())), line
        except FrameError as error:
            report.broken[error.reason] += 1
            report.first.setdefault(error.reason, report.lines)
            self._say(f"line {report.lines}: {error}")
            return None
        if len(unread := self._reader.unread) > self._told:
            self._told = len(unread)
            self._say(f"line {report.lines}: not read: {', '.join(sorted(unread))}; read: {', '.join(FRAME_KEYS)}")
        if self._pace is not None:
            self._pace.wait_for(frame.t_ns)
        report.frames += 1
        return frame


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


class _Pieces:
    """Makes lines of what comes in pieces."""

    def __init__(self) -> None:
        self._rest, self._too_long = b"", False

    def lines(self, piece: bytes) -> list[bytes | None]:
        """The lines that end in this piece, without their ends; None for one that is too long. Of nothing: the last."""
        *whole, rest = (self._rest + piece).split(b"\n")
        if not piece and (rest or self._too_long):
            whole, rest = [rest], b""
        lines: list[bytes | None] = [line if len(line) <= MOST_BYTES else None for line in whole]
        if lines and self._too_long:
            lines[0], self._too_long = None, False
        self._too_long |= len(rest) > MOST_BYTES
        self._rest = b"" if self._too_long else rest
        return lines


def _descriptor(stream: Stream) -> int | None:
    """What can be waited for of a stream; None: nothing, as with pipes on Windows."""
    if os.name == "nt":
        return None
    try:
        return stream.fileno()
    except OSError:
        return None
