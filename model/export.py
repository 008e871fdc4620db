"""ONNX export: the step, the pose head for other times, and the skeleton, as graphs that carry their contract.

step.onnx      one frame: frame (B, 6, 24: x y z [m], present, confidence, derived), time (B, 1 + 2 D: dt [s], cos and
               sin of the rotary phase), the state's groups, keys_i / values_i (B, H, W, D), blocked (B, W), and the
               inputs of the head -> latent (B, width), the state's groups as out_NAME, rows (B, L, 2, H, D), a pose
head.onnx      another time of the same frame: latent, the state's groups, tau_s (B), offsets_m (B, 24, 3),
               previous (B, 24, 4) -> positions (B, 24, 3), source (B, 24, 3: the joints as the source places
               them), rotations (B, 24, 4 local xyzw), covariance (B, 24, 3, 3), contact (B, 2)
skeleton.onnx  while calibrating: latent, frame, time, the state's groups -> skeleton (B, 24, 4: bone in the rest pose
               [m], weight)
The caller writes ``rows`` to slot frames % W of each ring and clears that slot of ``blocked``; no ring is ever copied.
"""

from __future__ import annotations

import inspect
import logging
import warnings
from collections.abc import Sequence
from pathlib import Path

import onnx
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from model import calibration
from model.contract import AXES, KEY, POSE, ROTATIONS, UNITS, VERSION, Contract, ContractError, sha256, write_sums
from model.network import front
from model.network.causal import BLOCKED, CausalFilter, Phase, Ring
from model.network.head import TAU_RANGE_S, covariance
from model.rotations import local_from_world, quaternions_xyzw
from model.skeleton import JOINTS, PARENTS, J, rest_offsets

TOLERANCE_MM = 0.01
OPSET = 20


FRONT = tuple(front.GROUPS)
STATE = (*FRONT, "memory")  # the front's groups, and the latent of the frame before
HEAD = ("tau_s", "offsets_m", "previous")


def split_frame(frame: Tensor, time: Tensor) -> tuple[front.Frame, Phase]:
    """The front's frame and the rotary phase of the graphs' two flat inputs."""
    positions, present, confidence, derived = frame[:, None].split([3, 1, 1, 1], 2)
    turns = (time.shape[1] - 1) // 2
    dt, cos, sin = time.split([1, turns, turns], 1)
    return front.Frame(positions, present, confidence, derived, dt[:, :, None, None]), Phase(cos, sin)


def _pose(
    model: CausalFilter, latent: Tensor, state: front.State, wanted: Sequence[Tensor], dt_s: Tensor | None = None
) -> tuple[tuple[Tensor, ...], front.State]:
    tau_s, offsets_m, previous = wanted
    skeleton = offsets_m.transpose(1, 2)[:, None]
    pose, state = model.pose(latent, state, tau_s.reshape(-1, 1, 1, 1), skeleton, dt_s)
    rotations = quaternions_xyzw(local_from_world(pose.world_rot))
    flip = torch.where((rotations * previous).sum(-1, keepdim=True) < 0, -1.0, 1.0)
    told = (pose.positions, pose.free, rotations * flip, covariance(pose), torch.sigmoid(pose.contact))
    return told, state


class Graph(nn.Module):
    """A graph with flat inputs and outputs, by name."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    def __init__(self, model: CausalFilter) -> None:
        super().__init__()
        self.model = model


class StepGraph(Graph):
    """``CausalFilter.advance`` and the pose head."""

    def __init__(self, model: CausalFilter) -> None:
        super().__init__(model)
        rings = tuple(f"{kind}_{i}" for i in range(model.config.layers) for kind in ("keys", "values"))
        self.inputs = ("frame", "time", *STATE, *HEAD, "blocked", *rings)
        self.outputs = ("latent", *(f"out_{name}" for name in STATE), "rows", *POSE)

    def forward(self, frame: Tensor, time: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        groups, wanted, (blocked, *rings) = rest[: len(STATE)], rest[len(STATE) :][:3], rest[len(STATE) + 3 :]
        parts, phase = split_frame(frame, time)
        ring = Ring(rings[0::2], rings[1::2], blocked, blocked, groups[-1])
        latent, state, rows = self.model.advance(parts, phase, front.unpack(groups[:-1]), ring)
        pose, state = _pose(self.model, latent, state, wanted, parts.dt_s)
        return latent, *front.pack(state), latent, rows, *pose


class HeadGraph(Graph):
    """The pose head for another time of the newest frame."""

    inputs = ("latent", *FRONT, *HEAD)
    outputs = POSE

    def forward(self, latent: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        return _pose(self.model, latent, front.unpack(rest[: len(FRONT)]), rest[len(FRONT) :])[0]


class SkeletonGraph(Graph):
    """``CausalFilter.observe``."""

    inputs = ("latent", "frame", "time", *FRONT)
    outputs = ("skeleton",)

    def forward(self, latent: Tensor, frame: Tensor, time: Tensor, *groups: Tensor) -> Tensor:
        parts, _ = split_frame(frame, time)
        seen = self.model.observe(latent, parts, front.unpack(groups))
        return torch.cat([seen.offsets_m, seen.weight], 2)[:, 0].transpose(1, 2)


GRAPHS = {"step": StepGraph, "head": HeadGraph, "skeleton": SkeletonGraph}


def make_contract(model: CausalFilter, weights: Path, name: str) -> Contract:
    c = model.config
    return Contract(
        version=VERSION, joints=JOINTS, parents=PARENTS, units=UNITS, axes=AXES,
        rotations=ROTATIONS,
        window=c.window, layers=c.layers, heads=c.heads, head_width=c.head_width, latent=c.width,
        state=front.group_shapes() | {"memory": (c.width,)},
        angular_hz=tuple(c.angular_hz()), blocked=BLOCKED, tau_s=TAU_RANGE_S,
        calibration_events_s=calibration.EVENTS_S, calibration_longest_step_s=calibration.LONGEST_STEP_S,
        rest_offsets_m=tuple(tuple(float(x) for x in row) for row in rest_offsets()),  # type: ignore[misc]
        tolerance_mm=TOLERANCE_MM, weights_sha256=sha256(weights), name=name,
    )  # fmt: skip


def example_inputs(model: CausalFilter, batch: int) -> dict[str, Tensor]:
    """Inputs of the right shapes for all graphs, by name."""
    ring = model.initial_ring(batch)
    rings: dict[str, Tensor] = {}
    for i, (keys, values) in enumerate(zip(ring.keys, ring.values, strict=True)):
        rings |= {f"keys_{i}": keys, f"values_{i}": values}
    state = dict(zip(FRONT, front.pack(front.initial_state(batch)), strict=True)) | {"memory": ring.latent}
    frame = torch.ones(batch, 6, J)
    frame[:, 5] = 0
    return {
        "frame": frame, "time": torch.zeros(batch, 1 + 2 * model.config.head_width), **state, **rings,
        "blocked": ring.blocked, "latent": torch.zeros(batch, model.config.width), "tau_s": torch.zeros(batch),
        "offsets_m": torch.tensor(rest_offsets(), dtype=torch.float32).expand(batch, J, 3).contiguous(),
        "previous": torch.zeros(batch, J, 4),
    }  # fmt: skip


def export(model: CausalFilter, weights: Path, out: Path, name: str = "hpstm-live") -> Contract:
    """Write the graphs to ``out``; ``weights`` is the safetensors file they come from."""
    out.mkdir(parents=True, exist_ok=True)
    model = model.float().eval()
    contract = make_contract(model, weights, name)
    inputs = example_inputs(model, 2)
    for file, kind in GRAPHS.items():
        _export_one(kind(model), inputs, out / f"{file}.onnx", contract)
    write_sums(out)
    return contract


def _export_one(graph: Graph, inputs: dict[str, Tensor], path: Path, contract: Contract) -> None:
    batch = {0: torch.export.Dim("batch", min=1, max=65536)}
    arguments = tuple(inputs[name] for name in graph.inputs)
    named = len(inspect.signature(graph.forward).parameters) - 1  # the rest goes to *rest, one tuple to the exporter
    shapes = (*[batch] * named, tuple([batch] * (len(arguments) - named)))
    logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)  # it misses torchvision
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns of its own future
        program = torch.onnx.export(
            graph, arguments, dynamo=True, opset_version=OPSET, input_names=list(graph.inputs),
            output_names=list(graph.outputs), dynamic_shapes=shapes, optimize=True, verbose=False,
        )  # fmt: skip
    assert program is not None
    proto = program.model_proto
    for part in (*proto.graph.node, *proto.graph.value_info, *proto.graph.input, *proto.graph.output):
        del part.metadata_props[:]  # the exporter notes where in whose folder each line of code was
    entry = proto.metadata_props.add()
    entry.key, entry.value = KEY, contract.to_json()
    onnx.checker.check_model(proto)
    onnx.save(proto, str(path))


def export_weights(weights: Path, out: Path, name: str = "hpstm-live", int8: bool = False) -> Contract:
    """Export a weights file; ``out`` gets weights.safetensors and the three graphs, all a runtime needs.

    ``int8`` rounds the weights of the linear layers to whole multiples of 1/127 of the largest of their output, for all
    runtimes alike: a quarter of what the native runtime reads for each frame.

    Raises:
        ContractError: they are not of the model in this version; nothing was written.
    """
    from model.training.train import load_model

    try:
        load_model(weights)
    except (RuntimeError, KeyError, TypeError, SafetensorError) as error:
        first = str(error).partition("\n")[0]
        raise ContractError(f"{weights}: not weights of the model in this version; train it again ({first})") from error
    out.mkdir(parents=True, exist_ok=True)
    target = out / "weights.safetensors"
    if int8:
        save_rounded(weights, target)
    elif weights.resolve() != target.resolve():
        target.write_bytes(weights.read_bytes())
    return export(load_model(target), target, out, name)


def save_rounded(weights: Path, target: Path) -> None:
    """A copy of a weights file whose linear layers are rounded to 8 bits; of a rounded one, the same again."""
    with safe_open(weights, "pt") as file:
        tensors, metadata = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118
    layers = {name for name, x in tensors.items() if name.endswith(".weight") and x.ndim == 2}
    save_file({name: int8_valued(x) if name in layers else x for name, x in tensors.items()}, target, metadata)


def int8_valued(weight: Tensor) -> Tensor:
    """weight (outputs, inputs) as the nearest whole multiples, of at most 127, of a step of its output; in float32.

    Steps have 16 bits, so that the products are exact, and what reads them finds the step: the largest / 127.
    """
    step = weight.float().abs().amax(1, keepdim=True) / 127
    step = ((step.view(torch.int32) + 0x80) & ~0xFF).view(torch.float32)
    return torch.where(step > 0, torch.round(weight / step) * step, 0.0)
