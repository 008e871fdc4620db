"""``hpstm view`` beside a server of this process: in a process of its own, for drawing takes time that others need."""

from __future__ import annotations

import atexit
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.util import find_spec

from streamer.errors import ConfigError, HPSTMError
from streamer.server.metrics import Histogram
from streamer.sinks.sink import Inside

MOMENT_S = 0.2
LEAVES_WITHIN_S = 2.0


class ViewSink:
    """A page in a browser.

    Args:
        say: takes one line of text: where the page is.
        origins: web pages from there may connect, beside its own.
    Raises:
        ConfigError: viser is not installed.
    """

    name, subscriptions = "view", 0

    def __init__(self, say: Callable[[str], None], origins: Sequence[str] = ()) -> None:
        if find_spec("viser") is None:
            raise ConfigError("--view needs viser; install it with: pip install 'hpstm-live[view]'")
        self._say, self._origins = say, origins
        self.latency: Histogram | None = None

    def run(self, server: Inside, stopped: Callable[[], bool]) -> None:
        """Raises ConfigError: it does not start. HPSTMError: it has ended."""
        words = [f"--{name}={server.endpoints[name]}" for name in ("out", "control")]
        words += [f"--origin={origin}" for origin in self._origins]
        command = [sys.executable, "-m", "streamer", "view", "--port=0", *words]
        # A session of its own: Ctrl-C is ours, and ends it after the server.
        options = {"start_new_session": True, "stdout": subprocess.PIPE, "text": True}
        with subprocess.Popen(command, **options) as process:  # type: ignore[call-overload]
            atexit.register(process.kill)  # should this thread be left behind
            try:
                ready = process.stdout.readline()
                if not ready and not stopped():
                    raise ConfigError(f"--view: it did not start (exit code {process.wait(LEAVES_WITHIN_S)})")
                self._say(ready.strip())
                while process.poll() is None and not stopped():
                    with suppress(subprocess.TimeoutExpired):
                        process.wait(MOMENT_S)
                if not stopped():
                    raise HPSTMError(f"exit code {process.returncode}")
            finally:
                process.terminate()
                try:
                    process.wait(LEAVES_WITHIN_S)
                except subprocess.TimeoutExpired:
                    process.kill()
                atexit.unregister(process.kill)

    def lost(self) -> dict[str, int]:
        return {}  # it shows the newest
