"""The model repository that ``hpstm export --triton`` writes: NAME/config.pbtxt, NAME/1/model.py, NAME/1/weights/."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from model.contract import GRAPHS, SUMS, WEIGHTS_FILE
from model.skeleton import J
from streamer.errors import ConfigError
from streamer.frames import Pose
from streamer.runtimes import load_runtime

WEIGHTS_FOLDER = "weights"
IDLE_S = 30
FLAGS = {"true": True, "false": False}
# Parameters of config.pbtxt with their defaults: what PoseFilter.load takes, and the layout of requests that name none.
SETTINGS: dict[str, Any] = {
    "layout": "smpl_24", "runtime": "auto", "threads": 1, "delay_s": 0.0, "predict_s": 0.0, "landmarks": False,
    "foot_lock": False,
}  # fmt: skip


class Tensor(NamedTuple):
    """An input or output, without the batch axis."""

    name: str
    type: str  # as in config.pbtxt, without TYPE_
    dims: tuple[int, ...]  # -1: the layout's joints
    optional: bool = False


INPUTS = (
    Tensor("positions", "FP32", (-1, 3)),
    Tensor("t_ns", "INT64", (1,)),
    Tensor("confidence", "FP32", (-1,), optional=True),
    Tensor("rotations", "FP32", (-1, 4), optional=True),
    Tensor("layout", "STRING", (1,), optional=True),
)
OUTPUTS = (
    Tensor("positions", "FP32", (J, 3)),
    Tensor("rotations", "FP32", (J, 4)),
    Tensor("root", "FP32", (3,)),
    Tensor("lengths", "FP32", (J,)),
    Tensor("offsets", "FP32", (J, 3)),
    Tensor("covariance", "FP32", (J, 3, 3)),
    Tensor("rotation_sigma", "FP32", (J,)),
    Tensor("contact", "FP32", (2,)),
    Tensor("source", "FP32", (-1, 3)),
    Tensor("t_ns", "INT64", (1,)),
    Tensor("captured_ns", "INT64", (1,)),
    Tensor("skeleton_version", "INT64", (1,)),
    Tensor("status", "STRING", (1,)),
)
_OTHER_NAMES = {"lengths": "lengths_m", "offsets": "offsets_m"}  # outputs are called as on the wire


def output_of(pose: Pose, name: str) -> Any:
    """What a pose has for the output of that name."""
    return getattr(pose, _OTHER_NAMES.get(name, name))


def write_repository(folder: Path, model: Path, name: str, most: int) -> Path:
    """Writes the Triton model ``name`` around a model folder into the repository ``folder``; returns its place.

    It appears whole or not at all.

    Args:
        most: sequences at a time.
    Raises:
        ConfigError: it is there already, cannot be written, or cannot be called so. ContractError: ``model`` is none.
    """
    if not re.fullmatch(r"\w[\w.-]*", name, re.ASCII):
        raise ConfigError(f"--name {name}: for Triton letters, digits, - . and _ make a name")
    if most < 1:
        raise ConfigError(f"--lanes must be at least 1, not {most}")
    load_runtime("onnx", model)  # raises for what is no model of this version
    target = folder / name
    if target.exists():
        raise ConfigError(f"{target} exists, and its config.pbtxt may be yours; remove it, or give another --name")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".", dir=folder) as parent:
            new = Path(parent) / name
            _fill(new, model, name, most)
            os.rename(new, target)
    except OSError as error:
        raise ConfigError(f"--triton {folder}: cannot be written ({error.strerror or error})") from error
    return target


def _fill(new: Path, model: Path, name: str, most: int) -> None:
    weights = new / "1" / WEIGHTS_FOLDER
    weights.mkdir(parents=True)
    for file in (*(f"{graph}.onnx" for graph in GRAPHS), SUMS, WEIGHTS_FILE):
        if (model / file).is_file():
            shutil.copyfile(model / file, weights / file)
    shutil.copyfile(Path(__file__).with_name("backend.py"), new / "1" / "model.py")
    (new / "config.pbtxt").write_text(config_text(name, most), encoding="utf-8")


def config_text(name: str, most: int) -> str:
    """config.pbtxt: the message inference.ModelConfig in protobuf's text format."""
    parameters = "\n".join(
        f'parameters {{ key: "{key}" value {{ string_value: "{_text(value)}" }} }}' for key, value in SETTINGS.items()
    )
    return f"""\
# HPSTM Live for Triton Inference Server: one actor a sequence. Written by hpstm export --triton; yours to edit.
name: "{name}"
backend: "python"
max_batch_size: {most}

# Frames of different sequences that wait go through the filter together.
sequence_batching {{
  max_sequence_idle_microseconds: {IDLE_S * 1_000_000}
  oldest {{ max_candidate_sequences: {most} }}
}}

{_tensors("input", INPUTS)}

{_tensors("output", OUTPUTS)}

instance_group [ {{ kind: KIND_CPU count: 1 }} ]

# layout: of requests that name none; the others are arguments of PoseFilter.load.
{parameters}
"""


def _tensors(kind: str, tensors: tuple[Tensor, ...]) -> str:
    lines = []
    for name, data, dims, optional in tensors:
        fields = f'name: "{name}" data_type: TYPE_{data} dims: {list(dims)}'
        fields += " optional: true" if optional else ""
        fields += " allow_ragged_batch: true" if kind == "input" and -1 in dims else ""
        lines.append(f"  {{ {fields} }}")
    return f"{kind} [\n" + ",\n".join(lines) + "\n]"


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
