"""The native runtime: operators against ONNX Runtime, the model against torch, what it says where it cannot run.

All of it needs a C compiler; the tests of what is said where there is none do not.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import psutil
import pytest
import torch
from onnx import helper, numpy_helper

from model.contract import WEIGHTS
from model.export import int8_valued
from model.skeleton import J
from streamer.errors import ContractError, RuntimeUnavailable
from streamer.filter import PoseFilter
from streamer.runtimes import load_runtime
from streamer.runtimes.native import GRAPHS, NativeRuntime, aligned
from streamer.runtimes.native.build import compiler, load_library
from streamer.runtimes.native.lower import Unsupported
from streamer.runtimes.native.onnx_file import read_graph
from streamer.runtimes.native.program import Program, assemble
from tests.helpers.networks import BUNDLED, NOT_BUNDLED, max_mm
from tests.model.test_export import eventful, largest_differences


def has_compiler() -> bool:
    try:
        compiler()
    except RuntimeUnavailable:
        return False
    return True


needs_compiler = pytest.mark.skipif(not has_compiler(), reason="no C compiler: gcc, clang or the ziglang package")
pytestmark = pytest.mark.timeout(600)  # an export and a compilation take ten seconds on a free machine


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A cache of libraries of its own, so that every run compiles."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


# ---- operators, all in one graph


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


# ---- the model


@needs_compiler
def test_it_is_as_near_to_float64_as_float32_allows(folder: Path) -> None:
    """Several actors, gaps, resets, ring wraps, several times of a frame; the other float32 runtimes are as far off.

    Rounding is amplified where a random network leaves bones short: hence twice the tolerance of a trained model.
    """
    worst = largest_differences(folder, 900, 411, "native", double=True)
    print(f"\ntiny random model, largest difference from float64: {worst}")
    assert worst["positions_mm"] < 0.02
    assert worst["rotations"] < 1e-3
    assert worst["lengths_mm"] < 0.01


@needs_compiler
@pytest.mark.skipif(not BUNDLED, reason=NOT_BUNDLED)
def test_the_bundled_model_is_torch_within_its_tolerance() -> None:
    worst = largest_differences(None, 900, 411, "native")
    print(f"\nbundled model, largest difference: {worst}")
    tolerance = load_runtime("native").contract.tolerance_mm
    assert worst["positions_mm"] < tolerance
    assert worst["lengths_mm"] < tolerance


@needs_compiler
@pytest.mark.parametrize(("threads", "actors"), [(1, 7), (2, 7), (2, 8), (3, 14)])
def test_many_actors_in_one_call_are_each_alone(folder: Path, threads: int, actors: int) -> None:
    """Bit-equal, past two wraps of the ring; shared by threads when they are enough, in unequal parts, too."""
    runtime = load_runtime("native", folder, threads)
    assert isinstance(runtime, NativeRuntime)
    rng = np.random.default_rng(3)
    together, alone = runtime.open(actors), runtime.open(actors + 2)
    places = rng.permutation(actors + 2)[:actors]  # of the same actors among the other rows
    for block, rows in ((together, range(actors)), (alone, places.tolist())):
        for row in rows:
            block.reset(row)
            block.offsets_m[row] = runtime.contract.rest_offsets_m
    for n in range(3 * runtime.contract.window):
        together.frame[:, :3] = rng.normal(0, 0.5, (actors, 3, J))
        together.frame[:, 3:5] = 1.0
        together.time[:, 0] = 1 / 60
        together.tau_s[:] = 0.01 * n % 0.15
        together.step(slice(0, actors) if n % 2 else np.arange(actors))
        for row, place in enumerate(places.tolist()):
            for name in ("frame", "time", "tau_s"):
                getattr(alone, name)[place] = getattr(together, name)[row]
            alone.step(slice(place, place + 1))
        for name in ("positions", "rotations", "covariance", "contact"):
            np.testing.assert_array_equal(getattr(together, name), getattr(alone, name)[places])
        np.testing.assert_array_equal(together.skeleton(slice(0, actors)), alone.skeleton(places))


@needs_compiler
def test_rows_are_aligned_and_a_reset_touches_its_own(folder: Path) -> None:
    runtime = load_runtime("native", folder)
    block = runtime.open(3)
    assert block.capacity == 3
    for row in range(3):
        block.reset(row)
        block.frame[row] = row + 1.0
    assert {x % 64 for x in block._addresses.tolist()} == {0}  # type: ignore[attr-defined]
    block.reset(1)
    assert [float(block.frame[row].max()) for row in range(3)] == [1.0, 0.0, 3.0]


@needs_compiler
def test_memory_is_taken_by_rows_in_use_not_by_the_most_that_may_come(folder: Path) -> None:
    process, runtime = psutil.Process(), load_runtime("native", folder)
    assert isinstance(runtime, NativeRuntime)
    row_bytes = 4 * runtime.program.row_floats
    before = process.memory_info().rss
    block = runtime.open(2**31 // row_bytes)  # 2 GiB
    block.reset(0)
    assert process.memory_info().rss - before < 2**26


@needs_compiler
def test_a_reset_actor_is_a_new_one(folder: Path) -> None:
    frames = [frame for frame in eventful(300) if frame.actor == "b"]
    used, fresh = (PoseFilter.load(folder, runtime="native") for _ in range(2))
    used.push_many(frames[:50])
    used.reset("b")
    for one, other in zip(used.push_many(frames[50:]), fresh.push_many(frames[50:]), strict=True):
        assert one is not None
        assert other is not None
        assert max_mm(one.positions, other.positions) == 0.0


@needs_compiler
def test_the_second_start_does_not_compile(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load_runtime("native", folder)
    monkeypatch.setattr("streamer.runtimes.native.build._compile", None)
    load_runtime("native", folder)


# ---- where it cannot run


@pytest.fixture
def no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)


@pytest.mark.usefixtures("no_compiler")
def test_without_a_compiler_it_says_what_to_install(folder: Path) -> None:
    with pytest.raises(RuntimeUnavailable, match="needs a C compiler"):
        load_runtime("native", folder)
    assert load_runtime("auto", folder).name == "onnx"


@needs_compiler
def test_auto_is_native_where_it_runs(folder: Path) -> None:
    assert load_runtime("auto", folder).name == "native"


@pytest.mark.skipif(shutil.which("false") is None, reason="no program `false`")
def test_a_compiler_that_fails_is_quoted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "false --that")
    with pytest.raises(RuntimeUnavailable, match="false --that cannot compile"):
        load_runtime("native", folder)


@needs_compiler
@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
def test_a_cache_that_others_can_write_to_is_not_used(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "hpstm-live").mkdir()
    (tmp_path / "hpstm-live").chmod(0o777)
    with pytest.raises(RuntimeUnavailable, match="others can write"):
        load_runtime("native", folder)
    assert load_runtime("auto", folder).name == "onnx"


@needs_compiler
@pytest.mark.parametrize("kind", ["a file", "no home"])
def test_without_a_place_to_compile_in_it_says_so(
    kind: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file") if kind == "a file" else "")
    if kind == "no home":
        monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home directory")))
    with pytest.raises(RuntimeUnavailable, match="no place to compile in"):
        load_runtime("native", folder)
    assert load_runtime("auto", folder).name == "onnx"


@needs_compiler
@pytest.mark.parametrize("harm", ["cut off", "garbage", "one bit", "empty", "no checksum", "a foreign checksum"])
def test_a_damaged_library_in_the_cache_is_built_again(
    harm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    source = "int step(void) { return 7; }"
    load = f"from streamer.runtimes.native.build import load_library; load_library({source!r}).step"
    subprocess.run([sys.executable, "-c", load], check=True)  # in processes of their own: one loads a path only once
    (library,) = (tmp_path / "hpstm-live").glob("native-*.so")
    whole, checksum = library.read_bytes(), library.with_suffix(".sha256")
    harms = {"cut off": whole[: len(whole) // 2], "garbage": b"\x7fELF" + bytes(5000), "empty": b"",
             "one bit": whole[:5000] + bytes([whole[5000] ^ 1]) + whole[5001:]}  # fmt: skip
    if harm in harms:
        library.write_bytes(harms[harm])
    elif harm == "no checksum":
        checksum.unlink()
    else:
        checksum.write_text("0" * 64)
    before = library.stat().st_ino
    subprocess.run([sys.executable, "-c", load], check=True)
    assert library.stat().st_ino != before
    assert hashlib.sha256(library.read_bytes()).hexdigest() == checksum.read_text()
    assert len(list((tmp_path / "hpstm-live").iterdir())) == 2


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


def test_files_of_another_export_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="does not exist"):
        load_runtime("native", tmp_path)
    shutil.copytree(folder, tmp_path / "m")
    (tmp_path / "m" / "head.onnx").write_bytes(b"not a model")
    with pytest.raises(ContractError, match=r"head\.onnx"):
        load_runtime("native", tmp_path / "m")
