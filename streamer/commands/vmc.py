"""``hpstm source vmc`` and ``hpstm sink vmc``: the VMC protocol in, and out."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from typing import Literal

from streamer.commands.options import Key, Out, ServerKey, To, client_keys
from streamer.commands.signals import stop_signals
from streamer.errors import ConfigError
from streamer.wire.endpoints import DEFAULT_IN, DEFAULT_OUT


def source(
    *,
    port: int = 39539,
    to: To = DEFAULT_IN,
    key: Key = None,
    server_key: ServerKey = None,
    actor: str = "vmc",
    allow_remote: bool = False,
) -> int:
    """Send what a VMC performer sends to a server, as frames.

    Args:
        port: UDP port that the performer sends to.
        actor: Name of the actor.
        allow_remote: Listen to performers on other machines, too: VMC has no password.
    """
    from streamer.commands.forward import forward
    from streamer.sources.vmc import VmcReceiver
    from streamer.wire.protocol import is_actor_name

    if not is_actor_name(actor):
        raise ConfigError(f"--actor {actor!r}: give a name of at most 64 bytes without spaces")
    stop, curve = stop_signals(), client_keys(key, server_key, None)
    with VmcReceiver(port, "" if allow_remote else "127.0.0.1", actor) as source:
        forward(source, to, curve, f"ready port={source.port} to={to} actor={actor}", stop)
    return 0


def sink(
    *,
    to: tuple[str, ...],
    out_endpoint: Out = DEFAULT_OUT,
    key: Key = None,
    server_key: ServerKey = None,
    actor: tuple[str, ...] = (),
    bone_positions: Literal["all", "hips"] = "all",
    no_upper_chest: bool = False,
) -> int:
    """Send a server's poses to avatar programs, as VMC.

    Args:
        to: UDP address of a receiver, HOST:PORT; may be repeated: one for each actor.
        actor: Whose poses go to the first --to, the second and so on; none: actors as they appear.
        bone_positions: Each bone's true place in its parent, or zeros for all but the hips.
        no_upper_chest: Turn Chest for both: for avatars without the bone UpperChest.
    """
    from streamer.commands.terminal import listening
    from streamer.sinks.subscriber import PoseSubscriber
    from streamer.sinks.vmc import receivers_at

    curve = client_keys(key, server_key, out_endpoint)
    with ExitStack() as stack:
        say = partial(print, flush=True)
        receivers = stack.enter_context(receivers_at("--to", to, actor, say, bone_positions, not no_upper_chest))
        only = actor[0] if len(actor) == 1 else None
        subscriber = stack.enter_context(PoseSubscriber(out_endpoint, only, curve=curve))
        for pose in listening(subscriber, out_endpoint, curve):
            receivers.send(pose)
    return 0
