"""Lines for people: what the server says when it is ready and once a second, and one line per pose."""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence

from streamer.clock import SECOND_NS, Ticker, now_ns
from streamer.frames import Pose
from streamer.server.log import BackgroundWriter
from streamer.server.metrics import Metrics
from streamer.sinks.subscriber import PoseSubscriber
from streamer.sources.sender import FrameSender
from streamer.sources.source import Said
from streamer.wire.probe import why_silent
from streamer.wire.security import ClientKeys

SILENT_S = 2.0  # then a listener is told why


def ready_line(endpoints: dict[str, str], as_json: bool = False) -> str:
    """One line with the endpoints as they really are (a port given as ``*`` is a number here)."""
    if as_json:
        return json.dumps({"ready": True, **endpoints})
    return "ready " + " ".join(f"{name}={endpoint}" for name, endpoint in endpoints.items())


def pose_line(pose: Pose, age_ns: int | None) -> str:
    """actor, seq, status, pelvis [m], received to published, age since published (None: not known) [ms]."""
    x, y, z = (float(v) for v in pose.root)
    age = "?" if age_ns is None else f"{age_ns / 1e6:.2f} ms"
    server_ms = (pose.published_ns - pose.received_ns) / 1e6
    return (
        f"{pose.actor} {pose.seq} {pose.status} pelvis {x:+.3f} {y:+.3f} {z:+.3f} m"
        f"  server {server_ms:.2f} ms  age {age}"
    )


def listening(
    subscriber: PoseSubscriber, endpoint: str, curve: ClientKeys | None = None, others: Sequence[str] = ()
) -> Iterator[Pose]:
    """Poses as they come; when none does for some seconds, stderr says why, as long as the reason is a new one.

    Args:
        endpoint, others: the server's, and those of more servers that share the actors with it.
    """
    silence = Silence(endpoint, curve, others)
    while True:
        pose = subscriber.receive(SILENT_S)
        silence.tell(heard=pose is not None)
        if pose is not None:
            yield pose


def print_poses(
    subscriber: PoseSubscriber, endpoint: str, curve: ClientKeys | None, text: Callable[[Pose], str], count: int,
    others: Sequence[str] = (),
) -> None:  # fmt: skip
    """Prints a line a pose until there were ``count``; 0: for ever. Of more servers, ``others`` are their endpoints."""
    for n, pose in enumerate(listening(subscriber, endpoint, curve, others), 1):
        print(text(pose), flush=True)
        if n == count:
            return


class Silence:
    """Says on stderr why nothing has come for some seconds, as long as the reason is a new one."""

    def __init__(self, endpoint: str, curve: ClientKeys | None = None, others: Sequence[str] = ()) -> None:
        self._endpoints, self._curve = (endpoint, *others), curve
        self._said, self._since_ns = "", now_ns()

    def tell(self, heard: bool) -> None:
        """To be called whenever something came, or nothing did for a moment."""
        if heard:
            self._said, self._since_ns = "", now_ns()
        elif now_ns() - self._since_ns >= int(SILENT_S * SECOND_NS):
            self._since_ns = now_ns()
            why = "; ".join(why_silent(endpoint, self._curve) for endpoint in self._endpoints)
            if why != self._said:
                self._said = why
                print(f"hpstm: {why}; waiting", file=sys.stderr, flush=True)


class Screen:
    """Lines for people, and below them one that is rewritten where it is a terminal; never waits for who reads them.

    Args:
        descriptor: 1: standard output, 2: standard error.
    """

    def __init__(self, descriptor: int = 1) -> None:
        self.terminal = os.isatty(descriptor)
        self._writer, self._line = BackgroundWriter(descriptor, most=100), ""

    def say(self, text: str) -> None:
        """A line that stays."""
        self._writer.write(f"\r\033[K{text}\n{self._line}" if self._line else f"{text}\n")

    def show(self, line: str) -> None:
        """The line that is rewritten, cut to the terminal's width; where there is no terminal, one that stays."""
        if self.terminal:
            self._line = line[: shutil.get_terminal_size().columns - 1]
            self._writer.write(f"\r{self._line}\033[K")
        else:
            self._writer.write(f"{line}\n")

    def end(self) -> None:
        """Returns when all is written, or nobody takes it: the last line stays."""
        if self._line:
            self._writer.write("\n")
        self._line = ""
        self._writer.flush()


class _ScreenHandler(logging.Handler):
    def __init__(self, screen: Screen) -> None:
        super().__init__()
        self._screen = screen

    def emit(self, record: logging.LogRecord) -> None:
        self._screen.say(self.format(record))


def log_to(screen: Screen) -> None:
    """What is logged are lines of ``screen`` from now on: warnings, and what is worse."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s", handlers=[_ScreenHandler(screen)])


class SourceLine:
    """A source's status: rewritten once a second in a terminal; elsewhere a line when something new is to be said."""

    def __init__(self, source: Said, sender: FrameSender) -> None:
        self._source, self._sender = source, sender
        self._seconds = Ticker(1.0, now_ns() + SECOND_NS)
        self._kinds: tuple[object, ...] | None = None
        self._screen = Screen()

    def show(self, last: bool = False) -> None:
        if not last and not self._seconds.due(now_ns()):
            return
        kinds = self._source.kinds()
        if last or self._screen.terminal or kinds != self._kinds:
            sent, dropped = self._sender.sent, self._sender.dropped
            self._screen.show(f"{self._source.status()}; sent {sent}, no server took {dropped}")
        if last:
            self._screen.end()
        self._kinds = kinds


class StatusLine:
    """What a server does, in one line of a terminal that is rewritten each time ``show`` is called."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics, self._screen = metrics, Screen()
        self._frames, self._poses, self._ns = 0, 0, now_ns()

    def show(self) -> None:
        metrics, now = self._metrics, now_ns()
        frames, poses = metrics.value("frames_in"), metrics.value("poses_out")
        seconds = (now - self._ns) / SECOND_NS
        latency = metrics.histograms["latency"]
        line = (
            f"in {(frames - self._frames) / seconds:6.1f}/s  out {(poses - self._poses) / seconds:6.1f}/s  "
            f"actors {metrics.gauges['actors']:.0f}  skipped {metrics.value('frames_skipped')}  "
            f"rejected {metrics.value('rejected')}  "
            f"latency p50 {latency.quantile_ms(0.5):.2f} p99 {latency.quantile_ms(0.99):.2f} ms"
        )
        self._frames, self._poses, self._ns = frames, poses, now
        self._screen.show(line)
