"""``hpstm source stdin`` and ``hpstm sink jsonl``: frames and poses as lines of JSON, through pipes."""

from __future__ import annotations

import signal
import sys
from io import BufferedReader
from typing import cast

from streamer.commands.options import Height, Key, Out, Outs, Pitch, ServerKey, To, Tos, client_keys
from streamer.wire.endpoints import DEFAULT_IN, DEFAULT_OUT


def source(
    *,
    to: To = DEFAULT_IN,
    servers: Tos = (),
    key: Key = None,
    server_key: ServerKey = None,
    layout: str | None = None,
    actor: str = "actor",
    paced: bool = False,
    height_m: Height = None,
    pitch_deg: Pitch = 0.0,
) -> int:
    """Send lines of JSON on standard input to a server, as frames: {"actor", "t", "layout", "positions", "confidence"}.

    Args:
        layout: Layout of lines that name none; a .toml file is one of your own, for the server's --layout, too.
        actor: Actor of lines that name none.
        paced: Wait for each line's t, as for a recording; else lines are sent as they come.
    """
    from streamer.sources.json_lines import LineSource, line_reader
    from streamer.sources.sender import FrameSender
    from streamer.sources.told import Told

    known = Told(height_m, pitch_deg)
    lines = LineSource(cast(BufferedReader, sys.stdin.buffer), line_reader(layout, actor), _say, paced, known)
    for number in (signal.SIGINT, signal.SIGTERM):  # the summary comes first; a shell's background ignores Ctrl-C
        signal.signal(number, signal.default_int_handler)
    one, where = None if servers else to, ", ".join(servers) or to
    with FrameSender(one, curve=client_keys(key, server_key, None), servers=servers) as sender:
        if not sender.joined:
            _say(f"no server takes frames at {where} yet: lines are dropped until one does")
        try:
            for frame in lines:
                sender.send(frame)
        finally:
            _say(lines.report.text(sender.dropped, where))
    return 0 if sender.sent or not lines.report.lines else 1


def sink(
    *,
    out_endpoint: Out = DEFAULT_OUT,
    servers: Outs = (),
    key: Key = None,
    server_key: ServerKey = None,
    actor: str | None = None,
    every: bool = False,
    full: bool = False,
    count: int = 0,
) -> int:
    """Print a server's poses as lines of JSON.

    Args:
        actor: Only this actor's; none: everybody's.
        every: Every pose, not only the newest.
        full: With bones, covariances and all stamps.
        count: Stop after so many poses; 0: on Ctrl-C.
    """
    from json import dumps

    from streamer.commands.terminal import print_poses
    from streamer.sinks.subscriber import PoseSubscriber
    from streamer.wire.json_lines import pose_fields

    one, outs = None if servers else out_endpoint, servers or (out_endpoint,)
    curve = client_keys(key, server_key, outs[0])
    with PoseSubscriber(one, actor, every, curve=curve, servers=servers) as subscriber:
        print_poses(subscriber, outs[0], curve, lambda pose: dumps(pose_fields(pose, full)), count, outs[1:])
    return 0


def _say(text: str) -> None:
    print(f"hpstm: {text}", file=sys.stderr, flush=True)
