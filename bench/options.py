"""Options that several benches share, and the call of one as a result keeps it."""

from __future__ import annotations

import inspect
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from streamer.cli import shown
from streamer.commands.options import BUNDLED

Threads = Annotated[int, Parameter(help="Threads of the filter.")]
RuntimeName = Annotated[str, Parameter(help="Runtime of the filter, as of serve.")]
Weights = Annotated[str | None, Parameter(help="Folder of another model.", show_default=BUNDLED)]
Json = Annotated[Path | None, Parameter(help="Write the result to this file, too.")]
Plots = Annotated[Path | None, Parameter(help="Draw the result into this folder.")]


def command_line(name: str, command: Callable[..., int], given: dict[str, Any]) -> str:
    """The call ``hpstm NAME ...`` of a command as one types it; values that are its defaults are left out."""
    words = ["hpstm", *name.split()]
    for key, parameter in inspect.signature(command).parameters.items():
        value = given[key]
        if value != parameter.default:
            words.append(f"--{key.replace('_', '-')}")
            words += [shown(one) for one in (value if isinstance(value, tuple) else (value,))]
    return shlex.join(words)
