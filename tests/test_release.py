"""A release as its users get it: what is in it, and that it works alone, far from the repository."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.helpers.documents import python_blocks
from tests.helpers.project import ROOT, project
from tests.helpers.pythons import found, named

PACKAGES = ("streamer", "model", "bench")
VERSION = str(project()["version"])


def ran(words: Sequence[str | Path], folder: Path, **more: str) -> str:
    """What a command printed, run in a folder that is not the repository."""
    environment = {name: text for name, text in os.environ.items() if name != "PYTHONPATH"} | more
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the sdist of this tree."""
    pytest.importorskip("hatchling", reason="hatchling is not installed (pip install -e '.[dev]')")
    folder = tmp_path_factory.mktemp("built")
    ran([sys.executable, "-m", "hatchling", "build", "-d", folder], ROOT)
    return folder


@pytest.fixture(scope="module")
def wheel(built: Path) -> zipfile.ZipFile:
    return zipfile.ZipFile(built / f"hpstm_live-{VERSION}-py3-none-any.whl")


# -- what is in it ----------------------------------------------------------------------------------------------------


def test_wheel_holds_every_module_and_data_file(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    for package in PACKAGES:
        assert {path.relative_to(ROOT).as_posix() for path in (ROOT / package).rglob("*.py")} <= names
        assert f"{package}/py.typed" in names
    assert "streamer/PROTOCOL.md" in names
    assert any(name.startswith("model/weights/") and name.endswith(".onnx") for name in names)


def test_wheel_holds_nothing_else(wheel: zipfile.ZipFile) -> None:
    assert {name.split("/")[0] for name in wheel.namelist()} == {*PACKAGES, f"hpstm_live-{VERSION}.dist-info"}
    assert not [name for name in wheel.namelist() if name.endswith((".pyc", ".pt", ".npz"))]
    assert sum(info.compress_size for info in wheel.infolist()) < 10e6  # 7.2 MB, of which the weights 6.4


def test_sdist_holds_what_the_tests_read(built: Path) -> None:
    with tarfile.open(built / f"hpstm_live-{VERSION}.tar.gz") as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    tests = {path.relative_to(ROOT).as_posix() for path in (ROOT / "tests").rglob("*.py")}
    documents = {path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").glob("*.md")}
    assert tests | documents | {"README.md", "CHANGELOG.md", "LICENSE", "Makefile", "pyproject.toml"} <= names


def test_changelog_tells_of_this_version() -> None:
    lines = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").splitlines()
    heads = [line.removeprefix("## ") for line in lines if line.startswith("## ")]
    assert heads[0] == "Unreleased"
    assert heads[1].startswith(f"{VERSION} - 20")


# -- whether it works -------------------------------------------------------------------------------------------------


def python(which: str) -> Path:
    """The oldest or newest of the Pythons we are for that is here. Skips the second of the two where they are one."""
    here = found()
    if which == "newest" and len(here) == 1:
        pytest.skip(f"of Python 3.{named()} there is only 3.{min(here)} here, tried as the oldest")
    return here[max(here) if which == "newest" else min(here)]


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Skips where pip reaches no packages: those of the base install come from there."""
    folder = tmp_path_factory.mktemp("probe")
    words = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", folder, "msgpack"]
    if subprocess.run(words, capture_output=True, timeout=100).returncode:
        pytest.skip("no package index within reach")


@pytest.mark.timeout(400)
@pytest.mark.usefixtures("index")
@pytest.mark.parametrize(
    "which", [pytest.param(one, marks=pytest.mark.xdist_group(one)) for one in ("oldest", "newest")]
)
def test_installed_alone_it_works(which: str, built: Path, wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    """sdist -> the same wheel -> a new environment with the base alone -> the commands and a push."""
    here, room = tmp_path / "elsewhere", tmp_path / "venv"
    here.mkdir()
    ran([python(which), "-m", "venv", room], here)
    own, hpstm = room / "bin" / "python", room / "bin" / "hpstm"
    pip = [own, "-m", "pip", "-q", "--disable-pip-version-check"]

    ran([*pip, "wheel", "--no-deps", "-w", here / "again", *built.glob("*.tar.gz")], here)
    (again,) = (here / "again").iterdir()
    with zipfile.ZipFile(again) as other:
        assert {info.filename: info.CRC for info in other.infolist()} == {
            info.filename: info.CRC for info in wheel.infolist()
        }

    ran([*pip, "install", "--no-compile", again], here)  # a third of the time
    ran([*pip, "check"], here)
    packages = {line.partition("==")[0].lower() for line in ran([*pip, "freeze", "--all"], here).splitlines()}
    assert not packages & {"torch", "scipy", "matplotlib", "onnx", "hatchling"}

    fresh = {"XDG_CACHE_HOME": str(tmp_path / "cache")}  # nothing is compiled yet
    assert ran([hpstm, "--version"], here) == f"hpstm {VERSION}\n"
    said = ran([hpstm, "doctor"], here, **fresh)
    assert "OK    model" in said
    assert "FAIL" not in said
    assert "pip install 'hpstm-live[mediapipe]'" in said

    block = python_blocks((ROOT / "README.md").read_text(encoding="utf-8"))[0].text
    more = "\nimport streamer; print(streamer.__file__, np.isfinite(pose.positions).all())"
    shapes, place = ran([own, "-c", block + more], here, **fresh).splitlines()
    assert shapes.endswith("(24, 3) (24, 4) (24, 3, 3)")
    assert place.startswith(str(room))
    assert place.endswith("True")
