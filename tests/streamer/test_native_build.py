"""The native runtime where it cannot run, and its cache of libraries: what it says, what it builds again."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from streamer.errors import RuntimeUnavailable
from streamer.runtimes import load_runtime
from tests.helpers.compiler import needs_compiler

# An export and a compilation take ten seconds on a free machine.
pytestmark = [pytest.mark.timeout(600), pytest.mark.usefixtures("own_libraries")]


@pytest.fixture
def no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)


@pytest.mark.usefixtures("no_compiler")
def test_without_a_compiler_it_says_what_to_install(exported: Path) -> None:
    with pytest.raises(RuntimeUnavailable, match="needs a C compiler"):
        load_runtime("native", exported)
    assert load_runtime("auto", exported).name == "onnx"


@needs_compiler
def test_auto_is_native_where_it_runs(exported: Path) -> None:
    assert load_runtime("auto", exported).name == "native"


@pytest.mark.skipif(shutil.which("false") is None, reason="no program `false`")
def test_a_compiler_that_fails_is_quoted(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "false --that")
    with pytest.raises(RuntimeUnavailable, match="false --that cannot compile"):
        load_runtime("native", exported)


@needs_compiler
@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
def test_a_cache_that_others_can_write_to_is_not_used(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "hpstm-live").mkdir()
    (tmp_path / "hpstm-live").chmod(0o777)
    with pytest.raises(RuntimeUnavailable, match="others can write"):
        load_runtime("native", exported)
    assert load_runtime("auto", exported).name == "onnx"


@needs_compiler
@pytest.mark.parametrize("kind", ["a file", "no home"])
def test_without_a_place_to_compile_in_it_says_so(
    kind: str, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file") if kind == "a file" else "")
    if kind == "no home":
        monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home directory")))
    with pytest.raises(RuntimeUnavailable, match="no place to compile in"):
        load_runtime("native", exported)
    assert load_runtime("auto", exported).name == "onnx"


@needs_compiler
@pytest.mark.parametrize("harm", ["cut off", "garbage", "one bit", "empty", "no checksum", "a foreign checksum"])
def test_a_damaged_library_in_the_cache_is_built_again(
    harm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    source = "int step(void) { return 7; }"
    load = f"from streamer.runtimes.native.build import load_library; load_library({source!r}).step"
    subprocess.run([sys.executable, "-c", load], check=True)  # in processes of their own: one loads a path only once
    (library,) = (tmp_path / "hpstm-live").glob("native-*.so")
    whole, checksum = library.read_bytes(), library.with_suffix(".sha256")
    harms = {"cut off": whole[: len(whole) // 2], "garbage": b"\x7fELF" + bytes(5000), "empty": b"",
             "one bit": whole[:5000] + bytes([whole[5000] ^ 1]) + whole[5001:]}  # fmt: skip
    if harm in harms:
        library.write_bytes(harms[harm])
    elif harm == "no checksum":
        checksum.unlink()
    else:
        checksum.write_text("0" * 64)
    before = library.stat().st_ino
    subprocess.run([sys.executable, "-c", load], check=True)
    assert library.stat().st_ino != before
    assert hashlib.sha256(library.read_bytes()).hexdigest() == checksum.read_text()
    assert len(list((tmp_path / "hpstm-live").iterdir())) == 2
