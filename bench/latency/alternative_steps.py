"""The candidates of ``hpstm bench alternatives``: each makes a function from a step's inputs to its positions.

ONNX Runtime in its levels of optimisation, precisions, forms of the ring and ways to be called; OpenVINO; torch eager
and compiled; the native runtime. What is not installed says so when it is imported.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import onnxruntime as ort

from bench.drive import step_alone
from bench.latency.stateful import Arrays, Setting, Step, bound, carried
from streamer.runtimes import load_runtime

ALL = ort.GraphOptimizationLevel.ORT_ENABLE_ALL


class Ort:
    """A session on one thread."""

    def __init__(self, path: Path, level: ort.GraphOptimizationLevel = ALL) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.graph_optimization_level, options.log_severity_level = level, 3
        self.session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.inputs = [i.name for i in self.session.get_inputs()]
        self.outputs = {out.name: (1, *out.shape[1:]) for out in self.session.get_outputs()}

    def bind(self, inputs: Arrays, outputs: Arrays) -> Callable[[], object]:
        binding = self.session.io_binding()
        for arrays, add in ((inputs, binding.bind_input), (outputs, binding.bind_output)):
            for name, array in arrays.items():
                add(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
        return lambda: self.session.run_with_iobinding(binding)


def dicts(setting: Setting) -> Step:
    """Called with dictionaries of arrays; it allocates its answers."""
    engine = Ort(setting.step)

    def call(given: Arrays) -> Arrays:
        told = engine.session.run(None, {name: given[name] for name in engine.inputs})
        return dict(zip(engine.outputs, told, strict=True))

    return carried(call, setting)


def at_level(level: ort.GraphOptimizationLevel, setting: Setting) -> Step:
    return bound(Ort(setting.step, level), setting)


def transformers(setting: Setting) -> Step:
    from onnxruntime.transformers.optimizer import optimize_model

    made = setting.scratch / "fused.onnx"
    heads, width = setting.contract.heads, setting.contract.latent
    optimize_model(str(setting.step), "bert", heads, width, opt_level=0).save_model_to_file(str(made))
    return bound(Ort(made), setting)


def int8(setting: Setting) -> Step:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    from bench.latency.graph_forms import with_matmuls

    model, linear, _ = with_matmuls(setting.folder)
    made = setting.scratch / "int8.onnx"
    quantize_dynamic(model, made, per_channel=True, weight_type=QuantType.QInt8, nodes_to_quantize=linear)
    return bound(Ort(made), setting)


def n_bits(bits: int, setting: Setting) -> Step:
    from onnxruntime.quantization.matmul_nbits_quantizer import DefaultWeightOnlyQuantConfig, MatMulNBitsQuantizer

    from bench.latency.graph_forms import with_matmuls

    model, _, others = with_matmuls(setting.folder)
    config = DefaultWeightOnlyQuantConfig(block_size=32, is_symmetric=True, accuracy_level=4, bits=bits)
    quantizer = MatMulNBitsQuantizer(model, bits=bits, nodes_to_exclude=others, algo_config=config)
    quantizer.process()
    made = setting.scratch / "bits.onnx"
    quantizer.model.save_model_to_file(str(made))
    return bound(Ort(made), setting)


def products_in(kind: str, setting: Setting) -> Step:
    from onnx import TensorProto

    from bench.latency.graph_forms import with_products_in

    made = with_products_in(setting.folder, getattr(TensorProto, kind), setting.scratch / "low.onnx")
    return bound(Ort(made), setting)


def ring_in_graph(form: str, setting: Setting) -> Step:
    from bench.latency.graph_forms import with_ring

    made = with_ring(setting.folder, setting.contract, form, setting.scratch / "ring.onnx")
    return bound(Ort(made), setting)


class OpenVino:
    """A compiled model on one thread."""

    def __init__(self, path: Path, precision: str, shapes: Arrays) -> None:
        import openvino as ov

        self._ov, core = ov, ov.Core()
        model = core.read_model(path)
        model.reshape({i.any_name: list(shapes[i.any_name].shape) for i in model.inputs})
        hints = {"INFERENCE_NUM_THREADS": 1, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": precision}
        self._compiled = core.compile_model(model, "CPU", hints)
        self.inputs = [i.any_name for i in self._compiled.inputs]
        self.outputs = {out.any_name: tuple(out.shape) for out in self._compiled.outputs}

    def bind(self, inputs: Arrays, outputs: Arrays) -> Callable[[], object]:
        request = self._compiled.create_infer_request()
        for name, array in (inputs | outputs).items():
            request.set_tensor(name, self._ov.Tensor(array, shared_memory=True))
        run: Callable[[], object] = request.infer
        return run


def openvino(precision: str, setting: Setting) -> Step:
    return bound(OpenVino(setting.step, precision, setting.zeros()), setting)


def torch_compiled(ahead: bool, setting: Setting) -> Step:
    """torch.compile, or AOTInductor: a library compiled ahead of time."""
    import torch

    from model.export import StepGraph, example_inputs
    from model.training.train import load_model

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


def native_float32(setting: Setting) -> Step:
    """The native runtime on weights a millionth off: of what ``hpstm export --int8`` rounded nothing is left."""
    import torch
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    from model.export import export_weights

    weights = load_file(setting.folder / "weights.safetensors")
    torch.manual_seed(1)
    off = {name: x * (1 + 1e-6 * torch.randn(x.shape)) if x.ndim == 2 else x for name, x in weights.items()}
    with safe_open(setting.folder / "weights.safetensors", "pt") as file:
        save_file(off, setting.scratch / "off.safetensors", file.metadata())
    export_weights(setting.scratch / "off.safetensors", setting.scratch / "off")
    return step_alone(load_runtime("native", setting.scratch / "off"))


LEVELS = ort.GraphOptimizationLevel
CANDIDATES: dict[str, Callable[[Setting], Step]] = {
    "native": partial(runtime, "native"),
    "native, float32 weights": native_float32,
    "onnx runtime, as shipped": partial(runtime, "onnx"),
    "ort, no optimisation": partial(at_level, LEVELS.ORT_DISABLE_ALL),
    "ort, basic": partial(at_level, LEVELS.ORT_ENABLE_BASIC),
    "ort, extended": partial(at_level, LEVELS.ORT_ENABLE_EXTENDED),
    "ort, all": partial(at_level, LEVELS.ORT_ENABLE_ALL),
    "ort, transformers optimizer": transformers,
    "ort, called with dicts": dicts,
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
