"""The mean rest pose of the training subjects, which model.skeleton's constants are."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from model.files.listing import listed_clips
from model.files.read import bones_of
from model.files.retarget import align, unit
from model.files.tree import Floats
from model.skeleton import INDEX, MIRROR


def measure_rest(data_dir: Path, split: str = "train") -> Floats:
    """(24, 3) mean rest offsets [m] over the subjects of a split, left/right symmetric.

    Legs straight down and arms straight out define the T-pose; the trunk and the foot are measured, the foot in the
    axes of its shin. Source of model.skeleton's constants; test: tests/model/test_readers.py.
    """
    subjects = {(row.set, row.subject): row.path for row in reversed(listed_clips(data_dir)) if row.split == split}
    bones = np.array([_straightened(bones_of(path)) for path in subjects.values()])
    mean: Floats = bones.mean(0)
    mirrored = mean[list(MIRROR)] * (-1.0, 1.0, 1.0)
    return 0.5 * (mean + mirrored)


def _straightened(bones: Floats) -> Floats:
    """(24, 3) bones of a T-pose with legs down, arms out, each as long as measured."""
    out = bones.copy()
    for side, x in (("left", 1.0), ("right", -1.0)):
        out[INDEX[f"{side}_foot"]] = (
            align(unit(bones[INDEX[f"{side}_ankle"]]), np.array([0.0, -1.0, 0.0])) @ bones[INDEX[f"{side}_foot"]]
        )
        for joint in ("knee", "ankle"):
            j = INDEX[f"{side}_{joint}"]
            out[j] = (0.0, -np.linalg.norm(bones[j]), 0.0)
        for joint in ("shoulder", "elbow", "wrist", "hand"):
            j = INDEX[f"{side}_{joint}"]
            out[j] = (x * np.linalg.norm(bones[j]), 0.0, 0.0)
    return out
