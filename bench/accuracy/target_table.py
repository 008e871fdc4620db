"""The targets of model 2: what must hold, what is hoped for, and where it is read from what the benches measured.

``measure`` names each value that a target stands on; the worst one decides. HPSTM Live's row in the source's own joints
is read where there is one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from bench.accuracy.case_bench import WHOLE
from bench.accuracy.methods import FILTER
from bench.accuracy.pair_methods import REFINED
from bench.accuracy.tables import when

Row = dict[str, Any]
Values = dict[str, float]
Range = tuple[float | None, float | None]  # least and most; None: no bound
BROKEN = 1e6  # the value of a row that has poses with NaN


@dataclass(frozen=True)
class Measured:
    """Rows of the pairs, of the cases, of the accuracy bench on our own skeletons, a push's p50 [us]; and ``before``,
    the same of the model to compare with, where it is known."""

    pairs: list[Row]
    cases: list[Row]
    own: list[Row]
    push_us: float | None = None
    before: Measured | None = None

    def ours(self, rows: Iterable[Row]) -> list[Row]:
        """The rows of the filter under test."""
        rows = list(rows)
        refined = [row for row in rows if row["method"] == REFINED]
        return refined or [row for row in rows if row["method"] == FILTER]

    def source(self, *names: str) -> list[Row]:
        return self.ours(row for row in self.pairs if row["source"] in names)

    def group(self, group: str) -> list[Row]:
        return [row for row in self.cases if row["group"] == group]


@dataclass(frozen=True)
class Target:
    """Held when every value lies in ``must``, reached when it lies in ``goal``."""

    text: str
    measure: Callable[[Measured], Values]
    must: Range
    goal: Range
    unit: str = "%"
    digits: int = 1

    def judged(self, measured: Measured) -> Row:
        """{"target", "must", "goal", "worst", "where", "values", "held", "reached"}; None where nothing is measured, or
        asked for."""
        values = self.measure(measured)
        worst = max(values, key=lambda name: _beyond(values[name], self.must), default=None)
        row: Row = {"target": self.text, "unit": self.unit, "digits": self.digits, "must": self.must, "goal": self.goal,
                    "values": values, "where": worst, "worst": values[worst] if worst else None}  # fmt: skip
        for key, bounds in (("held", self.must), ("reached", self.goal)):
            known = values and bounds != most(None)
            row[key] = all(_beyond(value, bounds) <= 0 for value in values.values()) if known else None
        return row


def _beyond(value: float, bounds: Range) -> float:
    """How far a value is on the wrong side; negative: within."""
    least, most = bounds
    return max(value - most if most is not None else -1e9, least - value if least is not None else -1e9)


def most(bound: float | None) -> Range:
    """No more than that; None: anything will do."""
    return None, bound


def _name(row: Row) -> str:
    return f"{row['source']}, {when(row['at_s'])}"


def _values(rows: Iterable[Row], value: Callable[[Row], float | None]) -> Values:
    """A value of each row that has one; poses that hold NaN are beyond every bound."""
    out: Values = {}
    for row in rows:
        if row["broken"]:
            out[f"{_name(row)}: {row['broken']} poses hold NaN"] = BROKEN
        elif (found := value(row)) is not None:
            out[_name(row)] = found
    return out


def _best(rows: Iterable[Row]) -> Values:
    return _values(rows, lambda row: 100 * row["against_best"][0] - 100 if "against_best" in row else None)


def _worse(rows: Iterable[Row]) -> Values:
    return _values(rows, lambda row: 100 * row["worse"])


def _moves(rows: Iterable[Row]) -> Values:
    return _values(rows, lambda row: 100 * row["against_input"]["moves_mm"][0] - 100)


def _scores(rows: Iterable[Row], key: str) -> Values:
    return _values(rows, lambda row: row["scores"].get(key))


def _case(measured: Measured, *names: str) -> list[Row]:
    return measured.ours(row for row in measured.cases if row["source"] in names)


def _clean(measured: Measured, group: str) -> Values:
    rows = measured.ours(row for row in measured.group(group) if ", clean" in row["source"])
    return _scores(rows, "mpjpe_world_mm")


def _against(measured: Measured, group: str, other: str, key: str = "mpjpe_world_mm") -> Values:
    """Our score over another method's, % more; cases without noise have no ratio."""
    rows = [row for row in measured.group(group) if ", clean" not in row["source"]]
    base = {_name(row): row["scores"][key] for row in rows if row["method"] == other}

    def more(row: Row) -> float | None:
        return 100 * row["scores"][key] / base[_name(row)] - 100 if _name(row) in base else None

    return _values(measured.ours(rows), more)


def _stillness(measured: Measured) -> Values:
    error, jitter = (_against(measured, "stillness", "One-Euro", key) for key in ("mpjpe_world_mm", "jitter_m_s3"))
    return {f"{n}, error": v for n, v in error.items()} | {f"{n}, jitter": v for n, v in jitter.items()}


def _own(measured: Measured) -> dict[tuple[str, float], Row]:
    return {(row["noise"], row["at_s"]): row["all"] for row in measured.own if row["method"] == FILTER}


def _own_before(measured: Measured) -> Values:
    if measured.before is None:
        return {}
    ours, before = _own(measured), _own(measured.before)
    return {f"{noise}, {when(at)}": 100 * row["mpjpe_root_mm"] / before[noise, at]["mpjpe_root_mm"] - 100
            for (noise, at), row in ours.items() if (noise, at) in before}  # fmt: skip


def _own_realistic(measured: Measured) -> Values:
    return {f"realistic, {when(at)}": row["mpjpe_root_mm"] for (noise, at), row in _own(measured).items()
            if noise == "realistic" and at <= 0}  # fmt: skip


def _shown(joint: str) -> Callable[[Measured], Values]:
    names = ("head, hands, feet shown", "head shown") if joint == "head" else ("head, hands, feet shown",)
    return lambda measured: _scores(_case(measured, *names), f"{joint}_deg")


def _coverage(measured: Measured) -> Values:
    rows = measured.source("rendered", "aistpp") + _case(measured, "own, realistic", "own, lifted")
    inside = _scores(rows, "in_1_sigma")
    gaps = _scores(_case(measured, "own, realistic", "own, lifted"), "in_1_sigma_gaps")
    return inside | {f"{name}, in gaps": value for name, value in gaps.items()}


def _lag(measured: Measured) -> Values:
    rows = [row for row in measured.source("rendered", "aistpp") + _case(measured, "own, realistic") if not row["at_s"]]
    return _scores(rows, "lag_ms")


def _push(measured: Measured) -> Values:
    if measured.before is None or not measured.push_us or not measured.before.push_us:
        return {}
    return {"push p50": measured.push_us / measured.before.push_us}


TARGETS = (
    Target("rendered (held out), aistpp: MPJPE against the best tuned filter",
           lambda m: _best(m.source("rendered", "aistpp")), most(-12.0), most(-25.0)),
    Target("the same: takes worse than the input",
           lambda m: _worse(m.source("rendered", "aistpp")), most(10.0), most(2.0)),
    Target("error that moves, against the input: one camera (rendered, h36m lifted)",
           lambda m: _moves(m.source("rendered") + _case(m, "h36m, lifted")), most(-30.0), most(-45.0)),
    Target("the same: several cameras (aistpp)", lambda m: _moves(m.source("aistpp")), most(-15.0), most(-25.0)),
    Target("the same: depth-like (kinect's joints, realistic noise)",
           lambda m: _moves(_case(m, "kinect, realistic")), most(-10.0), most(-20.0)),
    Target("clean, any definition, after 4 s", lambda m: _clean(m, "definitions"), most(4.0), most(1.0), "mm"),
    Target("10 mm white, any definition, against the best tuned filter",
           lambda m: _best(m.ours(r for r in m.group("definitions") if r["source"].endswith("10 mm"))),
           most(0.0), most(-15.0)),
    Target("own skeletons, against today", _own_before, most(2.0), most(2.0)),
    Target("own skeletons, realistic", _own_realistic, most(None), most(65.0), "mm"),
    Target("others hidden for good, 10 mm: against nothing hidden",
           lambda m: _against(m, "half seen", WHOLE), most(15.0), most(5.0)),
    Target("others hidden for good, clean", lambda m: _clean(m, "half seen"), most(8.0), most(3.0), "mm"),
    Target("legs invented at low confidence: the others, against all seen",
           lambda m: _against(m, "invented", WHOLE), most(15.0), most(5.0)),
    Target("spins, strikes, flips, 10 mm: against tuned One-Euro",
           lambda m: _against(m, "fast", "One-Euro"), most(0.0), most(-15.0)),
    Target("stillness at 2, 5, 10 mm: against tuned One-Euro", _stillness, most(0.0), most(-50.0)),
    Target("gross outliers, against the median",
           lambda m: _against(m, "outliers", "median of 5"), most(0.0), most(-30.0)),
    *(Target(f"{joint} where the source shows it, realistic (median)", _shown(joint), most(must), most(goal), "°")
      for joint, must, goal in (("head", 8.0, 4.0), ("hands", 12.0, 7.0), ("feet", 10.0, 6.0))),
    Target("coordinates within 1 sigma", _coverage, (0.60, 0.76), (0.65, 0.71), "", 2),
    Target("lag of motion, now", _lag, most(12.0), most(6.0), "ms"),
    Target("push p50, against today's on the same machine", _push, most(1.3), most(1.0), "x", 2),
)  # fmt: skip
