"""Velocities of poses: as fast as the truth, for the time that the pose is for, and nothing else changes by them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from bench.service.child import ServerProcess
from model.motion.synthetic import SyntheticActor
from model.skeleton import INDEX, LEAVES, PARENTS, J
from streamer.filter import PoseFilter
from streamer.frames import Frame, Pose
from streamer.sinks.recording import RecordingWriter, read_recording
from streamer.velocities import SPAN_S, ends_s, rotation_vectors, world_rotations
from streamer.wire.json_lines import pose_fields
from streamer.wire.protocol import Encoder, decode
from tests.helpers.live import poses, streaming, subscribed
from tests.helpers.networks import BUNDLED, NOT_BUNDLED, SECOND_NS, assert_poses_equal, stream

bundled = pytest.mark.skipif(not BUNDLED, reason=NOT_BUNDLED)
FPS, SETTLED = 60.0, 120
STEP_S = 1e-4
SHOWN = [j for j in range(J) if j not in LEAVES]


def test_rotations_are_chained_and_compared_as_scipy_does_it() -> None:
    local = Rotation.random(3 * J, random_state=0).as_quat().reshape(3, J, 4).astype(np.float32)
    got = world_rotations(local)
    for b in range(3):
        want: list[Rotation] = []
        for j, p in enumerate(PARENTS):
            own = Rotation.from_quat(local[b, j])
            want.append(own if p < 0 else want[p] * own)
            assert (want[j].inv() * Rotation.from_quat(got[b, j])).magnitude() < 1e-5
    turns = Rotation.from_quat(got[0]) * Rotation.from_quat(got[1]).inv()
    np.testing.assert_allclose(rotation_vectors(got[0], -got[1]), turns.as_rotvec(), rtol=0, atol=1e-5)
    assert np.abs(rotation_vectors(got[0], got[0])).max() < 1e-6


def test_the_ends_of_a_step_lie_about_the_time_in_what_was_seen_and_move_steadily() -> None:
    tau = np.linspace(-0.2, 0.15, 3501)
    first, last = ends_s(tau, -0.2)
    assert (first >= -0.2).all()
    assert (last - first >= SPAN_S - 1e-9).all()
    assert ((first <= tau) & (tau <= last)).all()
    assert np.abs(np.diff([first, last])).max() <= 1.001e-4  # 0.1 ms
    assert ends_s(np.array([-0.1]), -0.2) == (-0.1 - SPAN_S, -0.1 + SPAN_S)


def moving(noise_m: float = 0.0, rotations: bool = False) -> tuple[SyntheticActor, list[Frame]]:
    """Somebody at 60 Hz for 5 s."""
    actor, times = SyntheticActor(3), np.arange(300) / FPS
    seen = actor.positions(times)
    seen = seen + noise_m * np.random.default_rng(0).standard_normal(seen.shape)
    frames = stream(seen.astype(np.float32), times)
    if rotations:
        sent = Rotation.from_matrix(actor.poses(times)[0].reshape(-1, 3, 3)).as_quat().reshape(len(times), J, 4)
        frames = [replace(frame, rotations=turned) for frame, turned in zip(frames, sent)]
    return actor, frames


def truth(actor: SyntheticActor, some: list[Pose]) -> tuple[np.ndarray, np.ndarray]:
    """True velocities and angular velocities (T, 24, 3) at the times that poses are for."""
    t_s = np.array([pose.t_ns for pose in some]) / SECOND_NS
    before, after = t_s - STEP_S, t_s + STEP_S
    velocity = (actor.positions(after) - actor.positions(before)) / (2 * STEP_S)
    a, b = (Rotation.from_matrix(actor.poses(t)[0].reshape(-1, 3, 3)) for t in (after, before))
    return velocity, (a * b.inv()).as_rotvec().reshape(-1, J, 3) / (2 * STEP_S)


def speeds(some: list[Pose]) -> tuple[np.ndarray, np.ndarray]:
    """What poses say of both (T, 24, 3)."""
    found = [(pose.velocity, pose.angular_velocity) for pose in some]
    assert all(v is not None and w is not None for v, w in found)
    velocity, angular = zip(*found)
    return np.stack(velocity), np.stack(angular)


def off(said: np.ndarray, true: np.ndarray) -> float:
    """Mean error, as a part of the mean speed."""
    return float(np.linalg.norm(said - true, axis=-1).mean() / np.linalg.norm(true, axis=-1).mean())


@bundled
@pytest.mark.parametrize(
    ("settings", "most", "most_angular"),
    [({"delay_s": 0.1}, 0.03, 0.4), ({}, 0.12, 0.6), ({"predict_s": 0.05}, 0.42, 1.0)],
)
def test_clean_motion_is_as_fast_as_it_is(settings: dict[str, float], most: float, most_angular: float) -> None:
    actor, frames = moving()
    filter_ = PoseFilter.load(velocities=True, **settings)  # type: ignore[arg-type]
    some = [filter_.push(frame) for frame in frames][SETTLED:-20]
    said, true = speeds(some), truth(actor, some)
    assert off(said[0], true[0]) < most
    assert off(said[1][:, SHOWN], true[1][:, SHOWN]) < most_angular


@bundled
def test_noise_shows_less_in_them_than_in_differences_of_predicted_poses() -> None:
    actor, frames = moving(noise_m=0.01)
    filter_ = PoseFilter.load(velocities=True, predict_s=0.05)
    some = [filter_.push(frame) for frame in frames][SETTLED:-20]
    said, true = speeds(some), truth(actor, some)
    differences = np.diff([pose.positions for pose in some], axis=0) * FPS
    assert off(said[0], true[0]) < off(differences, true[0][1:])


@bundled
def test_turns_that_a_source_shows_are_in_the_angular_velocity() -> None:
    """Of the head, and of turns about bones, joints show nothing: without rotations there is a prior alone."""
    turned = [*SHOWN, INDEX["head"]]
    errors = []
    for shown in (True, False):
        actor, frames = moving(rotations=shown)
        filter_ = PoseFilter.load(velocities=True, delay_s=0.1)
        some = [filter_.push(frame) for frame in frames][SETTLED:-20]
        errors.append(off(speeds(some)[1][:, turned], truth(actor, some)[1][:, turned]))
    assert errors[0] < 0.2
    assert errors[0] < 0.5 * errors[1]


@pytest.mark.parametrize("settings", [{}, {"delay_s": 0.1}, {"predict_s": 0.05}])
def test_nothing_else_changes(settings: dict[str, float], new: Callable[..., PoseFilter], frames: list[Frame]) -> None:
    plain, asked = new(**settings), new(velocities=True, **settings)
    some = frames[: len(frames) // 2]
    t_ns = some[-1].t_ns - SECOND_NS // 20
    with_, without = ([*map(f.push, some), f.pose_at(t_ns, "a")] for f in (asked, plain))
    assert_poses_equal(with_, without)
    assert all(pose.velocity is None and pose.angular_velocity is None for pose in without)
    assert all(np.isfinite(values).all() for values in speeds(with_))


def test_any_time_has_the_speed_of_the_way_there(new: Callable[..., PoseFilter], frames: list[Frame]) -> None:
    asked, plain = new(velocities=True), new()
    for frame in frames[:20]:
        asked.push(frame), plain.push(frame)
    last_ns = frames[19].t_ns
    for at_ns in (-SECOND_NS // 10, -SECOND_NS // 100, 0, SECOND_NS // 20, SECOND_NS):
        pose = asked.pose_at(last_ns + at_ns, "a")
        tau = np.float32((pose.t_ns - last_ns) / SECOND_NS)
        (first,), (last,) = ends_s(np.array([tau], np.float64), asked.runtime.contract.tau_s[0])
        ends = [plain.pose_at(last_ns + round(s * SECOND_NS), "a") for s in (first, last)]
        assert pose.velocity is not None
        np.testing.assert_allclose(
            pose.velocity, (ends[1].positions - ends[0].positions) / (last - first), rtol=1e-3, atol=1e-4
        )


@bundled
def test_a_pose_that_stands_still_for_want_of_anything_seen_has_no_speed() -> None:
    filter_ = PoseFilter.load(velocities=True)
    _, frames = moving()
    for frame in frames[:SETTLED]:
        filter_.push(frame)
    last = frames[SETTLED - 1]
    gone = [  # a source that is frozen: the same again is no news
        replace(last, seq=last.seq + n, t_ns=last.t_ns + n * SECOND_NS // 60) for n in range(1, 90)
    ]
    said = {n: filter_.push(frame) for n, frame in enumerate(gone, 1)}
    ahead_s = filter_.runtime.contract.tau_s[1]
    for n, pose in said.items():
        assert pose.status == ("coasting" if n <= 60 else "lost")
        stands = bool((speeds([pose])[0] == 0).all() and (speeds([pose])[1] == 0).all())
        assert stands == (n / 60 > ahead_s)


# -- passed on --------------------------------------------------------------------------------------------------------


def test_a_server_that_is_asked_passes_them_on(tmp_path: Path) -> None:
    with (
        ServerProcess(["--velocities"]) as server,
        streaming(server, "a", 60.0),
        subscribed(server, "a") as subscriber,
    ):
        came = poses(subscriber, least=60)
    sway = 0.05 * 6.0  # m/s, of tests.helpers.live.body_frame
    velocity, _ = speeds(came)
    assert 0.5 * sway < np.abs(velocity[20:]).max() < 1.5 * sway
    file, encoder = tmp_path / "take.hpstm", Encoder()
    with RecordingWriter(file) as writer:
        for pose in came:
            writer.write(encoder.pose(pose), pose.published_ns)
    np.testing.assert_array_equal(speeds(read_recording(file).poses)[0], velocity)
    line = pose_fields(came[-1])
    np.testing.assert_allclose(line["velocity"], velocity[-1], rtol=0, atol=1e-6)
    assert np.shape(line["angular_velocity"]) == (J, 3)


def test_nobody_who_did_not_ask_gets_them(new: Callable[..., PoseFilter], frames: list[Frame]) -> None:
    pose = new().push(frames[0])
    message = Encoder().pose(pose)
    assert b"velocity" not in message
    said = decode(message)
    assert isinstance(said, Pose)
    assert said.velocity is None
    assert "velocity" not in pose_fields(pose)
