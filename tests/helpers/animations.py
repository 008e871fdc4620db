"""Animations to write, and what readers that are not ours make of the files: where joints are, and where they face.

The readers: bvhio for BVH, pygltflib and scipy for glTF, scipy for npz, and by node.js (a visible skip without it, or
without the packages in NODE_PATH) Khronos' gltf-validator, three.js and @pixiv/three-vrm-animation.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from model.files.animation import Animation
from model.files.quaternions import continuous
from model.skeleton import INDEX, JOINTS, PARENTS, J, rest_offsets

_WANTED = "gltf-validator three @pixiv/three-vrm @pixiv/three-vrm-animation"
_JUDGES = Path(__file__).parent / "gltf_judges.cjs"


class Seen(NamedTuple):
    """A frame of a file: (24, 3) joints [m, Y up], and (24, 3) where each joint's +Z of the rest pose points."""

    at: np.ndarray
    forward: np.ndarray


def expected(animation: Animation, frame: int) -> Seen:
    """What is to be seen: by the slow obvious way."""
    return by_scipy(animation.local[frame], animation.root[frame], animation.offsets_m)


def by_scipy(local: np.ndarray, root: np.ndarray, offsets: np.ndarray) -> Seen:
    """Joints of local quaternions (24, 4), one joint after the other."""
    at, turn = [np.asarray(root)], [Rotation.from_quat(local[0])]
    for j in range(1, J):
        at.append(at[PARENTS[j]] + turn[PARENTS[j]].apply(offsets[j]))
        turn.append(turn[PARENTS[j]] * Rotation.from_quat(local[j]))
    return Seen(np.array(at), np.array([each.apply([0.0, 0.0, 1.0]) for each in turn]))


def raised(frames: int = 31, fps: float = 30.0) -> Animation:
    """Somebody who raises the left arm and turns the head to the left, the right arm hanging."""
    share = np.linspace(0.0, 1.0, frames)
    turns = np.zeros((frames, J, 3))
    turns[:, INDEX["left_shoulder"], 2] = np.radians(-75.0 + 155.0 * share)
    turns[:, INDEX["right_shoulder"], 2] = np.radians(75.0)
    turns[:, INDEX["head"], 1] = np.radians(60.0 * share)
    local = Rotation.from_rotvec(turns.reshape(-1, 3)).as_quat().reshape(frames, J, 4)
    root = np.array([0.3, 0.95, -0.2]) + share[:, None] * (0.0, 0.0, 0.4)
    return Animation("raised", fps, local, root, rest_offsets())


def assert_raised(first: Seen, last: Seen, tolerance_m: float) -> None:
    """Left is left, up is up and the head looks left, and every joint is where it should be."""
    at = dict(zip(JOINTS, last.at, strict=True))
    assert at["left_wrist"][1] > at["head"][1] + 0.2  # up
    assert first.at[INDEX["left_wrist"], 1] < at["left_shoulder"][1] - 0.3  # from below
    assert at["left_wrist"][0] > at["pelvis"][0] + 0.1  # on the left, which is +X of somebody who faces +Z
    assert at["right_wrist"][1] < at["right_shoulder"][1] - 0.3
    assert at["right_wrist"][0] < at["pelvis"][0] - 0.1
    np.testing.assert_allclose(last.forward[INDEX["pelvis"]], (0.0, 0.0, 1.0), atol=1e-5)
    np.testing.assert_allclose(last.forward[INDEX["head"]], (np.sin(np.pi / 3), 0.0, 0.5), atol=1e-5)  # to +X: left
    for frame, seen in ((0, first), (30, last)):
        want = expected(raised(), frame)
        np.testing.assert_allclose(seen.at, want.at, rtol=0, atol=tolerance_m)
        np.testing.assert_allclose(seen.forward, want.forward, rtol=0, atol=1e-5)


def wild(frames: int = 90, fps: float = 60.0, seed: int = 0) -> Animation:
    """Turns of every joint in any direction, somebody spinning, on a person with a torso of their own."""
    rng = np.random.default_rng(seed)
    time = np.arange(frames) / fps
    swing = rng.normal(size=(J, 3)) * np.sin(
        time[:, None, None] * rng.uniform(2.0, 5.0, (J, 1)) + rng.normal(size=(J, 1))
    )
    swing[:, 0] = np.outer(5.0 * time, (0.1, 0.99, 0.0))
    offsets = rest_offsets() * rng.uniform(0.8, 1.1, (J, 1))
    forks = [INDEX[name] for name in ("left_hip", "spine1", "right_collar", "neck")]
    offsets[forks] += 0.015 * rng.normal(size=(len(forks), 3))
    local = Rotation.from_rotvec(swing.reshape(-1, 3)).as_quat().reshape(frames, J, 4)
    root = np.stack([np.sin(time), 0.9 + 0.1 * np.cos(3.0 * time), time], -1)
    return Animation("wild", fps, continuous(local), root, offsets)


# -- readers that are not ours ----------------------------------------------------------------------------------------


def of_bvh(path: Path, frames: list[int]) -> list[Seen]:
    """By bvhio, in metres. Its joints have axes along their bones, so a turn is from its own rest pose."""
    bvhio = pytest.importorskip("bvhio", reason="bvhio is not installed (extra: dev)")
    body = bvhio.readAsHierarchy(str(path))
    joints = {joint.Name: joint for joint, _, _ in body.layout()}
    body.loadRestPose()
    rest = {name: _turn(joint) for name, joint in joints.items()}
    out = []
    for frame in frames:
        body.loadPose(frame)
        at = np.array([tuple(joints[name].PositionWorld) for name in JOINTS]) / 100.0
        turns = [_turn(joints[name]) * rest[name].inv() for name in JOINTS]
        out.append(Seen(at, np.array([turn.apply([0.0, 0.0, 1.0]) for turn in turns])))
    return out


def _turn(joint: Any) -> Rotation:
    turn = joint.RotationWorld
    return Rotation.from_quat([turn.x, turn.y, turn.z, turn.w])


def of_npz(path: Path, frames: list[int]) -> list[Seen]:
    """As a user of AMASS would: root and body by axis-angle, Z up, the pelvis beside ``trans``; turned to Y up."""
    with np.load(path) as data:
        turns = np.concatenate([data["poses"].reshape(-1, 52, 3)[:, :22], data["hands"]], axis=1)
        root, offsets = data["trans"] + data["bone_offsets"][0], data["bone_offsets"]
    out = []
    for frame in frames:
        seen = by_scipy(Rotation.from_rotvec(turns[frame]).as_quat(), root[frame], offsets)
        out.append(Seen(*(np.stack([v[:, 0], v[:, 2], -v[:, 1]], -1) for v in seen)))
    return out


def of_lines(path: Path, frames: list[int]) -> list[Seen]:
    """By json and scipy."""
    lines = [json.loads(text) for text in path.read_text(encoding="utf-8").splitlines()]
    return [
        Seen(np.array(lines[n]["positions"]), by_scipy(lines[n]["rotations"], lines[n]["root"], rest_offsets()).forward)
        for n in frames
    ]


def of_glb(path: Path, frames: list[int]) -> list[Seen]:
    """By pygltflib: the nodes' own names, parents and rest, and the keys of their tracks."""
    pygltflib = pytest.importorskip("pygltflib", reason="pygltflib is not installed (extra: dev)")
    gltf = pygltflib.GLTF2().load_binary(str(path))
    blob = gltf.binary_blob()
    nodes = {node.name: n for n, node in enumerate(gltf.nodes)}
    parents = {child: n for n, node in enumerate(gltf.nodes) for child in node.children or []}
    tracks = {}
    for channel in gltf.animations[0].channels:
        accessor = gltf.accessors[gltf.animations[0].samplers[channel.sampler].output]
        start = gltf.bufferViews[accessor.bufferView].byteOffset
        width = {"VEC3": 3, "VEC4": 4}[accessor.type]
        values = np.frombuffer(blob, "<f4", accessor.count * width, start).reshape(-1, width)
        tracks[channel.target.node, channel.target.path] = values.astype(np.float64)
    assert [parents.get(nodes[name], -1) for name in JOINTS] == [
        nodes[JOINTS[p]] if p >= 0 else -1 for p in PARENTS
    ]  # fmt: skip
    offsets = np.array([gltf.nodes[nodes[name]].translation for name in JOINTS])
    turns = np.stack([tracks[nodes[name], "rotation"] for name in JOINTS], 1)
    return [by_scipy(turns[n], tracks[nodes["pelvis"], "translation"][n], offsets) for n in frames]


# -- by node.js -------------------------------------------------------------------------------------------------------


def judged(*words: str, package: str) -> Any:
    """What tests/helpers/gltf_judges.cjs says; a visible skip without node.js or the package."""
    if package not in _packages():
        pytest.skip(f"no {package} for node.js: npm install {_WANTED}, then NODE_PATH=.../node_modules")
    return _node(*words)


@cache
def _packages() -> list[str]:
    found: list[str] = _node("packages") if shutil.which("node") else []
    return found


def _node(*words: str) -> Any:
    done = subprocess.run(["node", str(_JUDGES), *words], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def of_three(path: Path, times_s: list[float]) -> list[Seen]:
    found = judged("three", str(path), *map(str, times_s), package="three")
    return [Seen(*(np.array([part[name] for name in JOINTS]) for part in (f["at"], f["forward"]))) for f in found]
