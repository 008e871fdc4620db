"""What there is to show: given from any thread, which never waits, and taken when the picture is drawn.

Of each actor the last few are kept, for the curves; what is drawn is the newest.
"""

from __future__ import annotations

from collections import deque
from threading import Lock

from streamer.errors import ProtocolError
from streamer.frames import Frame, Pose
from streamer.wire.protocol import decode

KEPT = 16  # of each actor's poses, and of its frames: half a second at 30 Hz, a picture's time at 480
MOST_STREAMS = 128  # an actor has two: poses and frames


class Inbox:
    """Poses and frames that wait to be shown; ``lost`` counts those that were replaced before anybody looked."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[str, str], deque[Pose | Frame | bytes]] = {}
        self._lock = Lock()
        self.lost = 0

    def put(self, item: Pose | Frame) -> None:
        """Takes in a pose or a frame; the oldest of its actor goes when there are too many."""
        self._put(("pose" if isinstance(item, Pose) else "frame", item.actor), item)

    def put_message(self, message: bytes) -> None:
        """The same for one from the wire, which is decoded when it is taken."""
        kind, _, actor = message.partition(b"\0")[0].partition(b".")
        self._put((kind.decode("ascii", "replace"), actor.decode("utf-8", "replace")), message)

    def take(self) -> list[Pose | Frame]:
        """All that waits, of each actor in the order it came."""
        with self._lock:
            waiting, self._waiting = self._waiting, {}
        found = (_decoded(item) for items in waiting.values() for item in items)
        return [item for item in found if item is not None]

    def _put(self, stream: tuple[str, str], item: Pose | Frame | bytes) -> None:
        with self._lock:
            items = self._waiting.get(stream)
            if items is None:
                if len(self._waiting) >= MOST_STREAMS:
                    self.lost += 1
                    return
                items = self._waiting[stream] = deque(maxlen=KEPT)
            self.lost += len(items) == KEPT
            items.append(item)


def _decoded(item: Pose | Frame | bytes) -> Pose | Frame | None:
    if not isinstance(item, bytes):
        return item
    try:
        message = decode(item)
    except ProtocolError:
        return None
    return message if isinstance(message, (Pose, Frame)) else None
