"""The streams of some recordings, measured: of each actor its figures, its body, and what looks wrong with it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from model.layouts import Layout, LayoutError, get_layout
from model.skeleton import rest_lengths_m
from streamer.adapt.figures import Figures, figures, median, proportions
from streamer.adapt.track import Track, track_of
from streamer.archive.streams import in_time, read_source
from streamer.clock import SECOND_NS
from streamer.errors import ConfigError, FrameError
from streamer.frames import Frame
from streamer.sources.json_lines import line_reader
from streamer.warnings import Warnings
from streamer.watch import EVERY_NS, LONG, Look, Opinion
from streamer.wire.json_lines import own_layout

SHORTEST_S = 10.0
MOST_FRAMES = 20_000  # of a stream: more of it would say the same
_LINES = (".jsonl", ".ndjson")


@dataclass(frozen=True)
class Measured:
    """One actor of one recording.

    Attributes:
        file, actor: whose it is; "" where the file names nobody.
        bones: as ``proportions`` has them. warnings: what looks wrong most of the time, in sentences.
        notes: what was decided in reading the file.
    """

    file: str
    actor: str
    layout: Layout
    figures: Figures
    bones: dict[str, float]
    warnings: tuple[str, ...]
    notes: tuple[str, ...]


def measured(
    path: Path, layout: str | None = None, unit_m: float | None = None, up: str | None = None
) -> list[Measured]:  # fmt: skip
    """Every actor of a recording that is there long enough to say something.

    Args:
        layout: of lines of JSON that name none; a TOML file is one of the user's own, for recordings, too.
        unit_m, up: as of ``read_clip``, of motion files and tables.
    Raises:
        ConfigError: the file cannot be read, or nobody is in it for SHORTEST_S.
    """
    own = _own(layout)

    def layout_of(name: str) -> Layout:
        return own if own is not None and own.name == name else get_layout(name)

    found: list[Measured] = []
    short: list[str] = []
    for actor, frames, notes in _streams(path, layout, unit_m, up):
        try:
            track = track_of(frames[:MOST_FRAMES], layout_of)
        except (LayoutError, OSError) as error:
            raise ConfigError(f"{path}: {error}; a layout of your own: --layout FILE.toml") from error
        value = figures(track) if len(track) > 2 and track.seconds >= SHORTEST_S else None
        if value is None or not np.isfinite(value.jitter_mm):
            said = f"{track.seconds:.1f} s" if value is None else "hardly ever seen"
            short.append(f"{actor}, {said}" if actor else said)
            continue
        if len(frames) > MOST_FRAMES:
            notes = (*notes, f"of {len(frames)} frames the first {MOST_FRAMES} are measured")
        one = (path.name, actor, layout_of(track.layout), value, proportions(track), _looks(track), notes)
        found.append(Measured(*one))
    if not found:
        said = f"too short to say anything ({'; '.join(short)})"
        raise ConfigError(f"{path}: {said}: {SHORTEST_S:g} s of somebody at least")
    if short:
        found[0] = replace(found[0], notes=(*found[0].notes, f"left out, too short: {'; '.join(short)}"))
    return found


def _own(layout: str | None) -> Layout | None:
    """The user's own layout, where a file of one is given."""
    if layout is None or not layout.endswith(".toml"):
        return None
    try:
        return own_layout(layout)
    except LayoutError as error:
        raise ConfigError(f"--layout: {error}") from error


def _streams(
    path: Path, layout: str | None, unit_m: float | None, up: str | None
) -> list[tuple[str, list[Frame], tuple[str, ...]]]:
    """Actor, frames in growing time and notes of each."""
    if path.suffix.lower() in _LINES:
        return _lines(path, layout)
    source = read_source(path, unit_m=unit_m, up=up)
    return [(stream.actor, stream.frames, source.notes) for stream in source.streams]


def _lines(path: Path, layout: str | None) -> list[tuple[str, list[Frame], tuple[str, ...]]]:
    """As ``_streams``, of lines of JSON with their own times. Raises ConfigError: there are none, or they have none."""
    reader, broken = line_reader(layout), list[str]()
    actors: dict[str, list[Frame]] = {}
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                try:
                    frame = reader.frame(line, 0)
                except FrameError as error:
                    broken.append(f"line {number}: {error}")
                    continue
                actors.setdefault(frame.actor, []).append(frame)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    if not actors:
        raise ConfigError(f"{path}: no frame in it; {broken[0] if broken else 'it is empty'}")
    if any(len(frames) > 1 and not any(frame.t_ns for frame in frames) for frames in actors.values()):
        raise ConfigError(f'{path}: its lines have no time; give each "t" in seconds, or "t_ns"')
    notes = (f"{len(broken)} lines cannot be read, the first: {broken[0]}",) if broken else ()
    streams = []
    for actor, frames in actors.items():
        ordered, said = in_time(frames)
        streams.append((actor, ordered, (*notes, *said)))
    return streams


def _looks(track: Track) -> tuple[str, ...]:
    """What the server would warn of by the middle of all seconds, in sentences without the actor's name."""
    opinion, looks, due_s = Opinion(), list[Look](), 0.0
    positions, seen = np.nan_to_num(track.positions).astype(np.float32), track.seen.astype(np.float32)
    lengths_m = rest_lengths_m().astype(np.float32)
    for time_s, xyz, there in zip(track.times_s.tolist(), positions, seen):
        if time_s >= due_s:
            due_s = time_s + 0.999 * EVERY_NS / SECOND_NS
            if opinion.take(np.concatenate([xyz.T, [there, there, np.zeros_like(there)]])):
                looks.append(opinion.look(lengths_m))
    warnings = Warnings()
    if looks:
        usual = Look(*(median(values) for values in zip(*looks)))
        for _ in range(LONG):
            opinion.report(usual, "", warnings)
    return tuple(sentence.partition(": ")[2] for sentence in warnings.of(""))
