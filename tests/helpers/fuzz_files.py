"""Mutated motion files: whatever is in one, reading it gives a clip of finite numbers or a ClipError, and nothing else.

    python -m tests.helpers.fuzz_files --count 100000      # the long form; prints rate and result, stops at a fault

Seeds are small files of every format, written here. A mutation flips, inserts, cuts or repeats bytes, words or lines,
puts in numbers that break things, and cuts or flips in what is zipped.
"""

from __future__ import annotations

import argparse
import gzip
import io
import logging
import resource
import sys
import tempfile
import time
import warnings
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from model.files.asf import read_amc
from model.prepare import ClipError, read_clip
from tests.helpers.motion_files import amc_text, asf_text, cgspeed_text, random_angles
from tests.helpers.rig_files import Rig, bvh, person, prop

Rng = np.random.Generator
FRAMES = 6
SLOW_S = 10.0  # of processor time, that no file of this size should take
FORMATS = ("bvh", "bvh two roots", "bvh by shape", "bvh cgspeed", "bvh.gz", "amc", "asf", "amass", "positions")
WORDS = (
    *b"nan inf -1 0 1e308 1e-308 99999999999999999999 1_0 12.5 -90 180 1e5".split(),
    *b"{ } JOINT ROOT MOTION begin end :root".split(),
    *(b"End Site", b"CHANNELS 6", b"Frames: 3", b"\xff\xfe", b"\x00", b"", b"\xc3\xa9"),
)


def _npz(**arrays: object) -> bytes:
    out = io.BytesIO()
    np.savez_compressed(out, **arrays)  # type: ignore[arg-type]
    return out.getvalue()


def seeds(folder: Path) -> dict[str, tuple[str, bytes]]:
    """format -> (how the file's name ends, its bytes); the AMC's skeleton is left in ``folder``."""
    who, other = person(FRAMES), person(FRAMES, seed=1)
    angles = random_angles(FRAMES)
    (folder / "01.asf").write_text(asf_text())
    (folder / "01_1.amc").write_text(amc_text(angles))
    clip = read_clip(folder / "01_1.amc")
    rng = np.random.default_rng(0)
    amass = {
        "poses": rng.normal(scale=0.2, size=(FRAMES, 156)), "trans": rng.normal(size=(FRAMES, 3)),
        "mocap_framerate": np.array(60.0), "gender": np.array("male"), "betas": np.zeros(16),
    }  # fmt: skip
    plain = {"positions": clip.positions, "fps": np.array(30.0), "world_rotations": clip.world_rotations}
    text = bvh((who, Rig(six=True, above="Root")))
    return {
        "bvh": (".bvh", text.encode()),
        "bvh two roots": (".bvh", bvh((who, Rig(unit_m=1.0)), prop(FRAMES)).encode()),
        "bvh by shape": (".bvh", bvh((other, Rig({name: f"j{n}" for n, name in enumerate(other.joints)}))).encode()),
        "bvh cgspeed": (".bvh", cgspeed_text(read_amc(folder / "01_1.amc")).encode()),
        "bvh.gz": (".bvh.gz", gzip.compress(text.encode())),
        "amc": (".amc", amc_text(angles).encode()),
        "asf": (".asf", asf_text().encode()),
        "amass": (".npz", _npz(**amass)),
        "positions": (".npz", _npz(**plain)),
    }


def _some(rng: Rng, raw: bytes) -> tuple[int, int]:
    """A stretch of the bytes, mostly short."""
    at = int(rng.integers(len(raw) + 1))
    return at, min(len(raw), at + int(rng.exponential(12.0)) + 1)


def mutated(rng: Rng, raw: bytes, text: bool) -> bytes:
    """The bytes changed in one to four ways."""
    for _ in range(int(rng.choice([1, 1, 1, 2, 4]))):
        a, b = _some(rng, raw)
        way = rng.choice([0, 1, 2, 3, 4, *([5] * 8), 6, 7]) if text else rng.integers(5)
        if way == 0:
            raw = raw[:a] + rng.bytes(b - a) + raw[b:]
        elif way == 1:
            raw = raw[:a] + raw[b:]
        elif way == 2:
            raw = raw[:b] + raw[a:b] * int(rng.integers(1, 40)) + raw[b:]
        elif way == 3:
            raw = raw[: max(a, 1)]
        elif way == 4:
            c, d = _some(rng, raw)
            raw = raw[:a] + raw[c:d] + raw[b:]
        else:
            raw = _by_words(rng, raw, int(way))
    return raw


def _by_words(rng: Rng, raw: bytes, way: int) -> bytes:
    """A word replaced by one that breaks things, or two lines exchanged, or one left out or said again."""
    lines = raw.split(b"\n")
    n, m = rng.integers(len(lines), size=2)
    if way == 5:
        words = lines[n].split(b" ")
        at, other = int(rng.integers(len(words))), lines[m].split(b" ")
        words[at] = WORDS[int(rng.integers(len(WORDS)))] if rng.random() < 0.5 else other[int(rng.integers(len(other)))]
        lines[n] = b" ".join(words)
    elif way == 6:
        lines[n], lines[m] = lines[m], lines[n]
    else:
        lines[n : n + 1] = [lines[n]] * int(rng.choice([0, 2, 30]))
    return b"\n".join(lines)


def _inside(rng: Rng, raw: bytes) -> bytes:
    """An npz whose arrays, or the headers of them, are changed before they are zipped."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(raw)) as old, zipfile.ZipFile(out, "w") as new:
        target = int(rng.integers(len(old.namelist())))
        for n, name in enumerate(old.namelist()):
            member = old.read(name)
            if n == target:
                head, rest = member[:128], member[128:]
                member = mutated(rng, head, True) + rest if rng.random() < 0.6 else head + mutated(rng, rest, False)
            new.writestr(name, member)
    return out.getvalue()


def mutation(rng: Rng, kind: str, raw: bytes) -> bytes:
    """One mutated file of a format."""
    if kind == "bvh.gz" and rng.random() < 0.5:
        return gzip.compress(mutated(rng, gzip.decompress(raw), True), 1)
    if kind in ("amass", "positions") and rng.random() < 0.7:
        return _inside(rng, raw)
    return mutated(rng, raw, kind not in ("bvh.gz", "amass", "positions"))


def check(path: Path) -> str:
    """ "read" or "refused"; anything else that reading a file does is raised."""
    try:
        clip = read_clip(path)
    except ClipError as refusal:
        error = str(refusal)
    else:
        assert len(clip) > 0
        assert np.isfinite(clip.offsets_m).all()
        assert 0.0 < clip.fps <= 10_000.0
        if clip.world_rotations is not None:
            assert np.isfinite(clip.positions).all()
            assert np.isfinite(clip.world_rotations).all()
        return "read"
    assert str(path.parent) in error
    assert len(error) < 1000, error[:200]
    return "refused"


def fuzz(folder: Path, count: int, seed: int, kinds: tuple[str, ...] = FORMATS) -> Iterator[tuple[str, str]]:
    """(format, "read" or "refused") of each of ``count`` mutated files; the file that fails is left in ``folder``."""
    files = seeds(folder)
    for n in range(count):
        rng = np.random.default_rng((seed, n))
        kind = kinds[n % len(kinds)]
        end, raw = files[kind]
        path = folder / (f"fuzz{end}" if kind != "asf" else "02.asf")
        path.write_bytes(mutation(rng, kind, raw))
        begin = time.process_time()
        if kind == "asf":
            path = folder / "02_1.amc"
            path.write_bytes((folder / "01_1.amc").read_bytes())
        elif kind == "amc":
            path = path.rename(folder / "01_2.amc")
        result = check(path)
        assert time.process_time() - begin < SLOW_S, f"{time.process_time() - begin:.0f} s for {path}"
        yield kind, result


def main() -> int:
    """Runs the long form; the exit code says whether a fault was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100_000, help="files (default: 100000)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--format", nargs="*", default=FORMATS, choices=FORMATS, help="only these")
    options = parser.parse_args()
    warnings.simplefilter("error")
    logging.disable()
    begin, counts, done = time.monotonic(), Counter[str](), 0
    with tempfile.TemporaryDirectory() as name:
        try:
            for kind, result in fuzz(Path(name), options.count, options.seed, tuple(options.format)):
                counts[f"{kind}: {result}"] += 1
                done += 1
                if done % 5000 == 0:
                    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
                    print(f"{done} files, {done / (time.monotonic() - begin):.0f} a second, {memory} MiB", flush=True)
        except Exception:
            kept = Path(tempfile.mkdtemp(prefix="fuzz_")) / "files"
            Path(name).rename(kept)
            Path(name).mkdir()
            print(f"file {done} of seed {options.seed} is a fault; it and its seeds are in {kept}", file=sys.stderr)
            raise
    for key in sorted(counts):
        print(f"{counts[key]:8d}  {key}")
    print(f"{done} files in {time.monotonic() - begin:.0f} s: a clip or a ClipError each")
    return 0


if __name__ == "__main__":
    sys.exit(main())
