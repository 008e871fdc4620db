"""``hpstm bench wire``: from the moment a frame is due to the moment its pose is in a consumer's hands.

Source, server and subscriber are processes of their own, over real sockets. Frames are due on a fixed schedule and
latency counts from then, whatever the source did (no coordinated omission). Beside it in the same run: a bare ZeroMQ
forwarder with messages of the same sizes, so that the difference is what the filter and its protocol cost.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import psutil
import zmq
from cyclopts import Parameter
from rich.console import Console
from rich.table import Table

from bench.options import Json, Plots, RuntimeName, Threads, Weights
from bench.report import console, machine, machine_line, write_json
from bench.service.child import ServerFailed, seconds_until_ready
from bench.service.wire_live import run_live, show_live
from bench.service.wire_run import (
    ENCRYPTED,
    TRANSPORTS,
    Load,
    Stream,
    message_sizes,
    server_over,
    through_forwarder,
    through_server,
)
from streamer.cli import main
from streamer.errors import ConfigError
from streamer.server.config import ServerConfig

RATES_HZ = (30.0, 60.0, 120.0, 240.0)
FILTER, ECHO = "HPSTM Live", "bare ZeroMQ"
CURVE = np.concatenate([np.linspace(0, 99, 100), 100 - np.logspace(0, -2, 41)])  # percentages at which a CDF is kept
MIB = 1024 * 1024


def row_of(what: str, transport: str, stream: Stream) -> dict[str, Any]:
    """What the table, the picture and the JSON say of one run."""
    latency = stream.latency()
    return {
        "what": what,
        "transport": transport,
        "rate_hz": stream.load.rate_hz,
        "latency": latency,
        "jitter_ms": stream.jitter_ms(),
        "frames": stream.frames,
        "overtaken": stream.overtaken,
        "skipped": stream.skipped,
        "lost": stream.lost,
        "curve_ms": np.percentile(stream.latencies_ns() / 1e6, CURVE).tolist(),
    }


def measure(transport: str, load: Load, arguments: Sequence[str]) -> list[dict[str, Any]]:
    """The row of the bare forwarder and, right after it on the same machine, that of the server."""
    bare = row_of(ECHO, transport, through_forwarder(transport, load))
    with server_over(transport, arguments) as server:
        stream = through_server(server, load)
        resident = psutil.Process(server.pid).memory_info().rss / MIB
        told = server.status() or {}
    ours = row_of(FILTER, transport, stream)
    ours |= {
        "runtime": told.get("runtime"),
        "stages": stream.stages(),
        "resident_mib": resident,
        "ratio_p50": ours["latency"].p50 / bare["latency"].p50,
        "beyond_bare_p50_ms": ours["latency"].p50 - bare["latency"].p50,
    }
    return [bare, ours]


def run(
    rates_hz: Sequence[float] = RATES_HZ,
    transports: Sequence[str] = TRANSPORTS,
    seconds: float = 20.0,
    warmup_s: float = 5.0,
    starts: int = 3,
    threads: int = 1,
    runtime: str = ServerConfig.runtime,
    weights: str | None = None,
    screen: Console | None = None,
) -> dict[str, Any]:
    """Measures and returns everything that the tables and the JSON say.

    Args:
        seconds: of each stream that count, after ``warmup_s`` of it that do not (bones are measured in 4 s of motion).
        starts: how often a server's start is timed.
        threads: of the filter.
    Raises:
        ServerFailed: a process did not start, or ended, or nothing came back.
    """
    arguments = _arguments(threads, runtime, weights)
    start_s = [seconds_until_ready(arguments) for _ in range(starts)]
    rows: list[dict[str, Any]] = []
    for transport in transports:
        for rate_hz in rates_hz:
            rows += measure(transport, Load(rate_hz, seconds, warmup_s), arguments)
            if screen is not None:
                screen.print(f"{transport}, {rate_hz:g} Hz: {rows[-1]['latency'].p50:.3f} ms (p50)")
    frame_bytes, pose_bytes = message_sizes()
    return {
        "benchmark": "wire",
        "machine": machine(),
        "settings": {
            "runtime": runtime, "weights": weights, "threads": threads, "seconds": seconds, "warmup_s": warmup_s,
            "frame_bytes": frame_bytes, "pose_bytes": pose_bytes,
        },
        "curve_percent": CURVE.tolist(),
        "rows": rows,
        "start_s": start_s,
        "resident_mib": max(row["resident_mib"] for row in rows if row["what"] == FILTER),
    }  # fmt: skip


def _arguments(threads: int, runtime: str, weights: str | None) -> list[str]:
    return ["--threads", str(threads), "--runtime", runtime, *(["--weights", weights] if weights else [])]


def show(result: dict[str, Any], screen: Console) -> None:
    """Prints the tables and what follows from them."""
    settings = result["settings"]
    sizes = f"{settings['frame_bytes']} bytes in, {settings['pose_bytes']} out"
    table = _table(f"Frame due -> pose received, one actor, {sizes}; ms", machine_line(result["machine"]))
    for name in ("p50", "p90", "p99", "p99.9", "max", "jitter std", "jitter p99", "frames", "overtaken", "lost"):
        table.add_column(name, justify="right")
    for row in result["rows"]:
        latency, jitter = row["latency"], row["jitter_ms"]
        values = (latency.p50, latency.p90, latency.p99, latency.p99_9, latency.max, jitter["std"], jitter["p99"])
        counts = (row["frames"], row["overtaken"], row["lost"])
        table.add_row(
            row["transport"], f"{row['rate_hz']:g}", row["what"], *(f"{value:.3f}" for value in values),
            *(f"{count:,}" for count in counts), style="" if row["what"] == FILTER else "dim",
        )  # fmt: skip
    screen.print(table)
    ours = [row for row in result["rows"] if row["what"] == FILTER]
    screen.print(_stages(ours))
    for row in ours:
        screen.print(
            f"{row['transport']}, {row['rate_hz']:g} Hz: {row['ratio_p50']:.1f} times the bare forwarder's p50, "
            f"{row['beyond_bare_p50_ms']:.3f} ms more"
        )
    starts = result["start_s"]
    if starts:
        screen.print(f"server ready after {min(starts):.2f} to {max(starts):.2f} s ({len(starts)} starts)")
    screen.print(f"resident memory with one actor: {result['resident_mib']:.0f} MiB")


def _stages(rows: Sequence[dict[str, Any]]) -> Table:
    table = _table("of which, p50 / p99 in ms", "overtaken: a newer pose came first, or instead; jitter: of the "
                   "time between two poses")  # fmt: skip
    for name in rows[0]["stages"]:
        table.add_column(name, justify="right")
    for row in rows:
        cells = (f"{stage.p50:.3f} / {stage.p99:.3f}" for stage in row["stages"].values())
        table.add_row(row["transport"], f"{row['rate_hz']:g}", row["what"], *cells)
    return table


def _table(title: str, caption: str) -> Table:
    table = Table(title=title, caption=caption, title_justify="left", caption_justify="left", title_style="bold")
    table.add_column("over", no_wrap=True)
    table.add_column("Hz", justify="right")
    table.add_column("through", no_wrap=True)
    return table


def here(transport: str) -> bool:
    """Can this system's ZeroMQ do it?"""
    name, encrypted = transport.removesuffix(ENCRYPTED), transport.endswith(ENCRYPTED)
    return (name == "tcp" or zmq.has(name)) and (not encrypted or zmq.has("curve"))


if TYPE_CHECKING:
    Transport = str
else:
    Transport = Literal[TRANSPORTS]  # the choices, as the command line shows and checks them


def command(
    *,
    rates: tuple[float, ...] = RATES_HZ,
    transports: Annotated[tuple[Transport, ...], Parameter(show_default="what this system has of them")] = (),
    seconds: float = 20.0,
    warmup: float = 5.0,
    live: bool = False,
    threads: Threads = 1,
    runtime: RuntimeName = ServerConfig.runtime,
    weights: Weights = None,
    json: Json = None,
    plots: Plots = None,
) -> int:
    """From the moment a frame is due to the moment its pose is in a consumer's hands.

    Args:
        rates: Frames a second [Hz], one stream each.
        transports: Over what; tcp+curve is encrypted.
        seconds: Of each stream [s].
        warmup: Before that [s].
        live: Instead, through hpstm live: from an estimator's line to the VMC packet.
    """
    if min(rates) <= 0 or seconds <= 0 or warmup < 0 or threads < 1:
        raise ConfigError("--rates and --seconds must be positive, --warmup not negative, --threads at least 1")
    if live and (transports or plots):
        raise ConfigError("--live goes another way: it has neither --transports nor --plots")
    screen = console()
    over = transports or [name for name in TRANSPORTS if here(name)]
    try:
        if live:
            result = run_live(rates, seconds, warmup, _arguments(threads, runtime, weights))
        else:
            result = run(rates, over, seconds, warmup, threads=threads, runtime=runtime, weights=weights, screen=screen)
    except ServerFailed as error:
        screen.print(f"[bold red]hpstm bench wire:[/] {error}")
        return 1
    (show_live if live else show)(result, screen)
    if json:
        screen.print(f"written: {write_json(json, result)}")
    if plots and not live:
        from bench.service.plots import latency_picture

        screen.print(f"drawn: {latency_picture(result, plots)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(["bench", "wire", *sys.argv[1:]]))
