"""What a server does once a second, beside the data path."""

from __future__ import annotations

import logging
from collections import Counter
from typing import TYPE_CHECKING

from streamer.clock import SECOND_NS
from streamer.server import descriptors
from streamer.server.crowd import Crowd
from streamer.server.log import dropped_lines
from streamer.server.metrics import Metrics
from streamer.server.publisher import Publisher
from streamer.server.sockets import Sockets

if TYPE_CHECKING:
    from streamer.filter import PoseFilter

log = logging.getLogger("hpstm")


class Housekeeping:
    """Evicts, repeats, saves, notes and says, each in its turn."""

    def __init__(
        self, pose_filter: PoseFilter, crowd: Crowd, metrics: Metrics, sockets: Sockets, publisher: Publisher,
        evict_s: float,
    ) -> None:  # fmt: skip
        self._filter, self._crowd, self._metrics = pose_filter, crowd, metrics
        self._sockets, self._publisher, self._evict_s = sockets, publisher, evict_s
        self._last_ns = 0
        self._said: dict[str, int] = {}
        self._events: Counter[str] = Counter()
        self._full = False
        self._lines = dropped_lines()
        self.last_error = ""  # of a frame or message that was refused
        metrics.gauges["descriptors_limit"] = descriptors.raise_limit()

    def due(self, now: int) -> bool:
        """True once a second."""
        if now - self._last_ns < SECOND_NS:
            return False
        self._last_ns = now
        return True

    def do(self, now: int) -> None:
        """All of it. Whatever goes wrong in here costs nobody a frame."""
        for actor in self._crowd.silent(now, self._evict_s):
            self._metrics.count("actors_evicted", n=actor in self._filter.actors)
            self._crowd.remove(actor)
        self._crowd.keep()
        self._publisher.skeletons_that_are_due(now)
        self._publisher.books(now)
        self._count()
        self._metrics.tick(now)
        self._say_what_was_rejected()
        self._say_if_full()

    def _count(self) -> None:
        metrics = self._metrics
        metrics.gauges["actors"] = len(self._filter.actors)
        metrics.gauges["descriptors"] = descriptors.open_now()
        for event, n in (self._filter.counts - self._events).items():
            metrics.count("filter_events", event, n)
        self._events = Counter(self._filter.counts)
        for reason, n in self._sockets.failed_handshakes().items():
            metrics.count("connections_refused", reason, n)
        lines = dropped_lines()
        metrics.count("log_lines_dropped", n=lines - self._lines)
        self._lines = lines

    def _say_what_was_rejected(self) -> None:
        """At most one line a second, whatever comes in."""
        rejected = self._metrics.by_label("rejected")
        grown = {reason: n - self._said.get(reason, 0) for reason, n in rejected.items()}
        if any(grown.values()):
            said = ", ".join(f"{reason} +{n}" for reason, n in grown.items() if n)
            log.warning("rejected: %s; last: %s", said, self.last_error)
            self._said = rejected

    def _say_if_full(self) -> None:
        """Once each time that it gets there."""
        taken, limit = self._metrics.gauges["descriptors"], self._metrics.gauges["descriptors_limit"]
        full = bool(limit) and taken > descriptors.FULL * limit
        if full and not self._full:
            log.warning("%d of %d file descriptors are in use: at the limit nobody new can connect; raise `ulimit -n`",
                        taken, limit)  # fmt: skip
        self._full = full
