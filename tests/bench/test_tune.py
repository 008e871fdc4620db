"""Tuning: the search finds the best place, the table round-trips, and a tuned filter beats its default."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from bench.accuracy import tuned
from bench.accuracy.baselines import BASELINES, Kalman, OneEuro, Raw, run
from bench.accuracy.methods import SMOOTHERS, Case
from bench.accuracy.pairs import HIPS, read_pairs
from bench.accuracy.takes import Take, load_takes
from bench.accuracy.tune import ACCEL_WEIGHT, SPACES, Trial, merged, search, tune
from bench.report import write_json
from model.motion.synthetic import SyntheticActor
from model.noise.fixed import NOISES
from model.training.held_out import RENDERED_HELD_OUT
from streamer import cli
from streamer.errors import ConfigError


@pytest.fixture(scope="module")
def takes() -> list[Take]:
    return load_takes("synthetic", clips=3, seconds=4.0)


def test_the_search_ends_where_no_axis_improves_and_computes_nothing_twice() -> None:
    asked: list[tuple[float, float]] = []

    def bowl(settings: dict[str, float]) -> float:
        asked.append((settings["a"], settings["b"]))
        return (settings["a"] - 7.0) ** 2 + (settings["b"] - settings["a"] + 4.0) ** 2  # a valley between the axes

    grid = tuple(float(x) for x in range(12))
    assert search(bowl, {"a": grid, "b": grid}) == {"a": 7.0, "b": 3.0}
    assert len(asked) == len(set(asked))


def test_clips_side_by_side_are_scored_as_alone(takes: list[Take]) -> None:
    case = Case("realistic", 30.0, -0.1)
    together, baseline = Trial.of(takes, case, 0), Kalman(-0.1)
    alone = [Trial.of([take], case, 0) for take in takes]
    frames = [trial.counts.sum() for trial in alone]
    mean = np.average([trial.score(baseline)["mpjpe_root_mm"] for trial in alone if baseline.reset() is None],
                      weights=frames)  # fmt: skip
    baseline.reset()
    score = together.score(baseline)
    assert score["mpjpe_root_mm"] == pytest.approx(mean, abs=1e-6)
    assert score["objective"] == pytest.approx(score["mpjpe_root_mm"] + ACCEL_WEIGHT * score["accel_mm"])


def test_a_trial_scores_at_the_time_asked_for(takes: list[Take]) -> None:
    trial = Trial.of(takes[:1], Case("clean", 30.0, -0.1), 0)
    assert trial.score(Raw(-0.1))["mpjpe_root_mm"] < 1e-3
    assert trial.score(Raw(0.0))["mpjpe_root_mm"] > 1.0
    # the first second, and the second's 0.1 s of which the answers are for
    assert trial.counts.sum() == 121 - 31 - 3


def test_a_score_that_is_no_number_is_refused(takes: list[Take]) -> None:
    trial = Trial.of(takes[:1], Case("clean", 30.0, 0.0), 0)
    trial.given[60] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        trial.score(Raw(0.0))


@pytest.mark.parametrize("method", SPACES)
@pytest.mark.parametrize("at_s", [-0.1, 0.0, 0.1])
def test_tuned_is_better_than_untuned(takes: list[Take], method: str, at_s: float) -> None:
    case = Case("white10", 30.0, at_s)
    trial = Trial.of(takes[:2], case, 0)
    row = tune(trial, case, method)
    untuned = trial.score(BASELINES[method](at_s))
    assert row["objective"] <= untuned["objective"] + 0.02 * untuned["objective"]  # the default may lie off the grid
    assert row["objective"] < 0.98 * trial.score(Raw(at_s))["objective"] or at_s > 0
    assert ("late_s" in row["settings"]) == (at_s < 0 and method in ("one_euro", "holt"))
    assert ("damping" in row["settings"]) == (at_s > 0 and method in ("kalman", "holt"))


def test_an_output_known_to_be_late_is_read_later_but_never_ahead() -> None:
    times = np.arange(60) / 30.0
    line = np.stack([times, 0 * times, -times], -1)[:, None]
    now = run(OneEuro(0.0), times, line)
    np.testing.assert_allclose(run(OneEuro(-0.1, late_s=0.1), times, line), now, atol=1e-9)
    np.testing.assert_allclose(run(OneEuro(-0.1, late_s=1.0), times, line), now, atol=1e-9)
    late = run(OneEuro(-0.1, late_s=1 / 30), times, line)
    np.testing.assert_allclose(late[10:], now[8:-2], atol=1e-9)


def test_the_table_is_read_at_the_nearest_rate_and_time(tmp_path: Path) -> None:
    file = tmp_path / "tuned.json"
    rows = [
        {"method": "kalman", "noise": "clean", "rate_hz": rate, "at_s": at, "settings": {"acceleration": rate + at}}
        for rate in (30.0, 120.0) for at in (-0.1, 0.0)
    ]  # fmt: skip
    rows = [row | {"data": "train.npz"} for row in rows]
    file.write_text(json.dumps({"objective": "", "split": "train", "commands": [], "rows": rows}))
    assert tuned.settings("kalman", "clean", 50.0, -0.08, file) == {"acceleration": 29.9}
    assert tuned.settings("kalman", "clean", 100.0, 0.1, file) == {"acceleration": 120.0}
    with pytest.raises(ConfigError, match="'holt' for noise 'clean'"):
        tuned.settings("holt", "clean", 30.0, 0.0, file)
    (tmp_path / "broken.json").write_text('{"rows": [{"method": "kalman"}]}')
    with pytest.raises(ConfigError, match="bench tune"):
        tuned.read(tmp_path / "broken.json")


def test_the_bundled_table_was_tuned_on_training_clips_and_serves_every_method() -> None:
    found = tuned.summary()
    assert (found["split"], found["data"]) == ("train", ["rendered", "train.npz"])
    assert all(re.search("bench tune --(data|pairs)", command) for command in found["commands"])
    for noise in NOISES:
        for at_s in (-0.1, 0.0, 0.1):
            for method in SMOOTHERS:
                assert SMOOTHERS[method](Case(noise, 30.0, at_s)).at_s == at_s


def test_the_command_writes_what_it_found(tmp_path: Path) -> None:
    out = tmp_path / "tuned.json"
    words = ["bench", "tune", "--data", "synthetic", "--clips", "1", "--seconds", "3", "--noise", "white10"]
    assert cli.main([*words, "--at-frames", "0", "--out", str(out)]) == 0
    found = tuned.read(out)
    typed = "hpstm bench tune --data synthetic --clips 1 --seconds 3 --at-frames 0 --noise white10 --out"
    assert found["commands"] == [f"{typed} {out}"]  # as typed, in the order of --help
    assert [row["method"] for row in found["rows"]] == list(SPACES)
    trial = Trial.of(load_takes("synthetic", clips=1, seconds=3.0), Case("white10", 30.0, 0.0), 0)
    for row in found["rows"]:
        settings = tuned.settings(row["method"], "white10", 30.0, 0.0, out)
        assert trial.score(SPACES[row["method"]].kind(0.0, **settings))["objective"] == pytest.approx(row["objective"])


def test_rows_of_other_cases_stay_and_the_same_are_renewed(tmp_path: Path) -> None:
    def row(noise: str, value: float) -> dict[str, object]:
        return {"method": "kalman", "noise": noise, "rate_hz": 30.0, "at_s": 0.0, "data": "train.npz",
                "settings": {"acceleration": value}}  # fmt: skip

    out = tmp_path / "tuned.json"
    write_json(out, merged(out, [row("clean", 1.0), row("ar30", 2.0)], "first"))
    found = merged(out, [row("ar30", 3.0)], "second")
    assert found["commands"] == ["first", "second"]
    assert [(r["noise"], r["settings"]["acceleration"]) for r in found["rows"]] == [("clean", 1.0), ("ar30", 3.0)]
    assert merged(out, [row("clean", 4.0), row("ar30", 5.0)], "third")["commands"] == ["third"]


@pytest.mark.parametrize("words", [["--clips", "0"], ["--seconds", "2"], ["--rate", "0"]])
def test_wrong_settings_are_one_line(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", "tune", "--data", "synthetic", *words]) == 2
    assert "--clips must be at least 1" in capsys.readouterr().err


def test_the_tuned_one_euro_of_the_bench_is_the_table_s() -> None:
    smoother = SMOOTHERS["One-Euro"](Case("white10", 30.0, 0.0))
    assert isinstance(smoother, OneEuro)
    assert smoother.beta == tuned.settings("one_euro", "white10", 30.0, 0.0)["beta"]


def test_real_takes_are_tuned_on_without_those_held_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    t_s, rng = np.arange(120) / 30.0, np.random.default_rng(0)
    for n, (subject, steps) in enumerate((("1", 120), ("1", 100), (RENDERED_HELD_OUT[0], 120))):
        truth = SyntheticActor(n).positions(t_s[:steps])
        truth -= truth[:, HIPS].mean(1, keepdims=True)
        noisy = truth + rng.normal(0.0, 0.03, truth.shape)
        np.savez(tmp_path / f"{n}.npz", noisy=noisy, truth=truth, times_s=t_s[:steps], layout="smpl_24",
                 source="camera (train)", subject=subject)  # fmt: skip
    files = [str(tmp_path / f"{n}.npz") for n in range(3)]
    out = tmp_path / "tuned.json"
    assert cli.main(["bench", "tune", "--pairs", *files, "--at-frames", "0", "--out", str(out)]) == 0
    rows = {row["method"]: row for row in json.loads(out.read_text())["rows"]}
    assert set(rows) == set(SPACES)
    assert {(row["noise"], row["clips"], row["rate_hz"]) for row in rows.values()} == {("camera", 2, 30.0)}
    pairs = read_pairs(files[:2])
    untouched = Trial.of_pairs(pairs, 0.0).score(Raw(0.0))
    # White noise of 30 mm, and the middle of the hips, which is smoothed to half of its error.
    assert untouched["mpjpe_root_mm"] == pytest.approx(1e3 * 0.03 * 1.6 * np.sqrt(1.5), rel=0.1)
    assert all(row["mpjpe_root_mm"] < 0.9 * untouched["mpjpe_root_mm"] for row in rows.values())
    assert cli.main(["bench", "tune", "--pairs", files[2], "--out", str(out)]) == 2
    assert "held-out" in capsys.readouterr().err
    for both_or_none in (["--data", "synthetic", "--pairs", files[0]], []):
        assert cli.main(["bench", "tune", *both_or_none, "--out", str(out)]) == 2
        assert "either --data" in capsys.readouterr().err
