"""A body as things to draw: bones between joints, how sure each joint is, the joints of a frame as they came in."""

from __future__ import annotations

import numpy as np

from model.layouts import get_layout
from model.skeleton import INDEX, PARENTS
from streamer.frames import Array, Frame, Pose

CHILD = np.array([j for j, p in enumerate(PARENTS) if p >= 0])  # a bone ends in each of these
PARENT = np.array([p for p in PARENTS if p >= 0])
FEET = ((INDEX["left_ankle"], INDEX["left_foot"]), (INDEX["right_ankle"], INDEX["right_foot"]))
FOOT_BONES = np.flatnonzero(np.isin(CHILD, [foot for _, foot in FEET]))  # from ankle to toes
TRAILED = np.array([INDEX[name] for name in ("left_wrist", "right_wrist", "left_foot", "right_foot")])
HEAD, NECK, LEFT_HIP, RIGHT_HIP = (INDEX[name] for name in ("head", "neck", "left_hip", "right_hip"))
SIGMAS = 2.0  # of the spheres' radius


def turn_up_to(directions: Array) -> Array:
    """(..., 4) quaternions wxyz that turn +Y to directions (..., 3) of any length, by the shortest way."""
    unit = directions / np.maximum(np.linalg.norm(directions, axis=-1, keepdims=True), 1e-9)
    x, y, z = np.moveaxis(unit, -1, 0)
    wxyz = np.stack([1.0 + y, z, np.zeros_like(y), -x], -1)
    wxyz[y < -1.0 + 1e-6] = (0.0, 1.0, 0.0, 0.0)  # straight down: half a turn about X
    return np.asarray(wxyz / np.linalg.norm(wxyz, axis=-1, keepdims=True))


def bones(joints: Array) -> tuple[Array, Array, Array]:
    """The bones of joints (24, 3) [m]: their middles (23, 3), turns wxyz (23, 4) of a bone along +Y, lengths (23,)."""
    along = joints[CHILD] - joints[PARENT]
    return 0.5 * (joints[CHILD] + joints[PARENT]), turn_up_to(along), np.linalg.norm(along, axis=-1)


def lines(joints: Array) -> Array:
    """(N, 2, ...) the ends of the bones of joints (24, 3) or (24, 2), of those that have both; NaN: not seen."""
    ends = np.stack([joints[PARENT], joints[CHILD]], 1)
    return np.asarray(ends[np.isfinite(ends).all((1, 2))])


def head(joints: Array) -> tuple[Array, Array]:
    """Middle (3,) of the head of joints (24, 3) [m], and its turn wxyz (4,) of one that stands along +Y."""
    along = joints[HEAD] - joints[NECK]
    length = float(np.linalg.norm(along))
    return joints[HEAD] + along * (0.085 / max(length, 1e-6)), turn_up_to(along)


def sigma_m(pose: Pose) -> Array:
    """(24,) how far each joint may be off, one sigma, the same in all directions [m]."""
    variance = np.trace(np.nan_to_num(pose.covariance), axis1=-2, axis2=-1) / 3.0
    return np.asarray(np.sqrt(np.clip(variance, 0.0, 1.0)))


def joints_of(frame: Frame) -> Array | None:
    """(24, 3) our joints of a frame [m], NaN where it does not give one; None where nobody here knows its layout."""
    try:
        xyz, measured, derived, _ = get_layout(frame.layout).to_canonical(frame.positions, frame.confidence)
    except ValueError:  # a layout that only the server was given
        return None
    return np.where((measured | derived)[:, None], xyz, np.nan)


def facing(joints: Array) -> Array:
    """(3,) unit vector over the ground to where joints (24, 3) look, +Z where that is not seen."""
    across = joints[LEFT_HIP] - joints[RIGHT_HIP]
    forward = np.array([-across[2], 0.0, across[0]])
    length = float(np.linalg.norm(forward))
    return forward / length if length > 1e-3 else np.array([0.0, 0.0, 1.0])  # NaN, too, is not more
