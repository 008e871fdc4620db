"""HPSTM Live, the runtime half: refine a live 3D pose stream, in-process or as a ZeroMQ server. Never imports torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streamer.filter import PoseFilter
    from streamer.frames import Frame, Pose

__all__ = ["Frame", "Pose", "PoseFilter", "__version__"]
__version__ = "0.2.0"

_HOME = {"Frame": "streamer.frames", "Pose": "streamer.frames", "PoseFilter": "streamer.filter"}


def __getattr__(name: str) -> Any:
    # Lazy, so that the command line and a subscriber start without loading a runtime.
    if name in _HOME:
        from importlib import import_module

        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'streamer' has no attribute {name!r}")
