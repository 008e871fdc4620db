"""What every benchmark says of itself: the machine, percentiles, a table for people and a JSON file for programs."""

from __future__ import annotations

import gc
import json
import os
import platform
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Percentiles:
    """Order statistics of a set of durations [ms]."""

    count: int
    mean: float
    p50: float
    p90: float
    p99: float
    p99_9: float
    max: float

    @classmethod
    def of_ns(cls, durations_ns: Sequence[int] | npt.NDArray[Any]) -> Percentiles:
        """Percentiles [ms] of durations [ns].

        Raises:
            ValueError: there is none.
        """
        ms = np.asarray(durations_ns, dtype=np.float64) * 1e-6
        if ms.size == 0:
            raise ValueError("no durations to summarise")
        p50, p90, p99, p99_9 = (float(q) for q in np.percentile(ms, [50, 90, 99, 99.9]))
        return cls(int(ms.size), float(ms.mean()), p50, p90, p99, p99_9, float(ms.max()))

    def cells(self) -> list[str]:
        """Table cells in the order of PERCENTILE_COLUMNS."""
        return [f"{value:.3f}" for value in (self.p50, self.p90, self.p99, self.p99_9, self.max)] + [f"{self.count:,}"]


PERCENTILE_COLUMNS = ("p50", "p90", "p99", "p99.9", "max", "count")


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass  # not Linux: the platform module knows less
    return platform.processor() or platform.machine()


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def available_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine() -> dict[str, Any]:
    """What a measured number depends on: processor, cores, load, system, versions."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {
        "cpu": _cpu_model(),
        "cores": available_cores(),
        "load_1min": load,
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in ("hpstm-live", "numpy", "onnxruntime", "torch", "pyzmq")},
        "measured": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def machine_line(info: dict[str, Any]) -> str:
    """The machine in one line for a table's caption."""
    cores = info["cores"]
    load = f", load {info['load_1min']:.1f}" if info["load_1min"] is not None else ""
    return f"{info['cpu']}, {cores} core{'s' * (cores != 1)}{load}, {info['system']}, Python {info['python']}"


def measured_line(info: dict[str, Any]) -> str:
    """The machine and the date, for what is looked at later: a picture, a document."""
    return f"{machine_line(info)}, {info['measured'][:10]}"


def percentile_table(title: str, rows: dict[str, Percentiles], caption: str) -> Table:
    """A table of latencies [ms], one row a name."""
    table = Table(title=title, caption=caption, title_justify="left", caption_justify="left", title_style="bold")
    table.add_column("ms", no_wrap=True)
    for column in PERCENTILE_COLUMNS:
        table.add_column(column, justify="right")
    for name, row in rows.items():
        table.add_row(name, *row.cells())
    return table


def write_json(path: str | Path, result: dict[str, Any]) -> Path:
    """Writes a result, Percentiles and all, as indented JSON; makes the folder."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(result, indent=2, default=asdict) + "\n", encoding="utf-8")
    return target


def console(file: Any = None) -> Console:
    """A console that does not wrap tables at 80 columns when it writes to a pipe or a CI log."""
    out = Console(file=file, highlight=False)
    return out if out.is_terminal else Console(file=file, highlight=False, width=120)


@contextmanager
def frozen_gc() -> Iterator[None]:
    """No garbage collection inside: what is alive is moved out of its sight, as the server does after warm-up."""
    was_frozen = gc.get_freeze_count() > 0
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        if not was_frozen:
            gc.unfreeze()


@contextmanager
def one_core() -> Iterator[int | None]:
    """Binds the calling thread to the last core it may use; yields its number, or None where the system cannot."""
    if not hasattr(os, "sched_setaffinity"):
        yield None
        return
    before = os.sched_getaffinity(0)
    core = max(before)
    os.sched_setaffinity(0, {core})
    try:
        yield core
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Inside, the first Ctrl-C or SIGTERM only makes the yielded function say so: what there is gets reported."""
    caught: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def note(number: int, _: object) -> None:
        caught.append(number)
        signal.signal(number, before[signal.Signals(number)])  # the second one is meant

    for number in before:
        signal.signal(number, note)
    try:
        yield lambda: bool(caught)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
