"""Clocks that are no clocks: restarts, steps, stamps in other units, stamps of reception."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from bench.streams.bars import Bar, against_one_euro, counted, error, finite, poses, same_skeleton, says, silence
from bench.streams.case import Case, Fault, Setting
from bench.streams.stream import START_NS, WARM_S, Stream
from bench.track import Times
from streamer.clock import SECOND_NS

DAY_NS = 86_400 * SECOND_NS
DOWN_S = 1.0  # of a source that is started anew
AT_MOST_S = 0.35  # of frames that rise among themselves, and the one before
UNIT_FRAMES = 10  # until a wrong unit is known

RESTART = Fault(
    "The source's clock restarts, steps back or jumps ahead, or the source is started anew",
    "Poses go on, on the new clock, with the same skeleton",
    f"at most {AT_MOST_S:g} s without a pose",
)
LONE = Fault("One stamp lies far ahead, or behind", "That frame alone has no pose", "that frame")
UNIT = Fault(
    "Stamps in milliseconds, microseconds or frames, sent as nanoseconds",
    "No poses; the reason is named, and what was probably meant",
    f"from at most {UNIT_FRAMES} frames on",
)
BUNCHED = Fault("Stamps are taken at reception, in bunches", "Poses as of even stamps", "-")


def _from(shift: Callable[[Times], Times]) -> Callable[[Setting], Stream]:
    """The stamps from the fault on go through ``shift``."""

    def make(setting: Setting) -> Stream:
        stream = setting.stream()
        stamps, first = stream.stamps(), stream.index(WARM_S)
        stamps[first:] = shift(stamps[first:])
        return stream.stamped(stamps)

    return make


def _lone(shift_ns: int) -> Callable[[Setting], Stream]:
    """One stamp is wrong."""

    def make(setting: Setting) -> Stream:
        stream = setting.stream()
        stamps = stream.stamps()
        stamps[stream.index(WARM_S)] += shift_ns
        return stream.stamped(stamps)

    return make


def _started_anew(setting: Setting) -> Stream:
    """A second of silence, then clock and seq from 0."""
    stream = setting.stream()
    stream = stream.without(stream.between(WARM_S, WARM_S + DOWN_S))
    first = stream.index(WARM_S)
    stamps = stream.stamps()
    stamps[first:] -= stamps[first]
    stream = stream.stamped(stamps)
    frames = [replace(frame, seq=n if n < first else n - first) for n, frame in enumerate(stream.frames)]
    return replace(stream, frames=frames)


def _in_unit(ns: int) -> Callable[[Setting], Stream]:
    def make(setting: Setting) -> Stream:
        stream = setting.stream()
        return stream.stamped(stream.stamps() // ns)

    return make


def _frame_numbers(setting: Setting) -> Stream:
    stream = setting.stream()
    return stream.stamped(np.arange(len(stream)))


def _bunched(noise_mm: float) -> Callable[[Setting], Stream]:
    """Even captures that arrive in bunches: half of the intervals under 1 ms, one in ten over 50 ms."""

    def make(setting: Setting) -> Stream:
        stream = setting.stream(noise_mm)
        rng, due_s, stamps_s = setting.rng, 0.0, np.empty(len(stream))
        n = 0
        while n < len(stream):  # so many frames are kept back and come with the last of them
            size = int(rng.choice([1, 2, 3, 4], p=[0.3, 0.3, 0.3, 0.1]))
            bunch = slice(n, min(n + size, len(stream)))
            due_s = max(float(stream.at_s[bunch][-1]), due_s)
            for k in range(bunch.start, bunch.stop):
                due_s += float(rng.uniform(5e-5, 6e-4))
                stamps_s[k] = due_s
            n = bunch.stop
        return stream.stamped(START_NS + np.round(stamps_s * SECOND_NS).astype(np.int64))

    return make


GOES_ON = [finite(), same_skeleton(WARM_S), counted("clock_resets", 1, 1), says("clock"), error(5.0, WARM_S + 1.5)]
BESIDE = [finite(), silence(0.1, 1.0), same_skeleton(WARM_S), counted("clock_resets", 0, 0), error(5.0, WARM_S)]
EVENED = [finite(), silence(0.2), counted("evened_stamps", 1, 1), against_one_euro(), against_one_euro(worst=True)]


def _unit_bars(*words: str) -> list[Bar]:
    return [poses(UNIT_FRAMES), counted("time_unit", 100), says(*words)]


CASES = (
    Case("clock-restart", RESTART, _from(lambda t: t - t[0]), [*GOES_ON, silence(AT_MOST_S, 1.0)]),
    Case("clock-back", RESTART, _from(lambda t: t - 2 * SECOND_NS), [*GOES_ON, silence(AT_MOST_S, 1.0)]),
    Case("clock-ahead", RESTART, _from(lambda t: t + DAY_NS), [*GOES_ON, silence(AT_MOST_S, 1.0)]),
    Case("source-restart", RESTART, _started_anew, [*GOES_ON, silence(AT_MOST_S, WARM_S + DOWN_S)]),
    Case("lone-ahead", LONE, _lone(DAY_NS), [*BESIDE, counted("ahead", 1, 1)]),
    Case("lone-behind", LONE, _lone(-DAY_NS), [*BESIDE, counted("late", 1, 1)]),
    Case("stamps-ms", UNIT, _in_unit(1_000_000), _unit_bars("millisecond", " ms")),
    Case("stamps-us", UNIT, _in_unit(1_000), _unit_bars("microsecond", " us")),
    Case("stamps-frames", UNIT, _frame_numbers, _unit_bars("frame")),
    Case("stamps-bunched", BUNCHED, _bunched(0.0), EVENED),
    Case("stamps-bunched-noise", BUNCHED, _bunched(10.0), EVENED),
)
