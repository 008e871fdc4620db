"""TensorRT without a GPU: real engines built ahead of time where tensorrt-rtx is installed, and every way to fail.

What only a GPU can show (engines load, run, are captured, agree) is in tests/test_gpu.py.
"""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import dataclass, replace
from enum import IntEnum
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from model.contract import SUMS, WEIGHTS
from streamer.cli import main
from streamer.commands import doctor
from streamer.errors import ConfigError, ContractError, RuntimeUnavailable
from streamer.filter import PoseFilter
from streamer.runtimes import cuda, engines, load_runtime
from streamer.runtimes.cuda import Gpu, find_gpu
from streamer.runtimes.engines import EngineSet, build_ahead, check_io, find_library, io_shapes
from streamer.runtimes.rows import GRAPHS, Packing
from tests.helpers.networks import BUNDLED, NOT_BUNDLED

pytestmark = pytest.mark.skipif(not BUNDLED, reason=NOT_BUNDLED)
RTX = find_spec("tensorrt_rtx") is not None
needs_rtx = pytest.mark.skipif(not RTX, reason="tensorrt-rtx is not installed (pip install tensorrt-rtx==1.6.1.120)")
ADA = Gpu("a GPU", (8, 9))


class Known(IntEnum):
    """What a library builds for ahead of time."""

    NONE = 0
    SM75 = 75
    SM89 = 89


def library(version: str = "1.0", **more: Any) -> Any:
    return SimpleNamespace(__name__="fake_trt", __version__=version, float32="float32", **more)


@dataclass(frozen=True)
class Fake(EngineSet):
    """An engine set that builds nothing and counts."""

    def build(self, graph: str) -> bytes:
        self.trt.built.append(graph)
        return b"a plan\nof two lines"


def fake_set(folder: Path, **more: Any) -> Fake:
    contract = load_runtime("onnx", folder).contract
    return replace(Fake(folder, contract, 4, "fp16", library(built=[]), ADA), **more)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the bundled model, so that engines lie beside it."""
    out = tmp_path / "model"
    out.mkdir()
    for name in (*(f"{graph}.onnx" for graph in GRAPHS), SUMS):
        shutil.copy(WEIGHTS / name, out)
    return out


# ---- the real thing, ahead of time


@needs_rtx
@pytest.mark.timeout(600)
def test_engines_are_built_ahead_of_time(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The exported graphs parse and build with the inputs and outputs of the contract; a second call finds them."""
    assert main(["export", "--runtime", "tensorrt", "--library", "tensorrt_rtx", "--out", str(folder)]) == 0
    said = capsys.readouterr().out
    version = find_library("tensorrt_rtx").__version__
    files = sorted(path.name for path in (folder / "engines").iterdir())
    weights = load_runtime("onnx", folder).contract.weights_sha256[:12]
    assert len(files) == 3
    for graph, name in zip(sorted(GRAPHS), files):
        assert name.startswith(f"{graph}-fp16-64lanes-tensorrt_rtx-{version}-sm75_")
        assert name.endswith(f"-{weights}.engine")
        assert f"{name}: " in said
    assert said.count("built (absent)") == 3
    assert main(["export", "--runtime", "tensorrt", "--library", "tensorrt_rtx", "--out", str(folder)]) == 0
    assert capsys.readouterr().out.count("up to date") == 3


@needs_rtx
def test_the_network_has_the_tensors_of_the_contract(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names, shapes and types as TensorRT reads them: float32, any number of rows; anything else is refused."""
    seen: dict[str, Any] = {}
    monkeypatch.setattr(engines, "check_io", lambda trt, graph, packing, tensors: seen.update(tensors))
    trt = find_library("tensorrt_rtx")
    engine_set = EngineSet(folder, load_runtime("onnx", folder).contract, 4, "fp32", trt, None)
    assert len(engine_set.build("skeleton")) > 10_000
    packing = Packing.of(engine_set.contract)
    want = io_shapes("skeleton", packing)
    assert seen == {name: ((-1, *row), trt.float32) for name, row in want.items()}


# ---- files


def test_an_engine_is_built_once(folder: Path) -> None:
    one = fake_set(folder)
    assert one.state("head") == "absent"
    assert one.plan("head") == (b"a plan\nof two lines", True)
    assert one.state("head") == "ready"
    assert fake_set(folder).plan("head") == (b"a plan\nof two lines", False)
    assert [line.rpartition(", ")[2] for line in build_ahead(one)] == ["built (absent)", "up to date", "built (absent)"]
    assert one.trt.built == ["head", "step", "skeleton"]


CHANGES: dict[str, dict[str, Any]] = {
    "version": {"trt": library("1.1", built=[])},
    "lanes": {"lanes": 8},
    "precision": {"precision": "fp32"},
    "compute capability": {"gpu": Gpu("another", (9, 0))},
}


@pytest.mark.parametrize("what", list(CHANGES))
def test_an_engine_of_something_else_is_another_file(what: str, folder: Path) -> None:
    fake_set(folder).plan("step")
    other = fake_set(folder, **CHANGES[what])
    assert other.state("step") == "absent"
    assert other.plan("step")[1]


def test_a_stale_engine_is_built_again_and_says_why(folder: Path) -> None:
    one = fake_set(folder)
    one.plan("step")
    path = one.cache / one.key("step").file_name()
    header, _, plan = path.read_bytes().partition(b"\n")
    for field in ("onnx_sha256", "form", "version"):
        path.write_bytes(json.dumps(json.loads(header) | {field: "other"}).encode() + b"\n" + plan)
        assert one.state("step") == f"{path} is stale: of another {field}"
        assert one.plan("step")[1]
        assert one.state("step") == "ready"


@pytest.mark.parametrize("content", [b"", b"\n", b"{}", b"[1]\nplan", b"\xff\x00 engine of another program", b"null\n"])
def test_a_damaged_engine_is_built_again(content: bytes, folder: Path) -> None:
    one = fake_set(folder)
    path = one.cache / one.key("head").file_name()
    path.parent.mkdir()
    path.write_bytes(content)
    assert str(path) in one.state("head")
    assert one.plan("head")[1]
    assert one.state("head") == "ready"


def test_a_folder_that_cannot_be_written_costs_only_the_file(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    one = fake_set(folder)
    one.cache.write_text("a file where the folder should be")
    with caplog.at_level(logging.WARNING):
        assert one.plan("head") == (b"a plan\nof two lines", True)
    assert "not kept" in caplog.text


def test_engines_of_the_bundled_model_lie_in_the_users_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HPSTM_CACHE", str(tmp_path))
    one = fake_set(WEIGHTS)
    one.plan("skeleton")
    assert [path.name for path in tmp_path.iterdir()] == [one.key("skeleton").file_name()]


def test_what_is_built_ahead_of_time_is_for_every_known_gpu(folder: Path) -> None:
    trt = library(ComputeCapability=Known, built=[])
    ahead, known, unknown = (fake_set(folder, trt=trt, gpu=gpu) for gpu in (None, ADA, Gpu("later", (9, 0))))
    assert ahead.targets() == known.targets() == ["SM75", "SM89"]
    assert ahead.key("step") == known.key("step")
    assert unknown.targets() == []  # built on that GPU, for it
    assert unknown.key("step").targets == "sm90"


# ---- loading


class Loader:
    """A TensorRT runtime that refuses the first plans."""

    def __init__(self, refusals: int, engine: Any) -> None:
        self.refusals, self.engine = refusals, engine

    def deserialize_cuda_engine(self, plan: bytes) -> Any:
        self.refusals -= 1
        return self.engine if self.refusals < 0 else None


def engine_of(tensors: dict[str, tuple[tuple[int, ...], str]]) -> Any:
    return SimpleNamespace(
        num_io_tensors=len(tensors), get_tensor_name=lambda i: list(tensors)[i],
        get_tensor_shape=lambda name: tensors[name][0], get_tensor_dtype=lambda name: tensors[name][1],
    )  # fmt: skip


def good_engine(one: EngineSet, graph: str) -> Any:
    shapes = io_shapes(graph, Packing.of(one.contract))
    return engine_of({name: ((-1, *row), "float32") for name, row in shapes.items()})


def test_an_engine_that_does_not_load_is_built_again_once(folder: Path) -> None:
    one = fake_set(folder)
    one.plan("head")
    good = good_engine(one, "head")
    assert one.load(Loader(1, good), "head") is good
    assert one.trt.built == ["head", "head"]
    with pytest.raises(RuntimeUnavailable, match=r"fake_trt 1\.0 does not load the head engine it built on a GPU"):
        one.load(Loader(2, good), "head")
    fresh = fake_set(folder, lanes=8)
    with pytest.raises(RuntimeUnavailable, match="does not load"):
        fresh.load(Loader(1, good), "head")
    assert fresh.trt.built == ["head"]  # what was built just now is not built again


def test_an_engine_with_other_tensors_is_refused(folder: Path) -> None:
    one = fake_set(folder)
    with pytest.raises(ContractError, match=r"step engine.*contract"):
        one.load(Loader(0, good_engine(one, "head")), "step")
    packing = Packing.of(one.contract)
    half = {name: ((-1, *row), "float16") for name, row in io_shapes("head", packing).items()}
    with pytest.raises(ContractError, match="float16"):
        check_io(one.trt, "head", packing, half)


# ---- what is missing, in one line


def refuse(error: Exception) -> Any:
    def load(name: str) -> Any:
        raise error

    return load


@pytest.mark.parametrize("error", [ModuleNotFoundError("No module named 'x'"), ImportError("libnvinfer.so.10: cannot "
    "open shared object file"), OSError("wrong ELF class")])  # fmt: skip
def test_a_missing_or_broken_library_is_one_line(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "import_module", refuse(error))
    with pytest.raises(RuntimeUnavailable, match=r"pip install 'hpstm-live\[tensorrt\]'") as caught:
        find_library()
    assert str(error) in str(caught.value)
    assert "\n" not in str(caught.value)


def fake_cuda(code: int, count: int, capability: tuple[int, int] = (8, 9)) -> Any:
    properties = SimpleNamespace(name=b"a GPU", major=capability[0], minor=capability[1])
    return SimpleNamespace(
        cudaGetDeviceCount=lambda: (code, count), cudaGetDeviceProperties=lambda i: (0, properties),
        cudaGetErrorString=lambda code: (0, b"driver too old"),
    )  # fmt: skip


GPUS = {
    "driver": (fake_cuda(35, 0), r"no usable NVIDIA GPU: driver too old \(CUDA error 35\)"),
    "none": (fake_cuda(0, 0), r"no usable NVIDIA GPU: no device"),
    "old": (fake_cuda(0, 1, (6, 1)), r"a GPU has compute capability 6\.1, TensorRT needs 7\.5"),
}


@pytest.mark.parametrize("what", list(GPUS))
def test_no_gpu_or_an_old_one_is_one_line(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bindings, said = GPUS[what]
    monkeypatch.setattr(cuda, "bindings", lambda: bindings)
    with pytest.raises(RuntimeUnavailable, match=said):
        find_gpu()
    with pytest.raises(RuntimeUnavailable, match=said):
        PoseFilter.load(runtime="tensorrt")


def test_a_gpu_that_is_there_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "bindings", lambda: fake_cuda(0, 1))
    assert find_gpu() == ADA


def test_full_tensorrt_without_a_gpu_builds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "bindings", lambda: fake_cuda(0, 0))
    monkeypatch.setattr(engines, "import_module", lambda name: library())
    with pytest.raises(RuntimeUnavailable, match="no usable NVIDIA GPU"):
        engines.library_and_gpu()
    monkeypatch.setattr(engines, "import_module", lambda name: library(ComputeCapability=Known))
    assert engines.library_and_gpu()[1] is None


def test_serve_says_what_is_missing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(cuda, "bindings", lambda: fake_cuda(35, 0))
    assert main(["serve", "--runtime", "tensorrt", "--in", "tcp://127.0.0.1:*", "--out", "tcp://127.0.0.1:*",
                 "--control", "tcp://127.0.0.1:*"]) == 2  # fmt: skip
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines == ["hpstm: no usable NVIDIA GPU: driver too old (CUDA error 35); use runtime 'onnx' on a CPU"]


def test_bad_settings_are_named(folder: Path) -> None:
    with pytest.raises(ConfigError, match="precision 'int4'"):
        fake_set(folder, precision="int4")
    with pytest.raises(ConfigError, match="lanes must be at least 1"):
        fake_set(folder, lanes=0)


def test_doctor_says_what_is_in_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "import_module", refuse(ImportError("No module named 'tensorrt'")))
    assert [mark for mark, *_ in doctor._tensorrt()] == [doctor.ABSENT]
    monkeypatch.setattr(engines, "import_module", lambda name: library())
    monkeypatch.setattr(cuda, "bindings", lambda: fake_cuda(35, 0))
    marks, _, said = zip(*doctor._tensorrt())
    assert marks == (doctor.OK, doctor.ABSENT)
    assert said[0] == "fake_trt 1.0"
    assert "driver too old" in said[1]
