"""From an estimator's output to the VMC packet that moves an avatar, through the real ``hpstm live``.

Lines of JSON go in at its standard input, each when it is due; poses come out as VMC at a UDP port. Both ends are this
process, which writes a line and then waits for the packets: nothing of it competes with what is measured.
"""

from __future__ import annotations

import json
import select
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from subprocess import Popen
from typing import Any

import numpy as np
from rich.console import Console

from bench.drive import Times, noisy_frames
from bench.report import Percentiles, frozen_gc, machine, machine_line
from bench.service.child import READY_WITHIN_S, STOP_WITHIN_S, ServerFailed, free_endpoints
from bench.service.wire_roles import LEAD_NS, SILENCE_S, RealTime, schedule
from bench.service.wire_run import Load, first_answers
from streamer.clock import SECOND_NS, now_ns
from streamer.frames import Frame
from streamer.wire.osc import parse
from streamer.wire.vmc import APPLY, TIME

TARGET_MS, TARGET_HZ = 2.0, 30.0  # p99
LAYOUT = "smpl_24"
_LAST = APPLY.encode()  # is in the last packet of a pose


@dataclass(frozen=True)
class Answers:
    """What became of the lines of one run.

    Attributes:
        due_ns: (T,) when each was due.
        took_ns: (N,) until the last packet of its pose, or of the first newer one, of those answered.
        overtaken: without a pose of their own.
    """

    due_ns: Times
    took_ns: Times
    overtaken: int

    def latency(self) -> Percentiles:
        """Raises ServerFailed: no pose came."""
        if not len(self.took_ns):
            raise ServerFailed(f"no pose came back of {len(self.due_ns)} lines")
        return Percentiles.of_ns(self.took_ns)


def run_live(rates_hz: Sequence[float], seconds: float, warmup_s: float, arguments: Sequence[str]) -> dict[str, Any]:
    """Measures a stream of each rate; what ``show_live`` and the JSON say. Raises ServerFailed."""
    rows = []
    for rate_hz in rates_hz:
        answers = through_live(Load(rate_hz, seconds, warmup_s), arguments)
        rows.append({"rate_hz": rate_hz, "latency": answers.latency(), "overtaken": answers.overtaken})
    settings = {"seconds": seconds, "warmup_s": warmup_s, "arguments": list(arguments)}
    return {"benchmark": "wire live", "machine": machine(), "settings": settings, "rows": rows}


def show_live(result: dict[str, Any], screen: Console) -> None:
    """Prints a line a rate."""
    screen.print(f"An estimator's line due -> its pose's last VMC packet, hpstm live, one actor; ms\n"
                 f"{machine_line(result['machine'])}")  # fmt: skip
    for row in result["rows"]:
        found = row["latency"]
        aim = f"; p99 is to be under {TARGET_MS:g}" if row["rate_hz"] == TARGET_HZ else ""
        screen.print(
            f"{row['rate_hz']:g} Hz: p50 {found.p50:.3f}  p90 {found.p90:.3f}  p99 {found.p99:.3f}  max {found.max:.3f}"
            f"  of {found.count} frames, {row['overtaken']} overtaken{aim}"
        )


class _Avatar:
    """The UDP port of an avatar program; which frame a pose is of is told by its time."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._socket.getsockname()[1]}"
        self._t_s = 0.0

    def pose(self, until_ns: int) -> tuple[float, int] | None:
        """Time of the next pose from the first one on [s], and when its last packet came [ns]; None: none came."""
        packets: list[bytes] = []
        while (left_ns := until_ns - now_ns()) > 0:
            if not select.select([self._socket], [], [], left_ns / SECOND_NS)[0]:
                break
            packet, arrived_ns = self._socket.recv(65_535), now_ns()
            packets.append(packet)
            if _LAST in packet:  # read only now: the next packet's coming is not to wait for that
                self._read(packets)
                return self._t_s, arrived_ns
        self._read(packets)
        return None

    def _read(self, packets: list[bytes]) -> None:
        for message in (message for packet in packets for message in parse(packet)):
            if message.address == TIME:
                self._t_s = float(message.arguments[0])

    def close(self) -> None:
        self._socket.close()


def through_live(load: Load, arguments: Sequence[str] = ()) -> Answers:
    """One stream of one actor. Raises ServerFailed."""
    lines = [_line(frame) for frame in noisy_frames(load.ticks + 1, load.rate_hz)]
    avatar = _Avatar()
    try:
        with _running(avatar.address, arguments) as process:
            return _measured(load, lines, avatar, process)
    finally:
        avatar.close()


def _measured(load: Load, lines: list[tuple[bytes, bytes]], avatar: _Avatar, process: Popen[bytes]) -> Answers:
    clock, arrived = RealTime(), dict[int, int]()
    assert process.stdin is not None
    stdin = process.stdin

    def write(n: int, t_ns: int) -> None:
        before, after = lines[n]
        stdin.write(before + b"%d" % t_ns + after)

    with frozen_gc():
        first_ns = now_ns()
        write(0, first_ns)
        while avatar.pose(now_ns() + SECOND_NS // 2) is None:  # its time is 0
            if process.poll() is not None or now_ns() - first_ns > READY_WITHIN_S * SECOND_NS:
                raise ServerFailed(f"hpstm live gave no pose (exit code {process.poll()})")
        due_ns = schedule(now_ns() + LEAD_NS, load.rate_hz, load.ticks)
        ends_ns = [*due_ns[1:].tolist(), int(due_ns[-1]) + int(SILENCE_S * SECOND_NS)]
        for n, (due, end_ns) in enumerate(zip(due_ns.tolist(), ends_ns)):
            clock.wait_until(due)
            write(n + 1, due)
            while (pose := avatar.pose(end_ns - SECOND_NS // 500)) is not None:
                tick = int(np.abs(due_ns - (first_ns + round(pose[0] * SECOND_NS))).argmin())
                arrived.setdefault(tick, pose[1])
                if tick == n:
                    break
    ticks, at_ns = (np.array(list(some), np.int64) for some in (arrived.keys(), arrived.values()))
    first_at_ns, answered = first_answers(load.ticks, ticks, at_ns)
    counted = answered & (np.arange(load.ticks) >= load.warmup)
    own = int((ticks >= load.warmup).sum())
    return Answers(due_ns[load.warmup :], (first_at_ns - due_ns)[counted], load.ticks - load.warmup - own)


def _line(frame: Frame) -> tuple[bytes, bytes]:
    """A frame's line before and after its time."""
    holed = [None if np.isnan(xyz).any() else np.round(xyz.astype(float), 5).tolist() for xyz in frame.positions]
    confidence = None if frame.confidence is None else np.round(frame.confidence.astype(float), 3).tolist()
    rest = json.dumps({"actor": "a", "layout": LAYOUT, "positions": holed, "confidence": confidence})
    return b'{"t_ns": ', b", " + rest[1:].encode() + b"\n"


@contextmanager
def _running(avatar: str, arguments: Sequence[str]) -> Iterator[Popen[bytes]]:
    """``hpstm live``; ended after."""
    where = [word for pair in zip(("--in", "--out", "--control"), free_endpoints(3)) for word in pair]
    command = [sys.executable, "-m", "streamer", "live", "--stdin", "--vmc", avatar, *where, *arguments]
    with Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, bufsize=0) as process:
        assert process.stdin is not None
        try:
            yield process
        except BrokenPipeError as error:
            raise ServerFailed(f"hpstm live ended with exit code {process.wait(STOP_WITHIN_S)}") from error
        finally:
            process.stdin.close()
            try:
                process.wait(STOP_WITHIN_S)
            except subprocess.TimeoutExpired:
                process.kill()
