"""Which of the Pythons that we name in pyproject.toml this machine has, wherever they lie."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.helpers.project import project

CLASSIFIER = "Programming Language :: Python :: 3."
# A final release that makes environments: Debian's own lacks ensurepip without python3-venv.
PROBE = "import ensurepip, sys, venv; sys.exit(sys.version_info[:2] != (3, {}) or sys.version_info[3] != 'final')"


def named() -> list[int]:
    """The minor versions of Python 3 that pyproject.toml says it is for."""
    classifiers = project()["classifiers"]
    assert isinstance(classifiers, list)
    return sorted(int(one.removeprefix(CLASSIFIER)) for one in classifiers if one.startswith(CLASSIFIER))


def found() -> dict[int, Path]:
    """One of each of those that is here and works, by its minor version."""
    firsts = {minor: next((path for path in _places(minor) if _works(path, minor)), None) for minor in named()}
    return {minor: path for minor, path in firsts.items() if path is not None}


def _places(minor: int) -> Iterator[Path]:
    """Where one may lie: this one, on PATH, of pyenv, of uv."""
    name = f"python3.{minor}"
    if sys.version_info[:2] == (3, minor):
        yield Path(sys.executable)
    yield from (Path(folder) / name for folder in os.get_exec_path() if (Path(folder) / name).is_file())
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    uv = Path(os.environ.get("UV_PYTHON_INSTALL_DIR") or Path.home() / ".local" / "share" / "uv" / "python")
    for home in (pyenv, uv):
        yield from sorted(home.glob(f"*/bin/{name}"))


def _works(path: Path, minor: int) -> bool:
    """Whether it starts: a shim of pyenv does not for every version."""
    try:
        done = subprocess.run([path, "-I", "-c", PROBE.format(minor)], capture_output=True, timeout=20)
    except OSError:
        return False
    return done.returncode == 0
