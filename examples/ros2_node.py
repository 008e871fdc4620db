"""A ROS 2 node: a server's poses as TF frames and as markers for RViz. python3 ros2_node.py [tcp://HOST:5751] [map]

Needs ROS 2 (rclpy, tf2_ros, geometry_msgs, visualization_msgs) and of Python pyzmq and msgpack: apt install python3-zmq
python3-msgpack. In RViz add TF, and MarkerArray on /hpstm/markers.
"""

import sys
import time
from contextlib import suppress

import msgpack
import zmq
from ros2_mapping import markers, stamp_ns, transforms

RATE_HZ = 100.0  # how often it looks for poses; of each actor the newest counts
LIFETIME_NS = 500_000_000  # of markers that nobody renews


def frame_message(one, at):
    """A TransformStamped of a transform."""
    from geometry_msgs.msg import TransformStamped

    message = TransformStamped()
    message.header.stamp, message.header.frame_id, message.child_frame_id = at, one.parent, one.child
    to, turn = message.transform.translation, message.transform.rotation
    to.x, to.y, to.z = one.translation
    turn.x, turn.y, turn.z, turn.w = one.rotation
    return message


def marker_message(one, at, world):
    """A Marker of a marker."""
    from builtin_interfaces.msg import Duration
    from geometry_msgs.msg import Point
    from visualization_msgs.msg import Marker

    message = Marker(ns=one.name, id=one.number, type=one.kind, action=Marker.ADD, text=one.text)
    message.header.stamp, message.header.frame_id = at, world
    message.lifetime = Duration(nanosec=LIFETIME_NS)
    message.scale.x = message.scale.y = message.scale.z = one.size_m
    message.color.r, message.color.g, message.color.b, message.color.a = one.colour
    message.pose.orientation.w = 1.0
    points = [Point(x=x, y=y, z=z) for x, y, z in one.points]
    if one.text:
        message.pose.position = points[0]
    else:
        message.points = points
    return message


def newest(socket, skeletons):
    """The newest pose of each actor that has come; skeletons are put where they belong."""
    poses = {}
    while socket.poll(0):
        topic, _, body = socket.recv().partition(b"\0")
        fields = msgpack.unpackb(body)
        (skeletons if topic.startswith(b"skeleton.") else poses)[fields["actor"]] = fields
    return poses


def main():
    import rclpy
    from builtin_interfaces.msg import Time
    from tf2_ros import TransformBroadcaster
    from visualization_msgs.msg import MarkerArray

    endpoint = sys.argv[1] if len(sys.argv) > 1 else "tcp://127.0.0.1:5751"
    world = sys.argv[2] if len(sys.argv) > 2 else "map"
    rclpy.init()
    node = rclpy.create_node("hpstm")
    broadcaster = TransformBroadcaster(node)
    publisher = node.create_publisher(MarkerArray, "hpstm/markers", 10)
    socket = zmq.Context().socket(zmq.SUB)
    for topic in ("pose.", "skeleton."):
        socket.subscribe(topic)
    socket.connect(endpoint)
    skeletons = {}

    def look():
        for actor, pose in newest(socket, skeletons).items():
            skeleton = skeletons.get(actor)  # comes when somebody subscribes, and every 5 s
            if skeleton is not None and pose["status"] != "lost":
                at_ns = stamp_ns(pose, node.get_clock().now().nanoseconds, time.perf_counter_ns())
                at = Time(sec=at_ns // 10**9, nanosec=at_ns % 10**9)
                joints, parents = skeleton["joints"], skeleton["parents"]
                frames = transforms(pose, joints, parents, world)
                broadcaster.sendTransform([frame_message(one, at) for one in frames])
                drawn = [marker_message(one, at, world) for one in markers(pose, parents)]
                publisher.publish(MarkerArray(markers=drawn))

    node.create_timer(1.0 / RATE_HZ, look)
    with suppress(KeyboardInterrupt):
        rclpy.spin(node)


if __name__ == "__main__":
    main()
