"""What tests fetch from package indexes and do not ship: a video, models. Kept in a folder from run to run."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import pytest

from streamer.commands.models import fetch
from streamer.errors import ConfigError

CACHE = Path(os.environ.get("HPSTM_TEST_CACHE", Path.home() / ".cache" / "hpstm-live-tests"))
SPORTS2D = "sports2d==0.8.34"  # BSD-3-Clause; its wheel carries a video of two people, 230 pictures at 30 Hz
DEMO = "Sports2D/Demo/demo.mp4"
WITHIN_S = 90


def video() -> Path:
    """The demo video of Sports2D; skips where the package index does not give it."""
    kept = CACHE / "sports2d-demo.mp4"
    if not kept.is_file():
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "pip", "download", "--no-deps", "-q", "-d", folder, SPORTS2D]
            try:
                done = subprocess.run(command, capture_output=True, text=True, timeout=WITHIN_S)
            except subprocess.TimeoutExpired:
                pytest.skip(f"{SPORTS2D} did not come from the package index within {WITHIN_S} s")
            wheels = list(Path(folder).glob("*.whl"))
            if done.returncode or len(wheels) != 1:
                pytest.skip(f"no {SPORTS2D} from the package index: {done.stderr.strip()[-200:]}")
            _keep(zipfile.ZipFile(wheels[0]).read(DEMO), kept)
    return kept


def pose_package() -> Path:
    """The npm package that ``hpstm models mediapipe`` takes its models from; skips where npm does not give it."""
    kept = CACHE / "mediapipe-pose.tgz"
    if not kept.is_file():
        with tempfile.TemporaryDirectory() as folder:
            try:
                data = fetch(Path(folder)).read_bytes()
            except ConfigError as error:
                pytest.skip(str(error))
            _keep(data, kept)
    return kept


def _keep(data: bytes, path: Path) -> None:
    """At once, as other processes may do the same."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        file.write(data)
    os.replace(file.name, path)
