"""The demo as one moving picture: noisy beside refined, the truth in grey behind both, in real time and endlessly.

An SVG that moves by itself (SMIL): it plays in any browser and on a page that shows it as an image, and is sharp
at every size. No library draws it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from bench.noise import Event
from bench.track import Aligned, Floats, Scores
from model.skeleton import INDEX, PARENTS

FPS = 30
LONGEST_S = 9.0  # what is shown of a run, after the bones were measured
TRAIL = FPS // 2  # frames that a hand leaves behind
WIDTH, HEIGHT, METRE = 960, 500, 215.0  # pixels
CENTRES, GROUND = (260, 700), 415  # where the bodies stand
NOISY, REFINED, TRUE, INK = "#e07b39", "#1565c0", "#c3ccd1", "#263238"
TURN = np.radians(55.0)  # from the side, where the depth error shows
VIEW = np.array([[np.cos(TURN), 0.0, -np.sin(TURN)], [0.0, -1.0, 0.0]]) * METRE
CHAINS = tuple(
    tuple(INDEX[name] for name in names.split())
    for names in (
        "pelvis spine1 spine2 spine3 neck head",
        "pelvis left_hip left_knee left_ankle left_foot",
        "pelvis right_hip right_knee right_ankle right_foot",
        "spine3 left_collar left_shoulder left_elbow left_wrist left_hand",
        "spine3 right_collar right_shoulder right_elbow right_wrist right_hand",
    )
)
assert sum(len(chain) - 1 for chain in CHAINS) == len(PARENTS) - 1
_STYLE = f"""<style>
text {{ font: 15px system-ui, sans-serif; fill: {INK} }} .name {{ font-weight: 600; font-size: 19px }}
path {{ fill: none; stroke-linecap: round; stroke-linejoin: round }}
</style>"""


class Panel(NamedTuple):
    """One body of the picture: its joints and the truth (T, 24, 3) [m], seen from the true pelvis, and its words."""

    joints: Floats
    truth: Floats
    colour: str
    name: str
    figures: str


def demo_animation(path: Path, rows: Aligned, scores: Scores, events: Sequence[Event]) -> Path:
    """Writes the animation of a run as SVG and returns its path."""
    chosen, start_s = _moments(rows)
    seconds = len(chosen) / FPS
    panels = (
        Panel(
            *_around_pelvis(rows.noisy[chosen], rows.truth_in[chosen]), NOISY, "noisy input",
            _figures(scores.error_in, scores.jitter_in, scores.bones_in),
        ),
        Panel(
            *_around_pelvis(rows.refined[chosen], rows.truth_out[chosen]), REFINED, "refined",
            _figures(scores.error_out, scores.jitter_out, scores.bones_out),
        ),
    )  # fmt: skip
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        'role="img">',
        "<title>A noisy skeleton and the refined one, with the true one behind both</title>",
        _STYLE,
        f'<rect width="{WIDTH}" height="{HEIGHT}" rx="12" fill="#fbfcfc"/>',
        *(_panel(panel, centre, seconds) for panel, centre in zip(panels, CENTRES, strict=True)),
        *(_event(event, start_s, seconds) for event in events),
        f'<text x="{WIDTH / 2}" y="{HEIGHT - 14}" text-anchor="middle" style="font-size:13px;fill:#78909c">'
        "hpstm demo, through the real server, in real time · grey: the truth"
        "</text>",
        "</svg>",
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(parts) + "\n", encoding="utf-8")
    return path


def _moments(rows: Aligned) -> tuple[npt.NDArray[np.intp], float]:
    """The rows to show, FPS a second, and the time of the first [s]. A moment without a row is the row before."""
    t_s = rows.t_in_ns * 1e-9
    calibrated = np.flatnonzero(rows.calibrated)
    last = t_s[-1]
    first = max(t_s[calibrated[0]] if len(calibrated) else t_s[0], t_s[0])
    if last - first < 1.0:  # a run that ended before the bones were measured: all of it
        first = t_s[0]
    first = max(first, last - LONGEST_S)
    count = max(2, int((last - first) * FPS))
    times = first + np.arange(count) / FPS
    return np.searchsorted(t_s, times, side="right").clip(1) - 1, float(first)


def _around_pelvis(joints: Floats, truth: Floats) -> tuple[Floats, Floats]:
    """Both as seen by a camera that goes along with the true pelvis; the ground stays where it is."""
    here = truth[:, :1] * (1.0, 0.0, 1.0)
    return joints - here, truth - here


def _figures(error_mm: float, jitter_mm: float, bones_mm: float) -> str:
    return f"error {error_mm:.0f} mm · jitter {jitter_mm:.1f} mm/frame² · bones change by {bones_mm:.1f} mm"


def _panel(panel: Panel, centre: int, seconds: float) -> str:
    """A body on its ground, with the way of its hands, its name and its figures."""
    points, true = panel.joints @ VIEW.T, panel.truth @ VIEW.T  # (T, 24, 2) pixels from the place it stands
    hands = [_trail(points[:, INDEX[f"{side}_wrist"]]) for side in ("left", "right")]
    return "\n".join(
        [
            f'<ellipse cx="{centre}" cy="{GROUND + 4}" rx="150" ry="13" fill="#eceff1"/>',
            f'<g transform="translate({centre} {GROUND})">',
            *_body(true, seconds, TRUE, 9.0),
            *(_moving(hand, seconds, panel.colour, 1.6, 'stroke-opacity="0.55"') for hand in hands),
            *_body(points, seconds, panel.colour, 4.5),
            "</g>",
            f'<text class="name" x="{centre}" y="36" text-anchor="middle" fill="{panel.colour}" '
            f'style="fill:{panel.colour}">{panel.name}</text>',
            f'<text x="{centre}" y="59" text-anchor="middle" style="font-size:13px">{panel.figures}</text>',
        ]
    )


def _body(points: Floats, seconds: float, colour: str, width: float) -> Iterator[str]:
    """Bones, and a dot for the head: a line of no length with round ends."""
    yield _moving([_skeleton(body) for body in points], seconds, colour, width)
    heads = points[:, [INDEX["head"], INDEX["head"]]]
    yield _moving([_line(head) for head in heads], seconds, colour, 5 * width**0.75)


def _skeleton(points: Floats) -> str:
    return "".join(_line(points[list(chain)]) for chain in CHAINS)


def _trail(hand: Floats) -> list[str]:
    """The last half second of the way of a hand (T, 2), for each moment."""
    return [_line(hand[max(0, k - TRAIL) : k + 1]) for k in range(len(hand))]


def _line(points: Floats) -> str:
    """Path data of a line that breaks where a point is missing; a tenth of a pixel is no difference to see."""
    out, pen_down = "", False
    for x, y in points:
        if np.isnan(x):
            pen_down = False
            continue
        out += f"{'L' if pen_down else 'M'}{x:.0f} {y:.0f}"
        pen_down = True
    return out


def _moving(shapes: Sequence[str], seconds: float, colour: str, width: float, more: str = "") -> str:
    """A path that takes one shape after the other; one of nothing would be an error, so it is a point far away."""
    values = ";".join(shape or "M-999 0" for shape in shapes)
    return (
        f'<path stroke="{colour}" stroke-width="{width:g}" {more} d="{shapes[0] or "M-999 0"}">'
        f'<animate attributeName="d" calcMode="discrete" dur="{seconds:.3f}s" repeatCount="indefinite" '
        f'values="{values}"/></path>'
    )


def _event(event: Event, start_s: float, seconds: float) -> str:
    """What happens to the input, said below it while it does."""
    begin, end = ((t - start_s) / seconds for t in (event.start_s, event.end_s + 0.4))  # time to read it
    if not 0 < begin < end < 1:
        return ""
    what = "lost" if event.offset_m is None else "misplaced"
    return (
        f'<text x="{CENTRES[0]}" y="{GROUND + 42}" text-anchor="middle" style="fill:{NOISY};font-weight:600" '
        f'visibility="hidden">{event.limb} {what}<animate attributeName="visibility" calcMode="discrete" '
        f'dur="{seconds:.3f}s" repeatCount="indefinite" keyTimes="0;{begin:.4f};{end:.4f}" '
        'values="hidden;visible;hidden"/></text>'
    )
