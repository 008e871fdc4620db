"""The native runtime: the model against torch, actors alone and together, memory and resets. Needs a C compiler."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import psutil
import pytest

from model.skeleton import J
from streamer.errors import ContractError
from streamer.filter import PoseFilter
from streamer.frames import Pose
from streamer.runtimes import load_runtime
from streamer.runtimes.native import NativeRuntime
from tests.helpers.agreement import STEPS, STREAM_MM, answers, eventful, largest_differences, torch_answers
from tests.helpers.compiler import needs_compiler
from tests.helpers.networks import BUNDLED, NOT_BUNDLED, max_mm

# An export and a compilation take ten seconds on a free machine.
pytestmark = [pytest.mark.timeout(600), pytest.mark.usefixtures("own_libraries")]


@needs_compiler
def test_it_is_as_near_to_float64_as_float32_allows(exported: Path) -> None:
    """Several actors, gaps, resets, ring wraps, several times of a frame; the other float32 runtimes are as far off.

    Rounding is amplified where a random network leaves bones short: hence ten times the tolerance of a trained model.
    """
    said = answers(PoseFilter.load(exported, runtime="native"), eventful(900))
    worst = largest_differences(said, torch_answers(exported, 900, double=True))
    print(f"\ntiny random model, largest difference from float64: {worst}")
    assert worst["positions_mm"] < 0.1
    assert worst["rotations"] < 1e-3
    assert worst["lengths_mm"] < 0.01


@needs_compiler
@pytest.mark.skipif(not BUNDLED, reason=NOT_BUNDLED)
def test_the_bundled_model_is_torch_within_its_tolerance(bundled_answers: Sequence[Pose | None]) -> None:
    worst = largest_differences(answers(PoseFilter.load(runtime="native"), eventful(STEPS)), bundled_answers)
    print(f"\nbundled model, largest difference: {worst}")
    tolerance = load_runtime("native").contract.tolerance_mm
    assert worst["positions_mm"] < STREAM_MM
    assert worst["lengths_mm"] < tolerance


@needs_compiler
@pytest.mark.parametrize(("threads", "actors"), [(1, 7), (2, 7), (2, 8), (3, 14)])
def test_many_actors_in_one_call_are_each_alone(exported: Path, threads: int, actors: int) -> None:
    """Bit-equal, past two wraps of the ring; shared by threads when they are enough, in unequal parts, too."""
    runtime = load_runtime("native", exported, threads)
    assert isinstance(runtime, NativeRuntime)
    rng = np.random.default_rng(3)
    together, alone = runtime.open(actors), runtime.open(actors + 2)
    places = rng.permutation(actors + 2)[:actors]  # of the same actors among the other rows
    for block, rows in ((together, range(actors)), (alone, places.tolist())):
        for row in rows:
            block.reset(row)
            block.offsets_m[row] = runtime.contract.rest_offsets_m
    for n in range(3 * runtime.contract.window):
        together.frame[:, :3] = rng.normal(0, 0.5, (actors, 3, J))
        together.frame[:, 3:5] = 1.0
        together.time[:, 0] = 1 / 60
        together.tau_s[:] = 0.01 * n % 0.15
        together.step(slice(0, actors) if n % 2 else np.arange(actors))
        for row, place in enumerate(places.tolist()):
            for name in ("frame", "time", "tau_s"):
                getattr(alone, name)[place] = getattr(together, name)[row]
            alone.step(slice(place, place + 1))
        for name in ("positions", "rotations", "covariance", "contact"):
            np.testing.assert_array_equal(getattr(together, name), getattr(alone, name)[places])
        np.testing.assert_array_equal(together.skeleton(slice(0, actors)), alone.skeleton(places))


@needs_compiler
def test_rows_are_aligned_and_a_reset_touches_its_own(exported: Path) -> None:
    runtime = load_runtime("native", exported)
    block = runtime.open(3)
    assert block.capacity == 3
    for row in range(3):
        block.reset(row)
        block.frame[row] = row + 1.0
    assert {x % 64 for x in block._addresses.tolist()} == {0}  # type: ignore[attr-defined]
    block.reset(1)
    assert [float(block.frame[row].max()) for row in range(3)] == [1.0, 0.0, 3.0]


@needs_compiler
def test_memory_is_taken_by_rows_in_use_not_by_the_most_that_may_come(exported: Path) -> None:
    process, runtime = psutil.Process(), load_runtime("native", exported)
    assert isinstance(runtime, NativeRuntime)
    row_bytes = 4 * runtime.program.row_floats
    before = process.memory_info().rss
    block = runtime.open(2**31 // row_bytes)  # 2 GiB
    block.reset(0)
    assert process.memory_info().rss - before < 2**26


@needs_compiler
def test_a_reset_actor_is_a_new_one(exported: Path) -> None:
    frames = [frame for frame in eventful(300) if frame.actor == "b"]
    used, fresh = (PoseFilter.load(exported, runtime="native") for _ in range(2))
    used.push_many(frames[:50])
    used.reset("b")
    for one, other in zip(used.push_many(frames[50:]), fresh.push_many(frames[50:]), strict=True):
        assert one is not None
        assert other is not None
        assert max_mm(one.positions, other.positions) == 0.0


@needs_compiler
def test_the_second_start_does_not_compile(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load_runtime("native", exported)
    monkeypatch.setattr("streamer.runtimes.native.build._compile", None)
    load_runtime("native", exported)


def test_files_of_another_export_are_refused(exported: Path, tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="does not exist"):
        load_runtime("native", tmp_path)
    shutil.copytree(exported, tmp_path / "m")
    (tmp_path / "m" / "head.onnx").write_bytes(b"not a model")
    with pytest.raises(ContractError, match=r"head\.onnx"):
        load_runtime("native", tmp_path / "m")
