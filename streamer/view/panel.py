"""What stands beside the picture: status in words and numbers, curves, what is to be shown, time, the recording."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from typing import Any

import numpy as np

from streamer.clock import SECOND_NS, now_ns
from streamer.frames import Array
from streamer.view.history import Curves, Numbers, Seen
from streamer.view.playback import SPEEDS, Player
from streamer.view.remote import Remote, Said
from streamer.view.scene import Scene
from streamer.view.shapes import NOISY, STANDING, Colour, colour_of

GREY = "#8a93a3"
PLOT_S = 60.0  # that the curves show
SETTLED_NS = 2 * SECOND_NS  # after a slider was moved, the server says what was asked of it
_SWITCHES = {
    "refined": "Refined", "noisy": "Noisy input", "uncertainty": "Uncertainty (2 σ)", "trails": "Trails",
    "names": "Names", "follow": "Keep in the middle",
}  # fmt: skip
_RATES = {"every frame": 0.0, "30 Hz": 30.0, "60 Hz": 60.0, "90 Hz": 90.0, "120 Hz": 120.0}


def css(colour: Colour) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)


def number(value: float, form: str = ".1f") -> str:
    return format(value, form) if np.isfinite(value) else "-"


def whole(*rows: Array) -> tuple[Array, ...] | None:
    """Rows (N,) without the places where one of them is NaN, which breaks a plot; None: too little is left."""
    kept = np.isfinite(rows).all(0)
    return tuple(row[kept] for row in rows) if kept.sum() > 1 else None


class Panel:
    """The controls of one viser server.

    Args:
        remote: the server whose poses are shown, if it is there: its time can be set.
        player: the recording that is shown, if it is one.
    """

    def __init__(self, server: Any, scene: Scene, remote: Remote | None, player: Player | None) -> None:
        self._gui, self._scene, self._remote, self._player = server.gui, scene, remote, player
        self._gui.configure_theme(
            dark_mode=True, show_logo=False, show_share_button=False, control_width="medium", brand_color=colour_of(0)
        )
        self._status = self._gui.add_html("")
        self._said = ""
        if player is not None:
            self._add_player(player)
        self._jitter = self._add_plot("jitter, last minute [mm/frame²]", (NOISY, colour_of(0)))
        self._latency = self._add_plot("latency, last minute [ms]", (colour_of(0),)) if player is None else None
        if remote is not None:
            self._add_time(remote)
        self._add_switches(scene)

    # -- what it says -------------------------------------------------------------------------------------------------

    def tell(self, actors: list[Seen], said: Said | None, note: str) -> None:
        """Brings the words up to date; ``note`` is about no actor."""
        text = status_html(actors, said, note, self._scene.colour_of)
        if text != self._said:
            self._said = self._status.content = text
        if said is not None:
            self._show_time(said)

    def plot(self, curves: Curves) -> None:
        """Brings the curves up to date."""
        rows = curves.array()
        at = dict(zip(("seconds", *Numbers._fields), rows, strict=True))
        shown: list[tuple[Any, tuple[str, ...]]] = [(self._jitter, ("jitter_in_mm", "jitter_out_mm"))]
        shown += [(self._latency, ("latency_ms",))] if self._latency is not None else []
        for plot, names in shown:
            data = whole(at["seconds"], *(at[name] for name in names))
            if data is not None:
                plot.data = data

    def _add_plot(self, title: str, colours: tuple[Colour, ...]) -> Any:
        seconds = np.array([-1.0, 0.0])
        low, high = {"pad": 0.0, "soft": 0.0, "mode": 1}, {"pad": 0.1, "soft": 0.1, "mode": 1}  # 0 is always there
        axis = {"stroke": GREY, "grid": {"stroke": "#3a3f4a", "width": 1}, "ticks": {"show": False}}
        scales = {"x": {"time": False, "range": (-PLOT_S, 0.0)}, "y": {"range": {"min": low, "max": high}}}
        return self._gui.add_uplot(
            (seconds, *(np.zeros(2) for _ in colours)),
            ({}, *({"stroke": css(colour), "width": 2, "points": {"show": False}} for colour in colours)),
            title=title, scales=scales, height=92, legend={"show": False}, padding=(6, 12, 10, 0),
            axes=({"show": False}, {**axis, "size": 40}),
        )  # fmt: skip

    # -- what it changes ----------------------------------------------------------------------------------------------

    def _add_switches(self, scene: Scene) -> None:
        shown = scene.shown
        with self._gui.add_folder("Show", expand_by_default=self._player is not None):
            for name, label in _SWITCHES.items():
                box = self._gui.add_checkbox(label, initial_value=getattr(shown, name))
                box.on_update(lambda event, name=name: setattr(shown, name, bool(event.target.value)))
            self._gui.add_button("Look from the front").on_click(lambda _: scene.reframe())

    def _add_time(self, remote: Remote) -> None:
        self._shown_time: tuple[float | None, ...] = ()
        self._wished_ns = 0

        def wish(**settings: float) -> None:
            self._wished_ns = now_ns()
            remote.wish(**settings)

        self._folder = self._gui.add_folder("Time of the poses", visible=False)
        with self._folder:
            self._delay = self._gui.add_slider("Delay [ms]", 0, 200, 5, 0)
            self._predict = self._gui.add_slider("Predict [ms]", 0, 150, 5, 0)
            self._rate = self._gui.add_dropdown("Rate", tuple(_RATES))

        def set_delay(event: Any) -> None:
            if event.client_id is not None:  # somebody moved it: not what the server said
                self._predict.value = 0
                wish(delay_s=event.target.value / 1e3)

        def set_predict(event: Any) -> None:
            if event.client_id is not None:
                self._delay.value = 0
                wish(predict_s=event.target.value / 1e3)

        def set_rate(event: Any) -> None:
            if event.client_id is not None:
                wish(rate_hz=_RATES[event.target.value])

        self._delay.on_update(set_delay)
        self._predict.on_update(set_predict)
        self._rate.on_update(set_rate)

    def _show_time(self, said: Said) -> None:
        if self._folder.visible != said.can_be_set:
            self._folder.visible = said.can_be_set
        times = (said.delay_s, said.predict_s, said.rate_hz)
        if times != self._shown_time and now_ns() - self._wished_ns > SETTLED_NS:  # set by somebody else
            self._shown_time = times
            self._delay.value = round(1e3 * (said.delay_s or 0.0))
            self._predict.value = round(1e3 * (said.predict_s or 0.0))
            rate = said.rate_hz or 0.0
            self._rate.value = min(_RATES, key=lambda name: abs(_RATES[name] - rate))

    def _add_player(self, player: Player) -> None:
        with self._gui.add_folder("Recording"):
            self._place = self._gui.add_slider("Time [s]", 0.0, round(max(player.end_s, 0.1), 2), 0.01, 0.0)
            self._play = self._gui.add_button("Pause")
            speed = self._gui.add_dropdown("Speed", tuple(SPEEDS), initial_value="1")

        def scrub(event: Any) -> None:
            if event.client_id is not None:
                player.seek(float(event.target.value))

        self._place.on_update(scrub)
        self._play.on_click(lambda _: player.pause() if player.playing else player.play())
        speed.on_update(lambda event: player.set_speed(SPEEDS[event.target.value]))

    def follow_player(self) -> None:
        """Brings slider and button up to date with the player."""
        if self._player is not None:
            place = round(self._player.at_s, 2)
            if self._player.playing and place != self._place.value:
                self._place.value = min(place, self._place.max)
            label = "Pause" if self._player.playing else "Play"
            if self._play.label != label:
                self._play.label = label


def status_html(actors: list[Seen], said: Said | None, note: str, colour: Callable[[str], Colour]) -> str:
    """A few lines for each actor, and what is to be said beside."""
    parts = [
        _actor_html(seen, colour(seen.actor), (said.warnings if said else {}).get(seen.actor, [])) for seen in actors
    ]
    troubles = filter(None, (note, said.trouble if said is not None else ""))
    parts += [f'<div style="color:#ffb454;margin-top:4px">{escape(text)}</div>' for text in troubles]
    legend = (
        f'<div style="color:{GREY};margin-top:4px;font-size:0.85em"><span style="color:{css(NOISY)}">━</span> input'
        f' &nbsp; <span style="color:{css(colour_of(0))}">━</span> refined'
        f' &nbsp; <span style="color:{css(STANDING)}">●</span> foot stands &nbsp; ◌ 2 σ</div>'
    )
    return f'<div style="padding:2px 10px 4px;font-size:0.82em;line-height:1.5">{"".join(parts)}{legend}</div>'


def _actor_html(seen: Seen, colour: Colour, warnings: list[str]) -> str:
    status = seen.pose.status if seen.pose is not None else "input only"
    rate, jitter_in, jitter_out, latency, sigma = seen.numbers
    lines = [
        f'<div><span style="color:{css(colour)}">●</span> <b>{escape(seen.actor)}</b> &nbsp;{escape(status)}'
        f'<span style="color:{GREY}"> &nbsp;{number(rate, ".0f")} Hz &nbsp;{number(latency, ".2f")} ms'
        f" &nbsp;±{number(sigma, '.0f')} mm</span></div>",
        f'<div style="color:{GREY}">jitter <span style="color:{css(NOISY)}">{number(jitter_in)}</span> →'
        f' <span style="color:{css(colour)}">{number(jitter_out)}</span> mm/frame²</div>',
    ]
    lines += [f'<div style="color:#ffb454">⚠ {escape(text)}</div>' for text in warnings]
    return "".join(lines)
