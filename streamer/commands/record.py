"""``hpstm record``: what a server publishes, into a file that ``hpstm replay`` plays."""

from __future__ import annotations

import signal
from pathlib import Path

from streamer.commands.options import Key, Out, ServerKey, client_keys
from streamer.wire.endpoints import DEFAULT_OUT


def record(
    file: Path,
    /,
    *,
    out_endpoint: Out = DEFAULT_OUT,
    key: Key = None,
    server_key: ServerKey = None,
    poses_only: bool = False,
    seconds: float | None = None,
) -> int:
    """Write what a server publishes to a file.

    Args:
        file: The recording to write.
        poses_only: Leave the input out: then no replay.
        seconds: Stop after so long [s]; none: on Ctrl-C.
    """
    from streamer.sinks import recording

    stop: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.append(1))
    report = recording.record(out_endpoint, file, frames=not poses_only, seconds=seconds, stopped=lambda: bool(stop),
                              curve=client_keys(key, server_key, out_endpoint))  # fmt: skip
    print(report)
    return 0
