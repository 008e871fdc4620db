"""docs/layouts.md and its pictures, of what model/known_layouts.py says: ``python -m bench.layouts docs``.

A picture is the rest pose from the front and a little to the side, with the source's joints where they lie on it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bench.track import Floats
from model.known_layouts import KNOWN
from model.landmarks import landmarks
from model.layouts import LAYOUTS, Layout, get_layout
from model.skeleton import JOINTS, PARENTS, J, ancestor_matrix, rest_offsets

REST = ancestor_matrix() @ rest_offsets() + (0.0, 0.95, 0.0)
_SOURCES = {
    "smpl_24": "Our own joints, as SMPL names them.",
    "smpl_22": "SMPL's body joints, without the hands: AMASS, HumanML3D.",
    "h36m_17": "Human3.6M's 17 joints: VideoPose3D, MotionBERT and other lifters.",
    "coco_17": "COCO's 17 keypoints: YOLO-pose, MoveNet, RTMPose's body models.",
    "mediapipe_33": "MediaPipe Pose. Its world landmarks are x right, y down, z away: send (x, -y, -z).",
    "vrm": "The humanoid bones of VRM 1.0.",
    "body_25": "OpenPose, `--model_pose BODY_25`.",
    "halpe_26": "Halpe's body with feet: RTMPose `body26` (rtmlib's `BodyWithFeet`), AlphaPose.",
    "coco_wholebody_133": "COCO-WholeBody: RTMPose `wholebody` (rtmlib's `Wholebody`), DWPose. Face and fingers are "
    "taken and not used.",
    "kinect_25": "Kinect for Windows v2, camera space: metres, y up from the sensor, which should stand level.",
    "azure_kinect_32": "Azure Kinect Body Tracking (k4abt), and Femto Bolt: millimetres in the depth camera's axes, "
    "which should look level.",
    "freemocap_33": "FreeMoCap's `mediapipe_body_3d_xyz.npy`: MediaPipe's joints in millimetres, Z up.",
    "xsens_23": "Xsens MVN's 23 segments, each at the joint it begins with: metres, Z up.",
    "rokoko_23": "Rokoko's Newton skeleton by the joint names of its BVH; unit and axes are to be ours. A line of "
    "`hpstm source stdin` may give positions by name.",
}
_HEAD = """# Input layouts

A layout is the order of a source's joints. `Frame(layout=...)` and `"layout"` in a line of JSON name it. *Measured*:
the source has a joint that stands for ours. *Derived*: computed from several of its joints, behind each how far from
ours it then lies at most on a body of known joints. *Not given*: filled in by the model, as are missing joints (NaN,
null, confidence 0). A joint counts as missing when any joint it is computed from is.

*Numbers*: what `positions` are to be. Where a project always gives the same other unit or axes, its layout takes them
as they come.

In the pictures (from the front: left is at the right) filled dots are measured joints, rings those that others are
derived from, squares what is derived, small dots are not used. This page is written by `python -m bench.layouts docs`.

"""
_INK, _PALE, _RED = "#263238", "#b0bec5", "#c62828"


class View(NamedTuple):
    """Where a picture's pixels lie: ``scale`` of them a metre, the ground below the body at pixel ``at``."""

    scale: float
    at: tuple[float, float]

    def px(self, xyz: Floats) -> Floats:
        """(N, 2) pixels of points (N, 3) [m]."""
        turn, tip = np.radians(-24.0), np.radians(10.0)
        x = np.cos(turn) * xyz[:, 0] + np.sin(turn) * xyz[:, 2]
        z = -np.sin(turn) * xyz[:, 0] + np.cos(turn) * xyz[:, 2]
        y = np.cos(tip) * xyz[:, 1] - np.sin(tip) * z
        return np.stack([x, -y], -1) * self.scale + self.at


def main(folder: Path) -> None:
    """Writes layouts.md and layouts/NAME.svg into a folder of documents."""
    (folder / "layouts").mkdir(parents=True, exist_ok=True)
    (folder / "layouts.md").write_text(page(), encoding="utf-8")
    for name in LAYOUTS:
        (folder / "layouts" / f"{name}.svg").write_text(picture(name), encoding="utf-8")


def page() -> str:
    """The text of layouts.md."""
    rows = ["| name | numbers | measured | derived | not given |", "|---|---|--:|---|---|"]
    return _HEAD + "\n".join([*rows, *map(_row, LAYOUTS)]) + "\n" + "".join(map(_section, LAYOUTS))


def _row(name: str) -> str:
    layout, known, off_m = get_layout(name), KNOWN[name], farthest_m(name)
    derived = _both(f"{JOINTS[j]} {100 * off_m[j]:.0f} cm" for j in np.flatnonzero(layout.derived))
    gone = _both(JOINTS[j] for j in np.flatnonzero(~(layout.measured | layout.derived)))
    numbers = f"{known.units}, {'down' if known.up_axis[0] == '-' else 'up'} is {known.up_axis[-1].upper()}"
    return f"| [`{name}`](#{name}) | {numbers} | {layout.measured.sum()} | {derived} | {gone} |"


def _both(words: Iterable[str]) -> str:
    """The words, a left one standing for the right one, too."""
    return ", ".join(word.removeprefix("left_") for word in words if not word.startswith("right_"))


def farthest_m(name: str) -> Floats:
    """(24,) how far each joint that a layout gives lies from ours at most [m], over 20 s of a known body's motion."""
    from model.motion.synthetic import SyntheticActor

    actor, t_s = SyntheticActor(3), np.arange(200) / 10.0
    positions, layout = actor.positions(t_s), get_layout(name)
    seen = np.nan_to_num(landmarks(name).at(positions, actor.poses(t_s)[0]))
    worst: Floats = np.linalg.norm(layout.weights.astype(np.float64) @ seen - positions, axis=-1).max(0)
    return worst


def _section(name: str) -> str:
    layout = get_layout(name)
    lines = [f"\n## {name}\n", _SOURCES[name], f"\n![the joints of {name}](layouts/{name}.svg)\n"]
    if len(layout.joints) > 64:
        lines.append(f"{len(layout.joints)} joints; the first of each part and those that are used:\n")
    lines += ["| | joint | gives |", "|--:|---|---|"]
    shown = [i for i in range(len(layout.joints)) if len(layout.joints) <= 64 or _gives(layout, i) or i in _PARTS]
    lines += [f"| {i} | {layout.joints[i]} | {_gives(layout, i)} |" for i in shown]
    return "\n".join(lines) + "\n"


_PARTS = (0, 17, 23, 91, 112)  # where body, feet, face and hands of COCO-WholeBody begin


def _gives(layout: Layout, joint: int) -> str:
    """Which of our joints one of a source's is, or is needed for."""
    ours = np.flatnonzero(layout.weights[:, joint])
    own = [f"**{JOINTS[j]}**" for j in ours if layout.measured[j]]
    return ", ".join(own + [JOINTS[j] for j in ours if layout.derived[j]])


def picture(name: str) -> str:
    """SVG of the rest pose with a layout's joints on it."""
    layout = get_layout(name)
    seen = landmarks(name).at(REST[None], np.broadcast_to(np.eye(3), (1, J, 3, 3)))[0]
    known = [i for i in range(len(seen)) if np.isfinite(seen[i]).all()]
    head = [i for i in known if seen[i, 1] > REST[JOINTS.index("neck"), 1]]
    head = head if len(head) > 4 else []  # too near to each other: once more, larger
    whole = View(230.0, (230.0, 440.0))
    parts = [_bones(whole), _derived(layout, seen, whole), *_dots(layout, seen, known, whole)]
    parts += _numbers(seen, [i for i in known if i not in head], whole)
    if head:
        x, y = View(700.0, (0.0, 0.0)).px(seen[head]).mean(0)
        large = View(700.0, (88.0 - x, 370.0 - y))
        parts += ['<rect x="4" y="280" width="166" height="180" fill="none" stroke="#cfd8dc"/>']
        parts += _dots(layout, seen, head, large) + _numbers(seen, head, large)
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 460 470" width="460" font-family="sans-serif" '
        f'font-size="9">\n<title>{name}</title>\n<rect width="460" height="470" fill="white"/>\n'
        + "\n".join(parts) + "\n</svg>\n"
    )  # fmt: skip


def _bones(view: View) -> str:
    at = view.px(REST)
    path = "".join(f"M{at[p][0]:.1f} {at[p][1]:.1f}L{at[j][0]:.1f} {at[j][1]:.1f}" for j, p in enumerate(PARENTS) if j)
    return f'<path d="{path}" stroke="{_PALE}" stroke-width="3" fill="none" stroke-linecap="round"/>'


def _derived(layout: Layout, seen: Floats, view: View) -> str:
    """A square where each derived joint comes to lie."""
    at = view.px(layout.weights[layout.derived].astype(np.float64) @ np.nan_to_num(seen))
    path = "".join(f"M{x - 4:.1f} {y - 4:.1f}h8v8h-8z" for x, y in at)
    return f'<path d="{path}" stroke="{_RED}" fill="none"/>'


def _dots(layout: Layout, seen: Floats, which: Sequence[int], view: View) -> list[str]:
    dots = []
    for i, (x, y) in zip(which, view.px(seen[which])):
        used = layout.weights[:, i] != 0
        size, fill = (3.5, _INK) if used[layout.measured].any() else (3.5, "white") if used.any() else (2.0, _PALE)
        dots.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{size}" fill="{fill}" stroke="{_INK}"/>')
    return dots


def _numbers(seen: Floats, which: Sequence[int], view: View) -> list[str]:
    """The joints' places in the layout beside them, but for those that would cover another's."""
    texts, taken = [], [np.full(2, np.inf)]
    for i, at in zip(which, view.px(seen[which])):
        if min(np.abs((at - other) / (13.0, 9.0)).max() for other in taken) >= 1.0:
            taken.append(at)
            texts.append(f'<text x="{at[0] + 5:.1f}" y="{at[1] - 4:.1f}" fill="{_INK}">{i}</text>')
    return texts


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs"))
