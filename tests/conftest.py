"""What every test may rely on: one thread per library, the shared recordings or a visible skip, a free port."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from model.motion.endless import Motion
    from streamer.filter import PoseFilter
    from streamer.frames import Frame, Pose
    from tests.helpers.networks import DoubleRuntime

# Before numpy, onnxruntime or torch is imported, here and in child processes: their thread pools read these once.
# Several pools on two cores make timings jump and sums differ in the last bit.
for _pool in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_pool] = "1"
# A shell starts what runs in the background with Ctrl-C ignored, and every program that a test starts would, too.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

SLOW = {"exported", "bundled_answers"}  # fixtures: an export, and torch over a long stream
SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.hookimpl(tryfirst=True)  # xdist reads the groups in this hook, too
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Side by side, files stay whole, for what their tests set up; those that need what takes longest share it."""
    for item in items:
        shares = not SLOW.isdisjoint(getattr(item, "fixturenames", ()))
        item.add_marker(pytest.mark.xdist_group("exported" if shares else item.nodeid.partition("::")[0]))


@pytest.fixture(autouse=True)
def _one_torch_thread() -> None:
    """Undoes what a test (`hpstm train --threads 2`) may have set; does not import torch for those that need none."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


@pytest.fixture(scope="session")
def _libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("libraries")


@pytest.fixture(scope="module")
def own_libraries(_libraries: Path) -> Iterator[None]:
    """The native runtime's cache is this run's own, so that every run compiles."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(_libraries))
        yield


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real recordings that lies beside the repository in this project's workplace."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"no real recordings: {SHARED_DATA} is missing")
    return SHARED_DATA


@pytest.fixture(scope="session")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training file as `hpstm prepare` writes it: three synthetic people to learn from, one held out."""
    import numpy as np

    from model.motion.endless import regauge
    from model.motion.synthetic import SyntheticActor
    from model.training.held_out import VALIDATION

    path, fps = tmp_path_factory.mktemp("data") / "train.npz", 30.0
    actors = [SyntheticActor(seed) for seed in range(4)]
    world, root = zip(*(actor.poses(np.arange(150) / fps + 2.0) for actor in actors))
    np.savez(
        path, root=np.concatenate(root).astype(np.float32), rotations=np.concatenate(world)[..., :2].astype(np.float32),
        starts=np.arange(5) * 150, offsets=np.stack([regauge(a.offsets_m) for a in actors]), fps=np.full(4, fps),
        names=np.array(list("abcd")), sets=np.array(["made"] * 4), subjects=np.array(["1", "2", "3", VALIDATION[0]]),
    )  # fmt: skip
    return path


@pytest.fixture(scope="session")
def motion(packed: Path) -> Motion:
    """The motion of its people to learn from."""
    from model.motion.endless import Motion
    from model.training.held_out import VALIDATION, training_clips

    return Motion.from_clips(training_clips(packed, VALIDATION))


@pytest.fixture(scope="session")
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
    from tests.helpers.networks import DoubleRuntime, tiny_model

    return DoubleRuntime(tiny_model(), tmp_path_factory.mktemp("tiny") / "weights.safetensors")


@pytest.fixture(scope="session")
def new(tiny_runtime: DoubleRuntime) -> Callable[..., PoseFilter]:
    """A new filter on that network, with the settings given."""
    from streamer.filter import PoseFilter

    return lambda **settings: PoseFilter(tiny_runtime, **settings)


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    """A stream for it, past five turns of its ring."""
    from tests.helpers.networks import TINY, noisy_stream

    return noisy_stream(1, 5 * TINY.window + 2)


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny random model, exported; ``trained.safetensors`` beside it. Nobody writes to it."""
    import torch  # not for the tests that do without

    from model.export import export_weights
    from tests.helpers.networks import save_weights, tiny_model

    root = tmp_path_factory.mktemp("export")
    weights = save_weights(tiny_model(dtype=torch.float32), root / "trained.safetensors")
    export_weights(weights, root / "model", "tiny")
    return root / "model"


@pytest.fixture(scope="session")
def bundled_answers() -> Sequence[Pose | None]:
    """What torch says of the eventful stream on the bundled model: asked once for all runtimes."""
    from tests.helpers.agreement import torch_answers

    return torch_answers(None)
