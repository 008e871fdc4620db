"""``hpstm adapt``: known noise on known motion is found without the motion; on real takes, what their truth says."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from bench.accuracy.pairs import Pair, read_pairs
from model.layouts import get_layout
from model.motion.synthetic import SyntheticActor
from model.skeleton import INDEX, JOINTS, J
from streamer.adapt.advice import advice
from streamer.adapt.events import outliers
from streamer.adapt.figures import figures, together
from streamer.adapt.known import COMPARED, knowledge, knowledge_of, nearest
from streamer.adapt.residual import residual
from streamer.adapt.source import EVENS, HELPS, MAY, NOTHING, UNKNOWN, Source, verdict
from streamer.adapt.track import Track, track_of
from streamer.cli import main
from streamer.frames import Frame
from streamer.sinks.recording import RecordingWriter
from streamer.wire.protocol import Encoder

F64 = npt.NDArray[np.float64]
SECONDS = 16.0
TIMELESS = json.dumps({"layout": "smpl_24", "positions": [[0.1] * 3] * J}) + "\n"


def truth(fps: float = 30.0, seconds: float = SECONDS, seed: int = 1) -> tuple[F64, F64]:
    """Times and joints of somebody who walks, turns, reaches and squats."""
    times_s = np.arange(round(seconds * fps)) / fps
    return times_s, np.asarray(SyntheticActor(seed).positions(times_s), np.float64)


def of(times_s: F64, positions: F64, confidence: F64 | None = None, layout: str = "smpl_24") -> Track:
    return Track(layout, times_s, positions, np.ones(J, np.bool_), confidence)


def white(fps: float = 30.0, mm: float = 10.0, **settings: Any) -> Track:
    times_s, positions = truth(fps, **settings)
    return of(times_s, positions + np.random.default_rng(3).normal(0.0, 1e-3 * mm, positions.shape))


# -- noise that is known ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fps", [15.0, 30.0, 60.0])
@pytest.mark.parametrize("mm", [2.0, 10.0])
def test_white_noise_is_found_as_large_as_it_is(fps: float, mm: float) -> None:
    found = figures(white(fps, mm))
    assert found.jitter_mm == pytest.approx(mm, rel=0.2)
    if fps > 15.0:  # where a hand that swings is followed
        assert np.abs(np.array(found.by_joint_mm) - mm).max() < 0.35 * mm
        assert found.axis_ratio < 1.15
    assert abs(found.memory) < 0.15  # white noise forgets
    assert found.slow_mm < 0.4 * mm
    assert found.rate_hz == pytest.approx(fps)


@pytest.mark.parametrize("fps", [15.0, 60.0])
def test_nothing_is_found_where_there_is_none(fps: float) -> None:
    found = figures(of(*truth(fps)))
    assert found.jitter_mm < (2.0 if fps < 30.0 else 0.5)  # who walks is never quite still
    assert found.bone_spread < 1e-6
    assert found.slow_mm < 0.01
    assert (found.missing, found.gaps_per_min, found.swaps_per_min, found.flips_per_min) == (0.0, 0.0, 0.0, 0.0)
    assert found.outliers < 2e-3
    assert found.confidence is None


def test_noise_that_remembers_is_told_from_noise_that_forgets() -> None:
    times_s, positions = truth()
    rng, keep = np.random.default_rng(4), np.exp(-1.0 / 30.0 / 0.6)  # a time constant of 0.6 s
    error, x = np.zeros_like(positions), rng.normal(0.0, 0.03, positions.shape[1:])
    for n in range(len(error)):
        x = keep * x + np.sqrt(1.0 - keep**2) * rng.normal(0.0, 0.03, x.shape)
        error[n] = x
    found = figures(of(times_s, positions + error))
    assert found.slow_mm == pytest.approx(30.0, rel=0.25)
    error -= error.mean(0)
    for frames, memory in ((3, found.memory), (15, found.long_memory)):
        scale = np.sqrt((error[frames:] ** 2).sum() * (error[:-frames] ** 2).sum())
        assert memory == pytest.approx((error[frames:] * error[:-frames]).sum() / scale, abs=0.15)


def test_a_depth_axis_is_found() -> None:
    times_s, positions = truth()
    error = np.random.default_rng(5).normal(0.0, 0.004, positions.shape) * (1.0, 1.0, 3.0)
    found = figures(of(times_s, positions + error))
    assert 2.2 < found.axis_ratio < 3.2
    assert found.jitter_mm > 4.0


def test_missing_joints_and_gaps_are_counted_exactly() -> None:
    track = white()
    gone = np.zeros((len(track), J), np.bool_)
    gone[100:130, INDEX["left_wrist"]] = True  # 1 s
    gone[200:203] = True  # 0.1 s of everything
    gone[400, INDEX["head"]] = True
    positions = np.where(gone[..., None], np.nan, track.positions)
    found = figures(replace(track, positions=positions))
    assert found.missing == pytest.approx(gone.mean(), abs=1e-12)
    assert found.gaps_per_min == pytest.approx((1 + J + 1) / (track.seconds / 60.0))
    assert found.longest_gap_s == pytest.approx(1.0, abs=1e-6)
    assert found.gap_s == pytest.approx(0.1, abs=1e-6)
    assert found.jitter_mm == pytest.approx(10.0, rel=0.15)
    never = positions.copy()
    never[:, INDEX["left_hand"]] = np.nan  # a joint that never comes is none that is missing at times
    seen = np.delete(gone, INDEX["left_hand"], 1)
    assert figures(replace(track, positions=never)).missing == pytest.approx(seen.mean(), abs=1e-12)


def test_times_are_judged() -> None:
    track = white()
    rng = np.random.default_rng(6)
    late = track.times_s + rng.uniform(-0.2, 0.2, len(track)) / 30.0
    assert figures(replace(track, times_s=late)).step_spread == pytest.approx(0.4 / np.sqrt(6.0), rel=0.15)
    stalled = track.times_s + 0.5 * (np.arange(len(track)) > 150) + 3600.0 * (np.arange(len(track)) > 300)
    found = figures(replace(track, times_s=stalled))
    assert found.longest_stall_s == pytest.approx(3600.0, abs=0.1)
    assert found.stalls_per_min * found.seconds / 60.0 == pytest.approx(2.0)
    assert found.seconds == pytest.approx(SECONDS + 1.5, abs=0.2)  # an hour's pause is no hour of frames
    assert found.jitter_mm == pytest.approx(10.0, rel=0.15)


def test_joints_thrown_far_off_are_found() -> None:
    track = white(mm=5.0)
    rng = np.random.default_rng(7)
    hit = rng.random(track.seen.shape) < 0.01
    way = rng.standard_normal((*hit.shape, 3))
    way *= (rng.uniform(0.2, 0.5, hit.shape) / np.linalg.norm(way, axis=-1))[..., None]
    track = replace(track, positions=track.positions + way * hit[..., None])
    found = figures(track)
    assert found.outliers == pytest.approx(hit.mean(), rel=0.25)
    assert found.outlier_mm == pytest.approx(350.0, rel=0.15)
    assert found.jitter_mm == pytest.approx(5.0, rel=0.15)  # they are no fast noise
    marked = outliers(residual(track), np.full(J, 0.005), 1.0 / 30.0)
    assert hit[marked].mean() > 0.9


def test_exchanged_sides_are_counted() -> None:
    track = white(mm=5.0)
    positions = track.positions.copy()
    begins = range(40, len(track) - 10, 70)
    for first in begins:
        joints = [[INDEX[f"{side}_{joint}"] for joint in ("knee", "ankle", "foot")] for side in ("left", "right")]
        span = slice(first, first + 3)
        left = positions[span, joints[0]].copy()
        positions[span, joints[0]] = positions[span, joints[1]]
        positions[span, joints[1]] = left
    found = figures(replace(track, positions=positions))
    assert round(found.swaps_per_min * found.seconds / 60.0) == pytest.approx(len(begins), abs=1)
    assert found.swapped == pytest.approx(3 * len(begins) / len(track), rel=0.2)
    assert found.flips_per_min == 0.0


def test_a_body_that_turns_round_at_once_is_counted() -> None:
    track = white(mm=5.0)
    middle = track.positions[:, :1]
    turned = middle + (track.positions - middle) * (-1.0, 1.0, -1.0)
    state = (np.arange(len(track)) // 60) % 2 == 1  # 2 s each way
    found = figures(replace(track, positions=np.where(state[:, None, None], turned, track.positions)))
    assert round(found.flips_per_min * found.seconds / 60.0) == np.count_nonzero(np.diff(state.astype(int)))


def test_confidence_that_tells_of_noise_is_known_from_one_that_does_not() -> None:
    times_s, positions = truth()
    rng = np.random.default_rng(8)
    bad = rng.random(positions.shape[:2]) < 0.3
    noisy = positions + rng.normal(0.0, 1.0, positions.shape) * np.where(bad, 0.03, 0.005)[..., None]
    tells = np.where(bad, 0.3, 0.9) + rng.uniform(-0.05, 0.05, bad.shape)
    found = figures(of(times_s, noisy, tells))
    assert found.confidence_tells > 3.0
    assert found.doubted == pytest.approx(bad.mean(), abs=0.01)
    assert figures(of(times_s, noisy, rng.permuted(tells, axis=0))).confidence_tells == pytest.approx(1.0, abs=0.2)


def test_where_a_body_is_and_faces_changes_nothing() -> None:
    track = white()
    c, s = np.cos(1.1), np.sin(1.1)
    turn = np.array([[c, 0.0, s], [0.0, 1.0, 0.0], [-s, 0.0, c]])
    moved = replace(track, positions=track.positions @ turn.T + (40.0, 0.3, -7.0), times_s=track.times_s + 1e6)
    here, there = figures(track), figures(moved)
    for key in COMPARED.keys() - {"sides_per_min"}:
        assert getattr(there, key) == pytest.approx(getattr(here, key), rel=1e-3, abs=1e-6), key


def test_a_long_stream_is_the_middle_of_its_parts() -> None:
    parts = [figures(white(mm=mm, seconds=12.0)) for mm in (4.0, 6.0, 30.0)]
    whole = together(parts)
    assert whole.jitter_mm == parts[1].jitter_mm
    assert whole.frames == sum(part.frames for part in parts)


# -- what is known of such --------------------------------------------------------------------------------------------


def source(track: Track, layout: str = "smpl_24", known: Any = None) -> Source:
    found = figures(track)
    return Source.of(get_layout(layout), found, {"size": 1.0}, (), known or knowledge())


def options(of_source: Source) -> set[str]:
    return {item.what for item in advice(of_source)}


def test_takes_of_known_sources_are_told_apart() -> None:
    """Each take by the middle of its own source and of the others: seven in eight are nearest to their own."""
    known, some = knowledge(), figures(white(seconds=11.0))
    hits = []
    for own in known.sources:
        for n in range(len(own.figures["jitter_mm"])):
            row = {key: float(values[n]) for key, values in own.figures.items()}
            found = replace(some, **{key: row[key] for key in COMPARED if key != "sides_per_min"},
                            swaps_per_min=row["swaps_per_min"], flips_per_min=row["flips_per_min"])  # fmt: skip
            hits.append(nearest(found, known)[0].source is own)
    assert np.mean(hits) > 0.85


def test_verdicts_follow_the_scores() -> None:
    clean = source(of(*truth()))
    assert verdict(clean).word == NOTHING
    assert not options(clean) & {"--delay 0.1", "--foot-lock", "--source-joints"}
    noisy = source(white())
    assert noisy.nearest.source.name == "white"
    assert verdict(noisy).word == MAY  # by the scores of 10 mm of white noise, which is simulated
    assert {"--delay 0.1", "--foot-lock"} <= options(noisy)
    data = json.loads((Path(__file__).parents[2] / "streamer" / "adapt" / "known.json").read_text())
    data["sources"]["white"]["scores"] = {"tuned": [-0.01, 0.01]}
    assert verdict(source(white(), known=knowledge_of(data))).word == EVENS
    data["sources"]["white"]["scores"] = {"tuned": [-0.3, -0.2]}
    better = source(white(), known=knowledge_of(data))
    assert verdict(better).word == MAY  # it is simulated
    data["sources"]["white"]["scores"]["worse"] = [0.0, 0.0]
    assert verdict(source(white(), known=knowledge_of(data))).word == HELPS
    assert "30 % below" in verdict(better).text
    strange = source(white(mm=150.0))
    assert verdict(strange).word == UNKNOWN
    assert "fast noise" in strange.beyond()
    assert any(what.startswith("hpstm train") for what in options(strange))


def test_advice_follows_the_figures() -> None:
    track = white(mm=4.0)
    uneven = replace(track, times_s=track.times_s + 0.3 * (np.arange(len(track)) // 60))
    assert "--rate 30" in options(source(uneven))
    around_hips = track.positions - track.positions[:, [INDEX["left_hip"], INDEX["right_hip"]]].mean(1, keepdims=True)
    assert "no --foot-lock" in options(source(replace(track, positions=around_hips)))
    twice = replace(track, positions=np.repeat(track.positions[::2], 2, axis=0)[: len(track)])
    assert "nothing twice" in options(source(twice))
    slow = np.repeat(np.random.default_rng(9).normal(0.0, 0.03, (len(track) // 90 + 2, J, 3)), 90, axis=0)
    kernel = np.hanning(91) / np.hanning(91).sum()
    drift = np.apply_along_axis(np.convolve, 0, slow, kernel, "same")[: len(track)]
    times_s, positions = truth()
    assert "no smoothing before" in options(source(of(times_s, positions + drift)))
    assert "--source-joints" in options(source(track, "coco_17"))


# -- real takes, whose truth is known ---------------------------------------------------------------------------------


def error_of(pair: Pair, track: Track) -> Track:
    """The error alone, as a track: there is no motion in it."""
    return replace(track, positions=track.positions - np.where(track.given[:, None], pair.truth, np.nan))


@pytest.mark.parametrize(("folder", "jitter"), [("aistpp", 0.15), ("rendered", 0.5)])
def test_figures_agree_with_the_truth_of_real_takes(folder: str, jitter: float, shared_data: Path) -> None:
    files = sorted((shared_data / folder).glob("*.npz"))
    pairs = read_pairs(files[:1]) if folder == "aistpp" else read_pairs(files[:30:8])
    found, true = [], []
    for pair in pairs[:3]:
        track = track_of(pair.frames, get_layout)
        found.append(figures(track))
        true.append(figures(error_of(pair, track)))
        assert found[-1].missing == true[-1].missing
    middle, wanted = together(found), together(true)
    assert middle.jitter_mm == pytest.approx(wanted.jitter_mm, rel=jitter)
    assert middle.outliers == pytest.approx(wanted.outliers, rel=0.3)


# -- the command ------------------------------------------------------------------------------------------------------


def recorded(path: Path, actors: dict[str, Track], layout: str = "smpl_24") -> Path:
    encoder = Encoder()
    with RecordingWriter(path) as writer:
        for name, track in actors.items():
            for n, (time_s, xyz) in enumerate(zip(track.times_s, track.positions.astype(np.float32))):
                t_ns = round((50.0 + float(time_s)) * 1e9)
                writer.write(bytes(encoder.frame(Frame(name, n, t_ns, xyz, None, layout))), t_ns)
    return path


def report_of(tmp_path: Path, *words: object, code: int = 0) -> list[dict[str, Any]]:
    out = tmp_path / "report.json"
    assert main(["adapt", *map(str, words), "--json", str(out)]) == code
    found: list[dict[str, Any]] = json.loads(out.read_text())
    return found


def test_a_recording_of_two_actors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    actors = {"ann": white(seconds=12.0), "bob": white(seconds=12.0, seed=2), "brief": white(seconds=4.0)}
    (report,) = report_of(tmp_path, recorded(tmp_path / "take.hpstm", actors))
    said = capsys.readouterr().out
    assert [stream["actor"] for stream in report["streams"]] == ["ann", "bob"]
    assert report["figures"]["jitter_mm"] == pytest.approx(10.0, rel=0.15)
    assert report["nearest"][0]["source"] == "white"
    assert report["training"]["jitter_mm"][0] < 10.0 < report["training"]["jitter_mm"][2]
    assert "left out, too short: brief" in said
    assert "The filter here: may help." in said
    assert "--delay 0.1" in said


def test_the_same_stream_in_other_files(tmp_path: Path) -> None:
    track = white(seconds=12.0)
    files = [recorded(tmp_path / "take.hpstm", {"a": track}), tmp_path / "take.jsonl", tmp_path / "take.csv"]
    lines = [
        json.dumps({"t": t, "layout": "smpl_24", "positions": xyz}) for t, xyz in zip(
            track.times_s.tolist(), track.positions.tolist()
        )
    ]  # fmt: skip
    files[1].write_text("\n".join([*lines[:100], "{broken", *lines[100:]]))
    names = ",".join(f"{joint}_{axis}" for joint in JOINTS for axis in "xyz")
    table = np.column_stack([track.times_s, track.positions.reshape(len(track), -1)])
    files[2].write_text(f"time_s,{names}\n" + "\n".join(",".join(f"{x:.6f}" for x in row) for row in table))
    reports = [report_of(tmp_path, file)[0] for file in files]
    for report in reports[1:]:
        assert report["layout"] == "smpl_24"
        assert report["figures"]["jitter_mm"] == pytest.approx(reports[0]["figures"]["jitter_mm"], rel=1e-3)
    assert "1 lines cannot be read" in reports[1]["streams"][0]["notes"][0]


def test_a_layout_of_ones_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = tmp_path / "rig.toml"
    own.write_text("joints = [" + ", ".join(f'"{name}"' for name in JOINTS) + ']\nunits = "cm"\n')
    track = white(seconds=12.0)
    file = recorded(tmp_path / "take.hpstm", {"a": replace(track, positions=100.0 * track.positions)}, "rig")
    assert main(["adapt", str(file)]) == 2
    assert "--layout FILE.toml" in capsys.readouterr().err
    (report,) = report_of(tmp_path, file, "--layout", own)
    assert report["layout"] == "rig"
    assert report["figures"]["jitter_mm"] == pytest.approx(10.0, rel=0.15)


def test_a_mirrored_body_in_feet_is_warned_of(tmp_path: Path) -> None:
    track = white(mm=3.0, seconds=12.0)
    mirrored = replace(track, positions=track.positions * (-1.0, 1.0, 1.0) / 0.3048)
    (report,) = report_of(tmp_path, recorded(tmp_path / "take.hpstm", {"a": mirrored}))
    assert any("left and right look swapped" in sentence for sentence in report["warnings"])
    assert any("feet" in sentence for sentence in report["warnings"])


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("nothing.hpstm", None, "no such file"),
        ("take.npz", "no zip", "take.npz"),
        ("empty.jsonl", "", "it is empty"),
        ("broken.jsonl", "{", "no frame in it; line 1: not JSON"),
        ("timeless.jsonl", 3 * TIMELESS, "no time"),
    ],
)
def test_what_cannot_be_read_is_one_line(
    name: str, text: str | None, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    assert main(["adapt", str(tmp_path / name)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert said in err


def test_too_short_a_recording_is_refused_and_others_go_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    short = recorded(tmp_path / "short.hpstm", {"a": white(seconds=9.0)})
    assert main(["adapt", str(short)]) == 2
    assert "too short to say anything (a, 9.0 s): 10 s" in capsys.readouterr().err
    (report,) = report_of(tmp_path, short, recorded(tmp_path / "long.hpstm", {"a": white(seconds=12.0)}), code=1)
    assert [stream["file"] for stream in report["streams"]] == ["long.hpstm"]
    assert "left out" in capsys.readouterr().err


def test_nobody_in_it_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    track = white(seconds=12.0)
    empty = replace(track, positions=np.full_like(track.positions, np.nan))
    assert main(["adapt", str(recorded(tmp_path / "empty.hpstm", {"a": empty}))]) == 2
    assert "hardly ever seen" in capsys.readouterr().err
