"""A headless Chromium, driven over its DevTools socket: screenshots of a page, and what it asked which host for.

Also a command: ``python -m tests.helpers.chromium URL OUT.png [WIDTH HEIGHT [SECONDS]]``.
"""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any

from websockets.sync.client import connect

NOTES = ".mantine-Notification-closeButton"  # viser's, that there is no GPU
NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
    "--mute-audio", "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--hide-scrollbars", "--remote-debugging-port=0",
)  # fmt: skip


def chromium() -> str | None:
    """Where it is; None: nowhere."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """One page of ``width`` by ``height`` pixels; ``requests`` has the URL of everything it asked for."""

    def __init__(self, url: str, width: int = 800, height: int = 450) -> None:
        program = chromium()
        assert program is not None
        self.requests: list[str] = []
        self.said: list[str] = []  # on the page's console: errors and warnings
        self._id = 0
        self._folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self._process = subprocess.Popen(
            [program, *FLAGS, f"--window-size={width},{height}", f"--user-data-dir={self._folder.name}", "about:blank"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self._socket = connect(self._page(), max_size=None, open_timeout=20)
        for domain in ("Network", "Page", "Runtime", "Log"):
            self._ask(f"{domain}.enable")
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self._ask("Emulation.setDeviceMetricsOverride", **size)
        self._ask("Page.navigate", url=url)

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._socket.close()
        self._process.kill()
        self._process.wait()
        self._folder.cleanup()

    def png(self) -> bytes:
        """What the page looks like now."""
        return base64.b64decode(self._ask("Page.captureScreenshot", format="png")["data"])

    def value(self, expression: str) -> Any:
        """What an expression is on the page."""
        return self._ask("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def wait(self, seconds: float) -> None:
        """Lets the page work; what it asks for meanwhile is in ``requests``."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            try:
                self._note(json.loads(self._socket.recv(timeout=left)))
            except TimeoutError:
                return

    def _page(self) -> str:
        port_file, end = Path(self._folder.name) / "DevToolsActivePort", time.monotonic() + 30.0
        while not (port_file.exists() and "\n" in port_file.read_text()):
            assert time.monotonic() < end, "Chromium did not start"
            assert self._process.poll() is None, "Chromium ended"
            time.sleep(0.05)
        port = port_file.read_text().split("\n")[0]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=10) as reply:
            return str(next(t["webSocketDebuggerUrl"] for t in json.load(reply) if t["type"] == "page"))

    def _ask(self, method: str, **fields: Any) -> dict[str, Any]:
        self._id += 1
        self._socket.send(json.dumps({"id": self._id, "method": method, "params": fields}))
        while True:
            said = json.loads(self._socket.recv(timeout=60))
            if said.get("id") == self._id:
                assert "error" not in said, said
                result: dict[str, Any] = said["result"]
                return result
            self._note(said)

    def _note(self, said: dict[str, Any]) -> None:
        fields = said.get("params", {})
        if said.get("method") == "Network.requestWillBeSent":
            self.requests.append(fields["request"]["url"])
        elif said.get("method") == "Network.webSocketCreated":
            self.requests.append(fields["url"])
        elif said.get("method") == "Log.entryAdded" and fields["entry"]["level"] == "error":
            self.said.append(fields["entry"]["text"])
        elif said.get("method") == "Runtime.exceptionThrown":
            self.said.append(json.dumps(fields["exceptionDetails"])[:300])


def main(url: str, out: str, width: str = "800", height: str = "450", seconds: str = "8") -> None:
    with Browser(url, int(width), int(height)) as browser:
        browser.wait(float(seconds))
        browser.value(f"document.querySelectorAll('{NOTES}').forEach(note => note.click())")
        browser.wait(2.0)
        Path(out).write_bytes(browser.png())


if __name__ == "__main__":
    main(*sys.argv[1:])
