"""A robot's own Kalman filter at 100 Hz, with poses of a person as measurements: where a hand is, and where it goes.

    python robot_kalman.py [--seconds 5] [--joint right_hand]

Each pose says for which time it is (``t_ns``), how far to trust it (``covariance``: a joint's 3x3 block is R), and with
``velocities=True`` how fast the joint moves. So it is taken in at its own time, as sure as it says it is, and the loop
predicts on from there to its next tick. The pose stream here is a noisy synthetic person at 30 Hz; in a real loop it is
your tracker, or PoseSubscriber of streamer.client on a server with --velocities.
"""

from __future__ import annotations

import argparse

import numpy as np

from model.motion.synthetic import SyntheticActor
from model.skeleton import INDEX
from streamer import Frame, Pose, PoseFilter

SECOND_NS = 1_000_000_000
JERK = 60.0  # how fast a hand changes its speed: white acceleration [m/s^2/sqrt(Hz)]
CORRELATED = 4.0  # errors of one pose are much like those of the next: four say as much as one alone
SPEED_SIGMA = 0.5  # of a velocity [m/s], as `hpstm bench velocity` measures it


class HandFilter:
    """Position and velocity of one joint (6,), for constant velocity between measurements."""

    def __init__(self) -> None:
        self.t_ns: int | None = None
        self.x = np.zeros(6)
        self.P = np.eye(6)

    def ahead(self, t_ns: int) -> tuple[np.ndarray, np.ndarray]:
        """State and covariance predicted for a time at or after the last measurement's."""
        assert self.t_ns is not None
        dt = (t_ns - self.t_ns) / SECOND_NS
        step = np.eye(6)
        step[:3, 3:] = dt * np.eye(3)
        noise = JERK * np.kron([[dt**3 / 3, dt**2 / 2], [dt**2 / 2, dt]], np.eye(3))
        return step @ self.x, step @ self.P @ step.T + noise

    def measure(self, pose: Pose, joint: int) -> None:
        """Take in a pose at the time that it is for; one that is older than the last, or of nobody, says nothing."""
        if pose.status == "lost" or (self.t_ns is not None and pose.t_ns <= self.t_ns):
            return
        seen, shown, R = pose.positions[joint], np.eye(6)[:3], CORRELATED * pose.covariance[joint].astype(float)
        if pose.velocity is not None and pose.status != "coasting":  # coasting, it is no news
            seen, shown = np.concatenate([seen, pose.velocity[joint]]), np.eye(6)
            R = np.block([[R, np.zeros((3, 3))], [np.zeros((3, 3)), SPEED_SIGMA**2 * np.eye(3)]])
        if self.t_ns is None:
            self.x[: len(seen)], self.t_ns = seen, pose.t_ns
            return
        self.x, self.P = self.ahead(pose.t_ns)
        gain = self.P @ shown.T @ np.linalg.inv(shown @ self.P @ shown.T + R)
        self.x = self.x + gain @ (seen - shown @ self.x)
        self.P = (np.eye(6) - gain @ shown) @ self.P
        self.t_ns = pose.t_ns


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--joint", choices=list(INDEX), default="right_hand")
    asked = parser.parse_args()
    joint, person, rng = INDEX[asked.joint], SyntheticActor(3), np.random.default_rng(0)
    pose_filter, hand, frames = PoseFilter.load(velocities=True), HandFilter(), 0
    off: dict[str, list[float]] = {"last pose": [], "Kalman": []}
    for tick_ns in range(0, round(asked.seconds * SECOND_NS), SECOND_NS // 100):  # the robot's clock
        while frames * SECOND_NS // 30 + SECOND_NS // 50 <= tick_ns:  # a frame arrives 20 ms after it was seen
            t_ns = frames * SECOND_NS // 30
            seen = person.positions(t_ns / SECOND_NS)[0] + 0.01 * rng.standard_normal((24, 3))
            pose = pose_filter.push(Frame(actor="a", seq=frames, t_ns=t_ns, positions=seen))
            hand.measure(pose, joint)
            frames += 1
        if frames < 30:
            continue
        true = person.positions(tick_ns / SECOND_NS)[0, joint]
        state, covariance = hand.ahead(tick_ns)
        off["last pose"].append(float(np.linalg.norm(pose.positions[joint] - true)))
        off["Kalman"].append(float(np.linalg.norm(state[:3] - true)))
    x, y, z = state[:3]
    sigma_mm = 1e3 * np.sqrt(np.trace(covariance[:3, :3]) / 3)
    print(f"{asked.joint} now at {x:+.3f} {y:+.3f} {z:+.3f} m, within {sigma_mm:.0f} mm an axis")
    for name, errors in off.items():
        print(f"{name}: {1e3 * np.mean(errors):.1f} mm off, {len(errors)} ticks at 100 Hz")


if __name__ == "__main__":
    main()
