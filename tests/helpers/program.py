"""A program at the ends of pipes, gone when its test is, whatever happened."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import IO, Any

HPSTM = (sys.executable, "-m", "streamer")


class Program(subprocess.Popen[str]):
    """A running command with pipes for text; as a context manager it is killed at the end if it still runs."""

    stdin: IO[str]
    stdout: IO[str]
    stderr: IO[str]

    def __init__(self, words: Sequence[str], **options: Any) -> None:
        pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        super().__init__(list(words), text=True, **(pipes | options))

    def __exit__(self, *_: object) -> None:
        if self.poll() is None:
            self.kill()
        with suppress(BrokenPipeError):
            super().__exit__(None, None, None)

    def feed(self, line: str) -> None:
        """Writes a line that the program can read at once."""
        self.stdin.write(line)
        self.stdin.flush()

    def said(self, number: int) -> list[str]:
        """The lines on stderr of one that is ended by a signal, now."""
        self.send_signal(number)
        self.wait(30)
        return self.stderr.read().splitlines()
