"""Half-seen bodies: joints that are never there or lost for good, and limbs that a source makes up, unsure of them."""

from __future__ import annotations

import numpy as np

from model.noise.events import Bools
from model.noise.steady import F32, F64, log_uniform, normal
from model.skeleton import INDEX, JOINTS, J


def _with(*parts: str) -> list[int]:
    return [INDEX[name] for name in JOINTS if any(part in name for part in parts)]


# What is out of sight together, and how often: behind a desk, out of the picture, not tracked at all.
_OUT_OF_SIGHT: tuple[tuple[list[int], float], ...] = (
    (_with("hand"), 1.0), (_with("foot"), 1.0), (_with("head"), 0.7),
    (_with("left_hand", "left_wrist"), 0.7), (_with("left_hand", "left_wrist", "left_elbow"), 1.0),
    (_with("right_hand", "right_wrist"), 0.7), (_with("right_hand", "right_wrist", "right_elbow"), 1.0),
    (_with("foot", "ankle"), 1.0), (_with("foot", "ankle", "knee"), 1.5),
    (_with("left_foot", "left_ankle", "left_knee"), 1.0), (_with("right_foot", "right_ankle", "right_knee"), 1.0),
    (_with("foot", "ankle", "knee", "hip", "pelvis"), 2.0),
    (_with("foot", "ankle", "knee", "hip", "pelvis", "spine1", "spine2"), 1.0),
)  # fmt: skip
_MASKS = np.zeros((len(_OUT_OF_SIGHT), J), bool)
for _i, (_joints, _) in enumerate(_OUT_OF_SIGHT):
    _MASKS[_i, _joints] = True
_ODDS = np.array([odds for _, odds in _OUT_OF_SIGHT]) / sum(odds for _, odds in _OUT_OF_SIGHT)


def out_of_sight(rng: np.random.Generator, times_s: F64) -> Bools:
    """(B, T, J) True where a joint of the row's group is out of sight: always, or from or up to some time."""
    batch = len(times_s)
    group = _MASKS[rng.choice(len(_MASKS), batch, p=_ODDS)]
    part = times_s / times_s[:, -1:]
    kind = rng.random((batch, 1))
    cut = rng.random((batch, 1))
    when = np.where(kind < 0.5, True, np.where(kind < 0.8, part > cut, part < cut))
    return np.asarray(when[:, :, None] & group[:, None])


def made_up(rng: np.random.Generator, noisy: F32, times_s: F64, hidden: Bools) -> tuple[F32, F32]:
    """What a source reports of joints that it does not see: their places relative to the body at some one time, nearly
    still and mostly wrong, and its confidence in them (B, T, J), low."""
    batch, steps = times_s.shape
    middle = noisy.mean(2, keepdims=True)
    at = rng.integers(steps, size=batch)
    still = (noisy - middle)[np.arange(batch), at][:, None]  # (B, 1, J, 3)
    still = still + normal(rng, batch, 1, J, 3) * log_uniform(rng, (0.02, 0.3), batch, 1, 1, 1)
    told = middle + still + normal(rng, *noisy.shape) * log_uniform(rng, (0.001, 0.01), batch, 1, 1, 1)
    confidence = log_uniform(rng, (0.02, 0.25), batch, 1, 1) * np.exp(0.2 * normal(rng, batch, steps, J))
    return np.where(hidden[..., None], told, noisy).astype(np.float32), confidence.astype(np.float32)
