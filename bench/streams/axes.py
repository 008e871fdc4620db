"""Axes, hands and sizes: mirrored, upside down, in other units; and layout files that say so, or make no sense."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from bench.streams.bars import Bar, as_twin, counted, error, finite, poses, says, silence, turned
from bench.streams.case import Case, Fault, Setting
from bench.streams.stream import WARM_S, Stream
from bench.track import Floats
from model.skeleton import JOINTS

SAID = "said once, while it is so"

MIRRORED = Fault(
    "Left and right are swapped (a left-handed source, a mirrored picture)",
    "Poses of it as it is, and a warning in words",
    SAID,
)
DOWN = Fault("The picture's down is sent as up", "Poses of it as it is, and a warning in words", SAID)
SCALE = Fault(
    "Feet, decimetres, or a body of a hundredth of its size",
    "A warning in words, with the size it would be in metres",
    SAID,
)
TOLD = Fault(
    "A layout says that the source is mirrored, or that its axis points down", "Poses as of any other source", "-"
)
BAD_LAYOUT = Fault(
    "A layout file with nan or inf as a weight, or with a million joints", "No pose; the file is named", "-"
)

MIRROR = np.array([-1.0, 1.0, 1.0])
UPSIDE_DOWN = np.array([1.0, -1.0, -1.0])  # y down, z away: MediaPipe's axes
FOOT_M = 0.3048


def _times(factor: float | Floats) -> Callable[[Setting], Stream]:
    """All coordinates times something: nothing that is shown is where it should be."""

    def make(setting: Setting) -> Stream:
        return setting.stream().showing(slice(None), lambda body: body * factor)

    return make


def _of_layout(key: str, factor: Floats) -> Callable[[Setting], Stream]:
    """The same with a layout that says so."""

    def make(setting: Setting) -> Stream:
        path = setting.folder / "rig.toml"
        path.write_text(f"joints = [{_quoted(JOINTS)}]\n{key}\n", encoding="utf-8")
        good = setting.stream()
        told = good.showing(slice(None), lambda body: body * factor, shown=True).told(layout=str(path))
        return replace(told, twin=good)

    return make


def _quoted(names: tuple[str, ...]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def _of_file(text: Callable[[], str]) -> Callable[[Setting], Stream]:
    """A layout file that cannot be used."""

    def make(setting: Setting) -> Stream:
        path = setting.folder / "bad.toml"
        path.write_text(text(), encoding="utf-8")
        stream = setting.stream()
        stream = stream.at(slice(0, 3))  # one would do: it is refused at the first
        return replace(stream, frames=[replace(f, layout=str(path)) for f in stream.frames])

    return make


def _weights(number: str) -> Callable[[], str]:
    def text() -> str:
        return f"joints = [{_quoted(JOINTS)}]\n[map]\nspine2 = {{ spine1 = {number}, spine3 = 1.0 }}\n"

    return text


def _million() -> str:
    return "joints = [" + ", ".join(f'"j{n}"' for n in range(1_000_000)) + ']\n[map]\npelvis = "j0"\n'


REFUSED: list[Bar] = [poses(0), counted("layout"), says("bad.toml")]
EXACT: list[Bar] = [finite(), silence(0.1), error(2.0, WARM_S), as_twin(0.1), turned(1.0)]

CASES = (
    Case("mirrored", MIRRORED, _times(MIRROR), [finite(), counted("mirrored"), says("left and right look swapped")]),
    # On procedural motion alone: who swims, as one of the clips does, looks no different then.
    Case("upside-down", DOWN, _times(UPSIDE_DOWN), [finite(), counted("upside_down"), says("looks upside down")], True),
    Case("feet", SCALE, _times(1 / FOOT_M), [finite(), counted("scale"), says("scale")]),
    Case("decimetres", SCALE, _times(10.0), [finite(), counted("scale"), says("scale")]),
    Case("hundredths", SCALE, _times(0.01), [finite(), counted("scale"), says("scale")]),
    Case("layout-mirror", TOLD, _of_layout("mirror = true", MIRROR), EXACT),
    Case("layout-down", TOLD, _of_layout('up_axis = "-y"', UPSIDE_DOWN), EXACT),
    Case("layout-nan", BAD_LAYOUT, _of_file(_weights("nan")), REFUSED, procedural=True),
    Case("layout-inf", BAD_LAYOUT, _of_file(_weights("inf")), REFUSED, procedural=True),
    Case("layout-million", BAD_LAYOUT, _of_file(_million), REFUSED, procedural=True),
)
