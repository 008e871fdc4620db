"""What every test may rely on: one thread per library, the shared recordings or a visible skip, a free port."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from streamer.filter import PoseFilter
    from tests.model_helpers import DoubleRuntime

# Before numpy, onnxruntime or torch is imported, here and in child processes: their thread pools read these once.
# Several pools on two cores make timings jump and sums differ in the last bit.
for _pool in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_pool] = "1"

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(autouse=True)
def _one_torch_thread() -> None:
    """Undoes what a test (`hpstm train --threads 2`) may have set; does not import torch for those that need none."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real recordings that lies beside the repository in this project's workplace."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"no real recordings: {SHARED_DATA} is missing")
    return SHARED_DATA


@pytest.fixture
def free_port() -> Callable[[], int]:
    """A function that returns a loopback TCP port on which nobody listens."""

    def pick() -> int:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
            return port

    return pick


@pytest.fixture(scope="session")
def tiny_runtime(tmp_path_factory: pytest.TempPathFactory) -> DoubleRuntime:
    """A tiny random network in float64: equality is bit for bit."""
    from tests.model_helpers import DoubleRuntime, tiny_model

    return DoubleRuntime(tiny_model(), tmp_path_factory.mktemp("tiny") / "weights.safetensors")


@pytest.fixture(scope="session")
def new(tiny_runtime: DoubleRuntime) -> Callable[..., PoseFilter]:
    """A new filter on that network, with the settings given."""
    from streamer.filter import PoseFilter

    return lambda **settings: PoseFilter(tiny_runtime, **settings)
