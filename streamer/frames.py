"""What goes into the filter (Frame) and what comes out of it (Pose).

Plain numpy, no behaviour: protocol.py puts them on the wire, filter.py turns the one into the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from streamer.doubt import doubts

Array = npt.NDArray[np.floating[Any]]
Status = Literal["calibrating", "tracking", "coasting", "lost"]


@dataclass(slots=True)
class Frame:
    """One observation of one actor.

    Args:
        actor: name of the actor, one filter state each.
        seq: the source's frame counter.
        t_ns: capture time on the source's clock, integer nanoseconds (any epoch; 0 is a time).
        positions: (J, 3) joint positions in ``layout``'s order [m], right-handed, Y up, but for layouts that say other
            units or axes; NaN = missing, and so is exactly (0, 0, 0), but for those that say ``zeros_are_real``.
        confidence: (J,) in 0..1, or None for all ones; 0 = missing.
        layout: name of the input layout, see model.layouts.
        received_ns: when this process got it (clock.now_ns), 0 when nobody stamped it.
        rotations: (J, 4) unit quaternions xyzw of ``layout``'s joints, world_from_joint relative to the rest pose (a
            T-pose), in the axes of the positions; a row with NaN = not known. None: the source sends none.
    """

    actor: str
    seq: int
    t_ns: int
    positions: Array
    confidence: Array | None = None
    layout: str = "smpl_24"
    received_ns: int = 0
    rotations: Array | None = None


@dataclass(slots=True)
class Pose:
    """The refined pose of one actor at time ``t_ns``, on a skeleton whose bones are constant as long as its version is.

    Args:
        actor: whose it is.
        seq: of the newest frame it rests on.
        t_ns: the time the pose is for, on the source's clock (frame time - delay, or + predict).
        status: "calibrating" | "tracking" | "coasting" (nothing new is seen: nobody, the same again bit for bit, or a
            body where this one cannot be) | "lost" (for a second and more).
        positions: (24, 3) float32 joint positions [m], world, Y up.
        rotations: (24, 4) float32 quaternions xyzw, parent_from_joint relative to the rest pose; the root's: world.
        root: (3,) float32 pelvis in the world [m].
        lengths_m: (24,) float32 bone lengths from the parent [m]; the root's is 0.
        offsets_m: (24, 3) float32 rest-pose vector from the parent to each joint [m].
        covariance: (24, 3, 3) float32 covariance of each joint's position [m^2], world axes.
        contact: (2,) float32 probability that the left, right foot stands.
        captured_ns: ``t_ns`` of the newest frame that was news, as it was sent (source clock); the other stamps are on
            this process's clock.
        received_ns: when that frame was received.
        inferred_ns: when the pose was computed.
        published_ns: when it was sent.
        skipped: frames of this actor skipped under overload since it appeared.
        skeleton_version: grows when lengths or offsets change; the same one never comes with others.
        layout: the name that the frame gave its layout.
        source: (J of the layout, 3) float32, the refined joints in that layout's order, each where the source itself
            places it [m], world, Y up: on no skeleton, so that what is precise comes out as it came in. Gaps are
            filled; NaN where the source has never given the joint, in this layout. Points that are no joints of the
            model (face, fingers, heels) move with those that they hang on. None from a server without --source-joints.
        velocity: (24, 3) float32 of the joints at ``t_ns`` [m/s], world; zero where a pose stands still because nothing
            was seen for longer than the model looks ahead. None where it was not asked for.
        angular_velocity: (24, 3) float32 of each joint's rotation in the world at ``t_ns`` [rad/s]: along the axis that
            it turns about, right-handed, in the world's axes. None as ``velocity``.
        sigma_rad: (24,) float32 what ``rotation_sigma`` is, where more than the joints was seen; else None.
    """

    actor: str
    seq: int
    t_ns: int
    status: Status
    positions: Array
    rotations: Array
    root: Array
    lengths_m: Array
    offsets_m: Array
    covariance: Array
    contact: Array
    captured_ns: int = 0
    received_ns: int = 0
    inferred_ns: int = 0
    published_ns: int = 0
    skipped: int = 0
    skeleton_version: int = 0
    layout: str = ""
    source: Array | None = None
    sigma_rad: Array | None = None
    velocity: Array | None = None
    angular_velocity: Array | None = None

    @property
    def rotation_sigma(self) -> Array:
        """(24,) angle [rad] by which each joint's rotation in the world may be off: some 68 % are within it.

        A bone's direction is as sure as the covariance says. A turn about the bone, and those of head, hands and feet,
        are not seen in joints: there it is large, unless the source shows more (landmarks, rotations).
        """
        if self.sigma_rad is None:
            with np.errstate(over="ignore", invalid="ignore"):  # whoever made the pose
                self.sigma_rad = np.sqrt(doubts(self.covariance, self.lengths_m))
        return self.sigma_rad
