"""Lines of JSON in and out: what a line means, what is wrong with a broken one, real programs at the ends of pipes."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.service.child import ServerProcess, free_endpoints
from model.layouts import get_layout
from model.skeleton import INDEX, JOINTS
from streamer.cli import main
from streamer.client import FrameSender
from streamer.clock import SECOND_NS, now_ns
from streamer.errors import FrameError
from streamer.filter import PoseFilter
from streamer.sources.json_lines import LineSource, Report
from streamer.wire.json_lines import MOST_BYTES, LineReader, own_layout, pose_fields
from tests.helpers.live import BODY, body_frame, counter, next_pose, subscribed, wait_until
from tests.helpers.program import HPSTM, Program

NOW = 77
SOURCE, JSONL = [*HPSTM, "source", "stdin"], [*HPSTM, "sink", "jsonl"]


def line(**fields: Any) -> bytes:
    whole = {"actor": "a", "t": 1.5, "layout": "smpl_24", "positions": BODY.tolist(), **fields}
    return json.dumps({key: value for key, value in whole.items() if value != "left out"}).encode() + b"\n"


# -- a line -----------------------------------------------------------------------------------------------------------


def test_a_line_is_a_frame() -> None:
    reader = LineReader()
    frame = reader.frame(line(confidence=[0.5] * 24), NOW)
    assert (frame.actor, frame.seq, frame.t_ns, frame.layout) == ("a", 0, 1_500_000_000, "smpl_24")
    np.testing.assert_array_equal(frame.positions, BODY)
    np.testing.assert_array_equal(frame.confidence, np.full(24, 0.5, np.float32))
    assert [reader.frame(line(actor=actor), NOW).seq for actor in ("a", "b", "a")] == [1, 0, 2]
    assert not reader.unread


def test_what_may_be_left_out() -> None:
    reader = LineReader(layout="smpl_24", actor="she")
    frame = reader.frame(line(actor="left out", layout="left out", t="left out"), NOW)
    assert (frame.actor, frame.layout, frame.t_ns, frame.confidence) == ("she", "smpl_24", NOW, None)
    assert reader.frame(line(t=None, t_ns=5), NOW).t_ns == 5
    assert reader.frame(line(actor=12), NOW).actor == "12"  # as trackers number people
    assert reader.frame(b'\xef\xbb\xbf{"positions": {}}', NOW).positions.shape == (24, 3)  # a mark that Windows writes


def test_missing_joints_are_null_or_have_no_number() -> None:
    rows: list[Any] = BODY.tolist()
    rows[1], rows[2], rows[3] = None, [0.1, None, 0.3], [float("nan")] * 3
    frame = LineReader().frame(line(positions=rows), NOW)
    assert [i for i, xyz in enumerate(frame.positions) if np.isnan(xyz).any()] == [1, 2, 3]
    filter_ = PoseFilter.load(runtime="onnx")
    assert np.isfinite(filter_.push(frame).positions).all()
    assert np.isnan(LineReader().frame(line(confidence=[None] * 24), NOW).confidence).all()


def test_joints_may_come_by_name_in_any_order() -> None:
    """As from a BVH, whose order is the file's own."""
    names = {"LeftHand": [1.0, 2.0, 3.0], "Hips": [0.0, 1.0, 0.0], "Head": None}
    frame = LineReader().frame(line(layout="rokoko_23", positions=names, confidence={"Hips": 0.5}), NOW)
    xyz, measured, _, _ = get_layout("rokoko_23").to_canonical(frame.positions)
    assert [JOINTS[j] for j in np.flatnonzero(measured)] == ["pelvis", "left_wrist"]
    np.testing.assert_array_equal(xyz[INDEX["left_wrist"]], [1.0, 2.0, 3.0])
    assert np.nansum(frame.confidence) == 0.5


@pytest.mark.parametrize(
    ("bad", "reason", "says"),
    [
        (b"{", "json", "not JSON: Expecting property name"),
        (b"\xff\xfe{}", "json", "not JSON"),
        (b"[" * 100_000, "json", "not JSON"),
        (b"[1, 2]", "json", r"an object was expected, .* not \[1, 2\]"),
        (line(actor=""), "actor", "actor: 1 to 64 bytes"),
        (line(actor="a b"), "actor", "actor: 1 to 64 bytes"),
        (line(actor=["a"]), "actor", "actor: 1 to 64 bytes"),
        (line(actor="\ud800"), "actor", "actor: 1 to 64 bytes"),
        (line(t="1.5"), "t", "t: seconds, not '1.5'"),
        (line(t=True), "t", "t: seconds"),
        (line(t=float("nan")), "t", "t: seconds"),
        (line(t=1e12), "t", "for nanoseconds there is t_ns"),
        (line(t_ns=1.5), "t_ns", "for seconds there is t"),
        (line(t_ns=10**30), "t_ns", "whole nanoseconds"),
        (line(layout="left out"), "layout", "--layout"),
        (line(layout="smpl24"), "layout", "did you mean 'smpl_24'"),
        (line(layout="../../etc/passwd"), "layout", "is not known"),
        (line(layout=[]), "layout", "is not known"),
        (line(positions="left out"), "positions", "a list of 24 .* missing"),
        (line(positions=3), "positions", "not 3"),
        (line(positions=[[0, 0, 0]] * 17), "positions", "smpl_24 has 24 joints, not 17"),
        (line(positions=[[0, 0]] * 24), "positions", r"pelvis: \[x, y, z\] or null, not \[0, 0\]"),
        (line(positions=[["0", "0", "0"]] * 24), "positions", "pelvis: a number or null, not '0'"),
        (line(positions=[[True, 0, 0]] * 24), "positions", "a number or null, not True"),
        (line(positions=[[10**400, 0, 0]] * 24), "positions", "a number or null"),
        (line(positions={"pelvs": [0, 0, 0]}), "positions", "did you mean 'pelvis'"),
        (line(confidence=[1.0] * 23), "confidence", "24 joints, not 23"),
        (line(confidence=[[1.0]] * 24), "confidence", "pelvis: a number or null"),
        (line(confidence=0.5), "confidence", "a list of 24 number"),
    ],
)
def test_a_broken_line_is_named_with_what_to_do(bad: bytes, reason: str, says: str) -> None:
    reader = LineReader()
    with pytest.raises(FrameError, match=says) as found:
        reader.frame(bad, NOW)
    assert found.value.reason == reason
    assert len(str(found.value)) < 300
    assert reader.frame(line(), NOW).seq == 0  # a broken one counts for nothing


_TEXT = st.text(alphabet="ab1 π\x00\ud800", max_size=4)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | _TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXT, inner, max_size=4),
    max_leaves=8,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the first draw is, on a busy machine
@given(st.dictionaries(st.sampled_from(["actor", "t", "t_ns", "layout", "positions", "confidence"]), _JSON))
def test_no_line_raises_anything_else(fields: dict[str, Any]) -> None:
    reader = LineReader(layout="coco_17")
    for data in (json.dumps(fields), json.dumps({"layout": "coco_17", "positions": [None] * 17} | fields)):
        with suppress(FrameError):
            assert reader.frame(data.encode(), NOW).positions.shape[1] == 3


def test_ones_own_layout_goes_by_its_file_name(tmp_path: Path) -> None:
    path = tmp_path / "rig.toml"
    path.write_text('joints = ["pelvis", "head"]\nunits = "cm"')
    reader = LineReader("rig", {"rig": own_layout(str(path))})
    frame = reader.frame(line(layout="left out", positions=[[0, 90, 0], None]), NOW)
    assert (frame.layout, frame.positions.shape) == ("rig", (2, 3))


def test_a_pose_in_json_holds_what_the_pose_holds() -> None:
    filter_ = PoseFilter.load(runtime="onnx")
    pose = [filter_.push(body_frame("a", n, t_ns=n * 33_000_000)) for n in range(5)][-1]
    said = json.loads(json.dumps(pose_fields(pose, full=True), allow_nan=False))
    for key, array in (("positions", pose.positions), ("rotations", pose.rotations), ("offsets_m", pose.offsets_m)):
        np.testing.assert_allclose(said[key], array, atol=1e-6)
    variance = np.trace(pose.covariance, axis1=1, axis2=2) / 3
    np.testing.assert_allclose(said["sigma_m"], np.sqrt(variance), atol=1e-6)
    assert (said["t_ns"], said["seq"], said["status"]) == (pose.t_ns, 4, pose.status)
    assert said["t"] == pose.t_ns / SECOND_NS
    pose.positions = np.full_like(pose.positions, np.nan)
    assert pose_fields(pose)["positions"][0] == [None, None, None]
    reader = LineReader()
    assert reader.frame(json.dumps(said).encode(), NOW).t_ns == pose.t_ns  # a pose can be a frame again
    assert not reader.unread


# -- many lines -------------------------------------------------------------------------------------------------------


class Sender:
    def __init__(self) -> None:
        self.frames: list[tuple[Any, int]] = []

    def send(self, frame: Any) -> None:
        self.frames.append((frame, now_ns()))


def sent(data: bytes, paced: bool = False) -> tuple[Sender, Report, list[str]]:
    sender, said = Sender(), []  # type: ignore[var-annotated]
    source = LineSource(io.BytesIO(data), LineReader(), said.append, paced)
    for frame in source:
        sender.send(frame)
    return sender, source.report, said


def test_bad_lines_end_nothing_and_are_counted() -> None:
    long = b'"' + b"x" * (2 * MOST_BYTES + 10) + b'"\n'
    data = line() + b"oops\n" + long + b"\n  \n" + line(positions=1) + b"oops\n" + line(colour=1) + line().rstrip()
    sender, report, said = sent(data)
    assert len(sender.frames) == report.frames == 3  # the last one without an end of line
    assert report.broken == {"json": 2, "too_long": 1, "positions": 1}
    assert [text.partition(":")[0] for text in said] == ["line 2", "line 3", "line 6", "line 7", "line 8"]
    assert "not read: colour" in said[-1]
    text = report.text(dropped=1, to="there")
    assert text.startswith("9 lines, 2 frames sent to there, 1 dropped")
    assert text.endswith(
        "4 broken: json 2 (first in line 2), too_long 1 (first in line 3), positions 1 (first in line 6)"
    )


def through_a_pipe(data: bytes, size: int) -> tuple[list[float], Report]:
    """Times [s] of the frames that come without ever waiting, when so many bytes come at a time."""
    reading, writing = os.pipe()
    with open(reading, "rb") as stream:
        source, times_s = LineSource(stream, LineReader(), lambda _: None), []
        assert source.receive(0.0) is None
        for at in [*range(0, len(data), size), None]:
            if at is None:
                os.close(writing)
            else:
                os.write(writing, data[at : at + size])
            while (frame := source.receive(0.0)) is not None:
                times_s.append(frame.t_ns / SECOND_NS)
        assert source.ended
    return times_s, source.report


def test_lines_come_in_any_pieces() -> None:
    some = line(t=1.0) + b"\noops\n" + line(t=2.0)
    last = line(t=3.0).rstrip()
    for size in (1, 7, len(some)):
        times_s, report = through_a_pipe(some + last, size)
        assert (times_s, report.lines, report.broken) == ([1.0, 2.0, 3.0], 5, {"json": 1})
    times_s, report = through_a_pipe(some + b"x" * (MOST_BYTES + 1) + b"\n" + last, 60_000)
    assert (times_s, report.lines, report.broken) == ([1.0, 2.0, 3.0], 6, {"json": 1, "too_long": 1})


def test_broken_lines_without_an_end_hold_up_nobody() -> None:
    reading, writing = os.pipe()
    with open(reading, "rb") as stream:
        source = LineSource(stream, LineReader(), lambda _: None)
        for _ in range(3):
            os.write(writing, b"y\n" * 100)
            assert source.receive(0.0) is None
        assert source.report.lines == 300
        os.close(writing)


def test_a_rehearsal_leaves_no_trace() -> None:
    said: list[str] = []
    source = LineSource(io.BytesIO(line(t=1.0) + line(t=2.0)), LineReader(), said.append)
    first = source.receive(None)
    source.rehearse()
    second = source.receive(None)
    assert first is not None
    assert second is not None
    assert (first.seq, second.seq, source.report.lines, said) == (0, 1, 2, [])


@pytest.mark.timed
def test_a_recording_is_paced_by_its_own_times() -> None:
    times = [100.0, 100.1, 100.2, 5000.0, 5000.1, 3.0]  # another take begins, and another
    sender, _, _ = sent(b"".join(line(t=t) for t in times), paced=True)
    at_s = np.diff([at for _, at in sender.frames]) / SECOND_NS
    assert (at_s[[0, 1, 3]] > 0.09).all()
    assert (at_s[[2, 4]] < 0.09).all()
    assert [frame.t_ns for frame, _ in sender.frames] == [round(t * SECOND_NS) for t in times]


# -- real programs ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with ServerProcess(["--evict", "30"]) as running:
        yield running


@pytest.mark.timed
def test_a_pipe_of_lines_becomes_poses(server: ServerProcess) -> None:
    words = [*SOURCE, "--to", server.in_endpoint, "--layout", "smpl_24"]
    with subscribed(server, "piped") as subscriber, Program(words) as source:
        for n in range(12):
            good = line(actor="piped", layout="left out", t=10.0 + n / 30, positions=(BODY + 0.01 * n).tolist())
            source.feed(good.decode() if n != 5 else good[:-40].decode() + "\n")
            if n != 5:
                pose = next_pose(subscriber)
                assert pose.captured_ns == round((10.0 + n / 30) * SECOND_NS)
        source.stdin.close()
        assert source.wait(30) == 0
        said = source.stderr.read().splitlines()
    assert said[0].startswith("hpstm: line 6: not JSON")
    assert said[1] == f"hpstm: 12 lines, 11 frames sent to {server.in_endpoint}; 1 broken: json 1 (first in line 6)"
    assert len(said) == 2


@pytest.mark.timed
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_who_ends_it_gets_the_summary(server: ServerProcess, number: int) -> None:
    with Program([*SOURCE, "--to", server.in_endpoint]) as source:
        source.feed("oops\n")
        assert "line 1: not JSON" in source.stderr.readline()
        assert source.said(number)[0].startswith("hpstm: 1 lines, 0 frames sent")
        assert source.returncode == 130


def test_without_a_server_lines_are_counted_as_dropped() -> None:
    (nowhere,) = free_endpoints(1)
    done = subprocess.run([*SOURCE, "--to", nowhere], input=3 * line(), capture_output=True, timeout=60)
    said = done.stderr.decode().splitlines()
    assert done.returncode == 1
    assert "no server takes frames" in said[0]
    assert said[1] == f"hpstm: 3 lines, 0 frames sent to {nowhere}, 3 dropped: no server took them, or not fast enough"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--layout", "smpl24"], "did you mean 'smpl_24'"),
        (["--layout", "nowhere.toml"], "nowhere.toml: cannot read the layout"),
        (["--actor", "a b"], "--actor 'a b'"),
    ],
)
def test_a_wrong_option_is_one_line(words: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["source", "stdin", *words]) == 2
    out, err = capsys.readouterr()
    assert says in err
    assert out == ""
    assert len(err.splitlines()) == 1


@pytest.mark.timed
def test_poses_come_as_lines_and_a_reader_that_leaves_is_no_error(server: ServerProcess) -> None:
    before = counter(server, "subscriptions")
    words = [*JSONL, "--out", server.out_endpoint, "--actor", "lined", "--every"]
    with FrameSender(server.in_endpoint) as sender, Program(words) as sink:
        wait_until(lambda: counter(server, "subscriptions") >= before + 2, 30.0)
        for n in range(5):
            sender.send(body_frame("lined", n))
            said = json.loads(sink.stdout.readline())  # flushed, line by line
            assert (said["actor"], said["seq"], said["layout"]) == ("lined", n, "smpl_24")
            assert np.shape(said["positions"]) == (24, 3)
            assert np.shape(said["rotations"]) == (24, 4)
            assert "covariance" not in said
        sink.stdout.close()
        end, n = time.monotonic() + 30.0, 5
        while sink.poll() is None and time.monotonic() < end:
            sender.send(body_frame("lined", n))
            n += 1
            time.sleep(0.05)
        assert sink.returncode == 0
        assert sink.stderr.read() == ""
