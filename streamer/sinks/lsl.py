"""Poses into LabStreamingLayer: a stream for each actor, which programs such as LabRecorder find by themselves.

Times are LSL's: when what a pose shows was, on this machine's clock of LSL.
"""

from __future__ import annotations

from types import TracebackType

import pylsl

from streamer.clock import SECOND_NS, ClockMap, now_ns
from streamer.frames import Pose
from streamer.wire.lsl import KIND, pose_channels, pose_sample

MOST_STREAMS = 64  # of actors; a newcomer takes the place of the one who has been quiet for longest
BUFFER_S = 10
SAME_CLOCK_NS = SECOND_NS  # a source whose least delay is between 0 and this has our own clock


class PoseTimes:
    """When poses are for, on our clock: of one actor, whose source may have any clock."""

    def __init__(self) -> None:
        self._map, self._last_ns = ClockMap(), -(2**63)

    def of(self, pose: Pose, arrived_ns: int) -> int:
        """The time [ns] that a pose is for, which came at ``arrived_ns``; each later than the one before.

        A clock whose times are a little before those of arrival is ours: then it is what the pose says. Else the
        least delay that was seen is taken for none.
        """
        self._map.update(pose.captured_ns, arrived_ns)
        offset_ns = self._map.offset_ns
        t_ns = pose.t_ns + (0 if 0 <= offset_ns < SAME_CLOCK_NS else offset_ns)
        self._last_ns = max(t_ns, self._last_ns + 1)
        return self._last_ns


class _Stream:
    def __init__(self, actor: str) -> None:
        channels = pose_channels()
        info = pylsl.StreamInfo(actor, KIND, len(channels), pylsl.IRREGULAR_RATE, pylsl.cf_float32, f"hpstm.{actor}")
        described = info.desc().append_child("channels")
        for one in channels:
            channel = described.append_child("channel")
            for name, value in one._asdict().items():
                if value:
                    channel.append_child_value(name, value)
        info.desc().append_child("acquisition").append_child_value("manufacturer", "HPSTM Live")
        axes = info.desc().append_child("setup")
        axes.append_child_value("axes", "right-handed, Y up")
        axes.append_child_value("rotations", "world_from_joint relative to a T-pose facing +Z, left = +X")
        self.outlet = pylsl.StreamOutlet(info, max_buffered=BUFFER_S)
        self.times = PoseTimes()


class LslOutlets:
    """A stream named as its actor, for each actor. Never waits for who reads them.

    ``sent`` counts poses.
    """

    def __init__(self) -> None:
        self._streams: dict[str, _Stream] = {}  # the quiet ones first
        self._lsl_s = pylsl.local_clock() - now_ns() / SECOND_NS  # LSL's clock minus ours: both are steady
        self.sent = 0

    @property
    def actors(self) -> tuple[str, ...]:
        return tuple(self._streams)

    def send(self, pose: Pose) -> None:
        stream = self._streams.pop(pose.actor, None)
        if stream is None:
            if len(self._streams) >= MOST_STREAMS:
                del self._streams[next(iter(self._streams))]
            stream = _Stream(pose.actor)
        self._streams[pose.actor] = stream
        at_ns = stream.times.of(pose, now_ns())
        stream.outlet.push_sample(pose_sample(pose), at_ns / SECOND_NS + self._lsl_s)
        self.sent += 1

    def close(self) -> None:
        self._streams.clear()  # an outlet goes with its last reference

    def __enter__(self) -> LslOutlets:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()
