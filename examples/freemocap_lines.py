"""A FreeMoCap recording as lines for ``hpstm source stdin``: its ``mediapipe_body_3d_xyz.npy``, millimetres, Z up.

    python freemocap_lines.py SESSION/output_data/mediapipe_body_3d_xyz.npy --fps 30 | hpstm source stdin --paced

The same few lines send what rtmlib finds, triangulated by your own cameras: layout halpe_26 (BodyWithFeet) or
coco_wholebody_133 (Wholebody), metres, Y up.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("file", type=Path)
    options.add_argument("--fps", type=float, default=30.0, help="frame rate of the cameras")
    options.add_argument("--actor", default="freemocap")
    asked = options.parse_args()
    xyz = np.load(asked.file)[:, :33]  # (frames, 33, 3) [mm]; NaN: not seen; hands and face may follow
    for n, frame in enumerate(xyz):
        positions = [None if np.isnan(joint).any() else joint.tolist() for joint in frame]
        fields = {"actor": asked.actor, "t": n / asked.fps, "layout": "freemocap_33", "positions": positions}
        print(json.dumps(fields), flush=True)


if __name__ == "__main__":
    main()
