"""A recording played again with another delay: how smooth, and how near, would it have been 100 ms later?

    python time_shifted_replay.py take.hpstm [--delay 0 0.1 0.2] [--actor NAME] [--out shifted.hpstm]

``hpstm record`` keeps the frames that came in. They are pushed through a filter in this process again, as fast as it
goes, once for each delay; every pose says for which time it is, so the takes are compared at the same times, not frame
by frame. With --out the poses of the last delay are written as a recording, which ``hpstm convert`` and ``hpstm look``
read.
"""

from __future__ import annotations

import argparse

import numpy as np

from streamer import Frame, Pose, PoseFilter
from streamer.sinks.recording import RecordingWriter, read_recording
from streamer.wire.protocol import Encoder


def played(frames: list[Frame], delay_s: float) -> list[Pose]:
    """The poses that a server with this --delay would have sent; frames that it would refuse have none."""
    return [pose for pose in PoseFilter.load(delay_s=delay_s).push_many(frames) if pose is not None]


def jerkiness(poses: list[Pose]) -> float:
    """Median acceleration of the joints [m/s^2]."""
    t_s = np.array([pose.t_ns for pose in poses]) / 1e9
    speed = np.diff([pose.positions for pose in poses], axis=0) / np.diff(t_s)[:, None, None]
    change = np.diff(speed, axis=0) / ((t_s[2:] - t_s[:-2]) / 2)[:, None, None]
    return float(np.median(np.linalg.norm(change, axis=-1)))


def apart_mm(poses: list[Pose], others: list[Pose]) -> float:
    """Mean distance of the joints at the times of ``poses`` that ``others``, interpolated, have too."""
    t_ns, other_ns = (np.array([pose.t_ns for pose in some]) for some in (poses, others))
    shared = (t_ns >= other_ns[0]) & (t_ns <= other_ns[-1])
    here = np.array([pose.positions for pose in poses])[shared].reshape(shared.sum(), -1)
    there = np.array([pose.positions for pose in others]).reshape(len(others), -1)
    at = np.stack([np.interp(t_ns[shared], other_ns, column) for column in there.T], -1)
    return 1e3 * float(np.linalg.norm((here - at).reshape(-1, 24, 3), axis=-1).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recording")
    parser.add_argument("--delay", type=float, nargs="+", default=[0.0, 0.1, 0.2], help="seconds, 0 to 0.2")
    parser.add_argument("--actor", help="default: the recording's first")
    parser.add_argument("--out", help="write the poses of the last delay here")
    asked = parser.parse_args()
    frames = read_recording(asked.recording).frames
    actor = asked.actor or (frames[0].actor if frames else "")
    frames = [frame for frame in frames if frame.actor == actor]
    if len(frames) < 4:
        raise SystemExit(f"{asked.recording}: {len(frames)} frames of actor {actor!r}; record without --poses-only")
    takes = [played(frames, delay_s) for delay_s in asked.delay]
    for delay_s, poses in zip(asked.delay, takes):
        print(
            f"delay {1e3 * delay_s:.0f} ms: {len(poses)} poses, acceleration {jerkiness(poses):.1f} m/s^2, "
            f"{apart_mm(poses, takes[-1]):.1f} mm from the last"
        )
    if asked.out:
        encode = Encoder().pose
        with RecordingWriter(asked.out) as writer:
            for pose in takes[-1]:
                writer.write(encode(pose), pose.inferred_ns)
        print(f"{asked.out}: {len(takes[-1])} poses")


if __name__ == "__main__":
    main()
