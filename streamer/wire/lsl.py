"""What the channels of a LabStreamingLayer stream hold: of our poses, and as other programs describe theirs.

Both follow the recommendation for streams of type MoCap: each channel has a label, the marker that it is of, a type
and a unit. Types are PositionX, PositionY, PositionZ, the quaternion's OrientationA (the scalar), OrientationB, C and
D, and Confidence. Ours has, of each of the 24 joints, where it is in the world, how it is turned in the world, and by
how much its place may be off; then whether feet stand, and the status as a number.
Source: github.com/sccn/xdf/wiki/MoCap-Meta-Data. No LSL in here: lists of channels, and numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from model.layouts import LAYOUTS, Layout, get_layout
from model.skeleton import JOINTS, PARENTS, J
from streamer.errors import ConfigError
from streamer.frames import Array, Pose
from streamer.quaternions import Quaternion, product

KIND = "MoCap"  # content type of such streams
STATES = ("calibrating", "tracking", "coasting", "lost")  # 0, 1, 2, 3
PLACES = ("PositionX", "PositionY", "PositionZ")
TURNS = ("OrientationB", "OrientationC", "OrientationD", "OrientationA")  # x, y, z, w
TRUST = "Confidence"
_UNITS_M = {"meters": 1.0, "meter": 1.0, "metres": 1.0, "metre": 1.0, "m": 1.0, "centimeters": 0.01, "cm": 0.01,
            "millimeters": 0.001, "millimetres": 0.001, "mm": 0.001}  # fmt: skip
_SHORT = {"PositionX": "x", "PositionY": "y", "PositionZ": "z", "OrientationA": "qw", "OrientationB": "qx",
          "OrientationC": "qy", "OrientationD": "qz", TRUST: "confidence"}  # fmt: skip


class Channel(NamedTuple):
    """One channel as a stream's description has it; "" where it says nothing."""

    label: str
    marker: str = ""
    type: str = ""
    unit: str = ""


def pose_channels() -> list[Channel]:
    """Of a pose, in the order of ``pose_sample``."""
    channels = []
    for joint in JOINTS:
        channels += [Channel(f"{joint}_{_SHORT[kind]}", joint, kind, "meters") for kind in PLACES]
        channels += [Channel(f"{joint}_{_SHORT[kind]}", joint, kind, "quaternion") for kind in TURNS]  # x, y, z, w
        channels.append(Channel(f"{joint}_sigma", joint, "Sigma", "meters"))
    channels += [
        Channel(f"{side}_foot_contact", f"{side}_foot", "Contact", "probability") for side in ("left", "right")
    ]
    return [*channels, Channel("status", "", "Status", "0 calibrating, 1 tracking, 2 coasting, 3 lost")]


def pose_sample(pose: Pose) -> npt.NDArray[np.float32]:
    """(24 * 8 + 3,) the numbers of a pose; all but the status NaN while the actor is lost."""
    sample = np.full(8 * J + 3, np.nan, np.float32)
    sample[-1] = STATES.index(pose.status)
    if pose.status != "lost":
        joints = sample[: 8 * J].reshape(J, 8)
        joints[:, :3] = pose.positions
        world: list[Quaternion] = []
        for parent, (x, y, z, w) in zip(PARENTS, pose.rotations.tolist()):
            world.append((x, y, z, w) if parent < 0 else product(world[parent], (x, y, z, w)))
        joints[:, 3:7] = world
        joints[:, 7] = np.sqrt(np.maximum(np.diagonal(pose.covariance, axis1=-2, axis2=-1).mean(-1), 0.0))
        sample[-3:-1] = pose.contact
    return sample


class Reading:
    """How samples of somebody's stream become the joints of a layout.

    Attributes:
        layout: of the frames.
        missing: joints of the layout that no channel gives.
        rotations: whether some joint comes with an orientation.
    Args:
        channels: as many as the stream has.
        layout: None: the known one of which the stream has all joints, and most.
    Raises:
        ConfigError: no layout is that of these channels; the message names both.
    """

    def __init__(self, channels: Sequence[Channel], layout: Layout | None = None) -> None:
        columns = _columns(channels)
        if columns:
            self.layout = layout or _layout_of(columns)
            names = {_plain(name): of for name, of in columns.items()}
            found = [names.get(_plain(joint), {}) for joint in self.layout.joints]
        else:
            self.layout, found = _in_order(len(channels), layout)
        self.missing = [joint for joint, of in zip(self.layout.joints, found) if not set(PLACES) <= set(of)]
        if len(self.missing) == len(found):
            shown = ", ".join(list(columns)[:6])
            raise ConfigError(
                f"none of layout {self.layout.name}'s joints is there, but {shown}; give another --layout"
            )
        absent = len(channels)  # a column of NaN behind the sample's own
        self._places = np.array([[of.get(kind, absent) for kind in PLACES] for of in found])
        self._turns = np.array([[of.get(kind, absent) for kind in TURNS] for of in found])
        self._trust = np.array([of.get(TRUST, absent) for of in found])
        self.rotations = bool((self._turns < absent).all(1).any())
        self._trusts = bool((self._trust < absent).any())
        unit = None if self.layout.world_from_source is None else float(np.abs(self.layout.world_from_source).max())
        scale = [_UNITS_M.get(c.unit.lower().strip(), 0.0) / (unit or 1.0) for c in channels]
        self._scale = np.array([*(s or 1.0 for s in scale), 1.0])[self._places]

    def read(self, sample: Sequence[float]) -> tuple[Array, Array | None, Array | None]:
        """(J, 3) positions, (J, 4) rotations xyzw and (J,) confidence; NaN where there is none, None where never."""
        numbers = np.array([*sample, np.nan], np.float64)
        positions = numbers[self._places] * self._scale
        rotations = confidence = None
        if self.rotations:
            rotations = numbers[self._turns]
            size = np.linalg.norm(rotations, axis=-1, keepdims=True)
            rotations = np.where(np.abs(size - 1.0) < 0.1, rotations / np.where(size > 0.0, size, 1.0), np.nan)
        if self._trusts:
            trust = numbers[self._trust]
            confidence = np.where(self._trust == len(sample), 1.0, np.clip(np.nan_to_num(trust), 0.0, 1.0))
        return positions, rotations, confidence


def _columns(channels: Sequence[Channel]) -> dict[str, dict[str, int]]:
    """Joint -> type -> channel, of the channels of which both are told."""
    columns: dict[str, dict[str, int]] = {}
    for n, one in enumerate(channels):
        if one.type in _SHORT:
            name = one.marker or one.label.removesuffix(one.type).removesuffix(_SHORT[one.type]).rstrip("_ .:-")
            if name:
                columns.setdefault(name, {})[one.type] = n
    return columns


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())


def _layout_of(columns: dict[str, Any]) -> Layout:
    there = {_plain(name) for name in columns}
    whole = [name for name in LAYOUTS if {_plain(joint) for joint in get_layout(name).joints} <= there]
    if not whole:
        shown = ", ".join(list(columns)[:6])
        raise ConfigError(f"joints of no known layout ({shown}, ...); give --layout NAME or FILE.toml")
    return max((get_layout(name) for name in whole), key=lambda layout: len(layout.joints))


def _in_order(count: int, layout: Layout | None) -> tuple[Layout, list[dict[str, int]]]:
    """Channels that nobody described: x, y, z of each joint, and perhaps its confidence."""
    if layout is None:
        raise ConfigError("it does not say what its channels are (MoCap meta-data); give --layout NAME or FILE.toml")
    joints = len(layout.joints)
    if count not in (3 * joints, 4 * joints):
        raise ConfigError(
            f"it does not say what its {count} channels are; for layout {layout.name} {3 * joints} were expected, "
            f"x, y, z of each joint, or {4 * joints} with its confidence"
        )
    step = count // joints
    return layout, [{kind: n * step + k for k, kind in enumerate((*PLACES, TRUST)[:step])} for n in range(joints)]
