"""Poses as lines of JSON, to a pipe: the newest when whoever reads them is ready for it."""

from __future__ import annotations

import os
from collections.abc import Callable
from json import dumps

from streamer.clock import now_ns
from streamer.server.metrics import Histogram
from streamer.sinks.sink import Inside
from streamer.sinks.subscriber import PoseSubscriber
from streamer.wire.endpoints import INSIDE_OUT
from streamer.wire.json_lines import pose_fields


class JsonLines:
    """The sink of a server of this process.

    Not by way of sys.stdout: the interpreter waits for that one's lock when it ends, and a reader may read no more.
    """

    name, subscriptions = "jsonl", 1

    def __init__(self, descriptor: int = 1) -> None:
        self._descriptor = descriptor
        self.latency = Histogram()

    def run(self, server: Inside, stopped: Callable[[], bool]) -> None:
        with PoseSubscriber(INSIDE_OUT, inside=server.context) as subscriber:
            for pose in subscriber.poses(stopped):
                line = dumps(pose_fields(pose)).encode() + b"\n"
                while line:
                    line = line[os.write(self._descriptor, line) :]
                self.latency.observe(now_ns() - pose.published_ns)

    def lost(self) -> dict[str, int]:
        return {}  # a reader that is slow gets the newest
