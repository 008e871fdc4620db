"""``hpstm source lsl`` and ``hpstm sink lsl``: streams of LabStreamingLayer in, and out."""

from __future__ import annotations

from streamer.commands.options import Key, Out, ServerKey, To, client_keys
from streamer.commands.signals import stop_signals
from streamer.errors import ConfigError
from streamer.wire.endpoints import DEFAULT_IN, DEFAULT_OUT


def source(
    *,
    stream: str = "",
    layout: str | None = None,
    to: To = DEFAULT_IN,
    key: Key = None,
    server_key: ServerKey = None,
    actor: str = "lsl",
) -> int:
    """Send what a LabStreamingLayer stream holds to a server, as frames of one actor.

    Args:
        stream: Name of the stream; none: the first of type MoCap that is found.
        layout: Layout of its joints, or a .toml file of one; none: what its channels' names tell.
        actor: Name of the actor.
    """
    _load()
    from model.layouts import Layout, LayoutError, get_layout
    from streamer.commands.forward import forward
    from streamer.sources.lsl import LslReceiver
    from streamer.wire.json_lines import own_layout
    from streamer.wire.protocol import is_actor_name

    if not is_actor_name(actor):
        raise ConfigError(f"--actor {actor!r}: give a name of at most 64 bytes without spaces")
    named: Layout | None = None
    try:
        if layout is not None:
            named = own_layout(layout) if layout.endswith(".toml") or "/" in layout else get_layout(layout)
    except LayoutError as error:
        raise ConfigError(f"--layout: {error}") from error
    stop, curve = stop_signals(), client_keys(key, server_key, None)
    with LslReceiver(stream, named, actor) as source:
        forward(source, to, curve, f"ready stream={stream or 'type MoCap'} to={to} actor={actor}", stop)
    return 0


def sink(
    *,
    out_endpoint: Out = DEFAULT_OUT,
    key: Key = None,
    server_key: ServerKey = None,
    actor: str | None = None,
) -> int:
    """Send a server's poses to LabStreamingLayer, every one: a stream for each actor, as LabRecorder records them.

    Args:
        actor: Only this actor's; none: everybody's.
    """
    _load()
    from streamer.commands.terminal import listening
    from streamer.sinks.lsl import LslOutlets
    from streamer.sinks.subscriber import PoseSubscriber

    curve, told = client_keys(key, server_key, out_endpoint), set[str]()
    with LslOutlets() as outlets, PoseSubscriber(out_endpoint, actor, every=True, curve=curve) as subscriber:
        print(f"ready out={out_endpoint}", flush=True)
        for pose in listening(subscriber, out_endpoint, curve):
            outlets.send(pose)
            for name in set(outlets.actors) - told:
                print(f"{name} -> LSL stream {name}, type MoCap", flush=True)
            told = set(outlets.actors)
    return 0


def _load() -> None:
    """Raises ConfigError where pylsl is there, but not the library that it wraps."""
    try:
        import pylsl  # noqa: F401
    except (RuntimeError, OSError) as error:
        said = str(error).splitlines()[0]
        raise ConfigError(f"liblsl cannot be loaded ({said}): pip install --upgrade pylsl, or set PYLSL_LIB") from error
