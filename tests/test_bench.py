"""The benchmarks' own arithmetic, and a short run of each against the real filter."""

from __future__ import annotations

import gc
import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from bench import latency
from bench.report import Percentiles, console, frozen_gc, machine, machine_line, one_core, percentile_table, write_json
from streamer.filter import PoseFilter


@given(st.lists(st.integers(0, 10**10), min_size=1, max_size=300))
def test_percentiles_are_ordered_and_within_the_data(durations_ns: list[int]) -> None:
    p = Percentiles.of_ns(durations_ns)
    assert p.count == len(durations_ns)
    assert min(durations_ns) * 1e-6 - 1e-9 <= p.p50 <= p.p90 <= p.p99 <= p.p99_9 <= p.max
    assert p.max == pytest.approx(max(durations_ns) * 1e-6)
    assert p.p50 == pytest.approx(float(np.median(durations_ns)) * 1e-6)


def test_percentiles_of_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="no durations"):
        Percentiles.of_ns([])


def test_machine_is_named_with_what_a_number_depends_on() -> None:
    info = machine()
    assert info["cpu"]
    assert info["cores"] >= 1
    assert info["packages"]["numpy"] == np.__version__
    assert f"{info['cores']} core" in machine_line(info)


def test_json_round_trip(tmp_path: Path) -> None:
    row = Percentiles.of_ns([1_000_000, 3_000_000])
    path = write_json(tmp_path / "new" / "result.json", {"push": row, "machine": machine()})
    back = json.loads(path.read_text())
    assert back["push"] == {
        "count": 2, "mean": 2.0, "p50": 2.0, "p90": row.p90, "p99": row.p99, "p99_9": row.p99_9, "max": 3.0,
    }  # fmt: skip


def test_table_names_its_rows_and_does_not_wrap_in_a_pipe() -> None:
    screen = console(io.StringIO())
    screen.print(percentile_table("t", {"a long name of a row": Percentiles.of_ns([1_500_000])}, "machine"))
    text = screen.file.getvalue()  # type: ignore[attr-defined]
    assert "a long name of a row" in text
    assert "1.500" in text


def test_frozen_gc_gives_back_what_it_found() -> None:
    frozen = gc.get_freeze_count()
    inside = []

    def fail() -> None:
        with frozen_gc():
            inside.append(gc.isenabled())
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert inside == [False]
    assert gc.isenabled()
    assert gc.get_freeze_count() == frozen


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot bind a thread to a core")
def test_one_core_gives_back_what_it_found() -> None:
    before = os.sched_getaffinity(0)
    with one_core() as core:
        assert os.sched_getaffinity(0) == {core}
    assert os.sched_getaffinity(0) == before


# -- latency


@pytest.fixture(scope="module")
def result() -> dict[str, Any]:
    return latency.run(steps=600, warmup=100, offline_steps=6)


def test_latency_measures_the_push_and_its_stages(result: dict[str, Any]) -> None:
    push = result["rows"]["push"]
    assert push.count == 600
    assert 0 < push.p50 <= push.p99 <= push.max
    inside = sum(row.p50 for row in result["stages"].values())
    assert 0 < inside <= push.p50 * 2  # two passes: a shared machine may be slower in one


def test_latency_compares_with_the_offline_model_in_the_same_run(result: dict[str, Any]) -> None:
    pytest.importorskip("torch", reason="torch is not installed (extra: train)")
    assert result["offline"]["parameters"] == pytest.approx(29.6e6, rel=0.01)
    offline, push = result["rows"]["offline window"], result["rows"]["push"]
    assert result["ratio_p50"] == pytest.approx(offline.p50 / push.p50)
    assert result["ratio_p50"] > 5


def test_latency_report_and_json(result: dict[str, Any], tmp_path: Path) -> None:
    screen = Console(file=io.StringIO(), width=140)
    latency.show(result, screen)
    text = screen.file.getvalue()  # type: ignore[attr-defined]
    assert "push" in text
    assert result["machine"]["cpu"] in text
    back = json.loads(write_json(tmp_path / "latency.json", result).read_text())
    assert back["rows"]["push"]["count"] == 600


def test_one_push_stays_within_its_budget() -> None:
    """Budgets of one push on one core: 2 ms always, 0.5 ms as the goal; the best of ten stretches of a shared machine.

    Under 0.4 ms where this was written; an older EPYC of 2.4 GHz took 0.65 ms: there the goal shows as xfailed.
    """
    pose_filter = PoseFilter.load()
    frames = latency.noisy_frames(1100)
    latency.measure_push(pose_filter, frames[:100], 99)
    stretches = [frames[start : start + 100] for start in range(100, 1100, 100)]
    with one_core():
        p50 = [np.median(latency.measure_push(pose_filter, stretch, 0).wall_ns) * 1e-6 for stretch in stretches]
    assert min(p50) < 2.0
    if min(p50) >= latency.BUDGET_MS:
        pytest.xfail(f"a push takes {min(p50):.2f} ms here, the goal is {latency.BUDGET_MS} ms")
