"""``hpstm source mediapipe``: the people before a camera, or in a video, as frames to a server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from streamer.commands.options import Height, Key, Pitch, ServerKey, To, client_keys
from streamer.commands.signals import stop_signals
from streamer.errors import ConfigError
from streamer.wire.endpoints import DEFAULT_IN

WAIT_S = 0.5
MODEL = Path("pose_landmarker_full.task")


def source(
    *,
    camera: str | None = None,
    video: Path | None = None,
    model: Path = MODEL,
    to: To = DEFAULT_IN,
    key: Key = None,
    server_key: ServerKey = None,
    people: int = 1,
    actor: str = "person",
    fov_deg: Annotated[float, Parameter("--fov")] = 60.0,
    no_root: bool = False,
    height_m: Height = None,
    pitch_deg: Pitch = 0.0,
    fast: bool = False,
) -> int:
    """Send the people before a camera, or in a video, to a server, as frames: MediaPipe finds their landmarks.

    Args:
        camera: Number of a camera of this machine, from 0, or the http:// or rtsp:// address of another.
        video: Video file; every picture is used, at its own time.
        model: MediaPipe's pose landmarker bundle (.task); `hpstm models mediapipe` makes one.
        people: How many are followed.
        actor: Name of the actor; of several: with a number, as in person-1.
        fov_deg: Field of view across the picture's longer side [degrees]; how far away people are follows from it.
        no_root: Leave people where they are, feet on the ground; else they move in the room, approximately.
        fast: A video as fast as it can be, not in its own time.
    """
    from streamer.commands.forward import forward
    from streamer.sources.mediapipe import open_mediapipe
    from streamer.sources.told import Told
    from streamer.wire.protocol import is_actor_name

    if not is_actor_name(f"{actor}-{people}"):
        raise ConfigError(f"--actor {actor!r}: give a name of at most 60 bytes without spaces")
    told = Told(height_m, pitch_deg)
    stop, curve = stop_signals(), client_keys(key, server_key, None)
    with open_mediapipe(camera, video, model, people, actor, fov_deg, not no_root, fast, told) as source:
        forward(source, to, curve, f"ready camera={camera or video} to={to} actor={actor}", stop)
    if camera is not None and not stop:
        raise ConfigError(f"camera {camera} gives no pictures any more")
    return 0
