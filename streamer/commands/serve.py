"""``hpstm serve``: the server in this process, until a signal or a request ends it."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from streamer.commands.server_options import DEFAULTS, ServerOptions
from streamer.commands.signals import stop_signals


def serve(
    *,
    options: ServerOptions = DEFAULTS,
    layout: tuple[str, ...] = (),
    json_ready: bool = False,
) -> int:
    """Run the server.

    Args:
        layout: TOML file of an input layout of your own; may be repeated.
        json_ready: Say that it is ready in one line of JSON.
    """
    stop = stop_signals()
    with loaded_for_good():
        from streamer.commands.terminal import StatusLine, ready_line
        from streamer.server.log import log_in_background
        from streamer.server.notify import ALIVE, READY, STOPPING, notify
        from streamer.server.server import Server
    log_in_background()
    server = Server(options.config(layout))
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


@contextmanager
def loaded_for_good() -> Iterator[None]:
    """What is loaded inside stays: looking for garbage in it would take 30 ms."""
    gc.disable()
    yield
    gc.freeze()
    gc.enable()
