"""The newest pose of one actor, in any Python with pyzmq and msgpack: python subscriber.py NAME [tcp://HOST:5751]"""

import struct
import sys

import msgpack
import zmq

actor, endpoint = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "tcp://127.0.0.1:5751"
socket = zmq.Context().socket(zmq.SUB)
socket.setsockopt(zmq.CONFLATE, 1)  # the newest only
socket.subscribe(f"pose.{actor}\0")
socket.connect(endpoint)
while True:
    pose = msgpack.unpackb(socket.recv().partition(b"\0")[2])
    x, y, z = struct.unpack_from("<3f", pose["positions"], 15 * 12)  # joint 15 of 24: the head [m]
    print(f"{pose['status']} {pose['t_ns'] / 1e9:.3f} s  head {x:+.3f} {y:+.3f} {z:+.3f}", flush=True)
