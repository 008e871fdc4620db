"""Pairs as the benches use them: what a real estimator said of a motion and the truth of it, frame by frame.

Their files are read by model/training/pair_files.py, for training too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bench.track import Floats, Times
from model.layouts import Layout, get_layout
from model.training.pair_files import HIPS, PairError, Recording, canonical_truth, read_recordings
from streamer.clock import SECOND_NS
from streamer.errors import ConfigError
from streamer.frames import Frame
from streamer.sources.told import Told

__all__ = ["HIPS", "KNOWN", "Bools", "Pair", "canonical_truth", "read_pairs", "told"]

KNOWN: Mapping[str, str] = {"height": "height known", "pitch": "pitch known", "both": "height and pitch known"}
CAMERA = (1.0, -1.0, -1.0)  # from our axes to a camera's, and back

Bools = npt.NDArray[np.bool_]


class Pair(Recording):
    """One take, as a source sends it and as it is scored."""

    @cached_property
    def t_ns(self) -> Times:
        """(T,) times from the first frame."""
        return np.asarray(np.round((self.times_s - self.times_s[0]) * SECOND_NS), np.int64)

    @cached_property
    def rate_hz(self) -> float:
        return float(1.0 / np.median(np.diff(self.times_s)))

    @cached_property
    def frames(self) -> list[Frame]:
        """What a source sends."""
        given = [None] * len(self.t_ns) if self.confidence is None else self.confidence.astype(np.float32)
        positions = self.noisy.astype(np.float32)
        return [Frame("a", k, int(t), positions[k], given[k], self.layout) for k, t in enumerate(self.t_ns)]

    @cached_property
    def seen(self) -> tuple[Floats, Floats]:
        """(T, 24, 3) canonical joints, measured or derived, NaN where the frame gives none; (T, 24) confidence."""
        xyz, measured, derived, trust = self._layout.to_canonical(self.noisy, self.confidence)
        there = np.broadcast_to(measured | derived, xyz.shape[:2])
        return np.where(there[..., None], xyz, np.nan).astype(np.float64), np.broadcast_to(trust, xyz.shape[:2])

    @cached_property
    def given(self) -> list[int]:
        """The canonical joints that are the source's own and have a truth: those that are scored."""
        return [int(j) for j in np.flatnonzero(self._layout.measured & np.isfinite(self.truth).all(-1).any(0))]

    @property
    def _layout(self) -> Layout:
        return get_layout(self.layout)


def read_pairs(files: Sequence[str | Path]) -> list[Pair]:
    """The takes of some files, in their order.

    Raises:
        ConfigError: a file is missing or is none of the kinds; the message names the file and the key.
    """
    try:
        return [Pair(**vars(take)) for take in read_recordings(files)]
    except PairError as error:
        raise ConfigError(f"--pairs {error}") from error


def told(pairs: Sequence[Pair], known: str) -> list[Pair]:
    """The takes of MediaPipe whose person's height and camera's pitch are known, as a source that is told them sends
    them; sources of their own, for what is told: one of KNOWN.
    """
    out = []
    for pair in pairs:
        if pair.layout == "mediapipe_33" and pair.height_m is not None and pair.pitch_deg is not None:
            what = Told(None if known == "pitch" else pair.height_m, 0.0 if known == "height" else pair.pitch_deg)
            noisy = what.level(what.scaled(pair.noisy * CAMERA)) * CAMERA
            out.append(replace(pair, source=f"{pair.source}, {KNOWN[known]}", noisy=noisy))
    return out
