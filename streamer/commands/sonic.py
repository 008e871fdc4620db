"""``hpstm sink sonic``: a person's poses to NVIDIA's SONIC, which has a humanoid robot do the same."""

from __future__ import annotations

import sys
from pathlib import Path

from streamer.commands.options import Key, Out, ServerKey, client_keys
from streamer.errors import ConfigError
from streamer.wire.endpoints import DEFAULT_OUT, is_local


def sink(
    *,
    out_endpoint: Out = DEFAULT_OUT,
    key: Key = None,
    server_key: ServerKey = None,
    actor: str | None = None,
    port: int = 5556,
    host: str = "127.0.0.1",
    human: Path | None = None,
    fade: float = 1.0,
) -> int:
    """Send one person's poses to SONIC (GR00T-WholeBodyControl, --input-type zmq), which has a robot do the same.

    Args:
        actor: Whose poses; none: the first one's who appears, and nobody else's from then on.
        port: Port that SONIC connects to; 0: one that is free, which the first line names.
        host: Address to publish at; another than this machine's lets everybody read who reaches it.
        human: SONIC's own body, its joints as .npy (docs/robots.md); none: ours, which is not quite that.
        fade: Least time [s] back to somebody who was lost, for the robot would jump.
    """
    from streamer.commands.terminal import listening
    from streamer.sinks.human import Human, read_joints
    from streamer.sinks.sonic import SonicPublisher, SonicStream
    from streamer.sinks.subscriber import PoseSubscriber

    if not 0 <= port <= 65535:
        raise ConfigError(f"--port must be between 0 and 65535, not {port}")
    if not 0.2 <= fade <= 60.0:
        raise ConfigError(f"--fade must be between 0.2 and 60 s, not {fade:g}")
    body = Human(None if human is None else read_joints(human))
    if human is None:
        _say("warning: without --human joints are up to 11 cm off those that SONIC was trained with: simulate only")
    if not is_local(f"tcp://{f'[{host}]' if ':' in host else host}:{port}"):
        _say(f"warning: whoever reaches {host} reads every pose, without encryption: --host 127.0.0.1 keeps it here")
    curve = client_keys(key, server_key, out_endpoint)
    stream, followed, others, held = SonicStream(body, fade), actor, set[str](), False
    with SonicPublisher(port, host) as publisher, PoseSubscriber(out_endpoint, actor, curve=curve) as subscriber:
        print(f"ready sonic={publisher.endpoint}", flush=True)
        for pose in listening(subscriber, out_endpoint, curve):
            if followed is None:
                followed = pose.actor
                print(f"{followed} -> {publisher.endpoint}", flush=True)
            if pose.actor != followed:
                if pose.actor not in others and len(others) < _MOST_NAMES:
                    others.add(pose.actor)
                    print(f"{pose.actor}: the robot follows {followed}", flush=True)
                continue
            message = stream.push(pose)
            if message is not None:
                publisher.send(message)
            if stream.held != held:
                held = stream.held
                print(f"{followed}: {_HELD if held else 'followed'}", flush=True)
    return 0


_HELD = "lost, or was away: the robot is held, then follows again little by little"
_MOST_NAMES = 256  # of those whom the robot does not follow, that are told once


def _say(text: str) -> None:
    print(f"hpstm: {text}", file=sys.stderr, flush=True)
