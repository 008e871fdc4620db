"""The two ends a user's program holds: FrameSender puts frames into a server, PoseSubscriber takes poses out."""

from streamer.sinks.subscriber import PoseSubscriber
from streamer.sources.sender import FrameSender

__all__ = ["FrameSender", "PoseSubscriber"]
