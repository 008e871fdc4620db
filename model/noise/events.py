"""The components of pose noise that come and go: bursts of wrong pose, lost joints, joints that stick.

Steady noise is in noise.py, the odds and sizes in corruption.py. Axes: B sequences, T frames, J joints, K events.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from model.noise.steady import F32, F64, log_uniform, mix, normal, stretch
from model.skeleton import CHILDREN, INDEX, MIRROR, J

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]


def _descendants(name: str) -> list[int]:
    found, queue = [], [INDEX[name]]
    while queue:
        found.append(queue.pop())
        queue += CHILDREN[found[-1]]
    return found


# A limb turns about its root joint; the root itself stays.
LIMB_ROOTS = ("left_shoulder", "right_shoulder", "left_hip", "right_hip")
LIMBS: F32 = np.zeros((4, J), np.float32)
LIMB_ROOT_OF: list[int] = list(range(J))
for _i, _name in enumerate(LIMB_ROOTS):
    for _j in _descendants(_name)[1:]:
        LIMBS[_i, _j] = 1.0
        LIMB_ROOT_OF[_j] = INDEX[_name]

# What disappears together: one joint; a limb; both legs; both arms; the upper body; everything.
_ARMS, _LEGS = LIMBS[0] + LIMBS[1], LIMBS[2] + LIMBS[3]
_UPPER = np.zeros(J, np.float32)
_UPPER[_descendants("spine2")] = 1.0
GROUPS: F32 = np.concatenate([np.eye(J), LIMBS, [_LEGS, _ARMS, _UPPER, np.ones(J)]]).astype(np.float32)
GROUP_ODDS: F64 = np.concatenate([np.full(J, 0.60 / J), np.full(4, 0.30 / 4), [0.02, 0.02, 0.02, 0.04]])
_MIRROR = list(MIRROR)


def events(
    rng: np.random.Generator, times_s: F64, rate_hz: F32, shortest_s: F64, longest_s: float
) -> tuple[F64, F64, Bools]:
    """Start and end times (B, K) of random events of log-uniform length, and which of them happen.

    Args:
        rate_hz: (B,) how many start per second.
        shortest_s: (B,) shortest length.
        longest_s: longest length; an event may have begun before the first frame.
    """
    first, last = times_s[:, :1], times_s[:, -1:]
    busiest = float(((last - first)[:, 0] + longest_s).max() * max(float(rate_hz.max(initial=0.0)), 1e-3))
    k = int(np.ceil(busiest)) + 2
    low = np.log(np.minimum(shortest_s, longest_s))[:, None]
    length = np.exp(low + rng.random((len(times_s), k)) * (np.log(longest_s) - low))
    start = first - length + rng.random((len(times_s), k)) * (last - first + length)
    happens = rng.random((len(times_s), k)) < rate_hz[:, None] * (last - first + length) / k
    return start, start + length, happens


def envelopes(times_s: F64, start: F64, end: F64, ramp_s: F64) -> F32:
    """(B, K, T) 0..1 weight of each event, with smooth-step ramps of ``ramp_s`` (B, K) inside its span."""
    t = times_s[:, None]
    up, down = (t - start[..., None]) / ramp_s[..., None], (end[..., None] - t) / ramp_s[..., None]
    x = np.clip(np.minimum(up, down), 0.0, 1.0).astype(np.float32)
    return x * x * (3.0 - 2.0 * x)


def bursts(rng: np.random.Generator, times_s: F64, positions: F32, rate_hz: F32, scale: F32, axis: F32) -> F32:
    """(B, T, J, 3) displacement of short spells (.3-2 s) of plainly wrong pose.

    Four kinds: heading flip (up to 120 degrees about the vertical), a limb flipped through depth, left and right
    swapped (legs, arms or all), and an offset of a limb or the whole body by 50-300 mm, more along depth.
    """
    start, end, happens = events(rng, times_s, rate_hz, np.full(len(times_s), 0.3), 2.0)
    ramp_s = np.minimum(log_uniform(rng, (0.05, 0.35), *start.shape), 0.5 * (end - start))
    weight = envelopes(times_s, start, end, ramp_s) * happens[..., None]  # (B, K, T)
    kind = rng.choice(4, start.shape, p=(0.25, 0.3, 0.15, 0.3))[..., None]
    size = np.minimum(scale, 1.0)[:, None, None]
    out = _heading_flip(rng, positions, weight * (kind == 0) * size)
    out += _limb_flip(rng, positions, weight * (kind == 1) * size, axis)
    out += _swap(rng, positions, weight * (kind == 2) * size)
    out += _offset(rng, weight * (kind == 3), scale, axis)
    return out


def _heading_flip(rng: np.random.Generator, positions: F32, weight: F32) -> F32:
    turn = rng.uniform(0.5, 2.1, weight.shape[:2]) * rng.choice([-1.0, 1.0], weight.shape[:2])
    angle = np.einsum("bkt,bk->bt", weight, turn.astype(np.float32))[..., None]
    c, s = np.cos(angle) - 1.0, np.sin(angle)
    x, z = np.moveaxis(positions[..., ::2] - positions[:, :, :1, ::2], -1, 0)
    return np.stack([c * x + s * z, np.zeros_like(x), c * z - s * x], -1)


def _limb_flip(rng: np.random.Generator, positions: F32, weight: F32, axis: F32) -> F32:
    limb = LIMBS[rng.integers(0, 4, weight.shape[:2])]  # (B, K, J)
    amount = np.clip(weight.transpose(0, 2, 1) @ limb, 0.0, 1.0)  # (B, T, J)
    along = ((positions - positions[:, :, LIMB_ROOT_OF]) @ axis[:, None, :, None])[..., 0]
    return np.asarray((-2.0 * amount * along)[..., None] * axis[:, None, None, :])


def _swap(rng: np.random.Generator, positions: F32, weight: F32) -> F32:
    which = np.stack([_LEGS, _ARMS, np.ones(J, np.float32)])[rng.integers(0, 3, weight.shape[:2])]
    amount = np.clip(weight.transpose(0, 2, 1) @ which, 0.0, 1.0)
    return np.asarray(amount[..., None] * (positions[:, :, _MIRROR] - positions))


def _offset(rng: np.random.Generator, weight: F32, scale: F32, axis: F32) -> F32:
    shape = weight.shape[:2]
    direction = stretch(normal(rng, *shape, 3), axis, np.full(len(axis), 2.5, np.float32))
    size_m = log_uniform(rng, (0.05, 0.3), *shape) * scale[:, None]
    direction *= (size_m / np.linalg.norm(direction, axis=-1))[..., None]
    who = GROUPS[rng.choice(len(GROUPS), shape, p=GROUP_ODDS)]  # (B, K, J)
    return mix(np.einsum("bkt,bkc->btkc", weight, direction), who)


def gaps(rng: np.random.Generator, times_s: F64, rate_hz: F32, longest_s: float = 3.0) -> Bools:
    """(B, T, J) True where a joint, a limb or the whole body is lost: gaps of one frame to ``longest_s``."""
    start, end, happens = events(rng, times_s, rate_hz, _frame_s(times_s), longest_s)
    t = times_s[:, None]
    inside = (t >= start[..., None]) & (t < end[..., None]) & happens[..., None]
    who = GROUPS[rng.choice(len(GROUPS), start.shape, p=GROUP_ODDS)]
    return inside.transpose(0, 2, 1).astype(np.float32) @ who > 0.5


def spaced_gaps(
    rng: np.random.Generator,
    times_s: F64,
    groups: F32,
    every_s: float = 3.0,
    shortest_s: float = 0.1,
    longest_s: float = 1.0,
) -> Bools:
    """(B, T, J) True where joints are lost: a gap of log-uniform length in every ``every_s``, with sight around.

    Args:
        times_s: (B, T) rising times [s].
        groups: (G, J) 0/1, of which each gap takes one row at random.
        every_s: more than a second longer than ``longest_s``: every gap begins a second or more into its stretch.
    """
    since_s = times_s - times_s[:, :1]
    k = int(since_s.max() // every_s) + 1
    shape = (len(times_s), k)
    length = np.exp(rng.uniform(np.log(shortest_s), np.log(longest_s), shape))
    start = every_s * np.arange(k) + rng.uniform(1.0, every_s - longest_s, shape)
    who = groups[rng.integers(0, len(groups), shape)]  # (B, K, J)
    inside = (since_s[:, None] >= start[..., None]) & (since_s[:, None] < (start + length)[..., None])
    return inside.transpose(0, 2, 1).astype(np.float32) @ who > 0.5


def _frame_s(times_s: F64) -> F64:
    return np.maximum(np.median(np.diff(times_s, axis=1), axis=1), 1e-3)


def stuck(rng: np.random.Generator, times_s: F64, positions: F32, rate_hz: F32) -> tuple[F32, Bools]:
    """Positions in which lost joints freeze or drift instead of vanishing, and where (B, T, J).

    Half of the joints freeze in the world, half relative to the pelvis; the drift is up to .4 m/s.
    """
    lost = gaps(rng, times_s, rate_hz)
    velocity = normal(rng, len(times_s), J, 3) * log_uniform(rng, (0.01, 0.4), len(times_s), J, 1)
    follows = rng.random((len(times_s), J)) < 0.5
    b, t, j = np.nonzero(lost)
    since = last_index(~lost)[b, t, j]  # a gap that began before the first frame freezes at frame 0
    drift_s = np.minimum(times_s[b, t] - times_s[b, since], 1.0).astype(np.float32)
    out = positions.copy()
    out[b, t, j] = positions[b, since, j] + velocity[b, j] * drift_s[:, None]
    out[b, t, j] += follows[b, j, None] * (positions[b, t, 0] - positions[b, since, 0])
    return out, lost


def last_index(good: Bools) -> Ints:
    """(B, T, J) index of the newest frame up to now where ``good`` holds; 0 where there is none yet."""
    frame = np.arange(good.shape[1])[None, :, None]
    return np.maximum.accumulate(np.where(good, frame, 0), axis=1)
