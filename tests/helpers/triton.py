"""A real Triton server for the CPU, of the nvidia-pytriton wheel, in an environment of its own; or a visible skip."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.helpers.project import ROOT

VARIABLE = "HPSTM_PYTRITON"  # a virtual environment with nvidia-pytriton, tritonclient[grpc], numpy<2 and our base
READY_S = 60.0
WITHOUT = (
    f"no Triton here: `make test` installs it where it can be had; or {VARIABLE}=FOLDER of an environment made as "
    "docs/triton.md says"
)


class Environment(NamedTuple):
    """Where Triton and its client are installed."""

    python: Path
    packages: Path  # its site-packages
    version: str  # of its Python, two numbers

    def variables(self) -> dict[str, str]:
        """Of its processes: they import this working tree."""
        libraries = self.packages / "nvidia_pytriton.libs"
        return os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{self.packages}", "LD_LIBRARY_PATH": str(libraries)}

    def run(self, *words: str) -> Any:
        """What a program of it prints, as JSON."""
        done = subprocess.run(
            [str(self.python), *words], capture_output=True, text=True, timeout=100, env=self.variables(), cwd=ROOT
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


def find_environment() -> Environment:
    """The one of the variable, or the one that `make test` has made; skips where there is none."""
    named = os.environ.get(VARIABLE)
    folder = Path(named or Path(sys.prefix) / "triton")
    python = folder / "bin" / "python"
    found = [path for path in folder.glob("lib/python3.*/site-packages") if (path / "pytriton").is_dir()]
    if not (python.exists() and found):
        assert not named, f"{VARIABLE}={named}: no nvidia-pytriton there"
        pytest.skip(WITHOUT)
    return Environment(python, found[0], found[0].parent.name.removeprefix("python"))


def _backends(environment: Environment, folder: Path) -> Path:
    """A folder of Triton's backends with the stub of the environment's Python beside the Python backend."""
    source, target = environment.packages / "pytriton" / "tritonserver", folder / "backends" / "python"
    stub = source / "python_backend_stubs" / environment.version / "triton_python_backend_stub"
    if not stub.exists():
        pytest.skip(f"Triton's Python backend is not made for Python {environment.version}")
    linked = subprocess.run(["ldd", str(stub)], capture_output=True, text=True, env=environment.variables())
    missing = [line.split()[0] for line in linked.stdout.splitlines() if "not found" in line]
    if missing:
        pytest.skip(f"Triton's Python backend lacks {', '.join(missing)} on this machine")
    target.mkdir(parents=True)
    for path in (*(source / "backends" / "python").iterdir(), stub):
        (target / path.name).symlink_to(path)
    return target.parent


class Triton(NamedTuple):
    """A server that runs."""

    url: str  # of its gRPC service
    log: Path


@contextmanager
def triton_server(
    environment: Environment, repository: Path, folder: Path, free_port: Callable[[], int]
) -> Iterator[Triton]:
    """tritonserver on loopback, ready; ended by its id, its log in ``folder``."""
    grpc, http = free_port(), free_port()
    words = [
        str(environment.packages / "pytriton" / "tritonserver" / "bin" / "tritonserver"),
        f"--model-repository={repository}", f"--backend-directory={_backends(environment, folder)}",
        "--grpc-address=127.0.0.1", f"--grpc-port={grpc}", "--http-address=127.0.0.1", f"--http-port={http}",
        "--allow-metrics=false", "--exit-timeout-secs=5",
    ]  # fmt: skip
    log = folder / "log"
    with open(log, "wb") as file:
        process = subprocess.Popen(words, stdout=file, stderr=file, env=environment.variables(), start_new_session=True)
        try:
            _await_ready(process, f"http://127.0.0.1:{http}/v2/health/ready", log)
            yield Triton(f"127.0.0.1:{grpc}", log)
        finally:
            process.terminate()
            try:
                process.wait(20)
            finally:
                with suppress(ProcessLookupError):  # the Python backend's process is of its group
                    os.killpg(process.pid, signal.SIGKILL)


def _await_ready(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    until = time.monotonic() + READY_S
    while time.monotonic() < until and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=1.0):
                return
        except OSError:
            time.sleep(0.05)
    pytest.fail(f"Triton is not ready: {log.read_text(errors='replace')[-3000:]}")
