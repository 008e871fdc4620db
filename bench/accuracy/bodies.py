"""Clean motion for the cases, at a source's frames: parts of clips, and what clips lack, added to their motion: spins,
strikes, flips, standing still.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from bench.accuracy.takes import Take
from bench.track import Floats
from model.motion.synthetic import smoothstep
from model.skeleton import INDEX, J, ancestor_matrix
from streamer.clock import SECOND_NS

CALM_S = 4.5  # of the clip's own motion before anything is added: the bones are measured then
GRAVITY_M_S2 = 9.81


@dataclass(frozen=True)
class Body:
    """Somebody's joints (T, 24, 3) [m] and world_from_joint rotations (T, 24, 3, 3) at times (T,) [s]."""

    name: str
    times_s: Floats
    positions: Floats
    rotations: Floats


F64 = npt.NDArray[np.float64]
Motion = Callable[[Body], Body]


def body_of(take: Take) -> Body:
    """A take at its source's frames; only takes with rotations have a body."""
    assert take.rotations is not None
    near = take.nearest(take.t_ns)
    rotations = take.rotations[near].astype(np.float64)
    return Body(take.name, take.t_ns / SECOND_NS, take.native[near], rotations)


def spinning(turns_hz: float) -> Motion:
    """Turns about the vertical through the pelvis, as fast as that from CALM_S on, either way by turns of 3 s."""

    def spin(body: Body) -> Body:
        after: F64 = np.maximum(np.asarray(body.times_s, np.float64) - CALM_S, 0.0)
        speed = smoothstep(after / 0.4) * np.where(after % 6.0 < 3.0, 1.0, -1.0) * _between(after, 3.0)
        steps = np.diff(body.times_s, prepend=body.times_s[0])
        return _turned(body, _about(np.array([0.0, 1.0, 0.0]), np.cumsum(speed * steps) * 2 * np.pi * turns_hz))

    return spin


def _between(after: F64, period_s: float) -> F64:
    """0 at each change of direction, 1 in between."""
    phase = after % period_s
    return np.asarray(smoothstep(phase / 0.4) * smoothstep((period_s - phase) / 0.4))


def striking(body: Body) -> Body:
    """Punches and kicks by turns, one a second: the tip reaches 8 to 12 m/s."""
    limbs = [("left_shoulder", 0.15), ("right_hip", 0.25), ("right_shoulder", 0.15), ("left_hip", 0.25)]
    chain = ancestor_matrix()
    for n, start in enumerate(np.arange(CALM_S, body.times_s[-1] - 1.0, 1.0)):
        joint, out_s = limbs[n % len(limbs)]
        x = body.times_s - start
        angle = smoothstep(x / out_s) - smoothstep((x - out_s - 0.05) / (2.0 * out_s))
        size = 1.8 if "shoulder" in joint else 1.5
        turn = _about(-_sideways(body), size * angle)
        below = (chain[:, INDEX[joint]] > 0) & (np.arange(J) != INDEX[joint])
        body = _turned(body, turn, INDEX[joint], below)
    return body


def flipping(body: Body) -> Body:
    """Somersaults and cartwheels by turns, one in two seconds: a whole turn in the .8 s of a jump."""
    positions, flight_s = body.positions.copy(), 0.8
    for n, start in enumerate(np.arange(CALM_S, body.times_s[-1] - 1.5, 2.0)):
        x = np.clip(body.times_s - start, 0.0, flight_s)
        axis = _sideways(body) if n % 2 == 0 else _forwards(body)
        body = _turned(body, _about(axis, 2 * np.pi * smoothstep(x / flight_s)))
        jump = 0.5 * GRAVITY_M_S2 * x * (flight_s - x)
        positions = body.positions.copy()
        positions[..., 1] += jump[:, None]
        body = replace(body, positions=positions)
    return body


def back_and_forth(seconds: float) -> Motion:
    """The same motion played forwards and backwards for so long."""

    def play(body: Body) -> Body:
        steps = len(body.times_s)
        count = round(seconds / (body.times_s[1] - body.times_s[0]))
        place = np.arange(count) % (2 * steps - 2)
        place = np.where(place < steps, place, 2 * steps - 2 - place)
        times_s = np.arange(count) * (body.times_s[1] - body.times_s[0])
        return replace(body, times_s=times_s, positions=body.positions[place], rotations=body.rotations[place])

    return play


def standing(body: Body) -> Body:
    """The pose of the calmest frame, held: it sways as people do, some mm at less than 1 Hz."""
    speed = np.linalg.norm(np.gradient(body.positions, body.times_s, axis=0), axis=-1).mean(1)
    calm = int(speed.argmin())
    t = body.times_s[:, None]
    phases = np.random.default_rng(len(body.name)).uniform(0.0, 2 * np.pi, 4)
    sway = 0.004 * np.sin(2 * np.pi * t * (0.21, 0.33, 0.13, 0.47) + phases)
    feet = body.positions[calm, [INDEX["left_foot"], INDEX["right_foot"]]].mean(0)
    lean = _about(np.array([1.0, 0.0, 0.0]), sway[:, 0] + 0.5 * sway[:, 1])
    lean = lean @ _about(np.array([0.0, 0.0, 1.0]), sway[:, 2] + 0.5 * sway[:, 3])
    held = body.positions[calm] - feet
    positions = feet + np.einsum("tab,jb->tja", lean, held)
    return replace(body, positions=positions, rotations=lean[:, None] @ body.rotations[calm])


def _sideways(body: Body) -> Floats:
    """(T, 3) to the left, level."""
    return _level(body.rotations[:, 0, :, 0])


def _forwards(body: Body) -> Floats:
    left = _sideways(body)
    return np.asarray(np.cross(left, [0.0, 1.0, 0.0]))


def _level(vectors: Floats) -> Floats:
    flat = vectors * (1.0, 0.0, 1.0)
    size = np.linalg.norm(flat, axis=-1, keepdims=True)
    return np.asarray(np.where(size > 1e-3, flat / np.maximum(size, 1e-3), (1.0, 0.0, 0.0)))


def _about(axis: Floats, angle: Floats) -> Floats:
    """(T, 3, 3) rotation by ``angle`` (T,) about a unit ``axis`` (T, 3) or (3,). Rodrigues."""
    axis = np.broadcast_to(axis, (*angle.shape, 3))
    skew = np.cross(axis[:, None], -np.eye(3))
    sine, rest = np.sin(angle)[:, None, None], (1.0 - np.cos(angle))[:, None, None]
    return np.asarray(np.eye(3) + sine * skew + rest * (skew @ skew))


def _turned(body: Body, turn: Floats, about: int = 0, which: Floats | slice = slice(None)) -> Body:
    """The joints ``which`` turned by (T, 3, 3) about the place of a joint; its own rotation, too."""
    centre = body.positions[:, about, None]
    positions, rotations = body.positions.copy(), body.rotations.copy()
    positions[:, which] = centre + np.einsum("tab,tjb->tja", turn, (body.positions - centre)[:, which])
    rotations[:, which] = turn[:, None] @ body.rotations[:, which]
    if about:
        rotations[:, about] = turn @ body.rotations[:, about]
    return replace(body, positions=positions, rotations=rotations)
