"""What the control socket may do to a running server. control.py has the requests and replies."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from model.skeleton import JOINTS
from streamer import __version__
from streamer.clock import SECOND_NS, now_ns
from streamer.frames import Array
from streamer.server.crowd import Crowd
from streamer.server.metrics import Metrics
from streamer.server.output_clock import OutputClock, check_rate
from streamer.standing import Standing

if TYPE_CHECKING:
    from streamer.filter import PoseFilter


def told(standing: Standing) -> dict[str, Any]:
    """What came of a calibration on request, in plain numbers; sigma_mm of each bone measured, by its joint."""
    sigma = standing.sigma_m
    named = {} if sigma is None else {j: round(1e3 * float(s), 3) for j, s in zip(JOINTS, sigma) if s == s}
    return {"state": standing.state, "message": standing.message, "seconds": standing.seconds, "sigma_mm": named}


class Operations:
    """One method a command; ``control.Controlled`` in real."""

    def __init__(
        self, pose_filter: PoseFilter, crowd: Crowd, metrics: Metrics, endpoints: dict[str, str],
        clock: OutputClock, stop: Callable[[], None],
    ) -> None:  # fmt: skip
        self._filter, self._crowd, self._metrics, self._endpoints = pose_filter, crowd, metrics, endpoints
        self._clock, self.stop = clock, stop
        self.actor_names, self.reset, self.calibrate = crowd.names, crowd.reset, crowd.calibrate

    def status(self) -> dict[str, Any]:
        """Plain numbers and maps: version, endpoints, actors and what looks wrong with them, counters, health."""
        return {
            "version": __version__,
            "runtime": self._filter.runtime.name,
            "endpoints": self._endpoints,
            **self._times(),
            "actor_states": {actor: self._state(actor) for actor in self._crowd.names()},
            **self._metrics.snapshot(),
        }

    def set_times(self, delay_s: float | None, predict_s: float | None, rate_hz: float | None) -> dict[str, Any]:
        """Other times for poses to be for, and to go out at; None: as it is. Returns all three as they are now.

        Raises:
            ConfigError: one of them cannot be; nothing has changed.
        """
        if rate_hz is not None:
            check_rate(rate_hz, "rate_hz")
        if delay_s is not None or predict_s is not None:
            self._filter.set_time(delay_s or 0.0, predict_s or 0.0)
        if rate_hz is not None:
            last = {actor: record.pose for actor, record in self._crowd.items() if record.pose is not None}
            self._clock.set(rate_hz, now_ns(), last)
        return self._times()

    def _times(self) -> dict[str, Any]:
        rate_hz = self._clock.rate_hz
        return {"delay_s": self._filter.delay_s, "predict_s": self._filter.predict_s, "rate_hz": rate_hz}

    def _state(self, actor: str) -> dict[str, Any]:
        record, now, standing = self._crowd[actor], now_ns(), self._filter.standing(actor)
        asked = {} if standing is None else {"calibration": told(standing)}
        return asked | {
            "status": record.pose.status if record.pose is not None else "",
            "silent_s": (now - record.last_ns) / SECOND_NS,
            "skipped": record.skipped,
            "skeleton_version": record.version,
            "warnings": self._filter.warnings(actor),
        }

    def get_skeleton(self, actor: str) -> dict[str, Any] | None:
        """The reply's fields; None: nothing is known of this actor."""
        known = self._crowd.skeleton(actor)
        if known is None:
            return None
        skeleton, final = known
        return {
            "actor": actor,
            "skeleton_version": skeleton.version,
            "joints": JOINTS,
            "offsets": skeleton.offsets_m.astype("<f4").tobytes(),
            "final": final,
            "measured_s": skeleton.measured_s,
            "saved_at": skeleton.saved_at,
        }

    def set_skeleton(self, actor: str, offsets_m: Array) -> None:
        """Use a known skeleton (24, 3) for an actor who is there or who will come."""
        self._crowd.give(actor, offsets_m)
