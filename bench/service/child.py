"""Child processes of the benches, the real server above all: started, awaited, ended, and their failure explained."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from threading import Timer
from typing import TYPE_CHECKING, Any

from streamer.server.control import request
from streamer.wire.security import CLIENTS, ClientKeys, make_keys

if TYPE_CHECKING:
    from typing_extensions import Self  # in typing itself from Python 3.11 on

READY_WITHIN_S = 120.0  # a cold start on a machine that trains beside it; normally well under 2 s
ASK_S = 0.5  # a request waits in its queue for the server to open; a shorter wait would give a slow one no time
STOP_WITHIN_S = 5.0
CLIENT = "client"  # name of the one whose keys are made for a bench


class ServerFailed(Exception):
    """A child did not start, or ended; the message holds the last lines it said."""


def free_endpoints(count: int) -> list[str]:
    """Different loopback TCP endpoints on which nobody listens."""
    with ExitStack() as stack:
        held = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in held:
            probe.bind(("127.0.0.1", 0))
        return [f"tcp://127.0.0.1:{probe.getsockname()[1]}" for probe in held]


def make_key_folder(folder: str | Path) -> None:
    """Makes what ``serve --curve FOLDER`` needs to let in one client, and in the same place that client's keys."""
    make_keys("server", folder)
    public, _ = make_keys(CLIENT, folder)
    (public.parent / CLIENTS).mkdir()
    shutil.copy(public, public.parent / CLIENTS)


def client_keys(folder: str | Path | None) -> ClientKeys | None:
    """That client's keys; None where no folder is given."""
    return ClientKeys.load(Path(folder) / f"{CLIENT}.key_secret", Path(folder) / "server.key") if folder else None


class ChildProcess:
    """A command as a context manager: running inside, gone after, whatever happened.

    Args:
        name: what to call it when it fails.

    Attributes:
        stderr: a descriptor for what it logs, set before it starts; None: a file that is read when it fails.
    """

    stderr: int | None = None

    def __init__(self, name: str, command: Sequence[str]) -> None:
        self.name = name
        self.command = list(command)

    def __enter__(self) -> Self:
        # A file, not a pipe: nobody has to read it for the child to go on.
        self._said = tempfile.TemporaryFile(mode="w+", encoding="utf-8", errors="replace")
        out = self._said if self.stderr is None else subprocess.DEVNULL
        err = self._said if self.stderr is None else self.stderr
        self._process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=out, stderr=err)
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._said.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.poll()

    def check(self) -> None:
        """Raises ServerFailed if the child has ended."""
        code = self._process.poll()
        if code is not None:
            raise ServerFailed(f"the {self.name} ended with exit code {code}{self._last_words()}")

    def finish(self, within_s: float) -> None:
        """Returns when the child has ended by itself. Raises ServerFailed when it did so badly, or not in time."""
        try:
            code = self._process.wait(within_s)
        except subprocess.TimeoutExpired:
            raise ServerFailed(f"the {self.name} did not end within {within_s:g} s{self._last_words()}") from None
        if code:
            self.check()

    def _last_words(self, lines: int = 12) -> str:
        self._said.flush()
        self._said.seek(0)
        said = self._said.read().strip().splitlines()[-lines:]
        return "; it said:\n  " + "\n  ".join(said) if said else " and said nothing"


class ServerProcess(ChildProcess):
    """``python -m streamer serve`` as a context manager: ready inside, gone after.

    Args:
        arguments: further arguments of ``serve``, such as ``["--delay", "0.1"]``.
        endpoints: where it takes frames, gives poses and answers; default free loopback TCP ports.
        keys: a folder from ``make_key_folder``, for a server that runs with --curve.
    Raises (on entry, and from check):
        ServerFailed: it did not answer in time, or it ended.
    """

    def __init__(
        self, arguments: Sequence[str] = (), endpoints: Sequence[str] | None = None, keys: str | Path | None = None
    ) -> None:
        self.keys = keys
        self.curve = client_keys(keys)  # to ask how it is, and to end it
        self.in_endpoint, self.out_endpoint, self.control_endpoint = endpoints or free_endpoints(3)
        where = ["--in", self.in_endpoint, "--out", self.out_endpoint, "--control", self.control_endpoint]
        where += ["--curve", str(keys)] if keys else []
        super().__init__("server", [sys.executable, "-m", "streamer", "serve", *where, *arguments])
        self.ready_after_s = float("nan")

    def __enter__(self) -> Self:
        started = time.monotonic()
        super().__enter__()
        try:
            while self.status(timeout_s=ASK_S) is None:
                self.check()
                if time.monotonic() - started > READY_WITHIN_S:
                    raise ServerFailed(f"the server did not answer within {READY_WITHIN_S:g} s{self._last_words()}")
        except BaseException:
            super().__exit__()
            raise
        self.ready_after_s = time.monotonic() - started
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            request(self.control_endpoint, "shutdown", 1.0, self.curve)
            with suppress(subprocess.TimeoutExpired):  # then it is killed
                self._process.wait(STOP_WITHIN_S)
        super().__exit__()

    def status(self, timeout_s: float = 1.0) -> dict[str, Any] | None:
        """The server's own account of itself, None when it does not answer in time."""
        return request(self.control_endpoint, "status", timeout_s, self.curve)


def seconds_until_ready(arguments: Sequence[str] = ()) -> float:
    """Seconds from starting a server to its own word that it takes frames; it is ended then.

    Raises:
        ServerFailed: it ended before that, or was ended because it took too long.
    """
    where = [word for pair in zip(("--in", "--out", "--control"), free_endpoints(3)) for word in pair]
    command = [sys.executable, "-m", "streamer", "serve", "--json-ready", *where, *arguments]
    started = time.perf_counter()
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        too_late = Timer(READY_WITHIN_S, process.kill)
        too_late.start()
        try:
            said = process.stdout.readline()
            taken_s = time.perf_counter() - started
        finally:
            too_late.cancel()
            process.kill()
    if not said:
        raise ServerFailed(f"the server ended, or was not ready within {READY_WITHIN_S:g} s")
    return taken_s
