"""Skeletons that are kept: the same bones after a restart, an eviction, a return; a version never has other bones."""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.service.child import ServerProcess
from bench.service.turn_by_turn import TurnByTurn
from model.skeleton import JOINTS, rest_offsets
from streamer.clock import SECOND_NS
from streamer.errors import ConfigError
from streamer.filter import PoseFilter
from streamer.frames import Pose
from streamer.profiles import Profiles
from streamer.runtimes import load_runtime
from streamer.server import crowd
from streamer.server.control import request
from streamer.server.crowd import ActorRecord
from streamer.server.kept import KeptSkeleton, KeptSkeletons, file_name
from streamer.wire.protocol import Encoder, is_actor_name
from tests.helpers.live import body_frame, status, streaming, wait_until
from tests.helpers.networks import BUNDLED, NOT_BUNDLED

ENCODER = Encoder()
pytestmark = pytest.mark.skipif(not BUNDLED, reason=NOT_BUNDLED)
New = Callable[..., PoseFilter]


def bones(seed: int = 0) -> Any:
    offsets = np.asarray(rest_offsets(), np.float32).copy()
    offsets[1:] *= np.random.default_rng(seed).uniform(0.8, 1.2, (23, 1)).astype(np.float32)
    return offsets


def play(running: TurnByTurn, actor: str = "a", seconds: float = 6.0, start: int = 0) -> list[Pose]:
    """The poses of an actor who moves for some time, long enough to be measured."""
    for n in range(start, start + round(seconds * 50)):
        running.turn([ENCODER.frame(body_frame(actor, n, t_ns=n * SECOND_NS // 50))])
    return running.poses()


@pytest.fixture(scope="module")
def new() -> New:
    """A new filter on the bundled model."""
    runtime = load_runtime("auto")
    return lambda **settings: PoseFilter(runtime, **settings)


@pytest.fixture
def start(new: New, tmp_path: Path) -> Callable[..., TurnByTurn]:
    """A server with a new filter on the same folder."""
    return lambda **settings: TurnByTurn(new(), skeletons=str(tmp_path / "kept"), **settings)


def saved(tmp_path: Path, actor: str = "a") -> Path:
    return tmp_path / "kept" / file_name(actor)


def same(a: Pose, b: Pose) -> bool:
    return a.skeleton_version == b.skeleton_version and np.array_equal(a.offsets_m, b.offsets_m)


# -- the same bones ---------------------------------------------------------------------------------------------------


def test_after_a_restart_an_actor_has_its_bones_and_their_version_from_the_first_pose_on(
    start: Callable[..., TurnByTurn], tmp_path: Path
) -> None:
    first = start()
    measured = play(first)
    assert measured[0].status == "calibrating"
    assert measured[-1].status == "tracking"
    first.end()
    again = start()
    poses = play(again, seconds=1.0)
    assert all(same(pose, measured[-1]) for pose in poses)
    assert {pose.status for pose in poses} == {"tracking"}
    said = json.loads(saved(tmp_path).read_text())
    assert said["measured_s"] > 1.0
    assert said["saved_at"].endswith("Z")
    assert list(said["offsets_m"]) == list(JOINTS)
    again.end()


def test_after_an_eviction_too(start: Callable[..., TurnByTurn]) -> None:
    running = start()
    before = play(running)[-1]
    running.server._housekeeping.do(running.server._crowd["a"].last_ns + 60 * SECOND_NS)
    assert not running.ask("status")["actor_states"]
    assert same(play(running, seconds=0.1, start=5000)[0], before)
    running.end()


def test_without_a_folder_nothing_is_kept(new: New) -> None:
    running = TurnByTurn(new())
    before = play(running)[-1]
    running.end()
    assert play(TurnByTurn(new()), seconds=0.1)[0].skeleton_version > before.skeleton_version


@pytest.mark.parametrize("keeps", [True, False])
def test_a_version_never_has_other_bones(start: Callable[..., TurnByTurn], new: New, keeps: bool) -> None:
    """Over calibrations, resets, gifts and restarts, of two actors, measured and half measured."""
    seen: dict[tuple[str, int], bytes] = {}
    versions: list[int] = []

    def note(poses: list[Pose]) -> None:
        for pose in poses:
            known = seen.setdefault((pose.actor, pose.skeleton_version), pose.offsets_m.tobytes())
            assert known == pose.offsets_m.tobytes(), pose.skeleton_version
            versions.append(pose.skeleton_version)

    for life in range(3):
        running = start() if keeps else TurnByTurn(new())
        n = 0
        given = {"actor": "a", "offsets": bones(life).tobytes()}
        for command, fields in (
            ("status", {}), ("calibrate", {}), ("reset", {"actor": "b"}), ("set_skeleton", given), ("reset", {}),
        ):  # fmt: skip
            for seconds in (0.3, 1.0 + 5.0 * (life == 1)):
                for actor in "ab":
                    note(play(running, actor, seconds, n))
                n += 400
            assert running.ask(command, **fields)["ok"]
        note(play(running, "a", 0.7, n))
        running.end()
    assert len(set(versions)) > 20
    assert min(versions) > 2**40  # milliseconds since 1970


def test_reset_and_calibrate_drop_what_was_kept(start: Callable[..., TurnByTurn], tmp_path: Path) -> None:
    for command in ("reset", "calibrate"):
        running = start()
        play(running)
        running.server._crowd.keep()
        assert running.ask(command, actor="a")["ok"]
        running.end()
        assert not saved(tmp_path).exists()
        assert play(start(), seconds=0.1)[0].status == "calibrating"


# -- by hand ----------------------------------------------------------------------------------------------------------


def test_a_skeleton_is_set_and_read_by_request(start: Callable[..., TurnByTurn], tmp_path: Path) -> None:
    running = start()
    assert running.ask("get_skeleton", actor="a")["error"]["reason"] == "unknown_actor"
    assert running.ask("set_skeleton", actor="a", offsets=bones().tobytes()) == {"v": 1, "ok": True, "actors": ["a"]}
    read = running.ask("get_skeleton", actor="a")
    assert (read["final"], read["measured_s"], read["joints"]) == (True, 0.0, list(JOINTS))
    np.testing.assert_array_equal(np.frombuffer(read["offsets"], "<f4").reshape(24, 3), bones())
    pose = play(running, seconds=0.1)[0]
    np.testing.assert_array_equal(pose.offsets_m, bones())
    assert running.ask("get_skeleton", actor="a")["skeleton_version"] == pose.skeleton_version
    assert running.ask("set_skeleton", actor="a", offsets=bones(1).tobytes())["ok"]
    other = play(running, seconds=0.1, start=100)[0]
    np.testing.assert_array_equal(other.offsets_m, bones(1))
    assert other.skeleton_version > pose.skeleton_version
    running.end()
    assert same(play(start(), seconds=0.1)[0], other)
    assert json.loads(saved(tmp_path).read_text())["skeleton_version"] == other.skeleton_version


def test_bones_that_the_filter_does_not_take_are_refused_or_measured_anew(
    start: Callable[..., TurnByTurn], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    running = start()
    assert running.ask("set_skeleton", actor="a", offsets=bones().tobytes())["ok"]

    def refuse(actor: str, offsets_m: Any, version: int | None = None) -> None:
        raise ConfigError("not these")

    monkeypatch.setattr(running.server._filter, "set_skeleton", refuse)
    reply = running.ask("set_skeleton", actor="a", offsets=bones().tobytes())
    assert (reply["ok"], reply["error"]["reason"]) == (False, "value:offsets")
    monkeypatch.setattr(running.server._filter, "_profiles", Profiles(running.server._filter._actors))
    assert play(running, seconds=0.1)[0].status == "calibrating"
    assert "not these" in caplog.text
    assert running.value("loop_errors") == 0
    running.end()


BAD = {
    "no actor": ({"offsets": bones().tobytes()}, "actor_name"),
    "no offsets": ({"actor": "a"}, "type:offsets"),
    "a list": ({"actor": "a", "offsets": [0.0] * 72}, "type:offsets"),
    "too short": ({"actor": "a", "offsets": bytes(284)}, "type:offsets"),
    "not a number": ({"actor": "a", "offsets": np.full(72, np.nan, np.float32).tobytes()}, "value:offsets"),
    "millimetres": ({"actor": "a", "offsets": (1000 * bones()).tobytes()}, "value:offsets"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_skeleton_that_is_none_is_refused(what: str, new: New) -> None:
    fields, reason = BAD[what]
    reply = TurnByTurn(new()).ask("set_skeleton", **fields)
    assert (reply["ok"], reply["error"]["reason"]) == (False, reason)


def test_over_real_sockets_and_a_real_restart(tmp_path: Path) -> None:
    words = ["--skeletons", str(tmp_path / "kept")]
    with ServerProcess(words) as server:
        assert request(server.control_endpoint, "set_skeleton", 5.0, actor="anna/..", offsets=bones().tobytes())
        with streaming(server, "anna/.."):
            wait_until(lambda: status(server)["actor_states"].get("anna/..", {}).get("status") == "tracking", 30.0)
        before = request(server.control_endpoint, "get_skeleton", 5.0, actor="anna/..")
        assert status(server)["actor_states"]["anna/.."]["warnings"] == []
    assert before is not None
    with ServerProcess(words) as server, streaming(server, "anna/.."):
        wait_until(lambda: status(server)["actor_states"].get("anna/..", {}).get("status") == "tracking", 30.0)
        after = request(server.control_endpoint, "get_skeleton", 5.0, actor="anna/..")
    assert after is not None
    for key in ("skeleton_version", "offsets", "final"):
        assert after[key] == before[key]


# -- a folder of several servers --------------------------------------------------------------------------------------


def test_who_goes_from_server_to_server_has_the_newest_bones(
    start: Callable[..., TurnByTurn], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Measured by one, used by the other, given anew there, and known to the first when the actor comes back to it."""
    monkeypatch.setattr(crowd, "AWAY_NS", 20_000_000)
    one, other = start(), start()
    measured = play(one)[-1]
    one.server._crowd.keep()
    wait_until(lambda: one.server._kept is not None and not one.server._kept._waiting)
    poses = play(other, seconds=0.2, start=400)
    assert all(same(pose, measured) for pose in poses)
    assert {pose.status for pose in poses} == {"tracking"}
    assert other.ask("set_skeleton", actor="a", offsets=bones().tobytes())["ok"]
    given_there = play(other, seconds=0.2, start=420)[-1]
    assert given_there.skeleton_version > measured.skeleton_version
    assert same(play(one, seconds=0.02, start=430)[-1], measured)  # nothing is written yet
    other.end()
    time.sleep(0.03)
    back = play(one, seconds=0.2, start=450)
    assert all(same(pose, given_there) for pose in back)
    assert one.value("loop_errors") == other.value("loop_errors") == 0
    one.end()
    assert same(play(start(), seconds=0.1)[0], given_there)


def test_servers_that_write_of_one_actor_at_a_time_leave_a_whole_file_of_one_of_them(tmp_path: Path) -> None:
    unsaved: list[int] = []
    both = [KeptSkeletons(tmp_path / "kept", lambda: unsaved.append(1)) for _ in range(2)]
    for version in range(1, 101):
        for n, kept in enumerate(both):
            kept.save(KeptSkeleton("a", 2 * version + n, bones(n), 1.0 + n))
        found = KeptSkeletons(tmp_path / "kept", lambda: None).load("a")
        if found is not None:
            np.testing.assert_array_equal(found.offsets_m, bones(found.version % 2))
    for kept in both:
        kept.close()
    last = KeptSkeletons(tmp_path / "kept", lambda: None).load("a")
    assert last is not None
    assert last.version in (200, 201)
    assert not unsaved
    assert [path.name for path in (tmp_path / "kept").iterdir()] == [file_name("a")]


# -- the files --------------------------------------------------------------------------------------------------------


@given(st.lists(st.text(max_size=64).filter(is_actor_name), unique=True, max_size=8))
def test_any_actor_has_a_file_name_of_its_own(actors: list[str]) -> None:
    names = [file_name(actor) for actor in actors]
    assert len({name.lower() for name in names}) == len(actors)
    assert all(set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789_-%.") for name in names)
    assert all(name.startswith("actor-") and name.endswith(".json") and len(name) < 256 for name in names)


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[KeptSkeletons]:
    unsaved = KeptSkeletons(tmp_path / "kept", lambda: None)
    yield unsaved
    unsaved.close()


@pytest.mark.parametrize("actor", ["a", "..", "Ünï/côde", "con", "A" * 64, "a%2fb"])
def test_what_is_saved_is_loaded_bit_for_bit(actor: str, kept: KeptSkeletons, tmp_path: Path) -> None:
    kept.save(KeptSkeleton(actor, 7, bones(), 3.25))
    kept.close()
    found = KeptSkeletons(tmp_path / "kept", lambda: None).load(actor)
    assert found is not None
    assert (found.actor, found.version, found.measured_s) == (actor, 7, 3.25)
    np.testing.assert_array_equal(found.offsets_m, bones())
    assert [path.name for path in (tmp_path / "kept").iterdir()] == [file_name(actor)]


HARMS: dict[str, Callable[[str], str | bytes]] = {
    "empty": lambda text: "",
    "cut off": lambda text: text[:300],
    "binary": lambda text: b"\xff\xfe\x00" * 100,
    "nested": lambda text: "[" * 100_000,
    "a list": lambda text: "[]",
    "of another actor": lambda text: text.replace('"a"', '"b"'),
    "another format": lambda text: text.replace("hpstm-skeleton 1", "hpstm-skeleton 9"),
    "a joint missing": lambda text: text.replace('"head"', '"haed"'),
    "nan": lambda text: text.replace('"pelvis": [0.0', '"pelvis": [NaN'),
    "infinity": lambda text: text.replace('"skeleton_version": 7', '"skeleton_version": 1e999'),
    "a long number": lambda text: text.replace('"pelvis": [0.0', f'"pelvis": [{10**400}'),
    "kilometres": lambda text: text.replace('"head": [0', '"head": [1000'),
    "words": lambda text: text.replace('"measured_s": 3.25', '"measured_s": "long"'),
}


@pytest.mark.parametrize("harm", HARMS)
def test_a_file_that_is_damaged_is_named_and_not_used(
    harm: str, kept: KeptSkeletons, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kept.save(KeptSkeleton("a", 7, bones(), 3.25))
    kept.close()
    path = saved(tmp_path)
    bad = HARMS[harm](path.read_text())
    assert bad != path.read_text()
    path.write_bytes(bad if isinstance(bad, bytes) else bad.encode())
    with caplog.at_level(logging.WARNING, "hpstm"):
        assert kept.load("a") is None
    assert path.name in caplog.text


def test_a_skeleton_that_cannot_be_saved_is_counted_and_the_stream_goes_on(
    start: Callable[..., TurnByTurn], tmp_path: Path
) -> None:
    running = start()
    play(running, seconds=0.2)
    shutil.rmtree(tmp_path / "kept")
    (tmp_path / "kept").write_text("a file")
    assert running.ask("set_skeleton", actor="a", offsets=bones().tobytes())["ok"]
    assert len(play(running, seconds=0.2, start=100)) == 10
    running.end()
    running.server.metrics.settle()
    assert running.value("skeletons_unsaved") >= 1
    assert running.value("loop_errors") == 0
    with pytest.raises(ConfigError, match="--skeletons"):
        start()


def test_a_frame_that_is_refused_leaves_no_record(start: Callable[..., TurnByTurn]) -> None:
    first = start(max_actors=1)
    assert first.ask("set_skeleton", actor="b", offsets=bones().tobytes())["ok"]
    nothing = ENCODER.frame(body_frame("b", 0, positions=np.full((24, 3), np.nan, np.float32)))
    first.turn([nothing])
    assert isinstance(first.server._crowd.get("b"), ActorRecord | None)
    first.server._housekeeping.do(10**18)
    assert "b" not in first.server._crowd
    assert first.value("actors_evicted") == 0
    first.end()
