"""Recordings and motion files into files of animation, by the suffix of their name; each whole or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from model.prepare import (
    LINES,
    Animation,
    ClipError,
    animation_of,
    check_out,
    line,
    new_file,
    read_clip,
    resampled,
    write_animation,
)
from streamer.errors import ConfigError
from streamer.frames import Frame, Pose
from streamer.sinks.takes import Faults, Kind, actors_in, animation_in, messages_of

ACTOR = "{actor}"  # in a file's name: a file for each
_NOT_IN_NAMES = '<>:"/\\|?*%'


def file_of(out: Path, actor: str) -> Path:
    """The file of an actor: ``{actor}`` in the name replaced by theirs, what a file's name may not hold as %XX."""
    safe = "".join(f"%{ord(c):02X}" if c in _NOT_IN_NAMES else c for c in actor)
    return out.with_name(out.name.replace(ACTOR, safe))


def convert_recording(
    path: Path, out: Path, fps: float | None = None, actor: str | None = None, kind: Kind = "poses"
) -> list[str]:
    """Writes what a recording holds of an actor, or of each, to new files; a line about each file.

    Args:
        out: with ``{actor}`` in its name, a file for each actor.
        fps: rate of the files [Hz]; None: the usual one next to the median; in JSON lines, every time as it was.
        actor: only this one.
        kind: "frames" are the input, for which only JSON lines have a place.
    Raises:
        ConfigError: names the file, and what to do.
    """
    if kind == "frames" and (out.suffix.lower() != LINES or fps is not None):
        raise ConfigError(f"--from frames: frames are joints as they came, without turns; write {LINES}, without --fps")
    try:
        check_out(out)
        found = {name: file_of(out, name) for name in _chosen(path, out, actor, kind)}
        for target in found.values():
            check_out(target)
        return [_written(path, target, fps, name, kind) for name, target in found.items()]
    except ClipError as error:
        raise ConfigError(str(error)) from error


def convert_clip(
    path: Path, out: Path, fps: float | None = None, actor: str | None = None, unit_m: float | None = None,
    up: str | None = None, root: str | None = None,
) -> list[str]:  # fmt: skip
    """As ``convert_recording``, of a motion file; ``unit_m``, ``up`` and ``root`` as of ``read_clip``.

    Args:
        fps: rate of the file [Hz]; None: that of the motion.
        actor: name to give who moves.
    """
    name = actor or "actor"
    try:
        target = file_of(out, name)
        check_out(target)
        clip = read_clip(path, unit_m=unit_m, up=up, root=root)
        animation = animation_of(clip)
        if animation is None:
            raise ConfigError(
                f"{path}: joint positions, without rotations; play it through a server (hpstm replay) and record that"
            )
        animation = resampled(animation, fps or animation.fps)
        write_animation(animation, target, name)
    except ClipError as error:
        raise ConfigError(str(error)) from error
    return [_said(target, animation, name, list(clip.notes))]


def _chosen(path: Path, out: Path, actor: str | None, kind: Kind) -> list[str]:
    counts = actors_in(path, kind)
    names = ", ".join(counts)
    if not counts:
        other: Kind = "frames" if kind == "poses" else "poses"
        there = f", but {other} are; give --from {other}" if actors_in(path, other) else ""
        raise ConfigError(f"{path}: no {kind} are in it{there}")
    if actor is not None and actor not in counts:
        raise ConfigError(f"{path}: no {kind} of actor {actor} are in it; of: {names}")
    if actor is None and len(counts) > 1 and ACTOR not in out.name:
        raise ConfigError(
            f"{path}: {len(counts)} actors are in it: {names}; choose one by --actor, or write a file for each, with "
            f"{ACTOR} in its name: {out.stem}-{ACTOR}{out.suffix}"
        )
    return list(counts) if actor is None else [actor]


def _written(path: Path, out: Path, fps: float | None, actor: str, kind: Kind) -> str:
    if out.suffix.lower() == LINES and fps is None:
        return _as_they_came(path, out, actor, kind)
    animation, notes = animation_in(path, actor, fps)
    write_animation(animation, out, actor)
    return _said(out, animation, actor, notes)


def _said(out: Path, animation: Animation, actor: str, notes: Sequence[str]) -> str:
    seconds = len(animation) / animation.fps
    what = f"{out}: actor {actor}, {len(animation)} frames at {animation.fps:g} fps, {seconds:.1f} s"
    return "\n".join([what, *(f"  {note}" for note in notes)])


def _as_they_came(path: Path, out: Path, actor: str, kind: Kind) -> str:
    faults, count = Faults(), 0
    with new_file(out) as file:
        for message in messages_of(path, kind, actor, faults):
            file.write(_pose_line(message) if isinstance(message, Pose) else _frame_line(message))
            count += 1
    return f"{out}: actor {actor}, {count} {kind} as they came" + (f"\n  {faults}" if str(faults) else "")


def _pose_line(pose: Pose) -> bytes:
    variance = np.trace(pose.covariance, axis1=-2, axis2=-1) / 3.0
    return line(
        actor=pose.actor, seq=pose.seq, t_ns=pose.t_ns, status=pose.status, root=pose.root, positions=pose.positions,
        rotations=pose.rotations, deviation_m=np.sqrt(np.maximum(variance, 0.0)), contact=pose.contact,
        offsets_m=pose.offsets_m,
    )  # fmt: skip


def _frame_line(frame: Frame) -> bytes:
    return line(
        actor=frame.actor, seq=frame.seq, t_ns=frame.t_ns, layout=frame.layout, positions=frame.positions,
        confidence=frame.confidence,
    )  # fmt: skip
