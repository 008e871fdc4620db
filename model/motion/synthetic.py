"""Procedural human motion, endless and seeded: stand, walk, turn, reach, squat and wave, through forward kinematics.

A pure function of time, so that any frame rate, jitter or gap samples the same motion. It moves like a person without
being one: for the demo, for tests and as a source without data. numpy only.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from model.kinematics import forward_kinematics
from model.skeleton import INDEX, MIRROR, J, rest_offsets

F64 = npt.NDArray[np.float64]

ACTIONS = ("stand", "walk", "turn", "reach", "squat", "wave")
SLOT_S = 5.0  # every action lasts one slot
FADE_S = 1.2  # in whose first part it blends with the one before
SLOTS = 24  # after which the order of actions repeats
HEAD_TOP_M = 0.17  # from the head joint to the top of the head of the mean skeleton
STANCE = 0.6  # share of a stride that a foot stays on the ground
REACH = 0.985  # legs are bent a little when standing, and never more stretched than STRETCH: the knee would jump there
STRETCH = 0.996

# Angles [rad] that an action sets: torso, then per arm (left, right) swing forward, raise, elbow, forearm.
PARAMETERS = ("lean", "twist", "nod", "look", "drop_m", "turn", *(
    f"{side}_{angle}" for side in ("left", "right") for angle in ("swing", "raise", "elbow", "forearm")
))  # fmt: skip
P = {name: i for i, name in enumerate(PARAMETERS)}
HANG = -1.3  # the raise of an arm that hangs


def smoothstep(x: F64) -> F64:
    """0 to 1 over x in 0..1 with zero velocity and acceleration at both ends (quintic)."""
    x = np.clip(x, 0.0, 1.0)
    return np.asarray(x * x * x * (10.0 + x * (6.0 * x - 15.0)))


def _smoothstep_integral(x: F64) -> F64:
    x = np.clip(x, 0.0, 1.0)
    return np.asarray(x**4 * (2.5 + x * (x - 3.0)))


def _bump(x: F64) -> F64:
    """0, up, a plateau and 0 again within one slot (x seconds into it)."""
    return smoothstep((x - 0.4) / 1.4) * smoothstep((SLOT_S - 0.2 - x) / 1.4)


def _rotation(axis: int, angle: F64) -> F64:
    """(T, 3, 3) rotation about one axis (0 x, 1 y, 2 z) by ``angle`` (T,)."""
    out = np.zeros((*angle.shape, 3, 3))
    i, k = (axis + 1) % 3, (axis + 2) % 3
    out[..., axis, axis] = 1.0
    out[..., i, i] = out[..., k, k] = np.cos(angle)
    out[..., k, i] = np.sin(angle)
    out[..., i, k] = -out[..., k, i]
    return out


class FigureEight:
    """A closed smooth path whose heading is a sine of the arc length: position and heading at any distance.

    heading(u) = z sin(u) closes into an eight when cos(z sin u) has mean 0: z is the first zero of J0.
    """

    AMPLITUDE = 2.404825557695773

    def __init__(self, length_m: float) -> None:
        u = np.arange(256) * (2 * np.pi / 256)
        self.length_m = length_m
        self._order = np.arange(1, 40)
        self._velocity = np.fft.rfft(np.exp(1j * self.AMPLITUDE * np.sin(u)).real) / 128
        self._sideways = np.fft.rfft(np.sin(self.AMPLITUDE * np.sin(u))) / 128

    def at(self, distance_m: F64) -> tuple[F64, F64]:
        """Position (T, 2) as x and z [m], and heading (T,) [rad] about Y from +Z, at ``distance_m`` (T,)."""
        u = distance_m * (2 * np.pi / self.length_m)
        angles = u[:, None] * self._order
        z = np.sin(angles) @ (self._velocity[1:40].real / self._order)
        x = (1.0 - np.cos(angles)) @ (-self._sideways[1:40].imag / self._order)
        position = np.stack([x, z], -1) * (self.length_m / (2 * np.pi))
        return position, self.AMPLITUDE * np.sin(u)


def stride(phase: F64) -> tuple[F64, F64, F64]:
    """A foot over one stride: forward place (in strides, about 0), lift 0..1 and pitch -1..1, all twice differentiable.

    On the ground it moves back at exactly the walking speed, so a planted foot does not slide.
    """
    phase = phase % 1.0
    q = np.clip((phase - STANCE) / (1.0 - STANCE), 0.0, 1.0)
    # In swing: straight on at the ground's speed, plus a smooth step that makes up one whole stride.
    forward = 0.5 * STANCE - phase + smoothstep(q)
    lift = 64.0 * (q * (1.0 - q)) ** 3
    return forward, lift, lift * np.cos(np.pi * q)


class SyntheticActor:
    """One endless mover; the same seed is the same person doing the same things.

    Attributes:
        offsets_m: (24, 3) rest direction x bone length, the actor's skeleton [m].
        lengths_m: (24,) bone lengths; the root's is 0.
    """

    def __init__(self, seed: int = 0, height_m: float = 1.7) -> None:
        rng = np.random.default_rng(seed)
        shape = np.exp(0.03 * rng.standard_normal(J))
        shape = np.sqrt(shape * shape[list(MIRROR)])  # the same left and right
        offsets = rest_offsets() * shape[:, None]
        self.offsets_m: F64 = offsets * (height_m / (_standing_m(offsets) + HEAD_TOP_M))
        self.lengths_m: F64 = np.linalg.norm(self.offsets_m, axis=-1)
        self._thigh_m, self._shin_m = self.lengths_m[INDEX["left_knee"]], self.lengths_m[INDEX["left_ankle"]]
        self._ankle_m = -self.offsets_m[INDEX["left_foot"], 1] + 0.01
        self._speed_m_s = rng.uniform(0.9, 1.2) * height_m / 1.7
        self._stride_m = rng.uniform(0.95, 1.1) * height_m / 1.7
        self._path = FigureEight(rng.uniform(16.0, 24.0))
        self._phases = rng.uniform(0, 2 * np.pi, 8)
        self._schedule(rng)

    def _schedule(self, rng: np.random.Generator) -> None:
        order = np.concatenate([rng.permutation(len(ACTIONS)) for _ in range(SLOTS // len(ACTIONS))])
        order[rng.permutation(SLOTS)[:6]] = ACTIONS.index("walk")  # people on a stage walk most
        order[0] = ACTIONS.index("walk")
        self._kind = order
        self._left = rng.random(SLOTS) < 0.5  # which arm reaches or waves
        self._sense = rng.choice([-1.0, 1.0], SLOTS)  # which way it turns
        walks = (order == ACTIONS.index("walk")).astype(float)
        self._walks = walks
        per_slot = 0.5 * FADE_S * np.roll(walks, 1) + (SLOT_S - 0.5 * FADE_S) * walks  # seconds walked in each
        self._walked = np.concatenate([[0.0], np.cumsum(per_slot)])

    def _slots(self, t_s: F64) -> tuple[npt.NDArray[np.int64], F64]:
        index = np.floor(t_s / SLOT_S).astype(np.int64)
        return index, t_s - index * SLOT_S

    def _distance(self, t_s: F64) -> F64:
        """(T,) metres walked since time 0."""
        index, x = self._slots(t_s)
        cycle, k = index // SLOTS, index % SLOTS
        faded = FADE_S * _smoothstep_integral(x / FADE_S) + np.maximum(x - FADE_S, 0.0)
        seconds = self._walked[k] + self._walks[k] * faded + self._walks[k - 1] * (x - faded)
        return np.asarray(self._speed_m_s * (seconds + cycle * self._walked[-1]))

    def _parameters(self, t_s: F64, phase: F64) -> tuple[F64, F64]:
        """Angles (T, P) and the weight of walking (T,): the slot's action, faded in over the one before."""
        index, x = self._slots(t_s)
        weight = smoothstep(x / FADE_S)[:, None]
        now, before = index % SLOTS, (index - 1) % SLOTS
        angles = weight * self._act(now, x, phase) + (1.0 - weight) * self._act(before, x + SLOT_S, phase)
        walking = weight[:, 0] * self._walks[now] + (1.0 - weight[:, 0]) * self._walks[before]
        sway = np.sin(np.outer(t_s, (0.9, 1.3, 0.7, 1.1, 1.9)) + self._phases[:5])
        angles[:, :4] += sway[:, :4] * (0.02, 0.04, 0.05, 0.12)
        angles[:, [P["left_elbow"], P["right_elbow"]]] += 0.05 * sway[:, 4:]
        return angles, walking

    def _act(self, slot: npt.NDArray[np.int64], x: F64, phase: F64) -> F64:
        """(T, P) angles of the action of ``slot`` (T,), ``x`` seconds (T,) into it."""
        kind = self._kind[slot][:, None]
        out = self._stand(x)
        out += (kind == 1) * self._walk(phase)
        bump = _bump(x)
        out += (kind == 3) * self._reach(bump, self._left[slot])
        out += (kind == 4) * self._squat(bump)
        out += (kind == 5) * self._wave(bump, x, self._left[slot])
        turned = 2 * np.pi * self._sense[slot] * smoothstep((x - 0.4) / (SLOT_S - 0.8))
        out[:, P["turn"]] += (kind[:, 0] == 2) * np.where(x < SLOT_S, turned, 0.0)
        return out

    def _stand(self, x: F64) -> F64:
        out = np.zeros((len(x), len(P)))
        for side in ("left", "right"):
            out[:, P[f"{side}_raise"]] = HANG
            out[:, P[f"{side}_elbow"]] = 0.25
        return out

    def _walk(self, phase: F64) -> F64:
        out = np.zeros((len(phase), len(P)))
        swing = np.sin(2 * np.pi * phase)
        out[:, P["lean"]], out[:, P["twist"]] = 0.05, 0.10 * swing
        out[:, P["left_swing"]], out[:, P["right_swing"]] = 0.4 * swing, -0.4 * swing
        out[:, P["left_elbow"]], out[:, P["right_elbow"]] = 0.15 - 0.15 * swing, 0.15 + 0.15 * swing
        return out

    def _reach(self, bump: F64, left: npt.NDArray[np.bool_]) -> F64:
        out = np.zeros((len(bump), len(P)))
        out[:, P["lean"]], out[:, P["nod"]] = 0.35 * bump, 0.1 * bump
        out[:, P["twist"]] = np.where(left, -0.3, 0.3) * bump
        for side, this in (("left", left), ("right", ~left)):
            out[:, P[f"{side}_swing"]] = -1.7 * bump * this
            out[:, P[f"{side}_elbow"]] = -0.15 * bump * this
        return out

    def _squat(self, bump: F64) -> F64:
        out = np.zeros((len(bump), len(P)))
        out[:, P["drop_m"]] = 0.4 * (self._thigh_m + self._shin_m) * bump
        out[:, P["lean"]], out[:, P["nod"]] = 0.45 * bump, -0.2 * bump
        for side in ("left", "right"):
            out[:, P[f"{side}_swing"]] = -1.2 * bump
        return out

    def _wave(self, bump: F64, x: F64, left: npt.NDArray[np.bool_]) -> F64:
        out = np.zeros((len(bump), len(P)))
        for side, this in (("left", left), ("right", ~left)):
            out[:, P[f"{side}_raise"]] = 1.5 * bump * this
            out[:, P[f"{side}_forearm"]] = bump * this * (1.2 + 0.45 * np.sin(2 * np.pi * 1.5 * x))
        return out

    def poses(self, t_s: npt.ArrayLike) -> tuple[F64, F64]:
        """World rotations (T, 24, 3, 3) and roots (T, 3) [m] at times (T,) [s], in any order; Y up, ground at 0."""
        t_s = np.atleast_1d(np.asarray(t_s, np.float64))
        distance = self._distance(t_s)
        phase = distance / self._stride_m
        angles, walking = self._parameters(t_s, phase)
        place, heading = self._path.at(distance)
        heading = heading + angles[:, P["turn"]]
        forward = _rotation(1, heading)
        root = np.stack([place[:, 0], self._hip_height(phase, walking, angles), place[:, 1]], -1)
        world = np.empty((len(t_s), J, 3, 3))
        world[:, INDEX["pelvis"]] = forward @ _rotation(1, -0.5 * angles[:, 1]) @ _rotation(0, 0.3 * angles[:, 0])
        self._torso_and_arms(world, angles)
        for side, shift in (("left", 0.0), ("right", 0.5)):
            self._leg(world, side, root, forward, stride(phase + shift), walking)
        return world, root

    def _hip_height(self, phase: F64, walking: F64, angles: F64) -> F64:
        leg = REACH * (self._thigh_m + self._shin_m)
        apart = 0.5 * STANCE * self._stride_m
        lowest = np.sqrt(leg**2 - apart**2) - 0.01
        bob = 0.012 * (1.0 - np.cos(4 * np.pi * (phase - 0.05)))
        hip = (1.0 - walking) * (leg - 0.012) + walking * (lowest + bob) - angles[:, P["drop_m"]]
        return np.asarray(hip + self._ankle_m - self.offsets_m[INDEX["left_hip"], 1])

    def _torso_and_arms(self, world: F64, angles: F64) -> None:
        bend = _rotation(0, angles[:, P["lean"]] / 3) @ _rotation(1, angles[:, P["twist"]] / 2)
        for joint, parent in (("spine1", "pelvis"), ("spine2", "spine1"), ("spine3", "spine2")):
            world[:, INDEX[joint]] = world[:, INDEX[parent]] @ bend
        chest = world[:, INDEX["spine3"]]
        world[:, INDEX["neck"]] = chest @ _rotation(0, 0.5 * angles[:, P["nod"]] - 0.4 * angles[:, P["lean"]])
        look = _rotation(1, angles[:, P["look"]]) @ _rotation(0, 0.5 * angles[:, P["nod"]])
        world[:, INDEX["head"]] = world[:, INDEX["neck"]] @ look
        for side, sign in (("left", 1.0), ("right", -1.0)):
            swing, lift, elbow, forearm = angles[:, P[f"{side}_swing"] : P[f"{side}_forearm"] + 1].T
            world[:, INDEX[f"{side}_collar"]] = chest @ _rotation(2, sign * 0.15 * (lift - HANG))
            upper = world[:, INDEX[f"{side}_collar"]] @ _rotation(0, swing) @ _rotation(2, sign * lift)
            lower = upper @ _rotation(1, -sign * elbow) @ _rotation(2, sign * forearm)
            world[:, INDEX[f"{side}_shoulder"]], world[:, INDEX[f"{side}_elbow"]] = upper, lower
            world[:, INDEX[f"{side}_wrist"]] = world[:, INDEX[f"{side}_hand"]] = lower @ _rotation(2, 0.15 * forearm)

    def _leg(self, world: F64, side: str, root: F64, forward: F64, foot: tuple[F64, F64, F64], walking: F64) -> None:
        """Two-bone inverse kinematics from the hip to where the foot should be, the knee bending forwards."""
        hip = INDEX[f"{side}_hip"]
        along, lift, pitch = foot
        # Where the ankle stands, from the hip of a level pelvis.
        z = self.offsets_m[hip, 2] + along * walking * self._stride_m
        under = np.stack([np.full_like(along, self.offsets_m[hip, 0]), np.zeros_like(along), z], -1)
        ankle = root + (forward @ under[..., None])[..., 0]
        ankle[:, 1] = self._ankle_m + 0.09 * lift * walking
        start = root + world[:, 0] @ self.offsets_m[hip]
        line = ankle - start
        a, b = self._thigh_m, self._shin_m
        wanted = np.linalg.norm(line, axis=-1)
        limit = STRETCH * (a + b)
        far = limit - 0.004 * np.logaddexp(0.0, (limit - wanted) / 0.004)
        cos_hip = np.clip((a * a + far * far - b * b) / (2 * a * far), -1.0, 1.0)
        side_axis = forward[..., 0]
        down = line / wanted[:, None]
        x = side_axis - (side_axis * down).sum(-1, keepdims=True) * down
        x /= np.linalg.norm(x, axis=-1, keepdims=True)
        front = np.cross(x, -down)  # right-handed: x sideways, y up the leg, z to the front
        thigh = cos_hip[:, None] * down + np.sqrt(1.0 - cos_hip**2)[:, None] * front
        shin = (far[:, None] * down - a * thigh) / b
        world[:, hip], world[:, INDEX[f"{side}_knee"]] = _leg_frame(x, thigh), _leg_frame(x, shin)
        tilt = forward @ _rotation(0, 0.5 * pitch * walking)
        world[:, INDEX[f"{side}_ankle"]] = world[:, INDEX[f"{side}_foot"]] = tilt

    def pose(self, t_s: float) -> tuple[F64, F64]:
        """World rotations (24, 3, 3) and root (3,) [m] at one time [s]."""
        world, root = self.poses(t_s)
        return world[0], root[0]

    def positions(self, t_s: npt.ArrayLike) -> F64:
        """(T, 24, 3) joints in the world [m] at times (T,) [s]."""
        world, root = self.poses(t_s)
        return np.asarray(forward_kinematics(world, self.offsets_m, root))

    def clip(self, seconds: float, fps: float) -> F64:
        """(T, 24, 3) joints of the first ``seconds`` at an even ``fps``."""
        return self.positions(np.arange(round(seconds * fps)) / fps)


def _leg_frame(x: F64, bone: F64) -> F64:
    """(T, 3, 3) rotation that turns the rest leg (-Y) into ``bone`` with its sideways axis at unit ``x``."""
    return np.stack([x, -bone, np.cross(x, -bone)], -1)


def _standing_m(offsets_m: F64) -> float:
    """Height of the head joint above the ground in the rest pose [m]."""
    at_rest = forward_kinematics(np.broadcast_to(np.eye(3), (J, 3, 3)), offsets_m, np.zeros(3))
    return float(at_rest[INDEX["head"], 1] - at_rest[INDEX["left_foot"], 1])
