"""VMC in: what a frame is, whatever packets a performer makes of it, and its time."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.sources import vmc
from streamer.sources.performer import OF_LATE, Captured, Performer
from streamer.sources.vmc import SenderClock
from streamer.wire.osc import parse
from tests.helpers.vmc import bundle_of, frame_of, packets_of

MS = 1_000_000


# -- frames -----------------------------------------------------------------------------------------------------------


def numbers_of(captured: Sequence[Captured]) -> list[set[int]]:
    return [{round(-bone[0]) - 1 for bone in one.bones.values()} for one in captured]


STYLES = (
    "one bundle, as SlimeVR", "one bundle of bones, the rest alone, as the protocol's sample", "several bundles",
    "as ours", "each message alone", "no marks, each bone alone", "no marks, two bundles",
)  # fmt: skip


@pytest.mark.parametrize("style", STYLES)
def test_each_frame_is_whole_and_ends_with_its_last_bone(style: str) -> None:
    performer, ended = Performer(), []
    for n in range(6):
        packets = packets_of(style, n)
        last_bone = max(k for k, packet in enumerate(packets) if b"Bone/Pos" in packet)
        for k, packet in enumerate(packets):
            found, faults = performer.feed(parse(packet), 1000 * n + k)
            assert not faults
            ended += found
            if n > 1 and k == last_bone:
                assert found  # as soon as it can
                assert found[-1].arrived_ns == 1000 * n + k
    assert numbers_of(ended) == [{n} for n in range(6)]
    assert all(len(one.bones) >= 22 for one in ended)


@pytest.mark.parametrize("style", STYLES[:5])
@given(lost=st.sets(st.integers(0, 300)), first=st.integers(0, 30))
@settings(max_examples=30, deadline=None)
def test_no_frame_is_made_of_two_whatever_is_lost(style: str, lost: set[int], first: int) -> None:
    """And every frame of which nothing was lost comes out. Where the sender marks its frames, and its marks arrive."""
    performer, ended, whole, k = Performer(), [], set(), 0
    for n in range(12):
        packets = packets_of(style, n)
        marks = [k + i for i, packet in enumerate(packets) if b"Ext/T" in packet or b"Apply" in packet]
        gone = {k + i for i in range(len(packets)) if k + i < first or k + i in lost} - set(marks)
        whole |= {n} if not gone else set()
        for packet in packets:
            if k not in gone:
                ended += performer.feed(parse(packet), k)[0]
            k += 1
    ended += performer.feed(parse(packets_of(style, 99)[0]), k)[0]
    ended += performer.feed(parse(bundle_of([("/VMC/Ext/T", [9.0])])), k)[0]
    found = [one for one in numbers_of(ended) if one != {99}]
    assert all(len(one) == 1 for one in found)
    assert whole <= {n for one in found for n in one}


def test_a_frame_that_lost_a_packet_shows_it_and_the_next_one_is_as_soon() -> None:
    performer, ended = Performer(), []
    for n in range(8):
        for k, packet in enumerate(packets_of("as ours", n)):
            if (n, k) != (4, 1):
                ended += performer.feed(parse(packet), 1000 * n + k)[0]
    assert [one.arrived_ns for one in ended] == [1, 1001, 2001, 3001, 4000, 5001, 6001, 7001]
    seen = [np.isfinite(one.joints()[0][:, 0]).sum() for one in ended]
    assert seen == [22] * 4 + [seen[4]] + [22] * 3
    assert seen[4] < 22


def test_bones_that_are_sent_no_more_are_not_waited_for() -> None:
    performer, ended = Performer(), []
    for n in range(OF_LATE + 9):
        bones = frame_of(n)[: 23 if n < 4 else 20]
        before = len(ended)
        ended += performer.feed(parse(bundle_of(bones)), n)[0]
    assert len(ended) == before + 1  # at once again
    assert ended[-1].arrived_ns == n
    assert numbers_of(ended) == [{n} for n in range(OF_LATE + 9)]


# -- time -------------------------------------------------------------------------------------------------------------


def test_times_are_the_sender_s_where_it_says_them_with_its_bones() -> None:
    rng, clock = random.Random(1), SenderClock()
    stamps = [clock.stamp(np.float32(n / 60 + 5), 10**12 + n * 16_666_667 + rng.randrange(9 * MS)) for n in range(600)]
    steps = np.diff(stamps[60:])
    assert clock.used
    assert np.abs(steps - 16_666_667).max() < 1.5 * MS  # once the least delay is known, and to a float's precision
    assert abs(stamps[-1] - 10**12 - 599 * 16_666_667) < MS


@pytest.mark.parametrize(
    "said",
    [lambda n: None, lambda n: 3.0, lambda n: n / 30, lambda n: n * 16.7, lambda n: -1.0, lambda n: 9000 + n / 60],
    ids=["nothing", "one time", "half", "milliseconds", "negative", "too long ago for a float"],
)
def test_a_clock_that_is_none_is_not_believed(said: Any) -> None:
    clock = SenderClock()
    arrived = [10**12 + n * 16_666_667 for n in range(600)]
    stamps = [clock.stamp(said(n), at) for n, at in enumerate(arrived)]
    assert max(abs(a - b) for a, b in zip(stamps, arrived)) <= vmc.LATE_NS
    assert min(np.diff(stamps)) > 0


@given(
    st.lists(st.tuples(st.one_of(st.none(), st.floats(allow_nan=True, width=32)), st.integers(0, 10**9)), max_size=50)
)
def test_stamps_rise_whatever_the_sender_says(frames: list[tuple[float | None, int]]) -> None:
    clock, now, stamps = SenderClock(), 10**12, []
    for said, step in frames:
        now += step
        stamps.append(clock.stamp(said, now))
    assert all(b > a for a, b in pairwise(stamps))
    assert all(abs(stamp - 10**12) <= 50 * 10**9 for stamp in stamps)
