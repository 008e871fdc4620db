"""``hpstm view`` in a browser: a real Chromium, and a viser client that reads as slowly as it is told."""

from __future__ import annotations

import io
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import numpy as np
import pytest

from bench.service.child import ServerProcess
from streamer.client import FrameSender
from streamer.clock import now_ns
from streamer.frames import Frame, Pose
from tests.helpers.chromium import Browser, chromium
from tests.helpers.live import wait_until
from tests.helpers.program import HPSTM, Program
from tests.helpers.viewing import SlowClient, moving, recorded

pytest.importorskip("viser", reason="viser is not installed (extra: view)")

from streamer.view.browser import BrowserView, open_viser
from streamer.view.door import Door
from streamer.view.history import History
from streamer.view.inbox import Inbox
from streamer.view.page import page_of
from streamer.view.playback import Player, read_timeline
from streamer.view.remote import Remote, Said
from streamer.view.scene import Scene

WIDTH, HEIGHT = 800, 450
MIDDLE = (slice(60, 420), slice(180, 460))  # rows and columns left of the panel, where the person stands
OWN = re.compile(r"(data|blob|about):")


def picture(browser: Browser) -> np.ndarray:
    """(450, 800, 3) of 0..1."""
    from matplotlib.image import imread

    return np.asarray(imread(io.BytesIO(browser.png())))[..., :3]


def assert_moves(browser: Browser) -> None:
    """Within two minutes (no GPU, two busy cores) somebody is there, in colour, and two pictures differ there."""
    end, before = time.monotonic() + 120.0, None
    while time.monotonic() < end:
        browser.wait(1.0)
        now = picture(browser)[MIDDLE]
        blue = (now[..., 2] > 0.45) & (now[..., 2] > now[..., 0] + 0.15)  # the refined body
        if blue.sum() > 300:
            if before is not None and (np.abs(now - before).max(-1) > 0.2).sum() > 300:
                return
            before = now
    raise AssertionError("nobody moves")


@contextmanager
def walking(server: ServerProcess) -> Iterator[None]:
    """Somebody who walks before the server's source, until the end."""
    stop: list[int] = []

    def send() -> None:
        with FrameSender(server.in_endpoint) as sender:
            while not stop:
                for item in moving(10.0):
                    if isinstance(item, Frame) and not stop:
                        item.t_ns = now_ns()
                        sender.send(item)
                        time.sleep(1 / 30)

    thread = Thread(target=send, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.append(1)
        thread.join(5.0)


@contextmanager
def shown(source: Inbox | Player, remote: Remote | None = None) -> Iterator[BrowserView]:
    """A view that draws from a thread of its own."""
    stop: list[int] = []
    with BrowserView(source, port=0, remote=remote) as view:
        thread = Thread(target=view.run, args=(lambda: bool(stop),), daemon=True)
        thread.start()
        try:
            yield view
        finally:
            stop.append(1)
            thread.join(10.0)
            assert not thread.is_alive()


def put_steadily(inbox: Inbox, stopped: Callable[[], bool]) -> None:
    for item in moving(12.0):
        if stopped():
            return
        inbox.put(item)
        if isinstance(item, Pose):
            time.sleep(1 / 30)


@pytest.mark.timed
@pytest.mark.timeout(240)
@pytest.mark.skipif(chromium() is None, reason="no Chromium here (apt-get install chromium)")
def test_a_running_server_in_chromium() -> None:
    with ServerProcess() as server, walking(server):
        words = ["view", server.out_endpoint, "--control", server.control_endpoint, "--port", "0"]
        with Program([*HPSTM, *words]) as program:
            url = program.stdout.readline().strip().removeprefix("ready view=")
            assert url.startswith("http://127.0.0.1:")
            with Browser(url, WIDTH, HEIGHT) as browser:
                assert_moves(browser)
                text = browser.value("document.body.innerText")
                assert "anna" in text
                assert "jitter" in text
                own = (url, url.replace("http", "ws", 1))
                assert [r for r in browser.requests if not r.startswith(own) and not OWN.match(r)] == []
                assert browser.said == []


@pytest.mark.timed
@pytest.mark.timeout(240)
@pytest.mark.skipif(chromium() is None, reason="no Chromium here (apt-get install chromium)")
def test_a_page_opens_without_a_server_and_moves(tmp_path: Path) -> None:
    out, seconds = tmp_path / "take.html", 4.0
    timeline = read_timeline(recorded(tmp_path / "take.hpstm", moving(seconds)))
    html = page_of(timeline, "a <take>")
    out.write_text(html)
    assert len(html.encode()) < 1.5e6
    assert "<b>a &lt;take&gt;</b>" in html
    assert set(re.findall(r"https?://[\w./-]+", html.split("__VISER_EMBED_DATA__")[0])) <= {
        "http://www.w3.org/2000/svg"
    }
    with Browser(out.as_uri(), WIDTH, HEIGHT) as browser:
        assert_moves(browser)
        assert [r for r in browser.requests if r != out.as_uri() and not OWN.match(r)] == []
        assert browser.said == []


@pytest.mark.timed
def test_a_browser_that_is_slow_stays_current() -> None:
    """It takes 8 messages a second, a quarter of what comes: without a pace it would be seconds behind."""
    inbox, stop = Inbox(), [0]
    feeding = Thread(target=put_steadily, args=(inbox, lambda: bool(stop[0])), daemon=True)
    feeding.start()
    with shown(inbox) as view:
        client, ages, end = SlowClient(view.url), [], time.monotonic() + 5.0
        while time.monotonic() < end:
            ages.append(client.read()[0])
            time.sleep(1 / 8)
        client.close()
        assert len(ages) > 20
        assert max(ages[-10:]) < 0.8
    stop[0] = 1
    feeding.join(5.0)


class Wishes(Remote):
    """A remote that only notes what it is told to change."""

    def __init__(self) -> None:
        super().__init__("tcp://127.0.0.1:1")
        self.said = Said(True, 0.05, 0.0, 0.0)
        self.wishes: list[dict[str, float]] = []

    def wish(self, **settings: float) -> None:
        self.wishes.append(settings)


def test_sliders_set_the_time_of_the_poses() -> None:
    remote = Wishes()
    with shown(Inbox(), remote) as view:
        client = SlowClient(view.url)
        delay = client.find("Delay [ms]")
        time.sleep(0.5)
        assert remote.wishes == []  # that the server's own time is shown is no wish
        client.change(delay, 100)
        wait_until(lambda: remote.wishes == [{"delay_s": 0.1}])
        client.close()


def test_a_recording_is_paused_and_scrubbed_from_the_page(tmp_path: Path) -> None:
    player = Player(read_timeline(recorded(tmp_path / "take.hpstm", moving(3.0))))
    player.pause()
    with shown(player) as view:
        client = SlowClient(view.url)
        place = client.find("Time [s]")
        client.change(place, 1.5)
        wait_until(lambda: player.at_s == 1.5)
        assert not player.playing
        client.close()


def test_who_comes_back_has_the_same_colour() -> None:
    server = open_viser("127.0.0.1", 0, Door("127.0.0.1", (), print))
    try:
        scene, history = Scene(server), History()
        history.saw([item for name in ("anna", "ben") for item in moving(0.2, name)], 0)
        anna, ben = history.actors.values()
        scene.draw([anna, ben], 0.03)
        colours = scene.colour_of("anna"), scene.colour_of("ben")
        assert len(set(colours)) == 2
        scene.draw([], 0.03)
        scene.draw([ben], 0.03)
        scene.draw([ben, anna], 0.03)
        assert (scene.colour_of("anna"), scene.colour_of("ben")) == colours
    finally:
        server.stop()
