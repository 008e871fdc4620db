"""TensorRT engines of a model folder: built once, kept in files that say what they are of, rebuilt when that changes.

One code for ``tensorrt_rtx`` and ``tensorrt``. RTX builds ahead of time, without a GPU, one engine for all the
architectures it knows; the other builds on the GPU it is for. RTX's building is checked without a GPU
(tests/test_engines.py); full TensorRT's, and loading either's engines, is not.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from model.contract import WEIGHTS, Contract, sha256
from streamer.errors import ConfigError, ContractError, RuntimeUnavailable
from streamer.runtimes.cuda import Gpu, find_gpu
from streamer.runtimes.rows import FORM, GRAPHS, PRECISIONS, Packing

LIBRARIES = ("tensorrt_rtx", "tensorrt")
log = logging.getLogger(__name__)


def find_library(name: str | None = None) -> Any:
    """The module ``name``, or the first of LIBRARIES that imports. Raises RuntimeUnavailable: why none does."""
    wrong = []
    for candidate in (name,) if name else LIBRARIES:
        try:
            return import_module(candidate)
        except (ImportError, OSError) as error:  # OSError: installed, but a library of its own does not load
            wrong.append(str(error))
    raise RuntimeUnavailable(f"TensorRT is not here: pip install 'hpstm-live[tensorrt]' ({'; '.join(wrong)})")


def library_and_gpu(name: str | None = None) -> tuple[Any, Gpu | None]:
    """What to build engines with, and for: no GPU where there is none and the library does without.

    Raises:
        RuntimeUnavailable: no library, or one that builds only on a GPU, and there is none; says why.
    """
    trt = find_library(name)
    try:
        return trt, find_gpu()
    except RuntimeUnavailable:
        if architectures(trt):
            return trt, None
        raise


def architectures(trt: Any) -> list[str]:
    """Names like SM89 of what a library builds for ahead of time; none for full TensorRT."""
    known = getattr(getattr(trt, "ComputeCapability", None), "__members__", {})
    return [name for name in known if name.startswith("SM")]


@dataclass(frozen=True)
class EngineKey:
    """What an engine is of; it is good for nothing else."""

    graph: str
    precision: str
    lanes: int  # most rows of a call
    library: str
    version: str
    targets: str  # compute capabilities
    onnx_sha256: str
    weights_sha256: str
    form: int = FORM

    def file_name(self) -> str:
        parts = (self.graph, self.precision, f"{self.lanes}lanes", self.library, self.version, self.targets)
        return "-".join((*parts, self.weights_sha256[:12])) + ".engine"


@dataclass(frozen=True)
class EngineSet:
    """The engines of one model folder for one library and GPU."""

    folder: Path
    contract: Contract
    lanes: int
    precision: str
    trt: Any  # the library
    gpu: Gpu | None  # None: build ahead of time

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise ConfigError(f"precision {self.precision!r} does not exist; choose one of {', '.join(PRECISIONS)}")
        if self.lanes < 1:
            raise ConfigError(f"lanes must be at least 1, not {self.lanes}")

    @property
    def cache(self) -> Path:
        """Where the files lie: beside the model, or for the bundled model in the user's cache."""
        return user_cache() if self.folder.resolve() == WEIGHTS.resolve() else self.folder / "engines"

    def of(self) -> str:
        """The library and its version, for people."""
        return f"{self.trt.__name__} {self.trt.__version__}"

    def key(self, graph: str) -> EngineKey:
        names = self.targets() or [_architecture(self.gpu)]
        return EngineKey(
            graph, self.precision, self.lanes, self.trt.__name__, self.trt.__version__,
            "sm" + "_".join(name.removeprefix("SM") for name in names),
            sha256(self.folder / f"{graph}.onnx"), self.contract.weights_sha256,
        )  # fmt: skip

    def targets(self) -> list[str]:
        """What to build for ahead of time; empty: the GPU that is here."""
        known = architectures(self.trt)
        return known if self.gpu is None or _architecture(self.gpu) in known else []

    def state(self, graph: str) -> str:
        """One of: ready, absent, or why the file is stale."""
        return self._read(graph)[1]

    def plan(self, graph: str) -> tuple[bytes, bool]:
        """The serialized engine of a graph, and whether it was built just now; a file that is not of this key is
        replaced."""
        found, state = self._read(graph)
        if found is not None:
            return found, False
        log.info("building the %s engine (%s)", graph, state)
        plan = self.build(graph)
        _write(self.cache / self.key(graph).file_name(), json.dumps(asdict(self.key(graph))).encode() + b"\n" + plan)
        return plan, True

    def _read(self, graph: str) -> tuple[bytes | None, str]:
        key = self.key(graph)
        path = self.cache / key.file_name()
        try:
            header, _, plan = path.read_bytes().partition(b"\n")
            said = json.loads(header)
        except FileNotFoundError:
            return None, "absent"
        except (OSError, ValueError) as error:
            return None, f"{path} is damaged: {error}"
        if not isinstance(said, dict) or not plan:
            return None, f"{path} is damaged"
        other = [name for name, want in asdict(key).items() if said.get(name) != want]
        return (None, f"{path} is stale: of another {', '.join(other)}") if other else (plan, "ready")

    def build(self, graph: str) -> bytes:
        """Build the engine of one graph. Raises RuntimeUnavailable with TensorRT's first complaint."""
        from streamer.runtimes.device_graph import device_graph

        trt, packing = self.trt, Packing.of(self.contract)
        model = device_graph(self.folder / f"{graph}.onnx", packing, self.precision).SerializeToString()
        logger = trt.Logger(trt.Logger.ERROR)
        builder = trt.Builder(logger)
        network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        parser = trt.OnnxParser(network, logger)
        if not parser.parse(model):
            said = parser.get_error(0).desc() if parser.num_errors else "no reason given"
            raise RuntimeUnavailable(f"{self.of()} cannot take {graph}.onnx: {said}")
        tensors = [network.get_input(i) for i in range(network.num_inputs)]
        tensors += [network.get_output(i) for i in range(network.num_outputs)]
        check_io(trt, graph, packing, {t.name: (tuple(t.shape), t.dtype) for t in tensors})
        plan = builder.build_serialized_network(network, self._config(builder, network))
        if plan is None:
            raise RuntimeUnavailable(f"{self.of()} built no engine of {graph}.onnx; its messages say why")
        return bytes(plan)

    def _config(self, builder: Any, network: Any) -> Any:
        trt, config, profile = self.trt, builder.create_builder_config(), builder.create_optimization_profile()
        config.clear_flag(trt.BuilderFlag.TF32)  # on by default; its ten bits of mantissa are millimetres of a body
        if hasattr(trt.BuilderFlag, "REQUIRE_USER_ALLOCATION"):  # RTX: what runs must be capturable
            config.set_flag(trt.BuilderFlag.REQUIRE_USER_ALLOCATION)
        for i in range(network.num_inputs):
            tensor = network.get_input(i)
            row = tuple(tensor.shape)[1:]
            profile.set_shape(tensor.name, (1, *row), (1, *row), (self.lanes, *row))
        config.add_optimization_profile(profile)
        targets = self.targets()
        if targets:
            config.num_compute_capabilities = len(targets)
            for i, name in enumerate(targets):
                config.set_compute_capability(getattr(trt.ComputeCapability, name), i)
        return config

    def load(self, runtime: Any, graph: str) -> Any:
        """The engine of one graph on this GPU. A file that TensorRT does not take is built again, once.

        Raises:
            RuntimeUnavailable: what it builds, it does not load. ContractError: the engine is of another model.
        """
        plan, fresh = self.plan(graph)
        engine = runtime.deserialize_cuda_engine(plan)
        if engine is None and not fresh:
            log.warning("TensorRT refuses the %s engine of %s; building it again", graph, self.cache)
            (self.cache / self.key(graph).file_name()).unlink(missing_ok=True)
            engine = runtime.deserialize_cuda_engine(self.plan(graph)[0])
        if engine is None:
            where = self.gpu.name if self.gpu else "a machine without a GPU"
            raise RuntimeUnavailable(f"{self.of()} does not load the {graph} engine it built on {where}")
        names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        io = {n: (tuple(engine.get_tensor_shape(n)), engine.get_tensor_dtype(n)) for n in names}
        check_io(self.trt, graph, Packing.of(self.contract), io)
        return engine


def _architecture(gpu: Gpu | None) -> str:
    assert gpu is not None
    return "SM{}{}".format(*gpu.capability)


def check_io(trt: Any, graph: str, packing: Packing, tensors: Mapping[str, tuple[tuple[int, ...], Any]]) -> None:
    """Raises ContractError unless the tensors of a network or engine are those of ``io_shapes``, in float32."""
    want = {name: ((-1, *row), trt.float32) for name, row in io_shapes(graph, packing).items()}
    if dict(tensors) != want:
        said = ", ".join(f"{name} {shape} {dtype}" for name, (shape, dtype) in tensors.items())
        raise ContractError(f"the {graph} engine's tensors are not the contract's: {said}; export the model again")


def io_shapes(graph: str, packing: Packing) -> dict[str, tuple[int, ...]]:
    """Shape of a row of each input and output of a device graph."""
    told = packing.skeleton if graph == "skeleton" else packing.pose
    shapes: dict[str, tuple[int, ...]] = {
        "request": (packing.request.width,), "state": (packing.state.width,), "answer": (told.width,),
    }  # fmt: skip
    if graph == "step":
        shapes |= {"ring": packing.ring, "next_state": (packing.state.width,), "next_ring": packing.ring}
    return shapes


def build_ahead(engines: EngineSet) -> list[str]:
    """Build what is not there; a line on each engine."""
    lines = []
    for graph in GRAPHS:
        state = engines.state(graph)
        plan, fresh = engines.plan(graph)
        path = engines.cache / engines.key(graph).file_name()
        lines.append(f"{path}: {len(plan) / 1e6:.1f} MB, {f'built ({state})' if fresh else 'up to date'}")
    return lines


def user_cache() -> Path:
    """$HPSTM_CACHE, or hpstm in the cache folder of the platform."""
    if "HPSTM_CACHE" in os.environ:
        return Path(os.environ["HPSTM_CACHE"])
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", "~")).expanduser() / "hpstm"
    return Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "hpstm"


def _write(path: Path, content: bytes) -> None:
    """Write whole or not at all; a folder that cannot be written costs only the time to build next time."""
    part = path.with_suffix(f".{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(content)
        part.replace(path)
    except OSError as error:
        log.warning("the engine is not kept: %s", error)
