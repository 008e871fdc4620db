"""Whose pages may connect to the view: asked of a running ``hpstm view`` by a WebSocket client that is not ours."""

from __future__ import annotations

import signal
import socket
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.program import HPSTM, Program
from tests.helpers.viewing import comes_in, moving, recorded

pytest.importorskip("viser", reason="viser is not installed (extra: view)")

import viser

from streamer.errors import ConfigError
from streamer.view.browser import BrowserView, open_viser
from streamer.view.door import Door
from streamer.view.inbox import Inbox


@pytest.fixture(scope="module")
def take(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return recorded(tmp_path_factory.mktemp("door") / "take.hpstm", moving(1.0))


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with BrowserView(Inbox(), port=0) as view:
        yield view.url


def test_its_own_page_and_programs_come_in(url: str) -> None:
    port = url.rpartition(":")[2]
    assert comes_in(url, None)
    assert comes_in(url, url)
    assert comes_in(f"http://localhost:{port}", f"http://localhost:{port}")
    assert urllib.request.urlopen(url, timeout=10).read().startswith(b"<!")  # no WebSocket: viser's own answer


@pytest.mark.parametrize(
    "origin",
    [
        "https://example.org",
        "http://127.0.0.1:9",
        "http://127.0.0.1",
        "http://localhost.example.org",
        "null",
        "http://[",
    ],
)
def test_other_pages_do_not(url: str, origin: str) -> None:
    assert not comes_in(url, origin)


def test_a_name_that_was_made_to_lead_here_does_not(url: str) -> None:
    """A page of example.org whose name is given this machine's address once it is open (DNS rebinding)."""
    port = int(url.rpartition(":")[2])
    said = (
        f"GET / HTTP/1.1\r\nHost: example.org:{port}\r\nOrigin: http://example.org:{port}\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    for host, status in ((f"example.org:{port}", b"403"), (f"127.0.0.1:{port}", b"101")):
        with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
            client.sendall(said.replace(f"example.org:{port}", host).encode())
            assert client.recv(100).split()[1] == status


def test_a_page_that_is_named_comes_in_and_a_refused_one_is_told_of_once(take: Path) -> None:
    words = ["view", str(take), "--port", "0", "--origin", "https://example.org", "--origin", "null"]
    with Program([*HPSTM, *words]) as program:
        url = program.stdout.readline().strip().removeprefix("ready view=")
        assert comes_in(url, "https://example.org")
        assert comes_in(url, "null")
        for _ in range(2):
            assert not comes_in(url, "https://other.org")
        said = program.said(signal.SIGTERM)
    assert said == ["hpstm: refused a web page of 'https://other.org'; to let it in: --origin https://other.org"]


def test_a_viser_that_starts_otherwise_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its server would ask nobody: better none."""
    monkeypatch.setattr(viser, "ViserServer", lambda *_, **__: None)
    with pytest.raises(ConfigError, match="viser>="):
        open_viser("127.0.0.1", 0, Door("127.0.0.1", (), print))
