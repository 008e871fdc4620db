"""``hpstm look FILE``: what a motion file or a recording holds, in words, a drawing in the terminal, and a picture."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from model.prepare import ClipError, Reading, read_file, stature_m
from model.skeleton import INDEX, PARENTS
from streamer.clock import SECOND_NS
from streamer.errors import ConfigError
from streamer.frames import Array, Frame, Pose
from streamer.sinks.recording import is_recording, read_recording
from streamer.sources.replay import Take, is_landmarks, read_take
from streamer.view.body import joints_of, lines
from streamer.view.braille import Dots

_COLUMNS, _ROWS = 34, 20  # characters of one view
_PICTURES = 5  # poses in the picture, from first to last


@dataclass
class _Seen:
    """What is to be said about a file, and (T, 24, 3) positions of one actor to draw [m]; NaN: not seen."""

    title: str
    lines: list[str] = field(default_factory=list)
    positions: Array | None = None


def look(
    file: Path, /, *, fps: float | None = None, unit_m: float | None = None, up: str | None = None,
    root: str | None = None, png: Path | None = None,
) -> int:  # fmt: skip
    """Say what a motion file or a recording holds: joints, what maps to what, height, rate, travel; and draw it.

    Args:
        file: .bvh, .amc, .npz (AMASS, joint positions, MediaPipe; all but .npz also .gz), or a recording.
        fps: True frame rate, if the file's is wrong.
        unit_m: Metres per unit, if the body's size misleads.
        up: The axis that points up (x, y, z, -x, -y, -z), if the body's stance misleads.
        root: The ROOT to read, of a BVH with several persons.
        png: A picture to write; needs matplotlib (the bench extra).
    Returns:
        The exit code.
    Raises:
        ConfigError: the file cannot be read; says what to do.
    """
    path = Path(file)
    seen = _seen(path, fps, unit_m, up, root)
    print("\n".join([f"{path.name}: {seen.title}", *seen.lines]))
    if seen.positions is None:
        return 0
    at = _clearest(seen.positions)
    print(f"\n{drawing(seen.positions[at])}\nframe {at}: from the front, and from its right")
    if png is not None:
        _picture(seen.positions, f"{path.name}: {seen.title}", png)
        print(png)
    return 0


def _seen(path: Path, fps: float | None, unit_m: float | None, up: str | None, root: str | None) -> _Seen:
    if not path.is_file():
        raise ConfigError(f"{path}: no such file")
    if is_recording(path):
        return _recording(path)
    if is_landmarks(path):
        return _take(read_take(path, fps=fps), "MediaPipe landmarks")
    try:
        return _motion(read_file(path, fps, unit_m, up, root))
    except ClipError as error:
        raise ConfigError(str(error)) from error


def _motion(reading: Reading) -> _Seen:
    clip = reading.clip
    title = f"{reading.kind}, {len(clip)} frames at {clip.fps:g} fps, {len(clip) / clip.fps:.1f} s"
    turns = "" if clip.world_rotations is not None else "; positions only, no rotations"
    lines = [f"body       {stature_m(clip):.2f} m tall{turns}", *_travel(clip.positions)]
    lines += [f"note       {note}" for note in clip.notes]
    return _Seen(title, lines + _joints(reading), clip.positions)


def _travel(positions: Array) -> list[str]:
    """How far the pelvis goes over the ground, and how high it is."""
    pelvis = positions[:, INDEX["pelvis"]]
    pelvis = pelvis[np.isfinite(pelvis).all(1)]
    if not len(pelvis):
        return []
    way = float(np.linalg.norm(np.diff(pelvis[:, [0, 2]], axis=0), axis=-1).sum())
    far = float(np.linalg.norm(pelvis[-1, [0, 2]] - pelvis[0, [0, 2]]))
    height = f"pelvis {pelvis[:, 1].min():.2f} to {pelvis[:, 1].max():.2f} m high"
    return [f"travel     {way:.1f} m, {far:.1f} m from first to last place; {height}"]


def _joints(reading: Reading) -> list[str]:
    """The file's joints as a tree, and which of ours each of them drives."""
    drives: dict[str, list[str]] = {}
    for ours, name in reading.nodes.items():
        drives.setdefault(name, []).append(ours)
    named = [("  " * depth + name, ", ".join(drives.pop(name, []))) for name, depth in reading.joints]
    named += [(name, ", ".join(ours)) for name, ours in drives.items()]  # End Sites
    width = max((len(name) for name, _ in named), default=0)
    head = [f"joints     {len(reading.joints)} in the file, and what they drive"] if named else []
    return head + [f"  {name:{width}}  {ours}".rstrip() for name, ours in named]


def _recording(path: Path) -> _Seen:
    recording = read_recording(path)
    frames, poses = recording.frames, recording.poses
    counts = f"{len(frames)} frames, {len(poses)} poses, {len(recording.skeletons)} skeletons"
    lines = [f"{recording.bad} messages cannot be decoded"] if recording.bad else []
    lines += ["cut off in the middle of a message"] if recording.truncated else []
    for actor in sorted({frame.actor for frame in frames} | {pose.actor for pose in poses}):
        lines += _actor(actor, [f for f in frames if f.actor == actor], [p for p in poses if p.actor == actor])
    first = next((item.actor for items in (poses, frames) for item in items), "")
    positions = _places([f for f in frames if f.actor == first], [p for p in poses if p.actor == first])
    return _Seen(f"a recording of {counts}", lines, positions)


def _places(frames: list[Frame], poses: list[Pose]) -> Array | None:
    """(T, 24, 3) of an actor's poses, else of its frames."""
    return np.array([pose.positions for pose in poses]) if poses else _canonical(frames)


def _actor(name: str, frames: list[Frame], poses: list[Pose]) -> list[str]:
    times = np.sort([frame.t_ns for frame in frames] or [pose.t_ns for pose in poses])
    span, step = (times[-1] - times[0]) / SECOND_NS, float(np.median(np.diff(times))) if len(times) > 1 else 0.0
    layouts = ", ".join(sorted({frame.layout for frame in frames})) or "no input recorded"
    rate = f"{SECOND_NS / step:.1f} Hz" if step > 0.0 else "no rate"
    statuses = ", ".join(f"{count} {status}" for status, count in Counter(pose.status for pose in poses).most_common())
    lines = [f"actor {name}: {span:.1f} s at {rate}, {layouts}" + (f"; poses: {statuses}" if statuses else "")]
    if poses:
        lengths = poses[-1].lengths_m[[INDEX[j] for j in ("left_knee", "left_ankle")]]
        lines.append(f"  thigh {lengths[0] * 1e3:.0f} mm, shin {lengths[1] * 1e3:.0f} mm")
    positions = _places(frames, poses)
    return lines if positions is None else lines + ["  " + line for line in _travel(positions)]


def _take(take: Take, kind: str) -> _Seen:
    frames = take.frames
    seen = np.mean([np.isfinite(frame.positions).all() for frame in frames])
    title = f"{kind}, {len(frames)} frames at {take.fps:.1f} fps, {len(frames) / max(take.fps, 1e-9):.1f} s"
    lines = [
        f"layout     {frames[0].layout}, {len(frames[0].positions)} joints; {seen:.0%} of the frames have a person"
    ]
    return _Seen(title, lines, _canonical(frames))


def _canonical(frames: list[Frame]) -> Array | None:
    """(T, 24, 3) our joints of frames, NaN where a layout does not give one; None where no layout is known."""
    out = [joints for frame in frames if (joints := joints_of(frame)) is not None]
    return np.array(out) if out else None


def _clearest(positions: Array) -> int:
    """The frame nearest to the middle of those in which most joints are seen."""
    count = np.isfinite(positions).all(-1).sum(-1)
    best = np.flatnonzero(count == count.max())
    return int(best[np.abs(best - len(positions) // 2).argmin()])


def _views(pose: Array) -> list[Array]:
    """[(24, 2) from the front, (24, 2) from its right]: right and up [m], the body turned to face the viewer."""
    across = pose[INDEX["left_hip"]] - pose[INDEX["right_hip"]]
    x = np.array([across[0], 0.0, across[2]])
    length = np.linalg.norm(x)
    x = x / length if length > 1e-6 else np.array([1.0, 0.0, 0.0])
    forward, up = np.cross(x, [0.0, 1.0, 0.0]), np.array([0.0, 1.0, 0.0])
    return [pose @ np.stack([axis, up], -1) for axis in (x, forward)]


def drawing(pose: Array) -> str:
    """A pose (24, 3) as lines of text, from the front and from its right, in Braille dots; NaN joints are left out."""
    views = _views(pose)
    seen = np.asarray(np.isfinite(pose).all(-1))
    if not seen.any():
        return "(nothing is seen)"
    low = min(view[seen].min(0)[1] for view in views)
    size = max(0.01, *(float(np.ptp(view[seen], axis=0).max()) for view in views))
    scale = min(4 * _ROWS - 3, 2 * _COLUMNS - 3) / size
    dots = Dots(2 * _COLUMNS, _ROWS)
    for n, view in enumerate(views):
        middle = 0.5 * (view[seen].min(0)[0] + view[seen].max(0)[0])
        at = np.stack([(view[:, 0] - middle) * scale + (2 * n + 1) * _COLUMNS, (view[:, 1] - low) * scale + 1], -1)
        for start, end in lines(at):
            dots.line(start, end)
    return "\n".join(dots.rows()).strip("\n")


def _picture(positions: Array, title: str, path: Path) -> None:
    """Poses from first to last, from the front and from its right, and the way of the pelvis from above, as a PNG."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigError("a picture needs matplotlib; install it with: pip install 'hpstm-live[bench]'") from error
    figure = Figure(figsize=(12, 5.5), dpi=110, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=9)
    grid = figure.subplots(2, _PICTURES + 1, squeeze=False)
    for column, at in enumerate(np.linspace(0, len(positions) - 1, _PICTURES).astype(int)):
        for row, view in enumerate(_views(positions[at])):
            axes = grid[row, column]
            for j, p in enumerate(PARENTS):
                if p >= 0:
                    axes.plot(view[[p, j], 0], view[[p, j], 1], color="#263238", linewidth=2)
            axes.set_aspect("equal", adjustable="datalim")
            axes.set_title(f"frame {at}" if row == 0 else "from its right", fontsize=8)
            axes.tick_params(labelsize=7)
    above, height = grid[0, -1], grid[1, -1]
    above.plot(positions[:, 0, 0], -positions[:, 0, 2], linewidth=1)
    above.set_aspect("equal", adjustable="datalim")
    above.set_title("pelvis from above [m]", fontsize=8)
    height.plot(positions[:, 0, 1], linewidth=1)
    height.set_title("its height over the frames [m]", fontsize=8)
    for axes in (above, height):
        axes.tick_params(labelsize=7)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written ({error})") from error
