"""The soak bench: a few simulated seconds of it, and its measures of difference and growth."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench.report import console, write_json
from bench.service import soak
from streamer.filter import PoseFilter

pytestmark = pytest.mark.timeout(600)


def test_some_simulated_seconds(tmp_path: Path) -> None:
    result = soak.run(hours=16 / 3600, rate_hz=30.0)
    assert result["pushes"] == 16 * 30 + result["visitors"] * 60
    assert result["visitors"] == 1
    assert result["actors_left"] == 1
    assert len(result["against_fresh"]) == 2
    for compared in result["against_fresh"]:
        assert compared["poses"] == 60
        assert compared["tail_s"] == 4
        assert 0 <= compared["mean_mm"] <= compared["max_mm"]
    assert result["push_us"]["late"] > 0
    assert result["resident_mib"]["late"] > 20
    screen = console(io.StringIO())
    soak.show(result, screen)
    assert "against a fresh filter" in screen.file.getvalue()  # type: ignore[attr-defined]
    back = json.loads(write_json(tmp_path / "soak.json", result).read_text())
    assert len(back["series"]["hours"]) == 8


def test_a_filter_forgets() -> None:
    """After four minutes it says what a fresh one says that saw the last minute: longer than its ring and its front
    reach, and than it remembers where the source places joints (20 s)."""
    late = soak.run(hours=240 / 3600, rate_hz=30.0)["against_fresh"][-1]
    assert late["tail_s"] == 60
    assert late["max_mm"] < 5.0


def test_chunks_are_the_same_whenever_they_are_asked_for() -> None:
    motion = soak.Motion(30.0, seed=3)
    first, again = motion.chunk(5), soak.Motion(30.0, seed=3).chunk(5)
    for a, b in zip(first, again, strict=True):
        assert a.t_ns == b.t_ns
        assert np.array_equal(a.positions, b.positions, equal_nan=True)
    assert motion.chunk(6)[0].seq == first[-1].seq + 1
    assert not np.array_equal(motion.chunk(6)[0].positions, first[0].positions)


def test_difference_is_zero_for_the_same_pose_whatever_the_sign_of_its_quaternions() -> None:
    frames = soak.Motion(30.0, seed=1).chunk(0)
    pose = PoseFilter.load().push(frames[0])
    assert soak.difference(pose, replace(pose, rotations=-pose.rotations)) == (0.0, 0.0)
    moved = replace(pose, positions=pose.positions + np.float32([0, 0.003, 0]))
    assert soak.difference(pose, moved)[0] == pytest.approx(3.0, rel=1e-3)
    half = np.radians(2.0) / 2
    turned = np.tile(np.float32([0, np.sin(half), 0, np.cos(half)]), (24, 1))
    still = np.tile(np.float32([0, 0, 0, 1]), (24, 1))
    apart = soak.difference(replace(pose, rotations=still), replace(pose, rotations=turned))
    assert apart[1] == pytest.approx(2.0, rel=1e-3)


def test_growth_is_seen_and_the_start_left_out() -> None:
    series = np.r_[np.full(10, 500.0), np.linspace(100, 190, 90)]
    found = soak.ends(series)
    assert found["early"] == pytest.approx(104.5, abs=1)
    assert found["late"] == pytest.approx(185.5, abs=1)
    assert soak.ends(np.array([7.0, 8.0, 9.0, 10.0])) == {"early": 8.0, "late": 10.0}


def test_thinned_keeps_at_most_so_many() -> None:
    assert soak.thinned(np.arange(7.0)) == list(range(7))
    assert len(soak.thinned(np.zeros(43_200))) == 500
    assert soak.thinned(np.array([1.0, 2.0, 9.0, 4.0, 4.0, 4.0]), most=2) == [2.0, 4.0]


def test_what_there_is_gets_reported_when_it_is_stopped() -> None:
    asked = iter([False] * 5 + [True] * 100)
    result = soak.run(hours=1.0, rate_hz=30.0, stopped=lambda: next(asked))
    assert result["settings"]["hours"] == pytest.approx(6 * 2 / 3600)
    assert result["pushes"] == 6 * 60 + 60  # and one visitor
    assert len(result["against_fresh"]) == 1
    assert len(result["series"]["push_us"]) == 6
    assert np.isfinite(result["series"]["push_us"]).all()
    screen = console(io.StringIO())
    soak.show(result, screen)
    assert "stopped before the 1 h" in screen.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.skipif(os.name != "posix", reason="signals are sent as on POSIX")
def test_sigterm_ends_it_with_a_report(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bench.service.soak", "--rate", "30", "--json",
               str(tmp_path / "s.json"), "--plots", str(tmp_path)]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert "Ctrl-C" in process.stdout.readline()
        time.sleep(1.0)
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert "stopped before the 24 h" in said
    assert json.loads((tmp_path / "s.json").read_text())["pushes"] > 0
    assert (tmp_path / "soak.png").stat().st_size > 10_000
