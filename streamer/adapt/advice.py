"""What to do with a source: options of ``hpstm serve`` and what else, each with the figure or the score it rests on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from model.landmarks import shown_by
from model.prepare import usual_fps
from model.skeleton import INDEX, JOINTS, J
from streamer.adapt.known import QUIET_MM, RIGID
from streamer.adapt.source import EVEN, EVENS, NOTHING, UNKNOWN, Source, percent, verdict

STEADY_MM = 3.0  # fast noise up to which points around head and hands show how these are turned
SMOOTHED, DRIFTS_MM = 0.12, 5.0  # fast noise over slow: with less of it a source was smoothed before; slow noise
SIDES_PER_MIN = 2.0  # left and right exchanged so often is a fault of the detector
TELLS = 1.1  # times as much noise where confidence is low: with less, it says nothing
UNEVEN, STALLS_PER_MIN = 0.1, 1.0
REPEATED = 0.2  # share of joints
LOOSE = 0.02  # spread of a limb's length
AT_ONE_PLACE_M = 0.02  # hips that go no farther are the origin
RATES_HZ = (15.0, 240.0)  # that the filter is made for


class Item(NamedTuple):
    """A piece of advice: an option, a command or a word for it, and why."""

    what: str
    why: str


def advice(source: Source) -> list[Item]:
    """What to change before the filter, options of it, and when to train."""
    return [item for rule in _RULES for item in rule(source)]


def _before(source: Source) -> Iterator[Item]:
    found = source.figures
    if found.bone_spread > RIGID and found.slow_mm > DRIFTS_MM and found.jitter_mm < SMOOTHED * found.slow_mm:
        yield Item(
            "no smoothing before",
            f"limbs drift by {found.slow_mm:.0f} mm and next to nothing is fast: the source smooths. Switch that off, "
            "its lag cannot be taken away",
        )
    if found.swaps_per_min + found.flips_per_min > SIDES_PER_MIN:
        yield Item(
            "a better detector",
            f"left and right change places {found.swaps_per_min:.0f} times a minute, the body turns round at once "
            f"{found.flips_per_min:.0f} times: larger models do it less, and tracking instead of single pictures",
        )
    if found.confidence is not None and found.confidence_tells < TELLS:
        yield Item(
            "no confidence",
            "joints are as good where it is low as where it is high: send none, but zero for what is not seen",
        )
    if found.repeated > REPEATED:
        yield Item(
            "nothing twice",
            f"{percent(found.repeated)} of joints are bit for bit those of the frame before: sent again, or held where "
            "nothing was seen. Leave such frames out, and such joints NaN",
        )


def _delay(source: Source) -> Iterator[Item]:
    scores = source.nearest.source.scores
    if source.nearest.word == "unlike" or verdict(source).word == NOTHING:
        return
    worse, tuned, middle = (scores.get(name) for name in ("worse", "tuned", "median"))
    if worse is not None and worse.now > worse.delayed:
        said = f"without it {percent(worse.now)} of such takes came out worse than they went in"
        yield Item("--delay 0.1", f"{said}, with it {percent(worse.delayed)}")
    elif tuned is not None and tuned.delayed > EVEN:
        said = f"steadier; but who can wait does {percent(tuned.delayed)} better with a tuned filter on such noise"
        yield Item("--delay 0.1", said)
    elif middle is not None and middle.delayed > EVEN:
        said = "who can wait 0.1 s does better with a median of five on such outliers: put one before the filter"
        yield Item("no delay", said)
    elif source.figures.jitter_mm > QUIET_MM:
        yield Item(
            "--delay 0.1", "for who can wait: what came after is known, so the pose is steadier, if hardly nearer"
        )


def _source_joints(source: Source) -> Iterator[Item]:
    joints = len(source.layout.joints)
    if not (joints == J and source.layout.measured.all()):
        yield Item("--source-joints", f"your own {joints} joints, refined, where you define them, beside our 24")


def _landmarks(source: Source) -> Iterator[Item]:
    shown = shown_by(source.layout)
    if shown is not None and source.figures.jitter_mm < STEADY_MM:
        joints = [JOINTS[joint] for joint in shown.joints if "ankle" not in JOINTS[joint]]  # feet: no better by it
        if joints:
            yield Item("--landmarks", f"face and fingers show how these are turned: {', '.join(joints)}")


def _feet(source: Source) -> Iterator[Item]:
    found = source.figures
    if not source.layout.measured[[INDEX["left_ankle"], INDEX["right_ankle"]]].all():
        return
    if found.moves_m < AT_ONE_PLACE_M:
        yield Item(
            "no --foot-lock",
            "the hips never move: these joints lie around the body, not in a room, so no foot stands anywhere. For "
            "MediaPipe, hpstm source mediapipe finds the place",
        )
    elif found.jitter_mm > QUIET_MM:
        yield Item("--foot-lock", "feet shake as all joints do; it holds those that stand")


def _rate(source: Source) -> Iterator[Item]:
    found = source.figures
    if found.step_spread > UNEVEN or found.stalls_per_min > STALLS_PER_MIN:
        usual = usual_fps(np.arange(100) / found.rate_hz)
        said = f"steps between frames vary by {percent(found.step_spread)}, {found.stalls_per_min:.0f} stalls a minute"
        yield Item(f"--rate {usual:g}", f"{said}: poses come evenly all the same")
    if not RATES_HZ[0] <= found.rate_hz <= RATES_HZ[1]:
        yield Item("another rate", f"{found.rate_hz:.0f} Hz; the filter is made for {RATES_HZ[0]:g} to {RATES_HZ[1]:g}")


def _skeleton(source: Source) -> Iterator[Item]:
    if source.figures.bone_spread > LOOSE:
        spread = percent(source.figures.bone_spread)
        said = f"limbs change by {spread}: bones are measured best of somebody who stands still for 3 s"
        yield Item("hpstm calibrate ACTOR", said)
        yield Item("--skeletons DIR", "keeps them for the next time")


def _train(source: Source) -> Iterator[Item]:
    said, why = verdict(source).word, list[str]()
    if source.beyond():
        why.append(f"training has less of: {', '.join(source.beyond())}")
    if source.unusual() and said != NOTHING:
        why.append(f"bones beyond training's: {', '.join(source.unusual())}")
    if said in (UNKNOWN, EVENS):
        why.append("the bundled weights are not known to be better than a tuned filter here")
    if why:
        truth = "if you have truth beside this source (a suit, more cameras)"
        what = "hpstm train --from bundled --pairs FILE..."
        yield Item(what, f"{truth}: {'; '.join(why)}. Judge it by hpstm evaluate --pairs")


_RULES: tuple[Callable[[Source], Iterator[Item]], ...] = (
    _before, _delay, _source_joints, _landmarks, _feet, _rate, _skeleton, _train,
)  # fmt: skip


def as_json(source: Source) -> dict[str, Any]:
    """The report for programs; null for what is not known."""
    said = verdict(source)
    ranges = {key: source.known.range_of(key) for key in source.known.training}
    unusual = {name: {"here": ratio, "training": pair} for name, (ratio, *pair) in source.unusual().items()}
    near = [{"source": n.source.name, "title": n.source.title, "steps": _number(n.steps), "word": n.word}
            for n in source.near]  # fmt: skip
    return {
        "layout": source.layout.name,
        "figures": source.figures.as_json(),
        "training": {key: [_number(x) for x in value] for key, value in ranges.items()},
        "beyond_training": source.beyond(),
        "proportions": {name: _number(ratio) for name, ratio in source.bones.items()},
        "unusual_bones": unusual,
        "nearest": near,
        "verdict": said.word,
        "because": said.text,
        "warnings": list(source.warnings),
        "advice": [item._asdict() for item in advice(source)],
        "scores_of_weights": source.known.weights,
    }


def _number(value: float) -> float | None:
    return float(f"{value:.6g}") if np.isfinite(value) else None
