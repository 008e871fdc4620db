"""Fine-tuning a tiny network on real small files of synthetic people: pairs, BVH; who is held out, what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from model.kinematics import forward_kinematics
from model.motion.endless import Motion, regauge
from model.motion.synthetic import SyntheticActor
from model.network.head import OWN_GATES, PoseHead
from model.prepare import Clip, animation_of, write_animation
from model.skeleton import INDEX
from model.training import checkpoint, finetune, tuning_scores
from model.training.bone_axes import bone_axes
from model.training.dataset import Batch, Sampler
from model.training.finetune import NOT_BETTER, Tuning, plan_of, synthetic, weights_file
from model.training.own_data import Own, OwnDataError, split
from model.training.pair_files import HIPS, recordings_in
from model.training.pairs import take_of
from model.training.train import batch_losses, load_model
from model.training.tuning_scores import Case, Score
from streamer.cli import main
from tests.helpers.networks import TINY, save_weights, tiny_model

pytestmark = pytest.mark.timeout(300)  # whole trainings, on whatever machine
FPS, SECONDS = 15.0, 24.0
TIMES_S = np.arange(round(FPS * SECONDS)) / FPS
LIMBS = [INDEX[f"{side}_{name}"] for name in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
         for side in ("left", "right")]  # fmt: skip  # COCO's joints 5 to 16


def write_pair(path: Path, seed: int, constant_m: float = 0.0, noise_m: float = 0.03, **more: object) -> Path:
    """What a COCO estimator said of somebody: truth in its own order, no rotations, some joints missing."""
    actor, rng = SyntheticActor(seed), np.random.default_rng(seed)
    truth = actor.positions(TIMES_S)
    moved = np.einsum("tjab,b->tja", bone_axes(truth, actor.poses(TIMES_S)[0]), np.full(3, constant_m))
    coco, said = np.full((2, len(truth), 17, 3), np.nan)
    coco[:, 5:] = truth[:, LIMBS]
    said[:, 5:] = (truth + moved)[:, LIMBS] + rng.normal(0.0, noise_m, (len(truth), 12, 3))
    said[rng.random((len(truth), 17)) < 0.03] = np.nan
    np.savez(path, noisy=said, truth=coco, times_s=TIMES_S, layout="coco_17", **more)  # type: ignore[arg-type]
    return path


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    folder = tmp_path_factory.mktemp("recordings")
    return tuple(write_pair(folder / f"take{n}.npz", n, subject=f"person {n % 3}") for n in range(4))


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bad weights: they believe joints that nothing has learned."""
    model = tiny_model(dtype=torch.float32)
    with torch.no_grad():
        model.head.fc3.bias[OWN_GATES] += 3.0
    return save_weights(model, tmp_path_factory.mktemp("start") / "weights.safetensors")


@pytest.fixture
def tuning(start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Tuning]:
    """A fine-tuning of small batches, scored on little."""
    monkeypatch.setattr(finetune, "SECONDS", 12.0)
    monkeypatch.setattr(finetune, "TEACHERS", range(2))
    monkeypatch.setattr(finetune, "OTHERS", range(100, 102))
    monkeypatch.setattr(tuning_scores, "cases_of_motion", partial(tuning_scores.cases_of_motion, sequences=2))

    def made(steps: int, rate: float, **data: object) -> Tuning:
        plan = plan_of(tmp_path / "out", 5.0, steps, rate, 1, "cpu")
        return Tuning(start, replace(plan, batch=4, length=24, warmup=3), **data)  # type: ignore[arg-type]

    return made


# -- whole fine-tunings


def test_pairs_make_bad_weights_better_and_say_so(
    tuning: Callable[..., Tuning], recordings: tuple[Path, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    one = tuning(24, 2e-2, pairs=recordings)
    path = finetune.finetune(one)
    said = capsys.readouterr().out
    assert path == one.plan.out / checkpoint.AVERAGED, said
    assert load_model(path).config == TINY
    old, new = load_model(one.start).state_dict(), load_model(path).state_dict()
    changed = {name for name, value in old.items() if not torch.equal(new[name], value)}
    assert changed <= {"head.fc3.weight", "head.fc3.bias", "head.misfit.weight", "head.misfit.bias", "head.sigma"}
    rows = (new["head.fc3.bias"] != old["head.fc3.bias"]).nonzero().flatten().tolist()
    assert set(rows) <= set(PoseHead.trust_rows())  # no motion is learned of a few recordings
    report = json.loads((one.plan.out / "finetune.json").read_text())
    (person,) = report["held_out"]["pairs"]
    names = {file.stem for file in recordings if int(file.stem[-1]) % 3 != int(person[-1])}
    assert set(report["learned_from"]["pairs"]) == names  # nobody is on both sides
    assert f"held out by subject and only scored: {person}" in said
    own = [row for row in report["cases"] if not row["others"]]
    assert np.mean([row["after"]["out_mm"] / row["before"]["out_mm"] for row in own]) == pytest.approx(report["left"])
    assert report["left"] < 0.985
    assert "| your estimator, now |" in said
    assert "| other people: clean |" in said
    assert f"hpstm export {path}" in said


def test_weights_that_are_no_better_do_not_take_the_place_of_the_old(
    tuning: Callable[..., Tuning], recordings: tuple[Path, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    one = tuning(1, 0.0, pairs=recordings)
    assert finetune.finetune(one) is None
    assert f"the old weights stay, {one.start}" in capsys.readouterr().out
    assert not (one.plan.out / checkpoint.AVERAGED).exists()
    old, new = load_model(one.start).state_dict(), load_model(one.plan.out / NOT_BETTER).state_dict()
    assert all(torch.equal(new[name], value) for name, value in old.items() if name != "head.sigma")


def write_bvh(path: Path, seed: int) -> None:
    actor = SyntheticActor(seed)
    world, root = actor.poses(TIMES_S)
    offsets = regauge(actor.offsets_m)
    animation = animation_of(Clip(path.stem, forward_kinematics(world, offsets, root), world, FPS, offsets))
    assert animation is not None
    write_animation(animation, path)


def test_a_folder_of_motion_files(
    tuning: Callable[..., Tuning], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "mocap"
    for n in range(3):
        (folder / f"actor{n}").mkdir(parents=True)
        write_bvh(folder / f"actor{n}" / "take.bvh", n)
    (folder / "notes.txt").write_text("no motion")
    (folder / "broken.bvh").write_text("HIERARCHY\n")
    one = tuning(12, 3e-3, data=folder)
    path = finetune.finetune(one)
    said = capsys.readouterr().out
    report = json.loads((one.plan.out / "finetune.json").read_text())
    assert path is not None, said
    assert "left out" in said
    assert "broken.bvh" in said
    assert len(report["held_out"]["motion"]) == 1
    assert report["held_out"]["motion"][0].startswith("actor")
    assert "| your motion: estimator's noise |" in said


# -- who is held out, what is too little


def owns(*seconds: float, subjects: str = "") -> list[Own[int]]:
    return [Own(f"t{n}", subjects[n : n + 1], f"r{n}", s, n) for n, s in enumerate(seconds)]


def test_whole_people_are_held_out_where_they_are_named() -> None:
    parts = split(owns(*[20.0] * 8, subjects="aabbccdd"), "--data")
    assert parts.by == "subject"
    assert {own.subject for own in parts.train} & {own.subject for own in parts.held_out} == set()
    assert 0.2 <= sum(own.seconds for own in parts.held_out) / 160 <= 0.4
    assert split(owns(*[20.0] * 8, subjects="aabbccdd"), "--data") == parts  # by a fixed draw


def test_takes_of_one_recording_stay_together() -> None:
    takes = [replace(own, recording=f"r{n // 2}") for n, own in enumerate(owns(*[20.0] * 8))]
    parts = split(takes, "--pairs")
    assert parts.by == "recording"
    assert {own.recording for own in parts.train} & {own.recording for own in parts.held_out} == set()


def test_one_may_say_who_is_held_out() -> None:
    parts = split(owns(90.0, 20.0, 20.0, subjects="abb"), "--data", ["b"])
    assert (parts.groups, [own.name for own in parts.train]) == (("b",), ["t0"])
    with pytest.raises(OwnDataError, match="called c; there are: r0, r1, r2"):
        split(owns(90.0, 20.0, 20.0), "--data", ["c"])
    with pytest.raises(OwnDataError, match="nothing is left"):
        split(owns(90.0, 20.0, 20.0), "--data", ["r0", "r1", "r2"])


@pytest.mark.parametrize("takes", [owns(500.0, 500.0), owns(10.0, 10.0, 10.0), []])
def test_too_little_is_refused_with_what_is_needed(takes: list[Own[int]]) -> None:
    with pytest.raises(OwnDataError, match=r"too little to learn from: .* at least 3 recordings.* 60 s"):
        split(takes, "--pairs")


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("--from bundled", "--from needs --data, your motion files, or --pairs"),
        ("--from nowhere --pairs {pair}", "--from nowhere: no weights there"),
        ("--from {start} --data {tmp}/none", "none: no such file or folder"),
        ("--from {start} --data {pair}", "not a file of `hpstm prepare`"),
        ("--from {start} --pairs {pair}", "too little to learn from: 1 recordings, 24 s"),
        ("--from {start} --pairs {start}", "not an npz that can be read"),
        ("--from {pair} --pairs {pair}", "not weights of the model"),
        ("--from {start} --pairs {pair} --twin", "leave out --start and --twin"),
        ("--from {start} --pairs {pair} --parts 2", "one process"),
        ("--data {tmp}", "a folder is for --from"),
        ("--held-out a --data {pair}", "--held-out is for --from"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    words: str, reason: str, start: Path, recordings: tuple[Path, ...], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    given = words.format(start=start, pair=recordings[0], tmp=tmp_path).split()
    assert main(["train", "--out", str(tmp_path / "out"), *given]) == 2
    said = capsys.readouterr().err
    assert reason in said
    assert len(said.splitlines()) == 1


def test_weights_that_are_there_are_not_written_over(
    start: Path, recordings: tuple[Path, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / checkpoint.AVERAGED).write_bytes(start.read_bytes())
    words = ["train", "--from", str(start), "--out", str(tmp_path), "--pairs", *map(str, recordings)]
    assert main(words) == 2
    assert "there are weights already" in capsys.readouterr().err


def test_weights_are_found_in_a_models_folder_and_in_a_runs(start: Path, tmp_path: Path) -> None:
    assert weights_file(str(start.parent)) == start
    (tmp_path / checkpoint.AVERAGED).write_bytes(b"")
    assert weights_file(str(tmp_path)) == tmp_path / checkpoint.AVERAGED
    assert weights_file("bundled").name == "weights.safetensors"


# -- truth that lacks joints and rotations


def test_what_is_constant_is_the_estimators_definition_without_rotations_too(tmp_path: Path) -> None:
    (recorded,) = recordings_in(write_pair(tmp_path / "a.npz", 1, constant_m=0.05, noise_m=0.001))
    take = take_of(recorded)
    assert take is not None
    assert take.present[:, LIMBS].mean() == pytest.approx(0.97, abs=0.02)
    error = np.linalg.norm(take.noisy - take.truth, axis=-1)
    assert np.nanmedian(error[take.present]) < 0.006  # 87 mm without
    assert np.isfinite(take.truth[:, [0, *HIPS]]).all()  # the pelvis is the middle of the hips
    assert np.isnan(take.world_rot).all()


def test_what_is_not_known_costs_nothing(recordings: tuple[Path, ...]) -> None:
    take = take_of(recordings_in(recordings[0])[0])
    assert take is not None
    torch.manual_seed(0)
    batch = Batch.of(Sampler(synthetic(range(1)), 1).pairs([take], 3, 30))
    known = batch.target.positions.isfinite().all(-1)
    assert 0.4 < float(known.float().mean()) < 0.7
    assert not batch.given.any()
    model = tiny_model(dtype=torch.float32)
    terms = batch_losses(model, batch)
    sum(terms.values()).backward()  # type: ignore[union-attr]
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert all(torch.isfinite(gradient).all() for gradient in gradients)
    assert float(terms["rotation"].detach()) == pytest.approx(1e-3, rel=1e-3)  # the floor of its root
    # What the truth is where it is not known can change nothing, since there is none; where it is known it does.
    other = batch._replace(target=batch.target._replace(positions=batch.target.positions + 0.1 * known[..., None]))
    assert float((batch_losses(model, other)["world"] - terms["world"]).detach()) != 0.0


def test_on_a_whole_truth_the_losses_are_the_means_they_were(motion: Motion) -> None:
    from model.training.losses import filled

    batch = Sampler(motion, 3).batch(2, 12)
    assert batch.target.positions.isfinite().all()
    assert torch.equal(filled(batch.target.positions), batch.target.positions)


def test_an_error_lent_to_other_motions_is_the_estimators(tmp_path: Path, motion: Motion) -> None:
    """As large as it was, on motions that are not the take's; joints whose error nobody knows do not arrive."""
    take = take_of(recordings_in(write_pair(tmp_path / "a.npz", 1, constant_m=0.05, noise_m=0.02))[0])
    assert take is not None
    batch = Batch.of(Sampler(motion, 1).lent([take], 16, 24))
    evidence, target = batch.seen.evidence, batch.target
    arrived = evidence.seen.flatten(2) > 0
    assert arrived[..., LIMBS].float().mean() > 0.9
    assert not arrived[..., INDEX["head"]].any()
    assert target.world_rot.isfinite().all()
    known = np.isfinite(take.error[:, LIMBS])
    assert np.sqrt((take.error[:, LIMBS][known] ** 2).mean()) == pytest.approx(0.02, rel=0.1)
    now = batch.tau_s == 0
    given = (evidence.joints_m[:, :, :1] + evidence.anchor_m)[:, :, 0].transpose(2, 3)
    error = (given - target.positions)[now][:, 3:, LIMBS][arrived[now][:, 3:][..., LIMBS]]
    assert float(error.square().mean().sqrt()) == pytest.approx(0.02, rel=0.35)


# -- the table


def test_the_table_and_the_verdict_by_hand() -> None:
    nothing = Batch(*[None] * 7)  # type: ignore[arg-type]
    cases = [Case("a, now", "your estimator, now", nothing), Case("b, now", "your estimator, now", nothing),
             Case("mild noise", "other people: mild noise", nothing, True)]  # fmt: skip
    before = [Score(50.0, 40.0, 9.0, 4.0), Score(30.0, 20.0, 9.0, 4.0), Score(20.0, 10.0, 9.0, 4.0)]
    after = [Score(50.0, 30.0, 9.0, 3.0), Score(30.0, 21.0, 9.0, 3.0), Score(20.0, 11.0, 9.0, 5.0)]
    assert tuning_scores.left(before, after, cases) == pytest.approx((0.75 + 1.05) / 2)
    rows = tuning_scores.table(cases, before, after).splitlines()
    assert rows[2] == "| your estimator, now | 40.0 / 9.0 | 30.0 / 4.0 | 25.5 / 3.0 | -15.0 % | 1 of 2 |"
    assert tuning_scores.forgotten(cases, before, after) == ["mild noise"]
    assert tuning_scores.forgotten(cases, before, before) == []
