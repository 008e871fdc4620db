"""``hpstm bench soak``: a day of one actor's frames, as fast as they go, in this process, on a simulated clock.

Three questions. Does the filter still say what a fresh one says that saw only the last minute (a filter forgets: its
ring, its front and its calibration reach back some seconds)? Does memory grow? Does a push become slower?
``--server MINUTES`` asks other questions, of the real server: soak_server.py.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from time import thread_time_ns
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil
from rich.console import Console
from rich.table import Table

from bench.noise import observed
from bench.options import Json, Plots, RuntimeName, Threads, Weights
from bench.report import console, interruptible, machine, machine_line, write_json
from bench.service.child import ServerFailed
from model.motion.synthetic import SyntheticActor
from streamer.cli import main
from streamer.clock import SECOND_NS
from streamer.errors import ConfigError
from streamer.filter import PoseFilter
from streamer.frames import Frame, Pose
from streamer.runtimes import load_runtime
from streamer.runtimes.block import Runtime
from streamer.server.config import ServerConfig

ACTOR = "a"
CHUNK_S = 2.0  # motion is made in pieces of this
TAIL_S = 60.0  # what a fresh filter gets to see before its answers are compared
VISITOR_S = 60.0  # every so often somebody else passes through for a moment, with a new name
SAY_EVERY_S = 30.0  # of real time
MIB = 1024 * 1024


class Motion:
    """Frames of one noisy actor without end: chunk k is the same whenever it is asked for."""

    def __init__(self, rate_hz: float, seed: int) -> None:
        self.rate_hz, self._seed = rate_hz, seed
        self.per_chunk = max(1, round(CHUNK_S * rate_hz))
        self._actor = SyntheticActor(seed)

    def chunk(self, k: int) -> list[Frame]:
        """``per_chunk`` frames; the noise of each chunk is drawn anew, and steps where two meet."""
        numbers = np.arange(k * self.per_chunk, (k + 1) * self.per_chunk)
        t_s = numbers / self.rate_hz
        seen, confidence = observed(self._actor.positions(t_s), t_s, hash_of(self._seed, k))
        return [
            Frame(ACTOR, n, round(n * SECOND_NS / self.rate_hz), seen[i].astype(np.float32), confidence[i])
            for i, n in enumerate(numbers.tolist())
        ]


def hash_of(seed: int, k: int) -> int:
    """A seed of its own for each chunk."""
    return int(np.random.SeedSequence((seed, k)).generate_state(1)[0])


def difference(ours: Pose, theirs: Pose) -> tuple[float, float]:
    """How far two poses are apart: the joint that is the most [mm], and the rotation that is the most [degrees]."""
    apart_mm = 1e3 * float(np.linalg.norm(ours.positions - theirs.positions, axis=-1).max())
    # Of the chord, not of the dot product: that is blind to small angles in float32.
    a, b = ours.rotations.astype(np.float64), theirs.rotations.astype(np.float64)
    chord = np.minimum(np.linalg.norm(a - b, axis=-1), np.linalg.norm(a + b, axis=-1))
    return apart_mm, float(np.degrees(4 * np.arcsin(np.clip(chord / 2, 0, 1))).max())


class Soak:
    """The long-lived filter, and what is noted of it on the way."""

    def __init__(self, runtime: Runtime, motion: Motion, chunks: int) -> None:
        self._runtime, self.motion = runtime, motion
        self.filter = PoseFilter(runtime)
        self._process = psutil.Process()
        self.chunks, self.done, self.pushes, self.visitors = chunks, 0, 0, 0
        self.making_s = 0.0  # processor time that went into motion and noise
        # Filled beforehand: notes that grew would look like a filter that does.
        self.push_us = np.full(chunks, np.nan)  # of each chunk, mean processor time
        self.resident_mib = np.full(chunks, np.nan)  # after each chunk
        self.compared: list[dict[str, float]] = []

    def seconds(self, chunks: int) -> float:
        """Simulated time of so many chunks."""
        return chunks * self.motion.per_chunk / self.motion.rate_hz

    def chunk(self, k: int) -> list[Pose | None]:
        """Push chunk k, and note what it cost."""
        before = thread_time_ns()
        frames = self.motion.chunk(k)
        started = thread_time_ns()
        self.making_s += (started - before) / SECOND_NS
        poses = self.filter.push_many(frames)
        self.push_us[k] = (thread_time_ns() - started) / len(frames) / 1e3
        self.pushes += len(frames)
        if k % max(1, round(VISITOR_S / CHUNK_S)) == 0:
            self._visit(frames)
        self.resident_mib[k] = self._process.memory_info().rss / MIB
        return poses

    def _visit(self, frames: list[Frame]) -> None:
        """Somebody new comes, moves for a chunk's time and goes: as the server's actors do."""
        name = f"visitor-{self.visitors}"
        self.filter.push_many(replace(frame, actor=name) for frame in frames)
        self.filter.remove(name)
        self.visitors += 1
        self.pushes += len(frames)

    def compare(self, k: int, tail: int) -> None:
        """Push chunk k, and note how far its poses are from those of a fresh filter on the same skeleton.

        The fresh one sees the last ``tail`` chunks alone.
        """
        ours = self.chunk(k)
        fresh = PoseFilter(self._runtime)
        fresh.set_skeleton(ACTOR, self.filter.actors[ACTOR].offsets_m)
        for earlier in range(k - tail + 1, k + 1):
            theirs = fresh.push_many(self.motion.chunk(earlier))
        apart = np.array([difference(a, b) for a, b in zip(ours, theirs) if a is not None and b is not None])
        self.compared.append({
            "after_s": self.seconds(k + 1), "tail_s": self.seconds(tail), "poses": len(apart),
            "max_mm": float(apart[:, 0].max()), "mean_mm": float(apart[:, 0].mean()),
            "max_deg": float(apart[:, 1].max()),
        })  # fmt: skip

    def run(self, screen: Console | None, stopped: Callable[[], bool] = lambda: False) -> None:
        """All chunks, or those until ``stopped()``; compared once early and once at the end, wherever that is."""
        tail = max(1, min(round(TAIL_S / CHUNK_S), self.chunks // 4))
        started = said = time.monotonic()
        for k in range(self.chunks):
            last = k == self.chunks - 1 or stopped()
            if last or k == 2 * tail:
                self.compare(k, min(tail, k + 1))
            else:
                self.chunk(k)
            self.done = k + 1
            now = time.monotonic()
            if screen is not None and (last or now - said > SAY_EVERY_S):
                screen.print(self._progress(now - started))
                said = now
            if last:
                return

    def _progress(self, elapsed_s: float) -> str:
        left_s = elapsed_s * (self.chunks - self.done) / self.done
        now = slice(max(0, self.done - 30), self.done)
        return (
            f"{self.seconds(self.done) / 3600:.2f} of {self.seconds(self.chunks) / 3600:g} h, "
            f"{np.median(self.push_us[now]):.0f} us a push, {self.resident_mib[self.done - 1]:.1f} MiB, "
            f"{left_s / 60:.0f} minutes to go"
        )

    def notes(self) -> dict[str, Any]:
        """Everything that was noted, as the JSON has it."""
        series = {"push_us": self.push_us[: self.done], "resident_mib": self.resident_mib[: self.done]}
        hours = np.array([self.seconds(k + 1) / 3600 for k in range(self.done)])
        return {
            "pushes": self.pushes,
            "visitors": self.visitors,
            "actors_left": len(self.filter.actors),
            "rejected": dict(self.filter.rejected),
            "against_fresh": self.compared,
            **{name: ends(values) for name, values in series.items()},
            "making_s": self.making_s,
            "series": {name: thinned(values) for name, values in {"hours": hours, **series}.items()},
        }


def ends(values: npt.NDArray[np.float64]) -> dict[str, float]:
    """Medians of the early and the late part of a series: its second and its last tenth, at least one value each.

    The first tenth is left out: caches fill, allocators settle.
    """
    tenth = max(1, len(values) // 10)
    early, late = values[tenth : 2 * tenth], values[-tenth:]
    return {"early": float(np.median(early)), "late": float(np.median(late))}


def thinned(values: npt.NDArray[np.float64], most: int = 500) -> list[float]:
    """Medians of at most ``most`` stretches of equal length."""
    return [float(np.median(part)) for part in np.array_split(values, min(most, len(values)))]


def run(
    hours: float = 24.0,
    rate_hz: float = 120.0,
    seed: int = 1,
    threads: int = 1,
    runtime: str = ServerConfig.runtime,
    weights: str | None = None,
    screen: Console | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Runs the simulated time, or until ``stopped()``, and returns everything that the table and the JSON say.

    The comparison with a fresh filter is made twice, early and at the end: what a day of uptime adds is the difference
    between the two.
    """
    engine = load_runtime(runtime, Path(weights) if weights else None, threads)
    chunks = max(4, round(hours * 3600 / CHUNK_S))
    soak = Soak(engine, Motion(rate_hz, seed), chunks)
    started = time.monotonic()
    if screen is not None:
        screen.print(f"{hours:g} h at {rate_hz:g} Hz through runtime {engine.name}; Ctrl-C ends it with a report")
    soak.run(screen, stopped)
    return {
        "benchmark": "soak",
        "machine": machine(),
        "settings": {
            "runtime": engine.name, "model": engine.contract.name, "threads": threads, "rate_hz": rate_hz, "seed": seed,
            "hours_asked": hours, "hours": soak.seconds(soak.done) / 3600,
        },
        "took_s": time.monotonic() - started,
        **soak.notes(),
    }  # fmt: skip


def show(result: dict[str, Any], screen: Console) -> None:
    """Prints what was asked."""
    settings = result["settings"]
    table = Table(
        title=f"{settings['hours']:.4g} h at {settings['rate_hz']:g} Hz in {result['took_s'] / 60:.1f} minutes: "
        f"{result['pushes']:,} pushes, {result['visitors']:,} visitors",
        caption=machine_line(result["machine"]), title_justify="left", caption_justify="left", title_style="bold",
    )  # fmt: skip
    table.add_column("")
    table.add_column("early", justify="right")
    table.add_column("late", justify="right")
    push, resident = result["push_us"], result["resident_mib"]
    table.add_row("processor time of a push, us", f"{push['early']:.0f}", f"{push['late']:.0f}")
    table.add_row("resident memory, MiB", f"{resident['early']:.1f}", f"{resident['late']:.1f}")
    early, late = result["against_fresh"][0], result["against_fresh"][-1]
    for name, key in (("position, most", "max_mm"), ("position, mean", "mean_mm"), ("rotation, most", "max_deg")):
        unit = "degrees" if key == "max_deg" else "mm"
        table.add_row(f"against a fresh filter: {name}, {unit}", f"{early[key]:.5f}", f"{late[key]:.5f}")
    screen.print(table)
    screen.print(
        f"the fresh filter saw the last {late['tail_s']:g} s alone, with the same skeleton; compared after "
        f"{early['after_s']:g} s and after {late['after_s']:g} s, all joints of every pose of the last {CHUNK_S:g} s"
    )
    refused = ", ".join(f"{n} {reason}" for reason, n in result["rejected"].items()) or "none"
    screen.print(
        f"frames refused: {refused}, actors left: {result['actors_left']}; "
        f"making motion and noise took {result['making_s'] / 60:.1f} minutes of it"
    )
    if settings["hours"] < 0.999 * settings["hours_asked"]:
        screen.print(f"stopped before the {settings['hours_asked']:g} h that were asked for")


def command(
    *,
    server: float = 0.0,
    hours: float = 24.0,
    rate: float = 120.0,
    seed: int = 1,
    threads: Threads = 1,
    runtime: RuntimeName = ServerConfig.runtime,
    weights: Weights = None,
    json: Json = None,
    plots: Plots = None,
) -> int:
    """A day of one actor's frames, as fast as they go, in this process, on a simulated clock.

    Args:
        server: Instead: a crowd through the real server for so long, with faults [minutes]; 0: no.
        hours: Of simulated time [h].
        rate: Frames a second [Hz].
        seed: Of the motion and the noise.
    """
    if hours <= 0 or rate <= 0 or threads < 1:
        raise ConfigError("--hours and --rate must be positive, --threads at least 1")
    screen = console()
    if server > 0:
        return _server(server, threads, runtime, weights, json, screen)
    with interruptible() as stopped:
        result = run(hours, rate, seed, threads, runtime, weights, screen, stopped)
    show(result, screen)
    if json:
        screen.print(f"written: {write_json(json, result)}")
    if plots:
        from bench.service.plots import soak_picture

        screen.print(f"drawn: {soak_picture(result, plots)}")
    return 0


def _server(minutes: float, threads: int, runtime: str, weights: str | None, json: Path | None, screen: Console) -> int:
    """A crowd through the real server; 1 when a bar is not held."""
    from bench.service import soak_server

    arguments = ["--threads", str(threads), "--runtime", runtime, *(["--weights", weights] if weights else [])]
    try:
        with interruptible() as stopped:
            result = soak_server.run(minutes, arguments=arguments, screen=screen, stopped=stopped)
    except ServerFailed as error:
        screen.print(f"[bold red]hpstm bench soak:[/] {error}")
        return 1
    soak_server.show(result, screen)
    if json:
        screen.print(f"written: {write_json(json, result)}")
    return 0 if all(bar["held"] for bar in result["bars"]) else 1


if __name__ == "__main__":
    sys.exit(main(["bench", "soak", *sys.argv[1:]]))
