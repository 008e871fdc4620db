"""``hpstm convert A B``: a recording or a motion file as BVH, glTF, VRM animation, AMASS-like npz or JSON lines."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from streamer.errors import ConfigError


def convert(
    source: Path,
    out: Path,
    /,
    *,
    fps: float | None = None,
    actor: str | None = None,
    kind: Annotated[Literal["poses", "frames"], Parameter("--from")] = "poses",
    unit_m: float | None = None,
    up: str | None = None,
    root: str | None = None,
) -> int:
    """Write a recording or a motion file as another kind of file, which its suffix says.

    Args:
        source: A recording, or .bvh, .amc (both also .gz) or .npz (AMASS).
        out: .bvh, .glb, .vrma, .npz or .jsonl; a file for each actor: take-{actor}.bvh.
        fps: Frame rate of the file; none: the usual one next to the source's.
        actor: The one to write, of a recording; of a motion file, the name to give.
        kind: What to take of a recording; frames, the input, only to .jsonl.
        unit_m: Metres per unit of a motion file, if the body's size misleads.
        up: Axis of a motion file that points up (x, y, z, -x, -y, -z), if the body's stance misleads.
        root: The ROOT to read, of a BVH with several persons.
    """
    from streamer.sinks.files import convert_clip, convert_recording
    from streamer.sinks.recording import is_recording

    check_fps(fps)
    if not source.is_file():
        raise ConfigError(f"{source}: no such file")
    if is_recording(source):
        if (unit_m, up, root) != (None, None, None):
            raise ConfigError("--unit-m, --up and --root are for motion files; a recording is in metres, Y up")
        said = convert_recording(source, out, fps, actor, kind)
    else:
        if kind != "poses":
            raise ConfigError("--from frames is for recordings; a motion file has no input in it")
        said = convert_clip(source, out, fps, actor, unit_m, up, root)
    print("\n".join(said))
    return 0


def check_fps(fps: float | None) -> None:
    """Raises ConfigError for what is no frame rate of a file."""
    if fps is not None and not 1.0 <= fps <= 1000.0:
        raise ConfigError(f"--fps {fps:g}: a file has 1 to 1000 frames a second")
