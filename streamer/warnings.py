"""What is to be said about an actor's stream, in sentences, and how often each thing happened."""

from __future__ import annotations

from collections import Counter


class Warnings:
    """The sentences of each actor, one of a kind, and the counts of all events; nothing is printed."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._said: dict[str, dict[str, str]] = {}

    def of(self, actor: str) -> list[str]:
        return list(self._said.get(actor, {}).values())

    def count(self, kind: str, actor: str, sentence: str) -> None:
        """Something has happened."""
        self.counts[kind] += 1
        self.say(kind, actor, sentence)

    def say(self, kind: str, actor: str, sentence: str) -> None:
        """``sentence``, which goes on after the actor's name, in place of what was said of this kind before."""
        self._said.setdefault(actor, {})[kind] = f"actor {actor!r}: {sentence}"

    def state(self, kind: str, actor: str, sentence: str | None) -> None:
        """What is so now: counted when it begins, taken back when it is so no more (None)."""
        known = self._said.get(actor, {})
        if sentence is None:
            known.pop(kind, None)
        elif kind in known:
            self.say(kind, actor, sentence)
        else:
            self.count(kind, actor, sentence)

    def forget(self, actor: str) -> None:
        self._said.pop(actor, None)
