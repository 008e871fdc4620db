"""Poses to avatar programs, as VMC: OSC over UDP.

A pose is two packets, each small enough to travel in one piece. They are built once; each pose then fills in its
numbers, all at once. Nobody has to listen: UDP does not ask.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Literal

import numpy as np

from model.skeleton import INDEX, J
from streamer.clock import SECOND_NS, now_ns
from streamer.errors import ConfigError
from streamer.frames import Array, Pose
from streamer.wire.endpoints import host_and_port
from streamer.wire.osc import HEADER_BYTES, bundle, message
from streamer.wire.vmc import (
    APPLY,
    BONE,
    BONES,
    CANONICAL,
    FLIP_POSITION,
    FLIP_QUATERNION,
    ROOT,
    STATE,
    TIME,
    N,
    times,
)

MOST_BYTES = 1400  # of a packet: Ethernet's 1,500 less the headers of IP and UDP, and room for a tunnel's
LOADED, CALIBRATING, CALIBRATED, NORMAL, GOOD, BAD = 1, 2, 3, 0, 1, 0  # what /VMC/Ext/OK says
CHEST, UPPER_CHEST = INDEX["spine2"], INDEX["spine3"]  # whose rotations those bones have
ON_UPPER_CHEST = slice(INDEX["neck"], INDEX["right_collar"] + 1)
# Where in a table's numbers of a pose its rest offsets end, its rotations, root, time and state.
ENDS = (3 * J, 7 * J, 7 * J + 3, 7 * J + 4, 7 * J + 6)
LEFT_NS = 12 * SECOND_NS  # after so long without a pose, an actor's receiver may be given to another
MOST_NAMES = 256  # actors of whom it is said that there is no receiver for them

BonePositions = Literal["all", "hips"]


class Encoder:
    """One actor's packets; each pose is written over the one before.

    The packets are words of four bytes, each of them a word of a table: first what never changes, then the numbers of a
    pose, in our order and axes. A pose is written to the table, one ``take`` brings every word to its places, one
    exclusive or turns the signs that are others in Unity's axes.

    Args:
        bone_positions: "all": of each bone its true place in its parent, by the actor's skeleton. "hips": zeros for all
            but the hips, for receivers that then take their avatar's own.
        upper_chest: False: none is sent, and Chest turns for both, for avatars that have none.
    """

    def __init__(self, bone_positions: BonePositions = "all", upper_chest: bool = True) -> None:
        self._hips_only, self._upper_chest = bone_positions == "hips", upper_chest
        sent = [n for n in range(N) if upper_chest or CANONICAL[n] != UPPER_CHEST]
        still = (0.0,) * 6 + (1.0,)
        ahead = [message(STATE, LOADED, CALIBRATED, NORMAL, GOOD), message(TIME, 0.0)]
        bones = [message(BONE, BONES[n], *still) for n in sent]
        groups = [*_packets([*ahead, message(ROOT, "root", *still), *bones, message(APPLY)]), ahead]
        packets = [bundle(group) for group in groups]
        constant = np.frombuffer(b"".join(packets), np.uint32)
        n = len(constant)
        self._table = np.concatenate([constant, np.zeros(ENDS[-1], np.uint32)])
        offsets, rotations, self._root, self._time, self._state = np.split(self._table[n:].view(">f4"), ENDS[:-1])
        self._offsets, self._rotations = offsets.reshape(J, 3), rotations.reshape(J, 4)
        self._state = self._state.view(">i4")
        # Which word of the table each word of the packets is. Arguments are a message's last words.
        offsets, rotations, root, time, state = np.split(np.arange(n, len(self._table)), ENDS[:-1])
        ends, self._order = np.array(_ends(groups)) // 4, np.arange(n)
        self._order[ends[[0, -2]][:, None] - (3, 1)] = state  # while lost, too
        self._order[ends[[1, -1]] - 1] = time
        words = ends[3 : 3 + len(sent), None] - 7 + np.arange(7)
        self._order[words] = np.hstack([offsets.reshape(J, 3), rotations.reshape(J, 4)])[CANONICAL[sent]]
        self._order[words[0, :3]] = root
        signs = np.zeros(n, ">u4")
        signs[words] = np.where(np.hstack([FLIP_POSITION, FLIP_QUATERNION]) < 0, 1 << 31, 0)
        if self._hips_only:
            signs[words[1:, :3]] = 0
        self._signs = signs.view(np.uint32)
        self._words = np.empty(n, np.uint32)
        whole, stops = self._words.data.cast("B"), np.cumsum([len(packet) for packet in packets]).tolist()
        *self._pose, self._hold = [whole[start:stop] for start, stop in zip([0, *stops], stops)]
        self._start_ns: int | None = None

    def encode(self, pose: Pose, offsets_m: Array | None = None) -> list[memoryview]:
        """The packets of a pose, good until the next call.

        Args:
            offsets_m: (24, 3) rest-pose vector from the parent to each joint [m]; None: the pose's own.
        Returns:
            state, time and bones; or state and time alone while the actor is lost: the avatar stays as it was.
        """
        t_ns, lost = pose.t_ns, pose.status == "lost"
        if self._start_ns is None or t_ns < self._start_ns:
            self._start_ns = t_ns
        self._time[0] = (t_ns - self._start_ns) / SECOND_NS
        self._state[0] = CALIBRATING if pose.status == "calibrating" else CALIBRATED
        self._state[1] = BAD if lost else GOOD
        self._rotations[...], self._root[...] = pose.rotations, pose.root
        if not self._hips_only:
            self._offsets[...] = pose.offsets_m if offsets_m is None else offsets_m
        if not self._upper_chest:
            self._join_chests()
        self._table.take(self._order, out=self._words, mode="clip")  # the mode that needs no buffer
        np.bitwise_xor(self._words, self._signs, self._words)
        return [self._hold] if lost else self._pose

    def _join_chests(self) -> None:
        """Chest turns for UpperChest, whose children hang on it."""
        chest, upper = self._rotations[CHEST], self._rotations[UPPER_CHEST]
        self._rotations[CHEST] = times(chest.tolist(), upper.tolist())
        self._offsets[ON_UPPER_CHEST] += self._offsets[UPPER_CHEST]  # zeros stay zeros


def _packets(messages: Sequence[bytes]) -> list[list[bytes]]:
    """The messages in order, in as few bundles as have at most ``MOST_BYTES``."""
    packets: list[list[bytes]] = [[]]
    for one in messages:
        if len(bundle([*packets[-1], one])) > MOST_BYTES:
            packets.append([])
        packets[-1].append(one)
    return packets


def _ends(groups: Sequence[Sequence[bytes]]) -> list[int]:
    """Where each message ends, in bytes, when the bundles lie one behind the other."""
    ends, at = [], 0
    for group in groups:
        at += HEADER_BYTES
        for one in group:
            at += 4 + len(one)
            ends.append(at)
    return ends


class VmcSender:
    """Sends one actor's poses to one receiver. Never waits, never raises for a receiver that is not there.

    ``sent`` counts poses, ``failed`` those of which a packet could not leave this machine; ``why`` says why, at last.

    Args:
        host, port: where the receiver listens.
        bone_positions, upper_chest: see ``Encoder``.
    Raises:
        ConfigError: there is no such host.
    """

    def __init__(
        self, host: str = "127.0.0.1", port: int = 39539, bone_positions: BonePositions = "all",
        upper_chest: bool = True,
    ) -> None:  # fmt: skip
        try:
            family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
        except (OSError, UnicodeError) as error:
            raise ConfigError(f"{host}: no such host ({error})") from error
        self.name, self._address = f"{host}:{port}", address
        self._encoder = Encoder(bone_positions, upper_chest)
        # Not connected: else the next packet after one that nobody took would fail.
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self.sent = self.failed = 0
        self.why = ""

    def send(self, pose: Pose, offsets_m: Array | None = None) -> None:
        """Send one pose, with the actor's rest-pose offsets (24, 3) [m]; None: the pose's own."""
        try:
            for packet in self._encoder.encode(pose, offsets_m):
                self._socket.sendto(packet, self._address)
            self.sent += 1
        except OSError as error:  # no route, no network, a full queue
            self.failed += 1
            self.why = error.strerror or str(error)

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> VmcSender:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


class Receivers:
    """Who of several actors goes to which receiver: one actor a receiver, for VMC has no names of its own.

    Args:
        senders: one to each receiver.
        actors: whose poses the first, the second and so on gets. None named: actors as they appear; the receiver of one
            of whom nothing came for ``LEFT_NS`` goes to the next newcomer who needs it.
        say: is told, in a line, who goes where, who nowhere, and what cannot be sent.
    Raises:
        ConfigError: not as many names as receivers, or one twice.
    """

    def __init__(self, senders: Sequence[VmcSender], actors: Sequence[str], say: Callable[[str], object]) -> None:
        if actors and len(actors) != len(senders):
            raise ConfigError(
                f"{len(actors)} actors for {len(senders)} receivers: give as many --actor as --to, or none"
            )
        if len(set(actors)) != len(actors):
            raise ConfigError("an actor named twice: each goes to one receiver")
        self._say, self._named, self._senders = say, bool(actors), list(senders)
        self._free = [] if actors else list(senders)
        self._of = dict(zip(actors, senders))
        self._heard_ns: dict[str, int] = {}
        self._nowhere: set[str] = set()
        self._failing: set[str] = set()
        for actor, sender in self._of.items():
            say(f"{actor} -> {sender.name}")

    @property
    def failed(self) -> int:
        """Poses that could not be sent."""
        return sum(sender.failed for sender in self._senders)

    def send(self, pose: Pose) -> None:
        """Send a pose to its actor's receiver, if there is one."""
        sender = self._of.get(pose.actor) or self._found(pose.actor)
        if sender is not None:
            self._heard_ns[pose.actor] = now_ns()
            sender.send(pose)
            if sender.failed and sender.name not in self._failing:
                self._failing.add(sender.name)
                self._say(f"{pose.actor} -> {sender.name}: cannot be sent ({sender.why})")

    def _found(self, actor: str) -> VmcSender | None:
        if self._named:
            return None
        if not self._free:
            for name in [name for name, heard_ns in self._heard_ns.items() if now_ns() - heard_ns > LEFT_NS]:
                del self._heard_ns[name]
                self._free.append(self._of.pop(name))
        if self._free:
            self._of[actor] = sender = self._free.pop(0)
            self._nowhere.discard(actor)
            self._say(f"{actor} -> {sender.name}")
            return sender
        if actor not in self._nowhere and len(self._nowhere) < MOST_NAMES:
            self._nowhere.add(actor)
            self._say(f"{actor}: no receiver is left for it; give another --to")
        return None


@contextmanager
def receivers_at(
    option: str, addresses: Sequence[str], actors: Sequence[str], say: Callable[[str], object],
    bone_positions: BonePositions = "all", upper_chest: bool = True,
) -> Iterator[Receivers]:  # fmt: skip
    """``Receivers`` at addresses HOST:PORT, closed after.

    Args:
        option: of the command line, that gives the addresses.
    Raises:
        ConfigError: one is no address, or is there twice; see ``Receivers``.
    """
    found = [host_and_port(address) for address in addresses]
    if len(set(found)) != len(found):
        raise ConfigError(f"{option}: an address given twice; VMC has no names, each actor needs a port of its own")
    with ExitStack() as stack:
        senders = [stack.enter_context(VmcSender(*at, bone_positions, upper_chest)) for at in found]
        yield Receivers(senders, actors, say)
