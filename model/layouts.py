"""Input layouts: which joints a source sends, and how each canonical joint comes from them.

A layout is one weight matrix (24, J) and a rule of validity; the built-in ones are by name (known_layouts.py), a user's
own is a small TOML file. numpy only: the streamer imports it.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from model.known_layouts import KNOWN
from model.skeleton import INDEX, JOINTS, J, ancestor_matrix, rest_offsets

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Rows = dict[str, F64]  # canonical joint -> weights (J,) over the layout's joints


class LayoutError(ValueError):
    """A layout that does not exist or cannot be used; the message names the file, the key and what to do."""


LAYOUTS: tuple[str, ...] = tuple(KNOWN)

_REST = ancestor_matrix() @ rest_offsets()
_SPINE = ("pelvis", "spine1", "spine2", "spine3", "neck")
_UNITS = {"m": 1.0, "cm": 0.01, "mm": 0.001}
_Z_UP = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
_OVER = np.diag([1.0, -1.0, -1.0])  # half a turn about x: what pointed down points up
_Y_UP_FROM = {"y": np.eye(3), "z": _Z_UP, "-y": _OVER, "-z": _OVER @ _Z_UP}
_MIRRORED = np.diag([-1.0, 1.0, 1.0])
_MOST_JOINTS = 256
_MOST_BYTES = 100_000  # of a layout file
_MOST_WEIGHT = 100.0
_CENTRE_M = 0.2  # a pelvis at exactly zero is real where the middle of the hips lies this near


class Layout:
    """How a source's joints become the canonical ones.

    Attributes:
        name: its name, or the file it came from.
        joints: the source's joint names, in the order of its arrays.
        weights: (24, J) canonical = weights @ source; a row of zeros where nothing gives the joint. Rows sum to 1.
        measured: (24,) True where a canonical joint is one of the source's own.
        derived: (24,) True where it is computed from several.
        zeros_are_real: whether a joint at exactly (0, 0, 0) is there; most trackers send that for "not seen".
        world_from_source: (3, 3) turn of the source's axes, its unit in it [m]; None: there is nothing to turn.
    """

    def __init__(
        self, name: str, joints: Sequence[str], rows: Rows, world_from_source: F64 | None = None,
        zeros_are_real: bool = False,
    ) -> None:  # fmt: skip
        self.name, self.joints, self.zeros_are_real = name, tuple(joints), zeros_are_real
        weights = np.zeros((J, len(joints)))
        for joint, row in rows.items():
            weights[INDEX[joint]] = row
        self.weights: F32 = weights.astype(np.float32)
        used = weights != 0
        self.measured: Bools = used.sum(1) == 1
        self.derived: Bools = used.sum(1) > 1
        self._used: F32 = used.astype(np.float32)
        self._enough: F32 = self._used.sum(1) - np.float32(0.5)  # fewer good sources drop the joint
        share = np.abs(weights)
        self._share: F32 = (share / np.maximum(share.sum(1, keepdims=True), 1e-9)).astype(np.float32)
        self._canonical = np.array_equal(weights, np.eye(J))  # joint for joint
        identity = world_from_source is None or np.array_equal(world_from_source, np.eye(3))
        self.world_from_source: F32 | None = None if identity else np.asarray(world_from_source, np.float32)
        self._shape = (len(self.joints), 3)
        hips = weights[INDEX["left_hip"]] + weights[INDEX["right_hip"]]
        centred = self.measured[INDEX["pelvis"]] and hips.sum() > 1.5  # its zero may be the origin of the others
        self._centre = int(weights[INDEX["pelvis"]].argmax()) if centred else None
        unit_m = 1.0 if world_from_source is None else float(np.abs(world_from_source).max())
        self._hips, self._near = (0.5 * hips).astype(np.float32), _CENTRE_M / unit_m
        self._ones: F32 = (self.measured | self.derived).astype(np.float32)
        for array in (self.weights, self.measured, self.derived, self._ones):
            array.setflags(write=False)  # to_canonical hands these out

    def __repr__(self) -> str:
        return f"Layout({self.name!r}, {len(self.joints)} joints, {self.measured.sum()} measured)"

    def to_canonical(
        self, positions: npt.NDArray[Any], confidence: npt.NDArray[Any] | None = None
    ) -> tuple[F32, Bools, Bools, F32]:
        """The canonical joints of frames; each one's depend on no other.

        Args:
            positions: (..., J, 3) in the layout's units and axes; NaN = missing, and so is exactly (0, 0, 0), but for
                ``zeros_are_real`` and for a pelvis that the hips lie around: of a body whose root is the origin.
            confidence: (..., J) 0..1; zero, negative or NaN = missing. None: all 1.
        Returns:
            xyz (..., 24, 3) m, Y up, finite everywhere, meaningless where neither of the masks is True;
            measured and derived (..., 24), True where the frame gives the joint (any missing source drops it), or (24,)
            where nothing is missing; confidence (..., 24) or (24,), the sources' weighted mean, 0 where missing.
            Masks and confidence may be read-only.
        Raises:
            LayoutError: the number of joints is another.
        """
        if positions.shape[-2:] != self._shape:
            raise LayoutError(f"layout {self.name} has {self._shape[0]} joints: positions are {positions.shape}")
        good = np.isfinite(positions)
        missing = np.count_nonzero(good) < good.size
        if not self.zeros_are_real and np.count_nonzero(positions) < positions.size:
            good &= ~self._unseen(positions)
            missing = np.count_nonzero(good) < good.size
        if confidence is not None:
            given = confidence > 0
            missing = missing or np.count_nonzero(given) < given.size
            confidence = np.minimum(confidence, 1.0, dtype=np.float32)
        measured, derived, trust = self.measured, self.derived, self._ones
        kept = positions.astype(np.float32, copy=missing)
        if missing:
            good = np.logical_and.reduce(good, -1)
            if confidence is not None:
                good &= given
            kept[~good] = 0.0
            whole = good
            if not self._canonical:
                whole = self._each(self._used, good.astype(np.float32)) > self._enough
            measured, derived, trust = measured & whole, derived & whole, trust * whole
            if confidence is not None:
                confidence[~good] = 0.0
        if confidence is not None:
            trust = trust * self._each(self._share, confidence)
        xyz = self._each(self.weights, kept)
        if self.world_from_source is not None:
            xyz = xyz @ self.world_from_source.T
        return xyz, measured, derived, trust

    def points(
        self, which: npt.NDArray[np.intp], positions: npt.NDArray[Any], confidence: npt.NDArray[Any] | None = None
    ) -> F64:
        """(n, 3) points of one frame, none of them a pelvis, in the world [m]: NaN where ``to_canonical`` takes them
        for missing. Arguments as there, but (J, 3) and (J,)."""
        out = positions[which].astype(np.float64)
        if confidence is not None:
            out[~(confidence[which] > 0)] = np.nan
        if not self.zeros_are_real and np.count_nonzero(out) < out.size:
            out[~out.any(1)] = np.nan
        return out if self.world_from_source is None else out @ self.world_from_source.T

    def _unseen(self, positions: npt.NDArray[Any]) -> Bools:
        """(..., J, 1) True for joints at exactly zero that stand for "not seen"."""
        zero: Bools = (positions == 0).all(-1)
        if self._centre is not None:
            with np.errstate(invalid="ignore"):
                hips = np.abs((self._hips[:, None] * positions).sum(-2)).max(-1)
            zero[..., self._centre] &= ~((hips > 0) & (hips < self._near))
        return zero[..., None]

    def _each(self, matrix: F32, x: F32) -> F32:
        """(..., 24) or (..., 24, 3): (24, J) matrix @ x of each frame.

        One product a frame: one of all might round each frame's sums in another order.
        """
        if self._canonical:
            return x
        out: F32 = matrix @ x if x.shape[-2:] == self._shape else (matrix @ x[..., None])[..., 0]
        return out


def _mean(joints: Sequence[str], names: Sequence[str]) -> F64:
    row = np.zeros(len(joints))
    for name in names:
        row[joints.index(name)] += 1.0 / len(names)
    return row


def _derive(joints: Sequence[str], rows: Rows) -> Rows:
    """``rows`` with what can be derived: pelvis, spine, neck, collars, head, hands. Proportions are the rest pose's."""
    out = dict(rows)
    middles = {pair: 0.5 * (rows[f"left_{pair}"] + rows[f"right_{pair}"])
               for pair in ("hip", "shoulder") if f"left_{pair}" in rows and f"right_{pair}" in rows}  # fmt: skip
    if "hip" in middles:
        out.setdefault("pelvis", middles["hip"])
    heights = {name: float(_REST[INDEX[name], 1]) for name in (*_SPINE, "left_hip", "left_shoulder")}
    trunk = [(heights[name], rows[name]) for name in _SPINE if name in rows]
    if "pelvis" not in rows and "hip" in middles:
        trunk.append((heights["left_hip"], middles["hip"]))
    if "neck" not in rows and "shoulder" in middles:
        trunk.append((heights["left_shoulder"], middles["shoulder"]))
    trunk.sort(key=lambda point: point[0])
    for name in _SPINE[1:] if len(trunk) > 1 else ():
        out.setdefault(name, _along(trunk, heights[name]))
    if "shoulder" in middles:
        part = float(_REST[INDEX["left_collar"], 0] / _REST[INDEX["left_shoulder"], 0])
        for side in ("left", "right"):
            out.setdefault(f"{side}_collar", (1 - part) * middles["shoulder"] + part * rows[f"{side}_shoulder"])
    ends = {"head": ("left_ear", "right_ear"), "left_hand": ("left_index", "left_pinky"),
            "right_hand": ("right_index", "right_pinky")}  # fmt: skip
    for name, sources in ends.items():
        if all(source in joints for source in sources):
            out.setdefault(name, _mean(joints, sources))
    if "nose" in joints:
        out.setdefault("head", _mean(joints, ["nose"]))
    return out


def _along(points: list[tuple[float, F64]], height: float) -> F64:
    """Weights at ``height`` on the line through the two points around it, or the last two when it lies above."""
    upper = next((i for i in range(1, len(points)) if points[i][0] >= height), len(points) - 1)
    (low, below), (high, above) = points[upper - 1], points[upper]
    part = (height - low) / (high - low)
    return (1 - part) * below + part * above


def _hint(word: object, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(str(word), known, n=1, cutoff=0.4)
    return f"; did you mean {near[0]!r}?" if near else f"; one of: {', '.join(known)}"


def _row(where: str, joints: Sequence[str], source: Any) -> F64:
    """Weights (J,) of one [map] entry: a name, a list of names (their mean) or a table name -> weight."""
    if isinstance(source, str):
        source = [source]
    if isinstance(source, list) and source:
        source = [(name, 1.0 / len(source)) for name in source]
    elif isinstance(source, Mapping) and source:
        source = list(source.items())
    else:
        raise LayoutError(f"{where}: give a joint name, a list of names or a table of name = weight, not {source!r}")
    row = np.zeros(len(joints))
    for name, weight in source:
        if name not in joints:
            raise LayoutError(f"{where}: {name!r} is not in joints{_hint(name, joints)}")
        if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not abs(weight) <= _MOST_WEIGHT:
            raise LayoutError(
                f"{where}: the weight of {name!r} must be a number within -{_MOST_WEIGHT:g}..{_MOST_WEIGHT:g}"
            )
        row[joints.index(name)] += weight
    if abs(row.sum() - 1.0) > 1e-6:
        raise LayoutError(f"{where}: the weights sum to {row.sum():g}; make them sum to 1")
    return row


def _build(
    name: str, joints: Sequence[str], mapping: Mapping[str, Any], world_from_source: F64 | None = None,
    zeros_are_real: bool = False,
) -> Layout:  # fmt: skip
    rows = {joint: _mean(joints, [joint]) for joint in joints if joint in INDEX}
    taken = [source for source in mapping.values() if isinstance(source, str)]
    for joint in set(taken) & set(rows):  # "spine" of VRM is not the canonical joint of the same name
        rows.pop(joint)
    for joint, source in mapping.items():
        if joint not in INDEX:
            raise LayoutError(f"{name}, [map] {joint}: not a canonical joint{_hint(joint, JOINTS)}")
        rows[joint] = _row(f"{name}, [map] {joint}", joints, source)
    return Layout(name, joints, _derive(joints, rows), world_from_source, zeros_are_real)


_KEYS = ("joints", "map", "up_axis", "units", "mirror", "zeros_are_real")


def read_layout(path: str | Path) -> Layout:
    """A user's layout from a TOML file.

    Keys: ``joints``, the names in the order of the arrays; ``[map]`` canonical = "theirs" | ["a", "b"] (mean) |
    { a = .7, b = .3 }, for joints whose name is not the canonical one; ``up_axis`` = "y" (default), "z", or what points
    down with a minus: "-y", "-z"; ``units`` = "m" (default), "cm" or "mm"; ``mirror`` = true turns a mirror image round
    (x to -x); ``zeros_are_real`` = true keeps joints at exactly (0, 0, 0). Pelvis, spine, neck, collars, head and hands
    are derived where they can be.

    Raises:
        LayoutError: naming the file, the key and what to do.
    """
    table = _table(path)
    for key in table:
        if key not in _KEYS:
            raise LayoutError(f"{path}, {key}: not a key of a layout{_hint(key, _KEYS)}")
    joints = table.get("joints")
    if not isinstance(joints, list) or not joints or not all(isinstance(name, str) for name in joints):
        raise LayoutError(f'{path}, joints: list the joint names in the order of the arrays: joints = ["hips", ...]')
    if len(joints) > _MOST_JOINTS:
        raise LayoutError(f"{path}, joints: {len(joints)} names, {_MOST_JOINTS} are the most; list those that are sent")
    twice = sorted({name for name in joints if joints.count(name) > 1})
    if twice:
        raise LayoutError(f"{path}, joints: {', '.join(twice)} given twice")
    mapping = table.get("map", {})
    if not isinstance(mapping, dict):
        raise LayoutError(f'{path}, map: must be a table: [map] with lines such as pelvis = "hips"')
    turn = _choice(path, table, "up_axis", _Y_UP_FROM, "y") * _choice(path, table, "units", _UNITS, "m")
    if _flag(path, table, "mirror"):
        turn = _MIRRORED @ turn
    layout = _build(str(path), joints, mapping, turn, _flag(path, table, "zeros_are_real"))
    if not layout.measured.any():
        raise LayoutError(f"{path}, map: no canonical joint comes from these; map some of: {', '.join(JOINTS)}")
    return layout


def _table(path: str | Path) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise LayoutError(f"{path}: cannot read the layout ({error.strerror})") from error
    if len(data) > _MOST_BYTES:
        raise LayoutError(f"{path}: a layout has at most {_MOST_JOINTS} joints and {_MOST_BYTES:,} bytes")
    try:
        return tomllib.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise LayoutError(f"{path}: not a TOML file ({error})") from error


def _flag(path: str | Path, table: dict[str, Any], key: str) -> bool:
    value = table.get(key, False)
    if not isinstance(value, bool):
        raise LayoutError(f"{path}, {key}: must be true or false, not {value!r}")
    return value


def _choice(path: str | Path, table: dict[str, Any], key: str, known: Mapping[str, Any], default: str) -> Any:
    value = table.get(key, default)
    if not isinstance(value, str) or value not in known:
        raise LayoutError(f"{path}, {key}: {value!r} is not one of {', '.join(map(repr, known))}")
    return known[value]


@lru_cache(maxsize=32)
def _built_in(name: str) -> Layout:
    known = KNOWN[name]
    return _build(name, known.joints, known.ours, _Y_UP_FROM[known.up_axis] * _UNITS[known.units])


def get_layout(name_or_path: str | Path) -> Layout:
    """The layout of that name, or read from that ``.toml`` file.

    Raises:
        LayoutError: no such name or file, or a file that cannot be used.
    """
    name = str(name_or_path)
    if name in KNOWN:
        return _built_in(name)
    if name.endswith(".toml") or "/" in name:
        return read_layout(name)
    raise LayoutError(f"unknown layout {name!r}{_hint(name, LAYOUTS)} (or give the path of a .toml file)")
