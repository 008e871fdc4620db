"""``hpstm listen``: a line a pose."""

from __future__ import annotations

from streamer.commands.options import Key, Out, ServerKey, client_keys
from streamer.wire.endpoints import DEFAULT_OUT


def listen(
    *,
    out_endpoint: Out = DEFAULT_OUT,
    key: Key = None,
    server_key: ServerKey = None,
    actor: str | None = None,
    every: bool = False,
    count: int = 0,
) -> int:
    """Print poses as they come.

    Args:
        actor: Only this actor's; none: everybody's.
        every: Every pose, not only the newest.
        count: Stop after so many poses; 0: on Ctrl-C.
    """
    from streamer.commands.terminal import pose_line, print_poses

    print_poses(pose_line, out_endpoint, client_keys(key, server_key, out_endpoint), actor, every, count)
    return 0
