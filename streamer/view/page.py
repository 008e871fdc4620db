"""A recording as one page: viser's own player with the scene in it. It opens without a server, without a network."""

from __future__ import annotations

import contextlib
import io
from html import escape
from pathlib import Path

from model.prepare import ClipError, new_file
from streamer.clock import SECOND_NS
from streamer.errors import ConfigError
from streamer.view.browser import open_viser
from streamer.view.door import Door
from streamer.view.history import History
from streamer.view.panel import css
from streamer.view.playback import Player, Timeline
from streamer.view.scene import Scene
from streamer.view.shapes import NOISY, STANDING, colour_of

FPS = 30.0


def write_page(timeline: Timeline, out: Path, title: str) -> str:
    """Writes a timeline to a new file; a line about it.

    Raises:
        ConfigError: the file exists, or cannot be made.
    """
    try:
        with new_file(out) as file:
            page = page_of(timeline, title).encode()
            file.write(page)
    except ClipError as error:
        raise ConfigError(str(error)) from error
    return f"{out}: {timeline.end_s:.1f} s of {', '.join(timeline.actors)}, {len(page) / 1e6:.1f} MB"


def page_of(timeline: Timeline, title: str) -> str:
    """The page as HTML."""
    server = open_viser("127.0.0.1", 0, Door("127.0.0.1", (), print))
    try:
        scene, history = Scene(server, ahead_of_panel=False), History()
        player = Player(timeline, loop=False)
        serializer = None
        for n in range(round(timeline.end_s * FPS) + 1):
            items, _ = player.step(round(n / FPS * SECOND_NS))
            history.saw(items, round(player.at_s * SECOND_NS))
            scene.draw(list(history.actors.values()), 1.0 / FPS)
            if serializer is None:
                serializer = server.get_scene_serializer()  # one page is one serializer, with all that is there by now
            serializer.insert_sleep(1.0 / FPS)
        assert serializer is not None
        html: str = serializer.as_html(dark_mode=True)
    finally:
        with contextlib.redirect_stdout(io.StringIO()):
            server.stop()
    return _with_words(html, title)


def _with_words(html: str, title: str) -> str:
    """The page with a title, and what the colours mean."""
    colours = ((NOISY, "━", "input"), (colour_of(0), "━", "refined"), (STANDING, "●", "foot stands"))
    words = " &nbsp; ".join(f'<span style="color:{css(colour)}">{sign}</span> {word}' for colour, sign, word in colours)
    style = "position:fixed;left:14px;top:12px;z-index:9;pointer-events:none;color:#dfe4ee;font:14px/1.5 sans-serif"
    legend = f'<div style="{style}"><b>{escape(title)}</b><br>{words} &nbsp; ◌ 2 σ</div>'
    html = html.replace("<title>Viser</title>", f"<title>{escape(title)}</title>", 1)
    before, _, after = html.rpartition("</body>")
    return f"{before}{legend}</body>{after}" if before else html + legend
