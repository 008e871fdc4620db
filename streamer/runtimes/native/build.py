"""Compiles a program's C with the compiler of this machine, once: the library is kept in the user's cache."""

from __future__ import annotations

import ctypes
import hashlib
import importlib.util
import logging
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from streamer.errors import RuntimeUnavailable

KERNELS = Path(__file__).with_name("kernels.h")
FLAGS = ("-std=gnu11", "-O3", "-fPIC", "-shared", "-fopenmp-simd", "-fno-math-errno", "-fno-trapping-math")
TUNING = ("-march=native", "-mcpu=native")  # x86 and arm; the first that the compiler takes

log = logging.getLogger("hpstm")


def compiler() -> list[str]:
    """Command of a C compiler: $CC, the system's, or that of the ziglang package.

    Raises:
        RuntimeUnavailable: there is none.
    """
    if os.environ.get("CC"):
        return shlex.split(os.environ["CC"])
    for name in ("cc", "gcc", "clang"):
        if shutil.which(name):
            return [name]
    if importlib.util.find_spec("ziglang"):
        return [sys.executable, "-m", "ziglang", "cc"]
    raise RuntimeUnavailable(
        "runtime 'native' needs a C compiler (gcc or clang): install one, or `pip install ziglang`, or use runtime onnx"
    )


def load_library(source: str) -> ctypes.CDLL:
    """The library of ``source``, compiled for this processor unless the cache has it.

    Raises:
        RuntimeUnavailable: there is no compiler, or it fails.
    """
    command = compiler()
    words = (
        source,
        KERNELS.read_text(),
        " ".join(command),
        *FLAGS,
        platform.system(),
        platform.machine(),
        _processor(),
    )
    key = hashlib.sha256("\0".join(words).encode()).hexdigest()[:24]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hpstm-live"
    library = cache / f"native-{key}.{'dll' if os.name == 'nt' else 'so'}"
    if not library.exists():
        log.info("compiling the model for this processor, once ...")
        started = time.monotonic()
        try:
            cache.mkdir(mode=0o700, parents=True, exist_ok=True)
            _compile(command, source, library)
            log.info("... compiled in %.1f s: %s", time.monotonic() - started, library)
        except OSError as error:
            raise RuntimeUnavailable(f"runtime 'native' cannot compile into {cache} ({error}); use onnx") from error
    return ctypes.CDLL(str(library))


def _compile(command: list[str], source: str, library: Path) -> None:
    with tempfile.TemporaryDirectory(dir=library.parent) as folder:
        code, built = Path(folder) / "program.c", Path(folder) / library.name
        code.write_text(source)
        for tuning in TUNING:
            run = [*command, *FLAGS, tuning, f"-I{KERNELS.parent}", str(code), "-o", str(built), "-lm"]
            done = subprocess.run(run, capture_output=True, text=True, check=False)
            if done.returncode == 0:
                os.replace(built, library)
                return
    line = (done.stderr.strip().splitlines() or ["no message"])[0]
    raise RuntimeUnavailable(f"runtime 'native': {shlex.join(command)} cannot compile the model ({line}); use onnx")


def _processor() -> str:
    """What tells processors apart for which -march=native compiles differently."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")
