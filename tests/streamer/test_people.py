"""Who is who from picture to picture: people who cross, are hidden, leave, come, or are found twice or by mistake."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from streamer.clock import SECOND_NS
from streamer.sources.landmarker import Found
from streamer.sources.people import KEPT_NS, PROVED, People

HZ = 30
STANDING = np.random.default_rng(4).normal(0.0, (0.15, 0.45, 0.1), (33, 3))  # [m]
PX_M = 150.0  # of somebody at the same distance
Path = Callable[[float], tuple[float, float]]  # time [s] -> place [px]


def somebody(place: tuple[float, float], turned: float = 0.0, size: float = 1.0, seed: int = 0) -> Found:
    """A person in the picture, turned to a side, with a little noise, as an estimator gives it."""
    cos, sin = np.cos(turned), np.sin(turned)
    world = STANDING @ np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]]).T
    world = world + np.random.default_rng(seed).normal(0.0, 0.02, world.shape)
    return Found(np.array(place) + size * PX_M * world[:, :2], world, np.full(33, 0.9))


def walking(from_px: float, px_s: float, y: float = 500.0) -> Path:
    return lambda s: (from_px + px_s * s, y)


def followed(
    people: People, paths: Sequence[Path], seconds: float, hidden: Callable[[float], set[int]] = lambda s: set()
) -> list[dict[int, int]]:
    """Number -> which of ``paths`` it was given to, for each picture; the estimator's order is another every time."""
    rng, given = np.random.default_rng(1), []
    for n in range(round(seconds * HZ)):
        s = n / HZ
        seen = {k: somebody(path(s), np.pi * k, seed=7 * n + k) for k, path in enumerate(paths) if k not in hidden(s)}
        order = rng.permutation(list(seen)).tolist()
        numbered = people.number(n * SECOND_NS // HZ, [seen[k] for k in order])
        given.append({number: next(k for k in seen if seen[k] is one) for number, one in numbered.items()})
    return given


@pytest.mark.parametrize("speed", [150.0, 400.0, 800.0])  # up to 5 m/s
def test_people_who_cross_keep_their_numbers(speed: float) -> None:
    across = 1000.0 / speed
    given = followed(People(2), [walking(200, speed), walking(1200, -speed)], across)
    assert given[: PROVED - 1] == [{}] * (PROVED - 1)
    kept = {(number, k) for picture in given for number, k in picture.items()}
    assert len(kept) == 2
    assert sum(map(len, given)) > 1.7 * len(given)  # for a moment one of them is taken for the other found twice


@pytest.mark.parametrize("hidden_s", [0.5, 1.0, 1.9])
def test_somebody_hidden_behind_another_comes_out_with_their_number(hidden_s: float) -> None:
    """The one behind walks on, the estimator loses them: when they come out they are about where they should be."""
    met = 2.0

    def gone(s: float) -> set[int]:
        return {1} if abs(s - met) < hidden_s / 2 else set()

    given = followed(People(2), [walking(400, 150), walking(1000, -150)], 4.0, gone)
    before, after = given[round((met - hidden_s) * HZ)], given[-1]
    assert before == after
    assert len(after) == 2


def test_a_number_is_kept_for_two_seconds_and_no_longer() -> None:
    for away_s, same in ((1.8, True), (2.3, False)):
        people = People(1)
        stand = somebody((500, 500))
        for n in range(HZ):
            people.number(n * SECOND_NS // HZ, [stand])
        back_ns = SECOND_NS + round(away_s * SECOND_NS)
        assert bool(people.number(back_ns, [stand])) is same  # at once, or as somebody new
    assert KEPT_NS == 2 * SECOND_NS


def test_nobody_takes_over_while_a_number_is_kept() -> None:
    people, one, other = People(1), somebody((300, 500)), somebody((1200, 500), turned=1.0)
    t_ns = [n * SECOND_NS // HZ for n in range(5 * HZ)]
    for n in range(HZ):
        assert people.number(t_ns[n], [other, one] if n > PROVED else [one]).get(0) in (None, one)
    assert people.others > 0
    given = [people.number(t, [other]) for t in t_ns[HZ:]]
    first = next(n for n, picture in enumerate(given) if picture)
    assert first / HZ == pytest.approx(2.0, abs=0.1)
    assert given[first] == {0: other}
    assert all(given[first:])


def test_the_largest_comes_first_and_numbers_are_the_lowest_free() -> None:
    people = People(2)
    near, far, third = somebody((300, 500), size=2.0), somebody((900, 500)), somebody((1300, 500), size=0.7)
    for n in range(PROVED):
        given = people.number(n * SECOND_NS // HZ, [third, far, near])
    assert given == {0: near, 1: far}
    for n in range(PROVED, 3 * HZ):
        given = people.number(n * SECOND_NS // HZ, [far, third])
    assert given == {0: third, 1: far}


def test_who_is_found_twice_is_one_and_who_is_found_once_is_nobody() -> None:
    people, stand = People(4), somebody((500, 500))
    mirrored = Found(1000 - stand.image_px * (1, -1) - (0, 1000), stand.world_m * (-1, 1, 1), stand.visibility)
    ghost = somebody((1200, 300), turned=2.0)
    for n in range(2 * HZ):
        found = [mirrored, stand] if n > 10 else [stand]
        given = people.number(n * SECOND_NS // HZ, [*found, ghost] if n in (20, 21, 40) else found)
        assert given == ({0: stand} if n >= PROVED - 1 else {})
    assert people.doubles == 2 * HZ - 11


def test_somebody_far_away_in_the_next_picture_is_somebody_else() -> None:
    people = People(2)
    for n in range(HZ):
        people.number(n * SECOND_NS // HZ, [somebody((300, 500))])
    jumped = somebody((1200, 500))
    given = [people.number((HZ + n) * SECOND_NS // HZ, [jumped]) for n in range(PROVED)]
    assert given == [{}, {}, {1: jumped}]


def test_nobody_is_nobody() -> None:
    people = People(2)
    assert [people.number(n, []) for n in (0, 1, SECOND_NS, 10 * SECOND_NS)] == [{}] * 4
