"""The offline twin in the accuracy bench: the live filter's own network with attention to both sides.

It is given the whole take, so it knows the future and the actor's bones from the first frame on; its head is asked for
the same times as the live filter's. What is between them is the price of being live.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bench.accuracy.answers import Answers, Asked, Seen
from bench.track import Times, at_time
from streamer.clock import SECOND_NS
from streamer.errors import ConfigError

if TYPE_CHECKING:
    from model.network.causal import CausalFilter
    from model.network.front import Frame

FILE = Path(__file__).parents[1] / "weights" / "twin.safetensors"


def twin(t_ns: Times, seen: Seen) -> Asked:
    """The twin's answers for a time from each frame, as the live filter's: within the head's reach."""
    import torch

    from model.calibration import skeleton_in_use
    from model.network.causal import run_front
    from model.network.head import TAU_RANGE_S, covariance

    model = network()
    frames, origin = _frames(t_ns, seen)
    times_s = torch.from_numpy((t_ns - t_ns[0]) / SECOND_NS)[None]
    with torch.no_grad():
        first = run_front(frames, torch.zeros(1))
        encoded = model.from_front(first, times_s)
        observed = encoded.offsets_m[:, :, 0].transpose(2, 3)
        _, running = skeleton_in_use(observed, encoded.weight[:, :, 0, 0], first.dt_s)
    offsets = running[:, -1:].expand_as(running).transpose(2, 3)[:, :, None]

    def answers(at_s: float) -> Answers:
        tau = torch.tensor([min(max(at_s, TAU_RANGE_S[0]), TAU_RANGE_S[1])])
        with torch.no_grad():
            pose = model.poses(encoded.latent, run_front(frames, tau), tau, offsets)
        said_ns, target_ns = t_ns + round(float(tau) * SECOND_NS), t_ns + round(at_s * SECOND_NS)
        positions = pose.positions.numpy().astype(np.float64) + origin
        if at_s < TAU_RANGE_S[0]:  # beyond reach: what it said at the end of it, of earlier frames
            return Answers(target_ns, at_time(said_ns, positions, target_ns))
        return Answers(target_ns, positions, covariance(pose).numpy(), pose.world_rot.numpy())

    return answers


def _frames(t_ns: Times, seen: Seen) -> tuple[Frame, np.ndarray]:
    """The network's frames of a take, relative to where its first sight is (3,) [m]."""
    import torch

    from model.network.front import Frame

    visible = np.isfinite(seen.positions[..., 0])  # (T, J)
    first = int(visible.any(1).argmax())
    origin = seen.positions[first][visible[first]].mean(0)
    xyz = np.where(visible[..., None], seen.positions - origin, 0.0).swapaxes(-1, -2)[None, :, None]
    given = visible.astype(np.float64)
    dt_s = np.diff(t_ns, prepend=t_ns[0]) / SECOND_NS
    rows = (given, seen.confidence * given, np.zeros_like(given))
    parts = (xyz, *(row[None, :, None, None] for row in rows), dt_s[None, :, None, None, None])
    return Frame(*(torch.from_numpy(np.ascontiguousarray(part, np.float32)) for part in parts)), origin


@lru_cache(maxsize=1)
def network(path: Path = FILE) -> CausalFilter:
    """The trained twin, of ``hpstm train --twin``.

    Raises:
        ConfigError: torch or the weights are missing, or they are none of a twin.
    """
    try:
        from model.training.train import load_model
    except ImportError as error:
        raise ConfigError(f"twin: needs {error.name}; install it with: pip install 'hpstm-live[train]'") from error
    if not path.is_file():
        raise ConfigError(f"{path}: not found; make it with `hpstm train --twin`, and copy it from there")
    try:
        model = load_model(path)
    except (KeyError, TypeError, RuntimeError, OSError) as error:
        raise ConfigError(f"{path}: not what `hpstm train --twin` writes ({error})") from error
    if not model.config.bidirectional:
        raise ConfigError(f"{path}: a causal network; the twin is trained with `hpstm train --twin`")
    return model
