"""Keys and who gets in: over real sockets a listed client is served; any other hears nothing and disturbs nobody."""

from __future__ import annotations

import logging
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import zmq

from bench.service.child import ServerProcess, make_key_folder
from streamer.cli import main
from streamer.client import ClientKeys, FrameSender, PoseSubscriber
from streamer.errors import SecurityError
from streamer.server.config import ServerConfig
from streamer.server.control import request
from streamer.wire.probe import why_silent
from streamer.wire.security import ServerKeys, check_admitted, make_keys
from tests.helpers.live import body_frame, counter, wait_until

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.skipif(not zmq.has("curve"), reason="this ZeroMQ was built without CURVE"),
]
posix = pytest.mark.skipif(os.name != "posix", reason="file modes say who may read on POSIX only")


class Locked(NamedTuple):
    """A server that lets one client in, and where everybody's keys are."""

    server: ServerProcess
    folder: Path

    def keys(self, name: str) -> ClientKeys:
        return ClientKeys.load(self.folder / f"{name}.key_secret", self.folder / "server.key")


def keys_in(folder: Path) -> Path:
    """The folder, with keys in it."""
    make_key_folder(folder)
    return folder


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Locked]:
    folder = keys_in(tmp_path_factory.mktemp("keys"))
    make_keys("mallory", folder)
    with ServerProcess(keys=folder) as server:
        yield Locked(server, folder)


def stream_seen(server: ServerProcess, sends: ClientKeys | None, reads: ClientKeys | None, actor: str) -> int:
    """How many poses a subscriber sees of twenty frames."""
    with (
        PoseSubscriber(server.out_endpoint, actor, every=True, curve=reads) as subscriber,
        FrameSender(server.in_endpoint, wait_s=0.5, curve=sends) as sender,
    ):
        subscriber.receive(timeout_s=0.2)  # until it has joined
        seen = 0
        for n in range(20):
            sender.send(body_frame(actor, n))
            seen += subscriber.receive(timeout_s=0.1) is not None
        return seen


# -- over sockets -----------------------------------------------------------------------------------------------------


def test_a_listed_client_is_served_on_all_three_sockets(locked: Locked) -> None:
    listed = locked.keys("client")
    check_admitted(locked.server.out_endpoint, listed)
    assert stream_seen(locked.server, listed, listed, "welcome") >= 15
    reply = request(locked.server.control_endpoint, "status", 5.0, listed)
    assert reply is not None
    assert "welcome" in reply["actor_states"]


@pytest.mark.parametrize("who", ["mallory", None])
def test_others_send_nothing_hear_nothing_and_disturb_nothing(locked: Locked, who: str | None) -> None:
    """Somebody with a key that is not in the folder, and somebody without any."""
    listed, other = locked.keys("client"), locked.keys(who) if who else None
    before = counter(locked.server, "messages_in")
    assert stream_seen(locked.server, other, listed, "intruder") == 0
    assert counter(locked.server, "messages_in") == before
    for command in ("shutdown", "set"):
        assert request(locked.server.control_endpoint, command, 0.5, other, delay_s=0.1) is None
    with PoseSubscriber(locked.server.out_endpoint, every=True, curve=other) as eavesdropper:
        assert stream_seen(locked.server, listed, listed, "undisturbed") >= 15
        assert eavesdropper.receive(timeout_s=0.2) is None
        assert not eavesdropper.skeletons


def test_refused_handshakes_are_counted_and_the_refused_is_told(locked: Locked) -> None:
    before = counter(locked.server, "connections_refused")
    with pytest.raises(SecurityError, match="clients/"):
        check_admitted(locked.server.out_endpoint, locked.keys("mallory"))
    assert counter(locked.server, "connections_refused") > before


def test_a_server_with_another_key_than_expected_is_not_believed(locked: Locked) -> None:
    wrong = ClientKeys.load(locked.folder / "client.key_secret", locked.folder / "mallory.key")
    with pytest.raises(SecurityError, match="not the one of --server-key"):
        check_admitted(locked.server.out_endpoint, wrong)


def test_the_folder_counts_as_it_is_now(locked: Locked) -> None:
    make_keys("bob", locked.folder)
    copy = locked.folder / "clients" / "bob.key"
    shutil.copy(locked.folder / "bob.key", copy)
    check_admitted(locked.server.out_endpoint, locked.keys("bob"))
    copy.unlink()
    with pytest.raises(SecurityError):
        check_admitted(locked.server.out_endpoint, locked.keys("bob"))


@pytest.mark.parametrize("content", [b"", b"no key at all\n", b"\xff\xfe\x00" * 50, b'public-key = "short"\n'])
def test_a_file_that_is_no_key_locks_out_nobody(locked: Locked, content: bytes) -> None:
    junk = locked.folder / "clients" / "a-junk.key"
    junk.write_bytes(content)
    try:
        check_admitted(locked.server.out_endpoint, locked.keys("client"))
        with pytest.raises(SecurityError):
            check_admitted(locked.server.out_endpoint, locked.keys("mallory"))
    finally:
        junk.unlink()


def test_a_bad_key_file_is_named_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = keys_in(tmp_path)
    (folder / "clients" / "broken.key").write_bytes(b"\xff" * 10)
    with caplog.at_level(logging.WARNING, "hpstm"):
        keys = ServerKeys.load(folder)
        assert [keys.admits(ClientKeys.load(folder / "client.key_secret", folder / "server.key").public)] * 3
    assert len([r for r in caplog.records if "broken.key" in r.getMessage()]) == 1


@pytest.mark.parametrize("how", ["another server's key", "no encryption"])
def test_a_wrong_server_key_and_plaintext_are_counted(locked: Locked, how: str) -> None:
    keys = None
    if how == "another server's key":
        keys = ClientKeys.load(locked.folder / "client.key_secret", locked.folder / "mallory.key")
    before = counter(locked.server, "connections_refused")
    with PoseSubscriber(locked.server.out_endpoint, curve=keys):
        wait_until(lambda: counter(locked.server, "connections_refused") > before)


def test_a_listener_is_told_why_it_hears_nothing(locked: Locked, free_port: Callable[[], int]) -> None:
    out, listed = locked.server.out_endpoint, locked.keys("client")
    assert "no server answers" in why_silent(f"tcp://127.0.0.1:{free_port()}")
    assert "--key and --server-key" in why_silent(out)
    assert "refuses these keys" in why_silent(out, locked.keys("mallory"))
    assert "nobody in it" in why_silent(out, listed)
    command = [sys.executable, "-m", "streamer", "listen", "--count", "1", "--out", out]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as listening:
        assert listening.stderr is not None
        line = listening.stderr.readline()
        assert listening.poll() is None  # it goes on waiting
        listening.kill()
    assert "--key and --server-key" in line


def test_silence_is_no_refusal(locked: Locked) -> None:
    check_admitted("tcp://127.0.0.1:9", locked.keys("client"), within_s=0.2)  # nobody listens there: yet


def test_the_commands_take_keys(locked: Locked, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    server, folder = locked.server, locked.folder
    keys = ["--key", str(folder / "client.key_secret"), "--server-key", str(folder / "server.key")]
    where = ["--in", server.in_endpoint, "--out", server.out_endpoint, "--control", server.control_endpoint]
    recorder = subprocess.Popen([sys.executable, "-m", "streamer", "record", str(tmp_path / "take.hpstm"), "--seconds",
                                 "4", "--out", server.out_endpoint, *keys])  # fmt: skip
    try:
        before = counter(server, "subscriptions")
        wait_until(lambda: counter(server, "subscriptions") >= before + 3)
        assert main(["replay", "synthetic", "--seconds", "1", *where, *keys]) == 0
        assert recorder.wait(30) == 0
    finally:
        recorder.kill()
        recorder.wait()
    assert (tmp_path / "take.hpstm").stat().st_size > 50_000
    assert main(["listen", "--out", server.out_endpoint, "--key", str(folder / "mallory.key_secret"), *keys[2:]]) == 2
    assert main(["listen", "--out", server.out_endpoint, *keys[:2]]) == 2
    said = capsys.readouterr().err
    assert "clients/" in said
    assert "together" in said


# -- the files --------------------------------------------------------------------------------------------------------


@posix
def test_secret_keys_are_their_owners_alone(tmp_path: Path) -> None:
    before = os.umask(0)  # the most generous one
    try:
        public, secret = make_keys("alice", tmp_path)
        assert os.umask(0) == 0  # as it was
    finally:
        os.umask(before)
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert stat.S_IMODE(public.stat().st_mode) == 0o644
    assert "secret-key" not in public.read_text()


@posix
@pytest.mark.parametrize("mode", [0o604, 0o640, 0o644, 0o666])
def test_a_secret_key_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    folder = keys_in(tmp_path)
    secret = folder / "client.key_secret"
    secret.chmod(mode)
    with pytest.raises(SecurityError, match=f"chmod 600 {secret}"):
        ClientKeys.load(secret, folder / "server.key")
    (folder / "server.key_secret").chmod(mode)
    with pytest.raises(SecurityError, match="chmod 600"):
        ServerConfig(curve=str(folder)).check()


def test_keys_are_never_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["keys", "alice", "--dir", str(tmp_path)]) == 0
    first = (tmp_path / "alice.key_secret").read_bytes()
    assert main(["keys", "alice", "--dir", str(tmp_path)]) == 2
    assert "exists" in capsys.readouterr().err
    assert (tmp_path / "alice.key_secret").read_bytes() == first


@pytest.mark.parametrize("name", ["", "../alice", "a/b", ".."])
def test_a_name_is_no_path(tmp_path: Path, name: str) -> None:
    with pytest.raises(SecurityError, match="name"):
        make_keys(name, tmp_path / "here")


def test_missing_and_wrong_files_are_named(tmp_path: Path) -> None:
    folder = keys_in(tmp_path)
    (folder / "clients" / "client.key").unlink()
    with pytest.raises(SecurityError, match=r"clients holds no client's NAME\.key.*hpstm keys NAME"):
        ServerKeys.load(folder)
    with pytest.raises(SecurityError, match=r"server\.key_secret is no key file"):
        ServerKeys.load(folder / "elsewhere")
    with pytest.raises(SecurityError, match="holds no secret key"):
        ClientKeys.load(folder / "client.key", folder / "server.key")
    for content in ("", 'public-key = "tooshort"\n', 'public-key = "' + "~" * 40 + '"\n', "\xff" * 50):
        (folder / "broken.key").write_text(content)
        with pytest.raises(SecurityError, match=r"broken\.key is no key file"):
            ClientKeys.load(folder / "client.key_secret", folder / "broken.key")


def test_two_halves_of_different_pairs_are_refused(tmp_path: Path) -> None:
    (_, alice), (_, bob) = make_keys("alice", tmp_path), make_keys("bob", tmp_path)
    lines = alice.read_text().splitlines()[:-1] + bob.read_text().splitlines()[-1:]
    alice.write_text("\n".join(lines))
    with pytest.raises(SecurityError, match="do not belong together"):
        ClientKeys.load(alice, tmp_path / "bob.key")


def test_secrets_are_not_shown(tmp_path: Path) -> None:
    folder = keys_in(tmp_path)
    keys = ClientKeys.load(folder / "client.key_secret", folder / "server.key")
    assert keys.secret.decode() not in repr(keys)
    assert ServerKeys.load(folder).secret.decode() not in repr(ServerKeys.load(folder))


# -- beyond this machine ----------------------------------------------------------------------------------------------


def test_with_keys_other_machines_may_connect_without_further_words(tmp_path: Path) -> None:
    folder = keys_in(tmp_path)
    ServerConfig(out_endpoint="tcp://0.0.0.0:5751", curve=str(folder)).check()
    with pytest.raises(SecurityError, match="--curve"):
        ServerConfig(out_endpoint="tcp://0.0.0.0:5751").check()


def test_where_zeromq_has_no_curve_one_line_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = keys_in(tmp_path)
    monkeypatch.setattr(zmq, "has", lambda what: False)
    for attempt in (lambda: make_keys("bob", folder), lambda: ServerKeys.load(folder)):
        with pytest.raises(SecurityError, match="has no CURVE"):
            attempt()
