"""The two ends a user's program holds: FrameSender puts frames into a server, PoseSubscriber takes poses out;
ClientKeys lets them in where the server runs with --curve."""

from streamer.sinks.subscriber import PoseSubscriber
from streamer.sources.sender import FrameSender
from streamer.wire.security import ClientKeys

__all__ = ["ClientKeys", "FrameSender", "PoseSubscriber"]
