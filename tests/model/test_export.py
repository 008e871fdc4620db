"""The exported graphs against torch, in millimetres, and the contract that refuses every other model."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from safetensors.torch import load_file

from model.contract import KEY, SUMS, WEIGHTS, Contract, write_sums
from model.export import GRAPHS, example_inputs, export_weights, save_rounded
from model.skeleton import JOINTS, J
from streamer.errors import ContractError, HPSTMError
from streamer.filter import PoseFilter
from streamer.frames import Pose
from tests.helpers.agreement import (
    RANDOM_STREAM_MM,
    STEPS,
    STREAM_MM,
    answers,
    eventful,
    largest_differences,
    torch_answers,
)
from tests.helpers.networks import BUNDLED, NOT_BUNDLED, TINY, save_weights, tiny_model

pytestmark = pytest.mark.timeout(600)  # an export takes ten seconds on a free machine, minutes on a busy one


def test_onnx_runtime_is_torch_within_the_tolerance(exported: Path) -> None:
    """Several actors, gaps, resets, ring wraps; the difference is two float32 roundings, in millimetres."""
    worst = largest_differences(
        answers(PoseFilter.load(exported, runtime="onnx"), eventful(STEPS)), torch_answers(exported)
    )
    print(f"\ntiny random model, {STEPS} steps, largest difference: {worst}")
    assert worst["positions_mm"] < RANDOM_STREAM_MM
    assert worst["rotations"] < 2e-3
    assert worst["lengths_mm"] < 0.01


@pytest.mark.skipif(not BUNDLED, reason=NOT_BUNDLED)
def test_the_bundled_model_is_torch_within_its_tolerance(bundled_answers: Sequence[Pose | None]) -> None:
    worst = largest_differences(answers(PoseFilter.load(runtime="onnx"), eventful(STEPS)), bundled_answers)
    print(f"\nbundled model, {STEPS} steps, largest difference: {worst}")
    tolerance = PoseFilter.load().runtime.contract.tolerance_mm
    assert tolerance <= 0.01
    assert worst["positions_mm"] < STREAM_MM
    assert worst["lengths_mm"] < tolerance


# ---- the graphs as another program would use them


def session(path: Path) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def random_inputs(batch: int) -> dict[str, np.ndarray]:
    """Inputs of all graphs in the middle of a stream: a state that came out of some steps, rings half full."""
    model, rng = tiny_model(dtype=torch.float32), np.random.default_rng(batch)
    values = {name: x.numpy().copy() for name, x in example_inputs(model, batch).items()}
    frame, graph = values["frame"], GRAPHS["step"](model)
    frame[:, 3] = rng.random((batch, J)) < 0.9
    frame[:, :3] = rng.normal(0, 0.4, (batch, 3, J)) * frame[:, 3:4]
    values["time"][:, 0] = 1 / 30
    angle = rng.uniform(0, 6, (batch, values["time"].shape[1] // 2))
    values["time"][:, 1:] = np.concatenate([np.cos(angle), np.sin(angle)], 1)
    values["tau_s"][:] = rng.uniform(-0.2, 0.15, batch)
    for name, ring in values.items():
        if name.startswith(("keys_", "values_")):
            ring[:] = rng.normal(0, 1, ring.shape)
    values["blocked"][:, : TINY.window // 2] = 0.0
    for _ in range(6):
        with torch.no_grad():
            out = graph(*(torch.from_numpy(values[name]) for name in graph.inputs))
        answers = dict(zip(graph.outputs, out, strict=True))
        values |= {name.removeprefix("out_"): x.numpy() for name, x in answers.items() if name.startswith("out_")}
        values["latent"] = answers["latent"].numpy()
        frame[:, :3] += rng.normal(0, 0.01, (batch, 3, J)).astype(np.float32) * frame[:, 3:4]
    return values


def run(runner: ort.InferenceSession, values: dict[str, np.ndarray]) -> list[np.ndarray]:
    out: list[np.ndarray] = runner.run(None, {i.name: values[i.name] for i in runner.get_inputs()})
    return out


@pytest.mark.parametrize("batch", [1, 3])
def test_the_graphs_are_their_torch_form(batch: int, exported: Path) -> None:
    values = random_inputs(batch)
    for name, kind in GRAPHS.items():
        runner, graph = session(exported / f"{name}.onnx"), kind(tiny_model(dtype=torch.float32))
        assert [i.name for i in runner.get_inputs()] == list(graph.inputs)
        assert [o.name for o in runner.get_outputs()] == list(graph.outputs)
        with torch.no_grad():
            want = graph(*(torch.from_numpy(values[i.name]) for i in runner.get_inputs()))
        want = [want] if isinstance(want, torch.Tensor) else want
        for output, a, b in zip(runner.get_outputs(), run(runner, values), want, strict=True):
            np.testing.assert_allclose(a, b.numpy(), rtol=1e-4, atol=2e-5, err_msg=f"{name}: {output.name}")


def test_actors_of_one_batch_are_each_as_alone(exported: Path) -> None:
    values = random_inputs(3)
    for name in GRAPHS:
        runner = session(exported / f"{name}.onnx")
        together = run(runner, values)
        for b in range(3):
            alone = run(runner, {key: x[b : b + 1] for key, x in values.items()})
            for output, a, whole in zip(runner.get_outputs(), alone, together, strict=True):
                np.testing.assert_allclose(a[0], whole[b], rtol=1e-4, atol=2e-5, err_msg=f"{name}: {output.name}")


def test_the_files_say_what_they_are(exported: Path) -> None:
    contracts = []
    for name in GRAPHS:
        graph = session(exported / f"{name}.onnx")
        contract = Contract.from_json(graph.get_modelmeta().custom_metadata_map[KEY], name)
        shapes = {i.name: tuple(i.shape[1:]) for i in graph.get_inputs()}
        wanted = contract.input_shapes()
        assert shapes == {key: wanted[key] for key in shapes}
        assert all(isinstance(i.shape[0], str) for i in (*graph.get_inputs(), *graph.get_outputs()))  # any batch
        contracts.append(contract)
    assert contracts[0] == contracts[1] == contracts[2]
    c = contracts[0]
    assert (c.window, c.layers, c.heads, c.latent) == (TINY.window, TINY.layers, TINY.heads, TINY.width)
    assert c.joints == JOINTS
    assert (c.units, c.name, c.tolerance_mm) == ("m", "tiny", 0.01)
    assert "Y up" in c.axes
    assert Contract.from_json(c.to_json(), "itself") == c


# ---- another contract


def edited(exported: Path, out: Path, change: Callable[[dict[str, Any]], Any], names: Iterable[str] = GRAPHS) -> Path:
    """A copy of the model whose metadata was changed in the named graphs; None takes the metadata out."""
    shutil.copytree(exported, out)
    for name in names:
        proto = onnx.load(out / f"{name}.onnx")
        for i, entry in enumerate(proto.metadata_props):
            if entry.key == KEY:
                raw = change(json.loads(entry.value))
                if raw is None:
                    del proto.metadata_props[i]
                else:
                    entry.value = raw if isinstance(raw, str) else json.dumps(raw)
                break
        onnx.save(proto, out / f"{name}.onnx")
    return out


def without(raw: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in raw.items() if key != name}


OTHERS: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "a later version": (lambda raw: raw | {"version": 3}, r"version 3.*version 2"),
    "no version": (lambda raw: without(raw, "version"), r"version None"),
    "an entry missing": (lambda raw: without(raw, "window"), r"lacks window"),
    "two entries missing": (lambda raw: without(without(raw, "tau_s"), "units"), r"lacks units, tau_s"),
    "other joints": (lambda raw: raw | {"joints": raw["joints"][::-1]}, r"joints"),
    "other parents": (lambda raw: raw | {"parents": [0] * J}, r"parents"),
    "millimetres": (lambda raw: raw | {"units": "mm"}, r"units"),
    "another up": (lambda raw: raw | {"axes": "right-handed, Z up"}, r"axes"),
    "other quaternions": (lambda raw: raw | {"rotations": "wxyz"}, r"rotations"),
    "another window": (lambda raw: raw | {"window": 2 * raw["window"]}, r"'(keys_0|blocked)'.*contract"),
    "another width": (lambda raw: raw | {"latent": raw["latent"] + 1}, r"'latent'.*contract"),
    "fewer layers": (lambda raw: raw | {"layers": 1}, r"'keys_1'.*contract"),
    "no metadata": (lambda raw: None, r"no HPSTM contract"),
    "not JSON": (lambda raw: "{", r"not JSON"),
    "JSON of another kind": (lambda raw: [1, 2], r"contract"),
    "a number for a list": (lambda raw: raw | {"tau_s": 5}, r"tau_s"),
}


@pytest.mark.parametrize("runtime", ["onnx", "native"])
@pytest.mark.parametrize("name", list(OTHERS))
def test_another_contract_is_refused_by_name(name: str, runtime: str, exported: Path, tmp_path: Path) -> None:
    change, said = OTHERS[name]
    other = edited(exported, tmp_path / "other", change)
    with pytest.raises(ContractError, match=said) as caught:
        PoseFilter.load(other, runtime=runtime)
    assert str(other) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", list(GRAPHS))
def test_graphs_of_different_exports_are_refused(name: str, exported: Path, tmp_path: Path) -> None:
    other = edited(exported, tmp_path / "other", lambda raw: raw | {"weights_sha256": "0" * 64}, names=(name,))
    with pytest.raises(ContractError, match="different exports"):
        PoseFilter.load(other)


@pytest.mark.parametrize("name", [*(f"{name}.onnx" for name in GRAPHS), ""])
def test_a_missing_file_is_named(name: str, exported: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    if name:
        shutil.copytree(exported, other)
        (other / name).unlink()
    with pytest.raises(ContractError, match=f"{name or 'onnx'} does not exist"):
        PoseFilter.load(other)


def test_a_damaged_file_is_named(exported: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(exported, other)
    (other / "head.onnx").write_bytes(b"not a model")
    with pytest.raises(HPSTMError, match=r"head\.onnx"):
        PoseFilter.load(other)


@pytest.mark.parametrize("runtime", ["onnx", "native"])
@pytest.mark.parametrize(("name", "really"), [("step", "head"), ("head", "step"), ("head", "skeleton")])
def test_a_graph_in_place_of_another_is_named(
    name: str, really: str, runtime: str, exported: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(exported, other)
    shutil.copy(other / f"{really}.onnx", other / f"{name}.onnx")
    with pytest.raises(ContractError, match=rf"{name}\.onnx is not the {name} .*this is the {really}"):
        PoseFilter.load(other, runtime=runtime)


@pytest.mark.parametrize("runtime", ["onnx", "native"])
@pytest.mark.parametrize("name", list(GRAPHS))
def test_one_weight_that_is_another_is_named(name: str, runtime: str, exported: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(exported, other)
    proto = onnx.load(other / f"{name}.onnx")
    weight = max(proto.graph.initializer, key=lambda x: len(x.raw_data))
    weight.raw_data = bytes([weight.raw_data[0] ^ 1]) + weight.raw_data[1:]
    onnx.save(proto, other / f"{name}.onnx")
    with pytest.raises(ContractError, match=rf"{name}\.onnx is damaged"):
        PoseFilter.load(other, runtime=runtime)


@pytest.mark.parametrize("runtime", ["onnx", "native"])
def test_graphs_of_other_weights_than_those_beside_them_are_refused(
    runtime: str, exported: Path, tmp_path: Path
) -> None:
    other = edited(exported, tmp_path / "other", lambda raw: raw | {"weights_sha256": "0" * 64})
    write_sums(other)
    with pytest.raises(ContractError, match="other weights"):
        PoseFilter.load(other, runtime=runtime)
    (other / SUMS).unlink()
    with pytest.raises(ContractError, match="SHA256SUMS cannot be read"):
        PoseFilter.load(other, runtime=runtime)


def test_torch_refuses_other_weights(exported: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(exported, other)
    save_weights(tiny_model(5, torch.float32), other / "weights.safetensors")
    with pytest.raises(ContractError, match=r"weights\.safetensors.*exported"):
        PoseFilter.load(other, runtime="torch")
    PoseFilter.load(other)  # the ONNX files do not need it
    (other / "weights.safetensors").unlink()
    with pytest.raises(ContractError, match=r"weights\.safetensors"):
        PoseFilter.load(other, runtime="torch")


def test_the_contract_names_every_entry_it_needs(exported: Path) -> None:
    text = session(exported / "head.onnx").get_modelmeta().custom_metadata_map[KEY]
    assert set(json.loads(text)) == {field.name for field in dataclasses.fields(Contract)}


@pytest.mark.skipif(not BUNDLED, reason=NOT_BUNDLED)
def test_the_bundled_weights_are_those_of_the_graphs() -> None:
    assert PoseFilter.load(WEIGHTS, runtime="torch").runtime.name == "torch"


def test_exporting_leaves_the_model_as_it_was(exported: Path) -> None:
    """weights.safetensors beside the graphs holds the bytes that were trained."""
    trained = exported.parent / "trained.safetensors"
    assert (exported / "weights.safetensors").read_bytes() == trained.read_bytes()


def test_the_graphs_hold_the_weights_of_the_file(exported: Path) -> None:
    """Bit for bit: what is rounded there is rounded in the graphs."""
    weights = load_file(exported / "weights.safetensors")
    graph = onnx.load(exported / "step.onnx").graph
    held = {x.name.removeprefix("model."): onnx.numpy_helper.to_array(x) for x in graph.initializer}
    names = [name for name in weights if name.endswith("qkv.weight")]
    assert len(names) == TINY.layers
    for name in names:
        np.testing.assert_array_equal(held[name], weights[name].numpy(), strict=True)


def test_weights_are_rounded_once_for_all_runtimes(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the file, by half a step at most, and the graphs are made of what the file holds; again changes nothing.

    That graphs of such weights are what torch makes of them is shown by the bundled model, whose weights are rounded.
    """
    handed_over: dict[str, torch.Tensor] = {}
    monkeypatch.setattr("model.export.export", lambda model, *_: handed_over.update(model.state_dict()))
    rounded, again = tmp_path / "weights.safetensors", tmp_path / "again.safetensors"
    export_weights(exported / "weights.safetensors", tmp_path, int8=True)
    save_rounded(rounded, again)
    before, once, twice = map(load_file, (exported / "weights.safetensors", rounded, again))
    assert handed_over.keys() == once.keys()
    for name, value in once.items():
        assert torch.equal(value, twice[name])
        assert torch.equal(value, handed_over[name])
    assert any(not torch.equal(value, once[name]) for name, value in before.items())
    for name, value in before.items():
        step = value.abs().amax(-1, keepdim=True) / 127 if value.ndim == 2 and name.endswith(".weight") else 0 * value
        assert ((once[name] - value).abs() <= 0.5001 * step).all()
    assert_whole_steps(once)


@pytest.mark.skipif(not BUNDLED, reason=NOT_BUNDLED)
def test_the_weights_of_the_bundled_graphs_are_rounded() -> None:
    graph = onnx.load(WEIGHTS / "step.onnx").graph
    assert_whole_steps({x.name: torch.from_numpy(onnx.numpy_helper.to_array(x).copy()) for x in graph.initializer})


def assert_whole_steps(weights: dict[str, torch.Tensor]) -> None:
    """Of the attention's linear layers: whole multiples of 1/127 of the largest of each output."""
    layers = [value for name, value in weights.items() if name.endswith("qkv.weight")]
    assert layers
    for value in layers:
        steps = value / (value.abs().amax(1, keepdim=True) / 127)
        assert torch.equal(steps, steps.round())
