"""The native runtime's operators against ONNX Runtime, and its reader against onnx. Needs a C compiler."""

from __future__ import annotations

import ctypes
import platform
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import helper, numpy_helper

from model.contract import WEIGHTS
from model.export import int8_valued
from streamer.runtimes.native import GRAPHS, aligned
from streamer.runtimes.native.build import compiler, load_library
from streamer.runtimes.native.lower import Unsupported
from streamer.runtimes.native.onnx_file import read_graph
from streamer.runtimes.native.program import Program, assemble
from tests.helpers.compiler import needs_compiler
from tests.helpers.networks import BUNDLED, NOT_BUNDLED

# An export and a compilation take ten seconds on a free machine.
pytestmark = [pytest.mark.timeout(600), pytest.mark.usefixtures("own_libraries")]


def i64(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


RNG = np.random.default_rng(0)
INPUTS = {
    "a": RNG.normal(size=(1, 3, 4, 25)), "b": RNG.normal(size=(1, 3, 1, 25)), "p": RNG.uniform(0.1, 3, (1, 3, 4, 25)),
    "s": RNG.normal(size=(1, 1, 4, 1)), "wide": RNG.normal(size=(1, 200)),
    "narrow": RNG.normal(size=(1, 198)), "m": RNG.normal(size=(1, 3, 25, 6)),
}  # fmt: skip
WEIGHT = RNG.normal(size=(70, 200)) / 14
WHOLE = int8_valued(torch.from_numpy(WEIGHT[:, :198])).numpy()
CASES: list[tuple[str, list[Any], dict[str, Any]]] = [
    *[(op, ["a", "b"], {}) for op in ("Add", "Sub", "Mul", "Div", "Min", "Max")],
    *[(op, ["a"], {}) for op in ("Neg", "Abs", "Exp", "Sigmoid", "Tanh", "Erf", "Softplus", "Gelu")],
    *[(op, ["p"], {}) for op in ("Sqrt", "Log")],
    *[(op, ["p"], {"keepdims": keep}) for op in ("ReduceSum", "ReduceMax", "ReduceL2") for keep in (0, 1)],
    *[(op, ["a", i64(axis)], {}) for op in ("ReduceSum", "ReduceMean", "ReduceL2", "ReduceProd", "ReduceMin")
      for axis in (1, 2, -1)],
    ("Clip", ["a", np.float32(-0.5), np.float32(0.5)], {}), ("Clip", ["a", "", np.float32(0.5)], {}),
    ("Pow", ["a", np.float32(2)], {}), ("Softmax", ["a"], {"axis": 1}), ("Softmax", ["a"], {"axis": -1}),
    ("LayerNormalization", ["wide", RNG.normal(size=200), RNG.normal(size=200)], {"axis": -1, "epsilon": 1e-5}),
    ("MatMul", ["a", "m"], {}), ("MatMul", ["a", RNG.normal(size=(25, 7))], {}),
    ("MatMul", [RNG.normal(size=(5, 4)), "a"], {}),
    ("Gemm", ["wide", WEIGHT, RNG.normal(size=70)], {"transB": 1}), ("Gemm", ["wide", WEIGHT], {"transB": 1}),
    ("Gemm", ["narrow", WHOLE, RNG.normal(size=70)], {"transB": 1}),
    ("Gemm", ["wide", RNG.normal(size=(200, 9)), RNG.normal(size=9)], {}),
    ("Concat", ["a", "b"], {"axis": 2}), ("Concat", ["a", "p", "a"], {"axis": -1}),
    ("Pad", ["a", i64(0, 1, 0, 2, 0, 0, 3, 0)], {}), ("Pad", ["a", i64(1, 2), np.float32(7), i64(-1)], {}),
    ("Gather", ["a", i64(3, 0, 3)], {"axis": 2}), ("Gather", ["a", np.array(2, np.int64)], {"axis": 3}),
    ("Slice", ["a", i64(1, -9), i64(3, 2**62), i64(2, 3), i64(1, 1)], {}),
    ("Transpose", ["a"], {"perm": [0, 3, 1, 2]}), ("Expand", ["s", i64(1, 3, 4, 5)], {}),
    ("Reshape", ["a", i64(1, -1, 6)], {}), ("Unsqueeze", ["a", i64(0, 3)], {}),
]  # fmt: skip
CHAINS = [  # computed where they are used, compared, and seen through other strides
    ("Mul", ["a", "b"], ["c1"]), ("Greater", ["c1", "s"], ["c2"]), ("Where", ["c2", "c1", "p"], ["c3"]),
    ("ReduceSum", ["c3", "last"], ["c4"]), ("Split", ["a"], ["d1", "d2"]), ("Equal", ["d1", "d2"], ["d3"]),
    ("Cast", ["d3"], ["d4"]), ("Sub", ["d1", "d2"], ["d5"]), ("Transpose", ["m"], ["e1"]),
    ("Reshape", ["e1", "flat"], ["e2"]), ("LessOrEqual", ["a", "b"], ["f1"]), ("Cast", ["f1"], ["f2"]),
]  # fmt: skip


def cases_model() -> onnx.ModelProto:
    nodes, constants, outputs = [], {"last": i64(-1), "flat": i64(1, -1)}, ["c4", "d4", "d5", "e2", "f2"]
    for n, (op, arguments, attributes) in enumerate(CASES):
        names = [x if isinstance(x, str) else f"k{n}_{i}" for i, x in enumerate(arguments)]
        for name, x in zip(names, arguments, strict=True):
            if not isinstance(x, str):
                constants[name] = x if np.asarray(x).dtype == np.int64 else np.asarray(x, np.float32)
        nodes.append(helper.make_node(op, names, [f"o{n}"], **attributes))
        outputs.append(f"o{n}")
    extra = {"Split": {"axis": 2, "num_outputs": 2}, "Cast": {"to": 1}, "Transpose": {"perm": [0, 1, 3, 2]}}
    nodes += [helper.make_node(op, inputs, names, **extra.get(op, {})) for op, inputs, names in CHAINS]
    info = [helper.make_tensor_value_info(k, 1, v.shape) for k, v in INPUTS.items()]
    graph = helper.make_graph(
        nodes, "cases", info, [helper.make_tensor_value_info(name, 1, None) for name in outputs],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def run_program(program: Program, actors: list[dict[str, np.ndarray]]) -> list[dict[str, np.ndarray]]:
    """Outputs of the program's ``step`` for each actor's inputs, all in one call."""
    weights, constants = aligned(program.weights), aligned(program.constants)
    rows = [aligned(np.zeros(program.row_floats, np.float32)) for _ in actors]
    views = [
        {
            n: row[p : p + np.prod(program.shapes[n], dtype=int)].reshape(program.shapes[n])
            for n, p in program.places.items()
        }
        for row in rows
    ]
    for view, inputs in zip(views, actors, strict=True):
        for name, value in inputs.items():
            view[name][...] = value
    addresses = (ctypes.c_void_p * len(rows))(*(row.ctypes.data for row in rows))
    data = [ctypes.c_void_p(x.ctypes.data) for x in (weights, constants)]
    load_library(program.source).step(*data, addresses, len(rows))
    return views


@needs_compiler
@pytest.mark.parametrize("without", ["", "-mno-avx512vnni -mno-avxvnni", "-mno-avx512f -mno-avxvnni"])
def test_every_operator_is_that_of_onnx_runtime(without: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nine actors at once, so that products for six, two and one row run; float32 rounding apart.

    Also as processors run it that lack what this one may have.
    """
    if without:
        if platform.machine() not in ("x86_64", "AMD64"):
            pytest.skip("these options are of x86 compilers")
        monkeypatch.setenv("CC", shlex.join([*compiler(), *without.split()]))
    onnx.save(cases_model(), str(tmp_path / "cases.onnx"))
    program = assemble({"step": read_graph(tmp_path / "cases.onnx")}, {k: v.shape for k, v in INPUTS.items()}, {})
    session = ort.InferenceSession(str(tmp_path / "cases.onnx"), providers=["CPUExecutionProvider"])
    actors = [{k: (v * (1 + 0.1 * i)).astype(np.float32) for k, v in INPUTS.items()} for i in range(9)]
    names = [output.name for output in session.get_outputs()]
    for inputs, found in zip(actors, run_program(program, actors), strict=True):
        for name, want in zip(names, session.run(names, inputs), strict=True):
            what = CASES[int(name[1:])][0] if name.startswith("o") else name
            assert found[name].shape == want.shape, what
            np.testing.assert_allclose(found[name], want, rtol=2e-5, atol=2e-6, err_msg=what)


@needs_compiler
@pytest.mark.parametrize(
    ("op", "low", "high"), [("Exp", -80.0, 80.0), ("Log", -30.0, 30.0), ("Erf", -5.0, 5.0), ("Softplus", -60.0, 60.0)]
)
def test_functions_are_right_over_their_range(op: str, low: float, high: float, tmp_path: Path) -> None:
    x = np.linspace(low, high, 4001, dtype=np.float32)[None]
    if op == "Log":
        x = np.exp(x)
    info = [helper.make_tensor_value_info(name, 1, x.shape) for name in "xy"]
    model = helper.make_model(helper.make_graph([helper.make_node(op, ["x"], ["y"])], "one", info[:1], info[1:]))
    onnx.save(model, str(tmp_path / "one.onnx"))
    (found,) = run_program(assemble({"step": read_graph(tmp_path / "one.onnx")}, {"x": x.shape}, {}), [{"x": x}])
    exact = {"Exp": np.exp, "Log": np.log, "Softplus": lambda v: np.logaddexp(0, v)}
    want = torch.erf(torch.from_numpy(x).double()).numpy() if op == "Erf" else exact[op](x.astype(np.float64))
    error = np.abs(found["y"] - want) / np.maximum(1e-30 if op == "Exp" else 1.0, np.abs(want))
    print(f"\n{op}: largest error {error.max():.1e}")
    assert error.max() < (3e-6 if op == "Exp" else 5e-7)


def test_an_unknown_operator_is_named(tmp_path: Path) -> None:
    info = [helper.make_tensor_value_info(name, 1, (1, 3)) for name in "xy"]
    model = helper.make_model(helper.make_graph([helper.make_node("Sin", ["x"], ["y"])], "one", info[:1], info[1:]))
    onnx.save(model, str(tmp_path / "one.onnx"))
    with pytest.raises(Unsupported, match="Sin y"):
        assemble({"step": read_graph(tmp_path / "one.onnx")}, {"x": (1, 3)}, {})


@pytest.mark.skipif(not BUNDLED, reason=NOT_BUNDLED)
@pytest.mark.parametrize("name", GRAPHS)
def test_the_reader_reads_what_onnx_reads(name: str) -> None:
    read, proto = read_graph(WEIGHTS / f"{name}.onnx"), onnx.load(WEIGHTS / f"{name}.onnx")
    shapes = {
        x.name: tuple(d.dim_param or d.dim_value for d in x.type.tensor_type.shape.dim) for x in proto.graph.input
    }
    assert read.inputs == shapes
    assert read.outputs == [x.name for x in proto.graph.output]
    assert read.metadata == {entry.key: entry.value for entry in proto.metadata_props}
    for node, want in zip(read.nodes, proto.graph.node, strict=True):
        assert (node.op, node.inputs, node.outputs) == (want.op_type, list(want.input), list(want.output))
        for attribute in want.attribute:
            value = helper.get_attribute_value(attribute)
            assert node.attributes[attribute.name] == (value.decode() if isinstance(value, bytes) else value)
    assert len(read.constants) == len(proto.graph.initializer)
    for tensor in proto.graph.initializer:
        np.testing.assert_array_equal(read.constants[tensor.name], numpy_helper.to_array(tensor), strict=True)


def test_names_in_a_file_are_never_code(tmp_path: Path) -> None:
    """What a model file calls its tensors is written into C: anything but a name is refused."""
    names = ["x", "y = 1 }; int evil(void) { return 1; } enum { z"]
    info = [helper.make_tensor_value_info(name, 1, (1, 3)) for name in names]
    model = helper.make_model(
        helper.make_graph([helper.make_node("Neg", names[:1], names[1:])], "one", info[:1], info[1:])
    )
    onnx.save(model, str(tmp_path / "one.onnx"))
    with pytest.raises(ValueError, match="is not a name"):
        assemble({"step": read_graph(tmp_path / "one.onnx")}, {"x": (1, 3)}, {})
