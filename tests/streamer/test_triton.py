"""Serving by Triton: the repository that is written, sequences as actors, and a real server beside an own filter."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streamer.cli import main
from streamer.errors import ConfigError, FrameError
from streamer.filter import PoseFilter
from streamer.frames import Frame, Pose
from streamer.triton.repository import INPUTS, OUTPUTS, config_text, write_repository
from streamer.triton.sequences import Request, Sequences, load
from tests.helpers.networks import noisy_stream
from tests.helpers.project import ROOT
from tests.helpers.triton import Environment, Triton, find_environment, triton_server

IDLE_S, SECOND = 5.0, 10**9
New = Callable[..., PoseFilter]


def requests(sequence: int | str, seed: int = 1, frames: int = 12) -> list[Request]:
    """A whole sequence."""
    stream = noisy_stream(seed, frames)
    return [
        Request(sequence, n == 0, n == frames - 1, frame.t_ns, frame.positions, frame.confidence)
        for n, frame in enumerate(stream)
    ]


def ask(sequences: Sequences, *some: Request, now_s: float = 0.0) -> list[Pose]:
    answers = sequences.answer(some, round(now_s * SECOND))
    assert all(isinstance(answer, Pose) for answer in answers), answers
    return [answer for answer in answers if isinstance(answer, Pose)]


def alone(new: New, some: Sequence[Request]) -> list[Pose]:
    """The poses of a filter that sees this sequence only."""
    own = new()
    return [own.push(Frame("own", n, r.t_ns, r.positions, r.confidence)) for n, r in enumerate(some)]


def check_same(got: Sequence[Pose], want: Sequence[Pose]) -> None:
    for one, other in zip(got, want, strict=True):
        assert (one.t_ns, one.status) == (other.t_ns, other.status)
        for name in ("positions", "rotations", "covariance", "offsets_m", "contact", "source"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


@pytest.fixture
def sequences(new: New) -> Sequences:
    return Sequences(new(max_actors=3), 3, IDLE_S)


# -- sequences --------------------------------------------------------------------------------------------------------


def test_sequences_answered_together_are_each_as_if_alone(new: New, sequences: Sequences) -> None:
    """To the bit: 5, "5" and a third one that comes later, one batch a frame."""
    streams = [requests(5, 1), requests("5", 2), requests("late", 3)]
    answers: list[list[Pose]] = [[], [], []]
    for n in range(14):
        there = [(who, n - 2 * (who == 2)) for who in range(3) if 0 <= n - 2 * (who == 2) < 12]
        for (who, _), pose in zip(there, ask(sequences, *(streams[who][k] for who, k in there)), strict=True):
            answers[who].append(pose)
    for stream, got in zip(streams, answers):
        check_same(got, alone(new, stream))
    assert len(sequences) == 0


def test_the_start_of_a_sequence_is_a_new_actor(new: New, sequences: Sequences) -> None:
    first, again = requests("a", 1), requests("a", 2)
    ask(sequences, *first[:7])
    check_same(ask(sequences, *again), alone(new, again))


def test_a_sequence_that_ends_may_begin_again_in_the_same_batch(new: New, sequences: Sequences) -> None:
    first, again, other = requests("a", 1), requests("a", 2), requests("b", 3)
    ask(sequences, *first[:-1], other[0])
    last, *rest, of_other = ask(sequences, first[-1], *again[:2], other[1])
    check_same([last, *rest], [alone(new, first)[-1], *alone(new, again[:2])])
    check_same([of_other], alone(new, other[:2])[1:])


def test_a_sequence_is_forgotten_at_its_end_and_when_it_is_silent(new: New) -> None:
    pose_filter = new(max_actors=3)
    sequences = Sequences(pose_filter, 3, IDLE_S)
    ask(sequences, requests("a")[0], requests("b")[0])
    ask(sequences, *requests("a")[1:], now_s=2.0)
    assert list(pose_filter.actors) == ["'b'"]
    ask(sequences, requests("c")[0], now_s=IDLE_S)
    assert list(pose_filter.actors) == ["'b'", "'c'"]
    ask(sequences, requests("c")[1], now_s=IDLE_S + 0.1)
    assert list(pose_filter.actors) == ["'c'"]


def test_where_there_is_no_room_who_was_silent_longest_makes_some(new: New) -> None:
    pose_filter = new(max_actors=3)
    sequences = Sequences(pose_filter, 3, IDLE_S)
    ask(sequences, *(requests(name)[0] for name in "abc"), now_s=0.0)
    ask(sequences, requests("a")[1], now_s=1.0)
    ask(sequences, requests("d")[0], now_s=2.0)
    assert sorted(pose_filter.actors) == ["'a'", "'c'", "'d'"]


def test_what_is_wrong_with_a_frame_is_said_of_that_frame(new: New, sequences: Sequences) -> None:
    good, bad = requests("good", 1), requests("bad", 2)
    lines = [
        bad[0]._replace(positions=np.full((24, 3), np.nan)), bad[1]._replace(positions=np.zeros((3, 3))),
        bad[2]._replace(layout="/etc/passwd"), bad[3]._replace(layout="h36m_17"), bad[4],
    ]  # fmt: skip
    said, got = [], []
    for one, other in zip(good, lines):
        pose, answer = sequences.answer([one, other], 0)
        assert isinstance(pose, Pose)
        got.append(pose)
        said.append(answer)
    check_same(got, alone(new, good)[: len(got)])
    errors = [answer for answer in said if isinstance(answer, FrameError)]
    assert [error.reason for error in errors] == ["empty", "joint_count", "layout", "joint_count"]
    assert "coco_17" in str(errors[2])
    assert isinstance(said[-1], Pose)


# -- the repository ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("triton") / "models"
    assert main(["export", "--triton", str(folder), "--lanes", "5"]) == 0
    return folder


def config(**parameters: str) -> dict[str, Any]:
    """As Triton hands it to a backend, as far as it is read."""
    return {
        "parameters": {name: {"string_value": value} for name, value in parameters.items()},
        "sequence_batching": {"max_sequence_idle_microseconds": "7000000", "oldest": {"max_candidate_sequences": 2}},
    }


def test_the_model_of_the_repository_has_the_settings_of_its_config(repository: Path) -> None:
    version = repository / "hpstm-live" / "1"
    sequences = load(version, config(delay_s="0.1", runtime="onnx", layout="smpl_22", FORCE_CPU_ONLY_INPUT_TENSORS="x"))
    assert sequences.runtime == "onnx"
    some = [request._replace(positions=request.positions[:22], confidence=None) for request in requests("a")]
    poses = ask(sequences, *some)
    assert poses[-1].t_ns == some[-1].t_ns - 100_000_000
    assert poses[-1].source is not None
    assert poses[-1].source.shape == (22, 3)


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"layuot": "smpl_24"}, "layuot"),
        ({"layout": "smpl_23"}, "smpl_23"),
        ({"threads": "two"}, "threads"),
        ({"foot_lock": "yes"}, "foot_lock"),
        ({"delay_s": "0.5"}, "delay_s"),
    ],
)
def test_a_config_that_cannot_be_is_refused_in_one_line(
    repository: Path, parameters: dict[str, str], said: str
) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        load(repository / "hpstm-live" / "1", config(**parameters))
    assert "\n" not in str(caught.value)


def test_a_config_without_sequences_is_refused(repository: Path) -> None:
    with pytest.raises(ConfigError, match="oldest"):
        load(repository / "hpstm-live" / "1", config() | {"sequence_batching": {"direct": {}}})


def test_a_model_that_is_there_is_left_as_it_is(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = repository / "hpstm-live" / "config.pbtxt"
    path.write_text(path.read_text() + "# mine\n")
    assert main(["export", "--triton", str(repository)]) == 2
    assert "another --name" in capsys.readouterr().err
    assert path.read_text().endswith("# mine\n")
    assert [one.name for one in repository.iterdir()] == ["hpstm-live"]


@pytest.mark.parametrize(
    ("words", "said"),
    [(["--name", "../up"], "--name"), (["--lanes", "0"], "--lanes"), (["--runtime", "tensorrt"], "two exports")],
)
def test_what_cannot_be_exported_is_said_and_nothing_is_written(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", "--triton", str(tmp_path / "models"), *words]) == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_folder_that_holds_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Exception, match=str(tmp_path)):
        write_repository(tmp_path / "models", tmp_path, "x", 1)
    assert not list(tmp_path.iterdir())


# -- Triton itself ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def environment() -> Environment:
    return find_environment()


@pytest.fixture(scope="module")
def server(
    environment: Environment, repository: Path, tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int]
) -> Iterator[Triton]:
    with triton_server(environment, repository, tmp_path_factory.mktemp("server"), free_port) as running:
        yield running


def test_the_config_is_a_model_config_of_tritons(environment: Environment, tmp_path: Path) -> None:
    """Parsed by Triton's client: no field is unknown, no type is wrong."""
    path = tmp_path / "config.pbtxt"
    path.write_text(config_text("some-model", 17))
    parsed = environment.run(str(ROOT / "tests" / "helpers" / "triton_calls.py"), "config", str(path))
    assert (parsed["name"], parsed["backend"], parsed["max_batch_size"]) == ("some-model", "python", 17)
    assert parsed["sequence_batching"]["oldest"]["max_candidate_sequences"] == 17
    for kind, tensors in (("input", INPUTS), ("output", OUTPUTS)):
        said = {one["name"]: (one["data_type"], [int(d) for d in one["dims"]]) for one in parsed[kind]}
        assert said == {one.name: (f"TYPE_{one.type}", list(one.dims)) for one in tensors}
    optional = {one["name"] for one in parsed["input"] if one.get("optional")}
    assert optional == {"confidence", "rotations", "layout"}
    assert parsed["parameters"]["layout"] == {"string_value": "smpl_24"}


def test_poses_over_grpc_are_those_of_a_filter_in_process(environment: Environment, server: Triton) -> None:
    """Four sequences at once, whose ids are numbers and names: to the bit, each as in a filter that has it alone."""
    words = ["--actors", "4", "--rate", "60", "--seconds", "1.5", "--json"]
    found = environment.run(str(ROOT / "examples" / "triton_client.py"), server.url, *words)
    assert found["requests"] == 4 * 90
    assert found["difference_mm"] == 0.0
    assert found["p50_ms"] < 1000.0


def test_sequences_begin_end_and_go_on_after_a_bad_frame(environment: Environment, server: Triton) -> None:
    found = environment.run(str(ROOT / "tests" / "helpers" / "triton_calls.py"), "answers", server.url)
    for begun in ("ended and begun again", "begun again without an end"):
        assert found.pop(begun) is True
    numbered, named = (np.array(answer["positions"]) for answer in found.pop("5 and '5'"))
    np.testing.assert_allclose(named - numbered, 1.0, atol=1e-5)
    wrong = {
        "never begun": "must specify the START flag", "no sequence": "correlation ID", "no joint": "empty: ",
        "too few joints": "joint_count: positions: smpl_24 has 24 x 3, not (17, 3)", "earlier": "late: ",
        "unknown layout": "layout: layout: '/etc/passwd' is none of", "no text": "layout: ",
    }  # fmt: skip
    for asked, said in wrong.items():
        assert said in found.pop(asked)
    everything = found.pop("everything")
    assert {name: list(np.shape(value)) for name, value in everything.items()} == {
        one.name: [24 if d < 0 else d for d in one.dims] for one in OUTPUTS
    }
    assert everything["status"] == ["calibrating"]
    assert everything["t_ns"] == [165_000_000]
    assert np.shape(found.pop("another layout")["source"]) == (22, 3)
    assert all(np.shape(answer["positions"]) == (24, 3) for answer in found.values()), found
