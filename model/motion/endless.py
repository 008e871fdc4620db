"""Motion for training: clips end to end, and endless new motions made of them.

Few minutes and few people are in the data, and a network learns them by heart: on people it had not seen, the first
weights trusted a wrong prior. So no motion is ever drawn twice: parts of several people are joined, every joint is bent
by slow waves, bodies are scaled, mirrored, turned, tilted, sped up and played backwards. Times are real seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from model.evaluate import foot_contact
from model.kinematics import fork_frames, forward_kinematics, frame_from_axes
from model.network.head import TAU_RANGE_S
from model.prepare import Clip
from model.skeleton import FORK_CHILDREN, FORKS, INDEX, JOINTS, MIRROR, PARENTS, J, rest_offsets

_FLIP = np.array([-1.0, 1.0, 1.0], np.float32)
_UPPER = [INDEX[name] for name in ("spine1", "spine2", "spine3", "neck", "head")]
_ARM = ("collar", "shoulder", "elbow", "wrist", "hand")
_LEFT_ARM, _RIGHT_ARM = ([INDEX[f"{side}_{part}"] for part in _ARM] for side in ("left", "right"))
# Parts that another clip may give, the joint that they hang on, and how often. The upper body keeps its own lean and
# takes only the heading of the pelvis; arms follow the chest.
PARTS: tuple[tuple[list[int], str, float], ...] = (
    ([*_UPPER, *_LEFT_ARM, *_RIGHT_ARM], "pelvis", 0.3),
    (_LEFT_ARM, "spine3", 0.4),
    (_RIGHT_ARM, "spine3", 0.4),
)
TILTED = 0.12  # share of motions that are tilted as a whole: people fall, crawl, lie and tumble
BACKWARDS = 0.25
BENT = 0.6  # share of motions whose joints are bent
WILD = 0.3  # of these, bent as nobody in the data moves: on street dance the network's own pose was 65 to 155 mm off
SLOWED, HURRIED, SPUN = 0.07, 0.08, 0.07  # nearly still; kicks and punches; spins of up to three turns a second


@dataclass(frozen=True)
class Motion:
    """All clips end to end, as flat arrays."""

    root: np.ndarray  # (N, 3) m
    world_rot: np.ndarray  # (N, J, 3, 3)
    contact: np.ndarray  # (N, 2)
    start: np.ndarray  # (C,) first frame of each clip
    length: np.ndarray  # (C,)
    fps: np.ndarray  # (C,)
    offsets_m: np.ndarray  # (C, J, 3)

    @classmethod
    def from_clips(cls, clips: Sequence[Clip]) -> Motion:
        lengths = np.array([len(c.positions) for c in clips])
        return cls(
            root=np.concatenate([c.positions[:, 0] for c in clips]).astype(np.float32),
            world_rot=np.concatenate([c.world_rotations for c in clips if c.world_rotations is not None]).astype(
                np.float32
            ),
            contact=np.concatenate([foot_contact(c.positions, c.fps) for c in clips]),
            start=np.concatenate([[0], np.cumsum(lengths)[:-1]]),
            length=lengths,
            fps=np.array([c.fps for c in clips]),
            offsets_m=np.stack([c.offsets_m for c in clips]).astype(np.float32),
        )


class Moving(NamedTuple):
    """Motions (B, T): world_from_joint rotations, pelvis [m], feet on the ground."""

    world_rot: np.ndarray  # (B, T, J, 3, 3)
    root: np.ndarray  # (B, T, 3)
    contact: np.ndarray  # (B, T, 2) NaN where nobody knows

    def positions(self, offsets_m: np.ndarray) -> np.ndarray:
        """(B, T, J, 3) joints [m] of bodies (B, J, 3)."""
        return np.asarray(forward_kinematics(self.world_rot, offsets_m[:, None], self.root))


class MotionSampler:
    """Draws motions on bodies; the same generator state gives the same ones."""

    def __init__(
        self, motion: Motion, rng: np.random.Generator, augment: bool = True, even_s: float | None = None
    ) -> None:
        """``even_s``: sequences are this long and keep their rate, so shorter clips are left out."""
        self.motion, self.rng, self.augment = motion, rng, augment
        duration = (motion.length - 2) / motion.fps
        shortest = 1.0 if even_s is None else max(1.0, even_s + TAU_RANGE_S[1] - TAU_RANGE_S[0])
        # Long clips repeat themselves: they are drawn less than by their length.
        self.odds = np.sqrt(duration) * (duration > shortest)
        if not self.odds.any():
            raise ValueError(f"no clip is longer than {shortest:.1f} s")
        self.odds = self.odds / self.odds.sum()
        self.even = even_s is not None

    def draw(
        self, times_s: np.ndarray, tau_s: np.ndarray, wild: float = WILD
    ) -> tuple[np.ndarray, Moving, Moving, np.ndarray]:
        """One motion for each row of times (B, T) [s], rising from 0.

        Args:
            tau_s: (B,) within TAU_RANGE_S.
            wild: share of the bent motions that are bent as nobody moves.
        Returns:
            The times, compressed where a clip is too short for them; the motion then, and tau later, both near the
            origin; the bodies (B, J, 3) [m].
        """
        rng, size = self.rng, len(times_s)
        clip = rng.choice(len(self.odds), size, p=self.odds)
        speed = self._speeds(size) if self.augment else np.ones(size)
        shortest = TAU_RANGE_S[1] - TAU_RANGE_S[0]
        duration = (self.motion.length[clip] - 2) / self.motion.fps[clip]
        if self.even:
            speed = np.minimum(speed, duration / (times_s[:, -1] + shortest))
        reach = duration - speed * shortest
        times_s = times_s * np.minimum(1.0, reach / (speed * times_s[:, -1]))[:, None]  # short clips: at a higher rate
        both = np.stack([times_s, times_s + tau_s[:, None]])  # (2, B, T)
        base = self._source(clip, speed, both)
        turns = [self._moving(clip, source) for source in base]
        if self.augment:
            for joints, anchor, odds in PARTS:
                self._take_part(turns, both, speed, joints, anchor, odds)
            self._bend(turns, both, wild)
            turns = self._spin(self._turn(turns), both)
        shift = rng.normal(0, 2, (size, 1, 3)) * [1.0, 0.2, 1.0] - turns[0].root[:, :1]
        now, then = (part._replace(root=(part.root + shift).astype(np.float32)) for part in turns)
        return times_s, now, then, self._bodies(clip)

    def _speeds(self, size: int) -> np.ndarray:
        """(B,) of the captured motion: mostly near it, some nearly still, some hurried."""
        rng, kind = self.rng, self.rng.random(size)
        usual, slow, fast = (
            np.exp(rng.uniform(np.log(a), np.log(b), size)) for a, b in ((0.7, 1.4), (0.02, 0.2), (1.4, 2.6))
        )
        return np.where(kind < SLOWED, slow, np.where(kind < SLOWED + HURRIED, fast, usual))

    def _spin(self, turns: list[Moving], both_s: np.ndarray) -> list[Moving]:
        """Some people turn about themselves, at up to three turns a second, for a while."""
        rng = self.rng
        rows = np.flatnonzero(rng.random(both_s.shape[1]) < SPUN)
        n, end = len(rows), both_s[0, rows, -1]
        rate = 2 * np.pi * np.exp(rng.uniform(np.log(0.4), np.log(3.0), n)) * rng.choice([-1.0, 1.0], n)
        begin = rng.uniform(-0.3, 0.9, n) * end
        length, ramp = np.exp(rng.uniform(np.log(0.3), np.log(3.0), n)), rng.uniform(0.1, 0.4, n)
        for turn, times_s in zip(turns, both_s[:, rows], strict=True):
            passed = np.clip(times_s - begin[:, None], 0.0, (length + ramp)[:, None])
            # The integral of a speed that rises over the ramp, stays, and falls over the ramp.
            up = np.minimum(passed, ramp[:, None]) ** 2 / (2 * ramp[:, None])
            on = np.clip(passed - ramp[:, None], 0.0, np.maximum(length - ramp, 0.0)[:, None])
            left = np.clip(passed - np.maximum(length, ramp)[:, None], 0.0, ramp[:, None])
            angle = np.zeros((*times_s.shape, 3), np.float32)
            angle[..., 1] = rate[:, None] * (up + on + left - left**2 / (2 * ramp[:, None]))
            turn.world_rot[rows] = rotations_of(angle)[:, :, None] @ turn.world_rot[rows]
            turn.contact[rows] = 0.0
        return turns

    def _source(self, clip: np.ndarray, speed: np.ndarray, both_s: np.ndarray) -> np.ndarray:
        """(2, B, T) times in the clips: from somewhere in them, some played backwards."""
        low, high = TAU_RANGE_S
        span = speed * (both_s[0, :, -1] + high - low)
        free = (self.motion.length[clip] - 2) / self.motion.fps[clip] - span
        begin = np.maximum(free, 0.0) * self.rng.random(len(clip))
        passed = speed[:, None] * (both_s - low)
        back = (self.rng.random(len(clip)) < BACKWARDS * self.augment)[:, None]
        return np.asarray(begin[:, None] + np.where(back, span[:, None] - passed, passed))

    def _moving(self, clip: np.ndarray, source_s: np.ndarray) -> Moving:
        """Clips at source times (B, T), between two captured frames by their share."""
        m = self.motion
        at = np.clip(source_s * m.fps[clip][:, None], 0, (m.length[clip] - 1.001)[:, None])
        low = at.astype(np.int64)
        part = (at - low).astype(np.float32)
        index = m.start[clip][:, None] + low
        columns = m.world_rot[..., :2]  # two columns say it all: half the memory traffic
        mixed = columns[index] * (1 - part)[..., None, None, None] + columns[index + 1] * part[..., None, None, None]
        root = m.root[index] * (1 - part)[..., None] + m.root[index + 1] * part[..., None]
        return Moving(frame_from_axes(mixed[..., 0], mixed[..., 1]), root, m.contact[index].copy())

    def _take_part(
        self, turns: list[Moving], both_s: np.ndarray, speed: np.ndarray, joints: list[int], anchor: str, odds: float
    ) -> None:
        """Some rows get ``joints`` of other clips, in place: few combinations of limbs are in the data."""
        clip = self.rng.choice(len(self.odds), len(speed), p=self.odds)
        longest = (self.motion.length[clip] - 2) / self.motion.fps[clip]
        fits = longest > speed * (both_s[0, :, -1] + TAU_RANGE_S[1] - TAU_RANGE_S[0])
        rows = np.flatnonzero(fits & (self.rng.random(len(speed)) < odds))
        source = self._source(clip[rows], speed[rows], both_s[:, rows])
        for turn, times_s in zip(turns, source, strict=True):
            other = self._moving(clip[rows], times_s).world_rot
            turn.world_rot[rows] = with_part_of(turn.world_rot[rows], other, joints, anchor)

    def _bend(self, turns: list[Moving], both_s: np.ndarray, wild_odds: float) -> None:
        """Bend the joints of some rows by slow waves about random axes, in place."""
        rng = self.rng
        rows = np.flatnonzero(rng.random(both_s.shape[1]) < BENT)
        n, waves = len(rows), 3
        wild = rng.random((n, 1)) < wild_odds
        size = np.exp(rng.uniform(np.log(0.03), np.log(0.3), (n, 1)))  # rad
        size = np.where(wild, rng.uniform(0.3, 0.9, (n, 1)), size) * _LOOSE
        size *= rng.random((n, J)) < 0.6
        axis = rng.standard_normal((n, waves, J, 3)).astype(np.float32) / np.sqrt(3 * waves)
        hz = np.exp(rng.uniform(np.log(0.05), np.log(1.2), (n, waves, J)))
        hz[:, 0] = 0.0  # a posture of its own
        start = rng.uniform(0, 2 * np.pi, (n, waves, J))
        for turn, times_s in zip(turns, both_s[:, rows], strict=True):
            wave = np.sin(2 * np.pi * hz[:, None] * times_s[:, :, None, None] + start[:, None])  # (n, T, waves, J)
            vector = np.einsum("ntwj,nwjc->ntjc", wave.astype(np.float32), axis) * (1.7 * size)[:, None, :, None]
            turn.world_rot[rows] = bent(turn.world_rot[rows], rotations_of(vector.astype(np.float32)))
            turn.contact[rows[wild[:, 0]]] = np.nan  # their feet are anywhere

    def _turn(self, turns: list[Moving]) -> list[Moving]:
        """Mirror half, turn all about the vertical, tilt a few."""
        rng, size = self.rng, len(turns[0].root)
        flip = np.flatnonzero(rng.random(size) < 0.5)
        yaw = np.zeros((size, 3), np.float32)
        yaw[:, 1] = rng.uniform(-np.pi, np.pi, size)
        level = rng.uniform(-np.pi, np.pi, size)
        angle = np.clip(rng.normal(0, 0.6, size), -1.8, 1.8) * (rng.random(size) < TILTED)
        tilt = (angle * np.stack([np.cos(level), 0 * level, np.sin(level)])).T.astype(np.float32)
        turn = rotations_of(tilt) @ rotations_of(yaw)  # (B, 3, 3)
        out = []
        for world, root, contact in turns:
            for whole, part in zip((world, root, contact), mirrored(Moving(world[flip], root[flip], contact[flip]))):
                whole[flip] = part
            contact[np.abs(angle) > 0.2] = 0.0  # nobody stands on a tilted floor
            out.append(Moving(turn[:, None, None] @ world, (turn[:, None] @ root[..., None])[..., 0], contact))
        return out

    def _bodies(self, clip: np.ndarray) -> np.ndarray:
        """(B, J, 3) the clip's skeleton with another size, proportions and torso shape (few bodies are in the data)."""
        offsets: np.ndarray = self.motion.offsets_m[clip].copy()
        rng, n = self.rng, len(clip)
        if not self.augment:
            return offsets
        bone = np.exp(rng.normal(0, 0.07, (n, J)))
        bone = 0.5 * (bone + bone[:, list(MIRROR)]) * np.exp(rng.normal(0, 0.008, (n, J)))
        offsets *= (bone * np.exp(rng.normal(0, 0.08, (n, 1))))[..., None]
        shape: np.ndarray = rng.normal(0, 0.02, (n, J, 3))
        shape = 0.5 * (shape + shape[:, list(MIRROR)] * _FLIP)
        torso = rng.random((n, 1, 1)) < 0.7
        other = _TORSOS[rng.integers(len(_TORSOS), size=n)] * np.exp(rng.normal(0, 0.1, (n, 1, 1)))
        forks = list(FORK_CHILDREN)
        swap = rng.random((n, 1, 1)) < 0.5
        offsets[:, forks] = np.where(swap, other, offsets[:, forks]) + torso * shape[:, forks]
        return regauge(offsets).astype(np.float32)


# How far joints bend against each other: hinges less than balls.
_LOOSE = np.ones(J)
for _names, _factor in (("shoulder hip head", 1.2), ("knee elbow ankle wrist neck", 0.8), ("collar", 0.5)):
    for _part in _names.split():
        _LOOSE[[j for j, name in enumerate(JOINTS) if name.split("_")[-1] == _part]] = _factor
_LOOSE[[INDEX[name] for name in ("spine1", "spine2", "spine3")]] = 0.5


def rotations_of(vectors: np.ndarray) -> np.ndarray:
    """(..., 3, 3) rotations of axis times angle (..., 3) [rad]: Rodrigues' formula."""
    angle = np.sqrt((vectors * vectors).sum(-1, keepdims=True) + 1e-12)
    x, y, z = np.moveaxis(vectors / angle, -1, 0)
    zero = np.zeros_like(x)
    skew = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).reshape(*vectors.shape, 3)
    s, c = np.sin(angle)[..., None], np.cos(angle)[..., None]
    return np.asarray(np.eye(3, dtype=vectors.dtype) + s * skew + (1 - c) * (skew @ skew))


def mirrored(moving: Moving) -> Moving:
    """Left for right: the world reflected in x = 0, and the sides of the body exchanged."""
    return Moving(
        moving.world_rot[:, :, list(MIRROR)] * (_FLIP[:, None] * _FLIP), moving.root * _FLIP, moving.contact[..., ::-1]
    )


def bent(world_rot: np.ndarray, bends: np.ndarray) -> np.ndarray:
    """World rotations (..., J, 3, 3) with every joint bent in its own frame, its descendants with it."""
    out = np.empty_like(world_rot)
    local = np.swapaxes(world_rot[..., [max(p, 0) for p in PARENTS], :, :], -1, -2) @ world_rot @ bends
    out[..., 0, :, :] = world_rot[..., 0, :, :] @ bends[..., 0, :, :]
    for j in range(1, J):  # parents stand before their children
        out[..., j, :, :] = out[..., PARENTS[j], :, :] @ local[..., j, :, :]
    return out


def with_part_of(world_rot: np.ndarray, other: np.ndarray, joints: list[int], anchor: str) -> np.ndarray:
    """(B, T, J, 3, 3) world rotations with ``joints`` of others, as they hang on the other's anchor.

    On the pelvis only its heading is taken over: how a trunk leans depends on gravity, not on the pelvis.
    """
    out, a = world_rot.copy(), INDEX[anchor]
    turn = world_rot[:, :, a] @ np.swapaxes(other[:, :, a], -1, -2)
    if anchor == "pelvis":
        angle = np.zeros((*turn.shape[:2], 3), np.float32)
        angle[..., 1] = np.arctan2(turn[..., 0, 2] - turn[..., 2, 0], turn[..., 0, 0] + turn[..., 2, 2])
        turn = rotations_of(angle)
    out[:, :, joints] = turn[:, :, None] @ other[:, :, joints]
    return out


def regauge(offsets_m: np.ndarray) -> np.ndarray:
    """Turn the children of pelvis and spine3 so that their frame is the canonical one (see kinematics.fork_frames)."""
    turn = fork_frames(rest_offsets()) @ np.swapaxes(fork_frames(offsets_m.astype(np.float64)), -1, -2)
    out = offsets_m.copy()
    for c in FORK_CHILDREN:
        out[..., c, :] = (turn[..., FORKS.index(PARENTS[c]), :, :] @ offsets_m[..., c, :, None])[..., 0]
    return out


# Torsos of other rigs (hips, spine1; neck, collars) [m]: SMPL's mean body, and a game rig with level hips.
_TORSOS = np.array([
    [(0.059, -0.082, -0.018), (-0.059, -0.082, -0.018), (0.004, 0.124, -0.038),
     (-0.002, 0.215, -0.045), (0.071, 0.114, -0.019), (-0.071, 0.114, -0.019)],
    [(0.105, -0.010, 0.010), (-0.105, -0.010, 0.010), (0.0, 0.069, -0.026),
     (0.0, 0.258, 0.0), (0.060, 0.197, -0.010), (-0.060, 0.197, -0.010)],
])  # fmt: skip
