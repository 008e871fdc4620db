"""``hpstm bench all``: measures every part (parts.py), and writes its tables and pictures into the documents.

Each result is kept in bench/results as soon as it is there, and the documents are written anew from what is kept: so a
run that was interrupted goes on with --skip-done, and --render writes without measuring anything.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter
from rich.console import Console

from bench.documents import blocks, results
from bench.documents.parts import NAMES, PARTS
from bench.documents.results import ROOT, Stored
from bench.documents.running import PartFailed, Workplace, measure
from bench.report import console, machine
from bench.streams.people import find_data
from model.layouts import LAYOUTS
from streamer.cli import main
from streamer.errors import ConfigError

WORK = Path("runs") / "bench"  # of the checkout; git ignores it
QUIET = 0.7  # load of a machine that does nothing else
ONE_RUN_H = 12.0  # what is older is not of the run that --skip-done goes on with


if TYPE_CHECKING:
    Name = str
else:
    Name = Literal[NAMES]  # the choices, as the command line shows and checks them


def command(
    data: Annotated[Path | None, Parameter(show_default="shared/data, if there")] = None,
    /,
    *,
    only: Annotated[tuple[Name, ...], Parameter(consume_multiple=True, show_default="all of them")] = (),
    skip_done: bool = False,
    render: bool = False,
    names: Annotated[bool, Parameter(name="--list")] = False,
    trial: bool = False,
    work: Annotated[Path | None, Parameter(show_default="runs/bench of the checkout")] = None,
    root: Annotated[Path, Parameter(show_default="the checkout that this runs from")] = ROOT,
) -> int:
    """Measure all that the documents say, and write it into them; half an hour, on a machine that does nothing else.

    Args:
        data: Folder of clips.csv, rendered/, aistpp/, mediapipe/.
        only: These parts.
        skip_done: Go on: leave out what was measured here within twelve hours.
        render: Measure nothing: write the documents from what is kept.
        names: Say what there is, what it takes and when it was measured.
        trial: Measure next to nothing, to try it; into a copy alone.
        work: Folder for packed motion, logs and whole results.
        root: Checkout whose documents are written.
    """
    root = root.resolve()
    weights = _check(root, trial)
    stored = results.read_all(root, NAMES)
    screen = console()
    if names:
        return _list(stored, weights, screen)
    folder = data or find_data()
    place = Workplace(root, (work or root / WORK).resolve(), folder.resolve() if folder else None)
    if not render and (load := machine()["load_1min"] or 0.0) > QUIET:
        screen.print(f"load {load:.1f}: something else runs here; what is said of times will be that of a busy machine")
    chosen = [part for part in PARTS if part.name in only or not (only or part.asked)]
    failed = []
    for part in [] if render else chosen:
        if skip_done and _is_done(stored.get(part.name), weights):
            screen.print(f"{part.name}: done")
            continue
        screen.print(f"{part.name}: some {part.minutes:g} minutes; {part.command(trial)}", soft_wrap=True, markup=False)
        try:
            stored[part.name] = measure(part, place, trial)
        except PartFailed as error:
            failed.append(part.name)
            screen.print(f"{part.name}: no result: {error}", soft_wrap=True, markup=False)
            continue
        _say(stored[part.name], screen)
        results.write(root, stored[part.name])
        try:
            write_documents(root)
        except ConfigError as error:  # said at the end, too: the other parts are measured all the same
            screen.print(str(error), soft_wrap=True, markup=False)
    for path in [*write_documents(root), *write_pages(root)]:
        screen.print(f"written: {path}")
    if failed:
        screen.print(f"no result: {', '.join(failed)}; again with --only {' '.join(failed)}; logs in {place.work}")
    return 1 if failed else 0


def _check(root: Path, trial: bool) -> str:
    """The SHA-256 of the present weights. Raises ConfigError."""
    if not (root / "docs").is_dir():
        raise ConfigError(f"--root {root}: no docs/ there; this writes into a checkout of the repository")
    if trial and root == ROOT:
        raise ConfigError("--trial: its numbers say nothing; give --root, a copy of the checkout")
    return results.present_weights(root)


def write_documents(root: Path) -> list[Path]:
    """Writes every document that is to be another; returns these. Raises ConfigError."""
    stored, weights = results.read_all(root, NAMES), results.present_weights(root)
    texts = {root / name: blocks.written(root, name, stored, weights) for name in blocks.DOCUMENTS}
    if missing := blocks.missing_places(root):
        raise ConfigError(f"not marked, or more than once: {', '.join(missing)}")
    changed = _written(texts)
    blocks.forget_earlier(root, stored)
    return changed


def write_pages(root: Path) -> list[Path]:
    """The same for what is made of the code, without measuring: docs/faults.md, docs/layouts.md and its drawings."""
    from bench import layouts
    from bench.streams.streams import CASES
    from bench.streams.tables import faults_page

    docs = root / "docs"
    drawings = {docs / "layouts" / f"{name}.svg": layouts.picture(name) for name in LAYOUTS}
    pages = {docs / "faults.md": faults_page(CASES.values()), docs / "layouts.md": layouts.page()}
    return _written(pages | drawings)


def _written(texts: dict[Path, str]) -> list[Path]:
    """Those that were another before."""
    changed = [path for path, text in texts.items() if not path.is_file() or path.read_text(encoding="utf-8") != text]
    for path in changed:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(texts[path], encoding="utf-8")
    return changed


def _is_done(one: Stored | None, weights: str) -> bool:
    return (
        one is not None and one.weights == weights and results.age_hours(one) < ONE_RUN_H
        and one.result["machine"]["cpu"] == machine()["cpu"]
    )  # fmt: skip


def _say(one: Stored, screen: Console) -> None:
    screen.print(f"{one.part}: {one.took_s / 60:.1f} minutes")
    for name, why in one.left_out.items():
        screen.print(f"{one.part}: {name}: {why}")
    if one.result.get("exit_code"):
        screen.print(f"{one.part}: not everything holds; see the log")


def _list(stored: dict[str, Stored], weights: str, screen: Console) -> int:
    for part in PARTS:
        asked = "; only when it is named" if part.asked else ""
        line = f"{part.name}: {part.minutes:g} min; {_when(stored.get(part.name), weights)}{asked}"
        screen.print(f"{line}\n    {part.command()}", soft_wrap=True, markup=False)
    minutes = sum(part.minutes for part in PARTS if not part.asked)
    screen.print(f"all: {minutes:.0f} min on two cores of an AMD EPYC, and some more to pack DATA for the first time")
    return 0


def _when(one: Stored | None, weights: str) -> str:
    if one is None:
        return "not measured"
    others = "" if one.weights == weights else ", other weights"
    return f"{one.measured.date().isoformat()}, in {one.took_s / 60:.1f}{others}"


if __name__ == "__main__":
    sys.exit(main(["bench", "all", *sys.argv[1:]]))
