"""Streams without a fault: what watches for faults must not see any."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from bench.noise import observed
from bench.streams.bars import better, counted, error, finite, quiet, same_skeleton, silence
from bench.streams.case import Case, Fault, Setting
from bench.streams.stream import WARM_S, Stream, even, seen

HEALTHY = Fault("Nothing", "Poses; nothing is counted, nothing is warned of", "-")
RATES_HZ = (15.0, 60.0, 120.0)


def _good(noise_mm: float, rate_hz: float = 30.0) -> Callable[[Setting], Stream]:
    def make(setting: Setting) -> Stream:
        return seen(setting.person(), even(0.0, WARM_S + setting.seconds, rate_hz), noise_mm, seed=setting.seed)

    return make


def _estimator(setting: Setting) -> Stream:
    """Noise of an estimator on people: slow, in bursts, with joints lost."""
    stream = setting.stream()
    positions, confidence = observed(stream.truth, stream.at_s, setting.seed)
    noisy = stream.showing(slice(None), positions, shown=True)
    frames = [replace(frame, confidence=c.astype(np.float32)) for frame, c in zip(noisy.frames, confidence)]
    return replace(noisy, frames=frames, shown=np.asarray(np.isfinite(positions).all(-1)), noise="realistic")


ALWAYS = [finite(), silence(0.1), quiet()]

CASES = (
    Case("clean", HEALTHY, _good(0.0), [*ALWAYS, error(2.0, WARM_S), same_skeleton(WARM_S)]),
    Case("noise", HEALTHY, _good(10.0), [*ALWAYS, better(WARM_S), same_skeleton(WARM_S)]),
    Case("estimator", HEALTHY, _estimator,
         [finite(), silence(0.1), counted("new_bodies", 0, 0), counted("new_tracks", 0, 0)]),
    *(Case(f"noise-{rate:g}hz", HEALTHY, _good(10.0, rate), ALWAYS) for rate in RATES_HZ),
)  # fmt: skip
