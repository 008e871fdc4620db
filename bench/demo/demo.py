"""``hpstm demo``: the whole product in 15 seconds, with the truth known.

A synthetic actor with an estimator's noise is sent to a real server (a child process, over loopback TCP); a subscriber
takes the refined poses. A live table compares input and output, a summary and one picture end it.

    SyntheticActor -> noise -> FrameSender  ==>  python -m streamer serve  ==>  PoseSubscriber -> Track
"""

from __future__ import annotations

import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from threading import Event as Flag

import numpy as np
from rich.console import Console
from rich.live import Live

from bench.demo.animation import demo_animation
from bench.demo.view import live_table, plain_line, summary
from bench.noise import demo_events, observed
from bench.report import console as make_console
from bench.service.child import ServerFailed, ServerProcess
from bench.track import Floats, Scores, Track
from model.motion.synthetic import SyntheticActor
from streamer.client import FrameSender, PoseSubscriber
from streamer.clock import SECOND_NS, now_ns
from streamer.errors import ConfigError
from streamer.frames import Frame

ACTOR = "demo"
SILENCE_S = 5.0  # no pose for that long while frames go out: something is broken, and waiting longer will not help


def run(
    seconds: float = 15.0,
    out_dir: str | Path = "demo_out",
    *,
    rate_hz: float = 60.0,
    delay_s: float = 0.0,
    seed: int = 1,
    picture: bool = True,
    animate: Path | None = None,
    console: Console | None = None,
) -> int:
    """Runs the demo; prints as it goes and writes ``out_dir``/demo.png.

    Args:
        seconds: how long frames are sent [s], at least 2.
        rate_hz: frames per second of the actor.
        delay_s: fixed lag that the server may use [s], 0 for none.
        seed: of the motion and the noise.
        animate: SVG file to write the run to as a moving picture.
    Returns:
        0, or 1 after saying what failed.
    """
    screen = console if console is not None else make_console()
    try:
        track = Track()
        with ServerProcess(["--delay", str(delay_s)] if delay_s else []) as server:
            screen.print(
                f"[bold]HPSTM Live demo[/]  server (pid {server.pid}) ready in {server.ready_after_s:.1f} s: "
                f"{server.in_endpoint.rpartition('/')[2]} → {server.out_endpoint.rpartition('/')[2]}"
            )
            _stream(server, track, seconds, rate_hz, seed, screen)
            status = server.status() or {}
        if server.exit_code:
            raise ServerFailed(f"the server ended with exit code {server.exit_code}")
        rows = track.aligned()
        if rows is None:
            raise ServerFailed(f"no pose came back; the server said: {status}")
        scores = Scores.of(rows)
        screen.print(summary(track, scores, rate_hz, status))
        if picture:
            # Here, not above: matplotlib takes half a second to import, which would delay the start.
            from bench.demo.picture import demo_picture

            path = demo_picture(Path(out_dir) / "demo.png", rows, scores, rate_hz, demo_events(seconds))
            screen.print(f"picture: {path}")
        if animate is not None:
            screen.print(f"animation: {demo_animation(animate, rows, scores, demo_events(seconds))}")
        return 0
    except (ServerFailed, ValueError) as error:
        screen.print(f"[bold red]demo failed:[/] {error}", markup=True)
        return 1


def _stream(server: ServerProcess, track: Track, seconds: float, rate_hz: float, seed: int, screen: Console) -> None:
    """Source and subscriber in threads, the view in this one, until all frames are sent and the last pose is in."""
    frames = script(seconds, rate_hz, seed)
    stop = Flag()
    # A third thread draws: without this it may keep a pose that has arrived waiting for 5 ms.
    interval = sys.getswitchinterval()
    sys.setswitchinterval(0.0002)
    try:
        with ThreadPoolExecutor(2, thread_name_prefix="demo") as threads:
            try:
                receiving = threads.submit(_receive, server.out_endpoint, track, stop)
                sending = threads.submit(_send, server.in_endpoint, track, stop, frames)
                _show(server, track, seconds, rate_hz, screen, sending)
                time.sleep(0.2)  # the last poses are on their way
            finally:
                stop.set()
            sending.result()  # raises what the thread raised
            receiving.result()
    finally:
        sys.setswitchinterval(interval)


def _show(
    server: ServerProcess, track: Track, seconds: float, rate_hz: float, screen: Console, sending: Future[None]
) -> None:
    started = time.monotonic()
    window = int(3 * rate_hz)  # the live figures are of the last three seconds
    heard, heard_at = 0, started
    terminal = screen.is_terminal
    with Live(console=screen, auto_refresh=False, transient=True) if terminal else nullcontext() as live:
        while not sending.done():
            wait([sending], timeout=0.25 if terminal else 1.0)
            elapsed = time.monotonic() - started
            server.check()
            if track.poses > heard:
                heard, heard_at = track.poses, time.monotonic()
            elif time.monotonic() - heard_at > SILENCE_S:
                raise ServerFailed(f"no pose came back for {SILENCE_S:g} s; the server says: {server.status()}")
            rows = track.aligned(last=window)
            scores = Scores.of(rows) if rows is not None else None
            if live is not None:
                live.update(live_table(track, scores, elapsed, seconds), refresh=True)
            else:
                screen.print(plain_line(track, scores, elapsed), soft_wrap=True)


@dataclass(frozen=True)
class Shot:
    """One frame to send: when, what is true then, what the estimator says."""

    t_s: float
    truth: Floats
    noisy: Floats
    confidence: Floats


def script(seconds: float, rate_hz: float, seed: int) -> list[Shot]:
    """The frames of one run, irregular as an estimator gives them: time jitter of a tenth of a frame, 1 % missing."""
    rng = np.random.default_rng(seed)
    count = int(seconds * rate_hz)
    t_s = (np.arange(count) + np.clip(0.1 * rng.standard_normal(count), -0.3, 0.3) + 0.3) / rate_hz
    t_s = t_s[rng.random(count) >= 0.01]
    truth = SyntheticActor(seed=seed).positions(t_s)
    seen, confidence = observed(truth, t_s, seed, demo_events(seconds))
    return [Shot(float(t), *shot) for t, *shot in zip(t_s, truth, seen, confidence, strict=True)]


def _send(endpoint: str, track: Track, stop: Flag, shots: list[Shot]) -> None:
    """Sends the frames in real time, each at its own."""
    with FrameSender(endpoint) as sender:
        if not sender.joined:
            raise ServerFailed(f"the server does not listen at {endpoint}")
        started_ns = now_ns()
        track.begin(started_ns)
        for seq, shot in enumerate(shots):
            t_ns = started_ns + round(shot.t_s * SECOND_NS)
            if stop.wait(max(0.0, (t_ns - now_ns()) / SECOND_NS)):
                return
            frame = Frame(ACTOR, seq, t_ns, shot.noisy, shot.confidence)
            track.sent(t_ns, now_ns(), shot.truth, shot.noisy)
            sender.send(frame)


def _receive(endpoint: str, track: Track, stop: Flag) -> None:
    # Every pose, not only the newest: a dropped one would be missing from the scores.
    with PoseSubscriber(endpoint, actor=ACTOR, every=True) as subscriber:
        while not stop.is_set():
            pose = subscriber.receive(timeout_s=0.1)
            if pose is not None:
                track.got(pose, now_ns())


def demo(
    *,
    seconds: float = 15.0,
    rate: float = 60.0,
    delay: float = 0.0,
    seed: int = 1,
    out_dir: str = "demo_out",
    animate: Path | None = None,
) -> int:
    """The whole product in 15 seconds, with the truth known: a real server, a noisy synthetic actor, a live table.

    Args:
        seconds: How long frames are sent [s].
        rate: Frames a second of the actor [Hz].
        delay: Fixed lag that the server may use [s].
        seed: Of the motion and the noise.
        out_dir: Folder of the picture.
        animate: SVG file to write the run to, too, as a moving picture.
    """
    if seconds < 2:
        raise ConfigError("--seconds must be at least 2")
    if animate is not None and animate.suffix.lower() != ".svg":
        raise ConfigError(f"--animate {animate}: the moving picture is an SVG; give a name that ends in .svg")
    return run(seconds, out_dir, rate_hz=rate, delay_s=delay, seed=seed, animate=animate)
