"""Which server an actor goes to: the same for everybody, even shares, and no more moves than must be."""

from __future__ import annotations

import random
import subprocess
import sys
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.client import FrameSender, PoseSubscriber
from streamer.errors import ConfigError
from streamer.wire.control import ControlClient, HostClock
from streamer.wire.placement import ranked
from tests.helpers.project import ROOT

SERVERS = [f"tcp://10.0.0.{n}:5750" for n in range(1, 8)]
ACTORS = [f"actor-{n}" for n in range(7000)]
GOLDEN = [(1, 2, 0), (2, 1, 0), (1, 0, 2), (0, 1, 2)]
NAMES = st.lists(st.text(min_size=1, max_size=30), min_size=1, max_size=8, unique=True)


def owners(servers: list[str]) -> dict[str, str]:
    return {actor: servers[ranked(actor, servers)[0]] for actor in ACTORS}


def test_shares_are_even() -> None:
    """1000 each of 7000 by chance: a standard deviation of 29."""
    shares = Counter(owners(SERVERS).values())
    assert set(shares) == set(SERVERS)
    assert all(abs(n - 1000) < 4 * 29.3 for n in shares.values()), shares


def test_a_server_that_is_lost_moves_its_own_share_and_that_evenly() -> None:
    before, after = owners(SERVERS), owners(SERVERS[1:])
    moved = [actor for actor in ACTORS if before[actor] != after[actor]]
    assert {before[actor] for actor in moved} == {SERVERS[0]}
    assert len(moved) == Counter(before.values())[SERVERS[0]]
    taken = Counter(after[actor] for actor in moved)
    assert all(abs(n - len(moved) / 6) < 4 * (len(moved) * 5 / 36) ** 0.5 for n in taken.values()), taken


def test_a_server_that_is_added_takes_its_share_and_nothing_else_moves() -> None:
    before, after = owners(SERVERS[:6]), owners(SERVERS)
    assert {after[actor] for actor in ACTORS if before[actor] != after[actor]} == {SERVERS[6]}


@settings(deadline=None)  # the machine may be busy
@given(st.text(max_size=64), NAMES, st.randoms(use_true_random=False))
def test_the_ranking_is_the_same_in_any_order_and_without_any_server(
    actor: str, servers: list[str], rng: random.Random
) -> None:
    ranking = [servers[n] for n in ranked(actor, servers)]
    assert sorted(ranking) == sorted(servers)
    shuffled = rng.sample(servers, len(servers))
    assert [shuffled[n] for n in ranked(actor, shuffled)] == ranking
    gone = rng.choice(servers)
    left = [server for server in servers if server != gone]
    assert [left[n] for n in ranked(actor, left)] == [server for server in ranking if server != gone]


def test_it_is_the_same_in_every_process_and_version() -> None:
    """Written down: a change of the hash would move every actor of whoever updates one program of two."""
    assert [ranked(f"actor-{n}", SERVERS[:3]) for n in range(4)] == GOLDEN
    code = (
        f"from streamer.wire.placement import ranked; print([ranked(f'actor-{{n}}', {SERVERS[:3]}) for n in range(4)])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=60, env={"PYTHONHASHSEED": "7"}
    )
    assert done.stdout.strip() == str(GOLDEN), done.stderr


@pytest.mark.parametrize("client", [FrameSender, PoseSubscriber])
def test_a_list_of_servers_that_is_none_is_refused(client: type[FrameSender] | type[PoseSubscriber]) -> None:
    one = "tcp://127.0.0.1:9"
    with pytest.raises(ConfigError, match="servers="):
        client()
    with pytest.raises(ConfigError, match="servers="):
        client(one, servers=[one])
    with pytest.raises(ConfigError, match="twice"):
        client(servers=[one, one])
    with pytest.raises(ConfigError, match=r"10\.0\.0\.1"):
        client(servers=[one, "10.0.0.1"])
    with pytest.raises(ConfigError, match="list"):
        client(servers=one)


def test_a_clock_of_one_server_is_refused_for_several() -> None:
    with ControlClient("tcp://127.0.0.1:9") as control, pytest.raises(ConfigError, match="clock"):
        PoseSubscriber(servers=["tcp://127.0.0.1:9"], clock=HostClock(control))
