"""Keeping warm: a filter that slept for 15 ms finds its weights and code gone from the caches, and takes twice as long.

So a server that waits runs the data path on a stand-in, whose answer nobody sees, shortly before the next frame is due.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

import numpy as np

from model.skeleton import JOINTS, ancestor_matrix
from streamer.clock import SECOND_NS
from streamer.filter import PoseFilter
from streamer.frames import Frame
from streamer.runtimes.block import Runtime
from streamer.wire.protocol import Encoder, decode_frame

# All measured at 60 Hz on a server processor, whose caches are shared with strangers: warm for 4 ms, cold after 8.
COLD_NS = 5_000_000
WORTH_NS = 7_000_000  # a shorter rest is not: at 120 Hz it won 6 % and cost 9 % of a core
LEAD_NS = 3_000_000  # the end of a rehearsal, some 2 ms before the frame, is late enough; polls count in whole ms
PASSES = 2  # the second one still gains 80 us; a third 40 more
ENOUGH = 4  # times between frames, before they are believed
NEVER = 2**63
NOBODY = "nobody"


class Rehearsal:
    """Knows when the next frame is due, and is run before it. It costs what ``PASSES`` frames cost, in time not used.

    Frames that come close together (several actors') count as one, so that a server that is busy rehearses never.

    Args:
        others: whose part is rehearsed, too.
    """

    def __init__(self, runtime: Runtime, others: Sequence[Callable[[], object]] = ()) -> None:
        self._others = others
        rest = np.asarray(runtime.contract.rest_offsets_m, np.float32).reshape(len(JOINTS), 3)
        self._filter = PoseFilter(runtime, max_actors=1)
        self._filter.set_skeleton(NOBODY, rest)
        self._encoder = Encoder()
        self._positions = (ancestor_matrix() @ rest).astype(np.float32)
        self._confidence = np.ones(len(JOINTS), np.float32)  # as most sources give it
        self._apart: deque[int] = deque(maxlen=2 * ENOUGH)  # times between the last frames [ns]
        self._first_ns, self._last_ns = 0, 0  # of the frames that came together last
        self._n = 0
        self._due_ns = NEVER

    def saw(self, now: int) -> None:
        """Frames came in."""
        if now - self._last_ns > COLD_NS:
            self._apart.append(now - self._first_ns)
            self._first_ns = now
            wait_ns = sorted(self._apart)[len(self._apart) // 2] - LEAD_NS
            self._due_ns = now + wait_ns if len(self._apart) >= ENOUGH and wait_ns > WORTH_NS else NEVER
        self._last_ns = now

    def wait_ns(self, now: int) -> int:
        """How long to sleep until it is due. If it was before this was asked, it is given up: nothing was cold then."""
        if self._due_ns <= now:
            self._due_ns = NEVER
        return self._due_ns - now

    def run_if_due(self, now: int, interrupted: Callable[[], object]) -> int:
        """Run, once, if it is time; no longer than until something is there to do. Returns how many passes it made."""
        if now + SECOND_NS // 1000 < self._due_ns:  # polls end up to a millisecond early
            return 0
        self._due_ns = NEVER
        for done in range(PASSES):
            if interrupted():
                return done
            for other in self._others:
                other()
            self._n += 1
            positions = self._positions + np.float32(0.001 * (self._n % 2))  # the same again would be no news
            frame = Frame(NOBODY, self._n, self._n * SECOND_NS // 60, positions, self._confidence)
            for pose in self._filter.push_many([decode_frame(self._encoder.frame(frame))]):
                if pose is not None:
                    self._encoder.pose(pose)
        return PASSES
