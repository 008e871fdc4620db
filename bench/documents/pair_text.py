"""What real estimators with truth, the targets and the streams say, as places of the documents."""

from __future__ import annotations

from collections.abc import Mapping

from bench.accuracy.methods import FILTER
from bench.accuracy.pair_bench import BEST
from bench.accuracy.pair_methods import INPUT, REFINED
from bench.accuracy.pairs import KNOWN
from bench.documents.cells import Row, bold, errors, table, when
from bench.documents.results import Stored

SOURCES = {"rendered": "MediaPipe, rendered people, {n} held-out takes, 30 Hz",
           "aistpp": "street dance, two to four cameras, {n} takes, 60 Hz"}  # fmt: skip
PEERS = {"SmoothNet": "SmoothNet", "offline model": "offline*"}
Parts = Mapping[str, Stored]
Methods = dict[str, Row]


def methods(stored: Stored, source: str) -> dict[float, Methods]:
    """The rows of a source, by time and method."""
    found: dict[float, Methods] = {}
    for row in stored.result["rows"]:
        if row["source"] == source:
            found.setdefault(row["at_s"], {})[row["method"]] = row
    return found


def ours(rows: Methods) -> Row:
    """HPSTM Live in the source's joints."""
    return rows.get(REFINED) or rows[FILTER]


def pairs(parts: Parts) -> str:
    stored = parts["pairs"]
    rows = []
    for source, name in SOURCES.items():
        for n, (at, said) in enumerate(methods(stored, source).items()):
            parts_moved = ", ".join(f"{row['scores']['moves_mm']:.1f}" for row in (said[INPUT], said[BEST], ours(said)))
            rows.append([
                "" if n else name.format(n=stored.result["settings"]["takes"][source]), when(at), _error(said, INPUT),
                f"{_error(said, BEST)} ({said[BEST]['settings'].partition(',')[0]})",
                *(_peer(stored, said, peer) for peer in PEERS), _error(said, FILTER),
                bold(errors(ours(said)["scores"])), parts_moved, f"{100 * ours(said)['worse']:.0f} %",
            ])  # fmt: skip
    head = ["source", "pose for", "input", "best tuned filter", *PEERS.values(), f"**{FILTER}**, on its skeleton",
            "**`source`**", "moves: input, filter, `source`", "worse"]  # fmt: skip
    missing = [f"{name}: {why}." for name, why in stored.left_out.items()]
    return "\n\n".join([table(head, rows, 2), *missing])


def told(parts: Parts) -> str:
    """What it brings that a source is told the person's height and the camera's pitch."""
    stored, before = parts["told"], 0.0
    rows = []
    for source in ("rendered", *(f"rendered, {known}" for known in KNOWN.values())):
        for said in methods(stored, source).values():  # one time
            scores = ours(said)["scores"]
            before = before or scores["mpjpe_root_mm"]
            rows.append([
                source.partition(", ")[2] or "nothing known", _error(said, INPUT), _error(said, BEST),
                _error(said, FILTER), bold(errors(scores)), f"{100 * scores['mpjpe_root_mm'] / before - 100:+.0f} %",
            ])  # fmt: skip
    head = ["", "input", "best tuned filter", f"**{FILTER}**, on its skeleton", "**`source`**", "against nothing known"]
    return table(head, rows)


def _error(said: Methods, method: str) -> str:
    return errors(said[method]["scores"])


def _peer(stored: Stored, said: Methods, peer: str) -> str:
    if peer in stored.left_out:
        return "no weights"
    return _error(said, peer) if peer in said else "not measured"


def card(parts: Parts) -> str:
    """The same for the model card."""
    stored = parts["pairs"]
    rows = [["" if n else name.format(n=stored.result["settings"]["takes"][source]), when(at), _error(said, INPUT),
             _error(said, BEST), errors(ours(said)["scores"]), f"{100 * ours(said)['worse']:.0f} %"]
            for source, name in SOURCES.items()
            for n, (at, said) in enumerate(methods(stored, source).items())]  # fmt: skip
    return table(["source", "pose for", "input", "best tuned filter", "this model", "worse"], rows, 2)


def targets(parts: Parts) -> str:
    """How many are held, and the worst value of each."""
    from bench.accuracy.targets import sheets

    sheet, _ = next(sheets(parts["targets"].result))
    rows = [[row[0], row[1], row[2], row[4], row[5], row[6]] for row in sheet.rows]
    return f"{sheet.title.partition(': ')[2]}.\n\n" + table(
        ["target", "must", "goal", "worst", "where", ""], rows, words=("where", "")
    )


def held(stored: Stored) -> tuple[int, int]:
    """How many bars of the streams are held, and how many there are."""
    bars = [bar["held"] for row in stored.result["rows"] for bar in row["bars"]]
    return sum(bars), len(bars)


def streams(parts: Parts) -> str:
    """How many bars are held, and those that are not."""
    from bench.streams.tables import held_word

    result = parts["streams"].result
    missed = [(row, bar) for row in result["rows"] for bar in row["bars"] if not bar["held"]]
    cases = len({row["case"] for row in result["rows"]})
    said = "{} of {} bars".format(*held(parts["streams"])) + f" of {cases} cases are held"
    if not missed:
        return f"{said}."
    rows = [[f"`{row['case']}`, {row['truth']}", bar["wanted"], f"{bar['value']:.3g}", held_word([bar])]
            for row, bar in missed]  # fmt: skip
    return f"{said}; those that are not:\n\n" + table(["case", "bar", "is", ""], rows, 2, words=("",))
