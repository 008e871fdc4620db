"""The benchmarks' own arithmetic, and a short run of each against the real filter."""

from __future__ import annotations

import gc
import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.report import Percentiles, console, frozen_gc, machine, machine_line, one_core, percentile_table, write_json


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
    gc.unfreeze()  # whatever a test before has frozen
    inside = []

    def fail() -> None:
        with frozen_gc():
            inside.append(gc.isenabled())
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert inside == [False]
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0


def test_what_was_frozen_before_stays_frozen() -> None:
    gc.freeze()
    try:
        with frozen_gc():
            pass
        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot bind a thread to a core")
def test_one_core_gives_back_what_it_found() -> None:
    before = os.sched_getaffinity(0)
    with one_core() as core:
        assert os.sched_getaffinity(0) == {core}
    assert os.sched_getaffinity(0) == before
