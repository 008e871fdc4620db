"""The learned peers in the bench: SmoothNet is frame-by-frame pushing, each answers at its own time, clear errors."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from bench.accuracy import learned, twin
from bench.accuracy.answers import Seen
from bench.accuracy.learned import WHOLE_TAKE
from bench.accuracy.methods import DEFAULT_METHODS, METHODS, Case, answered
from bench.accuracy.takes import Take, load_takes
from model.network.causal import CausalFilter
from model.peers.offline import OfflineConfig, OfflineModel, hold_missing, smooth_sequence
from model.peers.smoothnet import SmoothNet, SmoothNetConfig
from model.skeleton import J
from streamer import cli
from streamer.errors import ConfigError
from tests.helpers.networks import TINY

WINDOW = 32
LONG = 60  # frames of a take


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, OfflineModel | SmoothNet]]:
    """Untrained networks in place of the bundled ones."""
    torch.manual_seed(0)
    sizes = OfflineConfig(d_model=32, heads=2, encoder_layers=1, decoder_layers=1, feedforward=48)
    peers = {
        "offline": OfflineModel(sizes).eval(),
        "smoothnet": SmoothNet(SmoothNetConfig(hidden=24, block_hidden=12, blocks=1)).eval(),
    }
    monkeypatch.setattr(learned, "peer", lambda name: peers[name])
    both_sides = CausalFilter(replace(TINY, bidirectional=True)).eval()
    monkeypatch.setattr(twin, "network", lambda: both_sides)
    learned._smoothnet_windows.cache_clear()
    yield peers
    learned._smoothnet_windows.cache_clear()


@pytest.fixture(scope="module")
def take() -> Take:
    return load_takes("synthetic", clips=1, seconds=6.0)[0]


def seen_of(take: Take, steps: int = LONG) -> Seen:
    """A noisy stretch with a joint seen late and one lost in the middle."""
    positions = take.truth_at(take.t_ns[:steps]).astype(np.float32)
    positions += 0.01 * np.random.default_rng(0).standard_normal(positions.shape).astype(np.float32)
    positions[:9, 20], positions[25:40, 5] = np.nan, np.nan
    return Seen(positions, np.ones((steps, J)))


@torch.no_grad()
def pushed(net: SmoothNet, positions: np.ndarray, delay: int) -> np.ndarray:
    """The slow twin: one frame after the other, each window from the frames so far alone; (T, 24, 3)."""
    said = []
    for now in range(len(positions)):
        newest = now - max(0, delay - (WINDOW - 1))  # a longer delay keeps the answer back
        if newest < 0:
            said.append(np.full((J, 3), np.nan))
            continue
        held = hold_missing(torch.from_numpy(positions[: newest + 1]))
        window = torch.cat([held[:1].expand(WINDOW, -1, -1), held])[-WINDOW:]
        said.append(net(window[None])[0, WINDOW - 1 - min(delay, WINDOW - 1)].numpy())
    return np.stack(said)


@pytest.mark.parametrize("delay", [0, 1, 3, WINDOW - 1, 40])
def test_smoothnet_is_what_pushing_frame_by_frame_gives(take: Take, tiny: dict[str, SmoothNet], delay: int) -> None:
    seen, t_ns = seen_of(take), take.t_ns[:LONG]
    got = WHOLE_TAKE["SmoothNet"](t_ns, seen)(-delay / 30.0)
    np.testing.assert_array_equal(got.t_ns, t_ns + round(-delay / 30.0 * 1e9))
    assert np.isnan(got.positions[:9, 20]).all()  # nothing before its first sight
    assert np.isfinite(np.delete(got.positions, 20, axis=1)).all()
    begin = max(9, delay)
    np.testing.assert_allclose(got.positions[begin:], pushed(tiny["smoothnet"], seen.positions, delay)[begin:],
                               atol=2e-6)  # fmt: skip


def test_smoothnet_between_two_frames_is_between_two_slots_and_ahead_is_held(take: Take) -> None:
    asked = WHOLE_TAKE["SmoothNet"](take.t_ns[:LONG], seen_of(take))
    windows = learned._smoothnet_windows(*learned._as_key(seen_of(take)))
    between = 0.5 * (windows[20:, WINDOW - 2] + windows[20:, WINDOW - 3])
    np.testing.assert_allclose(asked(-0.05).positions[20:], between, atol=1e-6)
    np.testing.assert_array_equal(asked(0.1).positions, asked(0.0).positions)
    np.testing.assert_array_equal(asked(0.1).t_ns - take.t_ns[:LONG], 100_000_000)


def test_smoothnet_is_causal(take: Take) -> None:
    seen, t_ns = seen_of(take), take.t_ns[:LONG]
    changed = seen.positions.copy()
    changed[45:] += 0.3
    for at_s in (0.0, -0.1, 0.1):
        before = WHOLE_TAKE["SmoothNet"](t_ns, seen)(at_s).positions[:45]
        np.testing.assert_array_equal(before, WHOLE_TAKE["SmoothNet"](t_ns, Seen(changed, seen.confidence))(at_s)
                                      .positions[:45])  # fmt: skip


def test_centred_smoothnet_is_the_middle_of_each_window(take: Take, tiny: dict[str, SmoothNet]) -> None:
    seen = seen_of(take)
    got = WHOLE_TAKE["SmoothNet centred"](take.t_ns[:LONG], seen)(0.0).positions
    held = hold_missing(torch.from_numpy(seen.positions))
    with torch.no_grad():
        for k in (16, 30, 44):
            want = tiny["smoothnet"](held[None, k - 16 : k + 16])[0, 16]
            np.testing.assert_allclose(got[k], want, atol=2e-6)
        last = tiny["smoothnet"](held[None, LONG - WINDOW :])[0]
        np.testing.assert_allclose(got[LONG - 10 :], last[-10:], atol=2e-6)
    assert np.isfinite(got).all()


def test_the_offline_model_is_smooth_sequence(take: Take, tiny: dict[str, OfflineModel]) -> None:
    seen = seen_of(take)
    got = WHOLE_TAKE["offline model"](take.t_ns[:LONG], seen)(0.0).positions
    want = smooth_sequence(tiny["offline"], seen.positions.reshape(LONG, 3 * J)).reshape(LONG, J, 3)
    np.testing.assert_allclose(got, want, atol=1e-6)


@pytest.mark.parametrize("method", ["SmoothNet centred", "offline model"])
def test_who_sees_the_whole_take_has_one_pose_for_a_time_whenever_it_is_asked_for(take: Take, method: str) -> None:
    asked = WHOLE_TAKE[method](take.t_ns[:LONG], seen_of(take))
    now = asked(0.0).positions
    for frames in (-3, 3):
        shifted = asked(frames / 30.0)
        np.testing.assert_array_equal(shifted.t_ns, take.t_ns[:LONG] + frames * 100_000_000 // 3)
        inside = slice(3, LONG - 3)
        np.testing.assert_allclose(shifted.positions[inside], now[3 + frames : LONG - 3 + frames], atol=1e-6)


@pytest.mark.parametrize("method", list(WHOLE_TAKE))
@pytest.mark.parametrize("steps", [5, WINDOW])
def test_short_takes_and_joints_never_seen_are_answered(take: Take, method: str, steps: int) -> None:
    positions = take.truth_at(take.t_ns[:steps])
    positions[:, [0, 22]] = np.nan
    got = WHOLE_TAKE[method](take.t_ns[:steps], Seen(positions, np.ones((steps, J))))(0.0).positions
    assert np.isfinite(np.delete(got, [0, 22], axis=1)).all()


def test_the_peers_are_offered_but_not_by_default(take: Take) -> None:
    assert set(WHOLE_TAKE) < set(METHODS)
    assert not set(WHOLE_TAKE) & set(DEFAULT_METHODS)
    seen = Seen(take.truth_at(take.t_ns), np.ones((len(take.t_ns), J)))
    cases = [Case("clean", 30.0, at_s) for at_s in (0.0, -0.1)]
    said = answered(None, take, seen, ["input", *WHOLE_TAKE], cases)  # type: ignore[arg-type]
    for method in WHOLE_TAKE:
        for mine, input_ in zip(said[method], said["input"], strict=True):
            np.testing.assert_array_equal(mine.t_ns, input_.t_ns)


# ---- what is missing


@pytest.fixture
def real_peer(monkeypatch: pytest.MonkeyPatch, tiny: object) -> None:
    monkeypatch.undo()
    learned.peer.cache_clear()


@pytest.mark.usefixtures("real_peer")
def test_missing_weights_or_torch_say_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="hpstm train-windowed --model smoothnet"):
        learned.peer("smoothnet", tmp_path)
    (tmp_path / "offline.safetensors").write_bytes(b"no weights")
    with pytest.raises(ConfigError, match="not what `hpstm train-windowed` writes"):
        learned.peer("offline", tmp_path)
    monkeypatch.setitem(sys.modules, "model.peers.train_windowed", None)
    with pytest.raises(ConfigError, match=r"hpstm-live\[train\]"):
        learned.peer("offline", tmp_path)


@pytest.mark.usefixtures("real_peer")
def test_a_bench_without_them_is_refused_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(name: str) -> None:
        raise ConfigError(f"{name} is missing")

    monkeypatch.setattr(learned, "peer", missing)
    assert cli.main(["evaluate", "synthetic", "--methods", "SmoothNet"]) == 2
    assert "smoothnet is missing" in capsys.readouterr().err
    learned.check(DEFAULT_METHODS)  # needs none


@pytest.mark.usefixtures("real_peer")
def test_the_bundled_weights_are_the_published_architectures_and_small() -> None:
    assert isinstance(smoothnet := learned.peer("smoothnet"), SmoothNet)
    assert smoothnet.config == SmoothNetConfig()
    assert isinstance(offline := learned.peer("offline"), OfflineModel)
    assert offline.config.window == 31
    assert sum(path.stat().st_size for path in learned.WEIGHTS.glob("*.safetensors")) < 10e6
