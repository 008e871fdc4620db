"""One actor: its lane on the runtime, its clock, its skeleton. filter.py decides which frames come here."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from model.contract import Contract
from streamer.clock import SECOND_NS
from streamer.errors import FrameError
from streamer.frames import Frame, Pose, Status
from streamer.runtimes import F32, Answer, Ask, Runtime

F64 = npt.NDArray[np.float64]

FARTHEST_M = 1e5  # beyond this a coordinate is not a place
BODY_M = 4.0  # a joint farther than this from the body's median is not a joint
LOST_NS = SECOND_NS  # with no joint seen for this long, the actor is lost


class Calibrator:
    """The running rule of model/calibration.py: a weighted mean, adopted at set times, then frozen."""

    def __init__(self, contract: Contract) -> None:
        self._events = contract.calibration_events_s
        self._longest = contract.calibration_longest_step_s
        self._rest = np.asarray(contract.rest_offsets_m, np.float64)
        self.version = 0  # of the skeleton in use; only grows
        self.reset()

    def reset(self) -> None:
        """As new."""
        self.restart()
        self._adopt(self._rest)

    def restart(self) -> None:
        """Measure anew, on the skeleton in use until there is another."""
        self._sum: F64 = np.zeros_like(self._rest)
        self._weight: F64 = np.zeros((len(self._rest), 1))
        self._elapsed_s = 0.0
        self._level = 0

    @property
    def done(self) -> bool:
        return self._level == len(self._events)

    def give(self, offsets_m: F32) -> None:
        """Use a known skeleton (24, 3) and calibrate no more."""
        self._level = len(self._events)
        self._adopt(np.asarray(offsets_m, np.float64).reshape(self._rest.shape))

    def _adopt(self, offsets_m: F64) -> None:
        self.offsets_m: F32 = offsets_m.astype(np.float32)
        self.lengths_m: F32 = np.sqrt((self.offsets_m**2).sum(-1))
        self.version += 1

    def update(self, skeleton: F32, dt_s: float) -> bool:
        """Take in one frame's opinion (24, 4): bone in the rest pose [m], weight. True when one is adopted."""
        if self.done:
            return False
        self._sum += skeleton[:, 3:] * skeleton[:, :3]
        self._weight += skeleton[:, 3:]
        self._elapsed_s += min(dt_s, self._longest)
        level = sum(self._elapsed_s >= event - 1e-9 for event in self._events)
        if level == self._level:
            return False
        self._level = level
        self._adopt(self._sum / self._weight)
        return True


class Taken(NamedTuple):
    """A frame that an actor has accepted, before the network has seen it."""

    actor: Actor
    ask: Ask
    dt_ns: int  # since the frame before
    wanted_ns: int  # what time the pose is for


class Actor:
    """Frames of one actor in time order -> poses. Times are relative to its first frame, so no clock is too old."""

    def __init__(self, runtime: Runtime) -> None:
        self._contract = runtime.contract
        self._lane = runtime.open()
        self._angular = np.asarray(self._contract.angular_hz, np.float64)
        self.calibrator = Calibrator(self._contract)
        self.reset()

    def reset(self, keep_skeleton: bool = False) -> None:
        """As new; ``keep_skeleton`` after a gap, when the person is the same."""
        self._lane.reset()
        if not keep_skeleton:
            self.calibrator.reset()
        self.last_ns = 0
        self._epoch_ns = 0
        self._seen_ns = 0  # last frame with any joint
        self._origin: F64 = np.zeros(3)
        self._intervals: deque[int] = deque(maxlen=16)
        if not keep_skeleton:  # quaternion signs go on over a gap, too
            self._previous: F32 = np.zeros((len(self._contract.joints), 4), np.float32)
        self.newest: Frame | None = None

    def ring_ns(self) -> int:
        """Time that the ring spans at the recent frame rate: a longer gap has nothing to do with what is in it."""
        if not self._intervals:
            return 2 * SECOND_NS
        return self._contract.window * max(sorted(self._intervals)[len(self._intervals) // 2], SECOND_NS // 240)

    def take(self, frame: Frame, xyz: F32, confidence: F32, measured: F32, derived: F32, shift_ns: int) -> Taken:
        """Accept a frame and write it to the lane; the pose for frame.t_ns + shift_ns is ``told`` after the step.

        Args:
            xyz: (24, 3) canonical joints in the world [m], zero where absent.
            confidence, measured, derived: (24,) each; measured or derived = present.
        Raises:
            FrameError: "late", "duplicate" or "empty"; the state is then untouched.
        """
        present = measured + derived
        if self.newest is not None and frame.t_ns <= self.last_ns:
            reason = "duplicate" if frame.t_ns == self.last_ns else "late"
            raise FrameError(reason, f"t_ns {frame.t_ns} is not after the actor's last frame {self.last_ns}")
        gap_ns = frame.t_ns - self.last_ns
        if self.newest is None or (gap_ns > SECOND_NS // 4 and gap_ns > self.ring_ns()):
            if not present.any():
                raise FrameError("empty", "positions: the actor's first frame has no usable joint")
            self._start(frame.t_ns, xyz[present > 0])
        self._fill(frame.t_ns, xyz, confidence, present, derived)
        dt_ns = frame.t_ns - self.last_ns
        if dt_ns:
            self._intervals.append(dt_ns)
        self.last_ns, self.newest = frame.t_ns, frame
        if present.any():
            self._seen_ns = frame.t_ns
        ask = Ask(self._lane, shift_ns / SECOND_NS, self.calibrator.offsets_m, self._previous)
        return Taken(self, ask, dt_ns, frame.t_ns + shift_ns)

    def told(self, taken: Taken, answer: Answer) -> Pose:
        """The pose of what the step answered, on the skeleton as it is after this frame."""
        tau, calibrator = taken.ask.tau_s, self.calibrator
        if not calibrator.done and calibrator.update(self._lane.skeleton(), taken.dt_ns / SECOND_NS):
            answer = self._lane.pose(tau, calibrator.offsets_m, self._previous)
        return self._pose(answer, tau, taken.wanted_ns)

    def pose_at(self, t_ns: int) -> Pose:
        """The pose for t_ns, or for the end of the head's reach where that is nearer.

        Raises:
            KeyError: no frame has come since the actor was reset.
        """
        if self.newest is None:
            raise KeyError("no frame has come yet")
        low, high = self._contract.tau_s
        tau = min(max((t_ns - self.last_ns) / SECOND_NS, low), high)
        return self._pose(self._lane.pose(tau, self.calibrator.offsets_m, self._previous), tau, t_ns)

    def _start(self, t_ns: int, seen: F32) -> None:
        """Begin a track at its first frame; the skeleton stays, for after a gap the person is the same."""
        self.reset(keep_skeleton=True)
        self._origin = seen.astype(np.float64).mean(0)
        self._epoch_ns = self.last_ns = t_ns

    def _fill(self, t_ns: int, xyz: F32, confidence: F32, present: F32, derived: F32) -> None:
        into, time = self._lane.frame[0], self._lane.time[0]
        into[:3] = ((xyz - self._origin) * present[:, None]).T
        into[3] = present
        into[4] = confidence * present
        into[5] = derived
        angle = (t_ns - self._epoch_ns) / SECOND_NS * self._angular  # float64: a year of uptime changes nothing
        half = 1 + len(angle)
        time[0] = (t_ns - self.last_ns) / SECOND_NS
        time[1:half] = np.cos(angle)
        time[half:] = np.sin(angle)

    def _pose(self, answer: Answer, tau_s: float, wanted_ns: int) -> Pose:
        positions, rotations, covariance, contact = answer
        assert self.newest is not None
        frame, calibrator = self.newest, self.calibrator
        self._previous[:] = rotations
        placed = (positions + self._origin).astype(np.float32)
        beyond_s = (wanted_ns - self.last_ns) / SECOND_NS - self._contract.tau_s[1]
        covariance = covariance.astype(np.float32)  # the lane's buffers are its own: copies go out
        if beyond_s > 0:  # nobody knows where people go: doubt grows with the time beyond reach
            covariance += np.float32((0.5 * beyond_s) ** 2) * np.eye(3, dtype=np.float32)
        return Pose(
            actor=frame.actor, seq=frame.seq, t_ns=self.last_ns + round(tau_s * SECOND_NS),
            status=self._status(wanted_ns), positions=placed, rotations=rotations.astype(np.float32),
            root=placed[0].copy(), lengths_m=calibrator.lengths_m.copy(), offsets_m=calibrator.offsets_m.copy(),
            covariance=covariance, contact=contact.astype(np.float32), captured_ns=frame.t_ns,
            received_ns=frame.received_ns, skeleton_version=calibrator.version,
        )  # fmt: skip

    def _status(self, t_ns: int) -> Status:
        unseen = max(t_ns, self.last_ns) - self._seen_ns
        if unseen > LOST_NS:
            return "lost"
        if self._seen_ns != self.last_ns or t_ns - self.last_ns > round(self._contract.tau_s[1] * SECOND_NS):
            return "coasting"
        return "tracking" if self.calibrator.done else "calibrating"
