"""The velocity bench: its truth, its differences, and a short run of the real filter on synthetic motion."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bench.accuracy.takes import Take
from bench.accuracy.velocity import DIFFERENCES, METHODS, ONE_EURO, OWN, differences, true_velocity
from model.skeleton import J
from streamer import cli
from streamer.clock import SECOND_NS


def test_a_joint_on_a_parabola_is_as_fast_as_it_is() -> None:
    native_ns = np.arange(601) * SECOND_NS // 120
    path = np.zeros((601, J, 3))
    path[:, :, 1] = ((native_ns / SECOND_NS) ** 2)[:, None]
    take = Take("a", native_ns, path, native_ns[::4], np.zeros((601, 2), bool))
    velocity, counts = true_velocity(take, take.t_ns)
    np.testing.assert_allclose(velocity[counts][:, 5, 1], 2 * take.t_ns[counts] / SECOND_NS, rtol=1e-6)
    assert take.t_ns[counts].min() > 1.5 * SECOND_NS
    assert not counts[-1]  # nothing is known after the last
    behind = differences(take.t_ns, take.truth_at(take.t_ns))
    assert np.isnan(behind[0]).all()
    middles_s = (take.t_ns[1:] + take.t_ns[:-1]) / 2 / SECOND_NS
    np.testing.assert_allclose(behind[1:, 5, 1], 2 * middles_s, rtol=1e-6)


def test_a_run_scores_every_method_at_every_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["bench", "velocity", "synthetic", "--clips", "1", "--seconds", "4", "--rate", "30"]
    assert cli.main([*words, "--noise", "clean", "white10", "--json", str(tmp_path / "v.json")]) == 0
    result = json.loads((tmp_path / "v.json").read_text())
    assert [(row["noise"], row["at_s"]) for row in result["rows"]] == [
        (noise, at) for noise in ("clean", "white10") for at in (0.0, -0.1, 0.05)
    ]
    for row in result["rows"]:
        assert all(0 < row[method] < row["speed"] for method in METHODS)
    delayed = next(row for row in result["rows"] if (row["noise"], row["at_s"]) == ("white10", -0.1))
    assert delayed[OWN] < delayed[DIFFERENCES] < delayed[ONE_EURO]
    assert result["push_us"]["with"] > result["push_us"]["without"]
    said = capsys.readouterr().out
    assert all(method.split()[0] in said for method in METHODS)


@pytest.mark.parametrize(
    ("words", "said"),
    [(["nowhere"], "not found"), (["synthetic", "--noise", "loud"], "choose from"),
     (["synthetic", "--clips", "0"], "at least 1"),
     (["synthetic", "--seconds", "2"], "more than 3"), (["synthetic", "--delay", "-1"], "not negative")],
)  # fmt: skip
def test_mistakes_are_one_line(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", "velocity", *words]) == 2
    assert said in capsys.readouterr().err
