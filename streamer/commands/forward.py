"""What each ``hpstm source`` does: a source's frames to a server, until Ctrl-C or the source's end, and how it goes."""

from __future__ import annotations

import sys
from typing import Protocol

from streamer.commands.terminal import SourceLine
from streamer.frames import Frame
from streamer.sources.sender import FrameSender
from streamer.sources.source import Said
from streamer.wire.security import ClientKeys

WAIT_S = 0.5


class Forwarded(Said, Protocol):
    """A source as this needs it; see ``Source``."""

    @property
    def ended(self) -> bool: ...
    def receive(self, timeout_s: float) -> Frame | None: ...


def forward(source: Forwarded, to: str, curve: ClientKeys | None, ready: str, stop: list[int]) -> None:
    """Send on what a source gives to the server at ``to``; ``ready`` is said first, and whether a server is there."""
    with FrameSender(to, curve=curve) as sender:
        print(ready, flush=True)
        if not sender.joined:
            admits = "" if curve is None else ", or it does not know --key"
            print(f"hpstm: no server takes frames at {to}{admits}; waiting", file=sys.stderr, flush=True)
        said = SourceLine(source, sender)
        while not stop and not source.ended:
            frame = source.receive(WAIT_S)
            if frame is not None:
                sender.send(frame)
            said.show()
        said.show(last=True)
