"""Who is held out of training: clips to watch it with, and who is only scored. Without torch, for the benches."""

from __future__ import annotations

from pathlib import Path

from model.prepare import ClipError, PackedClip, load_packed

VALIDATION = ("016", "049", "135")  # training subjects held out to watch progress; the test split is never looked at
# Of rendered/, whose 11 subjects are all of CMU's training split: 14 of 53 takes. 016 is held out for validation, too.
RENDERED_HELD_OUT = ("002", "003", "016", "017")


def training_clips(path: Path, leave_out: tuple[str, ...]) -> list[PackedClip]:
    """The clips that are learned from: those that ``validation_clips`` does not hold out."""
    clips = load_packed(path)
    return [clip for clip, out in zip(clips, _held_out(path, clips, leave_out), strict=True) if not out]


def validation_clips(path: Path, only: tuple[str, ...]) -> list[PackedClip]:
    """The clips of the subjects ``only``. In data that has none of them: every tenth subject's, or the last one's; of a
    single subject every tenth clip, or the last one.

    Raises:
        ClipError: there is one clip alone.
    """
    clips = load_packed(path)
    return [clip for clip, out in zip(clips, _held_out(path, clips, only), strict=True) if out]


def _held_out(path: Path, clips: list[PackedClip], wanted: tuple[str, ...]) -> list[bool]:
    whose = [clip.subject for clip in clips]
    if not set(wanted) & set(whose):
        if len(set(whose)) == 1:
            whose = [clip.name.partition("#")[0] for clip in clips]  # pieces of one file stay together
        groups = sorted(set(whose))
        if len(groups) == 1:
            raise ClipError(path, "clips", "holds one clip alone, and another is needed to watch the training with")
        wanted = tuple(groups[9::10] or groups[-1:])
    return [one in wanted for one in whose]
