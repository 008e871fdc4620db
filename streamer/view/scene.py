"""The bodies in viser's scene: refined, noisy input, how sure each joint is, trails, feet; a ground, a camera.

All is drawn relative to the people's middle, so that they stay before the camera, and the ground slides below them.
Only what changes is sent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from streamer.frames import Array, Pose
from streamer.view.body import CHILD, FEET, FOOT_BONES, SIGMAS, TRAILED, bones, facing, head, lines, sigma_m
from streamer.view.history import Seen
from streamer.view.shapes import GROUND, LOST, NOISY, STANDING, Colour, ball, colour_of, linear, mixed, rod

BONE_M, JOINT_M = 0.021, 0.027
HEAD_M = (0.072, 0.105, 0.082)
_NOTHING = np.empty((0, 2, 3))
FOV_RAD = np.radians(38.0)
STEADY_S = 0.35  # in which the picture has mostly followed the people
FAR_M = 3.0  # from the middle: it is there at once
FLOOR_M = 0.15  # feet that far from zero: the ground is where they are


@dataclass
class Shown:
    """What of it is to be seen."""

    refined: bool = True
    noisy: bool = True
    uncertainty: bool = True
    trails: bool = True
    names: bool = True
    follow: bool = True


class Scene:
    """What is drawn on one viser server; ``draw`` brings it up to date.

    Args:
        server: a ``viser.ViserServer``.
        ahead_of_panel: the people stand left of the middle, where no panel covers them.
    """

    def __init__(self, server: Any, ahead_of_panel: bool = True) -> None:
        self.shown = Shown()
        self._server, self._ahead = server, ahead_of_panel
        self._bodies: dict[str, _Body] = {}
        self._orders: dict[str, int] = {}
        self._shift = np.zeros(3)  # from the world to what is drawn
        self._framed = False
        server.scene.set_up_direction("+y")
        server.scene.configure_environment_map(None)  # a picture as light: half a megabyte, dark until it is there
        server.scene.add_light_hemisphere(
            "/sky", sky_color=(235, 240, 255), ground_color=(120, 125, 140), intensity=0.7
        )
        self._ground = server.scene.add_grid(
            "/ground", width=24.0, height=24.0, plane="xz", cell_size=0.25, section_size=1.0,
            cell_color=(58, 64, 76), section_color=(100, 110, 128), cell_thickness=0.6, section_thickness=1.0,
            plane_color=GROUND, plane_opacity=1.0, shadow_opacity=0.45, fade_distance=14.0, fade_strength=1.5,
        )  # fmt: skip

    def draw(self, actors: list[Seen], passed_s: float) -> None:
        """Brings the picture up to date, all of it at once, so long after the last one."""
        bodies = [body for seen in actors if (body := body_of(seen)) is not None]
        with self._server.atomic():
            for name in [name for name in self._bodies if name not in {seen.actor for seen in actors}]:
                self._bodies.pop(name).remove()
            if bodies:
                self._move(bodies, passed_s)
            for seen in actors:
                if seen.actor not in self._bodies:
                    order = self._orders.setdefault(seen.actor, len(self._orders))  # who comes back has the same colour
                    self._bodies[seen.actor] = _Body(self._server, seen.actor, order)
                self._bodies[seen.actor].draw(seen, self.shown, self._shift)
        if bodies and not self._framed:
            self._framed = True
            self._frame(bodies)

    def colour_of(self, actor: str) -> Colour:
        body = self._bodies.get(actor)
        return body.colour if body is not None else LOST

    def _move(self, bodies: list[Array], passed_s: float) -> None:
        if not self._framed:
            self._shift[1] = 0.0
        roots = np.array([body[0] for body in bodies], float)
        middle = 0.5 * (roots.min(0) + roots.max(0))
        if not self._framed or np.abs(middle + self._shift)[[0, 2]].max() > FAR_M:
            self._shift[[0, 2]] = -middle[[0, 2]]
        elif self.shown.follow:
            self._shift[[0, 2]] -= -np.expm1(-passed_s / STEADY_S) * (middle + self._shift)[[0, 2]]
        lowest = float(min(np.nanmin(body[:, 1]) for body in bodies)) + self._shift[1]
        if lowest < -FLOOR_M or (not self._framed and lowest > FLOOR_M):
            self._shift[1] -= lowest
        self._ground.position = (float(self._shift[0] % 1.0), 0.0, float(self._shift[2] % 1.0))

    def reframe(self) -> None:
        """With the next picture, everybody's camera is put in front of the people, and the ground under them."""
        self._framed = False

    def _frame(self, bodies: list[Array]) -> None:
        wide = max(float(np.ptp([b[0, 0] for b in bodies])), float(np.ptp([b[0, 2] for b in bodies])))
        tall = max(1.0, *(float(np.nanmax(b[:, 1])) + self._shift[1] + 0.15 for b in bodies))
        away = 0.5 * max(1.25 * tall, wide + 0.9 * tall) / np.tan(0.5 * FOV_RAD)
        forward = facing(bodies[0])
        sideways = np.array([forward[2], 0.0, -forward[0]])  # right of who looks at them
        look_at = np.array([0.0, 0.5 * tall, 0.0]) + (0.17 * away * sideways if self._ahead else 0.0)
        towards = np.cos(0.5) * forward + np.sin(0.5) * sideways
        place = look_at + away * (towards + np.array([0.0, 0.22, 0.0]))
        camera = self._server.initial_camera
        camera.position, camera.look_at, camera.fov, camera.up = place, look_at, FOV_RAD, (0.0, 1.0, 0.0)
        for client in self._server.get_clients().values():
            with client.atomic():
                client.camera.position, client.camera.look_at = place, look_at


class _Body:
    """The nodes of one actor."""

    def __init__(self, server: Any, actor: str, order: int) -> None:
        self.colour = colour_of(order)
        self._scene, self._at = server.scene, f"/{order}"
        self._sent: dict[tuple[int, str], Any] = {}
        upright = np.tile(np.array([1.0, 0.0, 0.0, 0.0], np.float32), (25, 1))
        sizes = np.tile(np.float32(JOINT_M), (25, 3))
        sizes[-1] = HEAD_M
        still = np.zeros((25, 3), np.float32)
        self._bones = self._meshes("bones", rod(), upright[:23], still[:23], np.ones((23, 3), np.float32))
        self._joints = self._meshes("joints", ball(), upright, still, sizes)
        self._spheres = self._meshes(
            "sigma", ball(), upright[:24], still[:24], np.zeros((24, 3), np.float32), opacity=0.22, cast_shadow=False
        )
        no_lines = np.zeros((1, 2, 3), np.float32)
        self._noisy = self._scene.add_line_segments(
            f"{self._at}/noisy", no_lines, NOISY, thickness=2.5, thickness_units="screen", visible=False
        )
        self._trail = self._scene.add_line_segments(
            f"{self._at}/trail", no_lines, np.zeros((1, 2, 3), np.uint8), thickness=2.0, thickness_units="screen",
            visible=False,
        )  # fmt: skip
        self._name = self._scene.add_label(f"{self._at}/name", actor, anchor="bottom-center", font_screen_scale=1.1)

    def remove(self) -> None:
        for handle in (self._bones, self._joints, self._spheres, self._noisy, self._trail, self._name):
            handle.remove()

    def draw(self, seen: Seen, shown: Shown, shift: Array) -> None:
        pose = seen.pose
        self._set(self._bones, visible=shown.refined and pose is not None)
        self._set(self._joints, visible=shown.refined and pose is not None)
        self._set(self._spheres, visible=shown.uncertainty and pose is not None)
        if pose is not None:
            self._draw_refined(pose, shown, shift)
        self._draw_lines(self._noisy, lines(seen.noisy + shift) if seen.noisy is not None and shown.noisy else _NOTHING)
        trail = _segments(seen.trail + shift) if shown.trails else _NOTHING
        if len(trail):
            shares = np.linspace(0.8, 0.1, len(trail) // len(TRAILED) + 1)
            fading = linear(np.array([mixed(self.colour, GROUND, share) for share in shares]))
            self._set(self._trail, colors=np.repeat(np.stack([fading[:-1], fading[1:]], 1), len(TRAILED), 0))
        self._draw_lines(self._trail, trail)
        body = body_of(seen)
        self._set(self._name, visible=shown.names and body is not None)
        if body is not None:
            above = np.array([body[0, 0], float(np.nanmax(body[:, 1])) + 0.26, body[0, 2]])
            self._set(self._name, position=_rounded(above + shift))

    def _draw_refined(self, pose: Pose, shown: Shown, shift: Array) -> None:
        joints = pose.positions + shift
        middles, turns, lengths = bones(joints)
        head_at, head_turn = head(joints)
        places = np.concatenate([joints, head_at[None]])
        radii = np.where(lengths > 0.1, BONE_M, 0.8 * BONE_M)
        sizes = np.round(np.stack([radii, lengths, radii], -1), 3)
        self._set(self._bones, batched_positions=_rounded(middles), batched_wxyzs=_rounded(turns), batched_scales=sizes)
        head_turns = np.tile(np.array([1.0, 0.0, 0.0, 0.0]), (len(places), 1))
        head_turns[-1] = head_turn
        self._set(self._joints, batched_positions=_rounded(places), batched_wxyzs=_rounded(head_turns))
        self._colours(pose)
        if shown.uncertainty:
            radii = np.round(SIGMAS * sigma_m(pose), 3)
            self._set(self._spheres, batched_positions=_rounded(joints), batched_scales=np.tile(radii[:, None], (1, 3)))

    def _colours(self, pose: Pose) -> None:
        colour = LOST if pose.status == "lost" else mixed(self.colour, LOST, 0.55 * (pose.status == "coasting"))
        joints = np.tile(np.array(colour, np.uint8), (25, 1))
        for foot, stands in zip(FEET, pose.contact):
            share = round(float(np.clip(np.nan_to_num(stands), 0.0, 1.0)) * 4.0) / 4.0  # in steps: not sent each time
            joints[list(foot)] = mixed(colour, STANDING, share)
        self._set(self._joints, batched_colors=joints)
        rods = np.tile(np.array(colour, np.uint8), (len(CHILD), 1))
        rods[FOOT_BONES] = joints[CHILD[FOOT_BONES]]
        self._set(self._bones, batched_colors=rods)
        self._set(self._spheres, batched_colors=np.array(colour, np.uint8))

    def _draw_lines(self, handle: Any, ends: Array) -> None:
        self._set(handle, visible=len(ends) > 0)
        if len(ends):
            self._set(handle, points=_rounded(ends))

    def _set(self, handle: Any, **values: Any) -> None:
        """Sends what is new of a node."""
        for name, value in values.items():
            value = value.astype(np.float32) if isinstance(value, np.ndarray) and value.dtype.kind == "f" else value
            known = self._sent.get((id(handle), name))
            if known is None or not np.array_equal(known, value):
                self._sent[id(handle), name] = value
                setattr(handle, name, value)

    def _meshes(self, name: str, mesh: Any, turns: Array, places: Array, sizes: Array, **more: Any) -> Any:
        return self._scene.add_batched_meshes_simple(
            f"{self._at}/{name}", mesh.vertices, mesh.faces, turns, places, batched_scales=sizes,
            batched_colors=np.tile(np.array(self.colour, np.uint8), (len(turns), 1)), lod="off", **more,
        )  # fmt: skip


def body_of(seen: Seen) -> Array | None:
    """(24, 3) where an actor is: refined, or as it came in; None where neither says where its pelvis is."""
    body = seen.pose.positions if seen.pose is not None else seen.noisy
    return body if body is not None and np.isfinite(body[0]).all() else None


def _segments(trail: Array) -> Array:
    """(N, 2, 3) lines of a trail (T, 4, 3), step by step."""
    return np.stack([trail[:-1], trail[1:]], 2).reshape(-1, 2, 3)


def _rounded(values: Array) -> Array:
    """To the tenth of a millimetre: what does not move is not sent, and a page packs small."""
    return np.round(values, 4).astype(np.float32)
