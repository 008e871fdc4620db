"""``hpstm bench streams``: what real sources do, case by case, with known truth; error, status, counts, a bar for each.

    case -> Stream (frames, truth) -> PoseFilter, One-Euro -> Run -> bars: held or not

To add a case: in one of FILES write a function of the Setting that returns a Stream, and add a Case with its Fault and
its bars (bars.py has most that one needs) to that file's CASES. A new Fault becomes a row of docs/faults.md, which
``--faults docs/faults.md`` writes anew. A fault of the transport is a ServerCase in transport.py.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
from cyclopts import Parameter
from rich.console import Console

from bench.options import Json, RuntimeName
from bench.report import console, machine, write_json
from bench.service.child import ServerFailed
from bench.streams import axes, bodies, broken, changes, clocks, healthy, tables, transport
from bench.streams.bars import Bar, clear_lines
from bench.streams.case import Case, ServerCase, Setting
from bench.streams.people import People, clip_people, find_data, procedural
from bench.streams.run import Run, play
from bench.streams.stream import WARM_S
from bench.streams.tables import Row, faults_page, held_word
from streamer.cli import main
from streamer.errors import ConfigError
from streamer.runtimes import load_runtime
from streamer.runtimes.block import Runtime
from streamer.server.config import ServerConfig

FILES = (healthy, broken, clocks, changes, axes, bodies, transport)
CASES: dict[str, Case | ServerCase] = {case.name: case for file in FILES for case in file.CASES}
OF_ALL = (clear_lines(),)
SECONDS, SMALL_SECONDS = 6.0, 4.0
PEOPLE = 3
PROCEDURAL, CLIPS = "procedural", "clips"
NO_DATA = (
    "no test clips, procedural motion alone (--data FOLDER of clips.csv; default: shared/data beside this project)"
)


def run(
    names: Sequence[str] = (),
    seconds: float = SECONDS,
    people: int = PEOPLE,
    data: Path | None = None,
    runtime: str = ServerConfig.runtime,
    screen: Console | None = None,
) -> dict[str, Any]:
    """Every case of those names (none: all) on procedural people, and on clips where ``data`` is given.

    Raises:
        ConfigError: no case of that name, or no clips in ``data``.
    """
    unknown = [name for name in names if name not in CASES]
    if unknown:
        raise ConfigError(f"no case {unknown[0]!r}; there are: {', '.join(CASES)}")
    engine = load_runtime(runtime, None, 1)
    motions: dict[str, People] = {PROCEDURAL: procedural}
    if data is not None:
        motions[CLIPS] = clip_people(data, people)
    rows: list[Row] = []
    started = time.monotonic()
    for case in [CASES[name] for name in names] or list(CASES.values()):
        if isinstance(case, ServerCase):
            rows.append(server_row(case, seconds))
        else:
            rows += [row_of(case, truth, motion, people, seconds, engine) for truth, motion in motions.items()
                     if truth == PROCEDURAL or not case.procedural]  # fmt: skip
        if screen is not None:
            screen.print(
                f"{case.name}: {held_word(bar for row in rows if row['case'] == case.name for bar in row['bars'])}"
            )
    return {
        "benchmark": "streams", "machine": machine(), "command": "hpstm bench streams",
        "settings": {"runtime": engine.name, "model": engine.contract.name, "seconds": seconds, "people": people},
        "notes": [] if data is not None else [NO_DATA], "took_s": time.monotonic() - started, "rows": rows,
        "held": all(row["held"] for row in rows),
    }  # fmt: skip


def row_of(case: Case, truth: str, motion: People, people: int, seconds: float, engine: Runtime) -> Row:
    """What came of a case on some people of one motion."""
    runs = []
    for seed in range(1, 1 + people):
        with TemporaryDirectory(prefix="hpstm-") as folder:
            runs.append(play(case.make(Setting(motion, seconds, Path(folder), seed)), engine))
    bars = [_measured(bar, [bar.measure(one) for one in runs]) for bar in (*case.bars, *OF_ALL)]
    statuses = Counter(str(status) for one in runs for status in one.status[one.came])
    errors = {"input_mm": "given", "one_euro_mm": "euro", "ours_mm": "ours"}
    return {
        "case": case.name, "fault": case.fault.what, "truth": truth,
        **{name: _mean([one.error_mm(getattr(one, of), WARM_S) for one in runs]) for name, of in errors.items()},
        "finite": float(np.mean([one.finite.mean() for one in runs])),
        "status": {name: n / statuses.total() for name, n in statuses.most_common()},
        "counted": dict(sum((one.counted for one in runs), Counter())),
        "words": _few_words(runs), "bars": bars, "held": _pass(bars),
    }  # fmt: skip


def server_row(case: ServerCase, seconds: float) -> Row:
    """What came of a case that a real server is needed for."""
    told, words = {}, []
    try:
        told = case.measure(seconds)
    except ServerFailed as error:  # then no bar is held
        words = [str(error)]
    bars = [_measured(bar, [bar.measure(told)]) for bar in case.bars]
    return {
        "case": case.name, "fault": case.fault.what, "truth": "server", "input_mm": None, "one_euro_mm": None,
        "ours_mm": None, "finite": told.get("finite"), "status": {}, "counted": {}, "words": words, "told": told,
        "bars": bars, "held": _pass(bars),
    }  # fmt: skip


def _measured(bar: Bar, values: list[float]) -> dict[str, Any]:
    value = bar.worst(values)
    held = all(map(bar.held, values))
    return {"text": bar.text, "wanted": bar.wanted(), "value": value, "held": held, "due": bar.due}


def _pass(bars: list[dict[str, Any]]) -> bool:
    """All are held that are not due later."""
    return all(bar["held"] or bar["due"] for bar in bars)


def _mean(values: list[float]) -> float:
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")


def _few_words(runs: list[Run], most: int = 5) -> list[str]:
    return list(dict.fromkeys(line for one in runs for line in one.words))[:most]


def command(
    *,
    case: tuple[str, ...] = (),
    seconds: float = SECONDS,
    people: int = PEOPLE,
    data: Annotated[Path | None, Parameter(show_default="shared/data, if there")] = None,
    runtime: RuntimeName = ServerConfig.runtime,
    small: bool = False,
    names: Annotated[bool, Parameter(name="--list")] = False,
    faults: Path | None = None,
    json: Json = None,
    markdown: Path | None = None,
) -> int:
    """What real sources do, case by case, with known truth: error, status, counts, and a bar for each.

    Args:
        case: Only these cases; none: all.
        seconds: How long a stream goes on after its fault [s].
        people: Of each motion.
        data: Folder of clips.csv.
        small: One procedural person, short: the size of the tests.
        names: Name the cases and what they are about.
        faults: Write the page "what happens when" to this file, and end.
        markdown: Write the table with every bar to this file.
    """
    if seconds < SMALL_SECONDS or people < 1:
        raise ConfigError(f"--seconds must be at least {SMALL_SECONDS:g}, --people at least 1")
    screen = console()
    if names or faults:
        return _list(faults, screen)
    result = run(
        case, SMALL_SECONDS if small else seconds, 1 if small else people, None if small else data or find_data(),
        runtime, screen,
    )  # fmt: skip
    tables.show(result, screen)
    if json:
        screen.print(f"written: {write_json(json, result)}")
    if markdown:
        markdown.write_text(tables.markdown(result), encoding="utf-8")
        screen.print(f"written: {markdown}")
    return 0 if result["held"] else 1


def _list(page: Path | None, screen: Console) -> int:
    if page is None:
        for case in CASES.values():
            screen.print(f"{case.name}: {case.fault.what}")
    else:
        page.write_text(faults_page(CASES.values()), encoding="utf-8")
        screen.print(f"written: {page}")
    return 0


if __name__ == "__main__":
    sys.exit(main(["bench", "streams", *sys.argv[1:]]))
