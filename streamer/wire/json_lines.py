"""Frames and poses as JSON, for programs that have neither ZeroMQ nor msgpack: one object a line. docs/json.md has all.

A line is judged here as far as it can be without knowing the stream; the rest is the server's.
"""

from __future__ import annotations

import json
from difflib import get_close_matches
from itertools import chain
from typing import Any

import numpy as np

from model.layouts import LAYOUTS, Layout, LayoutError, get_layout
from streamer.clock import SECOND_NS
from streamer.errors import FrameError
from streamer.frames import Array, Frame, Pose
from streamer.wire.fields import shown
from streamer.wire.protocol import is_actor_name

MOST_BYTES = 1_000_000  # of a line; 256 joints take 20 kB
DEFAULT_ACTOR = "actor"
FRAME_KEYS = ("actor", "t", "t_ns", "layout", "positions", "confidence")
_HOLE = [np.nan] * 3
_LONGEST_S = 9.2e9  # what 64 bits hold in nanoseconds
_POSE_LAYOUT = "smpl_24"


class LineReader:
    """Frames of lines of JSON; counts each actor's.

    Args:
        layout: of lines that name none.
        own: layouts of the user's by name, which the server knows, too.
        actor: of lines that name none.

    Attributes:
        unread: keys that were met and mean nothing here.
    """

    def __init__(
        self, layout: str | None = None, own: dict[str, Layout] | None = None, actor: str = DEFAULT_ACTOR
    ) -> None:
        self._layout, self._own, self._actor = layout, own or {}, actor
        self._counts: dict[str, int] = {}
        self.unread: set[str] = set()

    def twin(self) -> LineReader:
        """Another one for the same lines."""
        return LineReader(self._layout, self._own, self._actor)

    def frame(self, line: bytes, arrived_ns: int) -> Frame:
        """The frame in one line; ``arrived_ns`` is its time where it has none.

        Raises:
            FrameError: the ``reason`` is the key at fault, or "json"; the message says what to do.
        """
        fields = _object(line)
        self.unread.update(fields.keys() - _MEANT)
        actor, layout = self._named(fields), self._layout_of(fields)
        t_ns = _time(fields, arrived_ns)
        positions = _positions(fields, layout)
        confidence = _confidence(fields, layout)
        seq = self._counts.get(actor, 0)
        self._counts[actor] = seq + 1
        return Frame(actor, seq, t_ns, positions, confidence, layout.name)

    def _named(self, fields: dict[str, Any]) -> str:
        actor = fields.get("actor")
        actor = self._actor if actor is None else actor
        actor = str(actor) if type(actor) is int and abs(actor) < 10**18 else actor  # a tracker's number
        if type(actor) is not str or not is_actor_name(actor):
            raise FrameError("actor", f"actor: 1 to 64 bytes without spaces, or a number, not {shown(actor)}")
        return actor

    def _layout_of(self, fields: dict[str, Any]) -> Layout:
        name = fields.get("layout")
        name = self._layout if name is None else name
        if name is None:
            raise FrameError("layout", 'layout: missing; give "layout" in the line, or --layout for all lines')
        if type(name) is str and name in self._own:
            return self._own[name]
        if type(name) is not str or name not in LAYOUTS:
            hint = _meant(name, (*LAYOUTS, *self._own))
            raise FrameError("layout", f"layout: {shown(name)} is not known{hint}; one of your own: --layout FILE.toml")
        return get_layout(name)


def own_layout(path: str) -> Layout:
    """The user's layout in a TOML file, by the name that frames give it: the file's stem.

    Raises:
        LayoutError: the file cannot be used, or its name can be no layout's.
    """
    layout = get_layout(path)
    name = path.rpartition("/")[2].removesuffix(".toml")
    if not name.replace("-", "_").isidentifier():
        raise LayoutError(f"{path}: name the file with letters, digits, - and _: its name is that of the layout")
    layout.name = name
    return layout


def pose_fields(pose: Pose, full: bool = False) -> dict[str, Any]:
    """A pose as plain numbers: m and s, quaternions xyzw, null for what is no number.

    Args:
        full: with bone lengths, rest offsets, covariances and all stamps.
    """
    variance = np.diagonal(pose.covariance, axis1=-2, axis2=-1).mean(-1)
    fields = {
        "actor": pose.actor, "seq": pose.seq, "t": pose.t_ns / SECOND_NS, "t_ns": pose.t_ns, "status": pose.status,
        "layout": _POSE_LAYOUT, "positions": _plain(pose.positions), "rotations": _plain(pose.rotations),
        "root": _plain(pose.root), "sigma_m": _plain(np.sqrt(np.maximum(variance, 0.0))),
        "contact": _plain(pose.contact, 3), "skipped": pose.skipped, "skeleton_version": pose.skeleton_version,
        "published_ns": pose.published_ns,
    }  # fmt: skip
    if pose.velocity is not None and pose.angular_velocity is not None:
        fields |= {"velocity": _plain(pose.velocity), "angular_velocity": _plain(pose.angular_velocity)}
    if full:
        fields |= {
            "lengths_m": _plain(pose.lengths_m), "offsets_m": _plain(pose.offsets_m),
            "covariance": _plain(pose.covariance, 9), "captured_ns": pose.captured_ns,
            "received_ns": pose.received_ns, "inferred_ns": pose.inferred_ns,
        }  # fmt: skip
    return fields


# What a pose's line has beside a frame's: it can be sent as a frame again.
_POSE_KEYS = (
    "seq", "status", "rotations", "root", "sigma_m", "contact", "skipped", "skeleton_version", "published_ns",
    "lengths_m", "offsets_m", "covariance", "captured_ns", "received_ns", "inferred_ns", "velocity", "angular_velocity",
)  # fmt: skip
_MEANT = frozenset((*FRAME_KEYS, *_POSE_KEYS))


def _plain(array: Array, digits: int = 6) -> Any:
    rounded = np.round(array.astype(np.float64), digits)
    if np.isfinite(rounded).all():
        return rounded.tolist()
    holed = rounded.astype(object)
    holed[~np.isfinite(rounded)] = None
    return holed.tolist()


def _object(line: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(line)
    except json.JSONDecodeError as error:
        raise FrameError("json", f"not JSON: {error.msg} at character {error.pos + 1}") from error
    except (ValueError, RecursionError) as error:
        raise FrameError("json", f"not JSON: {error}") from error
    if type(fields) is not dict:
        raise FrameError("json", f'an object was expected, {{"actor": ..., "positions": ...}}, not {shown(fields)}')
    return fields


def _time(fields: dict[str, Any], arrived_ns: int) -> int:
    t_ns, t_s = fields.get("t_ns"), fields.get("t")
    if t_ns is not None:
        if type(t_ns) is not int or abs(t_ns) >= 2**63:
            raise FrameError("t_ns", f"t_ns: whole nanoseconds, not {shown(t_ns)}; for seconds there is t")
        return int(t_ns)
    if t_s is None:
        return arrived_ns
    if type(t_s) not in (int, float) or not abs(t_s) < _LONGEST_S:
        raise FrameError("t", f"t: seconds, not {shown(t_s)}; for nanoseconds there is t_ns")
    t_ns = round(t_s * SECOND_NS)
    return int(t_ns)


def _positions(fields: dict[str, Any], layout: Layout) -> Array:
    rows = [_HOLE if row is None else row for row in _each(fields, "positions", layout, "[x, y, z]")]
    for i, row in enumerate(rows):
        if type(row) is not list or len(row) != 3:
            raise FrameError("positions", f"positions, {layout.joints[i]}: [x, y, z] or null, not {shown(row)}")
    return _numbers("positions", list(chain.from_iterable(rows)), layout).reshape(-1, 3)


def _confidence(fields: dict[str, Any], layout: Layout) -> Array | None:
    if fields.get("confidence") is None:
        return None
    return _numbers("confidence", _each(fields, "confidence", layout, "number"), layout)


def _each(fields: dict[str, Any], key: str, layout: Layout, what: str) -> list[Any]:
    """One value a joint, of a list in the layout's order or of an object by the joints' names."""
    value = fields.get(key)
    if type(value) is dict:
        for name in value.keys() - set(layout.joints):
            raise FrameError(key, f"{key}: {layout.name} has no joint {shown(name)}{_meant(name, layout.joints)}")
        return [value.get(name) for name in layout.joints]
    if type(value) is not list:
        said = "missing" if value is None else f"not {shown(value)}"
        raise FrameError(key, f"{key}: a list of {len(layout.joints)} {what}, or an object by joint names; {said}")
    if len(value) != len(layout.joints):
        raise FrameError(key, f"{key}: {layout.name} has {len(layout.joints)} joints, not {len(value)}")
    return value


def _numbers(key: str, values: list[Any], layout: Layout) -> Array:
    """As many of each joint, one after the other; NaN for null."""
    if not set(map(type, values)) <= {float}:  # most lines have nothing else, and are spared a look at each
        each = len(values) // len(layout.joints)
        values = [_number(key, layout.joints[i // each], value) for i, value in enumerate(values)]
    with np.errstate(over="ignore"):  # beyond float32 is infinite, and so missing
        return np.array(values).astype(np.float32)


def _number(key: str, joint: str, value: Any) -> float:
    if value is None:
        return np.nan
    if type(value) not in (int, float) or (type(value) is int and abs(value) > 10**30):
        raise FrameError(key, f"{key}, {joint}: a number or null, not {shown(value)}")
    return float(value)


def _meant(word: object, known: tuple[str, ...]) -> str:
    near = get_close_matches(str(word)[:100], known, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
