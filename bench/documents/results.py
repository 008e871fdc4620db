"""What was measured, as it is kept in bench/results: PART.json, one file a part, without what only pictures need."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from bench.report import measured_line
from model.contract import SUMS, WEIGHTS, WEIGHTS_FILE
from streamer.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]  # of the checkout
FOLDER = Path("bench") / "results"
EARLIER = "earlier"  # in it: NAME.md, what stood in a place before its parts were measured by `hpstm bench all`
SHORT = 12  # characters of the hash that weights are named by
DIGITS = 6  # of a number, significant
NOT_KEPT = {  # of a bench's result: curves, single takes and trials, the values of each clip
    "calibration", "curve_ms", "curve_percent", "gap_curve_mm", "gap_curve_samples", "series", "sigmas",
    "takes", "told", "trials", "tuned", "words",
}  # fmt: skip

Row = dict[str, Any]
LACKS = (KeyError, IndexError, StopIteration, TypeError, ValueError)  # what reading a result that is not whole raises


@dataclass(frozen=True)
class Stored:
    """A part's result.

    Attributes:
        command: that measured it, as one types it.
        weights: SHA-256 of the model's.
        took_s: how long that was.
        left_out: what could not be measured, and why.
        result: what the bench wrote to JSON, "machine" among it.
    """

    part: str
    command: str
    weights: str
    took_s: float
    left_out: dict[str, str]
    result: Row

    @property
    def measured(self) -> datetime:
        return datetime.fromisoformat(self.result["machine"]["measured"])

    @property
    def load(self) -> float:
        """Of the machine, over the minute before the end."""
        return self.result["machine"]["load_1min"] or 0.0

    def shortly(self) -> str:
        """Machine and date, for within a sentence."""
        machine = self.result["machine"]
        return f"{machine['cpu']}, {machine['cores']} cores, {self.measured.date().isoformat()}"

    def said(self) -> str:
        """Machine, date and weights."""
        machine = self.result["machine"] | {"load_1min": None}  # where several stand together only that differs
        return f"{measured_line(machine)}, weights {self.weights[:SHORT]}"


def incomplete(place: str, parts: Sequence[str], error: Exception) -> ConfigError:
    """For a result from which a place cannot be written: one of another version, or a trial's."""
    what = f"{type(error).__name__}: {error}"
    return ConfigError(f"{place}: the results of {', '.join(parts)} lack what is to stand there ({what}); "
                       f"measure them again: hpstm bench all --only {' '.join(parts)}")  # fmt: skip


def about(some: Sequence[Stored]) -> str:
    """What results were measured on, in a line."""
    loads = sorted(round(one.load, 1) for one in some)
    load = f"load {loads[0]}" + (f" to {loads[-1]}" if loads[-1] != loads[0] else "")
    return "; ".join([*dict.fromkeys(one.said() for one in some), load])


def present_weights(root: Path = ROOT) -> str:
    """SHA-256 of the bundled weights, of the list that lies beside them. Raises ConfigError: there is none."""
    try:
        lines = (root / WEIGHTS.relative_to(ROOT) / SUMS).read_text(encoding="utf-8").splitlines()
        return next(line.split()[0] for line in lines if line.endswith(WEIGHTS_FILE))
    except (OSError, StopIteration) as error:
        raise ConfigError(f"{root}: no checkout with {SUMS} beside its weights ({error})") from error


def folder(root: Path) -> Path:
    return root / FOLDER


def read_all(root: Path, parts: tuple[str, ...]) -> dict[str, Stored]:
    """What is kept of these parts.

    Raises:
        ConfigError: a file is none of ours; the message names it.
    """
    return {one.part: one for one in _read(root, parts)}


def _read(root: Path, parts: tuple[str, ...]) -> Iterator[Stored]:
    for part in parts:
        path = folder(root) / f"{part}.json"
        if not path.is_file():
            continue
        try:
            kept = Stored(**json.loads(path.read_text(encoding="utf-8")))
            kept.said()
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{path}: not what `hpstm bench all` writes ({error!r}); remove it") from error
        if kept.part != part:
            raise ConfigError(f"{path}: is of part {kept.part!r}; remove it")
        yield kept


def write(root: Path, stored: Stored) -> Path:
    """Keeps a result, without what is not kept."""
    path = folder(root) / f"{stored.part}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    about = {key: stored.result[key] for key in ("machine", "settings") if key in stored.result}
    kept = asdict(stored) | {"result": compact(stored.result) | about}
    fresh = path.with_suffix(".unfinished")
    fresh.write_text(_lines(kept) + "\n", encoding="utf-8")
    fresh.replace(path)
    return path


def _lines(value: Any, depth: int = 0) -> str:
    """JSON with a row a line, so that a change of it can be read."""
    space = " " * (depth + 1)
    if isinstance(value, dict) and depth < 2:
        return _within("{}", [f"{space}{json.dumps(key)}: {_lines(one, depth + 1)}" for key, one in value.items()])
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return _within("[]", [f"{space}{json.dumps(one, ensure_ascii=False)}" for one in value])
    return json.dumps(value, ensure_ascii=False)


def _within(brackets: str, lines: list[str]) -> str:
    return brackets[0] + "\n" + ",\n".join(lines) + brackets[1] if lines else brackets


def compact(value: Any) -> Any:
    """A result without NOT_KEPT, numbers rounded to DIGITS."""
    if isinstance(value, dict):
        return {key: compact(one) for key, one in value.items() if key not in NOT_KEPT}
    if isinstance(value, (list, tuple)):
        return [compact(one) for one in value]
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def age_hours(stored: Stored) -> float:
    """Since it was measured [h]."""
    return (datetime.now(timezone.utc) - stored.measured).total_seconds() / 3600


def earlier(root: Path, place: str) -> Path:
    """Where that lies which stood in a place before its parts were measured."""
    return folder(root) / EARLIER / f"{place}.md"
