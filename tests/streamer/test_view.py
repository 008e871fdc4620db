"""``hpstm view`` without a browser: what is drawn, what waits, its numbers and words."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from bench.service.child import ServerProcess
from model.skeleton import INDEX, JOINTS, PARENTS, J
from streamer.clock import SECOND_NS
from streamer.errors import ConfigError
from streamer.frames import Frame, Pose
from streamer.view.body import CHILD, PARENT, bones, facing, head, joints_of, lines, sigma_m, turn_up_to
from streamer.view.feed import MOST_ACTORS, Feed
from streamer.view.history import Curves, History
from streamer.view.inbox import KEPT, Inbox
from streamer.view.panel import status_html, whole
from streamer.view.playback import read_timeline
from streamer.view.remote import Said
from streamer.view.shapes import Mesh, ball, rod
from streamer.wire.protocol import Encoder, Skeleton
from tests.helpers.live import BODY, streaming, wait_until
from tests.helpers.viewing import FRAME_NS, pose_of

# -- shapes -----------------------------------------------------------------------------------------------------------


def test_bones_turned_by_scipy_reach_from_joint_to_joint() -> None:
    joints = np.random.default_rng(0).normal(size=(J, 3))
    joints[CHILD[3]] = joints[PARENT[3]] - (0.0, 0.4, 0.0)  # straight down: where the shortest way is not one
    middles, wxyz, lengths = bones(joints)
    half = Rotation.from_quat(wxyz[:, [1, 2, 3, 0]]).apply([0.0, 1.0, 0.0]) * 0.5 * lengths[:, None]
    np.testing.assert_allclose(middles + half, joints[CHILD], atol=1e-6)
    np.testing.assert_allclose(middles - half, joints[PARENT], atol=1e-6)
    at, turn = head(BODY)
    assert at[1] > BODY[INDEX["head"], 1] + 0.05
    np.testing.assert_allclose(turn, turn_up_to(BODY[INDEX["head"]] - BODY[INDEX["neck"]]))


@pytest.mark.parametrize("mesh", [rod(), ball()])
def test_faces_look_outwards(mesh: Mesh) -> None:
    corners = mesh.vertices[mesh.faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    assert ((normals * corners.mean(1)).sum(-1) > -1e-9).all()
    assert np.abs(mesh.vertices).max() == pytest.approx(1.0)


def test_a_frame_is_drawn_where_it_says_something() -> None:
    positions = np.full((17, 3), np.nan, np.float32)
    positions[5], positions[7] = (0.2, 1.4, 0.0), (0.4, 1.2, 0.0)  # COCO: left shoulder and elbow
    joints = joints_of(Frame("a", 0, 0, positions, layout="coco_17"))
    assert joints is not None
    np.testing.assert_allclose(joints[INDEX["left_elbow"]], positions[7])
    assert lines(joints).shape == (1, 2, 3)
    assert joints_of(Frame("a", 0, 0, positions, layout="only_the_server_has_it")) is None


def test_where_somebody_looks_and_how_sure_it_is() -> None:
    np.testing.assert_allclose(facing(BODY), (0.0, 0.0, 1.0), atol=1e-6)
    turned = BODY @ Rotation.from_euler("y", 90, degrees=True).as_matrix().T
    np.testing.assert_allclose(facing(turned), (1.0, 0.0, 0.0), atol=1e-6)
    np.testing.assert_allclose(facing(np.full((J, 3), np.nan)), (0.0, 0.0, 1.0))
    np.testing.assert_allclose(sigma_m(pose_of(BODY)), 0.01, rtol=1e-5)


# -- what waits -------------------------------------------------------------------------------------------------------


def test_only_the_newest_waits() -> None:
    inbox, encoder = Inbox(), Encoder()
    for n in range(1000):
        inbox.put_message(encoder.pose(pose_of(BODY, n)))
        inbox.put(Frame("anna", n, n, BODY))
    inbox.put_message(b"pose.bob\0not msgpack")
    inbox.put_message(b"\xff\xfe")
    taken = inbox.take()
    for kind in (Pose, Frame):
        assert [item.seq for item in taken if isinstance(item, kind)] == list(range(1000 - KEPT, 1000))
    assert inbox.lost == 2 * (1000 - KEPT)
    assert inbox.take() == []


def test_a_feed_reads_poses_and_input_and_is_current_after_a_stop() -> None:
    inbox = Inbox()
    with ServerProcess() as server, streaming(server, "anna"), streaming(server, "ben"):
        with Feed(server.out_endpoint, inbox):
            seen: set[tuple[str, type]] = set()

            def all_four() -> bool:
                seen.update((item.actor, type(item)) for item in inbox.take())
                return len(seen) == 4

            wait_until(all_four, 20.0)

            def current() -> bool:  # tried again where the machine stood still
                time.sleep(1.0)  # nobody draws
                newest = {item.actor: item for item in inbox.take() if isinstance(item, Pose)}
                ages_ns = [time.perf_counter_ns() - pose.published_ns for pose in newest.values()]
                return set(newest) == {"anna", "ben"} and max(ages_ns) < SECOND_NS // 2

            wait_until(current, 15.0)
        with Feed(server.out_endpoint, inbox, actor="ben", frames=False):
            inbox.take()
            wait_until(lambda: bool(items := inbox.take()) and {(i.actor, type(i)) for i in items} == {("ben", Pose)})


def test_a_feed_shows_a_dozen_and_gives_the_places_of_who_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = [0]
    monkeypatch.setattr("streamer.view.feed.now_ns", lambda: seconds[0] * SECOND_NS)
    feed, encoder, asked = Feed("tcp://127.0.0.1:1", Inbox()), Encoder(), set[bytes]()
    socket: Any = SimpleNamespace(subscribe=asked.add, unsubscribe=asked.remove)

    def skeletons(first: int, last: int) -> None:
        for n in range(first, last):
            offsets = np.zeros((J, 3), np.float32)
            feed._take(socket, encoder.skeleton(Skeleton(f"a{n}", 1, JOINTS, PARENTS, offsets, offsets[:, 0])))

    skeletons(0, 15)
    assert asked == {f"{kind}.a{n}\0".encode() for kind in ("pose", "frame") for n in range(MOST_ACTORS)}
    assert feed.left_out == 3
    seconds[0] = 10
    skeletons(4, 15)
    seconds[0] = 20  # the first four have said nothing for 20 s
    skeletons(4, 16)
    assert asked == {f"{kind}.a{n}\0".encode() for kind in ("pose", "frame") for n in range(4, 16)}
    assert feed.left_out == 0


# -- numbers ----------------------------------------------------------------------------------------------------------


def test_jitter_latency_and_rate() -> None:
    history = History()
    for n in range(60):
        wave = np.array([0.0, 0.005 * (-1.0) ** n, 0.0])  # second difference: 20 mm
        items = [Frame("anna", n, n * FRAME_NS, (BODY + wave).astype(np.float32)), pose_of(BODY, n, t_ns=n * FRAME_NS)]
        history.saw(items, n * FRAME_NS)  # type: ignore[arg-type]
    rate, jitter_in, jitter_out, latency, sigma = history.actors["anna"].numbers
    assert (rate, latency, sigma) == pytest.approx((30.0, 2.0, 10.0), rel=1e-3)
    assert jitter_in == pytest.approx(20.0, rel=1e-3)
    assert jitter_out == pytest.approx(0.0, abs=1e-3)
    assert history.actors["anna"].trail.shape[1:] == (4, 3)
    history.saw([pose_of(BODY + 1.0, 60, t_ns=70 * FRAME_NS)], 70 * FRAME_NS)  # after a gap: a jump is no jitter
    assert history.actors["anna"].numbers.jitter_out_mm == pytest.approx(0.0, abs=1e-3)
    history.saw([pose_of(BODY, 61, t_ns=0)], 71 * FRAME_NS)  # the clock started anew
    assert np.isfinite(history.actors["anna"].numbers.latency_ms)
    history.saw([pose_of(BODY, actor="ben")], 71 * FRAME_NS + 3 * SECOND_NS)
    assert list(history.actors) == ["ben"]


def test_curves_have_seconds_and_numbers() -> None:
    curves = Curves(steps=4)
    assert curves.array().shape == (6, 2)
    history = History()
    history.saw([pose_of(BODY)], 0)
    for _ in range(9):
        curves.add(history.actors["anna"].numbers)
    rows = curves.array()
    np.testing.assert_allclose(rows[0], (-1.5, -1.0, -0.5, 0.0))
    np.testing.assert_allclose(rows[4], 2.0)
    assert whole(rows[0], rows[2]) is None  # no jitter of a single pose
    seconds, latency = whole(rows[0], np.where(rows[0] < -1.0, np.nan, rows[4])) or ((), ())
    assert (len(seconds), len(latency)) == (3, 3)


def test_the_panel_speaks_in_words_and_trusts_no_name() -> None:
    history = History()
    history.saw([pose_of(BODY, actor="<img>", status="coasting")], 0)
    said = Said(True, 0.0, 0.0, 0.0, "trouble & strife", {"<img>": ["a mirrored picture"]})
    html = status_html(list(history.actors.values()), said, "no server answers", lambda _: (1, 2, 3))
    for words in ("&lt;img&gt;", "coasting", "a mirrored picture", "trouble &amp; strife", "no server answers"):
        assert words in html
    assert "<img>" not in html


def test_every_bone_is_one_of_the_skeleton() -> None:
    assert [PARENTS[j] for j in CHILD] == PARENT.tolist()
    with pytest.raises(ConfigError, match="tcp://HOST:PORT"):
        read_timeline(Path("nothing"))
