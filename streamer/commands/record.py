"""``hpstm record``: what a server publishes, into a file that ``hpstm replay`` plays, or one of animation."""

from __future__ import annotations

import signal
from pathlib import Path

from streamer.commands.convert import check_fps
from streamer.commands.options import Key, Out, ServerKey, client_keys
from streamer.wire.endpoints import DEFAULT_OUT

_STOP = (signal.SIGINT, signal.SIGTERM)


def record(
    file: Path,
    /,
    *,
    out_endpoint: Out = DEFAULT_OUT,
    key: Key = None,
    server_key: ServerKey = None,
    poses_only: bool = False,
    seconds: float | None = None,
    fps: float | None = None,
    actor: str | None = None,
) -> int:
    """Write what a server publishes to a file: a recording for replay, or the motion alone, by the suffix.

    Args:
        file: The recording to write; or .bvh, .glb, .vrma, .npz, .jsonl: see hpstm convert.
        poses_only: Leave the input out: then no replay.
        seconds: Stop after so long [s]; none: on Ctrl-C.
        fps: Frame rate of a file of motion; none: the usual one next to the poses'.
        actor: The one to write into a file of motion.
    """
    from streamer.sinks.recorder import Recorder

    check_fps(fps)
    curve = client_keys(key, server_key, out_endpoint)
    stop: list[int] = []
    with Recorder(file, not poses_only, fps, actor) as recorder:
        before = [signal.signal(number, lambda *_: stop.append(1)) for number in _STOP]
        recorder.record(out_endpoint, lambda: bool(stop), seconds, curve)
        for number, handler in zip(_STOP, before, strict=True):
            signal.signal(number, handler)
        for line in recorder.finish():
            print(line, flush=True)
    return 0
