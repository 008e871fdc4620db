"""Acclaim ASF skeletons (CMU, HDM05): bones by name, each with its axes and degrees of freedom."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from model.files.retarget import ClipError, axis_rotation
from model.files.source import MAX_HEADER, MAX_JOINTS, number, read_text
from model.files.tree import Floats

AXES = {"rx": 0, "ry": 1, "rz": 2, "x": 0, "y": 1, "z": 2}


@dataclass(frozen=True)
class Asf:
    """An ASF skeleton: per bone its parent (-1: root), end vector [m], axis rotation (3, 3) and degrees of freedom.

    ``unit_m`` is inches over the ":length 0.45" of the header; AMC gives the root's place in it.
    """

    names: tuple[str, ...]
    parents: tuple[int, ...]
    ends: Floats
    axes: Floats
    dofs: tuple[tuple[str, ...], ...]
    root_order: tuple[str, ...]
    root_axis: Floats
    root_position: Floats
    unit_m: float


class _Bone:
    """The fields of a bone or section by their first word, each read with a check of its own."""

    def __init__(self, path: Path, where: str) -> None:
        self.path, self.where = path, where
        self.fields: dict[str, list[str]] = {}

    def words(self, key: str, count: int, default: list[str] | None = None) -> list[str]:
        found = self.fields.get(key, default)
        if found is None or len(found) < count:
            raise ClipError(self.path, self.where, f"'{key}' missing, or with less than {count} values")
        return found

    def numbers(self, key: str, count: int, default: list[str] | None = None) -> Floats:
        try:
            return np.array([number(word) for word in self.words(key, count, default)[:count]])
        except ValueError as error:
            raise ClipError(self.path, self.where, f"'{key}' should be numbers ({error})") from None

    def euler(self, order: str, degrees: Floats, scale: float) -> Floats:
        """(3, 3) rotation of fixed axes applied in ``order``: XYZ gives Rz Ry Rx."""
        out = np.eye(3)
        if len(order) != 3 or not set(order.lower()) <= set("xyz"):
            raise ClipError(self.path, self.where, f"'axis' should be of an order such as XYZ, is {order[:40]!r}")
        for letter, angle in zip(order.lower(), degrees):
            out = axis_rotation(AXES[letter], angle * scale) @ out
        return out


def _sections(text: str) -> dict[str, list[tuple[int, list[str]]]]:
    """Section name -> [(line number, words)], the words after ``:name`` first."""
    out: dict[str, list[tuple[int, list[str]]]] = {}
    current: list[tuple[int, list[str]]] = []
    for n, line in enumerate(text.splitlines(), 1):
        words = line.split("#")[0].split()
        if not words:
            continue
        if words[0].startswith(":"):
            current = out.setdefault(words[0][1:].lower(), [])
            words = words[1:]
        if words:
            current.append((n, words))
    return out


def _bones(path: Path, lines: list[tuple[int, list[str]]]) -> dict[str, _Bone]:
    bones: dict[str, _Bone] = {}
    bone = _Bone(path, ":bonedata")
    for n, words in lines:
        if words[0] == "begin":
            bone = _Bone(path, f"line {n}")
        elif words[0] == "end":
            bone.where = f"bone '{bone.words('name', 1)[0]}', line {n}"
            bones[bone.words("name", 1)[0]] = bone
        else:
            bone.fields[words[0]] = words[1:]
    if len(bones) >= MAX_JOINTS:
        raise ClipError(path, ":bonedata", f"{len(bones)} bones, but at most {MAX_JOINTS} are read")
    return bones


def _hierarchy(path: Path, lines: list[tuple[int, list[str]]]) -> list[tuple[str, str]]:
    """[(parent, child)] with every parent before its children."""
    pairs, known = [], {"root"}
    for n, words in lines:
        if words[0] in ("begin", "end"):
            continue
        if words[0] not in known:
            raise ClipError(path, f"line {n}", f"hierarchy names '{words[0]}' before its parent")
        for child in words[1:]:
            if child in known:
                raise ClipError(path, f"line {n}", f"hierarchy names '{child}' twice")
            pairs.append((words[0], child))
            known.add(child)
    return pairs


def read_asf(path: Path) -> Asf:
    """The skeleton of an ``.asf`` or ``.asf.gz`` file, in metres.

    Raises:
        ClipError: a section or a bone's field is missing or no number.
    """
    try:
        stamp = path.stat()
    except OSError as error:
        raise ClipError(path, "file", f"cannot be read ({error})") from error
    return _read_asf(path, stamp.st_mtime_ns, stamp.st_size)


@lru_cache(maxsize=64)
def _read_asf(path: Path, *_: int) -> Asf:
    text = read_text(path)
    if len(text) > MAX_HEADER:
        raise ClipError(path, "file", f"longer than {MAX_HEADER} characters, the most of a skeleton that is read")
    sections = _sections(text)
    for need in ("units", "root", "bonedata", "hierarchy"):
        if need not in sections:
            raise ClipError(path, f":{need}", "section missing; is this an ASF file, and complete?")
    units, root = _Bone(path, ":units"), _Bone(path, ":root")
    units.fields = {words[0]: words[1:] for _, words in sections["units"]}
    root.fields = {words[0]: words[1:] for _, words in sections["root"]}
    scale = np.pi / 180 if units.words("angle", 1, ["deg"])[0].startswith("deg") else 1.0
    length = float(units.numbers("length", 1, ["0.45"])[0])
    if not length > 1e-6:
        raise ClipError(path, ":units", f"length {length:g} is no unit; 0.45 is usual")
    unit_m = 0.0254 / length
    bones = _bones(path, sections["bonedata"])
    names, parents = ["root"], [-1]
    ends, axes, dofs = [np.zeros(3)], [np.eye(3)], [()]  # type: list[Floats], list[Floats], list[tuple[str, ...]]
    for parent, child in _hierarchy(path, sections["hierarchy"]):
        if child not in bones:
            raise ClipError(path, ":hierarchy", f"bone '{child}' is not in :bonedata")
        bone = bones[child]
        names.append(child)
        parents.append(names.index(parent))
        ends.append(bone.numbers("direction", 3) * bone.numbers("length", 1)[0] * unit_m)
        axes.append(bone.euler(bone.words("axis", 4)[3], bone.numbers("axis", 3), scale))
        dofs.append(tuple(d.lower() for d in bone.words("dof", 0, []) if d.lower() in ("rx", "ry", "rz")))
    turn = root.euler(root.words("axis", 1, ["XYZ"])[0], root.numbers("orientation", 3, ["0"] * 3), scale)
    order = tuple(word.lower() for word in root.words("order", 1))
    if len(set(order)) != len(order):
        raise ClipError(path, ":root", f"'order' names a channel twice: {' '.join(order)[:40]}")
    place = root.numbers("position", 3, ["0"] * 3) * unit_m
    return Asf(tuple(names), tuple(parents), np.array(ends), np.array(axes), tuple(dofs), order, turn, place, unit_m)
