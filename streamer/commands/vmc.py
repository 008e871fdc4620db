"""``hpstm source vmc`` and ``hpstm sink vmc``: the VMC protocol in, and out."""

from __future__ import annotations

from streamer.commands.options import Key, Out, ServerKey, To
from streamer.errors import ConfigError
from streamer.wire.endpoints import DEFAULT_IN, DEFAULT_OUT


def source(
    *, port: int = 39539, to: To = DEFAULT_IN, key: Key = None, server_key: ServerKey = None, actor: str = "vmc"
) -> int:
    """Send what a VMC performer sends to a server, as frames.

    Args:
        port: UDP port that the performer sends to.
        actor: Name of the actor.
    """
    raise ConfigError("source vmc is not built yet")


def sink(
    *, to: tuple[str, ...], out_endpoint: Out = DEFAULT_OUT, key: Key = None, server_key: ServerKey = None,
    actor: str | None = None,
) -> int:  # fmt: skip
    """Send a server's poses to avatar programs, as VMC.

    Args:
        to: UDP address of a receiver, HOST:PORT; each next one gets the next actor.
        actor: Only this actor's poses; none: actors as they appear.
    """
    raise ConfigError("sink vmc is not built yet")
