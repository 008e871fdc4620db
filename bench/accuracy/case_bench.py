"""The cases of cases.py on parts of clips: the live filter beside the input and today's filters, in the world's axes.

Where joints are hidden, its poses for the same stream with nothing hidden are scored beside, on the joints left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.accuracy.answers import Answers
from bench.accuracy.bodies import Body, body_of
from bench.accuracy.cases import CASES, RATE_HZ, Case
from bench.accuracy.methods import FILTER
from bench.accuracy.pair_bench import Row, Task, row_of, rows_of
from bench.accuracy.pair_methods import INPUT, TUNED, live_answers
from bench.accuracy.pairs import Pair
from bench.accuracy.takes import load_takes, take_of
from model.prepare import listed_clips, read_clip
from streamer.errors import ConfigError
from streamer.runtimes.block import Runtime

WHOLE = f"{FILTER}, all seen"
LONG_ENOUGH_S = 9.0
MORE = "more_clips.csv"
METHODS = {
    "definitions": (INPUT, *TUNED, FILTER),
    "whole": (INPUT, FILTER),
    "half seen": (INPUT, FILTER),
    "invented": (INPUT, FILTER),
    "rotations": (INPUT, FILTER),
    "stillness": (INPUT, "One-Euro", FILTER),
    "outliers": (INPUT, "median of 5", "One-Euro", FILTER),
    "astray": (INPUT, "median of 5", "One-Euro", FILTER),
    "fast": (INPUT, *TUNED, FILTER),
}


def load_bodies(data: str, count: int, seconds: float, split: str = "test") -> list[Body]:
    """Parts of clips of at least LONG_ENOUGH_S whose rotations are known.

    Raises:
        ConfigError: there are none. ClipError: a file cannot be read.
    """
    takes = load_takes(data, split, 4 * count, seconds, RATE_HZ)
    long_enough = [take for take in takes if len(take.t_ns) >= LONG_ENOUGH_S * RATE_HZ and take.rotations is not None]
    if not long_enough:
        raise ConfigError(f"{data}: no clip of split {split!r} of {LONG_ENOUGH_S:g} s with rotations")
    return [body_of(take) for take in long_enough[:count]]


def still_bodies(data: Path, count: int, seconds: float) -> list[Body]:
    """Parts of the clips of split "still", which MORE lists: as many as there are, none where it is missing.

    Raises:
        ClipError: a file cannot be read.
    """
    if not (data / MORE).is_file():
        return []
    rows = [row for row in listed_clips(data, MORE) if row.split == "still"]
    bodies = []
    for row in rows[:count]:
        clip = read_clip(row.path, fps=row.fps)
        take = take_of(clip.name, clip.positions, clip.fps, seconds, RATE_HZ, clip.world_rotations)
        bodies.append(body_of(take))
    return bodies


@dataclass
class CaseBench:
    """Runs cases on the same bodies; what the filter says of a stream is asked once."""

    runtime: Runtime
    bodies: Mapping[str, Sequence[Body]]  # by split
    at_s: Sequence[float] = (0.0, -0.1)
    _said: dict[tuple[str, str], dict[str, list[Answers]]] = field(default_factory=dict)

    def rows(self, case: Case) -> list[Row]:
        """As pair_bench's, "source" is the case's name; where it stands against another case, a row of that. None where
        its split has nobody."""
        pairs = [case.pair(body) for body in self.bodies.get(case.split, ())]
        if not pairs:
            return []
        methods = METHODS[case.group] if case.noise != "clean" else (INPUT, FILTER)
        task = Task(case.name, pairs, "mpjpe_world_mm", case.tuned, case.after_s)
        rows = rows_of(task, self.at_s, methods, self._live)
        if case.against is not None:
            rows += self._against(CASES[case.against], task, rows)
        return [row | {"group": case.group} for row in rows]

    def _live(self, pair: Pair, at_s: Sequence[float]) -> dict[str, list[Answers]]:
        key = (pair.source, pair.name)
        if key not in self._said:
            shown = pair.source in CASES and CASES[pair.source].group == "rotations"
            self._said[key] = live_answers(self.runtime, pair, at_s, landmarks=shown)
        return self._said[key]

    def _against(self, whole: Case, task: Task, rows: Sequence[Row]) -> list[Row]:
        """The poses for the whole stream, scored by the truth of the one that stands against it."""
        said = {body.name: self._live(whole.pair(body), self.at_s)[FILTER] for body in self.bodies[whole.split]}
        out = []
        for a, at in enumerate(self.at_s):
            truths = task.truths(at)
            takes = {name: truths[name].scores(answers[a]) for name, answers in said.items()}
            before = next(row["takes"] for row in rows if row["method"] == INPUT and row["at_s"] == at)
            out.append(row_of(task, at, WHOLE, {INPUT: ("", before), WHOLE: ("", takes)}))
        return out


def run(bench: CaseBench, cases: Iterable[Case], watch: Callable[[Iterable[Case]], Iterable[Case]] = iter) -> list[Row]:
    """The rows of some cases; ``watch`` passes them on and may show how far they are."""
    return [row for case in watch(cases) for row in bench.rows(case)]
