"""A recording over time: what is in it when, and where its player stands.

Poses and frames have their place by the time that they are for, on the source's clock: input and output of one time are
seen together, whatever the delay was, and a take that was replayed fast plays at the speed it had.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from threading import Lock

import numpy as np

from streamer.clock import SECOND_NS
from streamer.errors import ConfigError, ProtocolError
from streamer.frames import Frame, Pose
from streamer.sinks.recording import is_recording, read_messages
from streamer.wire.protocol import decode

SPEEDS = {"0.1": 0.1, "0.25": 0.25, "0.5": 0.5, "1": 1.0, "2": 2.0, "4": 4.0}
BACK_NS, AHEAD_NS = -SECOND_NS, 10 * SECOND_NS  # a step of a clock beyond these says nothing: the recorder's counts
LEAD_S = 1.5  # before a place that was jumped to: fills trails and curves


class Timeline:
    """What a recording holds in order of time, from 0 to ``end_s``; ``note``: what is wrong with it, or nothing."""

    def __init__(self, timed: list[tuple[float, Pose | Frame]], note: str = "") -> None:
        timed = sorted(timed, key=lambda entry: entry[0])
        start_s = timed[0][0] if timed else 0.0
        self._times_s = np.array([time_s - start_s for time_s, _ in timed])
        self._items = [item for _, item in timed]
        self.end_s = float(self._times_s[-1]) if timed else 0.0
        self.note = note

    @property
    def actors(self) -> list[str]:
        return list(dict.fromkeys(item.actor for item in self._items))

    def entries(self) -> Iterator[tuple[float, Pose | Frame]]:
        """Each with its time [s], in order."""
        return zip(self._times_s.tolist(), self._items, strict=True)

    def between(self, after_s: float, until_s: float) -> list[Pose | Frame]:
        """What comes after one time, and until another."""
        first, last = np.searchsorted(self._times_s, (after_s, until_s), side="right")
        return self._items[first:last]


class _Clock:
    """A source's clock as seconds of the take."""

    def __init__(self, t_ns: int, received_ns: int) -> None:
        self._offset_ns, self._last_ns, self._received_ns = received_ns - t_ns, t_ns, received_ns

    def place_s(self, t_ns: int, received_ns: int) -> float:
        if not BACK_NS <= t_ns - self._last_ns <= AHEAD_NS:
            self._offset_ns += self._last_ns - t_ns + received_ns - self._received_ns
        self._last_ns, self._received_ns = t_ns, received_ns
        return (t_ns + self._offset_ns) / SECOND_NS


def read_timeline(path: Path, actor: str | None = None) -> Timeline:
    """What a recording holds, of one actor or of all.

    Raises:
        ConfigError: no such file, no recording, or nothing in it to show.
    """
    if not path.is_file():
        raise ConfigError(f"{path}: no such file; an address of a server is written tcp://HOST:PORT")
    if not is_recording(path):
        raise ConfigError(f"{path} is not an HPSTM recording; make one with hpstm record, or see hpstm look for motion")
    clocks: dict[str, _Clock] = {}
    timed: list[tuple[float, Pose | Frame]] = []
    bad, cut, first_ns = 0, False, None
    for entry in read_messages(path):
        if entry is None:
            cut = True
            break
        received_ns, message = entry
        try:
            item = decode(message)
        except ProtocolError:
            bad += 1
            continue
        if not isinstance(item, (Pose, Frame)) or actor not in (None, item.actor):
            continue
        first_ns = received_ns if first_ns is None else first_ns
        clock = clocks.setdefault(item.actor, _Clock(item.t_ns, received_ns - first_ns))
        timed.append((clock.place_s(item.t_ns, received_ns - first_ns), item))
    if not timed:
        raise ConfigError(f"{path}: no poses and no frames are in it" + (f" of actor {actor}" if actor else ""))
    notes = [f"{bad} messages cannot be decoded"] * bool(bad) + ["cut off in the middle of a message"] * cut
    return Timeline(timed, "; ".join(notes))


class Player:
    """Plays a timeline; its methods may be called from any thread.

    Args:
        loop: from the end back to the start; else it stops there.
    """

    def __init__(self, timeline: Timeline, loop: bool = True) -> None:
        self.playing = True
        self.at_s = 0.0
        self._timeline, self._loop = timeline, loop
        self._speed, self._before_ns = 1.0, -1
        self._jumped = True
        self._lock = Lock()

    @property
    def end_s(self) -> float:
        return self._timeline.end_s

    def play(self) -> None:
        """On from where it stands; from the end: from the start."""
        with self._lock:
            if self.at_s >= self.end_s:
                self.at_s, self._jumped = 0.0, True
            self.playing = True

    def pause(self) -> None:
        self.playing = False

    def set_speed(self, speed: float) -> None:
        self._speed = speed

    def seek(self, at_s: float) -> None:
        """To another time, playing or not as before."""
        with self._lock:
            self.at_s, self._jumped = min(max(at_s, 0.0), self.end_s), True

    def step(self, now_ns: int) -> tuple[list[Pose | Frame], bool]:
        """What has come since the last step, and whether it follows on what was before (else: start anew with it)."""
        with self._lock:
            passed_s = 0.0 if self._before_ns < 0 else (now_ns - self._before_ns) / SECOND_NS * self._speed
            self._before_ns, before_s = now_ns, self.at_s
            if self.playing and not self._jumped:
                self.at_s = min(self.at_s + passed_s, self.end_s)
            if self.playing and before_s >= self.end_s and not self._jumped:
                if self._loop:
                    self.at_s, self._jumped = 0.0, True
                else:
                    self.playing = False
            jumped, self._jumped = self._jumped, False
            return self._timeline.between(self.at_s - LEAD_S if jumped else before_s, self.at_s), not jumped
