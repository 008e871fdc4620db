"""Training a tiny network on a few seconds of synthetic motion: batches, losses, resume, the file it leaves."""

from __future__ import annotations

import copy
import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from model.evaluate import foot_contact
from model.kinematics import forward_kinematics
from model.motion.endless import Motion
from model.motion.synthetic import SyntheticActor
from model.network import front
from model.network.causal import CausalFilter, Seen, phase_of
from model.network.head import covariance
from model.noise.config import REALISTIC, NoiseConfig
from model.prepare import ClipError, load_packed
from model.skeleton import INDEX, J
from model.training import checkpoint, run_log, weighing
from model.training import train as training
from model.training.dataset import Batch, Sampler, Stream, moved
from model.training.forward import run_batch
from model.training.held_out import VALIDATION, training_clips, validation_clips
from model.training.losses import WEIGHTS, WITHIN_1_SIGMA, coverage_loss, sequence_lag_s
from model.training.run_log import rows_of
from model.training.train import (
    Plan,
    batch_losses,
    load_model,
    rate_at,
    take_weights,
    train,
)
from model.training.uncertainty import fit_covariance
from streamer.cli import main
from tests.helpers.networks import TINY, save_weights, tiny_model

CLEAN = NoiseConfig(clean=1.0, white=0, hpstm=0, sensor=0, wander=0, dropout=0, flicker=0, stuck=0, confidence=0)


def equal(a: object, b: object) -> bool:
    """Batches, or parts of them, bit for bit; what is not known (NaN) in the one is not in the other."""
    if isinstance(a, torch.Tensor):
        return bool(torch.isclose(a, b, rtol=0.0, atol=0.0, equal_nan=True).all())  # type: ignore[arg-type]
    return all(equal(x, y) for x, y in zip(a, b, strict=True))  # type: ignore[call-overload]


# ---- data


def test_what_was_packed_is_read_and_parted(packed: Path) -> None:
    clips = load_packed(packed)
    assert [len(clip) for clip in clips] == [150] * 4
    for clip in clips:
        assert clip.world_rotations is not None
        again = forward_kinematics(clip.world_rotations, clip.offsets_m, clip.positions[:, 0])
        np.testing.assert_allclose(again, clip.positions, atol=1e-5)
    assert [c.name for c in training_clips(packed, VALIDATION)] == ["a", "b", "c"]
    assert [c.name for c in validation_clips(packed, VALIDATION)] == ["d"]


@pytest.mark.parametrize(
    ("subjects", "held_out"),
    [("abc", "c"), ("aab", "b"), ("aaa", "z"), ("abcdefghijklmnopqrstuvw", "jt")],
)
def test_data_of_other_people_has_some_of_its_own_held_out(subjects: str, held_out: str, tmp_path: Path) -> None:
    n = len(subjects)
    names = ["x", "x#1", "z"] if subjects == "aaa" else list(subjects)  # pieces of one file stay together
    np.savez(
        tmp_path / "train.npz", root=np.zeros((n, 3), np.float32), starts=np.arange(n + 1), fps=np.full(n, 30.0),
        rotations=np.tile(np.eye(3, dtype=np.float32)[:, :2], (n, 24, 1, 1)), offsets=np.zeros((n, 24, 3)),
        names=np.array(names), sets=np.array(["made"] * n), subjects=np.array(list(subjects)),
    )  # fmt: skip
    watched = [clip.name for clip in validation_clips(tmp_path / "train.npz", VALIDATION)]
    assert "".join(watched) == held_out
    assert [c.name for c in training_clips(tmp_path / "train.npz", VALIDATION)] == [
        n for n in names if n not in watched
    ]


def test_one_clip_alone_cannot_be_trained_on(packed: Path, tmp_path: Path) -> None:
    with np.load(packed) as pack:
        first = {name: pack[name][: 2 if name == "starts" else 1] for name in pack.files}
    np.savez(tmp_path / "one.npz", **first | {"subjects": np.array(["1"])})
    with pytest.raises(ClipError, match="one clip alone"):
        training_clips(tmp_path / "one.npz", VALIDATION)


def test_the_same_seed_gives_the_same_batches(motion: Motion) -> None:
    a, b, other = (Sampler(motion, seed) for seed in (5, 5, 6))
    for _ in range(3):
        first, second, third = (s.batch(3, 12) for s in (a, b, other))
        assert equal(first, second)
        assert not equal(first.seen.features, third.seen.features)


def test_a_batch_is_consistent(motion: Motion) -> None:
    batch = Sampler(motion, 0, CLEAN, augment=False).batch(4, 20, 0.0)
    target = batch.target
    places = forward_kinematics(target.world_rot, target.offsets_m[:, None], target.positions[:, :, 0])
    torch.testing.assert_close(places, target.positions, atol=1e-5, rtol=0)
    eye = torch.eye(3).expand_as(target.world_rot)
    torch.testing.assert_close(target.world_rot @ target.world_rot.mT, eye, atol=1e-5, rtol=0)
    assert torch.all((target.contact == 0) | (target.contact == 1))
    assert batch.dt_s.shape == batch.times_s.shape == (4, 20)
    torch.testing.assert_close(batch.dt_s[:, 1:].double(), batch.times_s.diff(dim=1), atol=1e-6, rtol=0)
    assert torch.all(batch.dt_s[:, 1:] > 0)
    assert torch.isfinite(batch.seen.features).all()


def test_clips_are_never_read_beyond_their_end(motion: Motion) -> None:
    """A clip barely longer than the head's reach: a second of motion more would come from the next person."""
    short = replace(motion, length=np.array([36, 36, 36]), start=np.array([0, 150, 300]))
    batch = Sampler(short, 0, CLEAN, augment=False).batch(6, 30, None)
    step = (batch.target.positions[:, 1:] - batch.target.positions[:, :-1]).norm(dim=-1).amax(-1)
    assert (step / batch.dt_s[:, 1:].clamp(min=1e-3)).max() < 12.0  # m/s: nobody jumps to another place


def test_foot_contact_knows_a_planted_foot() -> None:
    positions = np.zeros((60, J, 3))
    positions[:, INDEX["left_foot"]] = (0.1, 0.02, 0.0)  # stands
    positions[:, INDEX["right_foot"], 1] = 0.02
    positions[:, INDEX["right_foot"], 2] = np.arange(60) / 30.0  # slides at 1 m/s
    positions[30:, INDEX["left_foot"], 1] = 0.3  # is lifted
    contact = foot_contact(positions, 30.0)
    assert contact.shape == (60, 2)
    assert contact[:29, 0].all()
    assert not contact[31:, 0].any()
    assert not contact[:, 1].any()


def test_foot_contact_of_a_walk_is_now_one_foot_now_the_other() -> None:
    contact = foot_contact(SyntheticActor(0).clip(2.0, 60.0), 60.0)
    assert 0.3 < contact.mean() < 0.9
    assert contact.any(1).mean() > 0.9  # walking is never without the ground


# ---- losses


@pytest.fixture(scope="session")
def batch(motion: Motion) -> Batch:
    return Sampler(motion, 3).batch(4, 16)


def test_every_loss_is_finite_and_named(batch: Batch) -> None:
    terms = batch_losses(tiny_model(dtype=torch.float32), batch)
    assert set(terms) == set(WEIGHTS)
    assert all(term.ndim == 0 and torch.isfinite(term) for term in terms.values())


@pytest.mark.parametrize("late_s", [0.03, -0.02])
def test_a_late_sequence_is_told_by_its_lag(late_s: float) -> None:
    def moved(t: np.ndarray) -> Tensor:
        out = np.zeros((1, len(t), J, 3))
        out[0, :, 1:] = 0.4 * np.sin(2 * np.pi * 0.7 * t[:, None] + np.arange(1, J))[..., None] * [1.0, 0.5, 0.2]
        return torch.from_numpy(out)

    t = np.arange(120) / 30.0
    lag = sequence_lag_s(moved(t - late_s) - moved(t), moved(t), torch.full((1, 120), 1 / 30.0))
    assert float(lag) == pytest.approx(late_s, rel=0.1)


def test_the_least_coverage_loss_is_where_two_thirds_lie_within_one_sigma(batch: Batch) -> None:
    model = tiny_model(dtype=torch.float32)
    pose, _, _ = run_batch(model, batch)
    factor = torch.eye(3).expand_as(pose.cholesky)
    error = torch.distributions.StudentT(3.0).sample(pose.positions.shape) * 0.02
    scales = torch.linspace(0.005, 0.05, 200)
    costs = [float(coverage_loss(error, pose._replace(cholesky=scale * factor))) for scale in scales]
    best = scales[int(np.argmin(costs))]
    assert abs(float((error.abs() < best).float().mean()) - WITHIN_1_SIGMA) < 0.01


def test_losses_fall_and_every_gradient_is_finite(batch: Batch) -> None:
    """A tiny network learns one batch by heart in fifteen steps."""
    torch.manual_seed(0)
    model = CausalFilter(TINY)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    totals = []
    for _ in range(15):
        terms = batch_losses(model, batch)
        total = torch.stack([WEIGHTS[name] * term for name, term in terms.items()]).sum()
        optimizer.zero_grad()
        total.backward()  # type: ignore[no-untyped-call]
        assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
        optimizer.step()
        totals.append(float(total.detach()))
    assert np.isfinite(totals).all()
    assert totals[-1] < 0.9 * totals[0]
    assert np.mean(totals[-5:]) < np.mean(totals[5:10]) < np.mean(totals[:5])


def test_the_truth_costs_nothing(motion: Motion) -> None:
    """Clean input and the given skeleton: what is left of the pose losses is the sampler's interpolation."""
    torch.manual_seed(0)
    clean = Sampler(motion, 0, CLEAN, augment=False).batch(4, 90, 0.0)
    clean = clean._replace(given=torch.ones_like(clean.given))
    pose, _, _ = run_batch(CausalFilter(TINY), clean)
    error = (pose.positions.unflatten(0, clean.dt_s.shape) - clean.target.positions).norm(dim=-1)
    assert error[:, 60:].mean() < 0.004


def test_two_thirds_of_the_errors_lie_within_one_sigma_and_nothing_else_changes(motion: Motion) -> None:
    torch.manual_seed(0)
    model = CausalFilter(TINY)
    before = copy.deepcopy(model).eval()
    sampler = Sampler(motion, 8, REALISTIC, augment=False)
    fit_covariance(model, itertools.cycle([sampler.batch(8, 40) for _ in range(4)]), 100)
    batch = Sampler(motion, 9, REALISTIC, augment=False).batch(24, 60, 0.0)
    with torch.no_grad():
        pose, _, _ = run_batch(model, batch)
        old, _, _ = run_batch(before, batch)
    assert torch.equal(pose.positions, old.positions)
    assert torch.equal(pose.contact, old.contact)
    sigma = torch.sqrt(covariance(pose).diagonal(dim1=-2, dim2=-1))
    truth = batch.target.positions.flatten(0, 1)
    within = torch.stack([(joints - truth).abs() < sigma for joints in (pose.positions, pose.free)])
    assert 0.6 < float(within.float().mean()) < 0.76
    assert all(p.requires_grad for p in model.parameters())


def test_trust_in_filters_is_learned_and_nothing_else_changes(motion: Motion) -> None:
    """A tiny network's gates are all alike: what is learned is which filters are good now, with its own joints shut
    off."""
    torch.manual_seed(0)
    model = CausalFilter(TINY)
    before = copy.deepcopy(model.state_dict())
    batches = [Sampler(motion, 8 + k, "white10", augment=False).batch(8, 60, 0.0) for k in range(3)]

    def error() -> float:
        return float(weighing.terms(batches[2], weighing.measured_joints(model, batches[2]))["pose"].detach())

    first = error()
    weighing.fit_trust(model, itertools.cycle(batches[:2]), 60)
    assert error() < 0.9 * first
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed
    assert all(name.startswith("head.trust.") for name in changed)
    assert all(p.requires_grad for p in model.parameters())


# ---- a run


@pytest.fixture
def plan(packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    def few_checks(data: Path) -> dict[str, Batch]:
        held_out = Motion.from_clips(validation_clips(data, VALIDATION))
        return {"realistic": Sampler(held_out, 7, None, augment=False).batch(2, 120, 0.0)}

    monkeypatch.setattr(training, "validation_batches", few_checks)
    return Plan(data=packed, out=tmp_path / "run", minutes=0.01, batch=2, length=8, save_every=5, check_every=1000,
                trust_steps=2, spread_steps=2)  # fmt: skip


def metadata(path: Path) -> dict[str, str]:
    with safe_open(path, "pt") as file:
        found: dict[str, str] = file.metadata()
        return found


def test_the_front_gives_the_same_in_the_trainer_as_in_the_worker(packed: Path) -> None:
    finished, drawn = (next(iter(Stream(packed, 2, 12, 3, VALIDATION, finished=done))) for done in (True, False))
    later = Batch.of(moved(drawn, torch.device("cpu")))
    assert isinstance(finished, Batch)
    assert torch.equal(finished.seen.features, later.seen.features)
    assert torch.equal(finished.own_target_m, later.own_target_m)


def test_the_best_weights_of_a_run_are_those_that_leave_least(tmp_path: Path) -> None:
    model = CausalFilter(TINY)
    assert checkpoint.keep_best(tmp_path, model, 0.8, 100) == 100
    best = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        model.embed.weight.add_(1.0)
    assert checkpoint.keep_best(tmp_path, model, 0.9, 200) == 100
    assert torch.equal(checkpoint.best(tmp_path)["embed.weight"], best["embed.weight"])
    assert checkpoint.keep_best(tmp_path, model, 0.7, 300) == 300
    assert torch.equal(checkpoint.best(tmp_path)["embed.weight"], model.embed.weight)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_training_on_a_gpu_that_is_not_there_is_refused(packed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--data", str(packed), "--out", "x", "--device", "cuda"]) != 0
    assert "no NVIDIA GPU" in capsys.readouterr().err
    assert main(["train", "--data", str(packed), "--out", "x", "--device", "tpu"]) != 0
    assert "give cpu or cuda" in capsys.readouterr().err


def test_a_run_leaves_weights_a_log_and_a_way_to_go_on(plan: Plan) -> None:
    weights = train(plan, TINY)
    first = metadata(weights)
    assert json.loads(first["config"]) == json.loads(json.dumps(TINY.to_dict()))
    step, minutes = int(first["step"]), float(metadata(plan.out / "resume.safetensors")["minutes"])
    assert step > 0
    assert minutes >= plan.minutes
    model = load_model(weights)
    assert model.config == TINY
    assert not model.training
    settings, *rows = rows_of(plan.out / "log.jsonl")
    assert settings["plan"]["seed"] == plan.seed
    assert settings["network"]["parameters"] == sum(p.numel() for p in model.parameters())
    assert settings["loss weights"] == WEIGHTS
    assert rows[-1]["step"] == step
    assert all(np.isfinite(list(row.values())).all() for row in rows)
    assert not list(plan.out.glob("*.tmp"))
    before = model.state_dict()

    # Nothing left of the budget: it stops at once with the same weights, and more budget goes on from there.
    train(plan, TINY)
    for name, value in load_model(weights).state_dict().items():
        assert torch.equal(value, before[name]), name
    assert int(metadata(weights)["step"]) == step
    train(replace(plan, minutes=minutes + 0.01), TINY)
    assert int(metadata(weights)["step"]) > step
    assert any(not torch.equal(v, before[name]) for name, v in load_model(weights).state_dict().items())
    _, *rows = rows_of(plan.out / "log.jsonl")
    assert [row["step"] for row in rows] == sorted(row["step"] for row in rows)
    text = run_log.markdown([plan.out])
    assert f"| {rows[-1]['step']} | {rows[-1]['minutes']:.0f} | {rows[-1]['realistic_out_mm']:.1f} /" in text
    assert '"bidirectional": false' in text


def test_a_run_may_begin_with_the_weights_of_a_smaller_one(tmp_path: Path) -> None:
    small, large = tiny_model(dtype=torch.float32), CausalFilter(replace(TINY, width=2 * TINY.width))
    path = save_weights(small, tmp_path / "small.safetensors")
    take_weights(large, path)
    assert torch.equal(large.embed.weight[: TINY.width], small.embed.weight)
    assert not large.embed.weight[TINY.width :].any()
    assert torch.equal(large.head.pulls, small.head.pulls)


def test_the_twin_sees_the_future_and_cannot_step(batch: Batch) -> None:
    twin = CausalFilter(replace(TINY, bidirectional=True)).eval()
    with torch.no_grad():
        whole = twin.from_front(batch.seen, batch.times_s).latent
        half = Seen(*(x[:, :8] if isinstance(x, Tensor) else type(x)(*(y[:, :8] for y in x)) for x in batch.seen))
        part = twin.from_front(half, batch.times_s[:, :8]).latent
    assert (whole[:, :8] - part).abs().max() > 1e-4
    frame = front.Frame(*(torch.zeros(4, 1, n, J) for n in (3, 1, 1, 1)), torch.zeros(4, 1, 1, 1))
    with pytest.raises(ValueError, match="future"):
        twin.step(frame, phase_of(torch.zeros(4), twin.config), front.initial_state(4), twin.initial_ring(4))


def test_the_rate_warms_up_then_falls_to_little(tmp_path: Path) -> None:
    plan = Plan(data=tmp_path, out=tmp_path, minutes=10.0, warmup=100)
    warm = [rate_at(step, 0.0, plan) for step in range(100)]
    assert all(b > a for a, b in itertools.pairwise(warm))
    assert warm[-1] == pytest.approx(plan.rate)
    cool = [rate_at(1000, minutes, plan) for minutes in np.linspace(0, 12, 30)]
    assert all(b <= a for a, b in itertools.pairwise(cool))
    assert cool[-1] == pytest.approx(0.02 * plan.rate)
