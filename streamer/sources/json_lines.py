"""Lines of JSON into a server: each broken one is named and counted, and ends nothing."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from streamer.clock import SECOND_NS, now_ns
from streamer.errors import FrameError
from streamer.sources.sender import FrameSender
from streamer.wire.json_lines import FRAME_KEYS, MOST_BYTES, LineReader

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


def send_lines(
    stream: BinaryIO, sender: FrameSender, reader: LineReader, report: Report, say: Callable[[str], None],
    paced: bool = False,
) -> None:  # fmt: skip
    """Sends the frames of a stream's lines until it ends; ``report`` is kept up to date.

    Args:
        say: takes one line of text for each broken line, and for each key that means nothing.
        paced: wait for each frame's time, counted from the first one's: for what was recorded.
    """
    pace, told = _Pace(), 0
    for line in _lines(stream):
        report.lines += 1
        if line is not None and not line.strip():
            continue
        try:
            if line is None:
                raise FrameError("too_long", f"longer than {MOST_BYTES:,} bytes: is there an end to it?")
            frame = reader.frame(line, now_ns())
        except FrameError as error:
            report.broken[error.reason] += 1
            report.first.setdefault(error.reason, report.lines)
            say(f"line {report.lines}: {error}")
            continue
        if len(reader.unread) > told:
            told = len(reader.unread)
            say(f"line {report.lines}: not read: {', '.join(sorted(reader.unread))}; read: {', '.join(FRAME_KEYS)}")
        if paced:
            pace.wait_for(frame.t_ns)
        report.frames += 1
        sender.send(frame)


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
