"""Pose.source: the joints that went in come out refined, in their own order; points of face, hands and feet with them.

People are synthetic, their landmarks sit on them as model.landmarks says. Bars are for the bundled model.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from threading import Event, Thread

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from bench.service.child import ServerProcess
from model.landmarks import landmarks
from model.layouts import LAYOUTS, get_layout
from model.motion.synthetic import SyntheticActor
from model.skeleton import INDEX, PARENTS, J
from streamer.carriers import UNKNOWN, carriers_of, joint_named, world_rotations
from streamer.client import FrameSender
from streamer.filter import PoseFilter
from streamer.frames import Frame, Pose
from streamer.runtimes import load_runtime
from streamer.runtimes.block import Runtime
from streamer.sinks.recording import read_recording, record
from tests.helpers.live import counter, poses, subscribed, wait_until
from tests.helpers.networks import BUNDLED, NOT_BUNDLED, SECOND_NS, mean_mm

FPS = 30
SETTLED = 4 * FPS  # frames after which clean input is clean output
MEDIAPIPE = get_layout("mediapipe_33").joints
NOSE, HEEL = MEDIAPIPE.index("nose"), MEDIAPIPE.index("left_heel")
FACE = range(MEDIAPIPE.index("mouth_right") + 1)
bundled = pytest.mark.skipif(not BUNDLED, reason=NOT_BUNDLED)


@cache
def runtime() -> Runtime:
    return load_runtime("onnx")


@cache
def body(seconds: float, yaw_rad_s: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Joints (T, 24, 3) and world rotations of somebody who moves, and besides turns about the vertical."""
    times = np.arange(round(seconds * FPS)) / FPS
    actor = SyntheticActor(3)
    turn = Rotation.from_rotvec(np.outer(yaw_rad_s * times, [0.0, 1.0, 0.0])).as_matrix()[:, None]
    return actor.positions(times) @ turn[:, 0].swapaxes(1, 2), turn @ actor.poses(times)[0]


def seen(layout: str, seconds: float = 8.0, yaw_rad_s: float = 0.0, nod_rad: float = 0.0) -> np.ndarray:
    """(T, J, 3) that person as a layout shows them; ``nod_rad``: the head shakes beside."""
    positions, rotations = body(seconds, yaw_rad_s)
    angle = nod_rad * np.sin(2 * np.pi * 0.7 * np.arange(len(positions)) / FPS)
    shake = Rotation.from_rotvec(angle[:, None] * np.array([0.0, 1.0, 0.0])).as_matrix()
    rotations = rotations.copy()
    rotations[:, INDEX["head"]] = rotations[:, INDEX["head"]] @ shake
    return landmarks(layout).at(positions, rotations)


def stream(xyz: np.ndarray, layout: str, start: int = 0) -> list[Frame]:
    """Frames of points in the world, sent in the layout's own axes and unit."""
    turn = get_layout(layout).world_from_source if layout in LAYOUTS else None  # an own one: sent as it is
    xyz = xyz if turn is None else xyz @ np.linalg.inv(turn).T
    return [
        Frame("a", start + k, round((start + k) * SECOND_NS / FPS), x.astype(np.float32), layout=layout)
        for k, x in enumerate(xyz)
    ]


def pushed(xyz: np.ndarray, layout: str, **settings: float) -> np.ndarray:
    """(T, J, 3) what comes out of the poses' source."""
    filter_ = PoseFilter(runtime(), **settings)  # type: ignore[arg-type]
    return sources([filter_.push(frame) for frame in stream(xyz, layout)])


def sources(answers: Sequence[Pose]) -> np.ndarray:
    return np.stack([pose.source for pose in answers if pose.source is not None])


def worst_mm(a: np.ndarray, b: np.ndarray) -> float:
    return float(1e3 * np.nanmax(np.linalg.norm(a - b, axis=-1)))


# ---- clean in, clean out


@bundled
@pytest.mark.parametrize("layout", LAYOUTS)
def test_clean_joints_come_out_as_they_went_in(layout: str) -> None:
    xyz = seen(layout, nod_rad=0.5)
    filter_ = PoseFilter(runtime())
    answers = [filter_.push(frame) for frame in stream(xyz, layout)]
    assert {
        (pose.layout, pose.source.shape, str(pose.source.dtype)) for pose in answers if pose.source is not None
    } == {(layout, xyz.shape[1:], "float32")}
    got, given = sources(answers)[SETTLED:], ~np.isnan(xyz[0, :, 0])
    assert np.isnan(got[:, ~given]).all()  # nobody ever said where they are
    assert mean_mm(got[:, given], xyz[SETTLED:, given]) < 1.0
    others = carriers_of(get_layout(layout)).others
    if given[others].any():
        assert worst_mm(got[:, others], xyz[SETTLED:, others]) < 1.0


@bundled
def test_a_definition_that_is_not_the_skeletons_stays() -> None:
    """Joints that lie off the model's by centimetres, as markers on the skin do."""
    xyz = seen("smpl_24").copy()
    off = 0.03 * np.random.default_rng(0).standard_normal((J, 3))
    xyz += np.einsum("tjab,jb->tja", body(8.0)[1][:, [max(p, 0) for p in PARENTS]], off)
    assert mean_mm(pushed(xyz, "smpl_24")[SETTLED:], xyz[SETTLED:]) < 5.0


# ---- other times


@bundled
def test_a_delayed_pose_has_the_points_of_then() -> None:
    xyz, late = seen("mediapipe_33", nod_rad=0.5), 3
    got = pushed(xyz, "mediapipe_33", delay_s=late / FPS)
    others = carriers_of(get_layout("mediapipe_33")).others
    assert worst_mm(got[SETTLED:, others], xyz[SETTLED - late : -late, others]) < 1.0


@bundled
def test_a_time_between_two_frames_has_points_between_theirs() -> None:
    xyz = seen("mediapipe_33", 5.0, nod_rad=0.5)
    filter_ = PoseFilter(runtime())
    for frame in stream(xyz, "mediapipe_33"):
        pose = filter_.push(frame)
    between = filter_.pose_at(pose.t_ns - SECOND_NS // FPS // 2, "a")
    assert between.source is not None
    face = list(FACE)
    np.testing.assert_allclose(between.source[face], xyz[-2:, face].mean(0), rtol=0, atol=0.001)


@bundled
@pytest.mark.parametrize("ahead_s", [0.05, 0.1])
def test_points_of_a_pose_ahead_turn_with_the_body(ahead_s: float) -> None:
    """By poses of the stream, and by ``pose_at``; to stay behind would be worse."""
    xyz, face = seen("mediapipe_33", 6.0, yaw_rad_s=2.0), list(FACE)
    steps = round(ahead_s * FPS)
    got = pushed(xyz, "mediapipe_33", predict_s=steps / FPS)[SETTLED:-steps]
    filter_ = PoseFilter(runtime())
    asked = []
    for frame in stream(xyz, "mediapipe_33"):
        filter_.push(frame)
        asked.append(filter_.pose_at(frame.t_ns + round(steps * SECOND_NS / FPS), "a"))
    truth, held = xyz[SETTLED + steps :], xyz[SETTLED:-steps]
    for answer in (got, sources(asked)[SETTLED:-steps]):
        nose, head = answer[:, NOSE] - answer[:, face].mean(1), truth[:, NOSE] - truth[:, face].mean(1)
        assert mean_mm(nose, head) < 0.6 * mean_mm(held[:, NOSE] - held[:, face].mean(1), head)


# ---- gaps


@bundled
def test_what_is_missing_stays_where_it_was_on_the_body() -> None:
    """A face turned away from the camera, heels behind the feet: smooth at both ends, and near enough between."""
    xyz = seen("mediapipe_33", 8.0, yaw_rad_s=0.8)
    hidden = [*FACE, *(n for n, name in enumerate(MEDIAPIPE) if name.endswith(("heel", "thumb")))]
    gap = slice(5 * FPS, 7 * FPS)
    shown = xyz.copy()
    shown[gap, hidden] = np.nan
    got = pushed(shown, "mediapipe_33")
    assert np.isfinite(got[1:]).all()
    assert mean_mm(got[gap, hidden], xyz[gap, hidden]) < 60.0
    assert mean_mm(got[gap, hidden], np.broadcast_to(xyz[gap.start - 1, hidden], got[gap, hidden].shape)) > 200.0
    assert mean_mm(got[gap, HEEL], xyz[gap, HEEL]) < 15.0  # its ankle is seen
    jumps = np.linalg.norm(np.diff(got - xyz, axis=0), axis=-1)
    assert jumps[gap.start - 1].max() < 0.02  # going; while the head is gone it is the model that says where it is
    assert jumps[gap.start : gap.stop - 1].max() < 0.08
    assert np.linalg.norm(got[gap.stop] - xyz[gap.stop], axis=-1).max() < 0.005  # back: believed at once


@bundled
def test_a_face_that_is_not_seen_turns_with_the_person() -> None:
    xyz = seen("mediapipe_33", 7.0, yaw_rad_s=0.8)
    shown, start = xyz.copy(), 5 * FPS
    shown[start:, [n for n in FACE if "ear" not in MEDIAPIPE[n]]] = np.nan
    got = pushed(shown, "mediapipe_33")
    ears = [MEDIAPIPE.index(f"{side}_ear") for side in ("left", "right")]
    out, true = (x[-1, NOSE] - x[-1, ears].mean(0) for x in (got, xyz))
    turned = xyz[start, NOSE] - xyz[start, ears].mean(0)
    assert angle_deg(out, true) < 30.0
    assert angle_deg(turned, true) > 70.0


def angle_deg(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.degrees(np.arccos(a @ b / np.linalg.norm(a) / np.linalg.norm(b))))


@bundled
def test_a_point_is_nan_until_it_is_given_and_never_again() -> None:
    xyz = seen("coco_17", 3.0)
    knee, nose = 13, 0
    xyz[:, [knee, nose]] = np.where(np.arange(len(xyz))[:, None, None] == 30, xyz[:, [knee, nose]], np.nan)
    nan = np.isnan(pushed(xyz, "coco_17")[:, :, 0])
    assert nan[:30, [knee, nose]].all()
    assert not nan[30:].any()
    assert not np.delete(nan, [knee, nose], axis=1).any()


@pytest.mark.parametrize("hide", ["nan", "zero", "confidence"])
def test_every_way_to_say_missing_is_one(hide: str, new: Callable[..., PoseFilter]) -> None:
    xyz = seen("mediapipe_33", 1.0)
    frames = stream(xyz, "mediapipe_33")
    for frame in frames:
        if hide == "confidence":
            frame.confidence = np.ones(33, np.float32)
            frame.confidence[NOSE] = 0.0
        else:
            frame.positions[NOSE] = np.nan if hide == "nan" else 0.0
    filter_ = new()
    got = sources([filter_.push(frame) for frame in frames])
    assert np.isnan(got[:, NOSE]).all()
    assert not np.isnan(np.delete(got, NOSE, axis=1)).any()


@bundled
def test_a_pause_and_another_clock_keep_what_is_known() -> None:
    xyz = seen("mediapipe_33", 5.0)
    filter_ = PoseFilter(runtime())
    for frame in stream(xyz, "mediapipe_33"):
        filter_.push(frame)
    for start_s in (60, -1000):
        shown = xyz[:30].copy()
        shown[:, NOSE] = np.nan
        frames = [
            Frame("a", 10**6 + k, start_s * SECOND_NS + round(k * SECOND_NS / FPS), x, layout="mediapipe_33")
            for k, x in enumerate(shown)
        ]
        answers = [pose for pose in filter_.push_many(frames) if pose is not None]
        assert len(answers) > 15
        assert 0.05 < np.linalg.norm(sources(answers)[:, NOSE] - xyz[30 - len(answers) : 30, 7], axis=-1).mean() < 0.25


# ---- noise


@bundled
@pytest.mark.parametrize("noise_mm", [3.0, 10.0, 20.0])
def test_carried_points_are_no_worse_than_they_came_and_calmer(noise_mm: float) -> None:
    xyz = seen("mediapipe_33", 10.0, nod_rad=0.3)
    noisy = xyz + noise_mm / 1e3 * np.random.default_rng(0).standard_normal(xyz.shape)
    got = pushed(noisy, "mediapipe_33")[SETTLED:]
    others = carriers_of(get_layout("mediapipe_33")).others
    xyz, noisy = xyz[SETTLED:, others], noisy[SETTLED:, others]
    assert mean_mm(got[:, others], xyz) < (1.0 if noise_mm < 5 else 0.85) * mean_mm(noisy, xyz)
    assert (
        np.abs(np.diff(got[:, others], 3, axis=0)).mean()
        < (1.0 if noise_mm < 5 else 0.6) * np.abs(np.diff(noisy, 3, axis=0)).mean()
    )


@bundled
def test_one_wild_point_is_not_believed_and_a_second_one_is() -> None:
    xyz = seen("mediapipe_33", 6.0)
    xyz[150, NOSE] += 0.5
    xyz[160:, HEEL] += (0.0, 0.0, 0.2)
    got = pushed(xyz, "mediapipe_33")
    away = np.linalg.norm(got - xyz, axis=-1)
    assert np.linalg.norm(got[150, NOSE] - (xyz[150, NOSE] - 0.5)) < 0.02
    assert away[160, HEEL] > 0.15
    assert away[161, HEEL] < 0.1
    assert away[175, HEEL] < 0.01


# ---- layouts


def test_the_order_is_the_newest_frames(new: Callable[..., PoseFilter]) -> None:
    filter_ = new()
    coco, mediapipe = stream(seen("coco_17", 1.0), "coco_17"), stream(seen("mediapipe_33", 1.0), "mediapipe_33", 30)
    for frame in coco:
        pose = filter_.push(frame)
    mediapipe[0].positions[[NOSE, HEEL]] = np.nan
    assert pose.source is not None
    assert (pose.layout, pose.source.shape) == ("coco_17", (17, 3))
    for frame in mediapipe:
        pose = filter_.push(frame)
        assert pose.source is not None
        assert (pose.layout, pose.source.shape) == ("mediapipe_33", (33, 3))
        assert np.isnan(pose.source[NOSE, 0]) == (frame is mediapipe[0])  # what coco_17 showed is another source's
    pose = filter_.pose_at(pose.t_ns + 10_000_000, "a")
    assert pose.layout == "mediapipe_33"


def test_without_source_there_is_none(new: Callable[..., PoseFilter], frames: list[Frame]) -> None:
    pose = new(source=False).push(frames[0])
    assert pose.source is None
    np.testing.assert_array_equal(pose.positions, new().push(frames[0]).positions)


OWN_JOINTS = [
    "pelvis", "neck", "head", *(f"{side}_{part}" for part in ("hip", "knee", "ankle", "shoulder", "elbow", "wrist")
                                for side in ("left", "right")), "marker_a", "LHeel",
]  # fmt: skip
MARKER = 15


def own_frames(folder: Path, seconds: float) -> tuple[Path, np.ndarray, np.ndarray]:
    """A layout of somebody's own with a marker near the left elbow; the truth (T, 17, 3) m, Y up, and what is sent."""
    path = folder / "own.toml"
    path.write_text(f"joints = {json.dumps(OWN_JOINTS)}\nunits = 'cm'\nup_axis = 'z'\n")
    positions, rotations = body(seconds)
    elbow, ankle = INDEX["left_elbow"], INDEX["left_ankle"]
    marker = positions[:, elbow] + rotations[:, elbow] @ np.array([0.03, 0.05, 0.0])
    heel = positions[:, ankle] + rotations[:, ankle] @ np.array([0.0, -0.05, -0.06])
    truth = np.concatenate(
        [positions[:, [INDEX[name] for name in OWN_JOINTS[:MARKER]]], marker[:, None], heel[:, None]], 1
    )
    return path, truth, 100.0 * np.stack([truth[..., 0], -truth[..., 2], truth[..., 1]], -1)


@bundled
def test_a_layout_of_ones_own_comes_out_in_metres_and_a_nameless_marker_finds_its_joint(tmp_path: Path) -> None:
    path, truth, sent = own_frames(tmp_path, 8.0)
    assert carriers_of(get_layout(path)).carriers.tolist() == [UNKNOWN, INDEX["left_ankle"]]
    shown = sent.copy()
    shown[6 * FPS :, MARKER] = np.nan
    got = pushed(shown, str(path))
    np.testing.assert_allclose(got[SETTLED : 6 * FPS, MARKER:], truth[SETTLED : 6 * FPS, MARKER:], rtol=0, atol=1e-3)
    assert mean_mm(got[SETTLED:, :MARKER], truth[SETTLED:, :MARKER]) < 1.0
    assert mean_mm(got[6 * FPS :, MARKER], truth[6 * FPS :, MARKER]) < 40.0


@pytest.mark.parametrize(
    ("point", "joint"),
    [
        ("nose", "head"), ("mouth_left", "head"), ("leftEye", "head"), ("ear.L", "head"), ("left_heel", "left_ankle"),
        ("RightToeBase", "right_foot"), ("right_foot_index", "right_foot"), ("LeftHandIndex1", "left_hand"),
        ("l_thumb", "left_hand"), ("rightForeArm", None), ("neck_base", "neck"), ("mid_hip", "pelvis"),
        ("upperChest", "spine3"), ("thumb", None), ("marker_7", None), ("", None),
    ],
)  # fmt: skip
def test_names_say_what_a_point_hangs_on(point: str, joint: str | None) -> None:
    assert joint_named(point) == joint


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_point_is_a_joint_or_has_a_carrier(layout: str) -> None:
    known = get_layout(layout)
    parts = carriers_of(known)
    assert sorted([*parts.own, *parts.others]) == list(range(len(known.joints)))
    np.testing.assert_array_equal(known.weights[parts.joints].argmax(1), parts.own)
    assert (known.measured | known.derived)[parts.carriers].all()
    assert UNKNOWN not in parts.carriers


def test_world_rotations_are_products_along_the_chain() -> None:
    local = Rotation.random(J, random_state=0)
    world = [local[0].as_matrix()]
    for joint in range(1, J):
        world.append(world[PARENTS[joint]] @ local[joint].as_matrix())
    for side in ("left", "right"):  # a hand turns with the bone that leads to it
        world[INDEX[f"{side}_hand"]] = world[INDEX[f"{side}_wrist"]]
    joints = np.array([*range(J), INDEX["head"]])
    got = world_rotations(local.as_quat().astype(np.float32), joints)
    np.testing.assert_allclose(got, [*world, world[INDEX["head"]]], rtol=0, atol=1e-5)


# ---- over the wire


@pytest.fixture(scope="module")
def own_layout(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    path, _, sent = own_frames(tmp_path_factory.mktemp("layout"), 1.0)
    return path, sent


@pytest.fixture(scope="module")
def server(own_layout: tuple[Path, np.ndarray]) -> Iterator[ServerProcess]:
    with ServerProcess(["--source-joints", "--layout", str(own_layout[0])]) as running:
        yield running


@bundled
def test_a_server_that_is_asked_to_sends_what_the_filter_says(
    server: ServerProcess, own_layout: tuple[Path, np.ndarray], tmp_path: Path
) -> None:
    path, sent = own_layout
    alone, got = PoseFilter.load(), []
    with subscribed(server, "a") as subscriber, FrameSender(server.in_endpoint) as sender:
        for frame, local in zip(stream(sent, "own"), stream(sent, str(path))):
            sender.send(frame)
            (pose,) = poses(subscriber, least=1)
            got.append(pose)
            want = alone.push(local)
            assert pose.layout == "own"
            np.testing.assert_array_equal(pose.source, want.source)
    assert got[-1].source is not None
    assert got[-1].source.shape == (17, 3)


@bundled
def test_a_recording_holds_it(server: ServerProcess, tmp_path: Path) -> None:
    path, done, before = tmp_path / "take.hpstm", Event(), counter(server, "subscriptions")
    recorder = Thread(target=record, args=(server.out_endpoint, path, False, 60.0, done.is_set))
    recorder.start()
    wait_until(lambda: counter(server, "subscriptions") >= before + 3)  # poses, skeletons, books
    with FrameSender(server.in_endpoint) as sender, subscribed(server, "b") as subscriber:
        for frame in stream(seen("coco_17", 1.0), "coco_17"):
            frame.actor = "b"
            sender.send(frame)
            poses(subscriber, least=1)
    done.set()
    recorder.join()
    held = [pose for pose in read_recording(path).poses if pose.actor == "b"]
    assert len(held) >= 20
    assert {(pose.layout, np.shape(pose.source)) for pose in held} == {("coco_17", (17, 3))}
