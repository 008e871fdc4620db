"""Of ROS 2's Python, as much as examples/ros2_node.py uses, for a machine that has no ROS: written into a folder.

Messages take the fields of their definitions (docs.ros.org: geometry_msgs, visualization_msgs, std_msgs,
builtin_interfaces) and no others, in the types that rclpy asks for. What is published is a line of JSON.
"""

from __future__ import annotations

from pathlib import Path

MESSAGES = """
class Message:
    def __init__(self, **fields):
        for name, make in self.FIELDS.items():
            object.__setattr__(self, name, make())
        for name, value in fields.items():
            setattr(self, name, value)

    def __setattr__(self, name, value):
        kind = type(self.FIELDS[name]())  # a field that there is not: KeyError
        assert type(value) is kind, f"{type(self).__name__}.{name}: {type(value).__name__}, not {kind.__name__}"
        object.__setattr__(self, name, value)

    def plain(self):
        return {name: plain(getattr(self, name)) for name in self.FIELDS}

def plain(value):
    if isinstance(value, Message):
        return value.plain()
    return [plain(one) for one in value] if isinstance(value, list) else value

def message(name, **fields):
    return type(name, (Message,), {"FIELDS": fields})

Time = message("Time", sec=int, nanosec=int)
Duration = message("Duration", sec=int, nanosec=int)
Header = message("Header", stamp=Time, frame_id=str)
Vector3 = message("Vector3", x=float, y=float, z=float)
Point = message("Point", x=float, y=float, z=float)
Quaternion = message("Quaternion", x=float, y=float, z=float, w=float)
Pose = message("Pose", position=Point, orientation=Quaternion)
Transform = message("Transform", translation=Vector3, rotation=Quaternion)
TransformStamped = message("TransformStamped", header=Header, child_frame_id=str, transform=Transform)
ColorRGBA = message("ColorRGBA", r=float, g=float, b=float, a=float)
Marker = message("Marker", header=Header, ns=str, id=int, type=int, action=int, pose=Pose, scale=Vector3,
                 color=ColorRGBA, lifetime=Duration, frame_locked=bool, points=list, colors=list, text=str)
Marker.ADD = 0
MarkerArray = message("MarkerArray", markers=list)
"""

RCLPY = """
import json, time
from ros_messages import MarkerArray

class Now:
    nanoseconds = 1_700_000_000_000_000_000

class Node:
    def get_clock(self):
        return self
    def now(self):
        return Now
    def create_publisher(self, kind, topic, depth):
        assert kind is MarkerArray
        self.topic = topic
        return self
    def publish(self, message):
        print(json.dumps({"topic": self.topic, **message.plain()}), flush=True)
    def create_timer(self, period_s, call):
        self.period_s, self.call = period_s, call

def init():
    pass

def create_node(name):
    return Node()

def spin(node):
    while True:
        node.call()
        time.sleep(node.period_s)
"""

TF = """
import json
class TransformBroadcaster:
    def __init__(self, node):
        pass
    def sendTransform(self, transforms):
        print(json.dumps({"topic": "/tf", "transforms": [one.plain() for one in transforms]}), flush=True)
"""


def write_ros(folder: Path) -> None:
    """Packages that python finds when ``folder`` is on its path."""
    (folder / "ros_messages.py").write_text(MESSAGES)
    (folder / "rclpy.py").write_text(RCLPY)
    (folder / "tf2_ros.py").write_text(TF)
    for package in ("builtin_interfaces", "geometry_msgs", "visualization_msgs"):
        (folder / package).mkdir()
        (folder / package / "__init__.py").write_text("")
        (folder / package / "msg.py").write_text("from ros_messages import *\n")
