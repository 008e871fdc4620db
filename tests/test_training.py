"""Training a tiny network on a few seconds of synthetic motion: batches, losses, resume, the file it leaves."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from model import train as training
from model.corruption import NoiseConfig
from model.dataset import Batch, Motion, Sampler, regauge, training_clips, validation_clips, with_arms_of
from model.evaluate import foot_contact
from model.head import covariance
from model.kinematics import fork_frames, forward_kinematics
from model.losses import WEIGHTS
from model.prepare import load_packed
from model.skeleton import INDEX, JOINTS, MIRROR, J, rest_offsets
from model.synthetic import SyntheticActor
from model.train import VALIDATION, Plan, batch_losses, load_model, rate_at, train
from tests.model_helpers import TINY, tiny_model

FLIP = np.array([-1.0, 1.0, 1.0])
CLEAN = NoiseConfig(clean=1.0, white=0, hpstm=0, sensor=0, dropout=0, flicker=0, stuck=0, confidence=0)
FPS = 30.0


@pytest.fixture(scope="session")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training file as `hpstm prepare` writes it: three people to learn from, one held out."""
    path = tmp_path_factory.mktemp("data") / "train.npz"
    actors = [SyntheticActor(seed) for seed in range(4)]
    world, root = zip(*(actor.poses(np.arange(150) / FPS + 2.0) for actor in actors))
    np.savez(
        path, root=np.concatenate(root).astype(np.float32), rotations=np.concatenate(world)[..., :2].astype(np.float32),
        starts=np.arange(5) * 150, offsets=np.stack([regauge(a.offsets_m) for a in actors]), fps=np.full(4, FPS),
        names=np.array(list("abcd")), sets=np.array(["made"] * 4), subjects=np.array(["1", "2", "3", VALIDATION[0]]),
    )  # fmt: skip
    return path


@pytest.fixture(scope="session")
def motion(packed: Path) -> Motion:
    return Motion.from_clips(training_clips(packed, VALIDATION))


def equal(a: object, b: object) -> bool:
    """Batches, or parts of them, bit for bit."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)  # type: ignore[arg-type]
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


def test_bodies_of_a_batch_are_canonical_and_of_human_size(motion: Motion) -> None:
    offsets = Sampler(motion, 1).batch(16, 4).target.offsets_m.double().numpy()
    want = np.broadcast_to(fork_frames(rest_offsets()), (16, 2, 3, 3))
    np.testing.assert_allclose(fork_frames(offsets), want, atol=1e-4)
    lengths = np.linalg.norm(offsets, axis=-1)[:, 1:]
    assert np.all((lengths > 0.01) & (lengths < 1.0))


def test_regauge_is_canonical_rigid_and_done_after_once() -> None:
    own = rest_offsets() + 0.03 * np.random.default_rng(0).standard_normal((5, J, 3))
    out = regauge(own)
    np.testing.assert_allclose(fork_frames(out), np.broadcast_to(fork_frames(rest_offsets()), (5, 2, 3, 3)), atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(out, axis=-1), np.linalg.norm(own, axis=-1), atol=1e-12)
    np.testing.assert_allclose(regauge(out), out, atol=1e-12)
    np.testing.assert_allclose(regauge(rest_offsets()), rest_offsets(), atol=1e-12)


def test_a_regauged_body_stands_in_the_same_places() -> None:
    """Turning a fork's rest bones is made up for by turning its rotation the other way."""
    actor = SyntheticActor(4)
    own = actor.offsets_m + 0.02 * np.random.default_rng(0).standard_normal((J, 3))
    world, root = actor.poses(np.arange(5) / 5)
    turn = fork_frames(own) @ np.swapaxes(fork_frames(regauge(own)), -1, -2)  # own_from_canonical
    turned = world.copy()
    for i, fork in enumerate((INDEX["pelvis"], INDEX["spine3"])):
        turned[:, fork] = world[:, fork] @ turn[i]
    a, b = forward_kinematics(world, own, root), forward_kinematics(turned, regauge(own), root)
    np.testing.assert_allclose(a, b, atol=1e-12)


def mirrored(motion: Motion) -> Motion:
    """Left for right: joints exchanged, the world reflected in x = 0."""
    rotations = motion.world_rot[:, list(MIRROR)] * (FLIP[:, None] * FLIP[None, :])
    offsets = motion.offsets_m[:, list(MIRROR)] * FLIP
    return replace(
        motion, root=(motion.root * FLIP).astype(np.float32), world_rot=rotations.astype(np.float32),
        contact=np.ascontiguousarray(motion.contact[:, ::-1]), offsets_m=offsets.astype(np.float32),
    )  # fmt: skip


def drawn(motion: Motion, flip: bool, yaw: float = 0.0) -> tuple[np.ndarray, ...]:
    """What the sampler makes of the first clip at ten times."""
    sampler = Sampler(motion, 0, CLEAN, augment=False)
    times = np.linspace(0.5, 3.0, 10)[None]
    return sampler._motion(np.zeros(1, np.int64), times, np.array([flip]), np.array([yaw]))


def test_mirroring_is_a_reflection_and_twice_is_nothing(motion: Motion) -> None:
    other = mirrored(motion)
    for a, b in ((motion, other), (other, motion)):
        for got, want in zip(drawn(a, True), drawn(b, False), strict=True):
            np.testing.assert_allclose(got, want, atol=1e-6)
    rotations, root, _ = drawn(motion, True)
    np.testing.assert_allclose(np.linalg.det(rotations), 1.0, atol=1e-5)
    offsets = motion.offsets_m[:1, None]
    plain = drawn(motion, False)
    straight = forward_kinematics(plain[0], offsets, plain[1])
    reflected = forward_kinematics(rotations, offsets[:, :, list(MIRROR)] * FLIP.astype(np.float32), root)
    np.testing.assert_allclose(reflected, straight[:, :, list(MIRROR)] * FLIP, atol=1e-5)


def test_yaw_turns_the_whole_motion(motion: Motion) -> None:
    (rot, root, contact), (rot_t, root_t, contact_t) = drawn(motion, False), drawn(motion, False, 0.5 * np.pi)
    quarter = np.array([[0.0, 0, 1], [0, 1, 0], [-1, 0, 0]])
    np.testing.assert_allclose(rot_t, quarter @ rot, atol=1e-6)
    np.testing.assert_allclose(root_t, root @ quarter.T, atol=1e-6)
    np.testing.assert_array_equal(contact_t, contact)


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


def test_losses_fall_and_every_gradient_is_finite(batch: Batch) -> None:
    """A tiny network learns one batch by heart in fifteen steps."""
    torch.manual_seed(0)
    from model.causal import CausalFilter

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
    from model.causal import CausalFilter

    clean = Sampler(motion, 0, CLEAN, augment=False).batch(4, 90, 0.0)
    clean = clean._replace(given=torch.ones_like(clean.given))
    pose, _, _ = training.run_batch(CausalFilter(TINY), clean)
    error = (pose.positions.unflatten(0, clean.dt_s.shape) - clean.target.positions).norm(dim=-1)
    assert error[:, 60:].mean() < 0.004


def test_the_arms_of_another_hang_on_the_chest_as_they_did() -> None:
    world, other = (SyntheticActor(seed).poses(np.arange(6) / 3.0)[0][None] for seed in (0, 1))
    mixed = with_arms_of(world, other)
    arms = [j for j, name in enumerate(JOINTS) if any(part in name for part in ("collar", "shoulder", "elbow"))]
    arms += [INDEX[name] for name in ("left_wrist", "right_wrist", "left_hand", "right_hand")]
    rest = [j for j in range(J) if j not in arms]
    np.testing.assert_array_equal(mixed[:, :, rest], world[:, :, rest])
    chest = INDEX["spine3"]
    on_chest = [np.swapaxes(x[:, :, chest], -1, -2)[:, :, None] @ x[:, :, arms] for x in (mixed, other)]
    np.testing.assert_allclose(*on_chest, atol=1e-6)
    assert np.abs(mixed - world).max() > 0.1


def test_covariances_are_scaled_to_standard_deviations(motion: Motion) -> None:
    from model.causal import CausalFilter

    torch.manual_seed(0)
    model = CausalFilter(TINY)
    training.calibrate_covariance(model, motion)
    inside = []
    for tau_s in (0.0, -0.1, 0.1):
        batch = Sampler(motion, 8, training.REALISTIC, augment=False).batch(24, 192, tau_s)
        with torch.no_grad():
            pose, _, _ = training.run_batch(model, batch)
        sigma = torch.sqrt(covariance(pose).diagonal(dim1=-2, dim2=-1))
        within = (pose.positions - batch.target.positions.flatten(0, 1)).abs() < sigma
        inside.append(float(within.float().mean()))
    assert 0.63 < np.mean(inside) < 0.73


# ---- a run


@pytest.fixture
def plan(packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    def few_checks(data: Path) -> dict[str, Batch]:
        held_out = Motion.from_clips(validation_clips(data, VALIDATION))
        return {"now": Sampler(held_out, 7, None, augment=False).batch(2, 120, 0.0)}

    monkeypatch.setattr(training, "validation_batches", few_checks)
    return Plan(data=packed, out=tmp_path / "run", minutes=0.01, batch=2, length=8, save_every=5, check_every=1000)


def metadata(path: Path) -> dict[str, str]:
    with safe_open(path, "pt") as file:
        found: dict[str, str] = file.metadata()
        return found


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
    rows = [json.loads(line) for line in (plan.out / "log.jsonl").read_text().splitlines()]
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
    rows = [json.loads(line) for line in (plan.out / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == sorted(row["step"] for row in rows)


def test_the_rate_warms_up_then_falls_to_little(tmp_path: Path) -> None:
    plan = Plan(data=tmp_path, out=tmp_path, minutes=10.0, warmup=100)
    warm = [rate_at(step, 0.0, plan) for step in range(100)]
    assert all(b > a for a, b in itertools.pairwise(warm))
    assert warm[-1] == pytest.approx(plan.rate)
    cool = [rate_at(1000, minutes, plan) for minutes in np.linspace(0, 12, 30)]
    assert all(b <= a for a, b in itertools.pairwise(cool))
    assert cool[-1] == pytest.approx(0.02 * plan.rate)
