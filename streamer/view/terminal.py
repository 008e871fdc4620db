"""The view in a terminal: bodies as Braille dots as a camera in front of them sees them, and a line for each actor.

The camera stands before the people, at +Z: the left hand of somebody who faces it is on the right.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import numpy as np
from rich.console import Console
from rich.live import Live
from rich.text import Text

from streamer.clock import SECOND_NS, now_ns
from streamer.frames import Array
from streamer.view.body import lines
from streamer.view.braille import Dots, character
from streamer.view.history import History, Seen
from streamer.view.inbox import Inbox
from streamer.view.playback import Player

HZ = 15.0
_COLOURS = ("bright_blue", "dark_orange", "medium_purple", "turquoise2", "hot_pink", "yellow")
_NOISY = "red"
_TALL_M = 2.1  # that the picture shows
_FOLLOW = 0.2


class Picture:
    """Draws actors; stays where it was put, and follows them slowly."""

    def __init__(self) -> None:
        self._middle: float | None = None
        self._floor = 0.0

    def text(self, actors: list[Seen], columns: int, rows: int) -> Text:
        """The picture, ``columns`` by ``rows`` characters; refined bodies are drawn over the noisy input."""
        self._move(actors)
        layers = [(_NOISY, seen.noisy, False) for seen in actors if seen.noisy is not None]
        layers += [
            (_COLOURS[n % len(_COLOURS)], s.pose.positions, True) for n, s in enumerate(actors) if s.pose is not None
        ]
        cells = [[(0, "")] * columns for _ in range(rows)]
        for colour, joints, over in layers:
            for row, codes in zip(cells, self._dots(joints, columns, rows).codes(), strict=True):
                for at, code in enumerate(codes):
                    if code:
                        row[at] = (code | row[at][0], colour if over or not row[at][0] else row[at][1])
        drawn = Text()
        for row in cells:
            for code, colour in row:
                drawn.append(character(code), colour or None)
            drawn.append("\n")
        return drawn

    def _dots(self, joints: Array, columns: int, rows: int) -> Dots:
        dots = Dots(columns, rows)
        corner = np.array([(self._middle or 0.0) - 0.5 * _TALL_M * dots.width / dots.height, self._floor - 0.05])
        for start, end in (lines(joints)[..., :2] - corner) * (dots.height / _TALL_M):
            dots.line(start, end)
        return dots

    def _move(self, actors: list[Seen]) -> None:
        bodies = [s.pose.positions if s.pose is not None else s.noisy for s in actors]
        seen = [body[np.isfinite(body).all(-1)] for body in bodies if body is not None]
        seen = [body for body in seen if len(body)]
        if not seen:
            return
        middles = [float(body[:, 0].mean()) for body in seen]
        middle = 0.5 * (min(middles) + max(middles))
        if self._middle is None:
            self._middle = middle
            self._floor = min(float(body[:, 1].min()) for body in seen)
        self._middle += _FOLLOW * (middle - self._middle)
        self._floor = min(self._floor, *(float(body[:, 1].min()) for body in seen))


def words(seen: Seen, order: int) -> Text:
    """An actor in one line."""
    rate, jitter_in, jitter_out, latency, sigma = (f"{v:.1f}" if np.isfinite(v) else "-" for v in seen.numbers)
    status = seen.pose.status if seen.pose is not None else "input only"
    said = f" {status}  {rate} Hz  {latency} ms  jitter {jitter_in} -> {jitter_out} mm/frame²  ±{sigma} mm"
    return Text.assemble((f"● {seen.actor}", _COLOURS[order % len(_COLOURS)]), said, overflow="ellipsis", no_wrap=True)


def draw_until(
    stopped: Callable[[], bool],
    source: Inbox | Player,
    title: str,
    note: Callable[[], str],
    console: Console | None = None,
) -> None:
    """Draws what waits in an inbox, or what a player plays, until ``stopped()``; without a terminal, the last picture.

    Args:
        note: one sentence more, "" for none.
    """
    console = console or Console(file=sys.stdout)
    history, picture = History(), Picture()

    def drawn() -> Text:
        actors = list(history.actors.values())
        at = f"  {source.at_s:.1f} of {source.end_s:.1f} s" if isinstance(source, Player) else ""
        lines_below = [words(seen, n) for n, seen in enumerate(actors)] or [Text("nobody yet")]
        rows = max(8, (console.height if console.is_terminal else 26) - 3 - len(lines_below))
        body = picture.text(actors, max(20, min(console.width - 1, 4 * rows)), rows)
        return Text("\n").join([Text(title + at, "bold"), body, *lines_below, Text(note(), "yellow")])

    with Live(console=console, auto_refresh=False, transient=False) as live:
        while not stopped():
            if isinstance(source, Player):
                items, goes_on = source.step(now_ns())
                if not goes_on:
                    history.clear()
                history.saw(items, round(source.at_s * SECOND_NS))
            else:
                history.saw(source.take(), now_ns())
            live.update(drawn(), refresh=console.is_terminal)
            time.sleep(1.0 / HZ)
        live.update(drawn(), refresh=True)
