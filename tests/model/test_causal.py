"""The equality ladder of the causal network, in float64 on a tiny random one: what is trained is what runs live."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from model.network import front
from model.network.causal import CausalFilter, Ring, band_mask, phase_of, run_front, write_rows
from tests.helpers.networks import (
    TINY,
    Answer,
    Live,
    assert_same,
    at,
    fed_in_chunks,
    inner,
    observed,
    shifted,
    skeletons,
    tiny_model,
    whole,
)

W, L = TINY.window, TINY.layers
LENGTH = 2 * W + W // 2 + 1  # past two ring wraps
BATCH = 2


@pytest.fixture(scope="module")
def model() -> CausalFilter:
    return tiny_model()


@pytest.fixture(scope="module")
def sequence() -> tuple[front.Frame, Tensor, Tensor]:
    return *observed(1, BATCH, LENGTH), skeletons(1, BATCH, LENGTH)


@pytest.fixture(scope="module")
def offline(model: CausalFilter, sequence: tuple[front.Frame, Tensor, Tensor]) -> Answer:
    return whole(model, *sequence)


def test_evaluation_is_the_streaming_step_in_a_loop(
    model: CausalFilter, sequence: tuple[front.Frame, Tensor, Tensor], offline: Answer
) -> None:
    assert_same(Live(model, BATCH).feed(*sequence), offline)


@pytest.mark.parametrize("size", [1, 2, 3, W - 1, W, W + 1])
def test_chunks_of_any_size_give_the_same_answer(
    size: int, model: CausalFilter, sequence: tuple[front.Frame, Tensor, Tensor], offline: Answer
) -> None:
    assert_same(fed_in_chunks(Live(model, BATCH), [size], *sequence), offline)


def test_uneven_chunks_give_the_same_answer(
    model: CausalFilter, sequence: tuple[front.Frame, Tensor, Tensor], offline: Answer
) -> None:
    assert_same(fed_in_chunks(Live(model, BATCH), [1, W + 1, 2, W - 1, 3], *sequence), offline)


@pytest.mark.parametrize("known", range(1, LENGTH))
def test_the_future_changes_nothing_at_any_prefix(
    known: int, model: CausalFilter, sequence: tuple[front.Frame, Tensor, Tensor], offline: Answer
) -> None:
    frames, times, offsets = sequence
    other, _ = observed(99, BATCH, LENGTH)
    late = torch.arange(LENGTH) >= known
    changed = front.Frame(*(
        torch.where(late.view(1, -1, *[1] * (a.ndim - 2)), b, a) for a, b in zip(frames, other, strict=True)
    ))  # fmt: skip
    later = torch.where(late, times + 3.0, times)
    answer = whole(model, changed, later, offsets)
    for name, a, b in zip(Answer._fields, answer, offline, strict=True):
        assert torch.equal(a[:, :known], b[:, :known]), f"{name} looked past frame {known - 1}"
    assert not torch.equal(answer.latent[:, known:], offline.latent[:, known:])


def test_reset_equals_new(model: CausalFilter, sequence: tuple[front.Frame, Tensor, Tensor]) -> None:
    live = Live(model, BATCH)
    other = *observed(5, BATCH, LENGTH), skeletons(5, BATCH, LENGTH)
    live.feed(*other)
    live.reset()
    assert_same(live.feed(*sequence), Live(model, BATCH).feed(*sequence), atol=0.0)


def test_actors_of_one_batch_are_each_as_alone(
    model: CausalFilter, sequence: tuple[front.Frame, Tensor, Tensor], offline: Answer
) -> None:
    frames, times, offsets = sequence
    for b in range(BATCH):
        alone = front.Frame(*(part[b : b + 1] for part in frames))
        answer = Live(model, 1).feed(alone, times[b : b + 1], offsets[b : b + 1])
        assert_same(answer, Answer(*(part[b : b + 1] for part in offline)))


def beside(a: Ring, b: Ring) -> Ring:
    """The rings of two batches as those of one."""
    parts = (
        torch.cat(pair) if isinstance(pair[0], Tensor) else [torch.cat(p) for p in zip(*pair)] for pair in zip(a, b)
    )
    return Ring(*parts)


def copied(ring: Ring) -> Ring:
    return Ring(*(part.clone() if isinstance(part, Tensor) else [x.clone() for x in part] for part in ring))


def test_an_actor_that_comes_later_shares_the_batch(model: CausalFilter) -> None:
    """Rings at different counts in one step: the slot and the empty slots are each actor's own."""
    frames, times = observed(3, 2, 2 * W)
    offsets, late = skeletons(3, 2, 2 * W), W // 2 + 1
    first, second = (front.Frame(*(part[b : b + 1] for part in frames)) for b in range(2))
    ahead = Live(model, 1)
    ahead.feed(at(first, slice(0, late)), times[:1, :late], offsets[:1, :late])
    both, new = Live(model, 2), Live(model, 1)
    both.state, *both.states = (
        front.State(*(torch.cat(pair) for pair in zip(a, b, strict=True)))
        for a, b in zip([ahead.state, *ahead.states], [new.state, *new.states], strict=True)
    )
    both.ring = beside(ahead.ring, model.initial_ring(1))
    n = 2 * W - late
    joined = front.Frame(*(torch.cat([a[:, late:], b[:, :n]]) for a, b in zip(first, second, strict=True)))
    answer = both.feed(joined, torch.cat([times[:1, late:], times[1:, :n]]), offsets[:, :n])
    rest = ahead.feed(at(first, slice(late, 2 * W)), times[:1, late:], offsets[:1, late:])
    alone = Live(model, 1).feed(at(second, slice(0, n)), times[1:, :n], offsets[1:, :n])
    assert_same(answer, Answer(*(torch.cat(pair) for pair in zip(rest, alone, strict=True))))


# ---- the window


def features_of(seed: int, length: int) -> tuple[Tensor, Tensor]:
    frames, times = observed(seed, 1, length)
    return run_front(frames, torch.zeros(1, dtype=torch.float64)).features, times


@torch.no_grad()
def test_the_ring_is_a_slice_of_history(model: CausalFilter) -> None:
    """Each layer looks W frames back, so a latent rests on the last L * W + 1 features and on all of those."""
    length = 3 * L * W
    features, times = features_of(2, length)
    phase = phase_of(times, TINY)
    full = model.encode(features, phase)[:, -1]
    garbage = torch.randn(features.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    last = length - 1
    for reach, same in ((L * W, True), (L * W - 1, False)):
        changed = torch.cat([garbage[:, : last - reach], features[:, last - reach :]], 1)
        assert torch.equal(model.encode(changed, phase)[:, -1], full) == same, f"reach of {reach} frames"
    part = slice(last - L * W, length)
    cut = model.encode(features[:, part], phase_of(times[:, part], TINY))[:, -1]
    torch.testing.assert_close(cut, full, atol=1e-12, rtol=0)


@torch.no_grad()
def test_slots_never_written_are_not_read(model: CausalFilter) -> None:
    frames, times = observed(4, 1, W)
    for count in range(W):
        live = Live(model, 1)
        live.feed(at(frames, slice(0, count)), times[:, :count], skeletons(4, 1, W)[:, :count]) if count else None
        poisoned = copied(live.ring)
        for x in itertools.chain(poisoned.keys, poisoned.values):
            x[:, :, count:] = 50.0
        phase = phase_of(times[:, count], TINY)
        a, b = (model.step(at(frames, count), phase, live.state, ring)[0].latent for ring in (live.ring, poisoned))
        torch.testing.assert_close(a, b, atol=1e-12, rtol=0)


@torch.no_grad()
def test_the_new_frame_overwrites_the_oldest_slot_after_it_was_read(model: CausalFilter) -> None:
    frames, times = observed(6, 1, W + 1)
    offsets = skeletons(6, 1, W + 1)
    live = Live(model, 1)
    live.feed(at(frames, slice(0, W)), times[:, :W], offsets[:, :W])
    before = [x.clone() for x in live.ring.keys]
    phase = phase_of(times[:, W], TINY)
    latent = model.step(at(frames, W), phase, live.state, live.ring)[0].latent
    forgotten = copied(live.ring)
    for x in itertools.chain(forgotten.keys, forgotten.values):
        x[:, :, 0] += 1.0
    changed = model.step(at(frames, W), phase, live.state, forgotten)[0].latent
    assert not torch.equal(latent, changed), "the oldest slot was not read"
    live.feed(at(frames, slice(W, W + 1)), times[:, W:], offsets[:, W:])
    for new, old in zip(live.ring.keys, before, strict=True):
        assert torch.equal(new[:, :, 1:], old[:, :, 1:])
        assert not torch.equal(new[:, :, 0], old[:, :, 0])


def test_rows_go_to_each_actors_own_slot(model: CausalFilter) -> None:
    ring = model.initial_ring(1)
    rows = torch.ones(2, L, 2, TINY.heads, TINY.head_width, dtype=torch.float64)
    for _ in range(W + 1):
        ring = write_rows(ring, 0 * rows[:1], ring.latent)
    ring = beside(ring, model.initial_ring(1))
    ring = write_rows(ring, rows, ring.latent)
    for side in (ring.keys, ring.values):
        for x in side:
            assert x[0, 0, :, 0].nonzero().flatten().tolist() == [1]
            assert x[1, 0, :, 0].nonzero().flatten().tolist() == [0]


def test_band_mask_is_the_obvious_one() -> None:
    mask = band_mask(6, 2)
    for i, j in itertools.product(range(6), range(6)):
        assert bool(mask[i, j]) == (0 <= i - j <= 2)
    assert mask[:, 6].all()


# ---- time and place


def test_only_differences_of_time_matter(
    model: CausalFilter, sequence: tuple[front.Frame, Tensor, Tensor], offline: Answer
) -> None:
    """The rotary phase a day later, within 1e-8 (angles of 62.8 rad/s x 86400 s); the filter's own clock is exact."""
    frames, times, offsets = sequence
    assert_same(whole(model, frames, times + 86_400.0, offsets), offline, atol=1e-8)


def test_times_themselves_do_matter(model: CausalFilter) -> None:
    features, times = features_of(7, W)
    with torch.no_grad():
        a, b = (model.encode(features, phase_of(t, TINY)) for t in (times, 1.5 * times))
    assert (a - b).abs().max() > 1e-3


def test_a_moved_world_moves_the_poses_and_nothing_else(
    model: CausalFilter, sequence: tuple[front.Frame, Tensor, Tensor], offline: Answer
) -> None:
    frames, times, offsets = sequence
    shift = (10.0, -3.0, 250.0)
    answer = whole(model, shifted(frames, shift), times, offsets)
    here = {name: getattr(answer, name) - torch.tensor(shift) for name in ("positions", "free")}
    assert_same(answer._replace(**here), offline, atol=1e-6)  # whether a joint rests hangs on its last micrometre


def test_every_part_of_the_network_takes_part(
    model: CausalFilter, sequence: tuple[front.Frame, Tensor, Tensor]
) -> None:
    frames, times, offsets = sequence
    pose, encoded = model.forward(frames, times, inner(offsets), torch.tensor([0.1, -0.1], dtype=torch.float64))
    total = sum(part.square().mean() for part in (*pose, *encoded))
    model.zero_grad()
    total.backward()  # type: ignore[union-attr]
    idle = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert not idle
    model.zero_grad()
