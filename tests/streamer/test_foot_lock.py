"""Foot-lock: planted feet stand, let go without a jerk, and the pose keeps its promises. Whole takes: bench feet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from bench.accuracy import feet
from bench.accuracy.takes import load_takes
from model.motion.synthetic import SyntheticActor
from model.skeleton import INDEX, J
from streamer.filter import PoseFilter
from streamer.foot_lock import LEGS, UNSEEN_NS
from streamer.frames import Frame, Pose
from streamer.held_point import CREEP_M_S, FREE, Hold, Point
from streamer.legs import arc, bent
from streamer.quaternions import turned
from streamer.runtimes import load_runtime
from streamer.runtimes.block import Runtime
from tests.helpers.networks import (
    BUNDLED,
    NOT_BUNDLED,
    SECOND_NS,
    arrays,
    assert_pose_holds,
    assert_poses_equal,
    max_mm,
    noisy_stream,
    poses_of,
    stream,
)

needs_model = pytest.mark.skipif(not BUNDLED, reason=NOT_BUNDLED)
FEET = (INDEX["left_foot"], INDEX["right_foot"])
LEG_JOINTS = [joint for leg in LEGS for joint in leg[1:]]
RNG = np.random.default_rng(5)


# ---- one leg


def a_leg() -> tuple[np.ndarray, tuple[float, ...], list[tuple[float, ...]]]:
    """Hip, knee and ankle (3, 3) of a bent leg, the pelvis' rotation, the local ones of hip, knee and ankle."""
    rest = np.array([[0.0, -0.4, 0.0], [0.0, -0.42, 0.0]])
    world = Rotation.from_rotvec(RNG.normal(0.0, 0.5, (4, 3)))
    knee = world[1].apply(rest[0])
    at = np.array([np.zeros(3), knee, knee + world[2].apply(rest[1])]) + RNG.normal(size=3)
    local = [world[i].inv() * world[i + 1] for i in range(3)]
    return at, tuple(world[0].as_quat()), [tuple(q.as_quat()) for q in local]


def test_the_ankle_goes_where_it_shall_and_bones_keep_their_length() -> None:
    for _ in range(100):
        at, pelvis, local = a_leg()
        way = RNG.normal(0.0, 0.03, 3)
        got = bent(*at.tolist(), tuple(way), pelvis, local)
        length = np.linalg.norm(np.diff(at, axis=0), axis=-1)
        new = np.array([at[0], got.knee, got.ankle])
        np.testing.assert_allclose(np.linalg.norm(np.diff(new, axis=0), axis=-1), length, atol=1e-9)
        if np.linalg.norm(at[2] + way - at[0]) < length.sum() - 1e-4:
            np.testing.assert_allclose(got.ankle, at[2] + way, atol=1e-9)
        hip = Rotation.from_quat(pelvis) * Rotation.from_quat(got.rotations[0])
        knee = hip * Rotation.from_quat(got.rotations[1])
        np.testing.assert_allclose(at[0] + hip.apply([0.0, -0.4, 0.0]), got.knee, atol=1e-9)
        np.testing.assert_allclose(got.knee + knee.apply([0.0, -0.42, 0.0]), got.ankle, atol=1e-9)
        np.testing.assert_allclose((knee.inv() * Rotation.from_quat(got.knee_world)).magnitude(), 0.0, atol=1e-9)


def test_a_leg_that_goes_nowhere_stays_as_it_is() -> None:
    at, pelvis, local = a_leg()
    got = bent(*at.tolist(), (0.0, 0.0, 0.0), pelvis, local)
    np.testing.assert_allclose([got.knee, got.ankle], at[1:], atol=1e-9)
    np.testing.assert_allclose(got.rotations, local[:2], atol=1e-9)


@pytest.mark.parametrize("way", [(0.0, -9.0, 0.0), (0.0, 0.8199, 0.0), (0.0, 0.82, 0.0), (1e-12, 0.0, 0.0)])
def test_a_leg_is_never_out_of_joint(way: tuple[float, float, float]) -> None:
    """Too far, on the hip, straight: finite, and as long as it is."""
    at = np.array([[0.0, 0.82, 0.0], [0.0, 0.42, 0.0], [0.0, 0.0, 0.0]])
    one = (0.0, 0.0, 0.0, 1.0)
    got = bent(*at.tolist(), way, one, [one, one, one])
    new = np.array([at[0], got.knee, got.ankle])
    np.testing.assert_allclose(np.linalg.norm(np.diff(new, axis=0), axis=-1), (0.4, 0.42), atol=1e-6)
    assert np.isfinite(got.rotations).all()
    assert got.knee[2] >= -1e-9, "a straight knee bends to the front"


def test_the_shortest_turn() -> None:
    for a, b in RNG.normal(size=(50, 2, 3)):
        a, b = a / np.linalg.norm(a), b / np.linalg.norm(b)
        np.testing.assert_allclose(turned(arc(tuple(a), tuple(b)), a), b, atol=1e-12)
    np.testing.assert_allclose(turned(arc((1.0, 0.0, 0.0), (-1.0, 0.0, 0.0)), (1.0, 0.0, 0.0)), (-1.0, 0.0, 0.0))


# ---- one point


def test_an_offset_fades_as_a_critically_damped_spring_whatever_the_steps() -> None:
    hold = Hold(None, (0.05, 0.0, -0.02), (-0.4, 0.1, 0.0), 20.0)
    raw = (1.0, 2.0, 3.0)
    whole = hold.put(raw, 0.1)
    stepped = hold
    for dt in (0.03, 0.001, 0.05, 0.019):
        stepped = stepped.later(dt)
    np.testing.assert_allclose(stepped.put(raw, 0.0), whole, atol=1e-12)
    x, v = np.array(hold.offset_m), np.array(hold.speed_m_s)
    for _ in range(100_000):  # the spring itself, in small steps
        v = v + 1e-6 * (-(20.0**2) * x - 2 * 20.0 * v)
        x = x + 1e-6 * v
    np.testing.assert_allclose(np.array(whole) - raw, x, atol=1e-5)
    assert hold.later(5.0) is FREE


@pytest.mark.parametrize("rate", [15, 30, 60, 120, 240])
def test_a_point_stands_at_any_rate_and_goes_on_without_a_jump(rate: int) -> None:
    """A noisy point stands for 2 s and then leaves at 1 m/s^2 up to 1 m/s."""
    rng, dt = np.random.default_rng(rate), 1 / rate
    t = np.arange(round(4 * rate)) * dt
    since = np.maximum(t - 2.0, 0.0)
    path = np.where(since < 1.0, 0.5 * since**2, since - 0.5)
    raw = np.zeros((len(t), 3)) + rng.normal(0.0, 0.005, (len(t), 3))
    raw[:, 0] += path
    point, put = Point(tuple(raw[0]), 0.008), []
    for k in range(1, len(t)):
        point.take(tuple(raw[k]), dt, 0.008, 0.2, 0.1)
        put.append(point.hold.put(tuple(raw[k]), 0.0))
    said, standing = np.array(put), (t[1:] > 0.5) & (t[1:] < 1.95)
    step = np.linalg.norm(np.diff(said, axis=0), axis=-1)
    assert step[standing[1:]].max() <= CREEP_M_S * dt + 1e-4
    assert step.max() < 1.1 * dt + 6 * 0.005, "no jump, beyond the noise, when it is let go"
    assert np.abs(said[-rate // 4 :] - raw[-rate // 4 :]).max() < 1e-3, "in the end it is where the pose has it"


# ---- in the filter


def test_without_it_nothing_changes_and_with_it_legs_alone(new: Callable[..., PoseFilter], frames: list[Frame]) -> None:
    plain = poses_of(new(), frames)
    assert_poses_equal(poses_of(new(foot_lock=False), frames), plain)
    locked = poses_of(new(foot_lock=True), frames)
    others = [j for j in range(J) if j not in LEG_JOINTS]
    turns = [j for j in range(J) if j not in [joint for leg in LEGS for joint in leg[:3]]]
    moved = 0.0
    for before, a, b in zip([None, *locked[:-1]], locked, plain, strict=True):
        assert_pose_holds(a, before)
        np.testing.assert_array_equal(a.positions[others], b.positions[others])
        np.testing.assert_array_equal(np.abs(a.rotations[turns]), np.abs(b.rotations[turns]))
        np.testing.assert_array_equal(a.source, b.source)
        np.testing.assert_array_equal(a.contact, b.contact)
        spread = a.covariance.astype(np.float64) - b.covariance
        assert np.linalg.eigvalsh(spread).min() > -1e-9, "what is moved is never surer for it"
        moved = max(moved, max_mm(a.positions, b.positions))
    assert moved > 1.0


@pytest.fixture(scope="module")
def locked(new: Callable[..., PoseFilter], frames: list[Frame]) -> list[Pose]:
    return poses_of(new(foot_lock=True), frames)


def test_the_ladder_holds_with_it(new: Callable[..., PoseFilter], frames: list[Frame], locked: list[Pose]) -> None:
    """In chunks, after a reset, on another clock, among other actors, without the future: bit for bit."""
    assert_poses_equal(new(foot_lock=True).push_many(frames), locked)
    again = new(foot_lock=True)
    poses_of(again, noisy_stream(2, 30))
    again.reset("a")
    assert_poses_equal(poses_of(again, frames), locked)
    year_ns = 365 * 86_400 * SECOND_NS
    later = noisy_stream(1, len(frames), start_ns=year_ns)
    assert_poses_equal(poses_of(new(foot_lock=True), later), locked, clock_ns=year_ns)
    mixed = [frame for pair in zip(frames, noisy_stream(3, len(frames), "b")) for frame in pair]
    assert_poses_equal(new(foot_lock=True).push_many(mixed)[::2], locked)
    assert_poses_equal(poses_of(new(foot_lock=True), frames[:20]), locked[:20])


def test_asking_for_other_times_changes_nothing_and_fits(
    new: Callable[..., PoseFilter], frames: list[Frame], locked: list[Pose]
) -> None:
    filter_ = new(foot_lock=True)
    for frame, want in zip(frames, locked, strict=True):
        pose = filter_.push(frame)
        np.testing.assert_array_equal(pose.positions, want.positions)
        np.testing.assert_array_equal(filter_.pose_at(frame.t_ns, "a").positions, want.positions)
        for tau_ms in (-180, -30, 40, 900):
            assert_pose_holds(filter_.pose_at(frame.t_ns + tau_ms * 1_000_000, "a"))


@pytest.mark.parametrize("setting", [{"delay_s": 0.1}, {"predict_s": 0.05}])
def test_delayed_and_predicted_poses_hold_their_promises(
    setting: dict[str, float], new: Callable[..., PoseFilter], frames: list[Frame]
) -> None:
    poses = poses_of(new(foot_lock=True, **setting), frames)
    for before, pose in zip([None, *poses[:-1]], poses, strict=True):
        assert_pose_holds(pose, before)


@pytest.mark.parametrize("what", ["gap", "clock", "nobody", "legs"])
def test_whatever_a_stream_does(what: str, new: Callable[..., PoseFilter], frames: list[Frame]) -> None:
    shift = {"gap": 3 * SECOND_NS, "clock": -100 * SECOND_NS}.get(what, 0)
    odd = [replace(f, t_ns=f.t_ns + shift * (k >= 25), positions=f.positions.copy()) for k, f in enumerate(frames)]
    for frame in odd[25:50] if what in ("nobody", "legs") else ():
        frame.positions[slice(None) if what == "nobody" else LEG_JOINTS] = np.nan
    filter_ = new(foot_lock=True)
    for pose in filter_.push_many(odd):
        if pose is not None:
            assert_pose_holds(pose)


def test_feet_that_are_not_seen_are_let_go(new: Callable[..., PoseFilter]) -> None:
    filter_ = new(foot_lock=True)
    held = filter_._actors.feet
    assert held is not None
    standing = np.repeat(SyntheticActor(1).positions([0.0]), 120, 0)
    standing += np.random.default_rng(0).normal(0.0, 0.02, standing.shape)
    standing[60:, LEG_JOINTS] = np.nan
    ever = False
    for k, frame in enumerate(stream(standing, np.arange(120) / 30)):
        filter_.push(frame)
        holds, _ = held._feet[0].holds(frame.t_ns)
        ever |= k < 60 and holds[0].at_m is not None
        if k / 30 > 59 / 30 + UNSEEN_NS / SECOND_NS + 0.04:
            assert [hold.at_m for hold in holds] == [None] * 4
    assert ever


# ---- what it is for


@pytest.fixture(scope="module")
def runtime() -> Runtime:
    return load_runtime("onnx")


@needs_model
def test_planted_feet_stand_and_the_error_stays(runtime: Runtime) -> None:
    """Synthetic takes with 10 mm of white noise, where people walk most of the time; bench feet has real ones."""
    off, on = feet.run(load_takes("synthetic", clips=2, seconds=8.0), runtime, ["white10"], 30.0)
    print(
        f"\nslide {off['slide_mm_p50']:.2f} -> {on['slide_mm_p50']:.2f} mm a frame, {on['under_2_mm']:.1%} under 2 mm"
    )
    assert off["slide_mm_p50"] > 4.0
    assert on["slide_mm_p50"] < 1.0
    assert on["under_2_mm"] > 0.75  # the lock lets go of feet that the pose shakes, and it shakes more for less lag
    assert on["world_mm"] < 1.02 * off["world_mm"]
    assert on["release_m_s2_p50"] < off["release_m_s2_p50"]
    assert on["covered"] > off["covered"] - 0.04


@pytest.fixture(scope="module")
def noisy_walk(runtime: Runtime) -> tuple[list[Pose], list[Pose]]:
    """The poses of somebody who stands and walks, with 10 mm of noise: feet free, and locked."""
    joints = SyntheticActor(2).clip(10.0, 30.0)
    frames = stream(joints + np.random.default_rng(0).normal(0.0, 0.01, joints.shape), np.arange(len(joints)) / 30)
    free, locked = (poses_of(PoseFilter(runtime, foot_lock=lock, velocities=True), frames) for lock in (False, True))
    return free[120:], locked[120:]


@needs_model
def test_a_planted_foot_has_no_speed_and_a_leg_that_of_its_poses(noisy_walk: tuple[list[Pose], list[Pose]]) -> None:
    """What is published as velocity is how the published positions go on."""
    (free, free_v), (locked, locked_v) = (
        (np.array([pose.positions for pose in poses], float), np.array([pose.velocity for pose in poses], float))
        for poses in noisy_walk
    )
    goes = 30.0 * np.diff(locked, axis=0)
    stands = (np.linalg.norm(goes[:, FEET], axis=-1) < CREEP_M_S + 1e-3) & (np.abs(locked - free)[1:, FEET].max(-1) > 0)
    assert stands.mean() > 0.3
    speed, before = (np.linalg.norm(v[1:][:, FEET], axis=-1)[stands] for v in (locked_v, free_v))
    print(f"\nspeed of held feet: {before.mean():.3f} -> {speed.mean():.3f} m/s")
    assert before.mean() > 0.03
    assert np.quantile(speed, 0.95) < 0.005
    off, without = (
        np.sqrt(np.mean(((v[1:] - goes)[:, LEG_JOINTS][:, [0, 1, 3, 4]][stands.any(1)]) ** 2))
        for v in (locked_v, free_v)
    )
    print(f"knees and ankles against differences of poses: {without:.3f} -> {off:.3f} m/s")
    assert off < without
    others = [j for j in range(J) if j not in LEG_JOINTS]
    np.testing.assert_allclose(locked_v[:, others], free_v[:, others], atol=1e-5)


@needs_model
def test_a_leg_turns_as_it_moves(noisy_walk: tuple[list[Pose], list[Pose]]) -> None:
    """A rigid bone: the velocity of its end is that of its start and what its turning makes of its length."""
    for pose in noisy_walk[1]:
        assert pose.velocity is not None
        assert pose.angular_velocity is not None
        for leg in LEGS:
            for joint, child in pairwise(leg):
                bone = pose.positions[child] - pose.positions[joint]
                turning = np.cross(pose.angular_velocity[joint], bone)
                difference = np.linalg.norm(pose.velocity[child] - pose.velocity[joint] - turning)
                assert difference < 0.02 + 0.2 * np.linalg.norm(turning)


@needs_model
def test_clean_motion_is_left_alone(runtime: Runtime) -> None:
    clean = stream(SyntheticActor(2).clip(6.0, 60.0), np.arange(360) / 60)
    plain, with_it = (poses_of(PoseFilter(runtime, foot_lock=lock), clean) for lock in (False, True))
    for a, b in zip(with_it[60:], plain[60:], strict=True):
        for name, array in arrays(b).items():
            np.testing.assert_array_equal(arrays(a)[name], array)
