"""``hpstm live``: mistakes, and a source that breaks, are one line and leave nothing behind."""

from __future__ import annotations

import re
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.service.child import free_endpoints
from streamer.cli import main
from streamer.commands.pipeline import Pipeline
from streamer.commands.terminal import Screen
from streamer.errors import ConfigError
from streamer.frames import Frame
from streamer.server.config import ServerConfig
from streamer.server.metrics import Histogram
from streamer.server.server import Server
from streamer.sinks import view
from streamer.sinks.recorder import Recorder
from streamer.sinks.recording import read_recording
from tests.helpers.live import body_frame
from tests.helpers.live_command import ANYWHERE

# -- the source -------------------------------------------------------------------------------------------------------


class Breaking:
    """A camera that is pulled out after ten pictures."""

    name, descriptor = "camera 7", None

    def __init__(self) -> None:
        self.latency, self.ended, self.n = {"camera": Histogram()}, False, 0

    def receive(self, timeout_s: float) -> Frame | None:
        if self.n == 10:
            raise ConfigError("camera 7: it is gone; plug it in again")
        time.sleep(0.03)
        self.n += 1
        self.latency["camera"].observe(1_000_000)
        return body_frame("a", self.n)

    def rehearse(self) -> None:
        pass

    def lost(self) -> dict[str, int]:
        return {"pictures": 3}

    def kinds(self) -> tuple[object, ...]:
        return ()

    def status(self) -> str:
        return self.name

    def close(self) -> None:
        pass


@pytest.fixture
def signals() -> Iterator[None]:
    """Handlers as they were."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before):
        signal.signal(number, handler)


@pytest.mark.usefixtures("signals")
def test_a_source_that_breaks_ends_all_in_one_line_and_the_recording_is_whole(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    server = Server(ServerConfig(*free_endpoints(3), runtime="onnx"))
    before = threading.active_count()
    with Recorder(tmp_path / "a.hpstm") as recorder:
        screen = Screen()
        with pytest.raises(ConfigError, match="plug it in again"):
            Pipeline(Breaking(), server, None, [recorder], screen, []).run()
        said = list(recorder.finish())
    assert "10 frames" in said[0]
    assert [frame.seq for frame in read_recording(tmp_path / "a.hpstm").frames] == list(range(1, 11))
    last = capfd.readouterr().out.splitlines()[-1]
    assert "camera 1.37/1.37  filter " in last  # the bound of its bucket
    assert re.search(r"lost \d+ \(pictures 3[,)]", last), last  # a busy machine skips frames, too
    assert threading.active_count() <= before + 1  # the screen's own writer


# -- mistakes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("", "give one source: --camera N, --video FILE"),
        ("--stdin --vmc-in 0", "not --vmc-in PORT and --stdin"),
        ("--vmc-in 39540 --vmc 127.0.0.1:39540", "is where --vmc-in listens"),
        ("--stdin --websocket 70000", "--websocket must be between"),
        ("--stdin --vmc 39539", "HOST:PORT"),
        ("--stdin --view --curve keys", "--view has no key"),
        ("--stdin --origin null", "--origin lets web pages in to --websocket and --view"),
        ("--stdin --vmc 127.0.0.1:1 --vmc 127.0.0.1:1", "--vmc: an address given twice"),
        ("--stdin --layout smpl24", "did you mean 'smpl_24'"),
        ("--replay nothing.hpstm --record {tmp}/new.hpstm", "nothing.hpstm: no such file"),
        ("--stdin --record {tmp}/old.hpstm", "old.hpstm exists"),
        ("--stdin --record {tmp}/new.fbx", "new.fbx"),
        ("--vmc-in 0 --actor a\u0007", "--actor"),
        ("--video nothing.mp4", "mediapipe"),  # it is not installed, or the model is missing
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing_behind(
    words: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], signals: None
) -> None:
    (tmp_path / "old.hpstm").touch()
    assert main(["live", *ANYWHERE, *words.format(tmp=tmp_path).split()]) == 2
    out, err = capsys.readouterr()
    assert says in err
    assert out == ""
    assert len(err.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["old.hpstm"]


def test_a_port_that_is_taken_is_a_mistake_too(capsys: pytest.CaptureFixture[str], signals: None) -> None:
    pytest.importorskip("websockets", reason="websockets is not installed (extra: websocket)")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert main(["live", *ANYWHERE, "--vmc-in=0", f"--websocket={taken.getsockname()[1]}"]) == 2
    assert "cannot listen there" in capsys.readouterr().err


def test_without_viser_the_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], signals: None
) -> None:
    monkeypatch.setattr(view, "find_spec", lambda name: None)
    assert main(["live", *ANYWHERE, "--stdin", "--view"]) == 2
    assert "pip install 'hpstm-live[view]'" in capsys.readouterr().err
