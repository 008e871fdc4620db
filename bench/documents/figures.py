"""Single figures within sentences: each a name, the part it is from, and how it is read off the result.

A figure may stand in several places and documents. Until its part was measured by `hpstm bench all`, it stays as it is
in bench/results/earlier/figures.json.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from bench.accuracy.methods import FILTER
from bench.accuracy.pairs import KNOWN
from bench.documents.accuracy_text import best, cases
from bench.documents.pair_text import held, methods, ours
from bench.documents.results import EARLIER, LACKS, Stored, folder, incomplete
from streamer.errors import ConfigError

DOCUMENTS = ("README.md", "docs/limits.md", "docs/server.md")


class Figure(NamedTuple):
    """``read`` takes the part's result."""

    part: str
    read: Callable[[Stored], str]


def _own(noise: str, at_s: float, key: str = "mpjpe_root_mm", digits: int = 1, method: str = FILTER) -> Figure:
    """A score of our own skeletons."""
    return Figure("accuracy", lambda stored: f"{cases(stored)[noise, at_s][method][key]:.{digits}f}")


def _tuned(noise: str, at_s: float) -> Figure:
    """The error of the best tuned filter."""

    def read(stored: Stored) -> str:
        found = best(cases(stored)[noise, at_s])
        return "-" if found is None else f"{found[1]['mpjpe_root_mm']:.1f}"

    return Figure("accuracy", read)


def _against_best(source: str, at_s: float) -> Figure:
    """% more error than the best tuned filter on a source of real estimators."""
    return Figure("pairs", lambda s: f"{100 * ours(methods(s, source)[at_s])['against_best'][0] - 100:+.0f} %")


def _worse(source: str, at_s: float) -> Figure:
    """Share of the takes that come out worse than they went in."""
    return Figure("pairs", lambda s: f"{100 * ours(methods(s, source)[at_s])['worse']:.0f} %")


def _lag(source: str) -> Figure:
    return Figure("pairs", lambda s: f"{ours(methods(s, source)[0.0])['scores']['lag_ms']:.0f}")


def _told(known: str) -> Figure:
    """The error where a source is told what is known; "": nothing."""
    source = f"rendered, {KNOWN[known]}" if known else "rendered"
    return Figure("told", lambda s: f"{ours(methods(s, source)[0.0])['scores']['mpjpe_root_mm']:.1f}")


def _worst(target: str, where: str = "", digits: int = 0, as_factor: bool = False) -> Figure:
    """The largest value of the one target that begins so, of those whose name holds ``where``; of % more, a factor."""

    def read(stored: Stored) -> str:
        (row,) = [row for row in stored.result["targets"] if row["target"].startswith(target)]
        value = max(value for name, value in row["values"].items() if where in name)
        return f"{1 + value / 100 if as_factor else value:.{digits}f}"

    return Figure("targets", read)


FIGURES = {
    "demo": Figure("demo", Stored.shortly),
    "streams-held": Figure("streams", lambda stored: "{} of {}".format(*held(stored))),
    "rendered-now": _against_best("rendered", 0.0),
    "rendered-late": _against_best("rendered", -0.1),
    "aistpp-now": _against_best("aistpp", 0.0),
    "aistpp-late": _against_best("aistpp", -0.1),
    "aistpp-worse-now": _worse("aistpp", 0.0),
    "aistpp-lag": _lag("aistpp"),
    "told-nothing": _told(""),
    "told-both": _told("both"),
    "realistic-now": _own("realistic", 0.0),
    "realistic-late": _own("realistic", -0.1),
    "realistic-lag": _own("realistic", 0.0, "lag_ms", 0),
    "white10-lag": _own("white10", 0.0, "lag_ms", 0),
    "white10-now": _own("white10", 0.0),
    "white10-late": _own("white10", -0.1),
    "white10-now-best": _tuned("white10", 0.0),
    "white10-late-best": _tuned("white10", -0.1),
    "lifted-sigma": _own("lifted", 0.0, "in_1_sigma", 2),
    "clean-source": _worst("clean, any definition", digits=1),
    "white-sources": _worst("10 mm white, any definition"),
    "half-seen-clean": _worst("others hidden for good, clean", digits=1),
    "half-seen-noise": _worst("others hidden for good, 10 mm", digits=1, as_factor=True),
    "invented": _worst("legs invented"),
    "outliers-late": _worst("gross outliers", "-100 ms"),
    "head-deg": _worst("head where"),
    "hands-deg": _worst("hands where"),
    "feet-deg": _worst("feet where"),
    "gaps-sigma": _worst("coordinates within", "in gaps", digits=2),
}
ELSEWHERE = ("demo", "streams")  # parts of figures of other documents than docs/limits.md
LIMITS = tuple(dict.fromkeys(figure.part for figure in FIGURES.values() if figure.part not in ELSEWHERE))
ABOUT = (
    "The figures within the sentences of this page, but for those that name another origin, are of the same results."
)


def text(root: Path, name: str, stored: Mapping[str, Stored]) -> str:
    """What is to stand in the place.

    Raises:
        ConfigError: its part was not measured, and nothing stood there before.
    """
    figure = FIGURES[name]
    if figure.part in stored:
        try:
            return figure.read(stored[figure.part])
        except LACKS as error:
            raise incomplete(name, [figure.part], error) from error
    known = before(root)
    if name not in known:
        raise ConfigError(f"figure {name}: measure it with `hpstm bench all --only {figure.part}`")
    return known[name]


def before(root: Path) -> dict[str, str]:
    """The figures as they stood before their parts were measured."""
    path = _kept(root)
    found: dict[str, str] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return found


def forget_before(root: Path, stored: Mapping[str, Stored]) -> None:
    """Removes those that are measured by now."""
    left = {name: said for name, said in before(root).items() if FIGURES[name].part not in stored}
    if left:
        _kept(root).write_text(json.dumps(left, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    else:
        _kept(root).unlink(missing_ok=True)


def _kept(root: Path) -> Path:
    return folder(root) / EARLIER / "figures.json"
