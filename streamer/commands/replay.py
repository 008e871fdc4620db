"""``hpstm replay``: play a take through a real server over real sockets, and score what went in beside what came out.

Input and output are compared over the same frames and the same joints: those of the canonical skeleton that the input
layout measures. There is no truth here, so the scores are about steadiness: Accel, jitter, bone lengths.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from model.layouts import get_layout
from model.skeleton import PARENTS, J
from streamer.clock import SECOND_NS, now_ns
from streamer.errors import ConfigError
from streamer.frames import Array, Frame, Pose
from streamer.server.control import request
from streamer.sinks.subscriber import PoseSubscriber
from streamer.sources.replay import Take
from streamer.sources.sender import FrameSender
from streamer.wire.security import ClientKeys

READY_WITHIN_S = 20.0
ANSWER_WITHIN_S = 0.25  # fast mode: a frame without an answer by then was rejected
JOIN_WITHIN_S = 2.0


@dataclass(frozen=True)
class Endpoints:
    in_endpoint: str
    out_endpoint: str
    control_endpoint: str
    curve: ClientKeys | None = None

    def status(self, timeout_s: float) -> dict[str, Any] | None:
        return request(self.control_endpoint, "status", timeout_s, self.curve)


@contextlib.contextmanager
def server_for(arguments: argparse.Namespace, curve: ClientKeys | None = None) -> Iterator[Endpoints]:
    """The server that answers at the endpoints asked for, or a child process on free ports, gone afterwards."""
    asked = Endpoints(arguments.in_endpoint, arguments.out_endpoint, arguments.control_endpoint, curve)
    if not arguments.start_server and (curve is not None or asked.status(0.3) is not None):
        yield asked
        return
    free = [word for name in ("in", "out", "control") for word in (f"--{name}", "tcp://127.0.0.1:*")]
    command = [sys.executable, "-m", "streamer", "serve", "--json-ready", *free]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()  # ends with the process, if it fails
        if not line:
            raise ConfigError(f"the server did not start (exit code {process.wait(READY_WITHIN_S)})")
        ready = json.loads(line)
        yield Endpoints(ready["in"], ready["out"], ready["control"])
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        assert process.stdout is not None
        process.stdout.close()


class _Session:
    """One replay in progress: what was sent when, what came back when."""

    def __init__(self, sender: FrameSender, subscriber: PoseSubscriber) -> None:
        self._sender, self._subscriber = sender, subscriber
        self.sent: dict[tuple[str, int], tuple[Frame, int]] = {}  # (actor, t_ns) -> frame, when sent
        self.poses: list[tuple[Pose, int]] = []  # pose, when received

    def send(self, frame: Frame) -> None:
        self.sent[frame.actor, frame.t_ns] = (frame, now_ns())
        self._sender.send(frame)

    def collect(self, until_ns: int, captured_ns: int | None = None) -> None:
        """Take poses in until a time, or until the pose of the frame captured at ``captured_ns`` is in."""
        while (left := until_ns - now_ns()) > 0:
            pose = self._subscriber.receive(timeout_s=left / SECOND_NS)
            if pose is None:
                return
            self.poses.append((pose, now_ns()))
            if pose.captured_ns == captured_ns:
                return


def run(take: Take, endpoints: Endpoints, fast: bool = False) -> dict[str, Any]:
    """Play ``take``; the report as plain numbers: frames, poses, latency, rejections, scores per actor."""
    before = _status(endpoints)
    curve = endpoints.curve
    with (
        PoseSubscriber(endpoints.out_endpoint, every=True, curve=curve) as subscriber,
        FrameSender(endpoints.in_endpoint, curve=curve) as sender,
    ):
        if not sender.joined:
            raise ConfigError(f"no server takes frames at {endpoints.in_endpoint}")
        _wait_joined(endpoints, before["counters"]["subscriptions"])
        session, start_ns = _Session(sender, subscriber), now_ns()
        for frame in take.frames:
            due_ns = start_ns + frame.t_ns
            if not fast:
                session.collect(due_ns)
            session.send(replace(frame, t_ns=due_ns))
            if fast:
                session.collect(now_ns() + int(ANSWER_WITHIN_S * SECOND_NS), captured_ns=due_ns)
        session.collect(now_ns() + SECOND_NS // 3)
        seconds = (now_ns() - start_ns) / SECOND_NS
    return _report(take, session, before, _status(endpoints), seconds)


def _status(endpoints: Endpoints) -> dict[str, Any]:
    status = endpoints.status(2.0)
    if status is None or not status.get("ok"):
        raise ConfigError(f"no server answers at {endpoints.control_endpoint}")
    return status


def _wait_joined(endpoints: Endpoints, before: int) -> None:
    # A subscription takes about a millisecond to arrive; poses published before that would be missing in the scores.
    deadline = now_ns() + int(JOIN_WITHIN_S * SECOND_NS)
    while _status(endpoints)["counters"]["subscriptions"] < before + 2:  # skeleton. and pose.
        if now_ns() > deadline:
            raise ConfigError(f"the server did not see a subscription at {endpoints.out_endpoint}")
        time.sleep(0.005)


# -- scores -----------------------------------------------------------------------------------------------------------


def _report(
    take: Take, session: _Session, before: dict[str, Any], after: dict[str, Any], seconds: float
) -> dict[str, Any]:
    answered: dict[tuple[str, int], Pose] = {}
    delays_ms = []
    for pose, received_ns in session.poses:
        key = (pose.actor, pose.captured_ns)
        if key in session.sent:  # else another source's actor
            answered[key] = pose
            delays_ms.append((received_ns - session.sent[key][1]) / 1e6)
    rows: dict[str, list[tuple[Frame, Pose | None]]] = {}
    for key, (frame, _) in session.sent.items():
        rows.setdefault(frame.actor, []).append((frame, answered.get(key)))
    rejected = {
        reason: n - before["rejected"].get(reason, 0)
        for reason, n in after["rejected"].items()
        if n > before["rejected"].get(reason, 0)
    }
    p50, p99 = np.percentile(delays_ms, [50, 99]) if delays_ms else (float("nan"), float("nan"))
    return {
        "file": take.name,
        "layout": take.frames[0].layout,
        "fps": take.fps,
        "seconds": seconds,
        "frames_in": len(take.frames),
        "poses_out": len(delays_ms),
        "skipped": after["counters"]["frames_skipped"] - before["counters"]["frames_skipped"],
        "rejected": rejected,
        "latency_ms": {"p50": float(p50), "p99": float(p99)},
        "actors": {actor: _score(pairs, take.fps) for actor, pairs in rows.items()},
    }


def _score(rows: list[tuple[Frame, Pose | None]], fps: float) -> dict[str, Any]:
    """Steadiness of one actor's input and output, after calibration if it ended.

    A frame without a pose of its own stays in as NaN: differences are taken between neighbours in the input only.
    """
    settled = [n for n, (_, pose) in enumerate(rows) if pose is not None and pose.status != "calibrating"]
    rows = rows[settled[0] :] if len(settled) >= 4 else rows
    nothing = np.full((J, 3), np.nan)
    raw = np.stack([_canonical(frame) if pose is not None else nothing for frame, pose in rows])
    refined = np.stack([pose.positions if pose is not None else nothing for _, pose in rows]).astype(np.float64)
    same = np.where(np.isnan(raw), np.nan, refined)  # the same joints in the same frames
    return {
        "scored": sum(pose is not None for _, pose in rows),
        "joints": int(np.isfinite(raw).all(axis=-1).any(axis=0).sum()),
        "accel_mm": {"in": accel_mm(raw), "out": accel_mm(same)},
        "jitter_m_s3": {"in": jitter_m_s3(raw, fps), "out": jitter_m_s3(same, fps)},
        "bone_std_mm": {"in": bone_std_mm(raw), "out": bone_std_mm(refined)},
    }


def _canonical(frame: Frame) -> Array:
    """(24, 3) the joints the layout measures, NaN elsewhere [m]."""
    positions, measured, _, _ = get_layout(frame.layout).to_canonical(frame.positions, frame.confidence)
    return np.where(measured[:, None], positions, np.nan).astype(np.float64)


def accel_mm(positions: Array) -> float:
    """Mean size of the second difference of (T, J, 3) positions [mm/frame^2]; NaN = missing."""
    return 1e3 * _mean_norm(np.diff(positions, n=2, axis=0))


def jitter_m_s3(positions: Array, fps: float) -> float:
    """Mean size of the third derivative of (T, J, 3) positions [m/s^3]."""
    return fps**3 * _mean_norm(np.diff(positions, n=3, axis=0))


def bone_std_mm(positions: Array) -> float:
    """Standard deviation of a bone's length over time [mm], mean over the bones that are measured."""
    bones = np.linalg.norm(positions[:, 1:] - positions[:, list(PARENTS[1:])], axis=-1)  # (T, J-1)
    bones = bones[:, np.isfinite(bones).sum(axis=0) > 1]
    return 1e3 * float(np.nanstd(bones, axis=0).mean()) if bones.size else float("nan")


def _mean_norm(differences: Array) -> float:
    sizes = np.linalg.norm(differences, axis=-1)
    sizes = sizes[np.isfinite(sizes)]
    return float(sizes.mean()) if sizes.size else float("nan")


# -- for people and programs ------------------------------------------------------------------------------------------


def to_json(report: dict[str, Any]) -> str:
    """The report as JSON; what could not be measured is null."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        return None if isinstance(value, float) and not np.isfinite(value) else value

    return json.dumps(plain(report), indent=2) + "\n"


def table(report: dict[str, Any]) -> str:
    """The report as a few lines of text."""
    rejected = ", ".join(f"{reason} {n}" for reason, n in sorted(report["rejected"].items())) or "none"
    latency = report["latency_ms"]
    lines = [
        f"{report['file']}  {report['layout']}  {report['fps']:.1f} fps",
        f"frames in {report['frames_in']}, poses out {report['poses_out']} in {report['seconds']:.1f} s, "
        f"skipped {report['skipped']}, rejected: {rejected}",
        f"latency, sent to received: p50 {latency['p50']:.2f} ms, p99 {latency['p99']:.2f} ms",
    ]
    for actor, score in report["actors"].items():
        lines += [f"{actor}: {score['joints']} joints, {score['scored']} frames", f"  {'':24}{'in':>12}{'out':>12}"]
        for key, text in (("accel_mm", "Accel [mm/frame^2]"), ("jitter_m_s3", "jitter [m/s^3]"),
                          ("bone_std_mm", "bone length std [mm]")):  # fmt: skip
            lines.append(f"  {text:24}{score[key]['in']:12.3f}{score[key]['out']:12.6g}")
    return "\n".join(lines)
