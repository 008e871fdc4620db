"""The exported step cut short, to measure its stages on any runtime that loads it.

One graph ends at the encoder's input, one at its output, and each is a model folder that a runtime loads and
``PoseFilter`` drives like the whole one. Needs the onnx package (extra: train).
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from model.contract import POSE, write_sums

ENCODED = ("latent", "out_memory", "rows")
HEADED = ("out_joints", "out_moved", *POSE)  # what the head answers, and the state that it leaves


def cut_folders(folder: Path, into: Path) -> tuple[Path, Path]:
    """Two model folders in ``into``: the step up to the encoder's input, and up to the latent.

    Raises:
        ValueError: the graph has no layer called embed to cut it at.
    """
    step = onnx.load(folder / "step.onnx")
    embeds = [node for node in step.graph.node if any(name.endswith("embed.weight") for name in node.input)]
    if not embeds:
        raise ValueError(f"{folder / 'step.onnx'}: no node reads embed.weight, so it cannot be cut into stages")
    features = embeds[0].input[0]
    wide = next(x.dims[1] for x in step.graph.initializer if x.name == embeds[0].input[1])  # (width, features)
    latent = next(out for out in step.graph.output if out.name == "latent").type.tensor_type.shape.dim[1].dim_value
    return (
        _save(cut(step, features, wide, ENCODED + HEADED), folder, into / "features"),
        _save(cut(step, "latent", latent, HEADED), folder, into / "encoded"),
    )


def cut(step: Any, end: str, width: int, without: tuple[str, ...]) -> Any:
    """The step with nothing computed that neither ``end`` (B, width) nor its outputs other than ``without`` need.

    Those keep their names and shapes, or no runtime would take it for a step: they hold numbers of ``end``, repeated.
    """
    short = onnx.ModelProto()
    short.CopyFrom(step)
    graph = short.graph
    shapes = {out.name: [axis.dim_value for axis in out.type.tensor_type.shape.dim][1:] for out in graph.output}
    nodes = _needed(step.graph.node, {end} | (set(shapes) - set(without)))
    repeats = -(-max(prod(shapes[name]) for name in without) // width)
    nodes.append(helper.make_node("Concat", [end] * repeats, ["filler"], axis=1))
    numbers = {"filler_start": [0], "filler_axis": [1]}
    for name in without:
        part = f"filler_{name}"
        numbers |= {f"{part}_end": [prod(shapes[name])], f"{part}_shape": [-1, *shapes[name]]}
        nodes.append(helper.make_node("Slice", ["filler", "filler_start", f"{part}_end", "filler_axis"], [part]))
        nodes.append(helper.make_node("Reshape", [part, f"{part}_shape"], [name]))
    read = {name for node in nodes for name in node.input}
    constants = [x for x in graph.initializer if x.name in read]
    constants += [numpy_helper.from_array(np.array(value), name) for name, value in numbers.items()]
    for entries, kept in ((graph.node, nodes), (graph.initializer, constants), (graph.value_info, [])):
        del entries[:]
        entries.extend(kept)
    onnx.checker.check_model(short)
    return short


def _needed(nodes: Iterable[Any], names: set[str]) -> list[Any]:
    """The nodes, in order, that the tensors of these names come from."""
    wanted, kept = set(names), []
    for node in reversed(list(nodes)):
        if wanted.intersection(node.output):
            wanted.update(node.input)
            kept.append(node)
    return kept[::-1]


def _save(model: Any, like: Path, folder: Path) -> Path:
    folder.mkdir()
    onnx.save(model, folder / "step.onnx")
    for other in ("head.onnx", "skeleton.onnx"):
        shutil.copy(like / other, folder / other)
    write_sums(folder)
    return folder
