"""``hpstm serve``: the server in this process, until a signal or a request ends it."""

from __future__ import annotations

import gc
import signal
import sys
from typing import Annotated

from cyclopts import Group, Parameter
from cyclopts.validators import mutually_exclusive

from streamer.commands.options import BUNDLED, Control, In, Out
from streamer.wire.endpoints import DEFAULT_CONTROL, DEFAULT_IN, DEFAULT_OUT

LATE_OR_EARLY = Group("Which pose (at most one of these)", validator=mutually_exclusive)


def serve(
    *,
    in_endpoint: In = DEFAULT_IN,
    out_endpoint: Out = DEFAULT_OUT,
    control_endpoint: Control = DEFAULT_CONTROL,
    connect_in: tuple[str, ...] = (),
    delay: Annotated[float, Parameter(group=LATE_OR_EARLY)] = 0.0,
    predict: Annotated[float, Parameter(group=LATE_OR_EARLY)] = 0.0,
    rate: float = 0.0,
    source_joints: bool = False,
    landmarks: bool = False,
    velocities: bool = False,
    runtime: str = "auto",
    threads: int = 1,
    layout: tuple[str, ...] = (),
    weights: Annotated[str | None, Parameter(show_default=BUNDLED)] = None,
    max_actors: int = 64,
    evict: float = 30.0,
    budget_ms: float = 20.0,
    no_rehearsal: bool = False,
    metrics_port: int = 0,
    allow_remote: bool = False,
    curve: str | None = None,
    skeletons: str | None = None,
    json_ready: bool = False,
) -> int:
    """Run the server.

    Args:
        connect_in: Also connect to a source that binds this endpoint; may be repeated.
        delay: Fixed lag for a smoother pose [s], 0 to 0.2.
        predict: Predict ahead [s], 0 to 0.15.
        rate: Steady output clock [Hz], coasting over gaps; 0: one pose a frame.
        source_joints: Send the source's own joints, refined, in each pose as well.
        landmarks: Turn head, hands and feet as face, fingers and heels say, where those are good.
        velocities: Say how fast joints move and turn, in each pose.
        runtime: auto (native, else onnx), native, onnx, tensorrt, torch, torch_cuda.
        threads: Threads that share a crowd of actors.
        layout: TOML file of an input layout of your own; may be repeated.
        weights: Folder of another model.
        max_actors: Most actors at a time.
        evict: Forget actors that were silent this long [s].
        budget_ms: Skip frames that would take longer than this [ms].
        no_rehearsal: Let the filter grow cold between frames: less work, later answers.
        metrics_port: Prometheus text on 127.0.0.1 at this port; 0: none.
        allow_remote: Open endpoints to other machines: no encryption, no password.
        curve: Encrypt, and let in only whose key is in clients/ of this folder; hpstm keys makes them.
        skeletons: Keep actors' skeletons in this folder, over restarts.
        json_ready: Say that it is ready in one line of JSON.
    """
    stop: list[int] = []  # before the long imports: a signal while loading ends the server once it is up
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.append(1))
    gc.disable()  # what is loaded here stays: looking for garbage in it would take 30 ms
    from streamer.commands.terminal import StatusLine, ready_line
    from streamer.server.config import ServerConfig
    from streamer.server.log import log_in_background
    from streamer.server.notify import ALIVE, READY, STOPPING, notify
    from streamer.server.server import Server

    gc.freeze()
    gc.enable()
    log_in_background()
    config = ServerConfig(
        in_endpoint=in_endpoint, out_endpoint=out_endpoint, control_endpoint=control_endpoint, connect_in=connect_in,
        layouts=layout, weights=weights, runtime=runtime, threads=threads, delay_s=delay, predict_s=predict,
        rate_hz=rate, max_actors=max_actors, evict_s=evict, budget_s=budget_ms / 1e3, metrics_port=metrics_port,
        allow_remote=allow_remote, curve=curve, rehearse=not no_rehearsal,
        skeletons=skeletons, source_joints=source_joints, landmarks=landmarks,
        velocities=velocities,
    )  # fmt: skip
    server = Server(config)
    status = StatusLine(server.metrics) if sys.stdout.isatty() else None

    def on_ready(endpoints: dict[str, str]) -> None:
        print(ready_line(endpoints, json_ready), flush=True)
        notify(READY)

    def every_second() -> None:
        notify(ALIVE)
        if status is not None:
            status.show()

    server.run(on_ready, every_second, stopped=lambda: bool(stop))
    notify(STOPPING)
    return 0
