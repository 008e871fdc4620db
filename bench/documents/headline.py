"""The table of README.md: a few figures, each from the result that its own table is written from."""

from __future__ import annotations

from collections.abc import Mapping

from bench.accuracy.methods import FILTER
from bench.accuracy.pair_bench import BEST
from bench.accuracy.pair_methods import INPUT
from bench.accuracy.pairs import KNOWN
from bench.documents.accuracy_text import best, cases
from bench.documents.cells import Row, bold, table
from bench.documents.pair_text import methods, ours
from bench.documents.results import Stored
from bench.documents.speed_text import OURS, most_actors

Parts = Mapping[str, Stored]
HEAD = ("what", "input", "best tuned filter", "HPSTM Live", "command")


def headline(parts: Parts) -> str:
    pairs, own = parts["pairs"], cases(parts["accuracy"])
    takes = pairs.result["settings"]["takes"]
    rows = [
        _pair(f"MediaPipe on rendered people, {takes['rendered']} held-out takes", methods(pairs, "rendered")[0.0]),
        _pair("the same, the person's height and the camera's pitch told", _told(parts["told"])),
        _pair("fast dance, triangulated from real detections", methods(pairs, "aistpp")[0.0]),
        _pair("the same, with 0.1 s of delay", methods(pairs, "aistpp")[-0.1]),
        _own("an estimator's noise, people never trained on", own["realistic", 0.0]),
        _own("10 mm of white noise", own["white10", 0.0]),
        ["clean input: how far it comes out", "0", "", _mm(own["clean", 0.0][FILTER]), "`hpstm evaluate`"],
        *_speed(parts),
    ]
    return table(HEAD, rows, words=("command",))


def _mm(scores: Row) -> str:
    return f"{scores['mpjpe_root_mm']:.1f}"


def _judged(filtered: str, refined: str) -> list[str]:
    """The better of the two is bold, none where they are alike."""
    if filtered == refined:
        return [filtered, refined]
    return [bold(filtered), refined] if float(filtered) < float(refined) else [filtered, bold(refined)]


def _pair(what: str, said: Mapping[str, Row]) -> list[str]:
    filtered, refined = _mm(said[BEST]["scores"]), _mm(ours(dict(said))["scores"])
    return [what, _mm(said[INPUT]["scores"]), *_judged(filtered, refined), "`hpstm evaluate --pairs`"]


def _told(stored: Stored) -> Mapping[str, Row]:
    return next(iter(methods(stored, f"rendered, {KNOWN['both']}").values()))


def _own(what: str, scores: Mapping[str, Row]) -> list[str]:
    found = best(scores)
    filtered = ["", bold(_mm(scores[FILTER]))] if found is None else _judged(_mm(found[1]), _mm(scores[FILTER]))
    return [what, _mm(scores["input"]), *filtered, "`hpstm evaluate`"]


def _speed(parts: Parts) -> list[list[str]]:
    fastest = min(row["batches"][0]["push"]["percentiles"]["p50"]
                  for row in parts["latency"].result["runtimes"].values() if "batches" in row)  # fmt: skip
    wire = [row for row in parts["wire"].result["rows"] if row["what"] == OURS]
    tcp = next((row for row in wire if (row["transport"], row["rate_hz"]) == ("tcp", 60)), wire[0])
    actors = most_actors(parts["crowds"], "in process")
    rate = 60.0 if 60.0 in actors else next(iter(actors))
    return [
        ["one push, one actor, one core: median [µs]", "", "", f"{1e3 * fastest:.0f}", "`hpstm bench latency`"],
        [f"source to consumer over {tcp['transport']} at {tcp['rate_hz']:g} Hz: median [ms]", "", "",
         f"{tcp['latency']['p50']:.2f}", "`hpstm bench wire`"],
        [f"actors at {rate:g} Hz on two cores, in process", "", "", str(actors[rate]),
         "`hpstm bench throughput --threads 2`"],
    ]  # fmt: skip
