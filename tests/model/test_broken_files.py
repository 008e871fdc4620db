"""Files that are cut, mutated, too large or lie about their size: a ClipError with the number, and nothing else."""

from __future__ import annotations

import gzip
import io
import time
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from model.files import source
from model.files.bvh_header import read_header
from model.prepare import Arrays, ClipError, read_clip
from tests.helpers.fuzz_files import FORMATS, fuzz, seeds
from tests.helpers.motion_files import amass_data, humanoid_text
from tests.helpers.readers import bad, write
from tests.helpers.rig_files import Rig, bvh, person

COUNT = 200  # mutated files of each format


@pytest.mark.parametrize(
    "kind", ["bvh", "bvh two roots", "bvh by shape", "bvh cgspeed", "bvh.gz", "amc", "asf", "amass", "positions"]
)
def test_mutated_files_give_a_clip_or_a_clip_error(tmp_path: Path, kind: str) -> None:
    results = [result for _, result in fuzz(tmp_path, COUNT, seed=7, kinds=(kind,))]
    assert len(results) == COUNT
    assert results.count("refused") > COUNT / 4
    assert results.count("read") > COUNT / 50  # some go deep


def test_every_seed_of_the_fuzz_is_read(tmp_path: Path) -> None:
    files = seeds(tmp_path)
    assert tuple(files) == FORMATS
    for kind, (end, raw) in files.items():
        path = tmp_path / f"seed{end}"
        path.write_bytes(raw)
        if kind not in ("amc", "asf"):
            assert len(read_clip(path)) >= 6


def test_joints_without_end(tmp_path: Path) -> None:
    deep = "HIERARCHY\nROOT a\n" + "{\nOFFSET 0 1 0\nJOINT a\n" * 100_000
    wide = "HIERARCHY\nROOT a\n{\n" + "JOINT b { OFFSET 0 1 0 }\n" * 100_000
    begin = time.monotonic()
    bad(write(tmp_path / "deep.bvh", deep), "128", "chain")
    bad(write(tmp_path / "wide.bvh", wide), "1024", "joints")
    assert time.monotonic() - begin < 20.0


def test_headers_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model.files.bvh_header.MAX_HEADER", 10_000)
    bad(write(tmp_path / "a.bvh", "HIERARCHY ROOT a { OFFSET " + "1 " * 10_000), "MOTION", "10000")


def test_a_gzip_that_unpacks_to_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "MAX_BYTES", 8 << 20)
    path = tmp_path / "bomb.bvh.gz"
    path.write_bytes(gzip.compress(b"0 " * (64 << 20), 1))  # 128 MiB in less than one
    tracemalloc.start()
    bad(path, "8 MiB")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 64 << 20


def npy(shape: str, descr: str = "<f8", data: bytes = b"") -> bytes:
    head = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}"
    head += " " * (-(len(head) + 11) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head.encode() + data


def zipped(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, member in members.items():
            file.writestr(name + ".npy", member)
    return path


@pytest.mark.parametrize(
    ("member", "said"),
    [
        (npy("(500000000, 3)"), "bytes promised"),
        (npy("(500000000, 3)", data=bytes(20 << 20)), "bytes promised"),
        (npy("(99999999999999999, 99999999999999999)"), "bytes promised"),
        (npy("(2, 3)", data=bytes(40)), "bytes"),
        (npy("(2, 3)", data=bytes(400)), "should hold 48 bytes"),
        (npy("(2, 3)", "|O", bytes(48)), "Python objects"),
        (npy("(2, 3)", "[('a', '<f8')]", bytes(48)), "header"),
        (npy("(2, 3)", "<f9", bytes(54)), "unknown type"),
        (npy("__import__('os').getcwd()"), "header"),
        (b"\x93NUMPY\x01\x00\xff\xff", "header"),
        (b"nothing", "not a numpy array"),
        (b"", "not a numpy array"),
    ],
)
def test_arrays_that_lie_about_their_size(tmp_path: Path, member: bytes, said: str) -> None:
    path = zipped(tmp_path / "a.npz", poses=member, trans=npy("(1, 3)", data=bytes(24)))
    tracemalloc.start()
    with Arrays(path) as arrays, pytest.raises(ClipError, match="key 'poses'") as caught:
        arrays["poses"]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert said in str(caught.value)
    assert peak < 30 << 20


def test_arrays_are_numpys(tmp_path: Path) -> None:
    made = {
        "a": np.arange(6.0).reshape(2, 3), "f": np.asfortranarray(np.arange(6).reshape(2, 3)), "s": np.array("smplx"),
        "e": np.empty((0, 3)), "big": np.arange(3, dtype=">f4"), "b": np.array([True, False]), "one": np.float32(3.0),
    }  # fmt: skip
    out = io.BytesIO()
    np.savez_compressed(out, **made)  # type: ignore[arg-type]
    (tmp_path / "a.npz").write_bytes(out.getvalue())
    with Arrays(tmp_path / "a.npz") as arrays:
        assert arrays.keys() == sorted(made)
        for key, value in made.items():
            np.testing.assert_array_equal(arrays[key], value)
            assert arrays[key].shape == np.shape(value)


def test_too_many_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = humanoid_text([{}] * 30)
    monkeypatch.setattr(source, "MAX_FRAMES", 20)
    bad(write(tmp_path / "a.bvh", text), "30 frames", "at most 20")
    data = amass_data(30)
    np.savez(tmp_path / "a.npz", **data)  # type: ignore[arg-type]
    bad(tmp_path / "a.npz", "30 frames", "at most 20")
    monkeypatch.setattr(source, "MAX_FRAMES", 100)
    monkeypatch.setattr(source, "MAX_CELLS", 300)
    bad(write(tmp_path / "a.bvh", text), "30 frames of 22 joints", "300")


def test_long_words_do_not_make_long_errors(tmp_path: Path) -> None:
    path = write(tmp_path / "a.bvh", "HIERARCHY\nROOT " + "x" * 100_000)
    with pytest.raises(ClipError) as caught:
        read_header(path)
    assert len(str(caught.value)) < 1000


def test_names_of_joints_that_come_twice(tmp_path: Path) -> None:
    who = person()
    names = {"LeftToeBase": "Toe", "RightToeBase": "Toe", "LeftHand": "LeftHand", "Spine1": "Spine"}
    assert len(read_clip(write(tmp_path / "a.bvh", bvh((who, Rig(names)))))) == 40
