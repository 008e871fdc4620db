"""The candidates of ``hpstm bench alternatives``: each makes a function from a step's inputs to its positions.

ONNX Runtime in its levels of optimisation, precisions, forms of the ring and ways to be called; OpenVINO; torch eager
and compiled; the native runtime. What is not installed says so when it is imported.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from bench.drive import step_alone
from model.contract import Contract
from streamer.runtimes import F32, load_runtime

Arrays = dict[str, Any]  # by the names of the graph's inputs or outputs
Step = Callable[[Arrays], F32]  # frame, time, tau_s, offsets_m, previous -> positions (24, 3) [m]
Call = Callable[[Arrays], Arrays]  # everything that a graph takes -> what it gives
ALL = ort.GraphOptimizationLevel.ORT_ENABLE_ALL


class Setting:
    """The model folder, and a folder to make other files in."""

    def __init__(self, folder: Path, scratch: Path) -> None:
        self.folder, self.scratch = folder, scratch

    @property
    def step(self) -> Path:
        return self.folder / "step.onnx"

    @cached_property
    def contract(self) -> Contract:
        return load_runtime("onnx", self.folder).contract

    def zeros(self) -> Arrays:
        """Every input of a new actor."""
        arrays: Arrays = {
            name: np.zeros((1, *shape), np.float32) for name, shape in self.contract.input_shapes().items()
        }
        arrays["blocked"].fill(self.contract.blocked)
        return arrays | {"slot": np.zeros(1, np.int64)}


# ---- state from step to step


def carry(given: Arrays, told: Arrays, frames: int, c: Contract) -> None:
    """Write what a step told into what the next is given; the ring's rows only where the graph does not keep it."""
    for name in told:
        if name.startswith("out_"):
            given[name[4:]] = told[name]
    if "rows" in told:
        write_rows(given, told["rows"], frames % c.window, c)
    given["slot"][0] = (frames + 1) % c.window


def write_rows(given: Arrays, rows: F32, slot: int, c: Contract) -> None:
    """The host's part where the graph only gives the new row (1, L, 2, H, D) of each ring."""
    for i in range(c.layers):
        given[f"keys_{i}"][0, :, slot], given[f"values_{i}"][0, :, slot] = rows[0, i]
    given["blocked"][0, slot] = 0.0


def carried(call: Call, setting: Setting) -> Step:
    """A step of arrays in, new arrays out."""
    given, frames = setting.zeros(), 0

    def step(inputs: Arrays) -> F32:
        nonlocal frames
        given.update(inputs)
        told = call(given)
        carry(given, told, frames, setting.contract)
        frames += 1
        positions: F32 = told["positions"][0]
        return positions

    return step


# ---- ONNX Runtime


def session(path: Path, level: ort.GraphOptimizationLevel = ALL) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.graph_optimization_level, options.log_severity_level = level, 3
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def dicts(path: Path, setting: Setting) -> Step:
    """Called with dictionaries of arrays; it allocates its answers."""
    run = session(path)
    used, names = {i.name for i in run.get_inputs()}, [out.name for out in run.get_outputs()]

    def call(given: Arrays) -> Arrays:
        return dict(zip(names, run.run(None, {name: given[name] for name in used}), strict=True))

    return carried(call, setting)


def bound(path: Path, setting: Setting, level: ort.GraphOptimizationLevel = ALL) -> Step:
    """Every buffer allocated and bound once; what a step changes is in two, read and written in turn."""
    run, c = session(path, level), setting.contract
    told: Arrays = {}
    for out in run.get_outputs():
        told[out.name] = np.zeros((1, *out.shape[1:]), np.float32)
    states = [setting.zeros(), setting.zeros()]  # bound by address: they live as long as ``step``
    changing = {name[4:] for name in told if name.startswith("out_")}
    bindings = []
    for old, new in (states, states[::-1]):
        binding = run.io_binding()
        for i in run.get_inputs():
            array = old[i.name] if i.name in changing else states[0][i.name]
            binding.bind_input(i.name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
        for name, array in told.items():
            array = new[name[4:]] if name[4:] in changing else array
            binding.bind_output(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
        bindings.append(binding)
    frames = 0

    def step(inputs: Arrays) -> F32:
        nonlocal frames
        for name, array in inputs.items():
            states[0][name][:] = array
        states[0]["slot"][0] = frames % c.window
        run.run_with_iobinding(bindings[frames % 2])
        if "rows" in told:
            write_rows(states[0], told["rows"], frames % c.window, c)
        frames += 1
        positions: F32 = told["positions"][0]
        return positions

    return step


def at_level(level: ort.GraphOptimizationLevel, setting: Setting) -> Step:
    return bound(setting.step, setting, level)


def transformers(setting: Setting) -> Step:
    from onnxruntime.transformers.optimizer import optimize_model

    made = setting.scratch / "fused.onnx"
    heads, width = setting.contract.heads, setting.contract.latent
    optimize_model(str(setting.step), "bert", heads, width, opt_level=0).save_model_to_file(str(made))
    return bound(made, setting)


def int8(setting: Setting) -> Step:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    from bench.graph_forms import with_matmuls

    model, linear, _ = with_matmuls(setting.folder)
    made = setting.scratch / "int8.onnx"
    quantize_dynamic(model, made, per_channel=True, weight_type=QuantType.QInt8, nodes_to_quantize=linear)
    return bound(made, setting)


def n_bits(bits: int, setting: Setting) -> Step:
    from onnxruntime.quantization.matmul_nbits_quantizer import DefaultWeightOnlyQuantConfig, MatMulNBitsQuantizer

    from bench.graph_forms import with_matmuls

    model, _, others = with_matmuls(setting.folder)
    config = DefaultWeightOnlyQuantConfig(block_size=32, is_symmetric=True, accuracy_level=4, bits=bits)
    quantizer = MatMulNBitsQuantizer(model, bits=bits, nodes_to_exclude=others, algo_config=config)
    quantizer.process()
    made = setting.scratch / "bits.onnx"
    quantizer.model.save_model_to_file(str(made))
    return bound(made, setting)


def products_in(kind: str, setting: Setting) -> Step:
    from onnx import TensorProto

    from bench.graph_forms import with_products_in

    return bound(with_products_in(setting.folder, getattr(TensorProto, kind), setting.scratch / "low.onnx"), setting)


def ring_in_graph(form: str, setting: Setting) -> Step:
    from bench.graph_forms import with_ring

    return bound(with_ring(setting.folder, setting.contract, form, setting.scratch / "ring.onnx"), setting)


# ---- others


def openvino(precision: str, setting: Setting) -> Step:
    import openvino as ov

    core = ov.Core()
    model = core.read_model(setting.step)
    zeros = setting.zeros()
    model.reshape({i.any_name: list(zeros[i.any_name].shape) for i in model.inputs})
    hints = {"INFERENCE_NUM_THREADS": 1, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": precision}
    compiled = core.compile_model(model, "CPU", hints)
    request, used = compiled.create_infer_request(), [i.any_name for i in compiled.inputs]

    def call(given: Arrays) -> Arrays:
        out = request.infer({name: given[name] for name in used}, share_inputs=True)
        return {port.any_name: array for port, array in out.items()}

    return carried(call, setting)


def torch_compiled(ahead: bool, setting: Setting) -> Step:
    """torch.compile, or AOTInductor: a library compiled ahead of time."""
    import torch

    from model.export import StepGraph, example_inputs
    from model.train import load_model

    torch.set_num_threads(1)
    model = load_model(setting.folder / "weights.safetensors")
    graph = StepGraph(model).eval()
    examples = example_inputs(model, 1)
    arguments = tuple(examples[name] for name in graph.inputs)
    with torch.no_grad():
        if ahead:
            from torch._inductor import aoti_compile_and_package, aoti_load_package

            package = str(setting.scratch / "step.pt2")
            aoti_compile_and_package(torch.export.export(graph, arguments), package_path=package)
            run: Any = aoti_load_package(package)
        else:
            run = torch.compile(graph, fullgraph=True, dynamic=False)

    def call(given: Arrays) -> Arrays:
        with torch.inference_mode():
            out = run(*(torch.from_numpy(given[name]) for name in graph.inputs))
        return {name: x.numpy() for name, x in zip(graph.outputs, out, strict=True)}

    return carried(call, setting)


def runtime(name: str, setting: Setting) -> Step:
    """A runtime of this program, as it ships."""
    return step_alone(load_runtime(name, setting.folder))


def native_half(setting: Setting) -> Step:
    """The native runtime on the weights rounded to bfloat16, as ``hpstm export --half`` writes them."""
    from model.export import export_weights

    export_weights(setting.folder / "weights.safetensors", setting.scratch / "half", half=True)
    return step_alone(load_runtime("native", setting.scratch / "half"))


LEVELS = ort.GraphOptimizationLevel
CANDIDATES: dict[str, Callable[[Setting], Step]] = {
    "native": partial(runtime, "native"),
    "native, bfloat16 weights": native_half,
    "onnx runtime, as shipped": partial(runtime, "onnx"),
    "ort, no optimisation": partial(at_level, LEVELS.ORT_DISABLE_ALL),
    "ort, basic": partial(at_level, LEVELS.ORT_ENABLE_BASIC),
    "ort, extended": partial(at_level, LEVELS.ORT_ENABLE_EXTENDED),
    "ort, all": partial(at_level, LEVELS.ORT_ENABLE_ALL),
    "ort, transformers optimizer": transformers,
    "ort, called with dicts": lambda setting: dicts(setting.step, setting),
    "ort, ring shifted in the graph": partial(ring_in_graph, "shift"),
    "ort, ring by ScatterElements": partial(ring_in_graph, "scatter"),
    "ort, ring by TensorScatter": partial(ring_in_graph, "tensor_scatter"),
    "ort, int8 dynamic": int8,
    "ort, MatMulNBits 8": partial(n_bits, 8),
    "ort, MatMulNBits 4": partial(n_bits, 4),
    "ort, bfloat16 products": partial(products_in, "BFLOAT16"),
    "ort, float16 products": partial(products_in, "FLOAT16"),
    "openvino, float32": partial(openvino, "f32"),
    "openvino, bfloat16": partial(openvino, "bf16"),
    "torch, eager": partial(runtime, "torch"),
    "torch.compile": partial(torch_compiled, False),
    "torch, AOTInductor": partial(torch_compiled, True),
}
