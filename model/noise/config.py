"""What noise there is for training and evaluation: odds and sizes of every component that corruption.py draws."""

from __future__ import annotations

from dataclasses import dataclass, replace

Range = tuple[float, float]


@dataclass(frozen=True)
class NoiseConfig:
    """Odds and sizes of every component; an odds of 0 switches it off. Lengths in metres (ranges: log-uniform).

    The five plain kinds and the estimator kind exclude each other; what ``clean + white + hpstm + sensor + wander``
    leave to 1 is the estimator kind, whose components have odds of their own.
    """

    clean: float = 0.10
    white: float = 0.12
    hpstm: float = 0.08
    sensor: float = 0.05
    wander: float = 0.13
    white_m: Range = (0.002, 0.015)
    sensor_m: Range = (0.0003, 0.002)
    hpstm_scale: Range = (0.5, 3.0)
    wander_m: Range = (0.004, 0.040)
    wander_s: Range = (0.08, 2.0)
    wander_white: Range = (0.05, 1.0)  # of the wandering's size

    scale: Range = (0.3, 2.0)
    slow: float = 0.95
    slow_m: Range = (0.010, 0.030)
    depth: Range = (2.0, 4.0)
    root_drift: float = 0.6
    root_drift_m: Range = (0.005, 0.06)
    bias: float = 0.95
    bias_m: Range = (0.006, 0.020)
    bone_scale: float = 0.6
    bone_constant: float = 0.03
    bone_slow: Range = (0.01, 0.03)
    bone_keep: Range = (0.6, 1.0)  # uniform: how much of the length error that slow and bias would make is undone
    jitter: float = 0.95
    jitter_m: Range = (0.001, 0.004)
    jitter_depth: Range = (3.0, 20.0)
    jitter_depth_most_m: float = 0.005
    deep: float = 0.15  # odds of a depth axis that jumps from frame to frame, as BlazePose's does
    deep_m: Range = (0.008, 0.080)
    bursts: float = 0.40
    bursts_hz: Range = (0.12, 0.6)
    stuck: float = 0.25
    stuck_hz: Range = (0.15, 0.8)

    dropout: float = 0.55
    dropout_hz: Range = (0.2, 3.0)
    flicker: float = 0.15
    flicker_odds: Range = (0.005, 0.10)
    confidence: float = 0.70
    confidence_gain: Range = (0.5, 2.0)  # of the logit, for each factor e of the error
    confidence_level: Range = (-0.5, 3.0)  # uniform: the logit of a middling error

    cameras: float = 0.0  # several, triangulated: one more of the kinds that exclude each other
    outliers: float = 0.0  # odds of the rest, on top of any kind that is not clean
    outliers_odds: Range = (0.003, 0.08)
    outliers_m: Range = (0.08, 0.6)
    astray: float = 0.0
    astray_hz: Range = (0.1, 4.0)
    swaps: float = 0.0
    swaps_odds: Range = (0.002, 0.03)
    out_of_sight: float = 0.0  # joints that are never there, or lost for good
    made_up: float = 0.0  # of these: the source reports them all the same, at low confidence


# What sources really do, for training: a constant bias is no error (definitions.py), and much goes wrong at times.
SOURCES = replace(
    NoiseConfig(), clean=0.14, white=0.11, hpstm=0.05, wander=0.12, cameras=0.12, scale=(0.12, 2.0), bias=0.4,
    bias_m=(0.003, 0.012), bone_constant=0.01, jitter_m=(0.001, 0.006), outliers=0.15, astray=0.25, swaps=0.12,
    out_of_sight=0.22, made_up=0.35, confidence_gain=(0.6, 3.0), confidence_level=(-2.0, 3.0),
)  # fmt: skip
# Several cameras alone: whom they film dances, jumps and falls. For motions that are strange to the network.
STAGE = replace(SOURCES, clean=0.02, white=0.04, hpstm=0.02, sensor=0.02, wander=0.0, cameras=0.9)
# Every sequence is of the estimator kind, at its own size, with gaps in all.
REALISTIC = replace(
    NoiseConfig(), clean=0.0, white=0.0, hpstm=0.0, sensor=0.0, wander=0.0, deep=0.0, scale=(0.6, 1.6), dropout=1.0,
    dropout_hz=(0.3, 1.5),
)  # fmt: skip
MILD = replace(REALISTIC, scale=(0.3, 0.3))  # a good estimator: there is less to win, and more to spoil
REALISTIC_SEEN = replace(REALISTIC, dropout=0.0, flicker=0.0, stuck=0.0)
