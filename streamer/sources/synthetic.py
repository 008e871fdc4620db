"""Frames of a procedural actor (model.synthetic): a source that needs no data."""

from __future__ import annotations

import numpy as np

from streamer.clock import SECOND_NS
from streamer.frames import Frame
from streamer.sources.replay import Take


def synthetic_take(seconds: float, fps: float = 60.0, seed: int = 0, actor: str = "synthetic") -> Take:
    """``seconds`` of somebody moving at ``fps``, free of noise; the same seed, the same take."""
    from model.motion.synthetic import SyntheticActor

    positions = SyntheticActor(seed).clip(seconds, fps).astype(np.float32)
    frames = [Frame(actor, n, round(n * SECOND_NS / fps), xyz) for n, xyz in enumerate(positions)]
    return Take("synthetic", frames, fps)
