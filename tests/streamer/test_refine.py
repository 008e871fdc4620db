"""``hpstm refine``: what comes out of each kind of file, what a second run does, and what a killed worker costs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.motion.synthetic import SyntheticActor
from model.prepare import read_clip
from streamer.archive import pool
from streamer.archive.inputs import files_in, is_take, target_of, tasks_for
from streamer.archive.manifest import NAME, open_manifest
from streamer.archive.on_ray import rows_of_ray
from streamer.archive.passes import faded, refined
from streamer.archive.pool import rows_of_pool
from streamer.archive.streams import rate_of
from streamer.archive.task import UNFINISHED, Row, Settings, Task, model_hash, work
from streamer.cli import main
from streamer.clock import SECOND_NS
from streamer.errors import ConfigError
from streamer.frames import Frame
from streamer.runtimes import load_runtime
from streamer.runtimes.block import Runtime
from streamer.sources.replay import read_take
from tests.helpers import archives
from tests.helpers.networks import BUNDLED, NOT_BUNDLED
from tests.helpers.project import ROOT

pytestmark = pytest.mark.skipif(not BUNDLED, reason=NOT_BUNDLED)

GOOD = {"walk.bvh": 1, "turns.npz": 1, "points.npz": 1, "a.npz": 2, "sub/b.npz": 3}  # result -> the person's seed
FRAMES = 45


def fill(folder: Path) -> Path:
    """A folder of one take of each kind, and two files that cannot be read."""
    (folder / "sub").mkdir(parents=True)
    archives.write_turns(folder / "walk.bvh", FRAMES)
    archives.write_turns(folder / "turns.npz", FRAMES)
    archives.write_npz(folder / "points.npz", archives.seen(FRAMES))
    archives.write_trc(folder / "a.trc", archives.seen(FRAMES, 2))
    archives.write_csv(folder / "sub" / "b.csv", archives.seen(FRAMES, 3))
    archives.write_recording(folder / "r.hpstm", {"ann": archives.seen(FRAMES, 4), "bo/b": archives.seen(30, 5)})
    (folder / "broken.bvh").write_text("HIERARCHY\n")
    (folder / "words.csv").write_text("one,two\n1,2\n")
    (folder / "notes.txt").write_text("no take")
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``hpstm refine`` made of the folder ``in``, in ``out`` beside it, by two processes."""
    here = tmp_path_factory.mktemp("archive")
    words = [sys.executable, "-m", "streamer", "refine", str(fill(here / "in")), "--out", str(here / "out")]
    done = subprocess.run([*words, "--jobs", "2", "--runtime", "onnx"], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 1, done.stderr  # two were refused
    said = done.stderr.splitlines()
    assert len(said) == 2
    assert any("broken.bvh" in line and "line 1" in line for line in said)
    assert any("words.csv" in line for line in said)
    assert "6 refined, 0 were done before, 2 refused" in done.stdout
    return here


@pytest.fixture(scope="module")
def runtime() -> Runtime:
    return load_runtime("onnx")


def settings(suffix: str = "") -> Settings:
    return Settings(suffix, None, None, None, "onnx", None, model_hash(None))


def tasks(paths: list[Path], out: Path, done: dict[str, Row] | None = None) -> list[Task]:
    made, refused = tasks_for(files_in(paths, out), out, settings(), done or {})
    assert refused == []
    return made


# -- what comes out ---------------------------------------------------------------------------------------------------


def test_every_kind_is_refined_to_a_file_of_its_own(run: Path) -> None:
    for name, seed in GOOD.items():
        clip = read_clip(run / "out" / name)
        assert len(clip) == FRAMES
        assert clip.fps == pytest.approx(archives.FPS, rel=1e-4)
        truth = archives.truth(FRAMES, seed)
        assert np.linalg.norm(clip.positions - truth, axis=-1).mean() < 0.06
    assert len(read_clip(run / "out" / "r-ann.npz")) == FRAMES
    assert len(read_clip(run / "out" / "r-bo%2Fb.npz")) == 30
    assert not (run / "out" / UNFINISHED).exists()


def test_replay_reads_named_joints_too(run: Path) -> None:
    take = read_take(run / "in" / "a.trc")
    assert (len(take.frames), take.frames[0].layout, take.fps) == (FRAMES, "halpe_26", pytest.approx(30.0, rel=1e-3))
    with pytest.raises(ConfigError, match=r"words\.csv: line 1"):
        read_take(run / "in" / "words.csv")


def test_a_file_with_bones_keeps_them(run: Path) -> None:
    before, after = read_clip(run / "in" / "walk.bvh"), read_clip(run / "out" / "walk.bvh")
    np.testing.assert_allclose(after.lengths_m, before.lengths_m, atol=1e-5)


def test_the_report_says_what_was_read_and_refused_and_how_steady_it_became(run: Path) -> None:
    report = json.loads((run / "out" / "report.json").read_text())
    assert report["counts"] == {"done": 6, "skipped": 0, "refused": 2}
    rows = {row["input"]: row for row in report["files"]}
    assert {row["kind"] for row in rows.values()} == {"", "BVH", "AMASS", "TRC", "csv", "joint positions", "recording"}
    assert "halpe_26" in rows["a.trc"]["mapped"]
    assert "1 frames came late" in rows["r.hpstm"]["notes"][0]
    takes = [take for row in rows.values() for take in row["takes"]]
    assert len(takes) == 7
    trembling = [rows[name]["takes"][0]["jitter_m_s3"] for name in ("walk.bvh", "turns.npz")]
    assert all(jitter["out"] < 0.9 * jitter["in"] for jitter in trembling)  # turns tremble, bones do not
    for take in takes:
        assert take["jitter_m_s3"]["out"] < 0.2 * take["jitter_m_s3"]["in"] or take["jitter_m_s3"] in trembling
        assert take["bone_std_mm"]["out"] < 1e-3
    loose = [take for name in ("points.npz", "a.trc", "sub/b.csv", "r.hpstm") for take in rows[name]["takes"]]
    assert all(take["bone_std_mm"]["in"] > 5.0 for take in loose)
    text = (run / "out" / "report.md").read_text()
    assert all(name in text for name in rows)
    pytest.importorskip("matplotlib", reason="matplotlib is not installed (extra: bench)")
    assert (run / "out" / "worst-1.png").read_bytes().startswith(b"\x89PNG")
    assert "worst-3.png" in text


def test_both_directions_are_one_the_others_mirror(runtime: Runtime) -> None:
    """A take that is played backwards is refined to the same, backwards."""
    at = archives.seen(40).astype(np.float32)
    t_ns = [round(n * SECOND_NS / 30) for n in range(40)]
    ahead = [Frame("a", n, t_ns[n], at[n]) for n in range(40)]
    back = [Frame("a", n, t_ns[-1] - t_ns[39 - n], at[39 - n]) for n in range(40)]
    bones = SyntheticActor(1).offsets_m
    first, second = refined("a", ahead, 30.0, 40, runtime, bones), refined("a", back, 30.0, 40, runtime, bones)
    np.testing.assert_allclose(np.stack(list(second.positions()))[::-1], np.stack(list(first.positions())), atol=1e-6)


def test_a_gap_is_crossed(runtime: Runtime) -> None:
    at = archives.seen(60).astype(np.float32)
    frames = [Frame("a", n, round(n * SECOND_NS / 30), at[n]) for n in range(60) if not 20 <= n < 45]
    whole = refined("a", frames, 30.0, 60, runtime)
    assert len(whole) == 60
    step = np.linalg.norm(np.diff(whole.root, axis=0), axis=-1)
    assert np.isfinite(whole.local).all()
    assert step.max() < 0.25


def test_a_direction_fades_towards_what_it_does_not_know() -> None:
    known = np.array([True] * 6 + [False] * 2 + [True] * 5)
    np.testing.assert_allclose(faded(known, 4), [1, 1, 1, 0.75, 0.5, 0.25, 0, 0, 0.25, 0.5, 0.75, 1, 1])
    assert (faded(np.ones(3, bool), 4) == 1).all()


@pytest.mark.parametrize(
    ("times_s", "wanted"),
    [
        (np.arange(50) / 59.94, (59.94, 50)),
        (np.round(np.arange(50) / 60.0, 3), (60.0, 50)),  # to a millisecond
        (np.array([0.0]), (15.0, 1)),
        (np.concatenate([np.arange(30) / 30.0, 5.0 + np.arange(30) / 30.0]), (30.0, 180)),
    ],
)
def test_the_rate_is_the_sources_own_where_it_has_one(times_s: np.ndarray, wanted: tuple[float, int]) -> None:
    rate, count = rate_of(times_s)
    assert (rate, count) == (pytest.approx(wanted[0], rel=2e-4), wanted[1])


# -- a second run -----------------------------------------------------------------------------------------------------


def test_a_second_run_does_only_what_is_new(run: Path, tmp_path: Path) -> None:
    here = shutil.copytree(run, tmp_path / "copy")
    archives.write_npz(here / "in" / "points.npz", archives.seen(FRAMES, 7))
    (here / "out" / "sub" / "b.npz").unlink()
    before = {name: (here / "out" / name).read_bytes() for name in ("walk.bvh", "a.npz", "points.npz", "r-ann.npz")}
    with open_manifest(here / "out") as manifest:
        assert len(manifest.done) == 6
        rows = {row.input: row for row in map(work, tasks([here / "in"], here / "out", manifest.done))}
    assert {name: row.status for name, row in rows.items()} == {
        "walk.bvh": "skipped", "turns.npz": "skipped", "a.trc": "skipped", "r.hpstm": "skipped",
        "points.npz": "done", "sub/b.csv": "done", "broken.bvh": "refused", "words.csv": "refused",
    }  # fmt: skip
    assert (here / "out" / "points.npz").read_bytes() != before["points.npz"]
    assert (here / "out" / "sub" / "b.npz").read_bytes() == (run / "out" / "sub" / "b.npz").read_bytes()
    other = replace(settings(), fps=15.0)
    keys = {work(replace(task, settings=other)).status for task in tasks([here / "in" / "walk.bvh"], here / "out")}
    assert keys == {"done"}


def test_the_skeleton_beside_an_amc_counts(tmp_path: Path) -> None:
    from tests.helpers.motion_files import amc_text, asf_text, random_angles

    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "x_1.amc").write_text(amc_text(random_angles(12)))
    (tmp_path / "in" / "x.asf").write_text(asf_text())
    (task,) = tasks([tmp_path / "in"], tmp_path / "out")
    first = work(task)
    assert (first.status, first.kind, first.outputs) == ("done", "ASF/AMC", ["x_1.npz"]), first.reason
    known = replace(task, known=first.key, outputs=tuple(first.outputs))
    assert work(known).status == "skipped"
    (tmp_path / "in" / "x.asf").write_text(asf_text().replace("TEST", "ANOTHER"))
    assert work(known).status == "done"


def test_a_line_that_a_crash_cut_off_is_done_again(tmp_path: Path) -> None:
    with open_manifest(tmp_path / "out") as manifest:
        manifest.add(Row("a", "done", key="1"))
        manifest.add(Row("b", "done", key="2"))
    path = tmp_path / "out" / NAME
    path.write_bytes(path.read_bytes()[:-20])
    with open_manifest(tmp_path / "out") as manifest:
        assert set(manifest.done) == {"a"}
        manifest.add(Row("c", "done"))
    with open_manifest(tmp_path / "out") as manifest:
        assert set(manifest.done) == {"a", "c"}


# -- workers ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def five(tmp_path: Path) -> list[Task]:
    """Five short takes, three of which are called for the harm that ``harmed`` does to them."""
    (tmp_path / "in").mkdir()
    for n, name in enumerate(("a", "always", "fault", "once", "z")):
        archives.write_npz(tmp_path / "in" / f"{name}.npz", archives.seen(8, n))
    return tasks([tmp_path / "in"], tmp_path / "out")


def assert_nothing_lost(rows: list[Row], five: list[Task], tmp_path: Path) -> None:
    """What kills every worker, or hits a fault of ours, is refused; all others are as this process makes them."""
    found = {row.input: row for row in rows}
    assert len(rows) == len(found) == 5
    assert {name: row.status for name, row in found.items()} == {
        "a.npz": "done", "always.npz": "refused", "fault.npz": "refused", "once.npz": "done", "z.npz": "done"
    }, rows  # fmt: skip
    assert "was killed, twice" in found["always.npz"].reason
    assert "nobody expected this" in found["fault.npz"].reason
    assert (tmp_path / "out.killed").exists()
    for task in five:
        if found[task.label].status == "done":
            assert work(replace(task, out=str(tmp_path / "alone"))).status == "done"
            assert (tmp_path / "out" / task.target).read_bytes() == (tmp_path / "alone" / task.target).read_bytes()


def test_a_killed_worker_loses_nothing(five: list[Task], tmp_path: Path) -> None:
    with open_manifest(tmp_path / "out"):
        rows = list(rows_of_pool(five, 2, archives.harmed))
    assert_nothing_lost(rows, five, tmp_path)
    assert not (tmp_path / "out" / UNFINISHED).exists()


class BrokenMeanwhile(ThreadPoolExecutor):
    """A pool that breaks with one task at work, before a second can be given to it."""

    def submit(self, *_: Any, **__: Any) -> Future[Any]:
        if self._shutdown:
            raise BrokenProcessPool("broken")
        self._shutdown = True
        future: Future[Any] = Future()
        future.set_exception(BrokenProcessPool("broken"))
        return future


def test_a_pool_that_breaks_while_it_is_given_work_loses_nothing(
    five: list[Task], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pools = iter([BrokenMeanwhile, ThreadPoolExecutor, BrokenMeanwhile])

    def next_pool(processes: int) -> ThreadPoolExecutor:
        return next(pools, ThreadPoolExecutor)(processes)

    monkeypatch.setattr(pool, "_pool", next_pool)
    rows = list(rows_of_pool(five, 2, lambda task: Row(task.label, "done")))
    assert sorted(row.input for row in rows) == [task.label for task in five]
    assert {row.status for row in rows} == {"done"}


ON_RAY = """
import json, sys
from dataclasses import asdict
from streamer.archive.on_ray import rows_of_ray
from streamer.archive.task import Settings, Task
from tests.helpers.archives import harmed
words = json.loads(sys.argv[1])
tasks = [Task(**{**word, "settings": Settings(**word["settings"]), "outputs": ()}) for word in words]
print(json.dumps([asdict(row) for row in rows_of_ray(tasks, 2, "", harmed)]))
"""


@pytest.mark.timeout(500)  # Ray starts half a dozen processes of its own
def test_ray_writes_the_same_bytes_and_loses_nothing_to_a_kill(five: list[Task], tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="ray is not installed (extra: ray)")
    words = json.dumps([asdict(task) for task in five])
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", ON_RAY, words], capture_output=True, text=True, cwd=ROOT, env=env)
    assert done.returncode == 0, done.stderr
    rows = [Row(**row) for row in json.loads(done.stdout.splitlines()[-1])]
    assert_nothing_lost(rows, five, tmp_path)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "takes/", "host:port"])
def test_a_cluster_that_is_not_there_is_said_at_once(address: str) -> None:
    with pytest.raises(ConfigError, match="no cluster there; give auto"):
        list(rows_of_ray([], 1, address))


def test_ray_that_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"hpstm-live\[ray\]"):
        list(rows_of_ray([], 1))


# -- where files come from and go -------------------------------------------------------------------------------------


def test_results_lie_as_their_files_do(tmp_path: Path) -> None:
    assert target_of("a/b.c.bvh.gz", "") == "a/b.c.bvh"
    assert target_of("a/b.amc.gz", "") == "a/b.npz"
    assert target_of("x.TRC", ".glb") == "x.glb"
    assert not is_take(Path("clips.csv"))
    fill(tmp_path / "in")
    (tmp_path / "in" / "out").mkdir()  # results of an earlier run are no takes
    archives.write_npz(tmp_path / "in" / "out" / "walk.npz", archives.seen(4))
    found = [label for _, label in files_in([tmp_path / "in"], tmp_path / "in" / "out")]
    assert found == ["a.trc", "broken.bvh", "points.npz", "r.hpstm", "turns.npz", "walk.bvh", "words.csv", "sub/b.csv"]


def test_two_files_of_one_result_are_not_both_done(tmp_path: Path) -> None:
    files = [(tmp_path / "1" / "x.trc", "x.trc"), (tmp_path / "2" / "x.csv", "x.csv")]
    made, refused = tasks_for(files, tmp_path / "out", settings(), {})
    assert [task.label for task in made] == ["x.trc"]
    assert [row.status for row in refused] == ["refused"]
    assert "x.npz" in refused[0].reason


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nothing", "--out", "new"], "nothing: no such file or folder"),
        (["empty", "--out", "new"], "no file in it that is read"),
        (["in.npz", "--out", "full"], "holds other things"),
        (["in.npz", "--out", "new", "--jobs", "0"], "--jobs 0"),
        (["in.npz", "--out", "new", "--fps", "0"], "--fps 0"),
        (["in.npz", "--out", "new", "--weights", "empty"], "no model folder"),
        (["in.npz", "--out", "in.npz"], "cannot be written"),
    ],
)
def test_a_mistake_is_one_line(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    archives.write_npz(tmp_path / "in.npz", archives.seen(4))
    assert main(["refine", *words]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_one_run_at_a_time(tmp_path: Path) -> None:
    pytest.importorskip("fcntl", reason="no file locks here")
    with (
        open_manifest(tmp_path / "out"),
        pytest.raises(ConfigError, match="another"),
        open_manifest(tmp_path / "out"),
    ):
        pass
