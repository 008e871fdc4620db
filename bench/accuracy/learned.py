"""Learned peers in the accuracy bench: SmoothNet's architecture and the offline windowed model, on our training data.

Each is given a whole take and answers for any time asked for; a method that may see the future says so. Their networks
are in model/, their weights and where those come from in bench/weights/. They count frames and were trained at 30 fps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bench.accuracy import twin
from bench.accuracy.answers import Answers, Asked, Seen
from bench.track import Floats, Times, at_time
from streamer.clock import SECOND_NS
from streamer.errors import ConfigError

if TYPE_CHECKING:
    from model.peers.train_windowed import Peer

WEIGHTS = Path(__file__).parents[1] / "weights"
BATCH = 64  # windows at a time


def smoothnet(t_ns: Times, seen: Seen) -> Asked:
    """What SmoothNet says live: the slot that the time falls on, of the newest window that still holds it.

    So a delay beyond the window is its oldest slot kept back. Ahead of the newest frame, the newest slot is held.
    """
    windows, known = _smoothnet_windows(*_as_key(seen)), _known(seen.positions)
    last, now = windows.shape[1] - 1, np.arange(len(t_ns))

    def answers(at_s: float) -> Answers:
        target_ns = t_ns + round(at_s * SECOND_NS)
        right = np.minimum(np.clip(np.searchsorted(t_ns, target_ns), 1, None), now)  # the frame at or after the time
        left = np.maximum(right - 1, 0)
        span_ns = np.maximum(t_ns[right] - t_ns[left], 1)
        share = np.clip((target_ns - t_ns[left]) / span_ns, 0.0, 1.0)[:, None, None]
        before, after = (_slot(windows, np.minimum(now, frame + last), frame) for frame in (left, right))
        said = (1.0 - share) * before + share * after
        return Answers(target_ns, np.where(known, said, np.nan))

    return answers


def smoothnet_centred(t_ns: Times, seen: Seen) -> Asked:
    """SmoothNet's pose for the middle of a window: sees half a window of the future, whatever the time asked for."""
    windows = _smoothnet_windows(*_as_key(seen))
    last, now = windows.shape[1] - 1, np.arange(len(t_ns))
    # At the ends of the take: a whole window, off its centre.
    newest = np.clip(now + last // 2, min(last, len(t_ns) - 1), len(t_ns) - 1)
    return _at_any_time(t_ns, _slot(windows, newest, now))


def offline(t_ns: Times, seen: Seen) -> Asked:
    """The offline windowed model, its windows averaged: sees a window to either side, whatever the time asked for."""
    from model.peers.offline import OfflineModel, smooth_sequence

    model = peer("offline")
    assert isinstance(model, OfflineModel)
    flat = seen.positions.reshape(len(t_ns), -1).astype(np.float32)
    return _at_any_time(t_ns, smooth_sequence(model, flat, batch=BATCH).reshape(seen.positions.shape))


# A method that sees a whole take at once goes here: (times, what was seen) -> its answers for a time asked for.
WHOLE_TAKE: dict[str, Callable[[Times, Seen], Asked]] = {
    "SmoothNet": smoothnet,
    "SmoothNet centred": smoothnet_centred,
    "offline model": offline,
    "twin": twin.twin,
}
_NEEDS = {"SmoothNet": "smoothnet", "SmoothNet centred": "smoothnet", "offline model": "offline"}


def check(methods: Sequence[str]) -> None:
    """Loads what the methods need, before the work.

    Raises:
        ConfigError: torch or a file of weights is missing, or the file is none of ours.
    """
    for method in methods:
        if method in _NEEDS:
            peer(_NEEDS[method])
        elif method == "twin":
            twin.network()


@lru_cache(maxsize=4)
def peer(name: str, folder: Path = WEIGHTS) -> Peer:
    """A trained peer of ``hpstm train-windowed``.

    Raises:
        ConfigError: torch or its weights are missing, or the file is none of ours.
    """
    path = folder / f"{name}.safetensors"
    try:
        from safetensors import SafetensorError

        from model.peers.train_windowed import load_peer
    except ImportError as error:
        raise ConfigError(f"{name}: needs {error.name}; install it with: pip install 'hpstm-live[train]'") from error
    if not path.is_file():
        command = f"hpstm train-windowed --model {name} --data train.npz --out runs/{name}"
        raise ConfigError(f"{path}: not found; make it with `{command}`, and copy it from there")
    try:
        return load_peer(path)
    except (ValueError, KeyError, TypeError, RuntimeError, OSError, SafetensorError) as error:
        raise ConfigError(f"{path}: not what `hpstm train-windowed` writes ({error})") from error


def _at_any_time(t_ns: Times, poses: Floats) -> Asked:
    """The pose of each time asked for, out of the poses (T, 24, 3) of the frames; outside, the first or last."""

    def answers(at_s: float) -> Answers:
        target_ns = t_ns + round(at_s * SECOND_NS)
        return Answers(target_ns, at_time(t_ns, poses, target_ns))

    return answers


def _as_key(seen: Seen) -> tuple[bytes, int]:
    return np.asarray(seen.positions, np.float32).tobytes(), len(seen.positions)


@lru_cache(maxsize=1)  # both SmoothNet methods read the same windows
def _smoothnet_windows(positions: bytes, steps: int) -> Floats:
    """(T, W, 24, 3) what SmoothNet says of the window that ends at each frame; before the first, that is held."""
    import torch

    from model.peers.offline import hold_missing
    from model.peers.smoothnet import SmoothNet

    model = peer("smoothnet")
    assert isinstance(model, SmoothNet)
    given = torch.from_numpy(np.frombuffer(positions, np.float32).reshape(steps, -1, 3).copy())
    held = hold_missing(given)
    window = model.config.window
    padded = torch.cat([held[:1].expand(window - 1, -1, -1), held])
    with torch.inference_mode():
        windows = padded.unfold(0, window, 1).permute(0, 3, 1, 2)  # (T, W, J, 3)
        parts = [model(windows[k : k + BATCH]).numpy() for k in range(0, steps, BATCH)]
    return np.concatenate(parts).astype(np.float64)


def _slot(windows: Floats, newest: Times, frame: Times) -> Floats:
    """(T, 24, 3) of ``frame`` (T,), as the window that ends at ``newest`` (T,) has it."""
    return np.asarray(windows[newest, windows.shape[1] - 1 - (newest - frame)])


def _known(positions: Floats) -> Floats:
    """(T, 24, 1) bool: joints seen so far, and from a pelvis that was: what came later may not be told before."""
    seen = np.logical_or.accumulate(np.isfinite(positions).all(-1), axis=0)
    if seen[-1, 0]:
        seen &= seen[:, :1]
    return np.asarray(seen[..., None])
