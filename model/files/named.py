"""Files of named joints (TRC, csv): which input layout the names are, in which unit, and which way is up.

The joints stay what they are, places without turns: they go into the filter as that layout's. Markers on the skin are
no joints, and are not read.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from model.files.joints_csv import read_joints_csv
from model.files.landmarks import plain_name, unprefixed
from model.files.listing import LISTING, listed_fps
from model.files.retarget import ClipError
from model.files.stance import turn_up
from model.files.table import Table, checked
from model.files.trc import read_trc
from model.files.tree import Floats, RigError
from model.kinematics import bone_vectors
from model.layouts import LAYOUTS, Layout, get_layout
from model.skeleton import INDEX, rest_lengths_m

_KINDS = (".trc", ".csv")
_FEWEST = 8  # joints of ours that must be among a file's
_UNITS = {"metres": 1.0, "centimetres": 0.01, "millimetres": 0.001}
_SIZES = (0.45, 1.6)  # of a person, in mean skeletons; no body fits two of the units
_UPRIGHT = 0.7  # of the trunk's mean direction, along an axis that is up


@dataclass(frozen=True)
class NamedJoints:
    """Joints by name on an input layout.

    Attributes:
        kind: the format, in words.
        layout: name of the input layout.
        positions: (T, J, 3) in the layout's order, units and axes; NaN: missing, or not in the file.
        confidence: (T, J) 0..1, None: the file has none.
        times_s: (T,) from 0, growing [s].
        used, unused: the file's names that are the layout's, and that are not.
        notes: what had to be decided, one sentence each.
    """

    kind: str
    layout: str
    positions: Floats
    confidence: Floats | None
    times_s: Floats
    used: tuple[str, ...]
    unused: tuple[str, ...]
    notes: tuple[str, ...]


def is_named_joints(path: Path) -> bool:
    """Whether a file's name is that of a table of named joints (.trc, .csv, also .gz; no list of clips)."""
    name = path.name.lower().removesuffix(".gz")
    return name.endswith(_KINDS) and not name.endswith(LISTING)


def read_named(
    path: Path, fps: float | None = None, unit_m: float | None = None, up: str | None = None
) -> NamedJoints:  # fmt: skip
    """The joints of a ``.trc`` or ``.csv`` file (also .gz).

    Args:
        fps: of a table without times [Hz]; None: as a clips.csv in a parent folder says.
        unit_m: metres per unit; None: as the file says, else the metric unit in which the body is a person's size.
        up: the file's axis that points up (x, y, z, -x, -y, -z); None: the one along which the trunk stands, else y.
    Raises:
        ClipError: names the file, the line or field, and what to do.
    """
    is_trc = path.name.lower().removesuffix(".gz").endswith(".trc")
    rate = fps if fps is not None else listed_fps(path)
    table = checked(path, read_trc(path) if is_trc else read_joints_csv(path, rate))
    layout, columns = _layout_of(path, table)
    shape = (len(table.positions), len(layout.joints))
    positions, confidence = np.full((*shape, 3), np.nan), None
    positions[:, list(columns)] = table.positions[:, list(columns.values())]
    if table.confidence is not None:
        confidence = np.zeros(shape)
        confidence[:, list(columns)] = table.confidence[:, list(columns.values())]
    used = tuple(table.names[n] for n in columns.values())
    unused = tuple(name for name in table.names if name not in used)
    own = np.eye(3) if layout.world_from_source is None else layout.world_from_source.astype(np.float64)
    xyz, measured, derived, _ = layout.to_canonical(positions)
    joints = np.where((measured | derived)[..., None], xyz, np.nan) @ np.linalg.inv(own).T  # in the file's axes
    unit, notes = _unit(path, joints, unit_m, table.unit_m)
    turn, said = _turn(path, joints, up)
    notes += said + ((f"not used: {', '.join(unused)}",) if unused else ())
    positions = unit * positions @ turn.T @ np.linalg.inv(own).T
    kind = "TRC" if is_trc else "csv"
    return NamedJoints(kind, layout.name, positions, confidence, table.times_s, used, unused, notes)


def _layout_of(path: Path, table: Table) -> tuple[Layout, dict[int, int]]:
    """The built-in layout that knows most of the names, and its joint's number -> the file's."""
    have: dict[tuple[str, str], int] = {}
    for n, name in enumerate(unprefixed(table.names)):
        have.setdefault(plain_name(name), n)
    best, columns, most = get_layout(LAYOUTS[0]), dict[int, int](), 0
    for name in LAYOUTS:
        layout = get_layout(name)
        found = {i: have[key] for i, joint in enumerate(layout.joints) if (key := plain_name(joint)) in have}
        score = int(np.count_nonzero(np.abs(layout.weights[:, list(found)]).sum(0))) if found else 0
        if score > most:
            best, columns, most = layout, found, score
    if most < _FEWEST:
        names = ", ".join(table.names[:12])
        raise ClipError(
            path, "joint names", f"{most} of them are joints of a layout that is known here (docs/layouts.md), and "
            f"{_FEWEST} are needed; markers on the skin are no joints; the file has: {names}",
        )  # fmt: skip
    return best, columns


def _unit(path: Path, joints: Floats, asked: float | None, said: float | None) -> tuple[float, tuple[str, ...]]:
    """Metres per unit, and what is to be said of it."""
    lengths = np.linalg.norm(bone_vectors(joints), axis=-1)[:, 1:] / rest_lengths_m()[1:]
    lengths = lengths[np.isfinite(lengths)]
    if not len(lengths):
        raise ClipError(path, "positions", "no bone is ever seen: both its joints in one frame")
    size = float(np.median(lengths))
    for unit in (asked, said):
        if unit is not None:
            if not _SIZES[0] <= size * unit < _SIZES[1]:
                found = f"the body would be {size * unit:.3g} times a person's size"
                raise ClipError(path, "size", f"{found}; pass unit_m= (metres per unit)")
            return unit, ()
    for name, unit in _UNITS.items():
        if _SIZES[0] <= size * unit < _SIZES[1]:
            return unit, (f"the body is a person's size in {name}, which were taken as the unit",)
    raise ClipError(path, "size", f"the body is {size:.3g} times a person's in metres, and no unit fits; pass unit_m=")


def _turn(path: Path, joints: Floats, up: str | None) -> tuple[Floats, tuple[str, ...]]:
    """(3, 3) turn of the file's axes to Y up, and what is to be said of it."""
    if up is not None:
        try:
            return turn_up(up), ()
        except RigError as error:
            raise ClipError(path, "up", str(error)) from error
    hips = joints[:, [INDEX["left_hip"], INDEX["right_hip"]]].mean(1)
    trunk = joints[:, [INDEX["left_shoulder"], INDEX["right_shoulder"]]].mean(1) - hips
    trunk = trunk[np.isfinite(trunk).all(1)]
    mean = (
        (trunk / np.maximum(np.linalg.norm(trunk, axis=1, keepdims=True), 1e-9)).mean(0) if len(trunk) else np.zeros(3)
    )
    which = int(np.abs(mean).argmax())
    if abs(mean[which]) < _UPRIGHT or (which == 1 and mean[1] > 0.0):
        return np.eye(3), ()
    axis = ("-" if mean[which] < 0.0 else "") + "xyz"[which]
    return turn_up(axis), (f"the body stands along the file's {axis} axis, which was taken as up; else pass up=",)
