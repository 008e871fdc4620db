"""``hpstm bench fuzz``: millions of harmed messages through the server's own turns, and what may not happen.

Each turn takes some harmed frames of many actors, and one good frame of an actor called ``steady``; beside that, harmed
requests, subscriptions and answers. Held to be wrong: an error that is not one of ours, a message that is in no book, a
pose with a number that is not finite, a steady actor without its pose, memory that grows.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from random import Random
from typing import Any

import msgpack  # type: ignore[import-untyped]
import numpy as np
import psutil
from rich.console import Console
from rich.table import Table

from bench.options import Json
from bench.report import console, interruptible, machine, machine_line, write_json
from bench.service import mutations
from bench.service.turn_by_turn import TurnByTurn, balanced
from streamer.cli import main
from streamer.clock import SECOND_NS
from streamer.errors import ProtocolError
from streamer.filter import PoseFilter
from streamer.frames import Frame, Pose
from streamer.runtimes import load_runtime
from streamer.wire.protocol import Encoder, decode

FRAMES = 56  # harmed ones a turn
OTHERS = 8  # harmed answers, requests and subscriptions a turn
MOST_ACTORS = 12
WARM_TURNS = 5000  # after which memory is to stay
SAY_EVERY_S = 30.0
MIB = 1024 * 1024


@dataclass
class Findings:
    """What was sent, and what went wrong: ``wrong`` by kind, and for each kind the first turn that showed it."""

    messages: int = 0
    poses: int = 0
    wrong: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)

    def note(self, kind: str, said: str) -> None:
        self.wrong[kind] += 1
        self.first.setdefault(kind, said)


class Fuzz:
    """A server that is fed harmed messages, turn by turn; the same seed, the same messages."""

    def __init__(self, pose_filter: PoseFilter, seed: int = 0, **settings: Any) -> None:
        self.seed, self.turns = seed, 0
        self.findings = Findings()
        self._running = TurnByTurn(pose_filter, max_actors=MOST_ACTORS, evict_s=2.0, **settings)
        self._encoder = Encoder()
        self._sent = self._errors = 0

    def turn(self) -> None:
        """One more; what it shows is in ``findings``."""
        rng = Random(f"{self.seed}/{self.turns}")
        steady = self._steady()
        names, now = rng.choices(mutations.NAMES, k=FRAMES), 4 * self.turns
        messages = [mutations.harmed(rng, mutations.frame(rng, now + i % 4, name)) for i, name in enumerate(names)]
        self._running.turn([steady, *messages])
        self._sent += 1 + len(messages)
        self._check_turn()
        self._others(rng)
        self.findings.messages += FRAMES + OTHERS
        self.turns += 1

    def _steady(self) -> bytes:
        positions = mutations.BODY + np.float32(0.05 * np.sin(0.1 * self.turns))
        return self._encoder.frame(Frame("steady", self.turns, self.turns * SECOND_NS // 60, positions))

    def _note(self, kind: str, said: str) -> None:
        self.findings.note(kind, f"turn {self.turns} of seed {self.seed}: {said}")

    def _check_turn(self) -> None:
        running = self._running
        books = running.books
        if not balanced(books) or books["messages_in"] != self._sent:
            self._note("books", str(books))
        errors = running.value("loop_errors")
        if errors != self._errors:
            self._note("errors", "an unexpected error in the loop; its traceback is in the log")
            self._errors = errors
        seen = set()
        for pose in running.poses():
            self.findings.poses += 1
            seen.add(pose.actor)
            if not is_finite(pose):
                self._note("not finite", f"a pose of {pose.actor!r}, seq {pose.seq}, {pose.status}")
        if "steady" not in seen:
            self._note("steady", "no pose of the steady actor")

    def _others(self, rng: Random) -> None:
        try:
            decode(mutations.harmed(rng, mutations.answer(rng)))
        except ProtocolError:
            pass
        except Exception as error:  # noqa: BLE001  what is looked for
            self._note("decode", repr(error))
        for _ in range(OTHERS - 3):
            self._ask(mutations.harmed(rng, mutations.request(rng)))
        self._running.subscriptions(mutations.subscription(rng), mutations.subscription(rng))

    def _ask(self, request: bytes) -> None:
        if b"shutdown" in request:
            return
        _, reply = self._running.server._control.answer(request)
        fields = msgpack.unpackb(reply)
        if fields.get("ok") not in (True, False):
            self._note("control", f"a reply without ok to {request!r:.80}")
        elif not fields["ok"] and fields["error"]["reason"] == "error":
            self._note("control", f"{fields['error']['message']} for {request!r:.200}")


def is_finite(pose: Pose) -> bool:
    """Is every number of the pose one?"""
    arrays = (pose.positions, pose.rotations, pose.root, pose.lengths_m, pose.offsets_m, pose.covariance, pose.contact)
    return all(np.isfinite(array).all() for array in arrays)


def run(fuzz: Fuzz, count: int, out: Console) -> dict[str, Any]:
    """Fuzz until ``count`` messages are through or somebody interrupts; what came of it as plain numbers."""
    process, started, said = psutil.Process(), time.monotonic(), time.monotonic()
    warm_mib, warm_messages = float("nan"), 0
    with interruptible() as stopped:
        while fuzz.findings.messages < count and not stopped():
            fuzz.turn()
            if fuzz.turns == WARM_TURNS:
                warm_mib, warm_messages = process.memory_info().rss / MIB, fuzz.findings.messages
            if time.monotonic() - said > SAY_EVERY_S:
                said = time.monotonic()
                rate = fuzz.findings.messages / (said - started)
                out.print(f"{fuzz.findings.messages:,} messages, {rate:,.0f}/s, wrong: {dict(fuzz.findings.wrong)}")
    findings, seconds = fuzz.findings, time.monotonic() - started
    after = max(findings.messages - warm_messages, 1)
    return {
        "seed": fuzz.seed, "messages": findings.messages, "turns": fuzz.turns, "seconds": seconds,
        "messages_per_s": findings.messages / seconds, "poses": findings.poses,
        "growth_mib": process.memory_info().rss / MIB - warm_mib, "messages_after_warm_up": after,
        "wrong": dict(findings.wrong), "first": findings.first, "books": fuzz._running.books,
        "rejected": fuzz._running.server.metrics.by_label("rejected"),
    }  # fmt: skip


def table(result: dict[str, Any]) -> Table:
    out = Table("harmed messages", "a second", "poses", "growth after warm-up [MiB]", "wrong")
    wrong = ", ".join(f"{kind}: {n}" for kind, n in result["wrong"].items()) or "nothing"
    out.add_row(f"{result['messages']:,}", f"{result['messages_per_s']:,.0f}", f"{result['poses']:,}",
                f"{result['growth_mib']:.1f}", wrong)  # fmt: skip
    return out


def command(*, count: int = 1_000_000, seed: int = 0, json: Json = None) -> int:
    """Harmed messages through a server's own turns: nothing but named rejections, no growth, no number that is none.

    Args:
        count: How many messages.
        seed: The same seed, the same messages.
    """
    out = console()
    result = run(Fuzz(PoseFilter(load_runtime("auto"), max_actors=MOST_ACTORS), seed), count, out)
    out.print(table(result))
    for kind, said in result["first"].items():
        out.print(f"{kind}: first in {said}")
    out.print(machine_line(machine()))
    if json:
        write_json(json, result)
    return 1 if result["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main(["bench", "fuzz", *sys.argv[1:]]))
