"""The view in a browser: a viser server, and the loop that draws what waits in an inbox, or what a player plays.

Whoever has poses at hand gives them to the inbox and goes on; drawing is this side's business, at the browsers' pace.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from streamer.clock import SECOND_NS, now_ns
from streamer.errors import ConfigError
from streamer.view.door import Door, guarded
from streamer.view.history import Curves, History, Numbers, Seen
from streamer.view.inbox import Inbox
from streamer.view.pace import Pace
from streamer.view.panel import Panel
from streamer.view.playback import Player
from streamer.view.remote import Remote
from streamer.view.scene import Scene

TELL_NS = SECOND_NS // 4  # words change that often,
PLOT_NS = SECOND_NS // 2  # and curves


def open_viser(host: str, port: int, door: Door) -> Any:
    """A ``viser.ViserServer`` that says nothing of itself. Raises ConfigError when the port is taken."""
    import socket

    import viser

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:  # viser would take the next one, and say so to nobody
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        raise ConfigError(f"--host {host} --port {port}: cannot listen there ({error.strerror or error})") from error
    with contextlib.redirect_stdout(io.StringIO()), guarded(door):
        return viser.ViserServer(host, port, label="HPSTM Live", verbose=False)


class BrowserView:
    """The view on a port, between ``with`` and its end; ``run`` draws until it is told to stop.

    Args:
        source: the inbox of what is live, or the player of a recording.
        remote: the server whose poses these are, for its warnings and its time.
        note: one sentence beside the picture, asked for each time; "" for none.
        origins: pages from there may connect, beside its own, as "https://example.org" ("null": files).
        say: takes one line of text for each origin that is refused.
    """

    def __init__(
        self, source: Inbox | Player, host: str = "127.0.0.1", port: int = 8080, remote: Remote | None = None,
        note: Callable[[], str] = str, origins: Sequence[str] = (), say: Callable[[str], None] = print,
    ) -> None:  # fmt: skip
        self._source, self._remote, self._note = source, remote, note
        self._server = open_viser(host, port, Door(host, origins, say))
        self._pace = Pace(self._server)
        self._scene = Scene(self._server)
        self._history, self._curves = History(), Curves()
        player = source if isinstance(source, Player) else None
        self._panel = Panel(self._server, self._scene, remote, player)
        self._told_ns = self._plotted_ns = self._drawn_ns = 0
        shown = f"[{host}]" if ":" in host else host
        self.url = f"http://{shown}:{self._server.get_port()}"

    def __enter__(self) -> BrowserView:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            self._server.stop()

    def run(self, stopped: Callable[[], bool]) -> None:
        """Draws until ``stopped()``, which is asked before each picture."""
        while not stopped():
            self.draw(now_ns())
            self._pace.drawn()
            self._pace.wait()

    def draw(self, now: int) -> None:
        """One picture of what there is at a time on this process's clock."""
        if isinstance(self._source, Player):
            items, goes_on = self._source.step(now)
            if not goes_on:
                self._history.clear()
            self._history.saw(items, round(self._source.at_s * SECOND_NS))
        else:
            self._history.saw(self._source.take(), now)
        actors = list(self._history.actors.values())
        self._scene.draw(actors, (now - self._drawn_ns) / SECOND_NS)
        self._drawn_ns = now
        self._panel.follow_player()
        if now - self._told_ns >= TELL_NS:
            self._told_ns = now
            said = self._remote.said if self._remote is not None else None
            self._panel.tell(actors, said, self._note())
        if now - self._plotted_ns >= PLOT_NS and actors:
            self._plotted_ns = now
            self._curves.add(_mean(actors))
            self._panel.plot(self._curves)


def _mean(actors: list[Seen]) -> Numbers:
    """Over the actors, of each number what there is."""
    columns = np.array([seen.numbers for seen in actors]).T
    return Numbers(*(float(np.mean(c[np.isfinite(c)])) if np.isfinite(c).any() else np.nan for c in columns))
