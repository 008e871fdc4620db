"""Every layout through the filter: a body of known joints, in the numbers of the project whose layout it is."""

from __future__ import annotations

import numpy as np
import pytest

from model.landmarks import landmarks
from model.layouts import LAYOUTS
from model.motion.synthetic import SyntheticActor
from streamer.clock import SECOND_NS
from streamer.filter import PoseFilter
from streamer.frames import Frame
from tests.helpers.as_sent import as_sent

FPS, FRAMES = 30.0, 150
NEAR_M = 0.05  # mean over the joints, once the bones are measured; measured: 0.1 to 24 mm


@pytest.fixture(scope="module")
def filter_() -> PoseFilter:
    return PoseFilter.load(runtime="onnx")


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_clean_body_comes_out_near_without_a_warning(filter_: PoseFilter, name: str) -> None:
    actor, times = SyntheticActor(1), np.arange(FRAMES) / FPS
    true = actor.positions(times)
    sent = as_sent(name, landmarks(name).at(true, actor.poses(times)[0]))
    for n, xyz in enumerate(sent):
        pose = filter_.push(Frame(name, n, round(n * SECOND_NS / FPS), xyz, layout=name))
    assert pose.status == "tracking"
    assert np.linalg.norm(pose.positions - true[-1], axis=-1).mean() < NEAR_M
    assert filter_.warnings(name) == []
    assert not filter_.rejected
    assert not any(filter_.counts.values())
