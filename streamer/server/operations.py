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
        stop: Callable[[], None],
    ) -> None:  # fmt: skip
        self._filter, self._crowd, self._metrics, self._endpoints = pose_filter, crowd, metrics, endpoints
        self.stop = stop
        self.actor_names, self.reset, self.calibrate = crowd.names, crowd.reset, crowd.calibrate

    def status(self) -> dict[str, Any]:
        """Plain numbers and maps: version, endpoints, actors and what looks wrong with them, counters, health."""
        return {
            "version": __version__,
            "runtime": self._filter.runtime.name,
            "endpoints": self._endpoints,
            "actor_states": {actor: self._state(actor) for actor in self._crowd.names()},
            **self._metrics.snapshot(),
        }

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
