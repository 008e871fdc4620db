"""``hpstm view`` without a browser: what is drawn, what waits, what a recording plays, the terminal, errors."""

from __future__ import annotations

import io
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import zmq
from rich.console import Console
from scipy.spatial.transform import Rotation

from bench.service.child import ServerProcess, free_endpoints
from model.skeleton import INDEX, JOINTS, PARENTS, J
from streamer.cli import main
from streamer.clock import SECOND_NS
from streamer.errors import ConfigError
from streamer.frames import Frame, Pose
from streamer.view.body import CHILD, PARENT, bones, facing, head, joints_of, lines, sigma_m, turn_up_to
from streamer.view.feed import MOST_ACTORS, Feed
from streamer.view.history import Curves, History
from streamer.view.inbox import KEPT, Inbox
from streamer.view.panel import status_html, whole
from streamer.view.playback import Player, Timeline, read_timeline
from streamer.view.remote import Remote, Said
from streamer.view.shapes import Mesh, ball, rod
from streamer.view.terminal import Picture, draw_until
from streamer.wire.protocol import Encoder, Skeleton, decode_map
from tests.helpers.animations import by_scipy, raised
from tests.helpers.live import BODY, streaming, wait_until
from tests.helpers.program import HPSTM, Program
from tests.helpers.viewing import moving, pose_of, recorded

FRAME_NS = round(SECOND_NS / 30)


@pytest.fixture
def take(tmp_path: Path) -> Path:
    return recorded(tmp_path / "take.hpstm", moving(2.0))


def left_arm_raised() -> np.ndarray:
    """(24, 3) of somebody who faces +Z, the left arm up, the right one hanging, the head turned left."""
    clip = raised()
    return by_scipy(clip.local[-1], clip.root[-1], clip.offsets_m).at


# -- shapes -----------------------------------------------------------------------------------------------------------


def test_bones_turned_by_scipy_reach_from_joint_to_joint() -> None:
    joints = np.random.default_rng(0).normal(size=(J, 3))
    joints[CHILD[3]] = joints[PARENT[3]] - (0.0, 0.4, 0.0)  # straight down: where the shortest way is not one
    middles, wxyz, lengths = bones(joints)
    half = Rotation.from_quat(wxyz[:, [1, 2, 3, 0]]).apply([0.0, 1.0, 0.0]) * 0.5 * lengths[:, None]
    np.testing.assert_allclose(middles + half, joints[CHILD], atol=1e-6)
    np.testing.assert_allclose(middles - half, joints[PARENT], atol=1e-6)
    at, turn = head(BODY)
    assert at[1] > BODY[INDEX["head"], 1] + 0.05
    np.testing.assert_allclose(turn, turn_up_to(BODY[INDEX["head"]] - BODY[INDEX["neck"]]))


@pytest.mark.parametrize("mesh", [rod(), ball()])
def test_faces_look_outwards(mesh: Mesh) -> None:
    corners = mesh.vertices[mesh.faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    assert ((normals * corners.mean(1)).sum(-1) > -1e-9).all()
    assert np.abs(mesh.vertices).max() == pytest.approx(1.0)


def test_a_frame_is_drawn_where_it_says_something() -> None:
    positions = np.full((17, 3), np.nan, np.float32)
    positions[5], positions[7] = (0.2, 1.4, 0.0), (0.4, 1.2, 0.0)  # COCO: left shoulder and elbow
    joints = joints_of(Frame("a", 0, 0, positions, layout="coco_17"))
    assert joints is not None
    np.testing.assert_allclose(joints[INDEX["left_elbow"]], positions[7])
    assert lines(joints).shape == (1, 2, 3)
    assert joints_of(Frame("a", 0, 0, positions, layout="only_the_server_has_it")) is None


def test_where_somebody_looks_and_how_sure_it_is() -> None:
    np.testing.assert_allclose(facing(BODY), (0.0, 0.0, 1.0), atol=1e-6)
    turned = BODY @ Rotation.from_euler("y", 90, degrees=True).as_matrix().T
    np.testing.assert_allclose(facing(turned), (1.0, 0.0, 0.0), atol=1e-6)
    np.testing.assert_allclose(facing(np.full((J, 3), np.nan)), (0.0, 0.0, 1.0))
    np.testing.assert_allclose(sigma_m(pose_of(BODY)), 0.01, rtol=1e-5)


# -- what waits -------------------------------------------------------------------------------------------------------


def test_only_the_newest_waits() -> None:
    inbox, encoder = Inbox(), Encoder()
    for n in range(1000):
        inbox.put_message(encoder.pose(pose_of(BODY, n)))
        inbox.put(Frame("anna", n, n, BODY))
    inbox.put_message(b"pose.bob\0not msgpack")
    inbox.put_message(b"\xff\xfe")
    taken = inbox.take()
    for kind in (Pose, Frame):
        assert [item.seq for item in taken if isinstance(item, kind)] == list(range(1000 - KEPT, 1000))
    assert inbox.lost == 2 * (1000 - KEPT)
    assert inbox.take() == []


def test_a_feed_reads_poses_and_input_and_is_current_after_a_stop() -> None:
    inbox = Inbox()
    with ServerProcess() as server, streaming(server, "anna"), streaming(server, "ben"):
        with Feed(server.out_endpoint, inbox):
            seen: set[tuple[str, type]] = set()

            def all_four() -> bool:
                seen.update((item.actor, type(item)) for item in inbox.take())
                return len(seen) == 4

            wait_until(all_four, 20.0)

            def current() -> bool:  # tried again where the machine stood still
                time.sleep(1.0)  # nobody draws
                newest = {item.actor: item for item in inbox.take() if isinstance(item, Pose)}
                ages_ns = [time.perf_counter_ns() - pose.published_ns for pose in newest.values()]
                return set(newest) == {"anna", "ben"} and max(ages_ns) < SECOND_NS // 2

            wait_until(current, 15.0)
        with Feed(server.out_endpoint, inbox, actor="ben", frames=False):
            inbox.take()
            wait_until(lambda: bool(items := inbox.take()) and {(i.actor, type(i)) for i in items} == {("ben", Pose)})


def test_a_feed_shows_a_dozen_and_gives_the_places_of_who_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = [0]
    monkeypatch.setattr("streamer.view.feed.now_ns", lambda: seconds[0] * SECOND_NS)
    feed, encoder, asked = Feed("tcp://127.0.0.1:1", Inbox()), Encoder(), set[bytes]()
    socket: Any = SimpleNamespace(subscribe=asked.add, unsubscribe=asked.remove)

    def skeletons(first: int, last: int) -> None:
        for n in range(first, last):
            offsets = np.zeros((J, 3), np.float32)
            feed._take(socket, encoder.skeleton(Skeleton(f"a{n}", 1, JOINTS, PARENTS, offsets, offsets[:, 0])))

    skeletons(0, 15)
    assert asked == {f"{kind}.a{n}\0".encode() for kind in ("pose", "frame") for n in range(MOST_ACTORS)}
    assert feed.left_out == 3
    seconds[0] = 10
    skeletons(4, 15)
    seconds[0] = 20  # the first four have said nothing for 20 s
    skeletons(4, 16)
    assert asked == {f"{kind}.a{n}\0".encode() for kind in ("pose", "frame") for n in range(4, 16)}
    assert feed.left_out == 0


# -- numbers ----------------------------------------------------------------------------------------------------------


def test_jitter_latency_and_rate() -> None:
    history = History()
    for n in range(60):
        wave = np.array([0.0, 0.005 * (-1.0) ** n, 0.0])  # second difference: 20 mm
        items = [Frame("anna", n, n * FRAME_NS, (BODY + wave).astype(np.float32)), pose_of(BODY, n, t_ns=n * FRAME_NS)]
        history.saw(items, n * FRAME_NS)  # type: ignore[arg-type]
    rate, jitter_in, jitter_out, latency, sigma = history.actors["anna"].numbers
    assert (rate, latency, sigma) == pytest.approx((30.0, 2.0, 10.0), rel=1e-3)
    assert jitter_in == pytest.approx(20.0, rel=1e-3)
    assert jitter_out == pytest.approx(0.0, abs=1e-3)
    assert history.actors["anna"].trail.shape[1:] == (4, 3)
    history.saw([pose_of(BODY + 1.0, 60, t_ns=70 * FRAME_NS)], 70 * FRAME_NS)  # after a gap: a jump is no jitter
    assert history.actors["anna"].numbers.jitter_out_mm == pytest.approx(0.0, abs=1e-3)
    history.saw([pose_of(BODY, 61, t_ns=0)], 71 * FRAME_NS)  # the clock started anew
    assert np.isfinite(history.actors["anna"].numbers.latency_ms)
    history.saw([pose_of(BODY, actor="ben")], 71 * FRAME_NS + 3 * SECOND_NS)
    assert list(history.actors) == ["ben"]


def test_curves_have_seconds_and_numbers() -> None:
    curves = Curves(steps=4)
    assert curves.array().shape == (6, 2)
    history = History()
    history.saw([pose_of(BODY)], 0)
    for _ in range(9):
        curves.add(history.actors["anna"].numbers)
    rows = curves.array()
    np.testing.assert_allclose(rows[0], (-1.5, -1.0, -0.5, 0.0))
    np.testing.assert_allclose(rows[4], 2.0)
    assert whole(rows[0], rows[2]) is None  # no jitter of a single pose
    seconds, latency = whole(rows[0], np.where(rows[0] < -1.0, np.nan, rows[4])) or ((), ())
    assert (len(seconds), len(latency)) == (3, 3)


def test_the_panel_speaks_in_words_and_trusts_no_name() -> None:
    history = History()
    history.saw([pose_of(BODY, actor="<img>", status="coasting")], 0)
    said = Said(True, 0.0, 0.0, 0.0, "trouble & strife", {"<img>": ["a mirrored picture"]})
    html = status_html(list(history.actors.values()), said, "no server answers", lambda _: (1, 2, 3))
    for words in ("&lt;img&gt;", "coasting", "a mirrored picture", "trouble &amp; strife", "no server answers"):
        assert words in html
    assert "<img>" not in html


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


def test_a_recording_for_rerun(take: Path, tmp_path: Path) -> None:
    pytest.importorskip("rerun", reason="rerun is not installed (pip install rerun-sdk)")
    assert main(["view", str(take), "--rrd", str(tmp_path / "take.rrd")]) == 0
    written = (tmp_path / "take.rrd").read_bytes()
    assert written.startswith(b"RRF2")
    assert len(written) > 100_000


def test_every_bone_is_one_of_the_skeleton() -> None:
    assert [PARENTS[j] for j in CHILD] == PARENT.tolist()
    with pytest.raises(ConfigError, match="tcp://HOST:PORT"):
        read_timeline(Path("nothing"))
