"""The log of a server: lines go through a bounded queue, so that whoever reads them can stop reading.

A pipe that nobody empties holds 64 kB; then a write to it blocks. Here that is a thread's trouble, never the loop's:
what the queue cannot take is dropped, and counted.
"""

from __future__ import annotations

import logging
import os
import queue
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread

import zmq

from streamer.clock import SECOND_NS, now_ns

MOST_LINES = 1000  # that wait
LAST_WORDS_S = 0.5  # at the end, for those that still wait
SELDOM_NS = 60 * SECOND_NS
MOST_KINDS = 256  # of errors that are told apart

log = logging.getLogger("hpstm")


class BackgroundWriter:
    """``write(text)`` returns at once; a thread writes it to the file descriptor, when that takes it.

    Not by way of sys.stderr: the interpreter waits for that one's lock when it ends.
    """

    def __init__(self, descriptor: int, most: int = MOST_LINES) -> None:
        self.dropped = 0
        self._descriptor = descriptor
        self._lines: queue.Queue[bytes | Event] = queue.Queue(most)
        self._thread = Thread(target=self._run, name=f"hpstm-log-{descriptor}", daemon=True)
        self._thread.start()

    def write(self, text: str) -> None:
        try:
            self._lines.put_nowait(text.encode("utf-8", "replace"))
        except queue.Full:
            self.dropped += 1

    def flush(self, within_s: float = LAST_WORDS_S) -> None:
        """Returns when all is written, or after ``within_s`` or a little more."""
        written = Event()
        with suppress(queue.Full):
            self._lines.put(written, timeout=within_s)
            written.wait(within_s)

    def _run(self) -> None:
        while True:
            item = self._lines.get()
            if isinstance(item, Event):
                item.set()
                continue
            try:
                while item:
                    item = item[os.write(self._descriptor, item) :]
            except OSError:  # whoever read it is gone, or its disk is full
                self.dropped += 1


class BackgroundHandler(logging.Handler):
    """A logging handler that never blocks."""

    def __init__(self, descriptor: int = 2) -> None:
        super().__init__()
        self.writer = BackgroundWriter(descriptor)

    def emit(self, record: logging.LogRecord) -> None:
        self.writer.write(self.format(record) + "\n")

    def flush(self) -> None:
        self.writer.flush()


def log_in_background(level: int = logging.INFO) -> BackgroundHandler:
    """All that is logged goes to stderr through a queue that never blocks."""
    handler = BackgroundHandler()
    logging.basicConfig(level=level, format="%(levelname)s %(message)s", handlers=[handler])
    return handler


def dropped_lines() -> int:
    """Lines dropped so far by the background handlers of this process."""
    handlers = (*logging.getLogger().handlers, *log.handlers)
    return sum(handler.writer.dropped for handler in handlers if isinstance(handler, BackgroundHandler))


class Errors:
    """Unexpected errors: each is a bug. Counted; said with its traceback at most once a minute for each kind."""

    def __init__(self, count: Callable[[], None]) -> None:
        self._count = count
        self._said_ns: dict[str, int] = {}
        self._unsaid: dict[str, int] = {}

    def note(self, doing: str, error: Exception) -> None:
        """Call where ``error`` was caught; ``doing``: what was going on.

        Raises:
            zmq.ZMQError: it is one. The sockets are gone: there is nothing to go on with.
        """
        if isinstance(error, zmq.ZMQError):
            raise error
        self._count()
        place = error.__traceback__
        while place is not None and place.tb_next is not None:
            place = place.tb_next
        where = f"{place.tb_frame.f_code.co_filename}:{place.tb_lineno}" if place is not None else ""
        kind = f"{doing} {type(error).__name__} {where}"
        now = now_ns()
        if now - self._said_ns.get(kind, now - SELDOM_NS) < SELDOM_NS:
            self._unsaid[kind] = self._unsaid.get(kind, 0) + 1
            return
        if len(self._said_ns) >= MOST_KINDS:
            self._said_ns.clear()
            self._unsaid.clear()
        self._said_ns[kind] = now
        again = self._unsaid.pop(kind, 0)
        log.error("unexpected error while %s%s", doing, f" ({again} more since)" if again else "", exc_info=error)

    @contextmanager
    def caught(self, doing: str) -> Iterator[None]:
        """Inside, an error is noted and ends there."""
        try:
            yield
        except Exception as error:  # noqa: BLE001
            self.note(doing, error)
