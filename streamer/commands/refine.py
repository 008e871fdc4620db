"""``hpstm refine PATH... --out DIR``: takes by the folder, refined offline; what is done is not done again."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from streamer.commands.convert import check_fps
from streamer.commands.options import BUNDLED, Height, Pitch
from streamer.errors import ConfigError

if TYPE_CHECKING:
    from streamer.archive.task import Row, Settings, Task


def refine(
    paths: Annotated[tuple[Path, ...], Parameter(consume_multiple=True)],
    /,
    *,
    out: Path,
    format: Literal["same", "bvh", "glb", "vrma", "npz", "jsonl"] = "same",
    fps: float | None = None,
    unit_m: float | None = None,
    up: str | None = None,
    height_m: Height = None,
    pitch_deg: Pitch = 0.0,
    jobs: Annotated[int | None, Parameter(show_default="one a core")] = None,
    ray: Annotated[tuple[str, ...] | None, Parameter(consume_multiple=(0, 1))] = None,
    runtime: Literal["auto", "native", "onnx"] = "auto",
    weights: Annotated[Path | None, Parameter(show_default=BUNDLED)] = None,
) -> int:
    """Refine folders of takes offline: every frame from what came before and after. A second run does only what is new.

    Args:
        paths: Files and folders of .bvh, .amc, .npz, .trc, .csv (all but .npz also .gz) and recordings.
        out: Folder for results, manifest and report.
        format: Of the results; same: the input's own, or .npz where that cannot be written.
        fps: Frame rate of the results [Hz]; none: that of the input.
        unit_m: Metres per unit of the files, if the body's size misleads [m].
        up: Axis of the files that points up (x, y, z, -x, -y, -z), if the body's stance misleads.
        jobs: Processes at work, of one thread each.
        ray: Work on a Ray cluster (the ray extra): its address, such as auto; none after it: one of this machine.
        runtime: Engine of the model, the same for all files.
        weights: Model folder that export wrote.
    Returns:
        The exit code: 1 where a file was refused.
    """
    from streamer.archive.inputs import files_in, tasks_for
    from streamer.archive.manifest import open_manifest
    from streamer.archive.report import Run, write_report
    from streamer.sources.told import Told

    check_fps(fps)
    workers = jobs if jobs is not None else _cores()
    if workers < 1:
        raise ConfigError(f"--jobs {workers}: at least one process is needed")
    Told(height_m, pitch_deg)  # before a file is read
    settings = _settings("" if format == "same" else f".{format}", fps, unit_m, up, runtime, weights)
    settings = replace(settings, height_m=height_m, pitch_deg=pitch_deg)
    files = files_in(paths, out)
    started = time.monotonic()
    with open_manifest(out) as manifest:
        tasks, refused = tasks_for(files, out, settings, manifest.done)
        rows = list(refused)
        for row in _shown(_rows(tasks, workers, ray), len(files), refused):
            if row.status == "done":
                manifest.add(row)
            elif row.status == "skipped":
                row = replace(manifest.done[row.input], status="skipped")
            rows.append(row)
        order = {label: n for n, (_, label) in enumerate(files)}
        run = Run(sorted(rows, key=lambda row: order[row.input]), asdict(settings), time.monotonic() - started)
        report = write_report(run, out)
    print(f"{run}\n{report}")
    return 1 if run.count("refused") else 0


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _settings(
    suffix: str, fps: float | None, unit_m: float | None, up: str | None, runtime: str, weights: Path | None
) -> Settings:
    """What every file is refined with; the runtime is chosen here, so that all have the same."""
    from streamer.archive.task import Settings, model_hash
    from streamer.runtimes import load_runtime

    digest = model_hash(weights)
    name = load_runtime(runtime, weights).name
    return Settings(suffix, fps, unit_m, up, name, None if weights is None else str(weights.absolute()), digest)


def _rows(tasks: Sequence[Task], jobs: int, ray: Sequence[str] | None) -> Iterator[Row]:
    if ray is None:
        from streamer.archive.pool import rows_of_pool

        return rows_of_pool(tasks, jobs)
    from streamer.archive.on_ray import rows_of_ray

    return rows_of_ray(tasks, jobs, ray[0] if ray else "")


def _shown(rows: Iterator[Row], count: int, refused: Sequence[Row]) -> Iterator[Row]:
    """The rows as they come: a bar on a terminal, and a line on stderr for each file that is refused."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("", total=count, completed=len(refused))
        for row in refused:
            print(f"hpstm: {row.reason}", file=sys.stderr)
        for row in rows:
            if row.status == "refused":
                print(f"hpstm: {row.reason}", file=sys.stderr)
            progress.update(bar, advance=1, description=row.input)
            yield row
