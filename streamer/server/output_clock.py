"""When poses go out: one a frame, or everybody's at a steady rate; switched while the server runs."""

from __future__ import annotations

from collections.abc import Mapping

from streamer.clock import SECOND_NS, Ticker
from streamer.errors import ConfigError
from streamer.frames import Pose

HIGHEST_HZ = 1000
POLL_NS = 1_000_000  # polls count in whole milliseconds


class OutputClock:
    """Off at first: a pose a frame."""

    def __init__(self) -> None:
        self._ticker: Ticker | None = None
        self._before: dict[str, int] = {}  # of actors, the time that the last pose before it went off was for
        self.rate_hz = 0.0

    @property
    def on(self) -> bool:
        return self._ticker is not None

    def set(self, rate_hz: float, now: int, last: Mapping[str, Pose]) -> None:
        """Another rate from now on; 0: off.

        Args:
            last: the last pose published of each actor. None that is for an earlier time follows it.
        Raises:
            ConfigError: no such rate; nothing has changed.
        """
        check_rate(rate_hz, "rate_hz")
        self.rate_hz = float(rate_hz)
        self._ticker = Ticker(rate_hz, now) if rate_hz else None
        self._before = {} if rate_hz else {actor: pose.t_ns for actor, pose in last.items()}

    def follows(self, pose: Pose) -> bool:
        """Whether a pose of a frame may go out: not for a time before the last one that the clock had asked for.

        Of an instant that the clock was ahead of the frames; farther back, it is another clock of the source's.
        """
        if not self._before:
            return True
        before_ns = self._before.get(pose.actor, pose.t_ns)
        if 0 < before_ns - pose.t_ns < SECOND_NS:
            return False
        self._before.pop(pose.actor, None)
        return True

    def due(self, now: int) -> bool:
        """True once for each tick."""
        return self._ticker is not None and self._ticker.due(now)

    def wait_ns(self, now: int) -> int:
        """How long until the next tick; of a clock that is off, a second."""
        return SECOND_NS if self._ticker is None else max(0, self._ticker.next_ns - now)

    def rest_s(self, now: int) -> float:
        """The part of the wait that polls cannot count [s]."""
        return 0.0 if self._ticker is None else min(self.wait_ns(now), POLL_NS) / SECOND_NS


def check_rate(rate_hz: float, name: str) -> None:
    """Raises ConfigError, which says ``name``, for what is no rate."""
    if not 0 <= rate_hz <= HIGHEST_HZ:
        raise ConfigError(f"{name} must be between 0 and {HIGHEST_HZ} Hz, not {rate_hz:g}")
