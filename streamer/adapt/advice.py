"""What follows from a source's figures: whether the filter is known to help on such, and which options fit it.

Every sentence that has a number of a score takes it from known.json; where no score is, it says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from model.landmarks import shown_by
from model.layouts import Layout
from model.prepare import usual_fps
from model.skeleton import INDEX, J
from streamer.adapt.figures import Figures
from streamer.adapt.known import RIGID, Knowledge, Known, Near, nearest

EVEN = 0.05  # a score within this of nothing is no difference
QUIET_MM = 1.0  # fast noise below which there is nothing to smooth
SMOOTHED = 0.12  # fast noise over slow: a source that shows less of it was smoothed before
HELPS, EVENS, NOTHING, UNKNOWN = "helps", "about like a tuned filter", "nothing to gain", "not known"
# Figures that say that training has seen less of something than this source has: what to call it.
NOISE = {
    "jitter_mm": "fast noise", "slow_mm": "slow noise", "bone_spread": "limbs that change length",
    "outliers": "joints thrown far off", "sides_per_min": "left and right exchanged", "missing": "missing joints",
    "stalls_per_min": "stalls", "step_spread": "uneven times", "axis_ratio": "noise along one axis",
}  # fmt: skip


class Item(NamedTuple):
    """A piece of advice: an option, a command or a word for it, and why."""

    what: str
    why: str


@dataclass(frozen=True)
class Source:
    """Streams of one layout, as one."""

    layout: Layout
    figures: Figures
    bones: dict[str, float]
    warnings: tuple[str, ...]
    near: Sequence[Near]
    known: Knowledge

    @classmethod
    def of(
        cls, layout: Layout, figures: Figures, bones: dict[str, float], warnings: Sequence[str], known: Knowledge
    ) -> Source:
        return cls(layout, figures, bones, tuple(warnings), nearest(figures, known), known)

    @property
    def nearest(self) -> Near:
        return self.near[0]

    def beyond(self) -> list[str]:
        """What training has less of, in 95 of 100 sequences."""
        sides = self.figures.swaps_per_min + self.figures.flips_per_min
        here = {key: sides if key == "sides_per_min" else getattr(self.figures, key) for key in NOISE}
        return [words for key, words in NOISE.items() if here[key] > self.known.range_of(key)[2]]

    def unusual(self) -> dict[str, tuple[float, tuple[float, float]]]:
        """Bones whose proportion training draws in less than 2 of 100 sources: theirs, and the range there."""
        found = {}
        for name, ratio in self.bones.items():
            if name != "size" and name in self.known.proportions and np.isfinite(ratio):
                low, _, high = self.known.proportions[name]
                if not low <= ratio <= high:
                    found[name] = (ratio, (low, high))
        return found


class Verdict(NamedTuple):
    """A word (HELPS, EVENS, NOTHING, UNKNOWN) and the sentences behind it."""

    word: str
    text: str


def verdict(source: Source) -> Verdict:
    """Whether the filter is known to help on such a source."""
    near = source.nearest
    if near.word == "unlike":
        what = ", ".join(_steps(near)[:2])
        return Verdict(UNKNOWN, f"No source that was scored is like this one. The nearest is {near.source.title}, "
                                f"{near.steps:.1f} steps away: {what}.")  # fmt: skip
    word, said = _score(near.source)
    return Verdict(word, f"{near.word.capitalize()} {near.source.title} ({near.steps:.1f} steps away). {said}")


def _steps(near: Near) -> list[str]:
    """The figures that differ most from a known source's, in words."""
    return [f"{key} is {'more' if steps > 0 else 'less'} here" for key, steps in near.differs if abs(steps) > 1.0]


def _score(source: Known) -> tuple[str, str]:
    scores = source.scores
    if "tuned" in scores:
        now, delayed = scores["tuned"]
        said = f"There the error was {_against(now)} that of the best of four filters tuned to it by hindsight"
        said += f", {_against(delayed)} with 0.1 s of delay"
        if "moves" in scores:
            said += f"; of the error that moves {-scores['moves'].now:.0%} and {-scores['moves'].delayed:.0%} went"
        if "tuned_other" in scores:
            other = scores["tuned_other"]
            said += f"; with joints as detectors define them {_against(other.now)} and {_against(other.delayed)}"
        if "worse" in scores:
            said += f"; {scores['worse'].now:.0%} of takes came out worse than they went in, and with delay "
            said += f"{scores['worse'].delayed:.0%}"
        return (HELPS if max(now, delayed) < -EVEN else EVENS), f"{said}."
    if "moves" in scores:
        now, delayed = scores["moves"]
        said = f"There {-now:.0%} of the error that moves went, {-delayed:.0%} with 0.1 s of delay"
        return (HELPS if max(now, delayed) < -EVEN else EVENS), f"{said}; it is simulated, no real source."
    if "median" in scores:
        now, delayed = scores["median"]
        said = f"There the error was {_against(now)} that of a median of five, {_against(delayed)} with 0.1 s of delay"
        return (HELPS if now < -EVEN else EVENS), f"{said}; it is simulated, no real source."
    if "still" in scores:
        now, _ = scores["still"]
        return NOTHING, f"There a body at rest shakes {1 + now:.1f} times as much as through a tuned One-Euro filter."
    now, other = scores["clean_mm"].now, scores["clean_other_mm"].now
    said = f"Clean in, clean out: {now:g} mm off, with joints as detectors define them up to {other:g} mm"
    return NOTHING, f"{said}. What there is to have is a skeleton, turns, gaps that are filled, prediction."


def _against(share: float) -> str:
    if abs(share) < 0.005:
        return "as large as"
    return f"{abs(share):.0%} {'below' if share < 0 else 'above'}"


# -- advice -----------------------------------------------------------------------------------------------------------


def advice(source: Source) -> list[Item]:
    """Options of ``hpstm serve`` and what else to do, the most useful first."""
    return [item for rule in _RULES for item in rule(source)]


def _delay(source: Source) -> Iterator[Item]:
    scores = source.nearest.source.scores
    if source.nearest.word == "unlike":
        return
    if "worse" in scores and scores["worse"].now > scores["worse"].delayed:
        worse = scores["worse"]
        yield Item("--delay 0.1", f"on such takes {worse.now:.0%} come out worse than they went in without it, "
                                  f"{worse.delayed:.0%} with it")  # fmt: skip
    elif "tuned" in scores and scores["tuned"].delayed > EVEN:
        yield Item("--delay 0.1", f"steadier; but where you can wait, a tuned filter is {scores['tuned'].delayed:.0%} "
                                  "better on such noise")  # fmt: skip
    elif "median" in scores and scores["median"].delayed > EVEN:
        yield Item("no delay", "where you can wait 0.1 s, a median of five is better on such outliers: "
                               "put one before the filter")  # fmt: skip
    elif source.figures.jitter_mm > QUIET_MM:
        yield Item("--delay 0.1", "where you can wait: the pose is steadier, what came after is known")


def _source_joints(source: Source) -> Iterator[Item]:
    count = len(source.layout.joints)
    whole = int(source.layout.measured.sum()) == J and count == J
    if not whole:
        yield Item("--source-joints", f"your own {count} joints, refined, beside ours: what is left out or lies "
                                      "elsewhere in our 24 keeps its meaning")  # fmt: skip


def _landmarks(source: Source) -> Iterator[Item]:
    shown = shown_by(source.layout)
    ends = [INDEX["head"], INDEX["left_wrist"], INDEX["left_ankle"]]
    noise = np.array(source.figures.by_joint_mm)[ends]
    if shown is not None and (np.nan_to_num(noise) < 8.0).all():
        yield Item("--landmarks", "head, hands, feet turn as face, fingers, heels say, where those are steady")


def _feet(source: Source) -> Iterator[Item]:
    found = source.figures
    ankles = bool(source.layout.measured[[INDEX["left_ankle"], INDEX["right_ankle"]]].all())
    if not ankles:
        return
    if found.moves_m < 0.02:
        yield Item("no --foot-lock", "the hips never move: these joints are around the body, not in a room, and no foot "
                                     "stands anywhere; for MediaPipe, hpstm source mediapipe finds the place")  # fmt: skip
    elif found.jitter_mm > QUIET_MM:
        yield Item("--foot-lock", "feet shake as all joints do; it holds those that stand")


def _rate(source: Source) -> Iterator[Item]:
    found = source.figures
    if found.step_spread > 0.1 or found.stalls_per_min > 1.0:
        usual = usual_fps(np.arange(100) / found.rate_hz)
        stalls = f" and stall {found.stalls_per_min:.0f} times a minute" if found.stalls_per_min > 1.0 else ""
        yield Item(f"--rate {usual:g}", f"steps between frames vary by {found.step_spread:.0%}{stalls}: poses come "
                                        "evenly all the same")  # fmt: skip
    if not 15.0 <= found.rate_hz <= 240.0:
        yield Item("another rate", f"{found.rate_hz:.0f} Hz; the filter is made for 15 to 240")
    if found.repeated > 0.2:
        yield Item("send less often", f"{found.repeated:.0%} of joints are bit for bit those of the frame before: frames "
                                      "are sent again, or held where nothing was seen; leave those out")  # fmt: skip


def _skeleton(source: Source) -> Iterator[Item]:
    if source.figures.bone_spread > 0.02:
        yield Item("hpstm calibrate ACTOR", f"limbs change by {source.figures.bone_spread:.0%}: bones of somebody who "
                                            "stands still for 3 s are measured best")  # fmt: skip
        yield Item("--skeletons DIR", "and are kept for the next time")


def _before(source: Source) -> Iterator[Item]:
    """What to change before the filter."""
    found = source.figures
    if RIGID < found.bone_spread and found.slow_mm > 5.0 and found.jitter_mm < SMOOTHED * found.slow_mm:
        yield Item("no smoothing before", f"limbs drift by {found.slow_mm:.0f} mm and hardly anything is fast: the "
                                          "source smooths. Switch that off: its lag cannot be taken away")  # fmt: skip
    if found.swaps_per_min + found.flips_per_min > 2.0:
        yield Item("a better detector", f"left and right change places {found.swaps_per_min:.0f} times a minute, the body "
                                        f"turns round at once {found.flips_per_min:.0f} times: larger models do that "
                                        "less, and tracking in place of single pictures")  # fmt: skip
    if found.confidence is not None and found.confidence_tells < 1.1:
        yield Item("no confidence", "it says nothing of the noise: where it is low, joints are as good as where it is "
                                    "high. Send none, but for what is not seen")  # fmt: skip


def _train(source: Source) -> Iterator[Item]:
    why = [f"training has less of: {', '.join(source.beyond())}"] if source.beyond() else []
    if source.unusual():
        why.append(f"bones beyond training's: {', '.join(source.unusual())}")
    if verdict(source).word in (UNKNOWN, EVENS):
        why.append("the bundled weights are not known to be better than a tuned filter here")
    if why:
        yield Item("hpstm train --from bundled --pairs FILE...", f"if you have truth beside this source (a suit, more "
                   f"cameras): {'; '.join(why)}. Judge it by hpstm evaluate --pairs")  # fmt: skip


_RULES: tuple[Callable[[Source], Iterator[Item]], ...] = (
    _before, _delay, _source_joints, _landmarks, _feet, _rate, _skeleton, _train
)  # fmt: skip


def as_json(source: Source) -> dict[str, Any]:
    """The report for programs."""
    said = verdict(source)
    ranges = {key: source.known.range_of(key) for key in source.known.training}
    return {
        "layout": source.layout.name, "figures": source.figures.as_json(),
        "training": {key: [_number(x) for x in value] for key, value in ranges.items()},
        "beyond_training": source.beyond(),
        "proportions": {name: _number(ratio) for name, ratio in source.bones.items()},
        "unusual_bones": {name: {"here": _number(r), "training": list(pair)} for name, (r, pair) in source.unusual().items()},
        "nearest": [{"source": near.source.name, "title": near.source.title, "steps": _number(near.steps),
                     "word": near.word} for near in source.near],
        "verdict": said.word, "because": said.text, "warnings": list(source.warnings),
        "advice": [item._asdict() for item in advice(source)], "scores_of_weights": source.known.weights,
    }  # fmt: skip


def _number(value: float) -> float | None:
    return float(f"{value:.6g}") if np.isfinite(value) else None
