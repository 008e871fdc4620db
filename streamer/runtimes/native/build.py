"""Compiles a program's C with the compiler of this machine, once: the user's cache keeps the library and its sum."""

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

from model.contract import sha256
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
        RuntimeUnavailable: there is no compiler, or it fails, or there is no safe place for what it makes.
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
    try:
        cache = _cache()
        library = cache / f"native-{key}.{'dll' if os.name == 'nt' else 'so'}"
        if not _is_whole(library):
            log.info("compiling the model for this processor, once ...")
            started = time.monotonic()
            _compile(command, source, library)
            log.info("... compiled in %.1f s: %s", time.monotonic() - started, library)
        return ctypes.CDLL(str(library))
    except (OSError, RuntimeError) as error:  # RuntimeError: nobody knows where home is
        raise RuntimeUnavailable(f"runtime 'native' has no place to compile in ({error}); use onnx") from error


def _cache() -> Path:
    """The folder of compiled libraries, made if need be: what lies there is run, so it must be nobody else's to write.

    Raises:
        RuntimeUnavailable: it is. OSError, RuntimeError: it cannot be made.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hpstm-live"
    cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    if os.name == "posix":
        state = cache.stat()
        if state.st_uid != os.getuid() or state.st_mode & 0o022:
            raise RuntimeUnavailable(
                f"runtime 'native': others can write to {cache}; chmod 700 it if it is yours, or set XDG_CACHE_HOME"
            )
    return cache


def _is_whole(library: Path) -> bool:
    """Is it there, byte for byte as it was compiled? A library that was cut off would end the process that loads it."""
    try:
        return sha256(library) == _beside(library).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return False


def _beside(library: Path) -> Path:
    return library.with_suffix(".sha256")


def _compile(command: list[str], source: str, library: Path) -> None:
    with tempfile.TemporaryDirectory(dir=library.parent) as folder:
        code, built = Path(folder) / "program.c", Path(folder) / library.name
        code.write_text(source)
        for tuning in TUNING:
            run = [*command, *FLAGS, tuning, f"-I{KERNELS.parent}", str(code), "-o", str(built), "-lm"]
            done = subprocess.run(run, capture_output=True, text=True, check=False)
            if done.returncode == 0:
                _install(built, library)
                return
    line = (done.stderr.strip().splitlines() or ["no message"])[0]
    raise RuntimeUnavailable(f"runtime 'native': {shlex.join(command)} cannot compile the model ({line}); use onnx")


def _install(built: Path, library: Path) -> None:
    """Both files whole or not at all, the checksum last: between the two the library counts as damaged, no worse."""
    checksum = built.with_suffix(".sha256")
    checksum.write_text(sha256(built), encoding="ascii")
    os.replace(built, library)
    os.replace(checksum, _beside(library))


def _processor() -> str:
    """What tells processors apart for which -march=native compiles differently."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")
