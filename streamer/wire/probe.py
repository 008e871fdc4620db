"""Who answers at an endpoint: for a reader that hears nothing and wants to know why."""

from __future__ import annotations

import time

import zmq
from zmq.utils.monitor import recv_monitor_message

from streamer.wire.security import ClientKeys

FAILED = zmq.EVENT_HANDSHAKE_FAILED_AUTH | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL


def why_silent(endpoint: str, curve: ClientKeys | None = None, within_s: float = 0.5) -> str:
    """One line on why nothing comes from ``endpoint``, where poses go out, as far as a connection can tell."""
    heard = _first_event(endpoint, curve, within_s)
    if heard == zmq.EVENT_HANDSHAKE_SUCCEEDED:
        return f"a server answers at {endpoint}, but there is nobody in it: it gets no frames, or of other actors only"
    if heard & FAILED and curve is None:
        return f"a server answers at {endpoint}, but lets in only who has a key: say --key and --server-key"
    if heard & FAILED:
        return f"a server answers at {endpoint}, but refuses these keys, or is another one than --server-key says"
    return f"no server answers at {endpoint}; start one with `hpstm serve`, or say --out"


def _first_event(endpoint: str, curve: ClientKeys | None, within_s: float) -> int:
    """The first that tells, of the events of a connection; 0 for none within the time."""
    end = time.monotonic() + within_s
    with zmq.Context() as context, context.socket(zmq.SUB) as socket:
        socket.linger = 0
        if curve is not None:
            curve.apply(socket)
        with socket.get_monitor_socket(FAILED | zmq.EVENT_HANDSHAKE_SUCCEEDED) as monitor:
            socket.connect(endpoint)
            left_ms = max(0, int(1000 * (end - time.monotonic())))
            heard = int(recv_monitor_message(monitor)["event"]) if monitor.poll(left_ms) else 0
            socket.disable_monitor()
    return heard
