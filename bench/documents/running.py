"""One part of ``hpstm bench all`` as a process of its own: its words made paths, its result read and kept."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from bench.documents.parts import Part
from bench.documents.results import Stored, folder, present_weights
from bench.report import machine

PEERS = {  # of bench/accuracy/learned.py, by the weights that they need
    "SmoothNet": "smoothnet.safetensors", "offline model": "offline.safetensors", "twin": "twin.safetensors",
}  # fmt: skip
SAID = 12  # last lines of a command that failed, as they are shown


class PartFailed(Exception):
    """A part has no result; the text says why."""


@dataclass(frozen=True)
class Workplace:
    """Where things are.

    Attributes:
        root: the checkout that is written into; commands run there.
        work: logs, whole results and packed motion lie here.
        data: the folder of motion; None: there is none.
    """

    root: Path
    work: Path
    data: Path | None

    @property
    def packed(self) -> Path:
        return self.work / "packed"

    def words(self, command: str) -> list[str]:
        """What a command is called with.

        Raises:
            PartFailed: it needs motion that is not there.
        """
        return [path for word in shlex.split(command)[1:] for path in self._paths(word)]

    def _paths(self, word: str) -> list[str]:
        first, _, rest = word.partition("/")
        homes = {"DATA": self.data, "packed": self.packed}
        if first not in homes:
            return [word]
        home = homes[first]
        if home is None:
            raise PartFailed(f"{word}: no folder of motion; give DATA")
        if first == "packed":
            self._pack(rest.removesuffix(".npz"))
        if "*" not in rest:
            return [str(home / rest)]
        found = sorted(map(str, home.glob(rest)))
        if not found:
            raise PartFailed(f"{home / rest}: nothing there")
        return found

    def _pack(self, split: str) -> None:
        """Makes a split's file where it is missing: once, then it stays."""
        if (self.packed / f"{split}.npz").is_file():
            return
        if self.data is None:
            raise PartFailed(f"packed/{split}.npz: no folder of motion; give DATA")
        code, said = _call(["prepare", str(self.data), str(self.packed), "--split", split], self, f"prepare-{split}")
        if code:
            raise PartFailed(said)


def without_weights(command: str, root: Path) -> tuple[str, dict[str, str]]:
    """A command without the learned peers whose weights are missing, and which those are."""
    left_out: dict[str, str] = {}
    for name, file in PEERS.items():
        asked = re.compile(rf' "?{re.escape(name)}"?(?= |$)| --teacher \S*{re.escape(file)}')
        if asked.search(command) and not (root / "bench" / "weights" / file).is_file():
            left_out[name] = f"no weights (bench/weights/{file})"
            command = asked.sub("", command)
    return command, left_out


def measure(part: Part, place: Workplace, trial: bool = False) -> Stored:
    """Runs a part's command, and returns what it measured.

    Raises:
        PartFailed: it has no result.
    """
    command, left_out = without_weights(part.command(trial), place.root)
    out = place.work / f"{part.name}.json"
    out.unlink(missing_ok=True)
    drawn = place.work / "pictures" / part.name
    words = place.words(command) + (["--json", str(out)] if part.json else [])
    words += ["--plots", str(drawn)] if part.pictures else []
    here = machine()
    started = time.monotonic()
    code, said = _call(words, place, part.name)
    took_s = time.monotonic() - started
    if not out.is_file() if part.json else code:
        raise PartFailed(f"exit code {code}\n{said}")
    result = json.loads(out.read_text(encoding="utf-8")) if part.json else {"machine": here}
    for name in part.pictures:
        if (drawn / name).is_file():
            shutil.copyfile(drawn / name, folder(place.root) / name)
        else:
            left_out[name] = "not drawn"
    if code:  # a bar that is not held
        result["exit_code"] = code
    return Stored(part.name, command, present_weights(place.root), round(took_s, 1), left_out, result)


def _call(words: list[str], place: Workplace, name: str) -> tuple[int, str]:
    """Runs ``hpstm``; the exit code and the last lines that it said. Everything is in work/NAME.log."""
    place.work.mkdir(parents=True, exist_ok=True)
    log = place.work / f"{name}.log"
    with log.open("w", encoding="utf-8") as file:
        command = [sys.executable, "-m", "streamer", *words]
        code = subprocess.run(command, cwd=place.root, stdout=file, stderr=subprocess.STDOUT, check=False).returncode
    said = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return code, "\n".join(said[-SAID:])
