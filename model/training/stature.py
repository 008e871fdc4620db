"""How tall a person is, from joints and rotations that are known: for scoring what is told a height. numpy only."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from model.skeleton import INDEX, PARENTS, ancestor_matrix

Floats = npt.NDArray[np.floating[Any]]

# Heights of joints, standing, as parts of the whole: the ankle's, of Drillis and Contini (1966), as in Winter,
# Biomechanics and Motor Control of Human Movement; the head's joint, at the base of the skull. With these the 53 bodies
# of rendered/ are 1.63 m tall in the mean, as whoever made them says.
ANKLE, HEAD = 0.039, 0.916


def standing_height_m(positions: Floats, rotations: Floats) -> float:
    """How tall somebody is, standing [m]: the head's joint above the ankles in the rest pose, over its usual share.

    Args:
        positions: (T, 24, 3) canonical joints [m].
        rotations: (T, 24, 3, 3) world_from_joint, of bones that keep their length.
    """
    bones = positions - positions[:, list(PARENTS)]
    offsets = np.median(np.einsum("tjba,tjb->tja", rotations[:, list(PARENTS)], bones), axis=0)
    rest = ancestor_matrix() @ offsets
    ankles = rest[[INDEX["left_ankle"], INDEX["right_ankle"]], 1].mean()
    return float((rest[INDEX["head"], 1] - ankles) / (HEAD - ANKLE))
