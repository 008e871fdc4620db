"""Real MediaPipe recordings through every method: no truth, so steadiness only, and how late each is against its input.

Scored are the joints that the layout measures, where both sides have them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.accuracy.answers import Seen
from bench.accuracy.learned import WHOLE_TAKE
from bench.accuracy.methods import FILTER, Case, held, smoothed_positions
from bench.scores import bone_length_change_mm, jitter_mm
from bench.track import Floats, Times
from model.evaluate import lag_s
from model.layouts import get_layout
from streamer.clock import SECOND_NS
from streamer.errors import ConfigError
from streamer.filter import PoseFilter
from streamer.frames import Frame
from streamer.runtimes.block import Runtime
from streamer.sources.replay import read_take

NOISE = "realistic"  # what the baselines were tuned for


def run(folder: Path, runtime: Runtime, methods: Sequence[str]) -> list[dict[str, Any]]:
    """One row for each recording and method, at delay 0, in the order of the file names.

    Accel [mm/frame^2] and the standard deviation of the bones' lengths [mm] of all frames, and of those after the
    skeleton was measured (None where the recording ends before); the lag against the input [ms].

    Raises:
        ConfigError: no .npz in the folder, or one that is no recording.
    """
    files = sorted(folder.glob("*.npz"))
    if not files:
        raise ConfigError(f"--recordings {folder}: no .npz in it")
    rows = []
    for file in files:
        take = read_take(file)
        raw, t_ns = _measured(take.frames), np.array([frame.t_ns for frame in take.frames], np.int64)
        given = held(t_ns / SECOND_NS, raw)
        for method in methods:
            said = _method(runtime, method, take.frames, t_ns, given, take.fps)
            scores = _scores(runtime, said, raw, given, t_ns, take.fps)
            rows.append({"recording": file.stem, "rate_hz": take.fps, "frames": len(raw), "method": method, **scores})
    return rows


def _measured(frames: Sequence[Frame]) -> Floats:
    """(T, 24, 3) the canonical joints that the layout measures [m], NaN elsewhere."""
    out = []
    for frame in frames:
        positions, measured, _, _ = get_layout(frame.layout).to_canonical(frame.positions, frame.confidence)
        out.append(np.where(measured[:, None], positions, np.nan))
    return np.array(out, np.float64)


def _method(
    runtime: Runtime, method: str, frames: Sequence[Frame], t_ns: Times, given: Floats, rate_hz: float
) -> Floats:
    if method in WHOLE_TAKE:
        return WHOLE_TAKE[method](t_ns, Seen(given, np.isfinite(given[..., 0]).astype(np.float64)))(0.0).positions
    if method != FILTER:
        return smoothed_positions(method, t_ns, given, Case(NOISE, rate_hz, 0.0))
    poses = PoseFilter(runtime).push_many(frames)
    return np.array([np.full((24, 3), np.nan) if pose is None else pose.positions for pose in poses], np.float64)


def _scores(
    runtime: Runtime, said: Floats, raw: Floats, given: Floats, t_ns: Times, rate_hz: float
) -> dict[str, float | None]:
    same = np.where(np.isnan(raw), np.nan, said)
    start_ns = t_ns[np.isfinite(raw).any((1, 2)).argmax()]  # the bones are measured from the first sight on
    settled = t_ns >= start_ns + round(runtime.contract.calibration_events_s[-1] * SECOND_NS)
    joints = np.isfinite(given[-1, :, 0])  # those ever seen; held from then on
    known = np.isfinite(given[:, joints]).all((1, 2)) & np.isfinite(said[:, joints]).all((1, 2))
    return {
        "accel_mm": jitter_mm(same, t_ns),
        "bone_std_mm": bone_length_change_mm(same),
        "bone_std_settled_mm": bone_length_change_mm(same[settled]) if settled.sum() > 1 else None,
        "lag_ms": 1e3 * lag_s(said[known][:, joints], given[known][:, joints], rate_hz),
    }
