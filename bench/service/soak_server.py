"""``hpstm bench soak --server MINUTES``: a crowd through the real server, process by process, with faults one by one.

Four questions. Do the books balance, to the message, whenever they are read? Are all actors' poses back, fresh and
finite, within a second of each fault? Does the server's memory grow? Did anything unexpected happen in its loop?

    crowd (20 actors, 60 Hz; loss, late, double)  ==>  server  ==>  Monitor (here), reader (gets frozen)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from bench.report import machine, machine_line
from bench.service.child import ServerFailed, ServerProcess
from bench.service.soak_faults import GIVE_UP_S, Monitor, Over, Soak
from streamer.clock import now_ns

ACTORS, RATE_HZ = 20, 60.0
ROOM = 12  # for actors that are not of the crowd
RECOVERY_S, GROWTH_MIB_H = 1.0, 1.0  # the bars
GROWTH_FROM_S = 600.0  # measured for less after the warm-up, growth an hour is noise
WARMUP_S = 900.0  # or half of the time, if that is shorter: rare bursts set the allocator's high-water marks
CALM_S = 5.0  # between two faults


def growth_mib_h(at_s: Sequence[float], resident_mib: Sequence[float]) -> float:
    """Slope [MiB an hour] after the warm-up: median of the slopes between its first and its second half's readings."""
    t, y = np.asarray(at_s), np.asarray(resident_mib)
    after = t >= min(WARMUP_S, t[-1] / 2)
    t, y = t[after], y[after]
    half = len(t) // 2
    if half < 1:
        return float("nan")
    return float(np.median((y[-half:] - y[:half]) / (t[-half:] - t[:half]))) * 3600.0


@contextmanager
def _soaking(actors: int, rate_hz: float, arguments: Sequence[str]) -> Iterator[Soak]:
    room = ["--max-actors", str(actors + ROOM), "--evict", "5"]
    with ServerProcess([*room, *arguments]) as server, Monitor(server.out_endpoint, actors) as monitor:
        soak = Soak(server, monitor, actors, rate_hz)
        try:
            yield soak
        finally:
            soak.abandon()


def run(
    minutes: float,
    actors: int = ACTORS,
    rate_hz: float = RATE_HZ,
    calm_s: float = CALM_S,
    arguments: Sequence[str] = (),
    screen: Console | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Plays it for that long, or until ``stopped()``. ``arguments``: further ones of serve. Raises ServerFailed."""
    started = time.monotonic()
    with _soaking(actors, rate_hz, arguments) as soak:
        if not np.isfinite(soak.monitor.back_after(Over(now_ns()))):
            raise ServerFailed(f"no poses of all {actors} actors within {GIVE_UP_S:g} s")
        soak.play(minutes * 60.0, calm_s, screen, stopped)
        soak.close()
        told = soak.look()
        notes, monitor = soak.notes, soak.monitor
        result = {
            "benchmark": "soak server",
            "machine": machine(),
            "settings": {"minutes_asked": minutes, "actors": actors, "rate_hz": rate_hz, "calm_s": calm_s},
            "took_s": time.monotonic() - started,
            "poses": monitor.poses, "broken": monitor.broken,
            "faults": {name: {"times": len(s), "worst_s": float(np.max(s)), "median_s": float(np.median(s))}
                       for name, s in notes.recovered_s.items()},
            "books": told["books"], "books_read": len(notes.off), "books_off": int(np.abs(notes.off).max()),
            "sent": notes.sent, "killed": notes.killed, "lost_on_the_way": notes.sent - told["books"]["messages_in"],
            "rejected": told["rejected"], "filter_events": told.get("filter_events", {}),
            "loop_errors": told["counters"]["loop_errors"],
            "reader_back_s": notes.reader_back_s,
            "growth_mib_h": growth_mib_h(notes.at_s, notes.resident_mib),
            "resident_mib": {"first": notes.resident_mib[0], "last": notes.resident_mib[-1]},
            "series": {"at_s": notes.at_s, "resident_mib": notes.resident_mib},
        }  # fmt: skip
    return {**result, "bars": bars(result)}


def bars(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Every bar with what was measured; growth only where it was watched for long enough."""
    waits = [fault["worst_s"] for fault in result["faults"].values()] or [float("nan")]
    held = [
        ("messages that the books miss, most at any reading", result["books_off"], 0),
        ("poses that are not finite", result["broken"], 0),
        ("unexpected errors in the loop", result["loop_errors"], 0),
        ("longest until all actors are back after a fault, s", float(np.max(waits)), RECOVERY_S),
    ]
    if result["reader_back_s"]:
        held.append(("longest until a frozen subscriber has a fresh pose, s", max(result["reader_back_s"]), RECOVERY_S))
    if not result["killed"]:
        held.append(("messages sent, less those in the books", result["lost_on_the_way"], 0))
    if result["took_s"] - min(WARMUP_S, result["took_s"] / 2) >= GROWTH_FROM_S:
        held.append(("growth of memory after the warm-up, MiB an hour", result["growth_mib_h"], GROWTH_MIB_H))
    return [{"text": text, "value": value, "most": most, "held": bool(value <= most)} for text, value, most in held]


def show(result: dict[str, Any], screen: Console) -> None:
    """Prints recovery by fault, the bars, and the books."""
    settings = result["settings"]
    table = Table(
        title=f"{settings['actors']} actors at {settings['rate_hz']:g} Hz through the server for "
        f"{result['took_s'] / 60:.1f} minutes: {result['books']['messages_in']:,} messages, {result['poses']:,} poses",
        caption=machine_line(result["machine"]), title_justify="left", caption_justify="left", title_style="bold",
    )  # fmt: skip
    table.add_column("fault")
    for name in ("times", "back after, median s", "worst s"):
        table.add_column(name, justify="right")
    for name, fault in result["faults"].items():
        table.add_row(name, str(fault["times"]), f"{fault['median_s']:.2f}", f"{fault['worst_s']:.2f}")
    screen.print(table)
    for bar in result["bars"]:
        word = "held" if bar["held"] else "NOT HELD"
        screen.print(f"{word}: {bar['text']}: {bar['value']:.3g}, at most {bar['most']:g}")
    screen.print("books: " + ", ".join(f"{name} {n:,}" for name, n in result["books"].items())
                 + f"; read {result['books_read']} times; sent {result['sent']:,}")  # fmt: skip
    screen.print("rejected: " + (", ".join(f"{name} {n:,}" for name, n in result["rejected"].items()) or "none"))
    events = ", ".join(f"{name} {n:,}" for name, n in result["filter_events"].items()) or "none"
    memory = result["resident_mib"]
    screen.print(f"noticed: {events}; memory {memory['first']:.1f} to {memory['last']:.1f} MiB, "
                 f"{result['growth_mib_h']:+.2f} MiB an hour after the warm-up")  # fmt: skip
