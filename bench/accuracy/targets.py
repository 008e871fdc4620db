"""``hpstm bench targets``: everything that model 2 is to hold, measured and judged by one command.

Takes of real estimators (pair_bench.py), cases on parts of clips (case_bench.py), our own skeletons with the test
noises (accuracy.py) and the time of a push. The table of targets is in target_table.py.
"""

from __future__ import annotations

import json as json_text
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter
from rich.console import Console
from rich.progress import track

from bench.accuracy import accuracy, case_bench, pair_bench, tables
from bench.accuracy.case_bench import LONG_ENOUGH_S
from bench.accuracy.cases import CASES, GROUPS
from bench.accuracy.methods import FILTER
from bench.accuracy.pairs import read_pairs
from bench.accuracy.tables import Row, Sheet
from bench.accuracy.takes import load_takes
from bench.accuracy.target_table import BROKEN, TARGETS, Measured
from bench.drive import Pushing, noisy_frames
from bench.options import Json, RuntimeName, Weights
from bench.report import Percentiles, console, frozen_gc, machine, write_json
from model.prepare import ClipError
from streamer.cli import main
from streamer.errors import ConfigError
from streamer.runtimes import load_runtime
from streamer.runtimes.block import Runtime

BEFORE = Path(__file__).parents[1] / "results" / "targets_before.json"
OWN_NOISES = ("realistic", "lifted", "ar30", "hpstm")
PARTS = ("pairs", "own", "push", *GROUPS)
WARMUP, PUSHES = 300, 3000
NOTE = """Each target's worst value and where it is: that one decides. Against: % more error than the other's, in the
world (pairs: from the middle of the hips). The best tuned filter is the best of One-Euro, Kalman, Holt
and Savitzky-Golay by hindsight. Before, of the model: {before}."""


def measure(data: str, runtime: Runtime, parts: Sequence[str], bodies: int, clips: int, seconds: float) -> Row:
    """The rows of every part asked for: {"pairs", "cases", "own", "push_us"}.

    Raises:
        ConfigError: no such data. ClipError: a file cannot be read.
    """
    watch = partial(track, console=Console(stderr=True), transient=True)
    found: Row = {"pairs": [], "cases": [], "own": [], "push_us": None}
    cases = [case for case in CASES.values() if case.group in parts]
    if cases:
        people = {"test": case_bench.load_bodies(data, bodies, seconds)}
        if "stillness" in parts:
            people["still"] = case_bench.still_bodies(Path(data), bodies, seconds)
            if not people["still"]:
                print(f"{data}: nobody of split 'still' in {case_bench.MORE}: standing people are left out",
                      file=sys.stderr)  # fmt: skip
        bench = case_bench.CaseBench(runtime, people)
        found["cases"] = case_bench.run(bench, cases, partial(watch, description="cases"))
    if "own" in parts:
        takes = load_takes(data, "test", clips, 15.0)
        for noises, at_s in ((OWN_NOISES, (0.0, -0.1)), (OWN_NOISES[:1], (0.1,))):
            found["own"] += accuracy.run(watch(takes, description="own skeletons"), runtime, noises, at_s, [FILTER])
    files = _pair_files(Path(data)) if "pairs" in parts else []
    if files:
        pairs = [pair for pair in read_pairs(files) if pair.source in ("rendered", "aistpp")]
        found["pairs"] = pair_bench.run(pairs, runtime)
    if "push" in parts:
        found["push_us"] = push_us(runtime)
    return found


def _pair_files(data: Path) -> list[Path]:
    return [file for folder in ("rendered", "aistpp") for file in sorted((data / folder).glob("*.npz"))]


def push_us(runtime: Runtime) -> float:
    """p50 of a push of one actor's noisy frames [us]."""
    pushing = Pushing(runtime, noisy_frames(WARMUP + PUSHES))
    pushing.advance(WARMUP)
    pushing.forget()
    with frozen_gc():
        pushing.advance(PUSHES)
    return 1e3 * Percentiles.of_ns(pushing.push_ns).p50


def judged(found: Row, before: Row | None = None) -> list[Row]:
    """Every target, by the rows of ``measure`` and what ``kept`` has of the model to compare with."""
    old = None if before is None else Measured([], [], before["own"], before["push_us"])
    measured = Measured(found["pairs"], found["cases"], found["own"], found["push_us"], old)
    return [target.judged(measured) for target in TARGETS]


def kept(result: Row) -> Row:
    """What of a result a later model is compared with."""
    errors = [{"mpjpe_root_mm": row["all"]["mpjpe_root_mm"]} for row in result["own"]]
    own = [{key: row[key] for key in ("noise", "at_s", "method")} | {"all": error}
           for row, error in zip(result["own"], errors)]  # fmt: skip
    worst = {row["target"]: row["worst"] for row in result["targets"]}
    kept_whole = {key: result[key] for key in ("benchmark", "machine", "settings", "push_us")}
    return kept_whole | {"own": own, "worst": worst}


def comparable(before: Row, settings: Row, on: Row) -> Row:
    """An earlier result without what was measured otherwise: on other clips, on another processor."""
    same_clips = all(before["settings"][key] == settings[key] for key in ("data", "clips"))
    same_machine = before["machine"]["cpu"] == on["cpu"]
    return before | {"own": before["own"] if same_clips else [], "push_us": before["push_us"] if same_machine else None}


def sheets(result: Row) -> Iterator[tuple[Sheet, str]]:
    """The table of targets; every value that they stand on for the file."""
    rows = result["targets"]
    held, known = (sum(row["held"] in wanted for row in rows) for wanted in ((True,), (True, False)))
    title = f"{result['settings']['model']}: {held} of {known} targets held"
    earlier = result["before"]
    body = [[row["target"], *(_bounds(row, key) for key in ("must", "goal")), _value(row, earlier.get(row["target"])),
             _value(row, row["worst"]), row["where"] or "-", _word(row)] for row in rows]  # fmt: skip
    header = ["target", "must", "goal", "before", "worst", "where", ""]
    yield Sheet(title, header, body, wraps=True), NOTE.format(before=result["settings"]["before"] or "none")
    every = [[row["target"], name, "", _value(row, v)] for row in rows for name, v in row["values"].items()]
    yield Sheet("Every value", ["target", "where", "", "value"], every, detail=True), ""


def _word(row: Row) -> str:
    if row["reached"] is None:
        return "not measured"
    if row["held"] is None:
        return "goal reached" if row["reached"] else "goal not reached"
    return "not held" if not row["held"] else "held, goal reached" if row["reached"] else "held"


def _value(row: Row, value: float | None) -> str:
    if value is None or value >= BROKEN:
        return "-" if value is None else "NaN"
    return f"{value:.{row['digits']}f} {row['unit']}".strip()


def _bounds(row: Row, key: str) -> str:
    least, most = row[key]
    if most is None:
        return "-"
    return f"{f'{least:g}-' if least is not None else ''}{most:g} {row['unit']}".strip()


def compact(row: Row) -> Row:
    """A row without the scores of single takes."""
    return {key: value for key, value in row.items() if key != "takes"}


def read_before(path: Path) -> Row:
    """What an earlier run kept.

    Raises:
        ConfigError: it is none.
    """
    try:
        found: Row = json_text.loads(path.read_text(encoding="utf-8"))
        return {key: found[key] for key in ("own", "push_us", "worst", "machine", "settings")}
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(f"--before {path}: not what `hpstm bench targets --keep` writes ({error})") from error


if TYPE_CHECKING:
    Part = str
else:
    Part = Literal[PARTS]  # the choices, as the command line shows and checks them


def command(
    data: str,
    /,
    *,
    only: Annotated[tuple[Part, ...], Parameter(show_default="all of them")] = PARTS,
    bodies: int = 6,
    seconds: float = 12.0,
    clips: int = 30,
    before: Annotated[Path | None, Parameter(show_default="bench/results/targets_before.json, if there")] = None,
    keep: Path | None = None,
    runtime: RuntimeName = "auto",
    weights: Weights = None,
    json: Json = None,
    markdown: Path | None = None,
) -> int:
    """Measure and judge all that model 2 is to hold.

    Args:
        data: The folder of clips.csv, rendered/ and aistpp/, or: synthetic.
        only: Some parts.
        bodies: Parts of clips for the cases.
        seconds: Of each of them [s].
        clips: Clips of our own skeletons.
        before: What an earlier model reached, as --keep wrote it.
        keep: Write what a later model is compared with to this file.
        markdown: Write the tables to this file, too.
    """
    if min(bodies, clips) < 1 or seconds < LONG_ENOUGH_S:
        raise ConfigError(f"--bodies and --clips must be at least 1, --seconds at least {LONG_ENOUGH_S:g}")
    file = before or (BEFORE if BEFORE.is_file() else None)
    earlier = read_before(file) if file else None
    engine = load_runtime(runtime, Path(weights) if weights else None)
    try:
        found = measure(data, engine, only, bodies, clips, seconds)
    except ClipError as error:
        raise ConfigError(str(error)) from error
    about: Row = {
        "model": engine.contract.name, "weights_sha256": engine.contract.weights_sha256, "data": Path(data).name,
        "parts": list(only), "bodies": bodies, "seconds": seconds, "clips": clips,
        "before": earlier["settings"]["weights_sha256"][:12] if earlier else None,
    }  # fmt: skip
    here = machine()
    result: dict[str, Any] = {
        "benchmark": "targets", "machine": here, "settings": about,
        "targets": judged(found, comparable(earlier, about, here) if earlier else None),
        **{key: [compact(row) for row in found[key]] for key in ("pairs", "cases", "own")},
        "push_us": found["push_us"], "before": earlier["worst"] if earlier else {},
    }  # fmt: skip
    tables.show(result, console(), sheets)
    if keep:
        print(f"written: {write_json(keep, kept(result))}")
    if json:
        print(f"written: {write_json(json, result)}")
    if markdown:
        markdown.parent.mkdir(parents=True, exist_ok=True)
        markdown.write_text(tables.markdown(result, sheets), encoding="utf-8")
        print(f"written: {markdown}")
    return 0


if __name__ == "__main__":
    sys.exit(main(["bench", "targets", *sys.argv[1:]]))
