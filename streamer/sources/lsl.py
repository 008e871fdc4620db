"""Frames from a stream of LabStreamingLayer: found by name or kind, its channels read as its description says.

Its times are mapped to our clock by LSL itself, which measures the offset between machines.
"""

from __future__ import annotations

from collections import Counter
from types import TracebackType

import numpy as np
import pylsl

from model.layouts import Layout
from streamer.clock import SECOND_NS, now_ns
from streamer.errors import ConfigError
from streamer.frames import Frame
from streamer.wire.lsl import KIND, Channel, Reading

BUFFER_S = 2  # of samples that wait to be read; beyond, the oldest go
LOOK_S, OPEN_S = 0.5, 5.0
LEAST_NS = 10_000  # between two samples; LSL's correction of a clock moves by less


class LslReceiver:
    """Frames of one actor from one stream. Waits for the stream, and again when it goes. Not thread-safe.

    Attributes:
        frames: how many were made.
        unused: samples that became none, and why.
        reading: how they are read; None until the stream was found.
    Args:
        stream: its name; "": the first of type MoCap that is found.
        layout: None: what its channels' names are those of.
    """

    ended = False  # a stream that is gone is looked for again

    def __init__(self, stream: str = "", layout: Layout | None = None, actor: str = "lsl") -> None:
        self._name, self._layout, self._actor = stream, layout, actor
        self.frames = 0
        self.unused: Counter[str] = Counter()
        self.reading: Reading | None = None
        self._found = ""
        self._inlet: pylsl.StreamInlet | None = None
        self._last_ns = -(2**63)
        self._ours_ns = now_ns() - round(pylsl.local_clock() * SECOND_NS)  # our clock minus LSL's: both are steady

    def receive(self, timeout_s: float) -> Frame | None:
        """The next frame; None when none came within ``timeout_s``, or somewhat more while a stream is looked for.

        Raises:
            ConfigError: the stream's channels are those of no layout.
        """
        if self._inlet is None and not self._find():
            return None
        assert self._inlet is not None
        deadline = now_ns() + int(timeout_s * SECOND_NS)
        while True:
            try:
                sample, lsl_s = self._inlet.pull_sample(max(0.0, (deadline - now_ns()) / SECOND_NS))
            except pylsl.LostError:
                self._leave()
                return None
            if sample is None:
                return None
            frame = self._frame(sample, lsl_s)
            if frame is not None:
                return frame
            if now_ns() >= deadline:
                return None

    def status(self) -> str:
        """What is received, in one line."""
        wanted = f"stream {self._name}" if self._name else f"stream of type {KIND}"
        if self._inlet is None:
            return f"no {wanted} is there" + (f"; {self.frames} frames before" if self.frames else "")
        assert self.reading is not None
        parts = [f"{self._found}: {self.frames} frames, layout {self.reading.layout.name}"]
        parts[0] += ", with rotations" if self.reading.rotations else ""
        if self.reading.missing:
            parts.append(f"missing: {', '.join(self.reading.missing[:5])}")
        if self.unused:
            parts.append("not used: " + ", ".join(f"{what} ({n})" for what, n in self.unused.items()))
        return "; ".join(parts)

    def kinds(self) -> tuple[object, ...]:
        """What ``status`` names, without the numbers."""
        return (self._found if self._inlet is not None else "", frozenset(self.unused))

    def close(self) -> None:
        self._leave()

    def __enter__(self) -> LslReceiver:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def _find(self) -> bool:
        by = ("name", self._name) if self._name else ("type", KIND)
        found = pylsl.resolve_byprop(*by, minimum=1, timeout=LOOK_S)
        if not found:
            return False
        inlet = pylsl.StreamInlet(found[0], max_buflen=BUFFER_S, processing_flags=pylsl.proc_clocksync)
        try:
            info = inlet.info(OPEN_S)
            inlet.open_stream(OPEN_S)
        except (TimeoutError, pylsl.LostError):  # gone between the two
            return False
        if info.channel_format() == pylsl.cf_string:
            raise ConfigError(f"stream {info.name()}: holds text, not numbers; give another --stream")
        try:
            self.reading = Reading(_channels(info), self._layout)
        except ConfigError as error:
            raise ConfigError(f"stream {info.name()}: {error}") from error
        self._found, self._inlet = f"{info.name()} of {info.hostname()}", inlet
        return True

    def _leave(self) -> None:
        if self._inlet is not None:
            self._inlet.close_stream()
            self._inlet = None

    def _frame(self, sample: list[float], lsl_s: float) -> Frame | None:
        assert self.reading is not None
        positions, rotations, confidence = self.reading.read(sample)
        t_ns = self._ours_ns + round(lsl_s * SECOND_NS)
        if t_ns < self._last_ns + LEAST_NS:
            self.unused["no later than the one before"] += 1
            return None
        self._last_ns = t_ns
        seq, self.frames = self.frames, self.frames + 1
        return Frame(
            self._actor, seq, t_ns, positions.astype(np.float32), confidence, self.reading.layout.name,
            rotations=None if rotations is None else rotations.astype(np.float32),
        )  # fmt: skip


def _channels(info: pylsl.StreamInfo) -> list[Channel]:
    """As its description has them, or as many that say nothing."""
    channels = []
    one = info.desc().child("channels").child("channel")
    while not one.empty():
        channels.append(Channel(*(one.child_value(name) for name in Channel._fields)))
        one = one.next_sibling("channel")
    return channels if len(channels) == info.channel_count() else [Channel("")] * info.channel_count()
