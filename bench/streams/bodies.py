"""Bodies as sources mean and show them: joints defined otherwise, half seen, invented, fast, still, with outliers.

The cases of bench/accuracy/cases.py, which ``hpstm bench targets`` scores in full, as streams with a bar each. A bar
that the model of today does not hold everywhere is due with the next one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from bench.accuracy import cases
from bench.accuracy.bodies import Body
from bench.streams.bars import NEXT, Bar, against_one_euro, as_twin, error, finite
from bench.streams.case import Case, Fault, Setting
from bench.streams.stream import START_NS, WARM_S, Stream
from model.layouts import get_layout

DEFINED = Fault(
    "A source means other points by its joints than we do", "The source's own joints, refined", "As long as the stream"
)
HIDDEN = Fault(
    "A hand, an arm, the head, legs or the hips are never seen", "The rest as if all were seen", "As long as the stream"
)
INVENTED = Fault(
    "Legs under a desk are made up, at low confidence", "The rest as if the legs were seen", "As long as the stream"
)
CHANGED = Fault("The source's layout changes in mid-stream", "Poses go on, same skeleton", "Nothing is lost")
FAST = Fault("Somebody spins, strikes, turns over", "Poses that keep up", "As long as the stream")
STILL = Fault("Somebody stands still", "A pose that neither creeps nor trembles", "As long as the stream")
THROWN = Fault("One joint in twenty is half a metre off for a frame", "The others decide where it is", "One frame")
ASTRAY = Fault(
    "An elbow or a wrist is elsewhere for up to a second",
    "What makes a limb too long is doubted",
    "A tenth of a second",
)
DEEP = Fault("A single camera knows depth least", "The view is found, and depth doubted", "As long as the stream")
KINDS = ("suit", "bvh", "h36m", "coco", "mediapipe", "kinect")
HELD_CLEAN = ("bvh",)


def _of(name: str, twin: str | None = None) -> Callable[[Setting], Stream]:
    """The stream of a case of the accuracy bench; the twin is another one of the same person."""

    def make(setting: Setting) -> Stream:
        case, person, t_s = cases.CASES[name], setting.person(), setting.times
        rotations, _ = person.pose(t_s)
        pair = case.pair(Body(person.name, t_s, person.positions(t_s), rotations))
        frames = pair.frames
        for frame in frames:
            frame.t_ns += START_NS
        measured = np.broadcast_to(get_layout(case.layout).measured, pair.truth.shape[:2])
        shown = np.isfinite(pair.truth).all(-1) & measured
        noise = {"clean": "clean", "realistic": "realistic"}.get(case.noise, "white10")
        other = _of(twin)(setting) if twin else None
        return Stream(frames, t_s, np.where(shown[..., None], pair.truth, np.nan), shown, twin=other, noise=noise)

    return make


def _changing(first: str, second: str) -> Callable[[Setting], Stream]:
    """One case's stream until WARM_S, then another's of the same person, in another layout."""

    def make(setting: Setting) -> Stream:
        before, after = _of(first)(setting), _of(second)(setting)
        return before.at(before.between(0.0, WARM_S)).with_(after.at(after.between(WARM_S)))

    return make


def _later(bar: Bar) -> Bar:
    return replace(bar, due=NEXT)


def _case(name: str, of: str, fault: Fault, bar: Bar, twin: str | None = None) -> Case:
    return Case(name, fault, _of(of, twin), [finite(), bar])


def _hidden(limb: str) -> Case:
    bar, name = error(8.0, WARM_S), f"no-{limb.replace(' ', '-').replace('+', 'and')}"
    return _case(name, f"smpl_24, clean, no {limb}", HIDDEN, bar)


def _defined(kind: str) -> list[Case]:
    bar = error(4.0, WARM_S)
    return [
        _case(f"{kind}-joints", f"{kind}, clean", DEFINED, bar if kind in HELD_CLEAN else _later(bar)),
        _case(f"{kind}-joints-noise", f"{kind}, 10 mm", DEFINED, _later(AS_GOOD)),
    ]


AS_GOOD = against_one_euro(WARM_S)
CASES = (
    *(case for kind in KINDS for case in _defined(kind)),
    *map(_hidden, cases.LIMBS),
    _case("invented-legs", "mediapipe_33, invented legs", INVENTED, _later(as_twin(5.0, WARM_S)),
          "mediapipe_33, white 10, all seen"),
    *(_case(name.replace(" ", "-"), name, FAST, AS_GOOD) for name in ("spins 1.0 a second", "spins 2.0 a second")),
    *(_case(name.replace(" ", "-"), name, FAST, _later(AS_GOOD))
      for name in ("spins 3.0 a second", "strikes", "flips")),
    Case("layout-changes", CHANGED, _changing("smpl_24, white 10, all seen", "coco_17, white 10, all seen"),
         [finite(), _later(against_one_euro(WARM_S + 1.0))]),
    _case("standing", "a held pose, 5 mm", STILL, _later(AS_GOOD)),
    _case("outliers", "gross outliers", THROWN, AS_GOOD),
    _case("astray", "limbs astray", ASTRAY, AS_GOOD),
    _case("one-camera", "own, realistic", DEEP, AS_GOOD),
)  # fmt: skip
