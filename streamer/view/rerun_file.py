"""A recording as a file of rerun: input, refined bodies, uncertainty, feet and jitter, on the timeline of the take."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from model.prepare import ClipError, new_file
from streamer.clock import SECOND_NS
from streamer.errors import ConfigError
from streamer.frames import Frame, Pose
from streamer.view.body import SIGMAS, joints_of, lines, sigma_m
from streamer.view.history import History
from streamer.view.playback import Timeline
from streamer.view.shapes import NOISY, colour_of


def write_rrd(timeline: Timeline, out: Path, title: str) -> str:
    """Writes a timeline to a new file; a line about it.

    Raises:
        ConfigError: rerun is not installed, or the file exists or cannot be made.
    """
    try:
        import rerun
    except ImportError as error:
        raise ConfigError("--rrd needs rerun; install it with: pip install rerun-sdk") from error
    stream = rerun.RecordingStream("hpstm_view")
    stream.send_recording_name(title)
    memory = rerun.memory_recording(recording=stream)
    stream.log("/", rerun.ViewCoordinates.RIGHT_HAND_Y_UP, static=True)
    history = History()
    for time_s, item in timeline.entries():
        stream.set_time("take", duration=time_s)
        history.saw([item], round(time_s * SECOND_NS))
        order = timeline.actors.index(item.actor)
        _log(stream, item, order)
        numbers = history.actors[item.actor].numbers
        kind, jitter = ("refined", numbers.jitter_out_mm) if isinstance(item, Pose) else ("input", numbers.jitter_in_mm)
        if np.isfinite(jitter):
            stream.log(f"jitter/{item.actor}/{kind}", rerun.Scalars(jitter))
    try:
        with new_file(out) as file:
            file.write(memory.drain_as_bytes())
    except ClipError as error:
        raise ConfigError(str(error)) from error
    return f"{out}: {timeline.end_s:.1f} s of {', '.join(timeline.actors)}, for: rerun {out}"


def _log(stream: object, item: Pose | Frame, order: int) -> None:
    import rerun

    name = f"{item.actor}/refined" if isinstance(item, Pose) else f"{item.actor}/input"
    joints = item.positions if isinstance(item, Pose) else joints_of(item)
    if joints is None:
        return
    colour, radius = (colour_of(order), 0.02) if isinstance(item, Pose) else (NOISY, 0.005)
    rerun.log(name, rerun.LineStrips3D(lines(joints), colors=[colour], radii=radius), recording=stream)
    if isinstance(item, Pose):
        spheres = rerun.Ellipsoids3D(
            centers=joints, half_sizes=np.tile(SIGMAS * sigma_m(item)[:, None], (1, 3)), colors=[(*colour, 60)]
        )
        rerun.log(f"{name}/uncertainty", spheres, recording=stream)
        for foot, stands in zip(("left", "right"), item.contact):
            rerun.log(f"contact/{item.actor}/{foot}", rerun.Scalars(float(stands)), recording=stream)
