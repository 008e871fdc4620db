"""Layouts told in true joints: what a source of one gives of a body whose joints are known."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from model.layouts import F32, Bools, get_layout
from model.skeleton import INDEX, J

# The ears' middle lies this far beyond the head joint, in lengths of neck to head.
_EARS_BEYOND_HEAD = 0.6


def canonical_derivation(name_or_path: str | Path) -> tuple[F32, Bools, Bools]:
    """What a source of this layout gives, told in true canonical joints: for training on its imitation.

    Returns:
        matrix (24, 24): what arrives for a joint = matrix @ true joints, zero rows for what does not; measured (24,)
        and derived (24,) as in Layout. The error that derivation makes (a pelvis at the middle of the hips) is in it.
    """
    layout = get_layout(name_or_path)
    source_from_true = np.full((len(layout.joints), J), np.nan)
    for joint in np.flatnonzero(layout.measured):
        source_from_true[layout.weights[joint] != 0] = np.eye(J)[joint]
    for i, name in enumerate(layout.joints):
        if name in ("left_ear", "right_ear", "nose"):
            source_from_true[i] = 0.0
            source_from_true[i, INDEX["head"]] = 1.0 + _EARS_BEYOND_HEAD
            source_from_true[i, INDEX["neck"]] = -_EARS_BEYOND_HEAD
        elif name.rpartition("_")[2] in ("index", "pinky") and "foot" not in name:
            source_from_true[i] = np.eye(J)[INDEX[name.split("_")[0] + "_hand"]]
    matrix = np.zeros((J, J))
    for joint in np.flatnonzero(layout.measured | layout.derived):
        used = layout.weights[joint] != 0
        known = layout.weights[joint][used].astype(np.float64) @ source_from_true[used]
        # Landmarks that no canonical joint stands for: taken to average to the joint itself.
        matrix[joint] = known if np.isfinite(known).all() else np.eye(J)[joint]
    return matrix.astype(np.float32), layout.measured, layout.derived


class LayoutOfTruth(NamedTuple):
    """What an input layout makes of joints of ours."""

    matrix: np.ndarray  # (J, J) what arrives for a joint
    gives: np.ndarray  # (J,) joints that arrive, measured or derived
    derived: np.ndarray  # (J,)
    needs: np.ndarray  # (J, J) 1 where a joint needs another
    told: np.ndarray  # (J, J) as matrix, joints that do not arrive as they are

    @classmethod
    def of(cls, name: str) -> LayoutOfTruth:
        matrix, measured, derived = canonical_derivation(name)
        gives = measured | derived
        needs = (np.abs(matrix) > 1e-9).astype(np.float32)
        return cls(matrix, gives, derived, needs, (matrix + np.diag(~gives)).astype(np.float32))

    def of_source(
        self, positions: np.ndarray, seen: np.ndarray, confidence: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Joints (T, J, 3), present, confidence and derived (T, J) of one sequence of what a source sees."""
        whole = (seen.astype(np.float32) @ self.needs.T > self.needs.sum(1) - 0.5) & self.gives
        trust = (confidence @ self.needs.T) / np.maximum(self.needs.sum(1), 1) * whole
        return self.matrix @ positions, whole.astype(np.float32), trust, np.broadcast_to(self.derived, whole.shape)
