"""The demo: its noise, its scores, its record, its picture, and the whole of it through a real server."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from rich.console import Console

from bench.demo import demo
from bench.demo.animation import NOISY, REFINED, demo_animation
from bench.demo.view import live_table, plain_line, summary
from bench.noise import Event, demo_events, observed
from bench.scores import bone_length_change_mm, jitter_mm, position_error_mm
from bench.service.child import ServerFailed, ServerProcess, free_endpoints
from bench.track import Scores, Track, at_time
from model.skeleton import INDEX, PARENTS, J, ancestor_matrix, rest_offsets
from streamer.frames import Pose

REST = ancestor_matrix() @ rest_offsets()
SECOND_NS = 1_000_000_000


def pose(seq: int, t_ns: int, positions: np.ndarray, status: str = "tracking") -> Pose:
    return Pose(
        actor="a",
        seq=seq,
        t_ns=t_ns,
        status=status,  # type: ignore[arg-type]
        positions=positions.astype(np.float32),
        rotations=np.tile(np.array([0, 0, 0, 1], np.float32), (J, 1)),
        root=positions[0].astype(np.float32),
        lengths_m=np.linalg.norm(rest_offsets(), axis=-1).astype(np.float32),
        offsets_m=rest_offsets().astype(np.float32),
        covariance=np.tile(np.eye(3, dtype=np.float32) * 1e-4, (J, 1, 1)),
        contact=np.zeros(2, np.float32),
        received_ns=1000,
        inferred_ns=401_000,
    )


def moving_track(frames: int = 240, delay_ns: int = 0, origin_ns: int = 10**18) -> Track:
    """An actor that walks along x at 1 m/s, seen with noise, refined perfectly at a fixed lag."""
    track, times = Track(origin_ns), np.arange(frames) / 60
    truth = REST + np.array([1.0, 0.0, 0.0]) * times[:, None, None] + np.array([0.0, 1.0, 0.0])
    seen, _ = observed(truth, times, 3, demo_events(frames / 60))
    for k in range(frames):
        t_ns = k * SECOND_NS // 60
        track.sent(origin_ns + t_ns, t_ns, truth[k], seen[k])
        late = REST + np.array([(t_ns - delay_ns) * 1e-9, 1.0, 0.0])
        status = "calibrating" if k < 30 else "tracking"
        track.got(pose(k, origin_ns + t_ns - delay_ns, late, status), t_ns + 700_000 + 1000 * k)
    return track


# -- noise


def test_the_same_seed_gives_the_same_noise() -> None:
    times, still = np.arange(90) / 30, np.tile(REST, (90, 1, 1))
    one, same, other = (observed(still, times, seed, demo_events(3.0)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one[0], same[0])
    np.testing.assert_array_equal(one[1], same[1])
    assert not np.array_equal(one[0], other[0], equal_nan=True)


def test_noise_is_of_the_size_that_estimators_have() -> None:
    """FIELD.md: 40 to 110 mm; Accel/MPJPE at 30 fps .28 to .36 for single-frame estimators, .06 to .16 for temporal."""
    times, still = np.arange(900) / 30, np.tile(REST, (900, 1, 1))
    error = np.concatenate([observed(still, times, seed)[0] - REST for seed in range(4)])
    size = np.linalg.norm(error - error[:, :1], axis=-1)
    accel = np.linalg.norm(np.diff(error, n=2, axis=0), axis=-1)
    assert 0.040 < np.nanmean(size) < 0.110
    assert 0.06 < np.nanmean(accel) / np.nanmean(size) < 0.5


def test_a_lost_limb_is_missing_and_has_no_confidence() -> None:
    times, still = np.arange(90) / 30, np.tile(REST, (90, 1, 1))
    arm = [INDEX["left_elbow"], INDEX["left_wrist"], INDEX["left_hand"]]
    positions, confidence = observed(still, times, 0, [Event(1.0, 2.0, "left arm")])
    inside = (times > 1.0) & (times < 2.0)
    assert np.isnan(positions[inside][:, arm]).all()
    assert (confidence[inside][:, arm] == 0).all()
    before = observed(still, times, 0)
    others = np.delete(np.arange(J), arm)
    np.testing.assert_array_equal(positions[:, others], before[0][:, others])
    np.testing.assert_array_equal(confidence[~inside], before[1][~inside])


# -- scores


def test_scores_of_a_rigid_still_body_are_zero() -> None:
    still = np.tile(REST, (10, 1, 1))
    t_ns = np.arange(10) * SECOND_NS // 30
    assert position_error_mm(still, still) == 0
    assert jitter_mm(still, t_ns) == 0
    assert bone_length_change_mm(still) < 1e-9


def test_jitter_is_the_second_difference_and_skips_gaps_and_missing_joints() -> None:
    t_ns = np.arange(9) * SECOND_NS // 30
    bent = np.tile(REST, (9, 1, 1))
    bent[:, :, 0] += 0.005 * np.arange(9)[:, None] ** 2  # second difference 10 mm everywhere
    assert jitter_mm(bent, t_ns) == pytest.approx(10.0)
    holed = bent.copy()
    holed[4, 3] = np.nan
    assert jitter_mm(holed, t_ns) == pytest.approx(10.0)
    jump = np.concatenate([bent, bent + 7.0])  # seven metres off after a pause: no jerk, a gap
    late = np.concatenate([t_ns, t_ns + 2 * SECOND_NS])
    assert jitter_mm(jump, late) == pytest.approx(10.0)


def test_steady_motion_seen_at_irregular_times_has_no_jitter() -> None:
    t_s = np.sort(np.arange(200) + np.random.default_rng(0).uniform(-0.3, 0.3, 200)) / 60
    walking = REST + np.stack([1.3 * t_s, np.zeros_like(t_s), 0.4 * t_s], -1)[:, None]
    assert jitter_mm(walking, (t_s * 1e9).astype(np.int64)) < 1e-5


def test_bone_length_change_sees_a_breathing_bone() -> None:
    body = np.tile(REST, (200, 1, 1))
    hand = INDEX["left_hand"]
    direction = (REST[hand] - REST[PARENTS[hand]]) / np.linalg.norm(REST[hand] - REST[PARENTS[hand]])
    body[:, hand] += 0.023 * np.where(np.arange(200) % 2, 1.0, -1.0)[:, None] * direction
    assert bone_length_change_mm(body) == pytest.approx(23.0 / (J - 1))


def test_interpolation_is_exact_at_the_samples_after_a_century() -> None:
    t_ns = 3_155_760_000 * SECOND_NS + np.arange(5) * 16_666_667
    values = np.random.default_rng(0).standard_normal((5, J, 3))
    np.testing.assert_array_equal(at_time(t_ns, values, t_ns), values)
    middle = at_time(t_ns, values, t_ns[:1] + 8_333_333)
    np.testing.assert_allclose(middle[0], 0.5 * (values[0] + values[1]), atol=1e-6)


# -- record, tables, picture


def test_record_scores_each_pose_at_the_time_it_is_for() -> None:
    for delay_ns in (0, 100_000_000):
        rows = moving_track(delay_ns=delay_ns).aligned()
        assert rows is not None
        assert len(rows) == 240 - 6 * bool(delay_ns)  # at first the delayed poses are for before the first frame
        assert rows.calibrated.sum() == 210
        scores = Scores.of(rows)
        assert scores.error_out < 1e-3
        assert scores.error_in > 20
        assert scores.jitter_out < 0.01 < scores.jitter_in
        assert scores.bones_out < 1e-3 < scores.bones_in
        assert scores.latency.p50 == pytest.approx(0.7 + 0.12, abs=0.01)
        assert scores.filter.p50 == pytest.approx(0.4)


def test_a_pose_that_is_not_a_number_is_an_error_not_a_gap_in_a_mean() -> None:
    track = moving_track(60)
    track.got(pose(59, 10**18, np.full((J, 3), np.nan)), 1)
    rows = track.aligned()
    assert rows is not None
    with pytest.raises(ValueError, match="1 of 61 poses"):
        Scores.of(rows)


def test_tables_show_the_figures_and_also_nothing_yet() -> None:
    track = moving_track()
    rows = track.aligned()
    assert rows is not None
    scores = Scores.of(rows)
    screen = Console(file=io.StringIO(), width=80)
    screen.print(live_table(Track(), None, 0.1, 15.0))
    screen.print(live_table(track, scores, 4.0, 15.0))
    screen.print(summary(track, scores, 60.0, {"rejected": {}, "books": {"superseded": 2, "skipped": 1}}))
    screen.print(plain_line(Track(), None, 0.1), soft_wrap=True)
    screen.print(plain_line(track, scores, 4.0), soft_wrap=True)
    text = screen.file.getvalue()  # type: ignore[attr-defined]
    for part in (
        "waiting for the first pose",
        "240 poses back",
        "mm/frame²",
        "240 frames sent at 60 Hz",
        "none rejected, 3 not answered",
        f"{scores.error_in:.1f}",
    ):
        assert part in text
    assert "nan" not in text
    assert "…" not in text  # nothing cut off on 80 columns


def png_size(path: Path) -> tuple[int, int]:
    head = path.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", head[16:24])
    return width, height


def test_picture_is_a_png_of_full_size(tmp_path: Path) -> None:
    plots = pytest.importorskip("bench.demo.picture", reason="matplotlib is not installed (extra: bench)")
    rows = moving_track().aligned()
    assert rows is not None
    path = plots.demo_picture(tmp_path / "sub" / "demo.png", rows, Scores.of(rows), 60.0, demo_events(4.0))
    width, height = png_size(path)
    assert width > 1000
    assert height > 700


def shapes(picture: Path) -> list[tuple[list[str], str]]:
    """The shapes that each moving path of an animation takes, and its colour."""
    root = ElementTree.parse(picture).getroot()
    paths = [path for path in root.iter("{http://www.w3.org/2000/svg}path") if len(path)]
    return [(path[0].attrib["values"].split(";"), path.attrib["stroke"]) for path in paths]


def test_animation_moves_shows_gaps_as_gaps_and_begins_with_the_bones(tmp_path: Path) -> None:
    track = moving_track(600)
    rows = track.aligned()
    assert rows is not None
    path = demo_animation(tmp_path / "sub" / "demo.svg", rows, Scores.of(rows), demo_events(10.0))
    moving = shapes(path)
    assert {len(values) for values, _ in moving} == {270}  # nine seconds of the ten
    bones = {colour: values for values, colour in moving if len(values[50]) > 150}
    pieces = {colour: {values[k].count("M") for k in range(270)} for colour, values in bones.items()}
    assert pieces[REFINED] == {5}  # five chains of bones, always whole
    assert 0 in {values.count("L") for values in bones[NOISY]}  # the blackout
    assert len(set(bones[NOISY])) > 200
    assert path.read_text().count("visibility=") >= 3
    assert path.stat().st_size < 1e6


def test_animation_of_a_run_that_ended_early_is_all_of_it(tmp_path: Path) -> None:
    track = moving_track(60)
    rows = track.aligned()
    assert rows is not None
    path = demo_animation(tmp_path / "demo.svg", rows, Scores.of(rows), ())
    assert {len(values) for values, _ in shapes(path)} == {29}


# -- through the real server


def test_endpoints_are_free_and_different() -> None:
    assert len(set(free_endpoints(5))) == 5


def test_a_server_that_does_not_start_says_why() -> None:
    with pytest.raises(ServerFailed, match="no-such-option"), ServerProcess(["--no-such-option"]):
        pass


def test_demo_says_what_failed_and_exits_with_1(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Broken(ServerProcess):
        def __init__(self, arguments: object = ()) -> None:
            super().__init__(["--weights", str(tmp_path / "missing.onnx")])

    monkeypatch.setattr(demo, "ServerProcess", Broken)
    screen = Console(file=io.StringIO(), width=200)
    assert demo.run(2.0, tmp_path, console=screen) == 1
    text = screen.file.getvalue()  # type: ignore[attr-defined]
    assert "demo failed" in text
    assert "missing.onnx" in text
    assert not (tmp_path / "demo.png").exists()


def test_demo_end_to_end(tmp_path: Path) -> None:
    screen = Console(file=io.StringIO(), width=200)
    code = demo.run(5.0, tmp_path, animate=tmp_path / "demo.svg", console=screen)
    text = screen.file.getvalue()  # type: ignore[attr-defined]
    assert code == 0, text
    assert "ready in" in text
    assert "The whole run" in text
    assert png_size(tmp_path / "demo.png")[0] > 1000
    assert shapes(tmp_path / "demo.svg")
