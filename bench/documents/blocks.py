"""Where in the documents what is measured stands, and what is written there.

To add a place: markers in the document (markers.py), a line here, and a function of the parts' results.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.documents import accuracy_text, figures, headline, markers, other_text, pair_text, speed_text
from bench.documents.cells import command
from bench.documents.results import LACKS, SHORT, Stored, about, earlier, incomplete
from streamer.errors import ConfigError

README, CARD = "README.md", "model/weights/MODEL_CARD.md"
ACCURACY, SPEED, LIMITS = "docs/accuracy.md", "docs/performance.md", "docs/limits.md"


@dataclass(frozen=True)
class Block:
    """A place on lines of its own.

    Attributes:
        parts: whose results it needs; all of them.
        more: whose it shows if they are there.
        commands: whether the commands stand above it.
    """

    name: str
    document: str
    parts: tuple[str, ...]
    write: Callable[[Mapping[str, Stored]], str]
    more: tuple[str, ...] = ()
    commands: bool = True

    def text(self, root: Path, stored: Mapping[str, Stored], weights: str) -> str:
        """What is to stand there: the result with its commands, machine and date; or visibly that there is none."""
        missing = [part for part in self.parts if part not in stored]
        if missing:
            return self._unmeasured(root, missing, weights)
        used = [stored[part] for part in (*self.parts, *self.more) if part in stored]
        others = sorted({one.weights[:SHORT] for one in used if one.weights != weights})
        lines = [] if not others else [
            f"**Not measured with these weights** ({weights[:SHORT]}), but with {', '.join(others)}."]  # fmt: skip
        typed = command(*(one.command for one in used)) if self.commands else ""
        try:
            body = self.write(stored)
        except LACKS as error:
            raise incomplete(self.name, self.parts, error) from error
        return "\n\n".join([*lines, *filter(None, [typed, body]), f"*{about(used)}.*"])

    def _unmeasured(self, root: Path, missing: list[str], weights: str) -> str:
        by = f"`hpstm bench all --only {' '.join(missing)}`"
        line = f"**Not measured with these weights** ({weights[:SHORT]}) by {by}"
        path = earlier(root, self.name)
        if not path.is_file():
            return f"{line}."
        return f"{line}; what stood here before:\n\n" + path.read_text(encoding="utf-8").strip("\n")


BLOCKS = (
    Block(
        "headline",
        README,
        ("pairs", "told", "accuracy", "latency", "wire", "crowds"),
        headline.headline,
        commands=False,
    ),
    Block("accuracy", ACCURACY, ("accuracy",), accuracy_text.accuracy, ("peers",)),
    Block(
        "accuracy-files",
        ACCURACY,
        ("accuracy", "peers", "unseen", "delays", "lost"),
        accuracy_text.files,
        commands=False,
    ),
    Block("accuracy-more", ACCURACY, ("accuracy",), accuracy_text.more, commands=False),
    Block("unseen", ACCURACY, ("unseen",), accuracy_text.unseen),
    Block("delays", ACCURACY, ("delays",), accuracy_text.delays),
    Block("lost", ACCURACY, ("lost",), accuracy_text.lost),
    Block("rates", ACCURACY, ("rates",), accuracy_text.rates),
    Block("pairs", ACCURACY, ("pairs",), pair_text.pairs),
    Block("recordings", ACCURACY, ("recordings",), accuracy_text.recordings),
    Block("latency", SPEED, ("latency",), speed_text.latency),
    Block("wire", SPEED, ("wire",), speed_text.wire),
    Block("crowds", SPEED, ("crowds-one", "crowds"), speed_text.crowds),
    Block("soak", SPEED, ("soak",), speed_text.soak),
    Block("live", "docs/live.md", ("live",), speed_text.live),
    Block("several-servers", "docs/many-actors.md", ("crowds",), speed_text.several),
    Block("told", "docs/mediapipe.md", ("told",), pair_text.told),
    Block("velocity", "docs/time.md", ("velocity",), other_text.velocity),
    Block("figures", LIMITS, figures.LIMITS, lambda _: figures.ABOUT, commands=False),
    Block("targets", LIMITS, ("targets",), pair_text.targets),
    Block("streams", LIMITS, ("streams",), pair_text.streams),
    Block("feet", LIMITS, ("feet",), other_text.feet),
    Block("ablation", "docs/training.md", ("ablation",), other_text.ablation),
    Block("card-accuracy", CARD, ("accuracy",), accuracy_text.card, commands=False),
    Block("card-pairs", CARD, ("pairs",), pair_text.card, commands=False),
)
BY_NAME = {block.name: block for block in BLOCKS}
DOCUMENTS = tuple(dict.fromkeys([*(block.document for block in BLOCKS), *figures.DOCUMENTS]))


def written(root: Path, document: str, stored: Mapping[str, Stored], weights: str) -> str:
    """A document as it is to be.

    Raises:
        ConfigError: it cannot be read, a marker is broken, names no place, or one of another document.
    """
    path = root / document
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error})") from error
    for place in markers.places(text, document):
        block = BY_NAME.get(place.name)
        belongs = document == block.document if block else place.name in figures.FIGURES
        if not belongs:
            known = ", ".join([*BY_NAME, *figures.FIGURES])
            raise ConfigError(f"{document}:{place.line}: no place {place.name!r} in this document; there are: {known}")
        if place.is_block != (block is not None):
            where = "on lines of their own" if block else "within the line"
            raise ConfigError(f"{document}:{place.line}: the markers of {place.name} belong {where}")

    def said(name: str) -> str:
        if name in BY_NAME:
            return BY_NAME[name].text(root, stored, weights)
        return figures.text(root, name, stored)

    return markers.filled(text, said, document)


def forget_earlier(root: Path, stored: Mapping[str, Stored]) -> None:
    """Removes what stood in the places that are measured by now."""
    for block in BLOCKS:
        if all(part in stored for part in block.parts):
            earlier(root, block.name).unlink(missing_ok=True)
    figures.forget_before(root, stored)


def missing_places(root: Path) -> list[str]:
    """Places that stand nowhere, or more than once, as "NAME in DOCUMENT"."""
    found = [(place.name, document) for document in DOCUMENTS
             for place in markers.places((root / document).read_text(encoding="utf-8"), document)]  # fmt: skip
    return [f"{block.name} in {block.document}" for block in BLOCKS if found.count((block.name, block.document)) != 1]
