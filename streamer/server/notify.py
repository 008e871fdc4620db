"""What a service manager is told: systemd's notifications, a datagram each, for a unit of Type=notify.

Without NOTIFY_SOCKET in the environment nobody asked, and nothing is done.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress

READY, ALIVE, STOPPING = "READY=1", "WATCHDOG=1", "STOPPING=1"


def notify(state: str) -> bool:
    """Whether somebody was told. Never waits, never fails: a server that cannot tell still serves.

    Source: sd_notify(3), "Standalone Implementations". Test: test_deploy.py.
    """
    path = os.environ.get("NOTIFY_SOCKET", "")
    if path[:1] not in ("/", "@") or not hasattr(socket, "AF_UNIX"):
        return False
    address = "\0" + path[1:] if path.startswith("@") else path
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.setblocking(False)
        told.sendto(state.encode(), address)
        return True
    return False
