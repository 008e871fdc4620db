"""Takes to look at, made without a filter; and a viser client that reads as slowly as it is told."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from model.motion.synthetic import SyntheticActor
from model.skeleton import J, rest_offsets
from streamer.clock import SECOND_NS
from streamer.frames import Frame, Pose
from streamer.sinks.recording import RecordingWriter
from streamer.wire.protocol import Encoder

IDENTITY = np.tile(np.array([0.0, 0.0, 0.0, 1.0], np.float32), (J, 1))
FRAME_NS = round(SECOND_NS / 30)


def pose_of(joints: np.ndarray, n: int = 0, actor: str = "anna", t_ns: int = 0, **changes: Any) -> Pose:
    """A pose with joints (24, 3); one sigma is 10 mm, the left foot stands, the server took 2 ms."""
    fields: dict[str, Any] = {
        "status": "tracking", "rotations": IDENTITY, "root": joints[0].astype(np.float32),
        "lengths_m": np.linalg.norm(rest_offsets(), axis=-1), "offsets_m": rest_offsets(),
        "covariance": np.tile(1e-4 * np.eye(3), (J, 1, 1)), "contact": np.array([1.0, 0.0]), "captured_ns": t_ns,
        "received_ns": t_ns, "inferred_ns": t_ns + 1_000_000, "published_ns": t_ns + 2_000_000,
    }  # fmt: skip
    return Pose(actor=actor, seq=n, t_ns=t_ns, positions=joints.astype(np.float32), **(fields | changes))


def moving(
    seconds: float, actor: str = "anna", fps: float = 30.0, noise_m: float = 0.02, start_ns: int = 0, seed: int = 0
) -> Iterator[Frame | Pose]:
    """Frame and pose in turn: somebody who walks, with noise, and without."""
    rng = np.random.default_rng(seed)
    for n, joints in enumerate(SyntheticActor(seed).clip(seconds, fps)):
        t_ns = start_ns + round(n * SECOND_NS / fps)
        yield Frame(actor, n, t_ns, (joints + rng.normal(0.0, noise_m, joints.shape)).astype(np.float32))
        yield pose_of(joints, n, actor, t_ns)


def recorded(path: Path, *streams: Iterator[Frame | Pose]) -> Path:
    """A recording of these, all of one actor first; received when they were taken."""
    encoder = Encoder()
    with RecordingWriter(path) as writer:
        for stream in streams:
            for item in stream:
                message = encoder.pose(item) if isinstance(item, Pose) else encoder.frame(item)
                writer.write(message, item.t_ns)
    return path


def comes_in(url: str, origin: str | None) -> bool:
    """Whether a page of an origin (None: a program) gets a view's first message; else it was refused, with 403."""
    import viser
    from websockets.exceptions import InvalidStatus
    from websockets.sync.client import connect

    settings: dict[str, Any] = {"origin": origin, "subprotocols": [f"viser-v{viser.__version__}"], "max_size": None}
    try:
        with connect(url.replace("http", "ws", 1), close_timeout=1, **settings) as client:
            return len(client.recv(timeout=10)) > 0
    except InvalidStatus as refused:
        if refused.response.status_code != 403:
            raise
        return False


class SlowClient:
    """A browser as far as viser can tell, which takes a message only when ``read`` is called."""

    def __init__(self, url: str) -> None:
        import viser
        from websockets.sync.client import connect

        protocol: Any = f"viser-v{viser.__version__}"
        self._socket = connect(
            url.replace("http", "ws", 1),
            subprotocols=[protocol],
            max_size=None,
            compression=None,
            max_queue=1,
            close_timeout=0.2,
        )
        self._send(
            "ViewerCameraMessage", wxyz=(1, 0, 0, 0), position=(0, 1, 3), fov=0.7, near=0.1, far=100, image_height=450,
            image_width=800, look_at=(0, 1, 0), up_direction=(0, 1, 0),
        )  # fmt: skip

    def read(self, timeout_s: float = 10.0) -> tuple[float, list[dict[str, Any]]]:
        """How old the next lot of messages is [s], and the messages; answers what asks for an answer."""
        import msgspec
        import zstandard

        data = self._socket.recv(timeout_s)
        assert isinstance(data, bytes)
        packed = data[16 : 16 + int.from_bytes(data[8:16], "little")]
        said = msgspec.msgpack.decode(zstandard.decompress(packed, max_output_size=1 << 26))
        for message in said["messages"]:
            if message["type"] == "LocalStorageGetItemRequestMessage":
                asked = message["request_uuid"]
                self._send("LocalStorageGetItemResponseMessage", value=None, error=None, request_uuid=asked)
        return time.perf_counter() - said["timestampSec"], said["messages"]

    def find(self, label: str) -> str:
        """The id of a control of the panel, once it is told of."""
        end = time.monotonic() + 20.0
        while time.monotonic() < end:
            for message in self.read()[1]:
                if message.get("props", {}).get("label") == label:
                    return str(message["uuid"])
        raise AssertionError(f"no control {label!r}")

    def change(self, uuid: str, value: Any) -> None:
        """Moves a control."""
        self._send("GuiUpdateMessage", uuid=uuid, updates={"value": value})

    def close(self) -> None:
        self._socket.close()

    def _send(self, kind: str, **fields: Any) -> None:
        import msgspec

        self._socket.send(msgspec.msgpack.encode({"type": kind, **fields}))
