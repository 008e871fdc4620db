"""glTF 2.0 in one binary file (.glb): a node for each joint, a track for each turn, a skin of octahedra to look at.

glTF's axes and units are ours (right-handed, Y up, metres, facing +Z, quaternions xyzw), so nothing is converted.
"""

from __future__ import annotations

import json
import struct
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from model.files.animation import Animation
from model.files.tree import Floats
from model.files.writers.octahedra import octahedra
from model.skeleton import CHILDREN, JOINTS, J, ancestor_matrix

_MAGIC, _VERSION, _JSON, _BIN = 0x46546C67, 2, 0x4E4F534A, 0x004E4942
_TYPES = {1: "SCALAR", 3: "VEC3", 4: "VEC4", 16: "MAT4"}
_COMPONENTS = {"float32": 5126, "uint16": 5123, "uint8": 5121}
_VERTICES, _INDICES = 34962, 34963
_COLOUR = (0.35, 0.55, 0.75, 1.0)


def write_glb(animation: Animation, file: BinaryIO) -> None:
    """Writes an animation with a skinned mesh."""
    data = Data()
    document = document_of(animation, data)
    _add_skin(document, data, rest_positions(animation.offsets_m))
    write_document(document, data, file)


def rest_positions(offsets_m: Floats) -> Floats:
    """(24, 3) joints of the rest pose [m], its lowest on the ground: retargeting scales by the height of the hips."""
    places: Floats = ancestor_matrix() @ offsets_m
    places[:, 1] -= places[:, 1].min()
    return places


class Data:
    """The binary part as it grows, with the views and accessors that say what lies where."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.size = 0
        self.views: list[dict[str, Any]] = []
        self.accessors: list[dict[str, Any]] = []

    def add(self, array: npt.NDArray[Any], target: int | None = None, bounds: bool = False) -> int:
        """The accessor of an array (count, components), or (count,) of scalars."""
        raw = np.ascontiguousarray(array).tobytes()
        view: dict[str, Any] = {"buffer": 0, "byteOffset": self.size, "byteLength": len(raw)}
        if target is not None:
            view["target"] = target
        width = array.shape[1] if array.ndim > 1 else 1
        accessor: dict[str, Any] = {
            "bufferView": len(self.views), "componentType": _COMPONENTS[array.dtype.name], "count": len(array),
            "type": _TYPES[width],
        }  # fmt: skip
        if bounds:
            rows = array.reshape(len(array), width)
            accessor.update(min=rows.min(0).tolist(), max=rows.max(0).tolist())
        self.views.append(view)
        self.accessors.append(accessor)
        self.parts += [raw, b"\0" * (-len(raw) % 4)]
        self.size += len(raw) + -len(raw) % 4
        return len(self.accessors) - 1


def document_of(animation: Animation, data: Data) -> dict[str, Any]:
    """The scene of the joints in the rest pose, and the animation that turns them and moves the pelvis."""
    rest = animation.offsets_m.copy()
    rest[0] = rest_positions(animation.offsets_m)[0]
    nodes: list[dict[str, Any]] = []
    for j, name in enumerate(JOINTS):
        node: dict[str, Any] = {"name": name, "translation": rest[j].astype(np.float32).tolist()}
        if CHILDREN[j]:
            node["children"] = list(CHILDREN[j])
        nodes.append(node)
    times = data.add(animation.times_s.astype(np.float32), bounds=True)
    tracks = [("translation", 0, animation.root), *(("rotation", j, animation.local[:, j]) for j in range(J))]
    samplers = [{"input": times, "output": data.add(values.astype(np.float32))} for _, _, values in tracks]
    channels = [{"sampler": n, "target": {"node": j, "path": path}} for n, (path, j, _) in enumerate(tracks)]
    return {
        "asset": {"version": "2.0", "generator": "HPSTM Live"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": nodes,
        "animations": [{"name": animation.name or "motion", "samplers": samplers, "channels": channels}],
    }


def _add_skin(document: dict[str, Any], data: Data, rest: Floats) -> None:
    """A mesh of an octahedron for each bone, bound to the joints where they rest."""
    vertices, bones, triangles = octahedra(rest)
    joints = np.zeros((len(bones), 4), np.uint8)
    joints[:, 0] = bones
    weights = np.zeros((len(bones), 4), np.float32)
    weights[:, 0] = 1.0
    attributes = {
        "POSITION": data.add(vertices.astype(np.float32), _VERTICES, bounds=True),
        "JOINTS_0": data.add(joints, _VERTICES),
        "WEIGHTS_0": data.add(weights, _VERTICES),
    }
    indices = data.add(triangles.astype(np.uint16).reshape(-1), _INDICES)
    inverse = np.tile(np.eye(4, dtype=np.float32), (J, 1, 1))
    inverse[:, 3, :3] = -rest  # column by column, as glTF has matrices
    document["materials"] = [
        {"name": "bones", "pbrMetallicRoughness": {"baseColorFactor": _COLOUR, "metallicFactor": 0}}
    ]
    primitive = {"attributes": attributes, "indices": indices, "material": 0}
    document["meshes"] = [{"name": "bones", "primitives": [primitive]}]
    matrices = data.add(inverse.reshape(J, 16))
    document["skins"] = [{"joints": list(range(J)), "inverseBindMatrices": matrices}]
    document["nodes"].append({"name": "body", "mesh": 0, "skin": 0})
    document["scenes"][0]["nodes"].append(J)


def write_document(document: dict[str, Any], data: Data, file: BinaryIO) -> None:
    """Writes the two chunks of a binary glTF."""
    document.update(bufferViews=data.views, accessors=data.accessors, buffers=[{"byteLength": data.size}])
    text = json.dumps(document, separators=(",", ":"), allow_nan=False).encode()
    text += b" " * (-len(text) % 4)
    file.write(struct.pack("<III", _MAGIC, _VERSION, 12 + 8 + len(text) + 8 + data.size))
    file.write(struct.pack("<II", len(text), _JSON) + text + struct.pack("<II", data.size, _BIN))
    file.writelines(data.parts)
