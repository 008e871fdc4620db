"""A test noise with a mechanism of its own: a simulated monocular estimator that finds 2D keypoints and lifts them.

Training draws errors that are random processes over time (steady.py, events.py). Here nothing is added to the 3D
pose: a camera looks at the body, keypoints in its image are wrong where the pose is hard to see, and depth is worked
out from how short each bone looks, with wrong assumed bone lengths. The slow error is a function of what the camera
sees, so a body at rest keeps its error and a moving one changes it. Sizes were set by the statistics of
report.py on the training split alone, never by what a filter makes of them.
Axes: B sequences, T frames, J joints; camera frame: x right, y up, z away from the camera [m]. numpy only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from model.noise.events import Bools
from model.noise.steady import DISTAL, F32, F64, decays, log_uniform, normal, scan
from model.skeleton import INDEX, MIRROR, PARENTS, J, ancestor_matrix

CROP_CELLS = 64.0  # of the heatmap along the person's box, which is a quarter larger than the person
EXPOSURE_S = 0.012
QUALITY = (0.55, 1.25)  # log-uniform factor of a sequence: better and worse estimators
KEYPOINT_CELLS = 0.38  # slow error of a torso joint in plain view, an axis; white error of the same
WHITE_CELLS = 0.045
UNDECODED = 0.3  # of the heatmap's rounding, what sub-cell decoding leaves
HIDDEN_GAIN = 1.5  # an occluded joint is guessed: so many times the error on top
BODY_SIZE, BONE_LENGTH = 0.03, 0.04  # relative error of the assumed skeleton, as a whole and of each bone
TILT, TILT_WHITE = 0.23, 0.01  # error of the sine of a bone's tilt towards the camera: which way it points
SURE_TILT = 0.25  # a regressor shrinks a depth whose sign it cannot tell
HEADING_RAD = 0.10
FOCAL = 0.03  # relative error of the assumed focal length, so of all distances of a sequence
DISTANCE_SMOOTH_S = 0.25
FEATURES = 24
POSE_SCALE_M = (1.0, 8.0)  # log-uniform: how far joints move, all together, until the error is another
LIGHT_S = 2.5  # how long until it is another for a body at rest

_PARENT = [max(p, 0) for p in PARENTS]
_CHAIN: F32 = ancestor_matrix().astype(np.float32)
_TORSO = [INDEX[name] for name in ("left_shoulder", "right_shoulder", "left_hip", "right_hip")]
# What hides joints behind it: capsules between two joints, with a radius [m].
_CAPSULES: tuple[tuple[int, int, float], ...] = tuple(
    (INDEX[a], INDEX[b], radius_m)
    for a, b, radius_m in [
        ("pelvis", "spine3", 0.14),
        ("neck", "head", 0.10),
        *(
            (f"{side}_{a}", f"{side}_{b}", radius_m)
            for side in ("left", "right")
            for a, b, radius_m in [
                ("hip", "knee", 0.08),
                ("knee", "ankle", 0.055),
                ("shoulder", "elbow", 0.05),
                ("elbow", "hand", 0.045),
            ]
        ),
    ]
)


@dataclass(frozen=True)
class View:
    """What a camera sees: camera_from_world (B, 3, 3), its eye (B, 3) [m], true joints (B, T, J, 3) in the camera frame
    [m], true keypoints image (B, T, J, 2) and the size cell (B, T, 1, 1) of a heatmap cell.

    Keypoints are in the image plane at distance 1. The focal length cancels: the crop is as large as the person looks.
    """

    camera_from_world: F32
    eye: F32
    joints: F32
    image: F32
    cell: F32

    def to_world(self, joints: F32) -> F32:
        """Joints (B, T, J, 3) of the camera frame in the world."""
        return np.asarray(joints @ self.camera_from_world[:, None] + self.eye[:, None, None])


def view_of(rng: np.random.Generator, positions: F32) -> View:
    """A level or slightly tilted camera from any side, 3-5 m from where the body comes nearest to it."""
    batch = len(positions)
    yaw, pitch = rng.uniform(-np.pi, np.pi, batch), rng.uniform(-0.25, 0.05, batch)
    ahead = np.stack([np.cos(pitch) * np.sin(yaw), np.sin(pitch), np.cos(pitch) * np.cos(yaw)], -1)
    right = np.stack([np.cos(yaw), np.zeros(batch), -np.sin(yaw)], -1)
    camera = np.stack([right, np.cross(ahead, right), ahead], 1).astype(np.float32)
    centre = positions[:, :, 0].mean(1)
    nearest = np.einsum("btc,bc->bt", positions[:, :, 0] - centre[:, None], camera[:, 2]).min(1)
    eye = centre + (nearest - rng.uniform(3.0, 5.0, batch).astype(np.float32))[:, None] * camera[:, 2]
    joints = (positions - eye[:, None, None]) @ camera[:, None].swapaxes(-1, -2)
    image = joints[..., :2] / joints[..., 2:]
    box = np.ptp(image, axis=2).max(-1)[..., None, None]
    return View(camera, eye, joints, image, 1.25 * box / CROP_CELLS)


def appearance(rng: np.random.Generator, view: View, times_s: F64) -> F32:
    """(B, T, FEATURES) unit-variance smooth functions of the pose as the camera sees it, and slowly of time.

    Random Fourier features (Rahimi and Recht 2007) over a few scales of pose. Time enters as light, clothes and
    background would: a body at rest wanders, too.
    """
    batch = len(times_s)
    pose = (view.joints - view.joints[:, :, :1]).reshape(*times_s.shape, -1)
    scale_m = log_uniform(rng, POSE_SCALE_M, batch, 1, FEATURES)
    phase = pose @ (normal(rng, batch, pose.shape[-1], FEATURES) / scale_m)
    rate = np.clip(rng.standard_cauchy((batch, 1, FEATURES)), -10.0, 10.0) / LIGHT_S  # rad/s
    phase += (rate * (times_s - times_s[:, :1])[..., None]).astype(np.float32)
    phase += rng.uniform(0.0, 2.0 * np.pi, (batch, 1, FEATURES)).astype(np.float32)
    return np.asarray(np.sqrt(np.float32(2.0)) * np.sin(phase))


def _errors(rng: np.random.Generator, features: F32, *shape: int) -> F32:
    """(B, T, *shape) unit-variance slow errors, each a mix of all features of its own."""
    batch, steps, count = features.shape
    mixed = features @ normal(rng, batch, count, int(np.prod(shape))) / np.sqrt(np.float32(count))
    return np.asarray(mixed.reshape(batch, steps, *shape))


def occlusion(joints: F32) -> F32:
    """(B, T, J) 0..1: how much of a joint (B, T, J, 3) in the camera frame [m] is behind another part of the body."""
    image, depth = joints[..., :2] / joints[..., 2:], joints[..., 2]
    hidden = np.zeros(depth.shape, np.float32)
    for a, b, radius_m in _CAPSULES:
        start, along = image[:, :, a, None], (image[:, :, b] - image[:, :, a])[:, :, None]
        share = ((image - start) * along).sum(-1) / np.maximum((along * along).sum(-1), 1e-9)
        share = np.clip(share, 0.0, 1.0)
        off = image - start - share[..., None] * along
        off_m = np.sqrt((off * off).sum(-1)) * depth
        before_m = depth - (depth[:, :, a, None] + share * (depth[:, :, b] - depth[:, :, a])[..., None])
        covered = np.clip(1.5 - off_m / radius_m, 0.0, 1.0) * np.clip(before_m / radius_m - 1.0, 0.0, 1.0)
        covered[:, :, [a, b]] = 0.0
        hidden = np.maximum(hidden, covered)
    return hidden


def speed_of(image: F32, times_s: F64) -> F32:
    """(B, T, J) speed of keypoints (B, T, J, 2) in the image plane [1/s], from one frame to the next."""
    step = np.diff(image, axis=1, prepend=image[:, :1])
    dt_s = np.maximum(np.diff(times_s, axis=1, prepend=times_s[:, :1]), 1e-3)
    return np.asarray(np.sqrt((step * step).sum(-1)) / dt_s[..., None], np.float32)


def keypoints(rng: np.random.Generator, view: View, features: F32, hard: F32, blur: F32) -> F32:
    """(B, T, J, 2) keypoints as a heatmap network finds them, in the image plane at distance 1.

    Args:
        hard: (B, T, J) factor on the slow error, 1 in plain view.
        blur: (B, T, J) cells that a joint crosses while the shutter is open.
    """
    slow = (KEYPOINT_CELLS * hard + 0.3 * blur)[..., None] * _errors(rng, features, J, 2)
    white = (WHITE_CELLS * hard + 0.1 * blur)[..., None] * normal(rng, *slow.shape)
    at = view.image / view.cell + slow + white
    return np.asarray((at + UNDECODED * (np.round(at) - at)) * view.cell)


def assumed_lengths(rng: np.random.Generator, joints: F32) -> F32:
    """(B, T, J) bone lengths [m] that the estimator believes in: wrong by a few per cent, the same left and right."""
    own = normal(rng, len(joints), J)
    wrong = BODY_SIZE * normal(rng, len(joints), 1) + BONE_LENGTH * (own + own[:, list(MIRROR)]) / 2.0
    bones = joints - joints[:, :, _PARENT]
    return np.asarray(np.sqrt((bones * bones).sum(-1)) * (1.0 + wrong[:, None]))


def lift(rng: np.random.Generator, view: View, features: F32, image: F32, hard: F32, quality: F32) -> F32:
    """(B, T, J, 3) joints from the root [m] in the camera frame, from keypoints (B, T, J, 2) and assumed bone lengths.

    A bone's depth is what its foreshortening leaves of its length; which way it points is a guess from its true tilt,
    with the whole body turned a little, an error of its own and more of it where it is hard to see.
    """
    length = assumed_lengths(rng, view.joints)
    bones = view.joints - view.joints[:, :, _PARENT]
    turn = (HEADING_RAD * quality)[:, None] * _errors(rng, features, 1)[..., 0]
    tilt = np.cos(turn)[..., None] * bones[..., 2] - np.sin(turn)[..., None] * bones[..., 0]
    tilt /= np.maximum(np.sqrt((bones * bones).sum(-1)), 1e-3)
    tilt += TILT * hard * _errors(rng, features, J) + TILT_WHITE * hard * normal(rng, *length.shape)
    scale = view.joints[:, :, :1, 2:]  # metres at the root's distance: weak perspective
    across = (image - image[:, :, _PARENT]) * scale
    left_sq = length**2 - (across * across).sum(-1)
    floor = (0.15 * length) ** 2
    depth = np.sqrt(0.5 * (left_sq + np.sqrt(left_sq**2 + floor**2))) * np.tanh(tilt / SURE_TILT)
    return np.asarray(_CHAIN @ np.concatenate([across, depth[..., None]], -1), np.float32)


def distance(rng: np.random.Generator, view: View, image: F32, times_s: F64) -> F32:
    """(B, T) distance of the root along the view [m], from how large the torso looks, smoothed."""
    seen, true = image[:, :, _TORSO], view.image[:, :, _TORSO]
    ratio = true.std(2).max(-1) / np.maximum(seen.std(2).max(-1), 0.01)
    keep = decays(times_s, np.full((len(times_s), 1), DISTANCE_SMOOTH_S, np.float32))[..., 0]
    smooth = scan(keep, (1.0 - keep) * np.log(np.clip(ratio, 0.5, 2.0)))
    focal = 1.0 + FOCAL * np.clip(normal(rng, len(times_s), 1), -2.5, 2.5)
    return np.asarray(view.joints[:, :, 0, 2] * np.exp(smooth) * focal)


def confidences(rng: np.random.Generator, hidden: F32, blur: F32, off_cells: F32) -> F32:
    """(B, T, J) height of the heatmap's peak in .02-1: low where a joint is hidden, blurred or far off its place."""
    batch = len(hidden)
    gain = log_uniform(rng, (0.7, 1.4), batch, 1, 1)
    logit = 2.6 - gain * (3.0 * hidden + 0.6 * blur + 0.6 * off_cells)
    logit += 0.4 * normal(rng, batch, 1, J) + 0.3 * normal(rng, *hidden.shape)
    return np.asarray(np.maximum(1.0 / (1.0 + np.exp(-logit)), 0.02), np.float32)


def lifted(rng: np.random.Generator, positions: F32, times_s: F64) -> tuple[F32, Bools, F32]:
    """Positions (B, T, J, 3) [m] as the estimator gives them, mask (B, T, J) and confidence (B, T, J).

    Args:
        rng: the only source of randomness.
        positions: (B, T, J, 3) true joints in the world [m], Y up, anywhere.
        times_s: (B, T) rising times [s].
    """
    view, batch = view_of(rng, positions), len(positions)
    quality = log_uniform(rng, QUALITY, batch)
    features, hidden = appearance(rng, view, times_s), occlusion(view.joints)
    blur = speed_of(view.image - view.image[:, :, :1], times_s) * EXPOSURE_S / view.cell[..., 0]
    plain = quality[:, None, None] * (1.0 + HIDDEN_GAIN * hidden)
    image = keypoints(rng, view, features, plain * np.sqrt(DISTAL), blur)
    joints = lift(rng, view, features, image, plain, quality)
    root_z = distance(rng, view, image, times_s)[..., None]
    joints[..., :2] += image[:, :, :1] * root_z[..., None]
    joints[..., 2] += root_z
    off = (image - view.image) / view.cell
    confidence = confidences(rng, hidden, blur, np.sqrt((off * off).sum(-1)))
    # Half of the sources drop what their network is least sure of, in spells.
    least = np.where(rng.random(batch) < 0.5, rng.uniform(0.15, 0.5, batch), 0.0)[:, None, None]
    mask = (confidence >= least) | (_errors(rng, features, J) < 0.0)
    return view.to_world(joints).astype(np.float32), mask, confidence
