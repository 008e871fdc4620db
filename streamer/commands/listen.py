"""``hpstm listen``: a line a pose."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from typing import Annotated

from cyclopts import Parameter

from streamer.commands.options import Key, Out, Outs, ServerKey, client_keys
from streamer.errors import ConfigError
from streamer.wire.endpoints import DEFAULT_OUT, is_local


def listen(
    *,
    out_endpoint: Out = DEFAULT_OUT,
    servers: Outs = (),
    control_endpoint: Annotated[str | None, Parameter("--control")] = None,
    key: Key = None,
    server_key: ServerKey = None,
    actor: str | None = None,
    every: bool = False,
    count: int = 0,
) -> int:
    """Print poses as they come.

    Args:
        control_endpoint: Endpoint where requests are answered, to measure a clock that is another machine's.
        actor: Only this actor's; none: everybody's.
        every: Every pose, not only the newest.
        count: Stop after so many poses; 0: on Ctrl-C.
    """
    from streamer.commands.terminal import pose_line, print_poses
    from streamer.sinks.subscriber import PoseSubscriber
    from streamer.wire.control import ControlClient, HostClock

    if servers and control_endpoint is not None:
        raise ConfigError("--control measures the clock of one server; leave it out with --servers")
    outs = servers or (out_endpoint,)
    curve = client_keys(key, server_key, outs[0])
    with ExitStack() as stack:
        clock = None
        if control_endpoint is not None:
            clock = HostClock(stack.enter_context(ControlClient(control_endpoint, curve=curve)))
            said = clock.offset or f"no answer at {control_endpoint}"
            print(f"hpstm: the server's clock against this machine's: {said}", file=sys.stderr, flush=True)
        elif not all(map(is_local, outs)):
            print("hpstm: ages are not known: --control measures a server's clock", file=sys.stderr, flush=True)
        one = None if servers else out_endpoint
        subscriber = stack.enter_context(PoseSubscriber(one, actor, every, curve=curve, clock=clock, servers=servers))
        print_poses(subscriber, outs[0], curve, lambda pose: pose_line(pose, subscriber.age_ns(pose)), count, outs[1:])
    return 0
