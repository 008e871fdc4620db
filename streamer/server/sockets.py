"""The server's three sockets with their limits set: nothing here blocks, grows without bound, or outlives its peer."""

from __future__ import annotations

import contextlib
import socket as system
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import zmq
from zmq.utils.monitor import recv_monitor_message

from streamer.errors import ConfigError
from streamer.server.config import ServerConfig
from streamer.wire.endpoints import INSIDE_IN, INSIDE_OUT
from streamer.wire.security import ServerKeys, admitting

# Larger than any message of ours, so that an oversized one is received, named and counted; ZeroMQ itself cuts the
# connection of a peer that sends more than this.
MAX_RECEIVE_BYTES = 16 * 1024 * 1024
SEND_BUFFER_BYTES = 64 * 1024
HEARTBEAT_MS, HEARTBEAT_TIMEOUT_MS = 1000, 3000
# A subscriber that takes nothing for this long is cut off and its backlog dropped; it reconnects by itself when it
# reads again. Heartbeats do not do this: ZeroMQ cannot send one while the connection is blocked.
STUCK_MS = 1000
IDLE_POLL_MS = 100  # the longest wait: a signal that arrives while polling is seen after it
LAST_SEND_MS = 100  # at shutdown, for poses on their way
MOST_EVENTS = 1000  # failed handshakes that are read at a time
# How a handshake fails, as the server sees it. A key that is not in the folder is counted by whoever looks it up.
FAILURES: dict[int, str] = {
    zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL: "protocol",
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL: "broken_off",
}


class Sockets:
    """Open from ``open_sockets``; every call returns at once except ``poll``."""

    def __init__(self, frames_in: zmq.Socket[bytes], poses_out: zmq.Socket[bytes], control: zmq.Socket[bytes]) -> None:
        self.frames_in, self.poses_out, self.control = frames_in, poses_out, control
        named = {"in": frames_in, "out": poses_out, "control": control}
        self.endpoints = {name: s.getsockopt_string(zmq.LAST_ENDPOINT) for name, s in named.items()}
        self._monitors = [s.get_monitor_socket(sum(FAILURES)) for s in named.values()]
        self._poller = zmq.Poller()
        for socket in named.values():
            self._poller.register(socket, zmq.POLLIN)

    def failed_handshakes(self) -> Counter[str]:
        """How many since the last call, by how: a wrong server key or no encryption ("protocol"), or broken off."""
        failed: Counter[str] = Counter()
        for monitor in self._monitors:
            for _ in range(MOST_EVENTS):
                if not monitor.poll(0):
                    break
                failed[FAILURES.get(recv_monitor_message(monitor)["event"], "other")] += 1
        return failed

    def close(self) -> None:
        """What was opened here; the three sockets are their owner's."""
        for socket, monitor in zip((self.frames_in, self.poses_out, self.control), self._monitors, strict=True):
            socket.disable_monitor()
            monitor.close(0)

    def poll(self, wait_ms: int) -> dict[Any, int]:
        """The sockets that have something, waiting at most ``wait_ms``, and at most IDLE_POLL_MS."""
        return dict(self._poller.poll(min(wait_ms, IDLE_POLL_MS)))

    def watch(self, descriptor: int) -> None:
        """From now on, ``poll`` ends when this is readable, too."""
        self._poller.register(descriptor, zmq.POLLIN)

    def received(self, socket: zmq.Socket[bytes], most: int) -> Iterator[bytes]:
        """What waits on ``socket``, oldest first, at most ``most`` messages."""
        receive = socket.recv
        try:
            for _ in range(most):
                yield receive(zmq.NOBLOCK)
        except zmq.Again:
            return

    def publish(self, message: bytes) -> None:
        """Send to all subscribers. XPUB drops for a full one on its own; the others are never made to wait."""
        with contextlib.suppress(zmq.Again):
            self.poses_out.send(message, zmq.NOBLOCK)


@contextlib.contextmanager
def open_sockets(
    config: ServerConfig, refused: Callable[[], None], inside: zmq.Context[Any] | None = None
) -> Iterator[Sockets]:
    """Sockets open inside, closed after; ``refused()`` is called, in a thread, for each client that is not let in.

    Args:
        inside: a context of this process, in which the sockets are reached at INSIDE_IN and INSIDE_OUT, too.
    Raises:
        ConfigError: a port is taken. SecurityError: keys are missing or wrong.
    """
    keys = config.keys()
    with contextlib.ExitStack() as stack:
        context = inside if inside is not None else stack.enter_context(zmq.Context())
        stack.enter_context(admitting(context, keys, refused))
        frames_in = stack.enter_context(_bound(context, zmq.SUB, config.in_endpoint, keys))
        frames_in.subscribe(b"")  # everything, so that what is not a frame is counted too
        for endpoint in config.connect_in:
            _connect(frames_in, endpoint)
        poses_out = stack.enter_context(_bound(context, zmq.XPUB, config.out_endpoint, keys, 4 * config.max_actors))
        control = stack.enter_context(_bound(context, zmq.REP, config.control_endpoint, keys))
        with contextlib.closing(Sockets(frames_in, poses_out, control)) as sockets:
            if inside is not None:
                frames_in.bind(INSIDE_IN)
                poses_out.bind(INSIDE_OUT)
            yield sockets
        poses_out.setsockopt(zmq.LINGER, LAST_SEND_MS)
        control.setsockopt(zmq.LINGER, LAST_SEND_MS)


def _bound(
    context: zmq.Context[Any], kind: int, endpoint: str, keys: ServerKeys | None, least_hwm: int = 0
) -> zmq.Socket[bytes]:
    socket: zmq.Socket[bytes] = context.socket(kind)
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.MAXMSGSIZE, MAX_RECEIVE_BYTES)
    socket.setsockopt(zmq.HEARTBEAT_IVL, HEARTBEAT_MS)
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, HEARTBEAT_TIMEOUT_MS)
    if keys is not None:
        keys.apply(socket)
    if kind == zmq.XPUB:
        socket.setsockopt(zmq.XPUB_VERBOSE, 1)
        socket.setsockopt(zmq.SNDHWM, max(256, least_hwm))
        socket.setsockopt(zmq.SNDBUF, SEND_BUFFER_BYTES)
        socket.setsockopt(zmq.TCP_MAXRT, STUCK_MS)
    try:
        if _answers(endpoint):
            raise zmq.ZMQError(zmq.EADDRINUSE)
        socket.bind(endpoint)
    except zmq.ZMQError as error:
        socket.close()
        raise ConfigError(f"cannot open {endpoint}: {error}; is another server running there?") from error
    return socket


def _answers(endpoint: str) -> bool:
    """Is somebody listening on this ipc path? ZeroMQ would take it from them; on tcp the system does not allow it."""
    scheme, _, path = endpoint.partition("://")
    if scheme != "ipc" or path.startswith(("@", "*")) or not hasattr(system, "AF_UNIX"):
        return False
    with system.socket(system.AF_UNIX, system.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(path)
        except OSError:  # a file that a server left behind, or none
            return False
    return True


def _connect(socket: zmq.Socket[bytes], endpoint: str) -> None:
    try:
        socket.connect(endpoint)
    except zmq.ZMQError as error:
        raise ConfigError(f"cannot connect to --connect-in {endpoint}: {error}") from error
