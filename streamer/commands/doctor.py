"""``hpstm doctor``: what works on this machine, and what to install for the rest; one line each.

OK: works. --: not here, not needed for the default path. FAIL: the server will not run; exit code 1.
"""

from __future__ import annotations

import ctypes.util
import importlib
import os
import platform
import sys
from collections.abc import Iterator
from functools import partial
from importlib import metadata
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated

import numpy as np
from cyclopts import Parameter

from model.skeleton import ancestor_matrix, rest_offsets
from streamer.clock import SECOND_NS, now_ns
from streamer.commands.options import Key, ServerKey, client_keys
from streamer.errors import HPSTMError
from streamer.frames import Frame
from streamer.wire.security import need_curve

if TYPE_CHECKING:
    from streamer.filter import PoseFilter
    from streamer.wire.security import ClientKeys

OK, ABSENT, FAIL = "OK", "--", "FAIL"
Finding = tuple[str, str, str]  # mark, what, said


def doctor(
    *,
    control_endpoint: Annotated[str | None, Parameter("--control")] = None,
    key: Key = None,
    server_key: ServerKey = None,
) -> int:
    """Say what works on this machine, and what to install for the rest; 0 when nothing failed.

    Args:
        control_endpoint: Endpoint of a server that runs: say how far its clock is from this machine's.
    """
    curve = client_keys(key, server_key, None)
    clock = partial(_clock, control_endpoint, curve)
    failed = False
    for check in (
        _python, _packages, _curve, _onnxruntime, _native, _model, _ports, clock, _mediapipe, _gpu, _tensorrt, _torch
    ):  # fmt: skip
        for mark, what, said in check():
            print(f"{mark:4}  {what:14}  {said}")
            failed |= mark == FAIL
    return int(failed)


def _python() -> Iterator[Finding]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    pools = os.environ.get("OMP_NUM_THREADS", "unset")
    yield OK, "python", f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    yield OK, "threads", f"{cores} cores usable, OMP_NUM_THREADS {pools}; the filter itself uses --threads (1)"


def _packages() -> Iterator[Finding]:
    for name in ("numpy", "onnxruntime", "pyzmq", "msgpack", "rich", "cyclopts"):
        found = find_spec("zmq" if name == "pyzmq" else name) is not None
        yield (OK, name, metadata.version(name)) if found else (FAIL, name, "missing; pip install hpstm-live")


def _curve() -> Iterator[Finding]:
    try:
        need_curve()
        yield OK, "curve", "encryption for servers beyond this machine: serve --curve DIR, keys by hpstm keys"
    except HPSTMError as error:
        yield ABSENT, "curve", str(error)


def _onnxruntime() -> Iterator[Finding]:
    try:
        providers = importlib.import_module("onnxruntime").get_available_providers()
    except ImportError as error:
        yield FAIL, "onnx providers", str(error)
        return
    mark = OK if "CPUExecutionProvider" in providers else FAIL
    yield mark, "onnx providers", ", ".join(p.removesuffix("ExecutionProvider") for p in providers)


def _native() -> Iterator[Finding]:
    from streamer.runtimes.native.build import compiler

    try:
        yield OK, "native", f"C compiler {' '.join(compiler())}: the model is compiled at the first start"
    except HPSTMError as error:
        yield ABSENT, "native", f"{error}; until then runtime onnx, some times slower"


def _model() -> Iterator[Finding]:
    try:
        from streamer.filter import PoseFilter

        pose_filter = PoseFilter.load()
        push_ms = _push_ms(pose_filter)
    except (HPSTMError, OSError, ImportError, ValueError) as error:
        yield FAIL, "model", str(error)
        return
    contract = pose_filter.runtime.contract
    said = f"{contract.name}, contract {contract.version}, window {contract.window}, {contract.layers} layers"
    yield OK, "model", f"{said}, weights sha256 {contract.weights_sha256[:16]}"
    yield OK, "one push", f"{push_ms:.2f} ms on runtime {pose_filter.runtime.name} (median of 100, 24 joints)"


def _push_ms(pose_filter: PoseFilter) -> float:
    """Median time of one push [ms], warm."""
    positions = (ancestor_matrix() @ rest_offsets()).astype(np.float32)
    took = []
    for n in range(120):
        start = now_ns()
        pose_filter.push(Frame("doctor", n, n * SECOND_NS // 60, positions))
        took.append(now_ns() - start)
    return float(np.median(took[20:])) / 1e6


def _ports() -> Iterator[Finding]:
    import zmq

    from streamer.server.control import request
    from streamer.wire.endpoints import DEFAULT_CONTROL, DEFAULT_IN, DEFAULT_OUT

    if request(DEFAULT_CONTROL, "status", 0.2) is not None:
        yield OK, "ports", f"a server already runs at {DEFAULT_IN}"
        return
    for endpoint in (DEFAULT_IN, DEFAULT_OUT, DEFAULT_CONTROL):
        with zmq.Context() as context, context.socket(zmq.PAIR) as socket:
            try:
                socket.bind(endpoint)
            except zmq.ZMQError as error:
                yield FAIL, "ports", f"{endpoint}: {error}; give `hpstm serve` other --in, --out, --control"
                continue
        yield OK, "ports", f"{endpoint} is free"


def _mediapipe() -> Iterator[Finding]:
    """Whether ``hpstm source mediapipe`` can run here; the libraries are loaded, since to be there is not enough."""
    from streamer.sources.camera import LIBRARIES, PACKAGES

    missing = [name for name in LIBRARIES if sys.platform == "linux" and not _loads(name)]
    if find_spec("mediapipe") is None:
        also = f"; and {', '.join(missing)}: {PACKAGES}" if missing else ""
        yield ABSENT, "MediaPipe", f"not installed; for cameras and videos: pip install 'hpstm-live[mediapipe]'{also}"
        return
    version = metadata.version("mediapipe")
    if missing:
        yield ABSENT, "MediaPipe", f"{version} needs {', '.join(missing)}: {PACKAGES}"
    elif version.startswith("0."):
        yield ABSENT, "MediaPipe", f"{version}; source mediapipe is made for 1.2: pip install 'mediapipe>=1.2'"
    else:
        said = "since 1.0 there is no mp.solutions and no model inside: hpstm models mediapipe makes one"
        yield OK, "MediaPipe", f"{version}, the Tasks API ({said})"


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def _clock(endpoint: str | None, curve: ClientKeys | None) -> Iterator[Finding]:
    from streamer.wire.control import ControlClient

    if endpoint is None:
        return
    with ControlClient(endpoint, curve=curve) as client:
        offset = client.clock()
    if offset is None:
        yield ABSENT, "clock", f"no server says its time at {endpoint}"
    else:
        yield OK, "clock", f"of the server at {endpoint}: {offset} of this machine's"


def _gpu() -> Iterator[Finding]:
    library = ctypes.util.find_library("cuda") or ("nvcuda.dll" if sys.platform == "win32" else None)
    if library is None:
        yield ABSENT, "NVIDIA GPU", "no driver (libcuda); the CPU runtime needs none"
        return
    try:
        driver, count = ctypes.CDLL(library), ctypes.c_int(0)
        code = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
    except (OSError, AttributeError) as error:
        yield ABSENT, "NVIDIA GPU", f"driver library does not load: {error}"
        return
    if code or count.value == 0:
        yield ABSENT, "NVIDIA GPU", f"driver installed, no device (CUDA error {code})"
    else:
        yield OK, "NVIDIA GPU", f"{count.value} device(s)"


def _tensorrt() -> Iterator[Finding]:
    """Whether ``--runtime tensorrt`` can run here; the first thing that is in its way."""
    from model.contract import WEIGHTS
    from streamer.filter import PoseFilter
    from streamer.runtimes import load_runtime
    from streamer.runtimes.cuda import find_gpu
    from streamer.runtimes.engines import EngineSet, find_library
    from streamer.runtimes.rows import GRAPHS

    try:
        trt = find_library()
        yield OK, "TensorRT", f"{trt.__name__} {trt.__version__}"
        gpu = find_gpu()
        contract = load_runtime("onnx").contract
        engines = EngineSet(WEIGHTS, contract, lanes=64, precision="fp16", trt=trt, gpu=gpu)
        states = sorted({engines.state(graph) for graph in GRAPHS})
        if states != ["ready"]:
            yield OK, "engines", f"for {gpu.name}: {', '.join(states)}; the next start of the runtime builds them"
            return
        yield OK, "engines", f"for {gpu.name}: ready, in {engines.cache}"
        push_ms = _push_ms(PoseFilter.load(runtime="tensorrt"))
    except (HPSTMError, OSError, ValueError) as error:
        yield ABSENT, "TensorRT", str(error)
        return
    yield OK, "one push", f"{push_ms:.2f} ms on TensorRT (median of 100, 24 joints)"


def _torch() -> Iterator[Finding]:
    if find_spec("torch") is None:  # found, not imported: it takes seconds
        yield ABSENT, "torch", "not installed; to train or export: pip install 'hpstm-live[train]'"
    else:
        yield OK, "torch", f"{metadata.version('torch')} (training and the reference runtime only)"
