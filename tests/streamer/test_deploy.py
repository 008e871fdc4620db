"""deploy/: the container's and the service's files are what docker and systemd take, and start the server that is."""

from __future__ import annotations

import configparser
import json
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from bench.service.child import ServerProcess
from streamer.cli import application
from streamer.server import notify
from tests.helpers.live import wait_until
from tests.helpers.project import ROOT

DOCKERFILE, UNIT = ROOT / "deploy" / "Dockerfile", ROOT / "deploy" / "hpstm.service"
BASE = "python:3.11-slim"


class Instruction(NamedTuple):
    """A line of a Dockerfile, continued ones joined."""

    name: str
    rest: str

    def words(self) -> list[str]:
        """Of the exec form, the JSON list in it."""
        found: list[str] = json.loads(self.rest[self.rest.index("[") :])
        return found


def instructions() -> list[Instruction]:
    lines = [line for line in DOCKERFILE.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ").splitlines()
    return [Instruction(*line.split(maxsplit=1)) for line in joined if line.strip()]


def only(name: str) -> Instruction:
    (found,) = [one for one in instructions() if one.name == name]
    return found


@pytest.fixture
def unit() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(UNIT, encoding="utf-8")
    return parser


# -- the container ----------------------------------------------------------------------------------------------------


def test_every_command_of_the_container_is_one() -> None:
    start = only("ENTRYPOINT").words()
    assert start[:2] == ["hpstm", "serve"]
    for words in (start + only("CMD").words(), [*start, "--allow-remote"]):
        application().parse_args(words[1:])  # raises for what is unknown, missing or of another type


def test_the_container_is_the_base_install_of_a_user_who_is_not_root() -> None:
    names = [one.name for one in instructions()]
    assert [one.rest.split()[0] for one in instructions() if one.name == "FROM"] == [BASE] * 2
    assert only("ARG").rest == 'EXTRAS=""'
    user = only("USER").rest
    assert user not in ("root", "0")
    assert f" {user} " in next(one.rest for one in instructions() if "useradd" in one.rest) + " "
    assert names.index("USER") < names.index("ENTRYPOINT")
    copied = {word for one in instructions() if one.name == "COPY" for word in one.rest.split() if word[0] not in "-./"}
    assert {"model", "streamer", "bench", "pyproject.toml"} <= copied
    assert all((ROOT / word).exists() for word in copied)


def test_the_container_opens_no_port_to_others_without_being_told_who_they_are() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "streamer", *only("ENTRYPOINT").words()[1:]],
        capture_output=True, text=True, cwd=ROOT, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2
    assert "--curve" in done.stderr


@pytest.mark.timed
def test_the_health_check_tells_a_server_that_lives_from_one_that_does_not(free_port: Callable[[], int]) -> None:
    port = free_port()
    assert "9100" in only("ENTRYPOINT").words()
    words = [word.replace(":9100/", f":{port}/") for word in only("HEALTHCHECK").words()]
    assert words[0] == "python"
    assert str(port) in words[-1]

    def check() -> int:
        return subprocess.run([sys.executable, *words[1:]], capture_output=True, timeout=60).returncode

    assert check() != 0
    with ServerProcess(["--metrics-port", str(port)]):
        assert check() == 0
    assert check() != 0


@pytest.mark.timed
@pytest.mark.timeout(600)
def test_the_container_runs() -> None:
    """Built and run by docker itself: healthy, answering on its ports, gone on SIGTERM."""
    if shutil.which("docker") is None or docker("info").returncode:
        pytest.skip("docker does not run here")
    if docker("image", "inspect", BASE).returncode and docker("pull", "--quiet", BASE).returncode:
        pytest.skip(f"{BASE} cannot be had here")
    built = docker("build", "--quiet", "--file", str(DOCKERFILE), str(ROOT))
    assert built.returncode == 0, built.stderr
    ran = docker("run", "--rm", "--detach", "--memory", "512m", built.stdout.strip(), "--allow-remote")
    assert ran.returncode == 0, ran.stderr
    name = ran.stdout.strip()
    try:
        state = ("inspect", "--format", "{{.State.Health.Status}}", name)
        wait_until(lambda: docker(*state).stdout.strip() == "healthy", 60.0)
    finally:
        assert docker("stop", "--time", "5", name).returncode == 0


def docker(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["docker", *words], capture_output=True, text=True, timeout=400)


# -- the service ------------------------------------------------------------------------------------------------------


def test_the_command_of_the_service_is_one(unit: configparser.ConfigParser) -> None:
    words = shlex.split(unit["Service"]["ExecStart"])
    assert Path(words[0]).is_absolute()
    assert Path(words[0]).name == "hpstm"
    application().parse_args(words[1:])
    state = f"/var/lib/{unit['Service']['StateDirectory']}/"
    assert words[words.index("--skeletons") + 1].startswith(state)
    assert f"XDG_CACHE_HOME=/var/cache/{unit['Service']['CacheDirectory']}" in unit["Service"]["Environment"].split()


def test_the_service_is_limited_and_started_again_and_says_when_it_is_ready(unit: configparser.ConfigParser) -> None:
    service = unit["Service"]
    assert service["Type"] == "notify"
    assert service["Restart"] == "on-failure"
    assert service["MemoryMax"].endswith("M")
    assert float(service["WatchdogSec"]) >= 3.0  # the server says so once a second
    assert service["DynamicUser"] == "yes"


def test_systemd_finds_nothing_wrong_with_it(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    path = tmp_path / UNIT.name
    path.write_text(UNIT.read_text(encoding="utf-8").replace("/opt/hpstm/bin/hpstm", "/bin/true"), encoding="utf-8")
    done = subprocess.run(["systemd-analyze", "verify", str(path)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert UNIT.name not in done.stderr


# -- readiness --------------------------------------------------------------------------------------------------------


@pytest.mark.timed
@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="no AF_UNIX here, and no systemd either")
def test_a_server_tells_systemd_that_it_is_ready_that_it_lives_and_that_it_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(60.0)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        with ServerProcess() as server:
            assert manager.recv(100) == b"READY=1"
            assert server.status() is not None
            assert [manager.recv(100) for _ in range(2)] == [b"WATCHDOG=1"] * 2
        manager.setblocking(False)
        said = []
        while not said or said[-1] != b"STOPPING=1":
            said.append(manager.recv(100))
        assert set(said[:-1]) <= {b"WATCHDOG=1"}


def test_nobody_is_told_where_nobody_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for where in ("", "relative", "vsock:2:1", str(tmp_path / "nobody")):
        monkeypatch.setenv("NOTIFY_SOCKET", where)
        assert not notify.notify(notify.READY)


@pytest.mark.skipif(sys.platform != "linux", reason="abstract sockets are Linux's")
def test_an_abstract_socket_is_told_and_a_full_one_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"hpstm-{time.time_ns()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + name)
        monkeypatch.setenv("NOTIFY_SOCKET", "@" + name)
        told = [notify.notify(notify.ALIVE) for _ in range(5000)]
        assert told[0]
        assert not told[-1]
        assert manager.recv(100) == b"WATCHDOG=1"
