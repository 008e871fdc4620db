"""Where a server listens when nobody says otherwise, this machine only; and which endpoints are this machine's."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from streamer.errors import ConfigError

DEFAULT_IN = "tcp://127.0.0.1:5750"
DEFAULT_OUT = "tcp://127.0.0.1:5751"
DEFAULT_CONTROL = "tcp://127.0.0.1:5752"
# Where a server listens besides, for threads of its own process that share its context (``Server.run``).
INSIDE_IN, INSIDE_OUT = "inproc://hpstm-in", "inproc://hpstm-out"


def is_local(endpoint: str) -> bool:
    """True when only processes of this machine can reach ``endpoint``. Raises ConfigError when it is not one."""
    scheme, separator, rest = endpoint.partition("://")
    if not separator or not rest:
        raise ConfigError(f"{endpoint!r} is not an endpoint; write tcp://127.0.0.1:5750 or ipc:///tmp/hpstm")
    if scheme in ("ipc", "inproc"):
        return True
    if scheme != "tcp":
        raise ConfigError(f"{endpoint!r}: use tcp:// or ipc://")
    try:
        parts = urlsplit(endpoint)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        port = None
    if port is None and not rest.endswith(":*"):
        raise ConfigError(f"{endpoint!r} names no port; write for example tcp://127.0.0.1:5750")
    if port is None:
        host = rest[:-2].strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False  # an interface name, a host name, or * for all interfaces


def host_and_port(address: str) -> tuple[str, int]:
    """The parts of HOST:PORT, the address of a UDP socket; of IPv6: [HOST]:PORT. Raises ConfigError."""
    host, _, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or "/" in host or not port.isascii() or not port.isdigit() or not 0 < int(port[:6]) < 65_536:
        raise ConfigError(f"{address!r} is not HOST:PORT; write for example 127.0.0.1:39539")
    return host, int(port)
