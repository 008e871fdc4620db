"""Pose.source: the joints that went in come out refined, in their own order; points of face, hands and feet with them.

People are synthetic, their landmarks sit on them as model.landmarks says. Bars are for the bundled model.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from model.layouts import LAYOUTS, get_layout
from model.skeleton import PARENTS, J
from streamer.carriers import carriers_of
from streamer.filter import PoseFilter
from streamer.frames import Frame
from tests.helpers.networks import SECOND_NS, mean_mm
from tests.helpers.source_joints import (
    FPS,
    HEEL,
    MEDIAPIPE,
    NOSE,
    SETTLED,
    body,
    bundled,
    pushed,
    runtime,
    seen,
    sources,
    stream,
)

FACE = range(MEDIAPIPE.index("mouth_right") + 1)


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
