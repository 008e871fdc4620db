"""``hpstm sink websocket``: poses for browsers, and for programs that speak no ZeroMQ."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from streamer.commands.options import Key, Out, ServerKey, client_keys
from streamer.errors import ConfigError
from streamer.wire.endpoints import DEFAULT_OUT, is_local

if TYPE_CHECKING:
    from streamer.frames import Pose


def sink(
    *,
    out_endpoint: Out = DEFAULT_OUT,
    key: Key = None,
    server_key: ServerKey = None,
    port: int = 8765,
    host: str = "127.0.0.1",
    origin: tuple[str, ...] = (),
    actor: str | None = None,
) -> int:
    """Send a server's poses to browsers and other WebSocket clients, to each the newest that it is ready for.

    Args:
        port: Port to listen on; 0: one that is free, which the first line names.
        host: Address to listen on; another than this machine's lets everybody see who reaches it.
        origin: Web pages of this origin may connect, too, as https://example.org or null (files).
        actor: Only this actor's; none: everybody's.
    """
    import asyncio

    from streamer.commands.terminal import Silence
    from streamer.sinks.subscriber import PoseSubscriber
    from streamer.sinks.websocket import Hub, run

    if not 0 <= port <= 65535:
        raise ConfigError(f"--port must be between 0 and 65535, not {port}")
    shown = f"[{host}]" if ":" in host else host
    if not is_local(f"tcp://{shown}:{port}"):
        _say(f"warning: whoever reaches {shown} sees every pose, without encryption: --host 127.0.0.1 keeps it here")
    curve = client_keys(key, server_key, out_endpoint)
    silence = Silence(out_endpoint, curve)
    with PoseSubscriber(out_endpoint, actor, curve=curve) as subscriber:

        def take() -> list[Pose]:
            poses = subscriber.newest()
            silence.tell(heard=bool(poses))
            return poses

        def ready(on: int) -> None:
            print(f"ready websocket=ws://{shown}:{on}", flush=True)

        asyncio.run(run(Hub(origin, _say), host, port, take, ready))
    return 0


def _say(text: str) -> None:
    print(f"hpstm: {text}", file=sys.stderr, flush=True)
