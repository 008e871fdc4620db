"""What the tests of the readers share: the data, a file written, what every clip satisfies, what must fail."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from model.files.retarget import unit
from model.kinematics import fork_frames, forward_kinematics
from model.prepare import Clip, ClipError, read_clip
from model.skeleton import FORK_CHILDREN, J, rest_directions, rest_offsets

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
needs_data = pytest.mark.skipif(not (DATA / "clips.csv").is_file(), reason=f"no motion data at {DATA}")


def check_rigid(clip: Clip) -> None:
    """What every clip with rotations must satisfy, whatever file it came from."""
    rot = clip.world_rotations
    assert rot is not None
    np.testing.assert_allclose(rot @ np.swapaxes(rot, -1, -2), np.broadcast_to(np.eye(3), rot.shape), atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(rot), 1.0, atol=1e-12)
    again = forward_kinematics(rot, clip.offsets_m, clip.positions[:, 0])
    np.testing.assert_allclose(again, clip.positions, atol=1e-12)
    np.testing.assert_allclose(fork_frames(clip.offsets_m), fork_frames(rest_offsets()), atol=1e-12)
    single = [j for j in range(1, J) if j not in FORK_CHILDREN]
    np.testing.assert_allclose(unit(clip.offsets_m[single]), rest_directions()[single], atol=1e-12)
    np.testing.assert_allclose(clip.lengths_m, np.linalg.norm(clip.offsets_m, axis=-1))


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def bad(path: Path, *named: str) -> None:
    """Reading must fail with the file's name and each of ``named`` in the message."""
    with pytest.raises(ClipError) as caught:
        read_clip(path)
    for word in (path.name, *named):
        assert word in str(caught.value), (word, str(caught.value))
