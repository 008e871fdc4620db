"""OpenPose's 3D output as lines for ``hpstm source stdin``: a folder that ``--3d --write_json FOLDER`` writes.

    python openpose_lines.py FOLDER --fps 30 --unit-m 0.001 | hpstm source stdin --paced

With --follow it goes on with the files that OpenPose writes from now on, at the time when each appears.
OpenPose's camera looks along +z with y down: it is turned to y up here.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any


def people(text: str) -> list[tuple[str, list[list[float]]]]:
    """Name and rows (25, [x, y, z, confidence]) of everybody in one file."""
    found = []
    for n, person in enumerate(json.loads(text)["people"]):
        flat = person.get("pose_keypoints_3d") or []
        number = (person.get("person_id") or [-1])[0]
        if len(flat) == 100:  # a body that was triangulated
            found.append((f"person{n if number < 0 else number}", [flat[i : i + 4] for i in range(0, 100, 4)]))
    return found


def line(actor: str, rows: list[list[float]], t_s: float | None, unit_m: float) -> str:
    seen = [confidence > 0 for *_, confidence in rows]
    fields: dict[str, Any] = {
        "actor": actor,
        "layout": "body_25",
        "positions": [[x * unit_m, -y * unit_m, -z * unit_m] if ok else None for (x, y, z, _), ok in zip(rows, seen)],
        "confidence": [min(max(confidence, 0.0), 1.0) for *_, confidence in rows],
    }
    return json.dumps(fields if t_s is None else fields | {"t": t_s})


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("folder", type=Path)
    options.add_argument("--fps", type=float, default=30.0, help="frame rate of a recording")
    options.add_argument("--unit-m", type=float, default=0.001, help="metres per unit of the calibration (default: mm)")
    options.add_argument("--follow", action="store_true", help="go on with new files; times are those of arrival")
    asked = options.parse_args()
    done: set[Path] = set()
    while True:
        for path in sorted(set(asked.folder.glob("*_keypoints.json")) - done):
            try:
                bodies = people(path.read_text())
            except (ValueError, KeyError) as error:
                if asked.follow and path.stat().st_mtime > time.time() - 1.0:
                    break  # it is being written
                print(f"{path}: left out, {error!r}", file=sys.stderr)
                bodies = []
            for actor, rows in bodies:
                print(line(actor, rows, None if asked.follow else len(done) / asked.fps, asked.unit_m), flush=True)
            done.add(path)
        if not asked.follow:
            return
        time.sleep(0.002)


if __name__ == "__main__":
    main()
