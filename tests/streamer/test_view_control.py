"""``hpstm view``: what it asks of the server, and what a mistake is told."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Thread

import pytest
import zmq

from bench.service.child import free_endpoints
from streamer.cli import main
from streamer.view.remote import Remote
from streamer.wire.protocol import Encoder, decode_map
from tests.helpers.live import wait_until
from tests.helpers.program import HPSTM, Program
from tests.helpers.viewing import moving, recorded


@pytest.fixture
def take(tmp_path: Path) -> Path:
    return recorded(tmp_path / "take.hpstm", moving(2.0))


# -- the server's control ---------------------------------------------------------------------------------------------


class Control(Thread):
    """A control socket that notes what it is asked, and answers by ``reply``."""

    def __init__(self, endpoint: str, reply: Callable[[dict[str, object]], dict[str, object]]) -> None:
        super().__init__(daemon=True)
        self.asked: list[dict[str, object]] = []
        self._endpoint, self._reply, self._end = endpoint, reply, False
        self.start()

    def run(self) -> None:
        with zmq.Context() as context, context.socket(zmq.REP) as socket:
            socket.linger = 0
            socket.bind(self._endpoint)
            while not self._end:
                if socket.poll(50):
                    self.asked.append(decode_map(socket.recv()))
                    socket.send(Encoder().map(self._reply(self.asked[-1])))

    def close(self) -> None:
        self._end = True
        self.join(5.0)


def test_the_time_is_set_on_the_server_and_of_many_wishes_the_last() -> None:
    (endpoint,) = free_endpoints(1)
    now = {"ok": True, "delay_s": 0.0, "predict_s": 0.0, "rate_hz": 0.0, "actor_states": {"a": {"warnings": ["w"]}}}

    def reply(asked: dict[str, object]) -> dict[str, object]:
        if asked["cmd"] == "set":
            if asked.get("delay_s") == 0.2:
                return {"ok": False, "error": {"reason": "x", "field": "delay_s", "message": "out of reach"}}
            now.update({key: value for key, value in asked.items() if key in now})
        return dict(now)

    control = Control(endpoint, reply)
    with Remote(endpoint) as remote:
        wait_until(lambda: remote.said.can_be_set)
        assert remote.said.warnings == {"a": ["w"]}
        for ms in range(1, 101):
            remote.wish(delay_s=ms / 1e3)
        wait_until(lambda: remote.said.delay_s == 0.1)
        assert sum(asked["cmd"] == "set" for asked in control.asked) < 50
        remote.wish(predict_s=0.05)
        remote.wish(delay_s=0.2)  # which ends the other
        wait_until(lambda: remote.said.trouble == "out of reach")
        assert not [asked for asked in control.asked if "delay_s" in asked and "predict_s" in asked]
    control.close()


def test_a_server_that_cannot_be_set_or_does_not_answer() -> None:
    (endpoint,) = free_endpoints(1)
    with Remote(endpoint) as remote:
        wait_until(lambda: "--control" in remote.said.trouble)
        control = Control(endpoint, lambda _: {"ok": True, "actor_states": {}})
        wait_until(lambda: remote.said.answers)
        assert not remote.said.can_be_set
    control.close()


# -- errors -----------------------------------------------------------------------------------------------------------


def test_mistakes_are_one_line(take: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "other.hpstm"
    other.write_bytes(b"something else")
    empty = recorded(tmp_path / "empty.hpstm")
    for line, said in (
        (f"{tmp_path}/none.hpstm", "no such file"),
        (str(other), "is not an HPSTM recording"),
        (str(empty), "no poses and no frames"),
        (f"{take} --actor nobody", "of actor nobody"),
        (f"{take} --html {other}", "exists"),
        (f"{take} --html {tmp_path}/no/folder.html", "there is no folder"),
        (f"--html {tmp_path}/a.html", "hpstm record take.hpstm"),
        ("tcp://127.0.0.1:1 --out tcp://127.0.0.1:2", "say one of them"),
        ("http://127.0.0.1:1", "use tcp:// or ipc://"),
        (f"{take} --terminal --origin null", "--origin is for the page in a browser, and --terminal opens none"),
        (f"{take} --html {tmp_path}/a.html --port 1 --host ::1", "--host, --port is for the page"),
        (f"{take} --terminal --rrd {tmp_path}/a.rrd", "--rrd writes a file"),
        (f"{take} --out tcp://127.0.0.1:2", "--out is of a server, and"),
        (f"{take} --port 70000", "--port must be between"),
        (f"{take} --host 203.0.113.1", "cannot listen there"),
    ):
        assert main(["view", *line.split()]) == 2, line
        out, err = capsys.readouterr()
        assert out == ""
        assert said in err.splitlines()[-1], line
        assert err.splitlines()[-1].startswith("hpstm: ")


def test_what_is_not_installed_is_named(
    take: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "viser", None)
    monkeypatch.setitem(sys.modules, "rerun", None)
    assert main(["view", str(take), "--port", "0"]) == 2
    assert "pip install 'hpstm-live[view]'" in capsys.readouterr().err
    assert main(["view", str(take), "--html", str(tmp_path / "a.html")]) == 2
    assert "pip install 'hpstm-live[view]'" in capsys.readouterr().err
    assert not (tmp_path / "a.html").exists()
    assert main(["view", str(take), "--rrd", str(tmp_path / "a.rrd")]) == 2
    assert "pip install rerun-sdk" in capsys.readouterr().err


def test_without_a_server_it_says_so_and_waits() -> None:
    (endpoint,) = free_endpoints(1)
    with Program([*HPSTM, "view", endpoint, "--terminal"]) as program:
        assert f"no server answers at {endpoint}" in program.stderr.readline()
        program.send_signal(signal.SIGINT)
        assert program.wait(30) == 0
