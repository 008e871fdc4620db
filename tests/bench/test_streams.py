"""The streams bench: every case at its small size, its bars, and the page that is made of them."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.report import console
from bench.streams import bars, streams, tables
from bench.streams.case import Case, Fault, ServerCase, Setting
from bench.streams.people import clip_people, procedural
from bench.streams.run import Run, play
from bench.streams.stream import START_NS, Stream, even, seen
from model.skeleton import INDEX
from streamer.cli import main
from streamer.errors import ConfigError
from streamer.filter import PoseFilter
from streamer.runtimes import load_runtime
from streamer.runtimes.block import Runtime

ROOT = Path(__file__).resolve().parents[2]
FILTER_CASES = [name for name, case in streams.CASES.items() if isinstance(case, Case)]
SERVER_CASES = [name for name, case in streams.CASES.items() if isinstance(case, ServerCase)]


@pytest.fixture(scope="module")
def runtime() -> Runtime:
    return load_runtime("auto", None, 1)


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    return Setting(procedural, streams.SMALL_SECONDS, tmp_path)


def missed(row: dict[str, Any]) -> list[str]:
    return [
        f"{bar['wanted']}; is {bar['value']}; {row['words']}" for bar in row["bars"] if not (bar["held"] or bar["due"])
    ]


@pytest.mark.parametrize("name", FILTER_CASES)
def test_what_a_source_does_is_held_at_its_bar(name: str, runtime: Runtime) -> None:
    case = streams.CASES[name]
    assert isinstance(case, Case)
    assert not missed(streams.row_of(case, "procedural", procedural, 1, streams.SMALL_SECONDS, runtime))


@pytest.mark.parametrize("name", SERVER_CASES)
def test_what_a_network_does_is_held_at_its_bar(name: str) -> None:
    case = streams.CASES[name]
    assert isinstance(case, ServerCase)
    assert not missed(streams.server_row(case, seconds=1.5))


def test_cases_on_clips(shared_data: Path, tmp_path: Path) -> None:
    """The motion of a clip is the person's: bones constant, truth exact, and a scaled one is as much smaller."""
    people = clip_people(shared_data, 1)
    person, small = people(0, 1.7), people(0, 0.85)
    t_s = even(0.0, 3.0)
    assert np.allclose(small.positions(t_s), 0.5 * person.positions(t_s), atol=1e-9)
    lengths = np.linalg.norm(person.positions(t_s)[:, INDEX["left_knee"]] - person.positions(t_s)[:, 1], axis=-1)
    assert np.ptp(lengths) < 1e-6
    row = streams.run(["clean"], streams.SMALL_SECONDS, 1, shared_data)["rows"][1]
    assert row["truth"] == "clips"
    assert row["held"], row["bars"]


# -- what a stream is


def test_a_stream_is_spoilt_where_it_is_told_and_nowhere_else(setting: Setting) -> None:
    good = setting.stream(noise_mm=10.0)
    bad = good.showing(slice(3, 5), 0.0)
    changed = [not np.array_equal(a.positions, b.positions) for a, b in zip(good.frames, bad.frames)]
    assert np.flatnonzero(changed).tolist() == [3, 4]
    assert np.flatnonzero(~bad.shown.any(1)).tolist() == [3, 4]
    assert np.array_equal(bad.truth, good.truth)
    error = np.linalg.norm(good.frames[0].positions - good.truth[0], axis=-1).mean()
    assert error == pytest.approx(0.0159, rel=0.25)  # 10 mm per coordinate


def test_two_streams_go_in_the_order_of_their_times(setting: Setting) -> None:
    one = setting.stream()
    other = replace(one, at_s=one.at_s + 0.01).told(actor="b")
    both = one.with_(other)
    assert [frame.actor for frame in both.frames[:4]] == ["a", "b", "a", "b"]
    assert (np.diff(both.at_s) > 0).all()
    assert len(both.without(both.between(0.0, 1.0))) == len(both) - 60


def test_a_layout_is_sent_in_its_own_order() -> None:
    stream = seen(procedural(1), even(0.0, 0.2), layout="vrm")
    assert stream.frames[0].positions.shape == (22, 3)
    assert stream.shown[0].sum() == 22
    assert stream.frames[0].t_ns == START_NS


# -- what is measured


@pytest.fixture
def ran(setting: Setting, runtime: Runtime) -> Run:
    stream = setting.stream(noise_mm=10.0)
    return play(replace(stream, twin=setting.stream(noise_mm=11.0)), runtime)


def test_errors_are_of_the_joints_that_are_shown(ran: Run) -> None:
    assert ran.error_mm(ran.given) == pytest.approx(15.9, abs=0.4)
    assert ran.error_mm(ran.stream.truth) == 0.0
    wrist = ran.stream.truth.copy()
    wrist[:, INDEX["left_wrist"]] += 1.0
    hidden = ran.stream.shown.copy()
    hidden[:, INDEX["left_wrist"]] = False
    assert ran.error_mm(wrist) == pytest.approx(1e3 * np.sqrt(3) / 24)
    assert replace(ran, stream=replace(ran.stream, shown=hidden)).error_mm(wrist) == 0.0
    broken = np.where(np.arange(len(wrist))[:, None, None] == 100, np.nan, ran.ours)
    assert ran.error_mm(broken) == np.inf  # not left out of a mean


def moved(ran: Run) -> Run:
    ours = ran.ours.copy()
    ours[ran.stream.between(7.0, 8.0)] += 1.0
    return replace(ran, ours=ours)


def gone(ran: Run) -> Run:
    return replace(ran, came=ran.came & ~ran.stream.between(7.0, 8.0))


def other_bones(ran: Run) -> Run:
    offsets = ran.offsets_m.copy()
    offsets[ran.stream.between(7.0), 4] += 0.01
    return replace(ran, offsets_m=offsets)


CAN_FAIL: dict[str, tuple[bars.Bar, Callable[[Run], Run]]] = {
    "finite": (bars.finite(), lambda ran: replace(ran, finite=ran.finite & (np.arange(len(ran.finite)) != 9))),
    "error": (bars.error(16.0, 6.0), moved),
    "worst_error": (bars.worst_error(40.0, 6.0), moved),
    "within": (bars.within(0.5, 6.0, 60.0), moved),
    "better": (bars.better(6.0), moved),
    "one_euro": (bars.against_one_euro(6.0), moved),
    "as_twin": (bars.as_twin(60.0, 6.6), moved),
    "as_twin_more": (bars.as_twin(3.0, 6.6, more=True), moved),
    "silence": (bars.silence(0.5), gone),
    "same_skeleton": (bars.same_skeleton(6.0), other_bones),
    "status": (bars.status("tracking", 1.0, 6.0), lambda ran: replace(ran, status=np.full(len(ran.came), "lost"))),
    "counted": (bars.counted("late", 0, 0), lambda ran: replace(ran, counted=Counter(late=1))),
    "quiet": (bars.quiet(), lambda ran: replace(ran, refusals=("something",))),
    "clear_lines": (bars.clear_lines(), lambda ran: replace(ran, warnings=("actor 'a': fine", "nobody"))),
    "turned": (bars.turned(170.0), lambda ran: replace(ran, rotations=np.roll(ran.rotations, 1, axis=-1))),
}


@pytest.mark.parametrize("name", CAN_FAIL)
def test_a_bar_is_held_by_a_good_stream_and_not_by_a_bad_one(name: str, ran: Run) -> None:
    bar, spoil = CAN_FAIL[name]
    assert bar.held(bar.measure(ran)), bar.measure(ran)
    assert not bar.held(bar.measure(spoil(ran))), bar.measure(spoil(ran))


def test_of_several_values_the_worst_stands() -> None:
    both = bars.Bar("share", float, most=1.0, least=1.0)
    assert both.worst([1.0, 0.4, 1.0]) == 0.4
    assert np.isnan(bars.Bar("x", float, most=1.0).worst([0.1, np.nan]))
    assert not bars.Bar("x", float, most=1.0).held(np.nan)
    assert bars.Bar("x", float, least=2.0).worst([5.0, 3.0]) == 3.0


# -- the command


def impossible(_: Setting) -> Stream:
    return seen(procedural(1), even(0.0, 6.5))


def test_a_bar_that_is_not_held_is_said_and_is_the_exit_code(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    case = Case("never", Fault("never", "nothing", "-"), impossible, [bars.error(-1.0)])
    monkeypatch.setattr(streams, "CASES", {"never": case})
    told, page = tmp_path / "streams.json", tmp_path / "streams.md"
    assert main(["bench", "streams", "--small", "--json", str(told), "--markdown", str(page)]) == 1
    (row,) = json.loads(told.read_text())["rows"]
    assert not row["held"]
    assert f"{row['bars'][0]['wanted']}" in page.read_text()
    assert tables.NOT_HELD in page.read_text()
    monkeypatch.setattr(streams, "CASES", {"never": replace(case, bars=[bars.finite()])})
    assert main(["bench", "streams", "--small"]) == 0


def test_a_bar_that_is_due_later_is_named_and_fails_nobody(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    due = replace(bars.error(-1.0), due="model 9")
    case = Case("later", Fault("never", "nothing", "-"), impossible, [bars.finite(), due])
    monkeypatch.setattr(streams, "CASES", {"later": case})
    page = tmp_path / "streams.md"
    assert main(["bench", "streams", "--small", "--markdown", str(page)]) == 0
    assert "not held (model 9): later, procedural" in capsys.readouterr().out
    assert "not held (model 9)" in page.read_text()
    assert "`later` (model 9)" in tables.faults_page([case])
    monkeypatch.setattr(streams, "CASES", {"later": replace(case, bars=[bars.better(), due, bars.error(-2.0)])})
    assert main(["bench", "streams", "--small"]) == 1
    assert "NOT HELD: later" in capsys.readouterr().out


def test_an_unknown_case_is_named() -> None:
    with pytest.raises(ConfigError, match="nonsense"):
        streams.run(["nonsense"])


def test_the_table_names_what_is_not_held() -> None:
    screen = console(io.StringIO())
    bar = {"text": "error, mm", "wanted": "error, mm: at most 5", "value": 7.25, "held": False, "due": ""}
    row = {"case": "c", "truth": "procedural", "input_mm": 1.0, "one_euro_mm": float("nan"), "ours_mm": 7.25,
           "finite": 1.0, "status": {"tracking": 1.0}, "counted": {"late": 2}, "words": [], "bars": [bar],
           "held": False}  # fmt: skip
    info = {"cpu": "x", "cores": 1, "load_1min": None, "system": "s", "python": "3"}
    tables.show({"rows": [row], "notes": ["a note"], "machine": info}, screen)
    said = screen.file.getvalue()  # type: ignore[attr-defined]
    assert "NOT HELD: c, procedural: error, mm: at most 5; is 7.25" in said
    assert "a note" in said
    assert "late 2" in said


def test_the_page_of_faults_is_what_the_cases_say() -> None:
    """Written anew by `hpstm bench streams --faults docs/faults.md`."""
    assert (ROOT / "docs" / "faults.md").read_text(encoding="utf-8") == tables.faults_page(streams.CASES.values())


def test_every_name_that_is_counted_is_one_that_the_filter_or_the_server_knows() -> None:
    source = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "streamer").rglob("*.py"))
    for case in streams.CASES.values():
        for bar in case.bars:
            assert not bar.counts or f'"{bar.counts}"' in source, (case.name, bar.counts)


def test_a_filter_is_told_of_bones_before_the_first_frame(runtime: Runtime) -> None:
    told: list[PoseFilter] = []
    play(replace(seen(procedural(1), even(0.0, 0.1)), tell=told.append), runtime)
    assert len(told) == 1
