"""``hpstm adapt``: a source's noise in figures, from recordings without truth, and what follows from them."""

from __future__ import annotations

import json as json_text
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
from cyclopts import Parameter
from rich.console import Console
from rich.table import Table
from rich.text import Text

from model.skeleton import JOINTS
from streamer.errors import ConfigError

if TYPE_CHECKING:
    from streamer.adapt.figures import Figures
    from streamer.adapt.source import Source
    from streamer.adapt.streams import Measured

_WIDTH = 120
# The rows of the table: what is said, the figure, how it is written, as a factor of what is kept.
_ROWS: tuple[tuple[str, str, str, float], ...] = (
    ("rate", "rate_hz", "{:.1f} Hz", 1.0),
    ("steps between frames vary by", "step_spread", "{:.0f} %", 100.0),
    ("stalls a minute", "stalls_per_min", "{:.1f}", 1.0),
    ("joints missing", "missing", "{:.2f} %", 100.0),
    ("gaps a minute, all joints", "gaps_per_min", "{:.0f}", 1.0),
    ("length of a gap, the middle one", "gap_s", "{:.2f} s", 1.0),
    ("joints repeated bit for bit", "repeated", "{:.1f} %", 100.0),
    ("confidence below .5", "doubted", "{:.0f} %", 100.0),
    ("noise where it is low / high", "confidence_tells", "{:.1f} x", 1.0),
    ("fast noise when still, a coordinate", "jitter_mm", "{:.1f} mm", 1.0),
    ("along the worst axis / the next", "axis_ratio", "{:.1f} x", 1.0),
    ("limbs' length varies by", "bone_spread", "{:.1f} %", 100.0),
    ("slow noise, at least", "slow_mm", "{:.1f} mm", 1.0),
    ("memory over 0.1 s (0: none, 1: all)", "memory", "{:.2f}", 1.0),
    ("memory over 0.5 s", "long_memory", "{:.2f}", 1.0),
    ("joints thrown far off", "outliers", "{:.2f} %", 100.0),
    ("how far, the middle one", "outlier_mm", "{:.0f} mm", 1.0),
    ("left and right exchanged, a minute", "swaps_per_min", "{:.1f}", 1.0),
    ("faces elsewhere at once, a minute", "flips_per_min", "{:.1f}", 1.0),
)


# Of these more is worse.
_OF_NOISE = {
    "step_spread", "stalls_per_min", "missing", "gaps_per_min", "gap_s", "jitter_mm", "axis_ratio", "bone_spread",
    "slow_mm", "outliers", "swaps_per_min", "flips_per_min",
}  # fmt: skip


def adapt(
    recordings: Annotated[tuple[Path, ...], Parameter(consume_multiple=True)],
    /,
    *,
    layout: str | None = None,
    unit_m: float | None = None,
    up: str | None = None,
    json: Path | None = None,
) -> int:
    """Say what noise a source has, from recordings of it alone, and whether the filter is known to help on such.

    Args:
        recordings: Recordings with input, .jsonl of frames, .npz, .trc, .csv, .bvh, .amc of 10 s and more.
        layout: Layout of lines that name none; a .toml file is one of your own, for recordings, too.
        unit_m: Metres per unit of motion files and tables, if the body's size misleads [m].
        up: Axis of motion files and tables that points up (x, y, z, -x, -y, -z), if the stance misleads.
        json: Write all figures and the advice to this file, too.
    Returns:
        The exit code: 1 where a recording was left out, with a line that says why.
    Raises:
        ConfigError: no recording can be read, or none is long enough.
    """
    from streamer.adapt.advice import as_json
    from streamer.adapt.streams import measured

    if not recordings:
        raise ConfigError("give a recording: hpstm record take.hpstm makes one of a server's input")
    found: list[Measured] = []
    refused: list[ConfigError] = []
    for path in recordings:
        try:
            found += measured(path, layout, unit_m, up)
        except ConfigError as error:
            refused.append(error)
    if not found:
        raise refused[0]
    for why in refused:
        print(f"hpstm: left out: {why}", file=sys.stderr)
    sources = list(_sources(found))
    console = Console(width=None if Console().is_terminal else _WIDTH, highlight=False)
    for streams, source in sources:
        _show(console, streams, source)
    if json is not None:
        reports = [as_json(source) | {"streams": [_stream(one) for one in streams]} for streams, source in sources]
        try:
            json.write_text(json_text.dumps(reports, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"--json {json}: {error.strerror}") from error
        print(json)
    return int(bool(refused))


def _sources(found: Sequence[Measured]) -> Iterator[tuple[list[Measured], Source]]:
    """The streams of each layout, and the source that they are of."""
    from streamer.adapt.figures import median, together
    from streamer.adapt.known import knowledge
    from streamer.adapt.source import Source

    for name in dict.fromkeys(one.layout.name for one in found):
        streams = [one for one in found if one.layout.name == name]
        names = dict.fromkeys(bone for one in streams for bone in one.bones)
        bones = {bone: median([one.bones.get(bone, np.nan) for one in streams]) for bone in names}
        warnings = list(dict.fromkeys(sentence for one in streams for sentence in one.warnings))
        figures = together([one.figures for one in streams])
        yield streams, Source.of(streams[0].layout, figures, bones, warnings, knowledge())


def _stream(one: Measured) -> dict[str, object]:
    return {
        "file": one.file, "actor": one.actor, "figures": one.figures.as_json(), "warnings": list(one.warnings),
        "notes": list(one.notes),
    }  # fmt: skip


def _show(console: Console, streams: Sequence[Measured], source: Source) -> None:
    from streamer.adapt.advice import advice
    from streamer.adapt.source import verdict

    layout, found = source.layout, source.figures
    for one in streams:
        who = f" {one.actor}" if one.actor else ""
        console.print(f"{one.file}{who}: {one.figures.seconds:.0f} s, {one.figures.frames} frames", markup=False)
        for note in dict.fromkeys(one.notes):
            console.print(f"  {note}", markup=False)
    derived, never = int(layout.derived.sum()), int((~layout.measured & ~layout.derived).sum())
    console.print(
        f"{layout.name}: {len(layout.joints)} joints; of our 24 it gives {int(layout.measured.sum())}, "
        f"{derived} are derived, {never} are the model's alone; a body {source.bones['size']:.2f} times the mean one",
        markup=False,
    )
    console.print(_table(source))
    console.print(_joints(found), markup=False)
    for name, (ratio, low, high) in source.unusual().items():
        console.print(
            f"{name}: {ratio:.2f} times the usual proportion; training has {low:.2f} to {high:.2f}", markup=False
        )
    for sentence in source.warnings:
        console.print(f"! the body {sentence}", markup=False)
    said = verdict(source)
    console.print()
    console.print(Text.assemble((f"The filter here: {said.word}.", "bold"), f" {said.text}"))
    for item in advice(source):
        console.print(Text.assemble((item.what, "bold"), f": {item.why}"))
    console.print(f"Scores are those of weights {source.known.weights}, by hpstm bench targets.\n", style="dim")


def _table(source: Source) -> Table:
    near, known = source.nearest.source, source.known
    table = Table("", "here", "training: 5, 50, 95 %", near.name, "")
    for column in table.columns[1:4]:
        column.justify = "right"
    for words, key, form, factor in _ROWS:
        low, middle, high = known.range_of(key)
        here = float(getattr(source.figures, key))
        wanted = ", ".join(_said(form.partition(" ")[0], factor * x) for x in (low, middle, high))
        mark = "more than training" if key in _OF_NOISE and here > high else ""
        table.add_row(words, _said(form, factor * here), wanted, _said(form, factor * near.middle(key)), mark)
    return table


def _said(form: str, value: float) -> str:
    return form.format(value) if np.isfinite(value) else "-"


def _joints(found: Figures) -> str:
    """The fast noise of each joint, the noisiest first, left and right in one."""
    values = {name: value for name, value in zip(JOINTS, found.by_joint_mm) if np.isfinite(value)}
    both: dict[str, list[float]] = {}
    for name, value in values.items():
        both.setdefault(name.removeprefix("left_").removeprefix("right_"), []).append(value)
    order = sorted(both, key=lambda name: -max(both[name]))
    return "fast noise [mm]: " + ", ".join(f"{name} {max(both[name]):.1f}" for name in order)
