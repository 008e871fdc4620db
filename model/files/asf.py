"""Acclaim ASF skeletons and AMC motion (CMU, HDM05) as a Tree; the mapping to our joints is in rigs.py.

A bone of the file becomes a node at the bone's start, so its offset is its parent's bone; bone ends are kept as `ends`.
"""

from __future__ import annotations

import gzip
import logging
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from model.files.retarget import ClipError, Floats, Tree, axis_rotation

UNIT_M = 0.0254 / 0.45  # ASF length unit: inches over the ":length 0.45" of the header
AMC_FPS = 120.0  # neither ASF nor AMC states a rate; the CMU and HDM05 captures are at 120
_log = logging.getLogger(__name__)
_AXES = {"rx": 0, "ry": 1, "rz": 2, "x": 0, "y": 1, "z": 2}


@dataclass(frozen=True)
class Asf:
    """An ASF skeleton: per bone its parent (-1: root), end vector [m], axis rotation (3, 3) and degrees of freedom."""

    names: tuple[str, ...]
    parents: tuple[int, ...]
    ends: Floats
    axes: Floats
    dofs: tuple[tuple[str, ...], ...]
    root_order: tuple[str, ...]
    root_axis: Floats
    root_position: Floats


def open_text(path: Path) -> str:
    """The text of a plain or gzipped file."""
    try:
        raw = path.read_bytes()
        if path.suffix == ".gz":
            raw = gzip.decompress(raw)
    except (OSError, EOFError) as error:
        raise ClipError(path, "file", f"cannot be read ({error}); is it complete?") from error
    return raw.decode("latin-1")


def find_asf(amc: Path) -> Path:
    """The skeleton of an AMC file: 001_01.amc -> 001.asf, HDM_bd_walk.amc -> bd.asf, or the folder's only .asf."""
    stem = amc.name.split(".")[0]
    parts = stem.split("_")
    for candidate in (stem, parts[0], *parts[1:2]):
        for suffix in (".asf", ".asf.gz"):
            if (amc.parent / (candidate + suffix)).exists():
                return amc.parent / (candidate + suffix)
    found = sorted(p for p in amc.parent.glob("*.asf*") if p.name.endswith((".asf", ".asf.gz")))
    if len(found) == 1:
        return found[0]
    raise ClipError(amc, "skeleton", f"no {parts[0]}.asf(.gz) beside it; put the subject's .asf file in {amc.parent}")


def _euler(order: str, degrees: list[float], scale: float) -> Floats:
    """(3, 3) rotation of fixed axes applied in ``order``: XYZ gives Rz Ry Rx."""
    out = np.eye(3)
    for letter, angle in zip(order.lower(), degrees, strict=False):
        out = axis_rotation(_AXES[letter], np.asarray(angle * scale)) @ out
    return out


def _sections(text: str) -> dict[str, list[tuple[int, list[str]]]]:
    """Section name -> [(line number, words)], the words after ``:name`` first."""
    out: dict[str, list[tuple[int, list[str]]]] = {}
    current: list[tuple[int, list[str]]] = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split("#")[0].split()
        if not words:
            continue
        if words[0].startswith(":"):
            current = out.setdefault(words[0][1:].lower(), [])
            words = words[1:]
        if words:
            current.append((number, words))
    return out


def _bones(path: Path, lines: list[tuple[int, list[str]]]) -> dict[str, dict[str, list[str]]]:
    bones: dict[str, dict[str, list[str]]] = {}
    bone: dict[str, list[str]] = {}
    for number, words in lines:
        if words[0] == "begin":
            bone = {}
        elif words[0] == "end":
            for key in ("name", "direction", "length", "axis"):
                if key not in bone:
                    raise ClipError(path, f"line {number}", f"bone {bone.get('name', ['?'])[0]} has no '{key}'")
            bones[bone["name"][0]] = bone
        else:
            bone[words[0]] = words[1:]
    return bones


def _hierarchy(path: Path, lines: list[tuple[int, list[str]]]) -> list[tuple[str, str]]:
    """[(parent, child)] with every parent before its children."""
    pairs, known = [], {"root"}
    for number, words in lines:
        if words[0] in ("begin", "end"):
            continue
        if words[0] not in known:
            raise ClipError(path, f"line {number}", f"hierarchy names '{words[0]}' before its parent")
        pairs += [(words[0], child) for child in words[1:]]
        known.update(words[1:])
    return pairs


@lru_cache(maxsize=64)
def read_asf(path: Path) -> Asf:
    """The skeleton of an ``.asf`` or ``.asf.gz`` file, in metres.

    Raises:
        ClipError: a section or a bone's field is missing.
    """
    sections = _sections(open_text(path))
    for need in ("units", "root", "bonedata", "hierarchy"):
        if need not in sections:
            raise ClipError(path, f":{need}", "section missing; is this an ASF file, and complete?")
    units = {words[0]: words[1:] for _, words in sections["units"]}
    root = {words[0]: words[1:] for _, words in sections["root"]}
    scale = np.pi / 180 if units.get("angle", ["deg"])[0].startswith("deg") else 1.0
    unit_m = 0.0254 / float(units.get("length", ["0.45"])[0])
    bones = _bones(path, sections["bonedata"])
    names, parents = ["root"], [-1]
    ends, axes, dofs = [np.zeros(3)], [np.eye(3)], [()]  # type: list[Floats], list[Floats], list[tuple[str, ...]]
    for parent, child in _hierarchy(path, sections["hierarchy"]):
        if child not in bones:
            raise ClipError(path, ":hierarchy", f"bone '{child}' is not in :bonedata")
        bone = bones[child]
        names.append(child)
        parents.append(names.index(parent))
        ends.append(np.array(bone["direction"][:3], float) * float(bone["length"][0]) * unit_m)
        axes.append(_euler(bone["axis"][3], [float(a) for a in bone["axis"][:3]], scale))
        dofs.append(tuple(d.lower() for d in bone.get("dof", []) if d.lower() in ("rx", "ry", "rz")))
    orientation = [float(a) for a in root.get("orientation", ["0", "0", "0"])]
    return Asf(
        tuple(names), tuple(parents), np.array(ends), np.array(axes), tuple(dofs),
        tuple(word.lower() for word in root["order"]), _euler(root.get("axis", ["XYZ"])[0], orientation, scale),
        np.array(root.get("position", ["0", "0", "0"]), float) * unit_m,
    )  # fmt: skip


def _amc_layout(path: Path, lines: list[str]) -> tuple[int, list[list[str]], float]:
    """Index of the first frame's line, that frame's words line by line, and radians per unit of angle."""
    scale, first = 1.0, 0
    while first < len(lines) and not lines[first].strip().isdigit():
        if lines[first].strip().upper() == ":DEGREES":
            scale = np.pi / 180
        first += 1
    if first == len(lines):
        raise ClipError(path, "frames", "no frame number found; is this an AMC file, and complete?")
    end = first + 1
    while end < len(lines) and not lines[end].strip().isdigit():
        end += 1
    return first, [line.split() for line in lines[first:end]], scale


def _amc_columns(path: Path, asf: Asf) -> tuple[dict[str, Floats], float]:
    """Bone name -> (T, dof) values as in the file, and radians per unit of angle."""
    lines = open_text(path).splitlines()
    first, shape, scale = _amc_layout(path, lines)
    _check_bones(path, asf, first, shape)
    starts = np.cumsum([0] + [len(words) for words in shape])
    tokens = " ".join(lines[first:]).split()
    frames, rest = divmod(len(tokens), int(starts[-1]))
    table = np.array(tokens[: frames * starts[-1]], dtype=object).reshape(frames, -1)
    names = starts[1:-1]
    fault = _amc_fault(path, lines, first, shape) if rest or (table[:, names] != table[0, names]).any() else None
    if fault is not None:
        raise fault
    if rest:  # CMU's own 07_12 ends like this: all whole frames are good
        _log.warning("%s: line %d: the last frame is cut off and left out; %d frames read", path, len(lines), frames)
    try:
        bones = zip(shape[1:], names, strict=True)
        return {w[0]: table[:, at + 1 : at + len(w)].astype(np.float64) for w, at in bones}, scale
    except ValueError:
        raise _amc_fault(path, lines, first, shape) or ClipError(path, "frames", "not all numbers") from None


def _check_bones(path: Path, asf: Asf, first: int, shape: list[list[str]]) -> None:
    """Raises if the first frame does not fit the skeleton."""
    for number, words in enumerate(shape[1:], first + 2):
        if words[0] not in asf.names:
            raise ClipError(path, f"line {number}", f"bone '{words[0]}' is not in the .asf beside it")
        dof = len(asf.root_order) if words[0] == "root" else len(asf.dofs[asf.names.index(words[0])])
        if len(words) - 1 != dof:
            found = f"bone '{words[0]}' has {len(words) - 1} values, but the .asf gives it {dof}"
            raise ClipError(path, f"line {number}", f"{found}; is it the subject's .asf, and the file complete?")
    missing = [n for n, dof in zip(asf.names, asf.dofs, strict=True) if dof or n == "root"]
    missing = [name for name in missing if name not in {words[0] for words in shape}]
    if missing:
        raise ClipError(
            path, f"line {first + len(shape)}", f"the first frame ends without bone '{missing[0]}'; is it cut off?"
        )


def _amc_fault(path: Path, lines: list[str], first: int, shape: list[list[str]]) -> ClipError | None:
    """The error for the first line that differs from the first frame's pattern; a last line cut short is none."""
    for at in range(first, len(lines)):
        words, want = lines[at].split(), shape[(at - first) % len(shape)]
        heading = want[0].isdigit()
        ok = len(words) == len(want) and (words[0].isdigit() if heading else words[0] == want[0])
        try:
            [float(word) for word in words[1:]]
        except ValueError:
            ok = False
        if not ok and (at < len(lines) - 1 or len(words) >= len(want)):
            name = "a frame number" if heading else f"bone '{want[0]}' with {len(want) - 1} values"
            return ClipError(
                path, f"line {at + 1}", f"expected {name}, found {lines[at][:40]!r}; repair or cut the file"
            )
    return None


def read_amc(path: Path, asf_path: Path | None = None) -> Tree:
    """The motion of an ``.amc`` or ``.amc.gz`` file as a Tree at 120 fps.

    Raises:
        ClipError: no skeleton beside it, or frames that do not match it.
    """
    asf = read_asf(asf_path or find_asf(path))
    columns, scale = _amc_columns(path, asf)
    frames, n = len(columns["root"]), len(asf.names)
    root = dict(zip(asf.root_order, columns["root"].T, strict=True))
    rot = np.empty((frames, n, 3, 3))
    turn = np.broadcast_to(np.eye(3), (frames, 3, 3))
    for key in [key for key in asf.root_order if key in _AXES]:
        turn = axis_rotation(_AXES[key], root[key] * scale) @ turn
    rot[:, 0] = turn @ asf.root_axis
    for i in range(1, n):
        parent = rot[:, asf.parents[i]]
        if asf.names[i] not in columns:
            rot[:, i] = parent
            continue
        local = np.broadcast_to(asf.axes[i].T, (frames, 3, 3))
        for key, angle in zip(asf.dofs[i], columns[asf.names[i]].T, strict=True):
            local = axis_rotation(_AXES[key], angle * scale) @ local
        rot[:, i] = parent @ asf.axes[i] @ local
    where = np.stack([root.get(k, np.zeros(frames)) for k in ("tx", "ty", "tz")], -1) * UNIT_M + asf.root_position
    offsets = np.array([asf.ends[p] if p >= 0 else np.zeros(3) for p in asf.parents])
    leaves = {name: end for name, end in zip(asf.names, asf.ends, strict=True) if name != "root"}
    return Tree(asf.names, asf.parents, offsets, rot, where, AMC_FPS, leaves)
