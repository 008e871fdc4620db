"""What the block has just answered, as poses: turned as sources show, feet held, the source's own joints beside it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from streamer.actors import LOST_NS, Actors
from streamer.clock import now_ns
from streamer.frames import Frame, Pose, Status
from streamer.intake import Seen
from streamer.runtimes.block import F32, row_index
from streamer.source_joints import LayoutOf, Told
from streamer.velocities import measure


class Poses:
    """Poses of actors.

    Args:
        layout_of: the layout that frames call by a name; None: poses have no ``source``.
        velocities: they have ``velocity`` and ``angular_velocity``.
        ahead_ns: farther beyond an actor's newest frame a pose is ``coasting``.
    """

    def __init__(self, actors: Actors, layout_of: LayoutOf | None, velocities: bool, ahead_ns: int) -> None:
        self._actors, self._layout_of = actors, layout_of
        self._with_velocities, self._ahead_ns = velocities, ahead_ns

    def of(
        self, rows: list[int], frames: Sequence[Frame], t_ns: list[int], wanted_ns: list[int], seen: Seen | None = None
    ) -> list[Pose]:
        """What the block has just answered, as poses for ``t_ns``, where ``wanted_ns`` was asked for.

        ``frames``: the newest of each actor; ``seen`` where it has just taken them in. A pose's arrays are its own:
        whoever keeps it keeps nothing of others.
        """
        actors, at = self._actors, row_index(rows)
        block, skeletons = actors.block, actors.skeletons
        positions = block.positions[at] + actors.origin[at, None]
        rotations, shown = actors.turned(rows, t_ns, wanted_ns, positions)
        covariance, contact = block.covariance[at], block.contact[at]
        if actors.feet is not None:
            rotations, covariance = rotations.copy(), covariance.copy()
            showing = None if seen is None else [shown_joints[3] for shown_joints in seen.shown]
            actors.feet.hold(rows, t_ns, positions, rotations, block.previous[at], covariance, contact, showing)
        block.previous[at] = rotations
        arrays = (
            positions, rotations, positions[:, 0], skeletons.lengths_m[at], skeletons.offsets_m[at],
            covariance, contact,
        )  # fmt: skip
        known = skeletons.done[at].tolist(), skeletons.version[at].tolist()
        sources: Sequence[tuple[str, F32 | None]] = [(frame.layout, None) for frame in frames]
        if self._layout_of is not None:
            told = Told(t_ns, block.frame[at], block.source[at], arrays[1], actors.origin[at])
            sources = actors.points.answer(rows, told, seen, self._layout_of)
        poses, inferred_ns = [], now_ns()
        for row, frame, t, wanted, (layout, source), done, version, *own in zip(
            rows, frames, t_ns, wanted_ns, sources, *known, *arrays
        ):
            a = [array.astype(np.float32) for array in own]
            track = actors.tracks[row]
            status = self._status(wanted, track.last_ns, track.seen_ns, done)
            poses.append(
                Pose(
                    frame.actor, frame.seq, t, status, a[0], a[1], a[2], a[3], a[4], a[5], a[6],
                    track.last_ns, frame.received_ns, inferred_ns,
                    skeleton_version=version, layout=layout, source=source, sigma_rad=shown.get(row),
                )
            )  # fmt: skip
        if self._with_velocities:
            speeds = measure(actors, rows, t_ns, wanted_ns)
            for pose, velocity, angular in zip(poses, *speeds):
                pose.velocity, pose.angular_velocity = velocity.copy(), angular.copy()
        return poses

    def _status(self, t_ns: int, last_ns: int, seen_ns: int, done: bool) -> Status:
        if max(t_ns, last_ns) - seen_ns > LOST_NS:
            return "lost"
        if seen_ns != last_ns or t_ns - last_ns > self._ahead_ns:
            return "coasting"
        return "tracking" if done else "calibrating"
