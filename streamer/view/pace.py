"""When the next picture may be drawn: when the browsers have the last one, and not more often than is of use.

Sockets hold seconds of pictures, which a slow browser would then show one by one, ever later. So each browser is asked
after every picture whether it is there yet (it answers in its turn), and what came meanwhile is left out.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from threading import Condition, Thread
from typing import Any

MOST_HZ = 30.0
AWAY_S = 3.0  # without an answer for so long a browser is not waited for: a tab in the background
IDLE_S = 0.5  # between pictures that nobody sees


@dataclass
class _Browser:
    asked: int = 0
    answered: int = 0
    away: bool = False
    gone: bool = False


class Pace:
    """The pace of the pictures of one viser server."""

    def __init__(self, server: Any) -> None:
        self._browsers: dict[int, _Browser] = {}
        self._picture = 0
        self._drawn_s = 0.0
        self._news = Condition()
        server.on_client_connect(self._came)
        server.on_client_disconnect(self._went)

    @property
    def browsers(self) -> int:
        return len(self._browsers)

    def wait(self) -> None:
        """Returns when it is time for the next picture."""
        time.sleep(max(0.0, self._drawn_s + 1.0 / MOST_HZ - time.monotonic()))
        with self._news:
            left_s = self._drawn_s + IDLE_S - time.monotonic()
            watching = [browser for browser in self._browsers.values() if not browser.away]
            self._news.wait_for(self._have_it, AWAY_S if watching else max(0.0, left_s))

    def drawn(self) -> None:
        """A picture was sent."""
        with self._news:
            self._drawn_s = time.monotonic()
            self._picture += 1
            self._news.notify_all()

    def _have_it(self) -> bool:
        watching = [browser for browser in self._browsers.values() if not browser.away]
        return bool(watching) and all(browser.answered >= self._picture for browser in watching)

    def _came(self, client: Any) -> None:
        browser = _Browser(answered=self._picture)
        with self._news:
            self._browsers[client.client_id] = browser
            self._news.notify_all()
        Thread(target=self._ask, args=(client, browser), name="view-pace", daemon=True).start()

    def _went(self, client: Any) -> None:
        with self._news:
            browser = self._browsers.pop(client.client_id, None)
            if browser is not None:
                browser.gone = True
            self._news.notify_all()

    def _ask(self, client: Any, browser: _Browser) -> None:
        while True:
            with self._news:
                self._news.wait_for(lambda: browser.gone or self._picture > browser.asked)
                browser.asked = self._picture
            if browser.gone:
                return
            away = False
            try:
                client.local_storage.get_item("hpstm", timeout=AWAY_S)
            except TimeoutError:
                away = True
            except RuntimeError:  # it went, which is noted elsewhere; or it keeps nothing: also an answer
                pass
            with self._news:
                browser.away = away
                browser.answered = browser.answered if away else browser.asked
                self._news.notify_all()
