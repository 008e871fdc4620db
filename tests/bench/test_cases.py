"""Cases on clean bodies: the motion that is added, what a source makes of it, and the rows that come of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench.accuracy import case_bench
from bench.accuracy.answers import Answers
from bench.accuracy.bodies import CALM_S, Body, Motion, flipping, spinning, standing, striking
from bench.accuracy.case_bench import WHOLE, CaseBench
from bench.accuracy.cases import CASES, LAYOUTS, LIMBS, Case
from bench.accuracy.methods import FILTER
from bench.accuracy.pair_methods import INPUT, REFINED
from bench.accuracy.pair_scores import PairTruth
from model.evaluate import lag_s
from model.landmarks import landmarks
from model.layouts import get_layout
from model.motion.synthetic import SyntheticActor
from model.skeleton import INDEX, PARENTS
from streamer.errors import ConfigError
from streamer.runtimes import load_runtime

FPS = 30.0
PARENT_OR_ROOT = [max(p, 0) for p in PARENTS]
MOTIONS: dict[str, Motion] = {"spin": spinning(2.0), "strike": striking, "flip": flipping, "stand": standing}


def body(seconds: float = 10.0, seed: int = 2) -> Body:
    t_s = np.arange(round(seconds * FPS)) / FPS
    actor = SyntheticActor(seed)
    return Body(f"made {seed}", t_s, actor.positions(t_s), actor.poses(t_s)[0])


def speed(positions: np.ndarray) -> np.ndarray:
    return np.linalg.norm(np.diff(positions, axis=0), axis=-1) * FPS


# -- motion


@pytest.mark.parametrize("motion", MOTIONS)
def test_an_added_motion_keeps_the_skeleton(motion: str) -> None:
    moved = MOTIONS[motion](body())
    bones = moved.positions - moved.positions[:, PARENT_OR_ROOT]
    inside = np.einsum("tjca,tjc->tja", moved.rotations[:, PARENT_OR_ROOT], bones)
    assert inside.std(0).max() < 1e-9


@pytest.mark.parametrize("motion", ["spin", "strike", "flip"])
def test_the_bones_are_measured_before_anything_is_added(motion: str) -> None:
    before, after = body(), MOTIONS[motion](body())
    calm = before.times_s <= CALM_S
    np.testing.assert_allclose(after.positions[calm], before.positions[calm], atol=1e-9)
    assert np.abs(after.positions[~calm] - before.positions[~calm]).max() > 0.3


def test_spins_are_as_fast_as_they_say() -> None:
    own, spun = body(12.0), spinning(2.0)(body(12.0))
    turn = spun.rotations[:, 0] @ own.rotations[:, 0].swapaxes(-1, -2)
    step = turn[1:] @ turn[:-1].swapaxes(-1, -2)
    per_s = np.arccos(np.clip((np.trace(step, axis1=-2, axis2=-1) - 1) / 2, -1, 1)) * FPS / (2 * np.pi)
    assert np.quantile(per_s, 0.9) == pytest.approx(2.0, abs=0.02)
    np.testing.assert_allclose(turn[:, 1, 1], 1.0, atol=1e-9)  # about the vertical


def test_strikes_are_as_fast_as_strikes_and_flips_turn_over() -> None:
    struck = striking(standing(body(14.0)))
    for joint in ("left_wrist", "right_wrist", "left_ankle", "right_ankle"):
        assert 6.5 < speed(struck.positions[:, INDEX[joint]]).max() < 13.0
    flipped = flipping(standing(body(14.0)))
    up = flipped.rotations[:, 0, 1, 1]
    assert up.min() < -0.9
    assert up[-20:].min() > 0.9  # and back on the feet


def test_who_stands_sways_by_millimetres() -> None:
    stood = standing(body())
    sway = stood.positions[:, INDEX["head"]].std(0)
    assert 0.0005 < np.linalg.norm(sway) < 0.05
    assert speed(stood.positions).max() < 0.1


# -- what a source makes of it


def test_landmarks_move_with_the_head_the_hands_and_the_feet() -> None:
    who = body()
    names = get_layout("mediapipe_33").joints
    seen = landmarks("mediapipe_33").at(who.positions, who.rotations)
    for near, far, host in (("nose", "left_ear", "head"), ("left_index", "left_pinky", "left_wrist"),
                            ("right_heel", "right_ankle", "right_ankle")):  # fmt: skip
        between = seen[:, names.index(near)] - seen[:, names.index(far)]
        inside = np.einsum("tba,tb->ta", who.rotations[:, INDEX[host]], between)
        assert inside.std(0).max() < 1e-9
        assert 0.03 < np.linalg.norm(inside[0]) < 0.2
    left, right = (seen[:, names.index(f"{side}_eye")] for side in ("left", "right"))
    assert (((left - right) @ who.rotations[0, INDEX["head"], :, 0]) > 0)[0]
    np.testing.assert_allclose(seen[:, names.index("left_knee")], who.positions[:, INDEX["left_knee"]])
    unknown = landmarks("h36m_17").at(who.positions, who.rotations)[:, get_layout("h36m_17").joints.index("neck_base")]
    assert np.isnan(unknown).all()


def test_a_heel_is_off_its_ankle_as_mediapipes_is() -> None:
    """Measured on rendered people: 11 mm for a whole take, 14 mm in it; and the face has no more noise than before."""
    case = CASES["head, hands, feet shown"]
    names = get_layout(case.layout).joints
    ankles, heels = ([names.index(f"{side}_{part}") for side in ("left", "right")] for part in ("ankle", "heel"))
    stays, moves = [], []
    for n in range(12):
        who = replace(body(), name=f"somebody {n}")
        noisy, clean = case.pair(who).noisy, replace(case, noise="clean").pair(who).noisy
        off = (noisy - clean)[:, heels] - (noisy - clean)[:, ankles]
        stays.append(np.nanmean(off, axis=0))
        moves.append(off - stays[-1])
    for of, mm in ((stays, 11.0), (moves, 14.0)):
        assert 1e3 * np.sqrt(np.nanmean(np.square(np.concatenate(of)).sum(-1))) == pytest.approx(mm, rel=0.25)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("limb", LIMBS)
def test_what_is_hidden_is_neither_sent_nor_scored_and_the_rest_is_the_same(layout: str, limb: str) -> None:
    whole = CASES[f"{layout}, white 10, all seen"].pair(body())
    part = CASES[f"{layout}, white 10, no {limb}"].pair(body())
    hidden = np.isin(landmarks(layout).host, [INDEX[name] for name in LIMBS[limb]])
    assert hidden.any()
    assert np.isnan(part.noisy[:, hidden]).all()
    np.testing.assert_array_equal(part.noisy[:, ~hidden], whole.noisy[:, ~hidden])
    assert part.given == [j for j in whole.given if j not in [INDEX[name] for name in LIMBS[limb]]]


def test_what_is_lost_late_was_seen_before() -> None:
    pair = CASES["arm lost at 5 s"].pair(body())
    wrist = np.isfinite(pair.noisy[:, INDEX["left_wrist"], 0])
    assert wrist[: round(5 * FPS)].all()
    assert not wrist[round(5 * FPS) :].any()


def test_a_minute_is_the_same_motion_again() -> None:
    pair = CASES["arm lost for a minute"].pair(body())
    assert len(pair.times_s) == 70 * FPS
    assert np.isnan(pair.noisy[round(5 * FPS) :, INDEX["left_elbow"]]).all()
    assert np.abs(np.diff(pair.truth[:, 0], axis=0)).max() < 0.2  # no jump where it turns back
    np.testing.assert_allclose(pair.truth[299 + 50], pair.truth[299 - 50], equal_nan=True)


def test_legs_are_invented_steady_unsure_and_wrong() -> None:
    whole, pair = CASES["coco_17, white 10, all seen"].pair(body()), CASES["coco_17, invented legs"].pair(body())
    names = get_layout("coco_17").joints
    knee = names.index("left_knee")
    assert pair.confidence is not None
    assert (pair.confidence[:, knee] == 0.05).all()
    assert (pair.confidence[:, names.index("nose")] == 1.0).all()
    hips = pair.noisy[:, [names.index("left_hip"), names.index("right_hip")]].mean(1)
    assert np.linalg.norm((pair.noisy[:, knee] - hips).std(0)) < 0.03
    assert np.linalg.norm(pair.noisy[:, knee] - whole.noisy[:, knee], axis=-1).mean() > 0.1
    assert INDEX["left_knee"] not in pair.given


def test_outliers_are_single_frames_of_single_joints() -> None:
    case = CASES["gross outliers"]
    pair, without = case.pair(body()), replace(case, outliers=0.0).pair(body())
    away = np.linalg.norm(pair.noisy - without.noisy, axis=-1)
    hit = away > 1e-9
    assert 0.035 < hit.mean() < 0.055
    assert 0.2 < away[hit].min() < away[hit].max() < 0.5
    assert not (hit[1:] & hit[:-1]).any()


def test_truth_is_the_joint_as_the_source_defines_it() -> None:
    pair = CASES["h36m, clean"].pair(body())
    xyz, _, _, _ = get_layout(pair.layout).to_canonical(pair.noisy)
    np.testing.assert_allclose(xyz[:, pair.given], pair.truth[:, pair.given], atol=1e-5)
    assert np.abs(pair.truth[:, pair.given] - body().positions[:, pair.given]).max() > 0.03


def test_the_realistic_noise_of_a_landmark_is_nearly_that_of_its_joint() -> None:
    pair, clean = (replace(CASES["head shown"], noise=noise).pair(body()) for noise in ("realistic", "clean"))
    names = get_layout("coco_17").joints
    error = pair.noisy - clean.noisy
    ears = error[:, names.index("left_ear")] - error[:, names.index("right_ear")]
    assert 0.003 < np.nanstd(ears) < 0.02
    assert np.nanmean(np.linalg.norm(error, axis=-1)) > 0.03


# -- rows


@pytest.fixture(scope="module")
def bench() -> CaseBench:
    return CaseBench(load_runtime("onnx"), {"test": [body(7.0, 2), body(7.0, 3)]}, (0.0,))


def test_a_case_stands_beside_the_same_with_nothing_hidden(bench: CaseBench) -> None:
    rows = {row["method"]: row for row in bench.rows(CASES["smpl_24, white 10, no arm"])}
    assert set(rows) == {INPUT, FILTER, REFINED, WHOLE}
    assert {row["group"] for row in rows.values()} == {"half seen"}
    assert rows[WHOLE]["scores"]["mpjpe_world_mm"] < rows[INPUT]["scores"]["mpjpe_world_mm"]
    assert rows[WHOLE]["scores"]["frames"] == rows[FILTER]["scores"]["frames"]
    whole = {row["method"]: row for row in bench.rows(CASES["smpl_24, white 10, all seen"])}
    # The same poses, on fewer joints.
    assert whole[FILTER]["scores"]["mpjpe_world_mm"] == pytest.approx(rows[WHOLE]["scores"]["mpjpe_world_mm"], rel=0.2)


def test_filters_have_their_settings_for_the_noise(bench: CaseBench) -> None:
    rows = {row["method"]: row for row in bench.rows(replace(CASES["strikes"], name="strikes"))}
    assert rows["One-Euro"]["settings"] == rows["Kalman"]["settings"] == "white10"
    assert rows["Kalman"]["against_best"][0] >= 1.0
    assert bench.rows(CASES["people, 5 mm"]) == []  # nobody of that split is here


def test_people_who_stand_have_poses_clean_and_noisy(shared_data: Path, tmp_path: Path) -> None:
    people = case_bench.still_bodies(shared_data, 2, 10.0)
    assert len(people) == 2
    for person in people:
        assert np.linalg.norm(np.ptp(person.positions[:, INDEX["pelvis"]], axis=0)) < 0.5
    bench = CaseBench(load_runtime("onnx"), {"still": people}, at_s=(0.0,))
    noisy = CASES["people, 2 mm"]
    for case in (noisy, replace(noisy, name="people, clean", noise="clean")):
        (ours,) = [row for row in bench.rows(case) if row["method"] == FILTER]
        assert ours["broken"] == 0
        assert ours["scores"]["frames"] > 200
    assert case_bench.still_bodies(tmp_path, 2, 10.0) == []


def test_poses_that_are_none_are_counted_not_averaged_away() -> None:
    pair = Case("a", "definitions", noise="clean").pair(body(5.0))
    said = pair.truth.copy()
    said[10:15, 3] = np.nan
    scores = PairTruth.of(pair, 0.0).scores(Answers(pair.t_ns, said))
    assert scores["broken"] == 5
    assert scores["frames"] == 144  # the first one is what everything starts from
    assert scores["mpjpe_world_mm"] == 0.0
    assert PairTruth.of(pair, 0.0).scores(Answers(pair.t_ns, said * np.nan)) == {"frames": 0, "broken": 149}


def test_gaps_have_a_coverage_of_their_own() -> None:
    pair = Case("a", "half seen", noise="clean").pair(body(5.0))
    pair.noisy[40:60, 20] = np.nan
    said = pair.truth.copy()
    said[40:60, 20] += 0.05
    covariance = np.tile(np.eye(3) * 0.01**2, (150, 24, 1, 1))
    scores = PairTruth.of(pair, 0.0).scores(Answers(pair.t_ns, said, covariance))
    assert scores["in_1_sigma_gaps"] == 0.0
    assert scores["in_1_sigma"] == pytest.approx(1.0 - 20 / (149 * 24))


def test_bodies_are_long_enough_or_it_says_so() -> None:
    assert [len(who.times_s) for who in case_bench.load_bodies("synthetic", 2, 9.5)] == [286, 286]
    with pytest.raises(ConfigError, match="no clip"):
        case_bench.load_bodies("synthetic", 2, 5.0)
    assert lag_s(body().positions, body().positions, FPS) == 0.0
