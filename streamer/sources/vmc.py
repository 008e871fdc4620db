"""Frames from a VMC performer: the socket it sends to, whose frames they are, when they were, what was wrong.

How messages become frames, and bones joints: performer.py. One performer is one actor; give each a port of its own.
"""

from __future__ import annotations

import socket
from collections import Counter, deque
from types import TracebackType
from typing import Any

import numpy as np

from streamer.clock import SECOND_NS, ClockMap, now_ns
from streamer.errors import ConfigError, ProtocolError
from streamer.frames import Frame
from streamer.server.metrics import Histogram
from streamer.sources.performer import ROOT_KEY, Captured, Performer
from streamer.wire.osc import parse
from streamer.wire.vmc import BONE, LAYOUT

BUFFER_BYTES = 1 << 20
MOST_BYTES = 65_535  # of a UDP packet
QUIET_NS = SECOND_NS  # a performer that sent no bone for so long may be followed by another
MOST_KINDS, MOST_SHOWN = 64, 5  # of what was broken or unknown: that are counted by name, that a line names
LATE_NS = SECOND_NS // 4  # a sender's clock that falls behind by more was set back, or goes wrong
COARSE_S = 8192.0  # from here on, a float of seconds moves in steps of a millisecond


class SenderClock:
    """When frames were: by their sender's clock where it shows that it is one, else when they arrived.

    Both are on our clock: the least delay seen is taken for the whole of it. Each stamp is later than the one before.
    """

    def __init__(self) -> None:
        self._map, self._last_ns = ClockMap(), -1
        self.used = False  # whether the last stamp is the sender's

    def stamp(self, sender_s: float | None, arrived_ns: int) -> int:
        """The time [ns] of a frame that says ``sender_s`` (None: nothing) and arrived at ``arrived_ns``."""
        late_ns, self.used = 0, sender_s is not None and 0.0 <= sender_s < COARSE_S
        if sender_s is not None and self.used:
            late_ns = self._map.update(round(sender_s * SECOND_NS), arrived_ns)
        if late_ns > LATE_NS or not self.used:
            self._map.reset()
            late_ns, self.used = 0, False
        if arrived_ns - late_ns <= self._last_ns:
            late_ns, self.used = 0, False
        self._last_ns = max(arrived_ns - late_ns, self._last_ns + 1)
        return self._last_ns

    def restart(self) -> None:
        """Another sender's clock is told from now on."""
        self._map.reset()


class VmcReceiver:
    """Frames of layout ``vrm`` from whoever sends VMC to a UDP port. Not thread-safe.

    Whose bones come first is followed until they stop for a second; those of another sender meanwhile are not mixed in.

    Attributes:
        frames: how many were made.
        broken, unknown, unused: what came besides, by name: packets and messages that cannot be read; addresses and
            bones that are not VMC's; frames that are not used, and why.
    Args:
        port: UDP port to listen at; 0: any, see ``port``.
        host: of this machine, whose address the port is at; "" for all of them.
    Raises:
        ConfigError: the port cannot be had.
    """

    ended = False  # performers come and go

    def __init__(self, port: int = 39539, host: str = "127.0.0.1", actor: str = "vmc") -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
        try:
            self._socket.bind((host, port))
        except (OSError, OverflowError) as error:
            self._socket.close()
            raise ConfigError(
                f"cannot listen at UDP port {port} ({error}); give another --port, and to the performer, too"
            ) from error
        self.port: int = self._socket.getsockname()[1]
        self.descriptor: int | None = self._socket.fileno()
        self.broken: Counter[str] = Counter()
        self.unknown: Counter[str] = Counter()
        self.unused: Counter[str] = Counter()
        self.frames, self.bones, self.sender = 0, 0, ""
        self.name = f"VMC at UDP port {self.port}"
        self.latency: dict[str, Histogram] = {}
        self._actor = actor
        self._performer, self._clock = Performer(), SenderClock()
        self._address: Any = None
        self._heard_ns = 0
        self._ready: deque[Frame] = deque()

    def receive(self, timeout_s: float) -> Frame | None:
        """The next frame; None when none came within ``timeout_s``."""
        deadline = now_ns() + int(timeout_s * SECOND_NS)
        while not self._ready:
            self._socket.settimeout(max(0.0, (deadline - now_ns()) / SECOND_NS))
            try:
                packet, address = self._socket.recvfrom(MOST_BYTES)
            except (TimeoutError, BlockingIOError):
                return None
            self._take(packet, address, now_ns())
            if not self._ready and now_ns() >= deadline:  # whatever else comes
                return None
        return self._ready.popleft()

    def rehearse(self) -> None:
        """Nothing: it would take as long as a frame, twice."""

    def lost(self) -> dict[str, int]:
        """Packets, messages and frames that were not used, by why."""
        return {"broken": self.broken.total(), "not used": self.unused.total()}

    def kinds(self) -> tuple[object, ...]:
        """What ``status`` names, without the numbers."""
        return (self.sender, frozenset(self.broken), frozenset(self.unknown), frozenset(self.unused))

    def status(self) -> str:
        """Who sends, and what of it cannot be used, in one line."""
        if not self.sender and not (self.broken or self.unknown):
            return f"nothing has come to UDP port {self.port}"
        clock = "the sender's clock" if self._clock.used else "times of arrival"
        parts = [f"{self.sender or 'nobody'}: {self.frames} frames, {self.bones} bones, {clock}"]
        for name, counts in (("broken", self.broken), ("unknown", self.unknown), ("not used", self.unused)):
            if counts:
                shown = [f"{what} ({n})" for what, n in counts.most_common(MOST_SHOWN)]
                more = counts.total() - sum(n for _, n in counts.most_common(MOST_SHOWN))
                parts.append(f"{name}: " + ", ".join(shown + ([f"others ({more})"] if more else [])))
        return "; ".join(parts)

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> VmcReceiver:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def _take(self, packet: bytes, address: Any, now: int) -> None:
        try:
            messages = parse(packet)
        except ProtocolError as error:
            _count(self.broken, f"{error.reason} {error.field}".strip())
            return
        performer = self._performer
        if any(one.address == BONE for one in messages):
            if address != self._address and self._address is not None and now - self._heard_ns < QUIET_NS:
                _count(self.unused, f"packets of another sender, {address[0]}:{address[1]}")
                return
            if address != self._address:
                self._address, self.sender = address, f"{address[0]}:{address[1]}"
                performer.reset()
                self._clock.restart()
            self._heard_ns = now
        elif address != self._address:
            performer = Performer()  # it ends no frame of another
        ended, faults = performer.feed(messages, now)
        for kind, what in faults:
            _count(self.broken if kind == "broken" else self.unknown, what)
        for captured in ended:
            self._use(captured)

    def _use(self, captured: Captured) -> None:
        positions, rotations = captured.joints()
        if not captured.tracked:
            _count(self.unused, "frames of which their sender says that tracking is bad")
        elif np.isnan(positions[0, 0]):
            if captured.bones.keys() != {ROOT_KEY}:
                _count(self.unused, "frames without the bone Hips")
        else:
            t_ns = self._clock.stamp(captured.sender_s, captured.arrived_ns)
            frame = Frame(self._actor, self.frames, t_ns, positions.astype(np.float32), layout=LAYOUT)
            if captured.of_t_pose:
                frame.rotations = rotations.astype(np.float32)
            else:
                _count(self.unused, "rotations from another rest pose than a T-pose")
            self._ready.append(frame)
            self.bones = int(np.isfinite(positions[:, 0]).sum())
            self.frames += 1


def _count(counts: Counter[str], what: str) -> None:
    """Counts by name, of a bounded number of names."""
    counts[what[:80] if what in counts or len(counts) < MOST_KINDS else "others"] += 1
