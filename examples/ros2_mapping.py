"""A pose as ROS has it: transforms and markers, as plain numbers. Needs nothing of ROS: ros2_node.py publishes it.

Ours is Y up, in a rest pose (a T-pose) that faces +Z with left = +X. REP-103 wants X ahead, Y left, Z up, of bodies as
of the world: x, y, z there are z, x, y here. That turns axes round, it mirrors nothing: quaternions go the same way.
Frames: the world's (REP-105: "map", or "odom"), below it NAME/pelvis, below that each joint of NAME on its parent. In
the rest pose every one of them is X ahead, Y left, Z up.
"""

from struct import unpack
from typing import NamedTuple

UNIT = 1_000_000_000  # ns
TRUSTED_NS = UNIT  # a pose that seems older, or not yet sent, comes from another machine's clock
COLOURS = {"calibrating": (0.9, 0.7, 0.2, 1.0), "tracking": (0.3, 0.7, 1.0, 1.0), "coasting": (0.6, 0.6, 0.6, 0.6)}
SPHERES, LINES, TEXT = 7, 5, 9  # visualization_msgs/Marker: SPHERE_LIST, LINE_LIST, TEXT_VIEW_FACING


class Transform(NamedTuple):
    """geometry_msgs/TransformStamped without its time: metres, quaternion xyzw."""

    parent: str
    child: str
    translation: tuple
    rotation: tuple


class Marker(NamedTuple):
    """visualization_msgs/Marker without its time, in the world's frame."""

    name: str
    number: int
    kind: int
    points: list
    size_m: float
    colour: tuple
    text: str = ""


def turned(vector):
    """A vector or the first three numbers of a quaternion xyzw, from our axes into those of ROS."""
    x, y, z, *w = vector
    return (z, x, y, *w)


def rows(packed, width):
    """Numbers of a pose's field, ``width`` of them a row."""
    numbers = unpack(f"<{len(packed) // 4}f", packed)
    return [numbers[n : n + width] for n in range(0, len(numbers), width)]


def transforms(pose, joints, parents, world="map"):
    """Each joint on its parent, the pelvis in the world; none while the actor is lost, and what TF knows grows old.

    Args:
        pose: map of a message ``pose``; joints, parents: of that actor's message ``skeleton``.
    """
    if pose["status"] == "lost":
        return []
    (root,), actor = rows(pose["root"], 3), pose["actor"]
    found = []
    for joint, parent, offset, rotation in zip(joints, parents, rows(pose["offsets"], 3), rows(pose["rotations"], 4)):
        at = (world, root) if parent < 0 else (f"{actor}/{joints[parent]}", offset)
        found.append(Transform(at[0], f"{actor}/{joint}", turned(at[1]), turned(rotation)))
    return found


def markers(pose, parents):
    """Joints, bones and the name, above the head; none while the actor is lost: they end by themselves."""
    if pose["status"] == "lost":
        return []
    at = [turned(position) for position in rows(pose["positions"], 3)]
    bones = [point for joint, parent in enumerate(parents) if parent >= 0 for point in (at[parent], at[joint])]
    colour, name = COLOURS[pose["status"]], pose["actor"]
    x, y, _ = at[0]
    above = (x, y, max(z for _, _, z in at) + 0.25)
    return [
        Marker(name, 0, SPHERES, at, 0.05, colour),
        Marker(name, 1, LINES, bones, 0.02, colour),
        Marker(name, 2, TEXT, [above], 0.12, colour, f"{name} ({pose['status']})"),
    ]


def stamp_ns(pose, ros_ns, now_ns):
    """When what a pose shows was, on the clock of ROS.

    Args:
        ros_ns: that clock now; now_ns: this machine's monotonic one (time.perf_counter_ns), which a server here stamps
            with. Of a server elsewhere, poses are taken to have come at once.
    """
    age_ns = now_ns - pose["received_ns"]
    if not 0 <= now_ns - pose["published_ns"] < TRUSTED_NS:
        age_ns = pose["published_ns"] - pose["received_ns"]
    return ros_ns - age_ns + pose["t_ns"] - pose["captured_ns"]
