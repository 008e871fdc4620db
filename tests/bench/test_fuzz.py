"""Harmed messages: ten thousand of them each run (`hpstm bench fuzz` does millions), and the bench itself."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.report import console
from bench.service import mutations
from bench.service.fuzz import MOST_ACTORS, Fuzz, run
from bench.service.turn_by_turn import TurnByTurn
from streamer.cli import main
from streamer.errors import ProtocolError
from streamer.filter import PoseFilter
from streamer.frames import Frame
from streamer.runtimes import load_runtime
from streamer.runtimes.block import Runtime
from streamer.server import server as server_module
from streamer.wire.protocol import decode, decode_map
from tests.helpers.networks import BUNDLED, NOT_BUNDLED

pytestmark = [pytest.mark.skipif(not BUNDLED, reason=NOT_BUNDLED), pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def runtime() -> Runtime:
    return load_runtime("auto")


@pytest.fixture(scope="module")
def result(runtime: Runtime) -> dict[str, Any]:
    return run(Fuzz(PoseFilter(runtime, max_actors=MOST_ACTORS), seed=7), 10_000, console())


def test_ten_thousand_harmed_messages_raise_nothing_and_are_all_in_the_books(result: dict[str, Any]) -> None:
    assert result["messages"] >= 10_000
    assert not set(result["wrong"]) - {"not finite"}, result["first"]
    assert result["poses"] > result["turns"]  # the steady actor's, and of frames that were harmed little
    assert len(result["rejected"]) > 20  # kinds of harm that were told apart


def test_no_pose_of_them_has_a_number_that_is_none(result: dict[str, Any]) -> None:
    assert not result["wrong"], result["first"]


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([mutations.answer, lambda rng: mutations.frame(rng, 1, "a")]))
def test_a_harmed_message_is_read_or_named(seed: int, make: Any) -> None:
    rng = Random(seed)
    message = mutations.harmed(rng, make(rng), times=4)
    try:
        said = f"a {type(decode(message)).__name__}"
    except ProtocolError as error:
        said = error.reason and str(error)
    assert 0 < len(said) < 400


@pytest.fixture(scope="module")
def running(runtime: Runtime) -> TurnByTurn:
    return TurnByTurn(PoseFilter(runtime, max_actors=2))


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**32))
def test_a_harmed_request_has_a_reply(running: TurnByTurn, seed: int) -> None:
    rng = Random(seed)
    _, reply = running.server._control.answer(mutations.harmed(rng, mutations.request(rng), times=4))
    fields = decode_map(reply)
    assert fields["ok"] or fields["error"]["reason"] != "error"


def test_what_goes_wrong_is_found(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bench sees a bug in the decoder, a message that is lost, and a pose that is not finite."""
    decode_frame = server_module.decode_frame

    def decode_with_bug(data: bytes) -> Frame:
        frame = decode_frame(data)
        if frame.actor == "a":
            raise ZeroDivisionError
        return frame

    monkeypatch.setattr(server_module, "decode_frame", decode_with_bug)
    fuzz = Fuzz(PoseFilter(runtime, max_actors=MOST_ACTORS))
    push_many = fuzz._running.server._filter.push_many

    def push_with_bug(frames: list[Frame]) -> Any:
        poses = push_many(frames)
        for pose in poses:
            if pose is not None and pose.actor == "b":
                pose.covariance[3] = float("nan")
        return poses

    monkeypatch.setattr(fuzz._running.server._filter, "push_many", push_with_bug)
    for _ in range(50):
        fuzz.turn()
    assert {"errors", "not finite"} <= set(fuzz.findings.wrong)
    fuzz._running.server.metrics.count("messages_in")
    fuzz.turn()
    assert "books" in fuzz.findings.wrong


def test_the_same_seed_makes_the_same_messages() -> None:
    made = [mutations.harmed(Random(3), mutations.frame(Random(4), 5, "a")) for _ in range(2)]
    assert made[0] == made[1]


def test_the_command_writes_its_result(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["bench", "fuzz", "--count", "300", "--seed", "1", "--json", str(tmp_path / "fuzz.json")])
    said = json.loads((tmp_path / "fuzz.json").read_text())
    assert said["messages"] >= 300
    assert code == (1 if said["wrong"] else 0)
    assert "harmed messages" in capsys.readouterr().out
