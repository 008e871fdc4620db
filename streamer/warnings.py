"""What is to be said about an actor's stream, in sentences, and how often each thing happened."""

from __future__ import annotations

from collections import Counter

MOST_NAMES = 4096  # who was refused from the first frame on is told, too, but not without end
OF_THE_SOURCE = {"absurd": "scale"}  # reason -> kind


class Warnings:
    """The sentences of each actor, one of a kind, and the counts of all events; nothing is printed."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._said: dict[str, dict[str, str]] = {}

    def of(self, actor: str | None) -> list[str]:
        """An actor's sentences; None: everybody's."""
        some = self._said.values() if actor is None else [self._said.get(actor, {})]
        return [sentence for said in some for sentence in said.values()]

    def count(self, kind: str, actor: str, sentence: str) -> None:
        """Something has happened."""
        self.counts[kind] += 1
        self.say(kind, actor, sentence)

    def rejected(self, reason: str, actor: str, sentence: str) -> None:
        """A frame was refused for what its source always does."""
        if reason in OF_THE_SOURCE:
            self.state(OF_THE_SOURCE[reason], actor, sentence)

    def say(self, kind: str, actor: str, sentence: str) -> None:
        """``sentence``, which goes on after the actor's name, in place of what was said of this kind before."""
        if actor not in self._said and len(self._said) >= MOST_NAMES:
            del self._said[next(iter(self._said))]
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
