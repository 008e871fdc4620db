"""Lines for people: what the server says when it is ready and once a second, and one line per pose."""

from __future__ import annotations

import json
import sys

from streamer.clock import SECOND_NS, now_ns
from streamer.frames import Pose
from streamer.server.metrics import Metrics


def ready_line(endpoints: dict[str, str], as_json: bool = False) -> str:
    """One line with the endpoints as they really are (a port given as ``*`` is a number here)."""
    if as_json:
        return json.dumps({"ready": True, **endpoints})
    return "ready " + " ".join(f"{name}={endpoint}" for name, endpoint in endpoints.items())


def pose_line(pose: Pose) -> str:
    """actor, seq, status, pelvis [m], age since published, received to published [ms]."""
    x, y, z = (float(v) for v in pose.root)
    age_ms = (now_ns() - pose.published_ns) / 1e6
    server_ms = (pose.published_ns - pose.received_ns) / 1e6
    return (
        f"{pose.actor} {pose.seq} {pose.status} pelvis {x:+.3f} {y:+.3f} {z:+.3f} m"
        f"  server {server_ms:.2f} ms  age {age_ms:.2f} ms"
    )


class StatusLine:
    """One line in the terminal, rewritten each time ``show`` is called."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
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
        sys.stdout.write(f"\r{line}\033[K")
        sys.stdout.flush()
