"""Which frames may go through the filter together."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence

from streamer.frames import Frame


def batches(frames: Sequence[Frame], known: Container[str]) -> Iterator[list[int]]:
    """Places of frames that may go together, in an order that tells each actor's story as it was.

    An actor's n-th frame goes with the others' n-th. But whether an actor that is not ``known`` may come in depends on
    who came before: the second frame of one waits until all before it are done.
    """
    waiting: list[list[int]] = []
    turns: dict[str, int] = {}
    for place, frame in enumerate(frames):
        turn = turns.get(frame.actor, 0)
        if turn and frame.actor not in known:
            yield from waiting
            waiting, turns, turn = [], {}, 0
        if turn == len(waiting):
            waiting.append([])
        waiting[turn].append(place)
        turns[frame.actor] = turn + 1
    yield from waiting
