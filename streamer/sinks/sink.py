"""What every sink is that runs beside a server of its own process: slow or dead, it holds up nobody but itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import zmq

from streamer.server.metrics import Histogram


class Inside(NamedTuple):
    """A server of this process.

    Attributes:
        context: in which it is at INSIDE_OUT.
        endpoints: of its sockets, by name (in, out, control), for others.
    """

    context: zmq.Context[Any]
    endpoints: dict[str, str]


class Sink(Protocol):
    """Where poses go; runs in a thread of its own.

    Attributes:
        name: what it is called where it is spoken of.
        latency: from a pose's leaving the server to its having gone out here; None: nobody waits for that.
        subscriptions: that the server has of it once it misses nothing.
    """

    name: str
    subscriptions: int

    @property
    def latency(self) -> Histogram | None: ...

    def run(self, server: Inside, stopped: Callable[[], bool]) -> None:
        """Takes poses until ``stopped()``, and what is there then.

        Raises:
            ConfigError: it cannot begin. HPSTMError, OSError: it cannot go on.
        """

    def lost(self) -> dict[str, int]:
        """How many poses did not go out, by why."""
