"""An actor's skeleton: the rule over whole sequences is the streamer's frame by frame, and means what it says."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.calibration import EVENTS_S, LONGEST_STEP_S, skeleton_in_use
from model.skeleton import J, rest_offsets
from streamer.skeletons import Skeletons


class Calibrator:
    """The second of three rows of skeletons; the others must stay as they are."""

    def __init__(self) -> None:
        contract = SimpleNamespace(  # as an exported model would set it up
            calibration_events_s=EVENTS_S, calibration_longest_step_s=LONGEST_STEP_S,
            rest_offsets_m=tuple(map(tuple, rest_offsets())),
        )  # fmt: skip
        self.rows = Skeletons(contract, 3)  # type: ignore[arg-type]
        for row in range(3):
            self.rows.open(row, version=0)

    def update(self, opinion: np.ndarray, dt_s: float) -> None:
        if not self.done:  # as the filter asks
            changed = self.rows.update(np.array([1]), opinion[None], np.array([dt_s]))
            assert changed.tolist() in ([], [1])
        np.testing.assert_array_equal(self.rows.offsets_m[[0, 2]], np.tile(rest_offsets(), (2, 1, 1)).astype("f4"))
        assert self.rows.version[0] == self.rows.version[2] == 1
        assert not self.rows.done[[0, 2]].any()

    @property
    def done(self) -> bool:
        return bool(self.rows.done[1])

    @property
    def version(self) -> int:
        return int(self.rows.version[1])

    @property
    def offsets_m(self) -> np.ndarray:
        return self.rows.offsets_m[1]

    def reset(self) -> None:
        self.rows.reset(1)

    def give(self, offsets_m: np.ndarray) -> None:
        self.rows.give(1, offsets_m, version=None)


def opinions(seed: int, length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Each frame's skeleton (T, J, 3), weight (T, J) and step (T,) [s], some frames after a gap."""
    rng = np.random.default_rng(seed)
    skeleton = (rest_offsets() + 0.02 * rng.standard_normal((length, J, 3))).astype(np.float32)
    weight = (10.0 ** rng.uniform(-5, 0, (length, J))).astype(np.float32)
    dt = rng.choice([0.001, 1 / 120, 1 / 30, 0.1, 2.5], length, p=[0.1, 0.3, 0.4, 0.1, 0.1])
    dt[0] = 0.0
    return skeleton, weight, dt


@given(seed=st.integers(0, 2**32 - 1), length=st.integers(1, 300))
@settings(max_examples=25, deadline=None)
def test_the_streamers_rule_is_trainings(seed: int, length: int) -> None:
    skeleton, weight, dt = opinions(seed, length)
    whole, _ = skeleton_in_use(*(torch.from_numpy(x)[None].double() for x in (skeleton, weight, dt)))
    live = Calibrator()
    for t in range(length):
        live.update(np.concatenate([skeleton[t], weight[t, :, None]], 1), float(dt[t]))
        np.testing.assert_allclose(live.offsets_m, whole[0, t].numpy(), rtol=0, atol=1e-6, err_msg=f"frame {t}")
    elapsed = np.minimum(dt, LONGEST_STEP_S).sum()
    assert live.done == (elapsed >= EVENTS_S[-1] - 1e-9)


@pytest.mark.parametrize("fps", [15, 30, 60, 120, 240])
def test_it_changes_at_the_events_only_then_never(fps: int) -> None:
    rng = np.random.default_rng(fps)
    live, changes = Calibrator(), []
    for t in range(6 * fps):
        before, version = live.offsets_m.copy(), live.version
        opinion = rest_offsets() + 0.01 * rng.standard_normal((J, 3))
        live.update(np.concatenate([opinion, np.ones((J, 1))], 1).astype(np.float32), 1 / fps if t else 0.0)
        if not np.array_equal(live.offsets_m, before):
            changes.append(t / fps)
            assert live.version == version + 1
        else:
            assert live.version == version
    assert len(changes) == len(EVENTS_S)
    assert all(0 <= at - event < 1 / fps + 1e-6 for at, event in zip(changes, EVENTS_S, strict=True))


def test_it_is_a_weighted_mean() -> None:
    live = Calibrator()
    a, b = rest_offsets(), rest_offsets() * 1.1
    live.update(np.concatenate([a, np.full((J, 1), 3.0)], 1).astype(np.float32), 0.0)
    live.update(np.concatenate([b, np.full((J, 1), 1.0)], 1).astype(np.float32), 0.1)
    np.testing.assert_allclose(live.offsets_m, 0.75 * a + 0.25 * b, atol=1e-7)


def test_a_gap_is_no_motion() -> None:
    live, row = Calibrator(), np.concatenate([rest_offsets(), np.ones((J, 1))], 1).astype(np.float32)
    start = live.version
    live.update(row, 0.0)
    live.update(row, 1000.0)
    assert not live.done
    assert live.version == start + 2  # the events at 0 and 0.1 s


def test_reset_is_new() -> None:
    skeleton, weight, dt = opinions(3, 200)
    rows = np.concatenate([skeleton, weight[..., None]], 2)
    used, new = Calibrator(), Calibrator()
    for row, step in zip(rows[::-1], dt):
        used.update(row, float(step))
    used.reset()
    assert not used.done
    np.testing.assert_array_equal(used.offsets_m, new.offsets_m)
    for row, step in zip(rows, dt):
        used.update(row, float(step))
        new.update(row, float(step))
        np.testing.assert_array_equal(used.offsets_m, new.offsets_m)


def test_a_given_skeleton_stays() -> None:
    live, given_m = Calibrator(), (1.2 * rest_offsets()).astype(np.float32)
    live.give(given_m)
    assert live.done  # an actor then asks no more of it
    np.testing.assert_array_equal(live.offsets_m, given_m)
    given_m[:] = 0.0  # the caller's array is its own
    assert np.abs(live.offsets_m).max() > 0


def test_the_version_never_comes_back() -> None:
    """A subscriber keeps what it has while the version stands still: another skeleton, another (larger) version."""
    live = Calibrator()
    live.give((1.2 * rest_offsets()).astype(np.float32))
    version = live.version
    live.reset()
    live.update(np.concatenate([rest_offsets(), np.ones((J, 1))], 1).astype(np.float32), 0.0)
    assert live.version > version
