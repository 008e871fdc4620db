"""A source, a server and sinks in one process: ``hpstm live``.

    source ==> server's loop ==> VMC, which waits for nobody
                this thread   ==> other sinks, a thread each

The server is the real one with its sockets: other programs send and subscribe as ever. Its loop waits for a source that
comes by itself (a pipe, a socket), too; one that works or waits (an estimator, a file's own time) is a thread. Threads
reach the server without a network, by a shared ZeroMQ context. Where a sink waits, that is its own trouble.
"""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from threading import Thread
from typing import Any

import zmq

from streamer.clock import SECOND_NS, Ticker, now_ns
from streamer.commands.live_status import LiveStatus, Told
from streamer.commands.terminal import Screen, ready_line
from streamer.errors import ConfigError, HPSTMError
from streamer.frames import Frame, Pose
from streamer.server.metrics import Histogram
from streamer.server.server import MAX_DRAIN, Server
from streamer.sinks.sink import Inside, Sink
from streamer.sinks.vmc import Receivers
from streamer.sources.sender import FrameSender
from streamer.sources.source import MOMENT_S, Source
from streamer.wire.endpoints import INSIDE_IN

LEAVES_WITHIN_S = 3.0  # a sink's thread; one that waits for somebody else is left behind
SOURCE_LEAVES_WITHIN_S = 1.0  # the source's, which may be at work, or waiting for a pipe
SEEN_WITHIN_S = 5.0  # subscriptions, by the server

log = logging.getLogger("hpstm")


class Pipeline:
    """What runs between ``run`` and its end; ``receivers`` get each pose from the server's loop itself.

    Attributes:
        source_ended: by itself, and with it everything.
    """

    def __init__(
        self, source: Source, server: Server, receivers: Receivers | None, sinks: Sequence[Sink], screen: Screen,
        stop: list[int],
    ) -> None:  # fmt: skip
        self._source, self._server, self._sinks, self._screen = source, server, sinks, screen
        self._stop = stop  # not empty: the server's loop ends, and the source
        self._over = False  # the server's loop has ended: the sinks do
        self._receivers, self._avatars = receivers, Histogram()
        self._context: zmq.Context[Any] = zmq.Context()
        self._threads: list[Thread] = []
        self._feeder: Thread | None = None  # of them
        self._dropped = 0
        self.source_ended = False
        self._failure: Exception | None = None
        self._told = _told(source)  # by the source's thread, about once a second
        self._status = LiveStatus(
            screen, server.metrics, self._source_says, dict(self._parts()), self._lost, server.warnings
        )
        if receivers is not None:
            server.taps.append(self._to_receivers)

    def run(self) -> int:
        """Returns the exit code once all has ended: on a signal, on a request, or with the source.

        Raises:
            HPSTMError: the source broke, or a sink could not begin.
        """
        try:
            self._server.run(self._start, self._status.each_second, lambda: bool(self._stop), self._context)
        finally:
            self._stop.append(1)
            self._over = True
            for number in (signal.SIGINT, signal.SIGTERM):  # whoever asks twice does not want to wait
                signal.signal(number, signal.default_int_handler)
            self._leave()
        self._status.last()
        if self._failure is not None:
            raise self._failure
        return 1 if self.source_ended and not self._server.metrics.value("poses_out") else 0

    def _start(self, endpoints: dict[str, str]) -> None:
        self._screen.say(f"{ready_line(endpoints)}\nreading {self._source.name}")
        inside = Inside(self._context, endpoints)
        for sink in self._sinks:
            self._thread(sink.name, partial(sink.run, inside, lambda: self._over))
        if self._source.descriptor is None:
            self._feeder = self._thread(self._source.name, self._feed)
        else:
            self._wait_for_sinks(self._server.guarded_turn)
            self._server.read_from(self._source.descriptor, self._frames, self._source.rehearse)

    def _thread(self, name: str, work: Callable[[], None]) -> Thread:
        thread = Thread(target=self._guarded, args=(name, work), name=name, daemon=True)
        self._threads.append(thread)
        thread.start()
        return thread

    def _guarded(self, name: str, work: Callable[[], None]) -> None:
        """Work of a source or sink. The source's failure ends everything, so does a sink's that cannot begin."""
        try:
            work()
        except BrokenPipeError:
            self._screen.say(f"{name}: whoever read it has left")
        except ConfigError as error:
            self._fail(error)
        except (HPSTMError, OSError) as error:
            if name == self._source.name:
                self._fail(error if isinstance(error, HPSTMError) else HPSTMError(f"{name}: {error}"))
            else:
                self._screen.say(f"hpstm: {name} has ended: {error}")
        except Exception as error:  # noqa: BLE001  a bug: it is raised where somebody sees it
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        self._failure = self._failure or error
        self._stop.append(1)

    def _wait_for_sinks(self, wait: Callable[[], object]) -> None:
        """Until every sink is there to see what becomes of the first frame; ``wait`` takes a moment."""
        seen, until_ns = sum(sink.subscriptions for sink in self._sinks), now_ns() + int(SEEN_WITHIN_S * SECOND_NS)
        while self._server.metrics.value("subscriptions") < seen and now_ns() < until_ns and not self._stop:
            wait()

    def _feed(self) -> None:
        """The source's thread: its frames."""
        self._wait_for_sinks(lambda: time.sleep(0.005))
        source, seconds = self._source, Ticker(1.0, now_ns())
        with FrameSender(INSIDE_IN, inside=self._context) as sender:
            while not source.ended and not self._stop:
                frame = source.receive(MOMENT_S)
                if frame is not None:
                    sender.send(frame)
                if seconds.due(now_ns()):
                    self._told, self._dropped = _told(source), sender.dropped
        self._told, self._dropped = _told(source), sender.dropped
        self._end_with_source()

    def _frames(self) -> list[Frame]:
        """What the source has; for the server's loop."""
        frames: list[Frame] = []
        self._guarded(self._source.name, partial(self._read_into, frames))
        return frames

    def _read_into(self, frames: list[Frame]) -> None:
        source = self._source
        while len(frames) < MAX_DRAIN and (frame := source.receive(0.0)) is not None:
            frames.append(frame)
        if source.ended:
            self._end_with_source()

    def _end_with_source(self) -> None:
        if not self._stop:
            self.source_ended = True
            self._stop.append(1)

    def _to_receivers(self, pose: Pose) -> None:
        assert self._receivers is not None
        self._receivers.send(pose)
        self._avatars.observe(now_ns() - pose.published_ns)

    def _leave(self) -> None:
        """Returns when every thread has ended, or has had its time."""
        if self._feeder is not None:
            self._feeder.join(SOURCE_LEAVES_WITHIN_S)
        until_s = time.monotonic() + LEAVES_WITHIN_S
        for thread in self._threads:
            if thread is self._feeder:
                continue
            thread.join(max(0.0, until_s - time.monotonic()))
            if thread.is_alive():
                self._screen.say(f"{thread.name}: whoever reads it takes nothing; it is left behind")
        if not any(thread.is_alive() for thread in self._threads):
            self._context.term()

    # -- what the status line says

    def _parts(self) -> Iterator[tuple[str, Histogram]]:
        yield from self._source.latency.items()
        yield "filter", self._server.metrics.histograms["latency"]
        if self._receivers is not None:
            yield "vmc", self._avatars
        for sink in self._sinks:
            if sink.latency is not None:
                yield sink.name, sink.latency

    def _source_says(self) -> Told:
        return self._told if self._source.descriptor is None else _told(self._source)

    def _lost(self) -> dict[str, int]:
        metrics = self._server.metrics
        lost = self._source_says().lost | {"not taken": self._dropped, "skipped": metrics.value("frames_skipped")}
        if not metrics.value("poses_by_clock"):
            lost["overtaken"] = metrics.value("superseded")
        lost |= {f"rejected {reason}": n for reason, n in metrics.by_label("rejected").items()}
        for sink in self._sinks:
            lost |= {f"{sink.name} {why}": n for why, n in sink.lost().items()}
        return lost | {"vmc not sent": self._receivers.failed if self._receivers is not None else 0}


def _told(source: Source) -> Told:
    return Told(source.kinds(), source.status(), source.lost())
