"""Poses of one person to SONIC, NVIDIA's whole-body controller of humanoid robots, over ZeroMQ.

What a robot needs beyond the pose: 50 frames a second whatever comes, none left out; and no jump. It holds its last
pose while nothing comes, and then goes for whatever comes next as fast as it can. So a person who is lost is held, and
one who is back is approached: slowly, from where the robot was left.
What messages hold: streamer/wire/sonic.py; of which body: human.py.
"""

from __future__ import annotations

from collections import deque
from types import TracebackType

import numpy as np
import numpy.typing as npt
import zmq

from streamer.clock import SECOND_NS, now_ns
from streamer.errors import ConfigError
from streamer.frames import Array, Pose
from streamer.sinks.human import Fields, Human
from streamer.wire.sonic import RATE_HZ, pack

F64 = npt.NDArray[np.float64]

FRAMES = 5  # in a message, each again in the next four: what their own sender does; the robot is so many frames behind
STEP_NS = SECOND_NS // RATE_HZ
# More missing frames than a message holds are a gap, after which their reader would jump.
GAP_NS = FRAMES * STEP_NS
SHORT_NS = SECOND_NS // 2  # a way back that takes less is not worth a word
FASTEST_RAD_S = 2.0  # of a joint on its way back; a walk's are faster, but nobody knows what is on this way


class Approach:
    """The way back from where the robot was left to a person who moves on, at most so fast.

    Each frame goes a part of what is then left of the way, so that a person who turns round meanwhile, and is nearer
    the other way round, makes no jump.
    """

    def __init__(self, left: F64, to: F64, start_ns: int, least_s: float) -> None:
        farthest = float(_angles(left, to).max())
        self._now, self._done, self._start_ns = left, 0.0, start_ns
        # 1.5: the fastest of a smooth step
        self._ns = max(least_s, STEP_NS / SECOND_NS, 1.5 * farthest / FASTEST_RAD_S) * SECOND_NS

    @property
    def short(self) -> bool:
        return self._ns < SHORT_NS

    def at(self, t_ns: int, there: F64) -> F64:
        """(24, 4) where to be at a time, each later than the one before, when the person is ``there``."""
        time = (t_ns - self._start_ns) / self._ns
        done = time * time * (3.0 - 2.0 * time)
        self._now = between(self._now, there, (done - self._done) / (1.0 - self._done))
        self._done = done
        return self._now

    def left_s(self, t_ns: int) -> float:
        """How long it still takes [s]."""
        return max(0.0, (self._ns - abs(t_ns - self._start_ns)) / SECOND_NS)


class SonicStream:
    """One person's poses, made SONIC's messages.

    Frames are for steady times, between the poses around them: the newest is up to a frame's time old. ``held`` says
    whether the person is lost, or the robot on its way back from there.

    Args:
        fade_s: how long the way back takes, at least, from a person who was away for a second or more.
    """

    def __init__(self, human: Human, fade_s: float = 1.0) -> None:
        self._human, self._fade_s = human, fade_s
        self._frames: deque[Fields] = deque(maxlen=FRAMES)
        self._index = 0
        self._before: tuple[int, F64] | None = None  # the pose before, as long as the next one follows from it
        self._next_ns = 0
        self._left: F64 | None = None  # the last frame
        self._live_ns = 0  # when it was of a person who is not lost
        self._approach: Approach | None = None
        self._lost = False

    @property
    def held(self) -> bool:
        return self._lost or (self._approach is not None and not self._approach.short)

    def push(self, pose: Pose) -> bytes | None:
        """The message that a pose makes due; None: none is. Poses that are not later than the last are left out."""
        now: F64 = np.asarray(pose.rotations, np.float64)
        if self._before is not None and not 0 < pose.t_ns - self._before[0] <= GAP_NS:
            if -SECOND_NS < pose.t_ns - self._before[0] <= 0:
                return None
            self._before = None  # a gap, or a clock that began again
        if pose.status == "lost":
            if self._left is None:
                return None
            self._lost, self._approach = True, None
            now = self._left
        elif self._lost:
            self._lost, self._before = False, None
            self._begin(pose.t_ns, now)
        elif self._before is None:
            self._begin(pose.t_ns, now)
        if self._before is None:
            self._before, self._next_ns = (pose.t_ns, now), pose.t_ns
        due = self._next_ns <= pose.t_ns
        while self._next_ns <= pose.t_ns:
            self._add(self._next_ns, self._seen(pose.t_ns, now), pose.offsets_m)
            self._next_ns += STEP_NS
        self._before = pose.t_ns, now
        return self._message() if due and len(self._frames) == FRAMES else None

    def _begin(self, t_ns: int, now: F64) -> None:
        """Somebody is seen, for the first time or again."""
        if self._left is not None:
            away_s = abs(t_ns - self._live_ns) / SECOND_NS
            least_s = self._fade_s * min(1.0, away_s)
            if self._approach is not None:  # what is left of a way that was begun
                least_s = max(least_s, self._approach.left_s(t_ns))
            self._approach = Approach(self._left, now, t_ns, least_s)

    def _seen(self, t_ns: int, now: F64) -> F64:
        """(24, 4) between the pose before and this one."""
        assert self._before is not None
        before_ns, before = self._before
        span_ns = t_ns - before_ns
        return between(before, now, (self._next_ns - before_ns) / span_ns) if span_ns else now

    def _add(self, t_ns: int, seen: F64, offsets_m: Array) -> None:
        if self._approach is not None and self._approach.left_s(t_ns) <= 0.0:
            self._approach = None
        if self._lost and self._left is not None:
            seen = self._left
        else:
            self._live_ns = t_ns
            if self._approach is not None:
                seen = self._approach.at(t_ns, seen)
        if self._left is not None:  # the sign goes on
            seen = np.where((seen * self._left).sum(-1, keepdims=True) < 0.0, -seen, seen)
        self._left = seen
        index = {"frame_index": np.array(self._index, np.int64)}
        self._frames.append(self._human.fields(seen, offsets_m) | index)
        self._index += 1

    def _message(self) -> bytes:
        fields: Fields = {name: np.stack([frame[name] for frame in self._frames]) for name in self._frames[0]}
        return pack(fields | {"timestamp_monotonic": np.array([now_ns() / SECOND_NS])})


def between(a: F64, b: F64, part: float) -> F64:
    """(..., 4) unit quaternions ``part`` of the way from one to another, the shorter way round, at a steady speed."""
    cosine = (a * b).sum(-1, keepdims=True)
    b, angle = np.where(cosine < 0.0, -b, b), np.arccos(np.clip(np.abs(cosine), 0.0, 1.0))
    near = angle < 1e-3
    angle = np.where(near, 1.0, angle)
    sine = np.sin(angle)
    first = np.where(near, 1.0 - part, np.sin((1.0 - part) * angle) / sine)
    second = np.where(near, part, np.sin(part * angle) / sine)
    out: F64 = first * a + second * b
    return np.asarray(out / np.linalg.norm(out, axis=-1, keepdims=True))


def _angles(a: F64, b: F64) -> F64:
    """(...) angle [rad] between rotations."""
    return np.asarray(2.0 * np.arccos(np.clip(np.abs((a * b).sum(-1)), 0.0, 1.0)))


class SonicPublisher:
    """Where SONIC's reader connects to. Never waits: a reader that is slow or not there misses messages.

    Attributes:
        endpoint: with the port as it really is.
        sent: messages that were given to ZeroMQ.
    Args:
        port: 0: any.
        host: of this machine, whose address the port is at; 0.0.0.0 for all of them.
    Raises:
        ConfigError: the port cannot be had.
    """

    def __init__(self, port: int = 5556, host: str = "127.0.0.1") -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.PUB)
        self._socket.setsockopt(zmq.SNDHWM, 2 * FRAMES)
        self._socket.setsockopt(zmq.LINGER, 0)
        if ":" in host:
            self._socket.setsockopt(zmq.IPV6, 1)
        try:
            self._socket.bind(f"tcp://{f'[{host}]' if ':' in host else host}:{port or '*'}")
        except zmq.ZMQError as error:
            self.close()
            raise ConfigError(f"--host {host} --port {port}: cannot listen there ({error})") from error
        self.endpoint = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)
        self.sent = 0

    def send(self, message: bytes) -> None:
        self._socket.send(message, zmq.NOBLOCK)
        self.sent += 1

    def close(self) -> None:
        self._context.destroy(linger=0)

    def __enter__(self) -> SonicPublisher:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()
