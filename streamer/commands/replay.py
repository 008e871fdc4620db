"""``hpstm replay``: play a take through a real server over real sockets, and score what went in beside what came out.

Input and output are compared over the same frames and the same joints: those of the canonical skeleton that the input
layout measures. There is no truth here, so the scores are about steadiness: Accel, jitter, bone lengths.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from json import dumps, loads
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from cyclopts import Parameter

from streamer.clock import SECOND_NS, now_ns
from streamer.commands.options import Control, Height, In, Key, Out, Pitch, ServerKey, client_keys
from streamer.commands.scores import score
from streamer.errors import ConfigError
from streamer.frames import Frame, Pose
from streamer.server.control import request
from streamer.sinks.subscriber import PoseSubscriber
from streamer.sources.replay import Take, read_take
from streamer.sources.sender import FrameSender
from streamer.sources.synthetic import synthetic_take
from streamer.sources.told import Told
from streamer.wire.endpoints import DEFAULT_CONTROL, DEFAULT_IN, DEFAULT_OUT
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


def replay(
    file: str,
    /,
    *,
    in_endpoint: In = DEFAULT_IN,
    out_endpoint: Out = DEFAULT_OUT,
    control_endpoint: Control = DEFAULT_CONTROL,
    key: Key = None,
    server_key: ServerKey = None,
    start_server: bool = False,
    fast: bool = False,
    actor: str | None = None,
    seconds: float | None = None,
    noise_mm: Annotated[float | None, Parameter(show_default="0; synthetic: 10")] = None,
    fps: float | None = None,
    unit_m: float | None = None,
    up: str | None = None,
    height_m: Height = None,
    pitch_deg: Pitch = 0.0,
    json: Path | None = None,
) -> int:
    """Play a file through a running server, or one of its own, and score what comes out.

    Args:
        file: .npz (MediaPipe or AMASS), .bvh, .amc, .trc, .csv (also .gz), a recording, or: synthetic.
        start_server: Start a server even if one answers, on free ports.
        fast: As fast as the server answers, not in real time.
        actor: Name to give the actor; none: that of the file.
        seconds: Only the first so many [s]; none: all.
        noise_mm: Add noise of this standard deviation per coordinate [mm].
        fps: True frame rate of a motion file, if its own is wrong [Hz].
        unit_m: Metres per unit of a motion file, if the body's size misleads [m].
        up: Axis of a motion file that points up (x, y, z, -x, -y, -z), if the body's stance misleads.
        json: Write the summary to this file, too.
    """
    known = Told(height_m, pitch_deg)
    if file == "synthetic":
        take = known.take(synthetic_take(seconds or 10.0)).noisy((10.0 if noise_mm is None else noise_mm) / 1e3)
    else:
        take = known.take(read_take(file, actor, fps=fps, unit_m=unit_m, up=up)).noisy((noise_mm or 0.0) / 1e3)
    if seconds is not None:
        take = take.first(seconds)
    asked = Endpoints(in_endpoint, out_endpoint, control_endpoint, client_keys(key, server_key, out_endpoint))
    with server_for(asked, start_server) as endpoints:
        report = run(take, endpoints, fast)
    print(table(report))
    if json:
        json.write_text(to_json(report))
    return 0 if report["poses_out"] else 1


@contextlib.contextmanager
def server_for(asked: Endpoints, start: bool = False) -> Iterator[Endpoints]:
    """The server that answers at the endpoints asked for, or a child process on free ports, gone afterwards."""
    if not start and (asked.curve is not None or asked.status(0.3) is not None):
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
        ready = loads(line)
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


# -- the report --------------------------------------------------------------------------------------------------------


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
        "actors": {actor: score(pairs, take.fps) for actor, pairs in rows.items()},
    }


# -- for people and programs ------------------------------------------------------------------------------------------


def to_json(report: dict[str, Any]) -> str:
    """The report as JSON; what could not be measured is null."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        return None if isinstance(value, float) and not np.isfinite(value) else value

    return dumps(plain(report), indent=2) + "\n"


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
    for actor, found in report["actors"].items():
        lines += [f"{actor}: {found['joints']} joints, {found['scored']} frames", f"  {'':24}{'in':>12}{'out':>12}"]
        for key, text in (("accel_mm", "Accel [mm/frame^2]"), ("jitter_m_s3", "jitter [m/s^3]"),
                          ("bone_std_mm", "bone length std [mm]")):  # fmt: skip
            lines.append(f"  {text:24}{found[key]['in']:12.3f}{found[key]['out']:12.6g}")
    return "\n".join(lines)
