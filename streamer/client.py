"""The ends a user's program holds: FrameSender puts frames into a server, PoseSubscriber takes poses out, ControlClient
asks and sets; ClientKeys lets them in where the server runs with --curve."""

from streamer.sinks.subscriber import PoseSubscriber
from streamer.sources.sender import FrameSender
from streamer.wire.control import ControlClient
from streamer.wire.security import ClientKeys

__all__ = ["ClientKeys", "ControlClient", "FrameSender", "PoseSubscriber"]
