"""The record of training runs for people: what each was, how its errors fell, as Markdown from their log.jsonl.

``python -m model.training.run_log runs/a runs/b > model/weights/TRAINING_LOG.md``
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

CASES = ("realistic", "late", "ahead", "mild", "white10", "drift", "lost_arm", "clean", "suit", "mediapipe", "coco")
HEAD = """# Training log

Every run behind the bundled weights, oldest first. Validation: training subjects left out of training, sequences of 3
or 6 s at 30 fps, bones measured as live; root-relative MPJPE [mm] / Accel [mm/frame^2] of the averaged weights.
late, ahead: realistic noise, 100 ms before and after the newest frame. The test split is never looked at here.
"""


def rows_of(log: Path) -> list[dict[str, Any]]:
    """The entries of a log.jsonl."""
    return [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines() if line.strip()]


def markdown(folders: Sequence[Path]) -> str:
    """One section a run: its settings, then a table of its checks with the input's own figures on top."""
    lines = [HEAD]
    for folder in folders:
        entries = rows_of(folder / "log.jsonl")
        checks = [e for e in entries if "step" in e]
        lines.append(f"## {folder.name}\n")
        for entry in entries:
            if "step" not in entry:
                lines += [
                    str(value) if name == "note" else f"- {name}: `{json.dumps(value)}`"
                    for name, value in entry.items()
                ]
        if not checks:
            lines.append("")
            continue
        cases = [case for case in CASES if f"{case}_out_mm" in checks[0]]
        lines += ["", "| step | minutes | " + " | ".join(cases) + " | lag ms | in 1 sigma |"]
        lines.append("|---:" * (len(cases) + 4) + "|")
        lines.append("| input | | " + " | ".join(_cell(checks[0], case, "raw") for case in cases) + " | | |")
        for row in checks:
            cells = " | ".join(_cell(row, case, "out") for case in cases)
            lag, inside = row[f"{cases[0]}_lag_ms"], row[f"{cases[0]}_in_1_sigma"]
            lines.append(f"| {row['step']} | {row['minutes']:.0f} | {cells} | {lag:.1f} | {inside:.2f} |")
        lines.append("")
    return "\n".join(lines)


def _cell(row: dict[str, Any], case: str, kind: str) -> str:
    return f"{row[f'{case}_{kind}_mm']:.1f} / {row[f'{case}_{kind}_accel']:.1f}"


def main() -> None:
    """The folders named on the command line."""
    sys.stdout.write(markdown([Path(word) for word in sys.argv[1:]]))


if __name__ == "__main__":
    main()
