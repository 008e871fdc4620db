"""Tables of named joints: TRC as OpenSim's pages describe it, csv as anipose and FreeMoCap head theirs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from model.layouts import get_layout
from model.prepare import ClipError, is_named_joints, read_named
from model.skeleton import INDEX
from tests.helpers.archives import COCO, FPS, HALPE, truth, write_csv, write_trc

SHOWN = ("left_hip", "right_knee", "left_ankle", "right_shoulder", "left_elbow", "right_wrist")


def canonical(path: Path, **options: str | float) -> np.ndarray:
    joints = read_named(path, **options)  # type: ignore[arg-type]
    xyz, measured, derived, _ = get_layout(joints.layout).to_canonical(joints.positions)
    return np.where((measured | derived)[..., None], xyz, np.nan)


def assert_at(found: np.ndarray, wanted: np.ndarray) -> None:
    for joint in SHOWN:
        np.testing.assert_allclose(found[:, INDEX[joint]], wanted[:, INDEX[joint]], atol=2e-6)


def test_a_trc_is_where_its_people_were(tmp_path: Path) -> None:
    path = write_trc(tmp_path / "a.trc", truth(20))
    joints = read_named(path)
    assert (joints.kind, joints.layout, joints.unused) == ("TRC", "halpe_26", ())
    np.testing.assert_allclose(joints.times_s, np.arange(20) / FPS, atol=1e-6)
    found = canonical(path)
    missing = np.isnan(found[:, INDEX["left_wrist"], 0])
    assert missing.nonzero()[0].tolist() == [5]  # the blank cells
    assert_at(found, truth(20))


def test_a_csv_in_another_unit_and_with_z_up_comes_out_upright_in_metres(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", truth(20))
    joints = read_named(path)
    assert (joints.kind, joints.layout) == ("csv", "coco_17")
    assert joints.confidence is not None
    assert (joints.confidence == 0.9).all()
    assert "centimetres" in joints.notes[0]
    assert "z axis" in joints.notes[1]
    assert_at(canonical(path), truth(20))
    assert_at(canonical(path, unit_m=0.01, up="z"), truth(20))
    assert read_named(path, unit_m=0.01, up="z").notes == ()


def test_separators_and_ways_of_naming(tmp_path: Path) -> None:
    text = write_csv(tmp_path / "a.csv", truth(5)).read_text()
    for old, new in ((",", ";"), (",", "\t"), ("_x", ".X"), ("time_s", "Timestamp")):
        (tmp_path / "b.csv").write_text(text.replace(old, new).replace("_y", "_Y"))
        assert_at(canonical(tmp_path / "b.csv"), truth(5))
    millis = "\n".join(f"{line},{'time_ms' if n == 0 else n * 40}" for n, line in enumerate(text.split("\n")[:-1]))
    (tmp_path / "c.csv").write_text(millis.replace("time_s", "other"))
    np.testing.assert_allclose(read_named(tmp_path / "c.csv").times_s, 0.04 * np.arange(5))


def test_without_times_the_rate_must_be_given(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", truth(5))
    path.write_text(path.read_text().replace("time_s", "row"))
    with pytest.raises(ClipError, match="no column of time"):
        read_named(path)
    assert read_named(path, fps=50.0).times_s[-1] == pytest.approx(0.08)


def broken_trc(path: Path, old: str, new: str) -> Path:
    text = write_trc(path, truth(8)).read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    return path


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("PathFileType", "PathType", "no TRC file"),
        (f"\t8\t{len(HALPE)}\tmm", f"\t80\t{len(HALPE)}\tmm", "cut off"),
        (f"\t{len(HALPE)}\tmm", "\t9\tmm", "NumMarkers is 9"),
        ("\tmm\t", "\tfurlongs\t", "Units: 'furlongs'"),
        ("\tmm\t", "\tm\t", "times a person's size"),
        ("\n3\t0.066667\t", "\n3\t0.0x\t", "line 9: column 2: '0.0x' is no number"),
        ("\n3\t0.066667\t", "\n3\t0.01\t", "frame 3: the time is missing, or not later"),
        ("\n3\t0.066667\t", "\n3\t0.066667\t1e9\t", "is beyond|columns, but the header"),
    ],
)
def test_a_broken_trc_is_refused_in_a_line_that_names_it(old: str, new: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ClipError, match=said) as caught:
        read_named(broken_trc(tmp_path / "a.trc", old, new))
    assert str(tmp_path / "a.trc") in str(caught.value)


def test_markers_on_the_skin_are_no_joints(tmp_path: Path) -> None:
    text = write_trc(tmp_path / "a.trc", truth(8)).read_text()
    for name in HALPE:
        text = text.replace(f"\t{name}\t", f"\tM{HALPE.index(name)}.ASIS\t")
    (tmp_path / "a.trc").write_text(text)
    with pytest.raises(ClipError, match="markers on the skin are no joints"):
        read_named(tmp_path / "a.trc")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "names no joint"),
        ("a,b\n1,2\n", "names no joint"),
        (",".join(f"{name}_{a}" for name in COCO for a in "xyz") + ",t\n", "holds no frame"),
        (",".join(f"{name}_{a}" for name in COCO for a in "xyz") + ",t\n" + "1," * 51 + "x\n", "'x' is no number"),
        (",".join(f"{name}_{a}" for name in COCO for a in "xyz") + ",t\n" + "," * 51 + "0\n", "no bone is ever seen"),
    ],
)
def test_a_broken_csv_is_refused(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(ClipError, match=said):
        read_named(tmp_path / "a.csv")


def test_lists_of_clips_are_no_tables() -> None:
    assert is_named_joints(Path("A.TRC.gz"))
    assert is_named_joints(Path("a.csv"))
    assert not is_named_joints(Path("more_clips.csv"))
    assert not is_named_joints(Path("a.bvh"))
