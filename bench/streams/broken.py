"""Bodies that are none: frames whose joints coincide, degenerate skeletons, missing joints sent as zeros."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from bench.streams.bars import (
    as_twin,
    counted,
    error,
    finite,
    same_skeleton,
    silence,
    status,
    worst_error,
)
from bench.streams.case import Case, Fault, Setting
from bench.streams.stream import ACTOR, WARM_S, Stream, seen
from bench.track import Floats
from model.skeleton import INDEX

COLLAPSED = Fault(
    "A frame shows no body: all joints zero, at one point or on one line, or the torso collapsed",
    "No pose for that frame; the actor coasts, nothing moves",
    "that frame",
)
FORKS = Fault(
    "A skeleton whose collars start where the neck starts, or whose hips lie at the pelvis",
    "Poses as of any other skeleton",
    "-",
)
ZEROS = Fault("Single missing joints are sent as exactly (0, 0, 0)", "As if they were NaN: filled in by the model",
              "while they are missing")  # fmt: skip

TRUNK = [INDEX[name] for name in ("pelvis", "left_hip", "right_hip", "spine1", "spine2", "spine3", "neck",
                                  "left_collar", "right_collar")]  # fmt: skip
ZEROS_REAL = Fault("A joint is at exactly (0, 0, 0), and the layout says that zeros are real", "It is there", "-")

SHOULDERS = [INDEX["left_shoulder"], INDEX["right_shoulder"]]
EARLY_S = 2.0  # before the bones are measured
LATE_S = WARM_S
BAD_FRAMES = 3
TOML = 'joints = [{names}]\n\n[map]\npelvis = "hips"\n'

Shape = Callable[[Floats], Floats]  # (n, J, 3) of a body -> of none


def _all_zero(body: Floats) -> Floats:
    return np.zeros_like(body)


def _at_one_point(body: Floats) -> Floats:
    return np.broadcast_to(np.nanmean(body, axis=1, keepdims=True), body.shape)


def _on_one_line(body: Floats) -> Floats:
    flat = body.copy()
    flat[..., [0, 2]] = np.nanmean(body[..., [0, 2]], axis=1, keepdims=True)
    return flat


def _together(joints: Sequence[int]) -> Shape:
    """These joints where the pelvis is, which stands first in each of the layouts."""

    def shape(body: Floats) -> Floats:
        shrunk = body.copy()
        shrunk[:, joints] = body[:, :1]
        return shrunk

    return shape


NO_BODY: dict[str, Shape] = {
    "zeros": _all_zero, "point": _at_one_point, "line": _on_one_line, "torso": _together([*TRUNK, *SHOULDERS]),
    "trunk": _together(TRUNK),
}  # fmt: skip
NEVER_BROKEN = (finite(), counted("collapsed", least=1), silence(0.2))


def _broken_at(shape: Shape, at_s: float, layout: str = "smpl_24") -> Callable[[Setting], Stream]:
    """Some frames without a body from ``at_s`` on; the truth goes on meanwhile."""

    def make(setting: Setting) -> Stream:
        good = _of_toml(setting.stream(), _toml(setting)) if layout == "toml" else setting.stream(layout=layout)
        first = good.index(at_s)
        where = slice(first, first + BAD_FRAMES)
        without = np.zeros(len(good), np.bool_)
        without[where] = True
        bad = good.showing(where, shape)
        return replace(bad, twin=good.without(without))

    return make


def _toml(setting: Setting) -> str:
    path = setting.folder / "rig.toml"
    names = ", ".join(f'"{"hips" if name == "pelvis" else name}"' for name in list(INDEX)[:22])
    path.write_text(TOML.format(names=names), encoding="utf-8")
    return str(path)


def _of_toml(stream: Stream, layout: str) -> Stream:
    """The first 22 joints, named by that file."""
    frames = [replace(frame, positions=frame.positions[:22], layout=layout) for frame in stream.frames]
    return replace(stream, frames=frames, shown=stream.shown & (np.arange(24) < 22))


def _collapsed_cases() -> list[Case]:
    early = [*NEVER_BROKEN, error(20.0, WARM_S)]
    late = [*NEVER_BROKEN, same_skeleton(LATE_S), as_twin(10.0, LATE_S), worst_error(30.0, LATE_S)]
    cases = [Case("zeros-first", COLLAPSED, _broken_at(_all_zero, 0.0), early)]
    for name, shape in NO_BODY.items():
        cases.append(Case(f"{name}-early", COLLAPSED, _broken_at(shape, EARLY_S), early))
        cases.append(Case(f"{name}-late", COLLAPSED, _broken_at(shape, LATE_S), late))
    layouts = ("smpl_22", "vrm", "toml")
    return cases + [Case(f"zeros-{name}", COLLAPSED, _broken_at(_all_zero, EARLY_S, name), early) for name in layouts]


def _without_collars(offsets_m: Floats) -> Floats:
    """Collars that start where the neck starts; shoulders as far from the middle as they were, and straight out."""
    out = offsets_m.copy()
    for side in ("left", "right"):
        collar, shoulder = INDEX[f"{side}_collar"], INDEX[f"{side}_shoulder"]
        out[shoulder] = (out[collar] + out[shoulder]) * (1.0, 0.0, 0.0)
        out[collar] = out[INDEX["neck"]]
    return out


def _without_hips(offsets_m: Floats) -> Floats:
    """Hips that lie at the pelvis."""
    out = offsets_m.copy()
    out[[INDEX["left_hip"], INDEX["right_hip"]]] = 0.0
    return out


BONES = {"collars-at-neck": _without_collars, "hips-at-pelvis": _without_hips}


def _on_bones(bones: Callable[[Floats], Floats], noise_mm: float, known: bool) -> Callable[[Setting], Stream]:
    def make(setting: Setting) -> Stream:
        person = setting.person()
        person = person.with_bones(bones(person.offsets_m))
        stream = seen(person, setting.times, noise_mm, seed=setting.seed)
        offsets = person.offsets_m.astype(np.float32)
        return replace(stream, tell=lambda f: f.set_skeleton(ACTOR, offsets)) if known else stream

    return make


def _fork_cases() -> list[Case]:
    cases = []
    for name, bones in BONES.items():
        exact = [finite(), silence(0.1), error(2.0, WARM_S)]
        cases.append(Case(name, FORKS, _on_bones(bones, 0.0, known=False), exact))
        cases.append(Case(f"{name}-1um", FORKS, _on_bones(bones, 1e-3, known=False), exact))
        cases.append(Case(f"{name}-set", FORKS, _on_bones(bones, 0.0, known=True),
                          [*exact, status("tracking", 1.0)]))  # fmt: skip
    return cases


def _zero_joints(setting: Setting) -> Stream:
    """One joint at a time, in turn, is missing for a third of a second; all but those of the torso."""
    good = setting.stream(noise_mm=10.0)
    limbs = [joint for joint in INDEX.values() if joint not in TRUNK]
    lost = np.zeros((len(good), len(INDEX)), np.bool_)
    for n in range(len(good)):
        lost[n, limbs[n // 10 % len(limbs)]] = True
    told = []
    for value in (0.0, np.nan):
        positions = np.where(lost[..., None], value, np.stack([frame.positions for frame in good.frames]))
        told.append(replace(good.showing(slice(None), positions, shown=True), shown=good.shown & ~lost))
    return replace(told[0], twin=told[1])


def _zeros_real(setting: Setting) -> Stream:
    """A source whose origin is the left wrist, and whose layout says that zeros are real; errors are of that wrist."""
    path = setting.folder / "wrist.toml"
    path.write_text("zeros_are_real = true\njoints = [" + ", ".join(f'"{name}"' for name in INDEX) + "]\n")
    good = setting.stream()
    wrist = INDEX["left_wrist"]
    about = good.showing(slice(None), lambda body: body - body[:, [wrist]], shown=True).told(layout=str(path))
    shown = np.zeros_like(good.shown)
    shown[:, wrist] = True
    return replace(about, truth=good.truth - good.truth[:, [wrist]], shown=shown)


CASES = (
    *_collapsed_cases(),
    *_fork_cases(),
    Case("zero-joints", ZEROS, _zero_joints, [finite(), silence(0.1), as_twin(0.1)]),
    Case("zeros-real", ZEROS_REAL, _zeros_real, [finite(), silence(0.1), error(5.0, WARM_S)]),
)
