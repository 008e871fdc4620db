"""A running ``hpstm live``, and a recording for it to play."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

from streamer.clock import SECOND_NS
from streamer.frames import Frame
from streamer.server.control import request
from streamer.sinks.recording import RecordingWriter
from streamer.wire.protocol import Encoder
from tests.helpers.live import body_frame
from tests.helpers.program import HPSTM, Program

WITHIN_S = 60.0  # for a process to start, on a machine as busy as it likes
ANYWHERE = [f"--{name}=tcp://127.0.0.1:*" for name in ("in", "out", "control")]


class Live(Program):
    """A running ``hpstm live``, ready. ``ends``: its endpoints by name."""

    def __init__(self, *words: str, **options: Any) -> None:
        super().__init__([*HPSTM, "live", *ANYWHERE, *words], **options)
        people = self.stderr if "--jsonl" in words else self.stdout
        ready = people.readline()
        assert ready.startswith("ready "), ready + self.stderr.read()
        self.ends = dict(pair.split("=") for pair in ready.split()[1:])
        self.reading = people.readline()

    def counter(self, name: str) -> int:
        return int((request(self.ends["control"], "status", WITHIN_S) or {})["counters"][name])

    def end(self, number: int = signal.SIGINT) -> tuple[str, str]:
        """What it says once a signal has ended it."""
        self.send_signal(number)
        return self.communicate(timeout=WITHIN_S)


def recording(path: Path, frames: int) -> list[Frame]:
    """A minute's beginning of somebody who walks."""
    encoder, sent = Encoder(), []
    with RecordingWriter(path) as writer:
        for n in range(frames):
            sent.append(body_frame("walker", n, 10**15 + n * SECOND_NS // 30))
            writer.write(encoder.frame(sent[-1]), 1000 + n)
    return sent
