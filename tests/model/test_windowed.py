"""The windowed peers: their windows, SmoothNet's network, a small run and the file it leaves."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from model.motion.endless import Motion
from model.noise.config import NoiseConfig
from model.peers import train_windowed
from model.peers.offline import OfflineConfig, OfflineModel
from model.peers.smoothnet import SmoothNet, SmoothNetConfig, smoothnet_loss
from model.peers.train_windowed import KINDS, Plan, load_peer, offline_loss, rate_at, smoothed, train, train_step
from model.peers.windows import EACH, Windows, WindowSampler
from model.skeleton import J
from model.training import checkpoint
from streamer import cli

TINY = {
    "offline": OfflineConfig(9, d_model=32, heads=2, encoder_layers=1, decoder_layers=1, feedforward=48, dropout=0.0),
    "smoothnet": SmoothNetConfig(9, hidden=24, block_hidden=12, blocks=1, dropout=0.0),
}
LOSSES = {"offline": offline_loss, "smoothnet": smoothnet_loss}
CLEAN = NoiseConfig(clean=1.0, white=0, hpstm=0, sensor=0, dropout=0, flicker=0, stuck=0, confidence=0)
GAPPY = NoiseConfig(dropout=1.0, dropout_hz=(2.0, 3.0))


# ---- windows


def test_windows_are_finite_as_many_as_asked_for_and_the_seed_s(motion: Motion) -> None:
    first, again = (WindowSampler(motion, 3, 9, GAPPY).windows(2 * EACH + 1) for _ in range(2))
    for x, y in zip(first, again):
        assert x.shape == (2 * EACH + 1, 9, J, 3)
        assert x.dtype == torch.float32
        assert torch.isfinite(x).all()
        assert torch.equal(x, y)
    still = (first.noisy[:, 1:] == first.noisy[:, :-1]).all(-1)
    assert still.any()  # missing joints are held
    assert not (first.clean[:, 1:] == first.clean[:, :-1]).all(-1).all(1).any()


def test_without_noise_and_augmentation_windows_are_stretches_of_the_clips_at_their_own_pace(motion: Motion) -> None:
    windows = WindowSampler(motion, 0, 9, CLEAN, augment=False).windows(8)
    assert torch.equal(windows.noisy, windows.clean)
    speed = (windows.clean[:, 1:] - windows.clean[:, :-1])[:, :, 0].norm(dim=-1).mean()
    true = np.concatenate([np.linalg.norm(np.diff(motion.root[s : s + 150], axis=0), axis=-1) for s in motion.start])
    assert float(speed) == pytest.approx(true.mean(), rel=0.5)
    bones = (windows.clean[:, :, 4] - windows.clean[:, :, 1]).norm(dim=-1)  # the left thigh
    torch.testing.assert_close(bones, bones[:, :1].expand_as(bones), atol=1e-5, rtol=0)


# ---- SmoothNet


def test_smoothnet_has_the_published_layers() -> None:
    layers = [(m.in_features, m.out_features) for m in SmoothNet().modules() if isinstance(m, nn.Linear)]
    assert layers == [(32, 512), *[(512, 256), (256, 512)] * 3, (512, 32)]


def test_smoothnet_treats_every_axis_alike_and_no_other_joint_counts() -> None:
    torch.manual_seed(0)
    net = SmoothNet(TINY["smoothnet"]).double().eval()  # type: ignore[arg-type]
    noisy = torch.randn(2, 9, J, 3, dtype=torch.float64)
    out = net(noisy)
    assert out.shape == noisy.shape
    torch.testing.assert_close(net(noisy[..., [2, 0, 1]]), out[..., [2, 0, 1]])
    torch.testing.assert_close(net(noisy + torch.tensor([5.0, -1.0, 2.0])), out + torch.tensor([5.0, -1.0, 2.0]))
    other = noisy.clone()
    other[:, :, 7] += 0.5
    same = [j for j in range(J) if j != 7]
    torch.testing.assert_close(net(other)[:, :, same], out[:, :, same])


def test_smoothnet_says_what_it_cannot_take() -> None:
    with pytest.raises(ValueError, match=r"noisy must be \(B, 32"):
        SmoothNet()(torch.zeros(1, 31, J, 3))


# ---- losses and training


def test_losses_are_nothing_at_the_truth_and_grow_with_jitter() -> None:
    clean = torch.randn(2, 9, J, 3)
    offset, jitter = torch.full_like(clean, 0.01), 0.01 * (-1.0) ** torch.arange(9).view(1, 9, 1, 1)
    for loss in LOSSES.values():
        assert float(loss(clean, clean)) == 0.0
        assert 0 < float(loss(clean + offset, clean)) < float(loss(clean + jitter, clean))


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("fast", [False, True])
def test_a_few_windows_are_learnt(motion: Motion, kind: str, fast: bool) -> None:
    torch.manual_seed(0)
    batch: Windows = WindowSampler(motion, 0, 9).windows(8)
    model = KINDS[kind].model(TINY[kind])
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = [train_step(model, optimizer, batch, KINDS[kind].loss, fast) for _ in range(60)]
    assert np.isfinite(losses).all()
    assert losses[-1] < 0.6 * losses[0]
    assert smoothed(model, batch.noisy, fast).dtype == torch.float32


def test_a_run_goes_on_where_it_was_cut_and_leaves_a_file_that_loads(
    packed: Path, motion: Motion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = WindowSampler(motion, 7, 9).windows(4)
    monkeypatch.setattr(train_windowed, "validation_windows", lambda data, window: few)
    plan = {"model": "smoothnet", "data": packed, "out": tmp_path, "config": TINY["smoothnet"], "save_every": 5}
    path = train(Plan(**plan, minutes=1e-3))  # type: ignore[arg-type]
    assert path == tmp_path / "smoothnet.safetensors"
    with safe_open(tmp_path / checkpoint.RESUME, "pt") as file:
        spent = float(file.metadata()["minutes"])
    train(Plan(**plan, minutes=spent + 1e-3))  # type: ignore[arg-type]
    first, second = (json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines())
    assert 0 < first["step"] < second["step"]
    assert first["raw_mm"] == second["raw_mm"] > 0  # the same held-out windows
    packed_weights, kept = load_file(path), load_file(tmp_path / checkpoint.AVERAGED)
    assert all(torch.equal(value, kept[name].half()) for name, value in packed_weights.items())
    peer = load_peer(path)
    assert isinstance(peer, SmoothNet)
    assert peer.config == TINY["smoothnet"]
    assert peer.decoder.weight.dtype == torch.float32


def test_the_offline_model_comes_back_in_its_size(tmp_path: Path) -> None:
    config = TINY["offline"]
    model = OfflineModel(config)  # type: ignore[arg-type]
    optimizer = torch.optim.AdamW(model.parameters())
    metadata = {"model": "offline", "config": json.dumps(vars(config))}
    checkpoint.save(tmp_path, model, model, optimizer, (1, 0.1), metadata)
    assert load_peer(checkpoint.pack(tmp_path, "offline")).config == config


def test_the_rate_warms_up_and_falls() -> None:
    plan = Plan("offline", Path(), Path(), minutes=10.0, warmup=100)
    rates = [rate_at(0, 0.0, plan), rate_at(99, 0.0, plan), rate_at(999, 5.0, plan), rate_at(9999, 10.0, plan)]
    assert rates == pytest.approx([1e-5, 1e-3, 0.505e-3, 1e-5])


def test_the_command_asks_for_data_that_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--model", "offline", "--data", str(tmp_path / "no.npz"), "--out", str(tmp_path)]
    assert cli.main(["train-windowed", *words]) == 2
    assert "hpstm prepare" in capsys.readouterr().err
