"""Streams in which something changes that should not: the body, the place, the source; or nothing, when it should."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from bench.streams.bars import (
    as_twin,
    better,
    counted,
    doubt,
    error,
    finite,
    more_doubt,
    new_version,
    same_skeleton,
    says,
    silence,
    status,
    within,
)
from bench.streams.case import Case, Fault, Setting
from bench.streams.stream import WARM_S, Stream, even, seen
from streamer.clock import SECOND_NS

SETTLED_S = 5.0  # after which another body's bones must be known

REPEATED = Fault(
    "A frame is sent again bit for bit (a 30 Hz camera sampled at 60), or the source freezes",
    "A repeated frame is no evidence: status coasting, the uncertainty grows",
    "while it repeats",
)
JUMP = Fault("The body jumps as no body can: a camera cut, ids swapped", "The pose is at the new place, same skeleton",
             "at most one frame")  # fmt: skip
OTHER_BODY = Fault(
    "Another body comes under the same id (adult out, child in), at once or after an absence",
    "The bones are measured anew and published",
    f"at most {SETTLED_S:g} s until they are right",
)
TWO_SOURCES = Fault("Two sources send frames of one actor", "Poses, and a warning in words", "while both send")

FROZEN_S = 1.0
CUT_M = np.array([2.3, 0.0, 1.0])
APART_M = np.array([0.09, 0.0, 0.015])  # of two cameras that were not calibrated together
ADULT_M, CHILD_M = 1.85, 1.13  # thigh .44 and .27 m


def _sampled_twice(noise_mm: float) -> Callable[[Setting], Stream]:
    """A 30 Hz camera sampled at 60 Hz: every frame comes again, stamped when it is sent. Errors are of the fresh."""

    def make(setting: Setting) -> Stream:
        fresh = setting.stream(noise_mm)
        half_s = 0.5 / 30.0
        again = replace(fresh, at_s=fresh.at_s + half_s, truth=setting.person().positions(fresh.at_s + half_s),
                        shown=np.zeros_like(fresh.shown))  # fmt: skip
        again = again.stamped(again.stamps() + round(half_s * SECOND_NS))
        both = fresh.with_(again)
        frames = [replace(frame, seq=n) for n, frame in enumerate(both.frames)]
        return replace(both, frames=frames, twin=fresh)

    return make


def _frozen(setting: Setting) -> Stream:
    """The estimator's last answer is sent again for a second, while the person walks on."""
    stream = setting.stream()
    frozen = stream.between(WARM_S, WARM_S + FROZEN_S)
    return stream.showing(frozen, stream.frames[stream.index(WARM_S) - 1].positions)


def _camera_cut(noise_mm: float) -> Callable[[Setting], Stream]:
    def make(setting: Setting) -> Stream:
        stream = setting.stream(noise_mm)
        after = stream.between(WARM_S)
        moved = stream.showing(after, lambda body: body + CUT_M, shown=True)
        truth = moved.truth.copy()
        truth[after] += CUT_M
        return replace(moved, truth=truth)

    return make


def _ids_swapped(setting: Setting) -> Stream:
    """Two people of one build; from the fault on each has the other's name."""
    person = setting.person()
    a = seen(person, setting.times, 10.0, seed=1)
    b = seen(person, setting.times + 2.0, 10.0, seed=2)  # the same walk, two seconds later and elsewhere
    b = replace(b, at_s=setting.times, truth=b.truth + CUT_M).stamped(a.stamps())
    b = b.showing(slice(None), lambda body: body + CUT_M, shown=True)
    names = [np.where(a.between(WARM_S), *pair).tolist() for pair in (("b", "a"), ("a", "b"))]
    each = [replace(s, frames=[replace(frame, actor=name) for frame, name in zip(s.frames, who)])
            for s, who in zip((a, b), names)]  # fmt: skip
    return each[0].with_(each[1])


def _another(away_s: float, heights_m: tuple[float, float], noise_mm: float) -> Callable[[Setting], Stream]:
    """One body until the fault, another ``away_s`` later."""

    def make(setting: Setting) -> Stream:
        first = seen(setting.person(0, heights_m[0]), even(0.0, WARM_S), noise_mm, seed=1)
        back_s = WARM_S + away_s
        second = seen(setting.person(1, heights_m[1]), even(back_s, back_s + SETTLED_S + setting.seconds), noise_mm,
                      seed=2)  # fmt: skip
        frames = [replace(frame, seq=frame.seq + len(first)) for frame in second.frames]
        return replace(first.with_(replace(second, frames=frames)), twin=second)

    return make


def _away(away_s: float) -> Callable[[Setting], Stream]:
    """The same body comes back."""

    def make(setting: Setting) -> Stream:
        stream = setting.stream(10.0)
        return stream.without(stream.between(WARM_S, WARM_S + away_s))

    return make


def _two_sources(setting: Setting) -> Stream:
    """Both see the same person; the second 9 cm off, between the frames of the first, on its own count."""
    one = setting.stream(10.0)
    person, half_s = setting.person(), 0.5 / 30.0
    two = seen(person, setting.times[one.between(WARM_S)] + half_s, 10.0, seed=3)
    two = two.showing(slice(None), lambda body: body + APART_M, shown=False)
    return one.with_(two)


def _other_body_cases() -> list[Case]:
    cases = []
    for name, heights_m in (("child", (ADULT_M, CHILD_M)), ("adult", (CHILD_M, ADULT_M))):
        for away_s in (0.0, 1.0, 3.0):
            for noise_mm, kind in ((0.0, ""), (10.0, "-noise")):
                settled_s = WARM_S + away_s + SETTLED_S
                level = as_twin(2.0, settled_s, more=True) if noise_mm else error(15.0, settled_s)
                bars = [finite(), counted("new_bodies", 1, 1), new_version(WARM_S), level]
                make = _another(away_s, heights_m, noise_mm)
                cases.append(Case(f"{name}-after-{away_s:g}s{kind}", OTHER_BODY, make, bars))
    return cases


FRESH = [finite(), as_twin(1.0, 1.0, more=True), counted("repeated", 150), status("coasting", 0.99, 1.0, shown=False)]
AT_ONCE = 0.5 / 30  # the first frame after the jump, and no second
CUT = [finite(), same_skeleton(WARM_S), counted("new_tracks", 1, 1), silence(0.1)]

CASES = (
    Case("sampled-twice", REPEATED, _sampled_twice(0.0), FRESH),
    Case("sampled-twice-noise", REPEATED, _sampled_twice(10.0), FRESH),
    Case("frozen-1s", REPEATED, _frozen,
         [finite(), status("coasting", 0.99, WARM_S, WARM_S + FROZEN_S), counted("repeated", 29),
          more_doubt(5.0, WARM_S, WARM_S + FROZEN_S), doubt(0.3, WARM_S, WARM_S + FROZEN_S),
          within(FROZEN_S + 0.1, WARM_S, 30.0)]),
    Case("camera-cut", JUMP, _camera_cut(0.0), [*CUT, within(AT_ONCE, WARM_S, 30.0)]),
    Case("camera-cut-noise", JUMP, _camera_cut(10.0), [*CUT, within(AT_ONCE, WARM_S, 40.0)]),
    Case("ids-swapped", JUMP, _ids_swapped,
         [finite(), within(AT_ONCE, WARM_S, 40.0), counted("new_tracks", 2, 2), silence(0.1)]),
    *_other_body_cases(),
    Case("same-body-back-1s", OTHER_BODY, _away(1.0),
         [finite(), counted("new_bodies", 0, 0), same_skeleton(WARM_S), better(WARM_S + 1.1)]),
    Case("two-sources", TWO_SOURCES, _two_sources, [finite(), counted("two_sources"), says("source")]),
)  # fmt: skip
