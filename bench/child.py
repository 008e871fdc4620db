"""The real server as a child process on free loopback ports: started, awaited, stopped, and its end explained."""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from typing import Any

from streamer.control import request

READY_WITHIN_S = 30.0  # a cold start on a loaded machine; normally well under 2 s
STOP_WITHIN_S = 5.0


class ServerFailed(Exception):
    """The server did not start, or ended; the message holds the last lines it said."""


def free_endpoints(count: int) -> list[str]:
    """Different loopback TCP endpoints on which nobody listens."""
    with ExitStack() as stack:
        held = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in held:
            probe.bind(("127.0.0.1", 0))
        return [f"tcp://127.0.0.1:{probe.getsockname()[1]}" for probe in held]


class ServerProcess:
    """``python -m streamer serve`` as a context manager: ready inside, gone after.

    Args:
        arguments: further arguments of ``serve``, such as ``["--delay", "0.1"]``.
    Raises (on entry, and from check):
        ServerFailed: it did not answer in time, or it ended.
    """

    def __init__(self, arguments: Sequence[str] = ()) -> None:
        self.in_endpoint, self.out_endpoint, self.control_endpoint = free_endpoints(3)
        endpoints = ["--in", self.in_endpoint, "--out", self.out_endpoint, "--control", self.control_endpoint]
        self.command = [sys.executable, "-m", "streamer", "serve", *endpoints, *arguments]
        self.ready_after_s = float("nan")

    def __enter__(self) -> ServerProcess:
        # A file, not a pipe: nobody has to read it for the server to go on.
        self._said = tempfile.TemporaryFile(mode="w+", encoding="utf-8", errors="replace")
        started = time.monotonic()
        self._process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=self._said, stderr=self._said)
        try:
            while self.status(timeout_s=0.1) is None:
                self.check()
                if time.monotonic() - started > READY_WITHIN_S:
                    raise ServerFailed(f"the server did not answer within {READY_WITHIN_S:g} s{self._last_words()}")
        except BaseException:
            self._end()
            raise
        self.ready_after_s = time.monotonic() - started
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            request(self.control_endpoint, "shutdown", timeout_s=1.0)
            with suppress(subprocess.TimeoutExpired):  # then _end kills it
                self._process.wait(STOP_WITHIN_S)
        self._end()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.poll()

    def status(self, timeout_s: float = 1.0) -> dict[str, Any] | None:
        """The server's own account of itself, None when it does not answer in time."""
        return request(self.control_endpoint, "status", timeout_s)

    def check(self) -> None:
        """Raises ServerFailed if the server has ended."""
        code = self._process.poll()
        if code is not None:
            raise ServerFailed(f"the server ended with exit code {code}{self._last_words()}")

    def _last_words(self, lines: int = 12) -> str:
        self._said.flush()
        self._said.seek(0)
        said = self._said.read().strip().splitlines()[-lines:]
        return "; it said:\n  " + "\n  ".join(said) if said else " and said nothing"

    def _end(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._said.close()
