"""Takes of real estimators with truth: their files, how the error is parted, what is said of the methods."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from bench.accuracy import baselines, pair_bench, pair_methods, pair_tables
from bench.accuracy.answers import Answers
from bench.accuracy.methods import FILTER, Case, smoothed_positions
from bench.accuracy.pair_methods import REFINED
from bench.accuracy.pair_scores import PairTruth, parted, relative
from bench.accuracy.pairs import HIPS, KNOWN, Pair, read_pairs, told
from model.landmarks import landmarks
from model.motion.synthetic import SyntheticActor
from model.skeleton import INDEX, PARENTS, ancestor_matrix, rest_offsets
from model.training.bone_axes import bone_axes
from model.training.held_out import RENDERED_HELD_OUT
from model.training.stature import standing_height_m
from streamer import cli
from streamer.errors import ConfigError
from streamer.runtimes import load_runtime
from streamer.sources.told import MEDIAPIPE_HEIGHT_M

FPS = 30.0
COCO_BODY = [
    INDEX[f"{side}_{name}"]
    for name in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
    for side in ("left", "right")
]  # COCO's joints 5 to 16


def made(seed: int = 1, seconds: float = 4.0, name: str = "a", noise_m: float = 0.02) -> Pair:
    """A synthetic person as a source of the canonical joints sees it."""
    times_s = np.arange(round(seconds * FPS)) / FPS
    actor = SyntheticActor(seed)
    rotations, _ = actor.poses(times_s)
    truth = actor.positions(times_s)
    noisy = truth + np.random.default_rng(seed).normal(0.0, noise_m, truth.shape)
    return Pair(name, "made", "1", "smpl_24", times_s, noisy, truth, None, rotations)


def answers(pair: Pair, positions: np.ndarray) -> Answers:
    return Answers(pair.t_ns, positions)


# -- files


def write(path: Path, pair: Pair, **changed: object) -> Path:
    arrays = {"noisy": pair.noisy, "truth": pair.truth, "times_s": pair.times_s, "layout": pair.layout}
    np.savez(path, **(arrays | changed))  # type: ignore[arg-type]
    return path


def test_a_file_in_the_neutral_form(tmp_path: Path) -> None:
    pair = made()
    (read,) = read_pairs([write(tmp_path / "one.npz", pair, name="x", source="kinect", subject="7")])
    assert (read.name, read.source, read.subject, read.rate_hz) == ("x", "kinect", "7", pytest.approx(FPS))
    np.testing.assert_array_equal(read.noisy, pair.noisy)
    assert read.confidence is None
    assert read.given == list(range(24))
    (bare,) = read_pairs([tmp_path / "one.npz"])
    assert bare.frames[3].t_ns == 100_000_000


def test_truth_may_be_in_the_layouts_own_order(tmp_path: Path) -> None:
    pair, coco = made(), np.full((120, 17, 3), np.nan)
    coco[:, 5:] = pair.truth[:, COCO_BODY]
    (read,) = read_pairs([write(tmp_path / "coco.npz", pair, layout="coco_17", noisy=coco, truth=coco)])
    assert read.given == sorted(COCO_BODY)
    np.testing.assert_allclose(read.truth[:, COCO_BODY], pair.truth[:, COCO_BODY], atol=1e-6)
    assert np.isnan(read.truth[:, INDEX["head"]]).all()


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"truth": np.zeros((120, 5, 3))}, "truth: the shape is"),
        ({"layout": "coco17"}, "did you mean 'coco_17'"),
        ({"times_s": np.zeros(120)}, "rising times"),
    ],
)
def test_a_file_that_is_none_is_named(tmp_path: Path, changed: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words) as error:
        read_pairs([write(tmp_path / "bad.npz", made(), **changed)])
    assert "bad.npz" in str(error.value)


def test_other_files_and_two_of_one_name_are_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", what=np.zeros(3))
    with pytest.raises(ConfigError, match="give noisy, truth"):
        read_pairs([tmp_path / "other.npz"])
    with pytest.raises(ConfigError, match="not an npz"):
        read_pairs([tmp_path / "none.npz"])
    one = write(tmp_path / "one.npz", made())
    with pytest.raises(ConfigError, match="two takes are called"):
        read_pairs([one, one])


def test_the_data_folders_own_files(shared_data: Path) -> None:
    rendered = read_pairs(sorted((shared_data / "rendered").glob("*_00[37]_*.npz")))
    assert {(pair.subject, pair.source) for pair in rendered} == {("003", "rendered"), ("007", "rendered (train)")}
    assert "003" in RENDERED_HELD_OUT
    assert len(rendered[0].given) == 14
    middle = np.linalg.norm(rendered[0].seen[0][:, HIPS].mean(1), axis=-1)
    assert np.nanmax(middle) < 2e-3  # MediaPipe's origin, where the truth's is put
    dance = read_pairs(sorted((shared_data / "aistpp").glob("*.npz"))[:1])
    assert len(dance) == 9
    assert dance[0].given == sorted(COCO_BODY)
    for pair in (rendered[0], dance[0]):
        truth = PairTruth.of(pair, 0.0)
        assert 20.0 < truth.scores(answers(pair, pair.seen[0]))["mpjpe_root_mm"] < 200.0


# -- how the error is parted


def test_a_constant_in_the_axes_of_the_bone_stays_and_does_not_move() -> None:
    pair = made()
    offset = np.random.default_rng(0).normal(0.0, 0.03, (24, 3))
    offset[HIPS] = 0.0
    said = pair.truth + np.einsum("tjab,jb->tja", bone_axes(pair.truth, pair.rotations), offset)
    scores = PairTruth.of(pair, 0.0).scores(answers(pair, said))
    assert scores["moves_mm"] < 1e-6
    assert scores["stays_mm"] == pytest.approx(1e3 * np.linalg.norm(offset, axis=-1).mean())
    assert scores["mpjpe_root_mm"] == pytest.approx(scores["stays_mm"])


def test_noise_moves() -> None:
    pair = made(noise_m=0.01)
    scores = PairTruth.of(pair, 0.0).scores(answers(pair, pair.noisy))
    assert scores["moves_mm"] > 0.95 * scores["mpjpe_root_mm"] > 10.0
    assert scores["jitter_m_s3"] > 10 * scores["jitter_true_m_s3"]


def test_axes_from_joints_alone_turn_with_the_body() -> None:
    pair = made()
    alone = bone_axes(pair.truth)
    limbs = [INDEX[f"left_{name}"] for name in ("shoulder", "elbow", "wrist", "knee", "ankle", "foot")]
    # The bone that ends at a joint is constant in the axes of the one before, up to a twist: so is its length along it.
    turn = Rotation.from_rotvec([0.0, 1.2, 0.0]).as_matrix()
    np.testing.assert_allclose(bone_axes(pair.truth @ turn.T)[:, limbs], turn @ alone[:, limbs], atol=1e-9)
    np.testing.assert_allclose(alone @ alone.swapaxes(-1, -2), np.broadcast_to(np.eye(3), alone.shape), atol=1e-6)
    bones = pair.truth[:, limbs] - pair.truth[:, [PARENTS[j] for j in limbs]]
    inside = np.einsum("tjba,tjb->tja", alone[:, limbs], bones)
    assert inside[:, [1, 2, 3, 4]].std(0).max() < 1e-6


def test_axes_stay_finite_where_joints_are_not_known() -> None:
    pair = made()
    holes = pair.truth.copy()
    holes[10:40, INDEX["left_hip"]] = np.nan
    holes[:, INDEX["right_elbow"]] = np.nan
    assert np.isfinite(bone_axes(holes)).all()
    assert np.isfinite(bone_axes(np.full_like(holes, np.nan))).all()


def test_without_hips_joints_are_taken_from_their_own_middle() -> None:
    positions = made().truth
    given = [INDEX["left_wrist"], INDEX["head"]]
    np.testing.assert_allclose(relative(positions, given)[:, given].sum(1), 0.0, atol=1e-12)
    moves, stays = parted(np.ones((5, 2, 3)), np.broadcast_to(np.eye(3), (5, 2, 3, 3)))
    assert np.abs(moves).max() == 0.0
    assert np.abs(stays - 1.0).max() == 0.0


# -- methods


def test_side_by_side_is_the_same_as_one_by_one() -> None:
    pairs = [made(1, 4.0, "a"), made(2, 3.0, "b"), replace(made(3, 2.0, "c"), times_s=np.arange(60) / 25.0)]
    groups = pair_methods.side_by_side(pairs)
    assert [[pair.name for pair in group.pairs] for group in groups] == [["a", "b"], ["c"]]
    _, baseline = next(iter(pair_methods.filters("Kalman", FPS, -0.1)))
    for group in groups:
        for pair, said in group.answers(baseline):
            alone = baselines.run(baseline, pair.t_ns / 1e9, pair.noisy)
            np.testing.assert_allclose(said.positions, alone, atol=1e-6)


def test_the_running_median_throws_out_single_frames_and_is_as_late_as_it_is_asked_to_be() -> None:
    t_ns = (np.arange(90) / FPS * 1e9).astype(np.int64)
    line = np.arange(90)[:, None, None] * np.ones((24, 3)) * 0.01
    spoilt = line.copy()
    spoilt[40] += 0.5
    late = smoothed_positions("median of 5", t_ns, spoilt, Case("clean", FPS, -0.1))
    np.testing.assert_allclose(late[6:], line[3:-3], atol=0.0101)
    np.testing.assert_allclose(late[6:30], line[3:27], atol=1e-9)
    now = smoothed_positions("median of 5", t_ns, line, Case("clean", FPS, 0.0))
    np.testing.assert_allclose(now[6:], line[4:-2], atol=1e-9)


def test_rows_of_a_short_run() -> None:
    pairs = [made(1, 5.0, "a"), made(2, 5.0, "b"), replace(made(3, 5.0, "c"), source="other")]
    methods = ("input", "Kalman", FILTER)
    rows = pair_bench.run(pairs, load_runtime("onnx"), (0.0,), methods)
    assert [(row["source"], row["method"]) for row in rows] == [
        (source, method)
        for source in ("made", "other", pair_bench.ALL)
        for method in ("input", "Kalman", pair_bench.BEST, FILTER, REFINED)
    ]
    by = {(row["source"], row["method"]): row for row in rows}
    assert by["made", "input"]["worse"] == 0.0
    assert by["made", pair_bench.BEST]["settings"].startswith("Kalman, ")
    assert by["made", pair_bench.BEST]["against_best"] == [1.0, 1.0, 1.0]
    # 20 mm of white noise on its own skeleton: what both are good at.
    assert by["all", FILTER]["against_input"]["mpjpe_root_mm"][0] < 0.8
    assert by["all", "Kalman"]["against_input"]["mpjpe_root_mm"][2] < 0.95
    assert by["all", FILTER]["scores"]["clips"] == 3
    assert 0.3 < by["all", FILTER]["scores"]["in_1_sigma"] < 1.0


def test_a_filter_that_says_nothing_but_nan_is_worse_than_its_input() -> None:
    pair = made(seconds=3.0)
    said = {FILTER: [answers(pair, pair.truth * np.nan)]}
    rows = pair_bench.rows_of(pair_bench.Task("made", [pair]), (0.0,), ("Kalman", FILTER), lambda pair, at_s: said)
    assert rows[-1]["worse"] == 1.0
    assert rows[-1]["broken"] == 89
    result = {"settings": {"model": "x", "takes": {"made": 1}}, "rows": rows}
    for sheet, _ in pair_tables.sheets(result):
        assert len({len(line) for line in [sheet.header, *sheet.rows]}) == 1


def test_the_command_writes_all_it_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    file = write(tmp_path / "one.npz", made(seconds=3.0), source="a camera")
    out = [f"--json={tmp_path / 'r.json'}", f"--markdown={tmp_path / 'r.md'}", f"--plots={tmp_path / 'p'}"]
    words = ["evaluate", "--pairs", str(file), "--runtime", "onnx", "--methods", "Kalman", FILTER, "--delay", "0", *out]
    assert cli.main(words) == 0
    assert "a camera" in capsys.readouterr().out
    result = json.loads((tmp_path / "r.json").read_text())
    assert result["settings"]["takes"] == {"a camera": 1}
    assert "| a camera | now | **HPSTM Live** |" in (tmp_path / "r.md").read_text()
    assert (tmp_path / "p" / "pairs_a_camera.png").stat().st_size > 1000
    capsys.readouterr()
    for both_or_none in ([], ["synthetic", "--pairs", str(file)]):
        assert cli.main(["evaluate", *both_or_none]) == 2
        assert "either DATA" in capsys.readouterr().err


# -- what a source is told


@pytest.fixture
def small() -> Pair:
    """Somebody of 1.4 m before a camera that looks 15 degrees down, as an estimator without noise gives them."""
    pair = made(seed=2, seconds=3.0, noise_m=0.0)
    assert pair.rotations is not None
    height_m = standing_height_m(pair.truth, pair.rotations)
    truth = relative(pair.truth, HIPS) * 1.4 / height_m
    seen = landmarks("mediapipe_33").at(truth, pair.rotations)
    pitched = Rotation.from_euler("x", 15.0, degrees=True).apply(seen.reshape(-1, 3)).reshape(seen.shape)
    noisy = pitched * MEDIAPIPE_HEIGHT_M / 1.4
    return Pair("a", "made", "1", "mediapipe_33", pair.times_s, noisy, truth, None, pair.rotations, 1.4, 15.0)


def test_a_persons_height_is_that_of_the_rest_pose_however_they_move() -> None:
    pair, upright = made(seed=2), made(seed=2, seconds=1.0)
    assert pair.rotations is not None
    tall = standing_height_m(pair.truth, pair.rotations)
    assert tall == pytest.approx(standing_height_m(upright.truth, upright.rotations), abs=1e-3)  # type: ignore[arg-type]
    turn = Rotation.from_rotvec([0.4, 1.2, -0.3]).as_matrix()  # lying is as tall
    assert standing_height_m(1.1 * pair.truth @ turn.T, turn @ pair.rotations) == pytest.approx(1.1 * tall)
    rest = rest_offsets()[None]
    above = float(rest[0, [INDEX[n] for n in ("spine1", "spine2", "spine3", "neck", "head")], 1].sum())
    below = float(rest[0, [INDEX[n] for n in ("left_hip", "left_knee", "left_ankle")], 1].sum())
    stands = np.broadcast_to(np.eye(3), (1, 24, 3, 3))
    body = (ancestor_matrix() @ rest[0])[None]
    assert standing_height_m(body, stands) == pytest.approx((above - below) / 0.877)


def test_a_source_that_is_told_both_sends_the_truth(small: Pair) -> None:
    def error_mm(pairs: list[Pair]) -> float:
        (pair,) = pairs
        return float(PairTruth.of(pair, 0.0).scores(answers(pair, pair.seen[0]))["mpjpe_root_mm"])

    by = {known: told([small], known) for known in KNOWN}
    assert {known: pairs[0].source for known, pairs in by.items()} == {
        "height": "made, height known", "pitch": "made, pitch known", "both": "made, height and pitch known",
    }  # fmt: skip
    assert error_mm(by["both"]) < 0.01
    assert min(error_mm([small]), error_mm(by["height"]), error_mm(by["pitch"])) > 20.0
    assert told([made()], "both") == []  # another layout, and nothing is known


def test_what_is_told_stands_in_rows_of_its_own(small: Pair) -> None:
    pairs = [small, replace(small, name="b", source="other")]
    methods = ("input", "Kalman")
    plain = pair_bench.run(pairs, load_runtime("onnx"), (0.0,), methods)
    result = pair_bench.measure(pairs, load_runtime("onnx"), (0.0,), methods, ("both",))
    assert result["rows"][: len(plain)] == plain
    more = [row["source"] for row in result["rows"][len(plain) :]]
    assert list(dict.fromkeys(more)) == ["made, height and pitch known", "other, height and pitch known"]
    assert result["settings"]["takes"]["made, height and pitch known"] == 1


def test_to_know_what_no_file_says_is_a_mistake(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path / "one.npz", made(seconds=3.0))
    assert cli.main(["evaluate", "--pairs", str(file), "--known", "both"]) == 2
    assert "--known: none of --pairs says how tall" in capsys.readouterr().err
    assert cli.main(["evaluate", "synthetic", "--known", "both"]) == 2
    assert "--known is for --pairs" in capsys.readouterr().err
