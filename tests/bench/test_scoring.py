"""The arithmetic of the accuracy bench: scores of errors that are known beforehand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from bench.accuracy import scoring
from bench.accuracy.answers import Answers, Seen
from bench.accuracy.scoring import GAP_EDGES_S, Truth, averaged, scores_of
from bench.accuracy.takes import take_of
from model.motion.synthetic import SyntheticActor
from model.skeleton import J


def truth_of(positions: np.ndarray, lost: np.ndarray | None = None) -> Truth:
    seen = positions.copy()
    if lost is not None:
        seen[lost] = np.nan
    take = take_of("a", positions, 30.0, rotations=np.tile(np.eye(3), (len(positions), 24, 1, 1)))
    return Truth.of(take, Seen(seen, np.ones(seen.shape[:2])), take.t_ns)


EVERY = np.ones(60, bool)


def test_scores_of_a_known_error() -> None:
    truth = truth_of(SyntheticActor(1).positions(np.arange(60) / 30))
    turned = np.tile(Rotation.from_rotvec([0.0, 0.0, 0.1]).as_matrix(), (60, 24, 1, 1))
    moved = Answers(
        np.zeros(60, np.int64),
        truth.positions + np.array((0.003, 0.0, 0.004)),
        np.tile(np.eye(3) * 1e-4, (60, 24, 1, 1)),
        turned,
    )
    scores = scores_of(moved, truth, EVERY, 30.0)
    assert scores["frames"] == 60
    assert scores["mpjpe_world_mm"] == pytest.approx(5.0)
    for name in ("mpjpe_root_mm", "pa_mpjpe_mm", "accel_mm", "lag_ms"):
        assert scores[name] == pytest.approx(0.0, abs=1e-6)
    assert scores["jitter_m_s3"] == pytest.approx(scores["jitter_true_m_s3"])
    assert scores["foot_sliding_mm_s"] == pytest.approx(scores["foot_sliding_true_mm_s"])
    assert scores["in_1_sigma"] == scores["in_0.9"] == 1.0
    assert scores["calibration"][:2] == [pytest.approx(1 / 3), pytest.approx(1.0)]  # 2.5 and 5 mm: the error is 3, 0, 4
    assert np.hypot(scores["swing_deg"], scores["twist_deg"]) > 0.5 * np.degrees(0.1)
    assert scores["leaf_deg"] == pytest.approx(np.degrees(0.1))
    assert "gap_mm" not in scores
    assert scores_of(moved, truth, np.arange(60) < 3, 30.0) == {"frames": 0}


def test_the_error_is_parted_by_the_speed_of_the_true_joint() -> None:
    t = np.arange(60) / 30.0
    true = np.zeros((60, J, 3))
    true[:, 4, 0], true[:, 7, 0] = 1.0 * t, 3.0 * t  # m/s; the others stand still
    said = true.copy()
    said[:, 4, 1] += 0.010
    said[:, 7, 1] += 0.030
    scores = scoring._by_speed(said, true, 30.0)
    assert scores == pytest.approx({"slow_mm": 0.0, "medium_mm": 10.0, "fast_mm": 30.0})


def test_the_error_in_a_gap_is_that_of_the_lost_joints_while_they_are_lost() -> None:
    lost = np.zeros((60, 24), bool)
    lost[20:35, 18] = True  # 0.5 s
    lost[:5, 19] = True  # not seen yet: no gap
    truth = truth_of(SyntheticActor(1).positions(np.arange(60) / 30), lost)
    said = truth.positions.copy()
    said[20:35, 18] += np.array((0.0, 0.04, 0.0)) * np.arange(1, 16)[:, None]
    said[35:38, 18] += np.array((0.0, 0.0, 0.09))
    said[:, 5] += 1.0  # no business of the gap
    scores = scores_of(Answers(np.zeros(60, np.int64), said), truth, EVERY, 30.0)
    assert scores["gap_samples"] == 15
    assert scores["gap_mm"] == scores["gap_world_mm"] == pytest.approx(40 * 8)
    through, after = scores["gap_curve_mm"][: len(GAP_EDGES_S) - 1], scores["gap_curve_mm"][len(GAP_EDGES_S) - 1 :]
    assert through[:6] == [pytest.approx(40 * x) for x in (2, 5, 8, 11, 14)] + [0.0]
    assert after == [pytest.approx(90.0), *[pytest.approx(0.0)] * 4]
    counts = scores["gap_curve_samples"]
    assert sum(counts[: len(through)]) == 15
    assert counts[len(through) :] == [3] * 5


def test_means_count_frames_and_the_interval_holds_them() -> None:
    names = ("mpjpe_root_mm", "accel_mm")
    rows = [{"frames": n} | dict.fromkeys(names, v) for n, v in ((100, 10.0), (300, 20.0), (0, 0.0))]
    rows[2] = {"frames": 0}
    mean = averaged(rows)
    assert mean["mpjpe_root_mm"] == mean["accel_mm"] == 17.5
    assert (mean["frames"], mean["clips"]) == (400, 2)
    assert mean["mpjpe_root_mm_95"] == [10.0, 20.0]
    gaps = [{"frames": 50, "mpjpe_root_mm": 1.0, "gap_mm": e, "gap_samples": n, "gap_curve_mm": [e, 0.0],
             "gap_curve_samples": [n, 0], "calibration": [0.2, 0.8]} for e, n in ((10.0, 1), (20.0, 3))]  # fmt: skip
    mean = averaged([*gaps, {"frames": 100, "mpjpe_root_mm": 3.0, "calibration": [0.4, 0.6]}])
    assert mean["gap_mm"] == 17.5
    assert mean["gap_curve_mm"] == [17.5, 0.0]
    assert (mean["gap_samples"], mean["gap_curve_samples"]) == (4, [4, 0])
    assert mean["calibration"] == [pytest.approx(0.3), pytest.approx(0.7)]
    assert mean["mpjpe_root_mm"] == 2.0
    assert averaged([{"frames": 0}]) == {"frames": 0, "clips": 0}
