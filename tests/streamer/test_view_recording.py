"""``hpstm view`` of a recording: what is played, and the terminal that it is drawn in."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from model.skeleton import INDEX
from streamer.cli import main
from streamer.clock import SECOND_NS
from streamer.frames import Frame, Pose
from streamer.view.history import History
from streamer.view.inbox import Inbox
from streamer.view.playback import Player, Timeline, read_timeline
from streamer.view.terminal import Picture, draw_until
from streamer.wire.protocol import Encoder
from tests.helpers.animations import by_scipy, raised
from tests.helpers.live import BODY
from tests.helpers.viewing import FRAME_NS, moving, pose_of, recorded


@pytest.fixture
def take(tmp_path: Path) -> Path:
    return recorded(tmp_path / "take.hpstm", moving(2.0))


def left_arm_raised() -> np.ndarray:
    """(24, 3) of somebody who faces +Z, the left arm up, the right one hanging, the head turned left."""
    clip = raised()
    return by_scipy(clip.local[-1], clip.root[-1], clip.offsets_m).at


# -- a recording ------------------------------------------------------------------------------------------------------


def test_a_timeline_goes_by_the_sources_clock(tmp_path: Path) -> None:
    """Two people of different clocks, one of which restarts; replayed fast, which the recorder's time would show."""
    path, encoder = tmp_path / "take.hpstm", Encoder()
    from streamer.sinks.recording import RecordingWriter

    with RecordingWriter(path) as writer:
        for n in range(90):  # 30 Hz on the source's clock, 300 Hz for the recorder
            t_ns = 10**15 + n * FRAME_NS if n < 60 else (n - 60) * FRAME_NS
            writer.write(encoder.frame(Frame("anna", n, t_ns, BODY)), n * FRAME_NS // 10)
            writer.write(encoder.frame(Frame("ben", n, 7 + n * FRAME_NS, BODY)), n * FRAME_NS // 10)
        writer.write(b"broken", 0)
    timeline = read_timeline(path)
    assert timeline.end_s == pytest.approx(89 / 30, abs=1e-3)
    assert timeline.actors == ["anna", "ben"]
    assert "1 messages cannot be decoded" in timeline.note
    anna = [time_s for time_s, item in timeline.entries() if item.actor == "anna"]
    assert np.diff(anna).min() > 0.0
    assert anna[-1] == pytest.approx(88 / 30, abs=0.04)  # the restart takes what the recorder says
    assert [item.seq for item in timeline.between(1.0, 1.1) if item.actor == "ben"] == [31, 32, 33]
    with path.open("ab") as file:
        file.write(b"\x01")
    assert "cut off" in read_timeline(path, actor="ben").note
    assert read_timeline(path, actor="ben").actors == ["ben"]


def timeline(seconds: float = 2.0) -> Timeline:
    return Timeline([(n / 10, pose_of(BODY, n)) for n in range(round(10 * seconds) + 1)])


def seqs(step: tuple[list[Pose | Frame], bool]) -> list[int]:
    return [item.seq for item in step[0]]


def test_play_pause_scrub() -> None:
    player = Player(timeline(), loop=False)
    second = SECOND_NS
    assert seqs(player.step(0)) == [0]
    assert seqs(player.step(second // 2)) == [1, 2, 3, 4, 5]
    player.pause()
    assert seqs(player.step(3 * second)) == []
    assert player.at_s == pytest.approx(0.5)
    player.seek(1.5)  # paused: the place is shown, with what leads there
    items, goes_on = player.step(4 * second)
    assert (items[-1].seq, goes_on, player.at_s) == (15, False, 1.5)
    player.set_speed(0.5)
    player.play()
    assert seqs(player.step(5 * second)) == [16, 17, 18, 19, 20]
    assert seqs(player.step(6 * second)) == []
    assert not player.playing
    player.play()  # from the end: from the start
    assert player.at_s == 0.0
    player.seek(-5.0)
    assert player.at_s == 0.0
    player.seek(99.0)
    assert player.at_s == 2.0


def test_a_looping_player_starts_anew() -> None:
    player = Player(timeline(0.5))
    player.step(0)
    player.step(SECOND_NS)
    items, goes_on = player.step(SECOND_NS + SECOND_NS // 10)
    assert (seqs((items, goes_on)), goes_on, player.playing) == ([0], False, True)
    assert seqs(player.step(SECOND_NS + SECOND_NS // 5)) == [1]


# -- the terminal -----------------------------------------------------------------------------------------------------


def test_a_raised_left_arm_is_on_the_right_for_who_faces_us() -> None:
    joints = left_arm_raised()
    assert joints[INDEX["left_hand"], 1] > joints[INDEX["head"], 1]
    history = History()
    history.saw([pose_of(joints)], 0)
    rows = Picture().text(list(history.actors.values()), 80, 24).plain.split("\n")
    drawn = np.array([[character != " " for character in row.ljust(80)] for row in rows[:24]])
    assert drawn.any()
    above = drawn[: int(np.flatnonzero(drawn.any(1))[0]) + 3]  # the highest rows: the hand, higher than the head
    middle = np.flatnonzero(drawn[-6:].any(0)).mean()  # between the feet
    assert np.flatnonzero(above.any(0)).mean() > middle + 2


def test_a_recording_is_drawn_in_the_terminal(take: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["view", str(take), "--terminal"]) == 0
    out = capsys.readouterr().out
    assert "take.hpstm  2.0 of 2.0 s" in out
    assert "anna tracking  30.0 Hz  2.0 ms  jitter " in out
    assert any("\u2801" <= character <= "\u28ff" for character in out)


def test_input_and_output_are_drawn_in_their_colours() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=80, height=30, color_system="standard")
    inbox, rounds = Inbox(), iter(range(3))
    inbox.put(Frame("anna", 0, 0, (BODY + np.array([0.5, 0.0, 0.0])).astype(np.float32)))
    inbox.put(pose_of(BODY))
    draw_until(lambda: next(rounds) == 2, inbox, "live", lambda: "a note", console)
    out = console.file.getvalue()  # type: ignore[attr-defined]
    assert "a note" in out
    assert "\x1b[31m" in out  # red: the input
    assert "\x1b[94m" in out  # bright blue: refined


# -- rerun ------------------------------------------------------------------------------------------------------------


def test_a_recording_for_rerun(take: Path, tmp_path: Path) -> None:
    pytest.importorskip("rerun", reason="rerun is not installed (pip install rerun-sdk)")
    assert main(["view", str(take), "--rrd", str(tmp_path / "take.rrd")]) == 0
    written = (tmp_path / "take.rrd").read_bytes()
    assert written.startswith(b"RRF2")
    assert len(written) > 100_000
