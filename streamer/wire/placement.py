"""Which of several servers an actor goes to: rendezvous hashing, so that everybody who has the list finds the same one.

Each actor ranks the servers by a hash of both names. Who has the highest is its server; is that one away, the next one
is. A server that is added or lost moves its own share and nobody else: the ranking of the others does not change.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

from streamer.errors import ConfigError
from streamer.wire.endpoints import is_local


def ranked(actor: str, servers: Sequence[str]) -> tuple[int, ...]:
    """Indices into ``servers``, best first: the actor's own server, who stands in for it, and so on.

    The order of the list does not matter, and neither do the machine, the process or the version of Python.

    Source: Thaler and Ravishankar, "Using name-based mappings to increase hit rates", 1998. Test: test_placement.py.
    """
    return tuple(sorted(range(len(servers)), key=lambda n: _weight(actor, servers[n]), reverse=True))


def _weight(actor: str, server: str) -> bytes:
    return blake2b(f"{server}\0{actor}".encode(), digest_size=8).digest()


def endpoints_of(endpoint: str | None, servers: Sequence[str]) -> tuple[str, ...]:
    """The endpoints that a client was given, one or several.

    Raises:
        ConfigError: none or both were given, a server twice, or what is no endpoint.
    """
    if isinstance(servers, str):
        raise ConfigError(f"servers must be a list of endpoints, not {servers!r}")
    if (endpoint is None) == (not servers):
        raise ConfigError("give the endpoint of one server, or servers=[...] of several")
    if len(set(servers)) != len(servers):
        raise ConfigError(f"servers: an endpoint is given twice: {', '.join(servers)}")
    for one in servers:
        is_local(one)  # raises for what is no endpoint
    return tuple(servers) if endpoint is None else (endpoint,)
