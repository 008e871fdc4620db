"""The command ``hpstm``: one table of the commands of all three packages, each of which is loaded when it is called.

What a command takes stands beside its code, as the signature and the docstring of one function; cyclopts reads both. So
this file imports no command. To add one, write its function and a line here.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, NamedTuple

from cyclopts import App, CycloptsError, Group, Parameter

from streamer import __version__
from streamer.errors import ConfigError, HPSTMError

LIVE, FILES, RESEARCH, MEASURE = "live", "files", "research", "measure"
GROUPS = (LIVE, FILES, RESEARCH, MEASURE)  # as --help shows them


class Command(NamedTuple):
    """A line of the table."""

    group: str
    function: str  # module:function; its parameters are the command's
    help: str
    extra: str = ""  # of pyproject.toml, what it needs beyond a base install


COMMANDS = {
    "serve": Command(LIVE, "streamer.commands.serve:serve", "Run the server."),
    "live": Command(LIVE, "streamer.commands.live:live", "From a source to avatars, browsers, files, in one go."),
    "listen": Command(LIVE, "streamer.commands.listen:listen", "Print poses as they come."),
    "view": Command(LIVE, "streamer.commands.view:view", "Show in a browser what the filter does, or did.", "view"),
    "set": Command(LIVE, "streamer.commands.set_time:set_time", "Change the delay or rate of a server that runs."),
    "keys": Command(LIVE, "streamer.commands.keys:keys", "Make a key pair for serve --curve, or for a client of it."),
    "calibrate": Command(
        LIVE, "streamer.commands.calibrate:calibrate", "Measure the bones of somebody who stands still."
    ),
    "demo": Command(LIVE, "bench.demo.demo:demo", "The whole product in 15 seconds, on a synthetic actor.", "bench"),
    "doctor": Command(LIVE, "streamer.commands.doctor:doctor", "Say what works on this machine, what to install."),
    "source vmc": Command(LIVE, "streamer.commands.vmc:source", "From a VMC performer, such as a tracker's program."),
    "sink vmc": Command(LIVE, "streamer.commands.vmc:sink", "To avatar programs that take VMC."),
    "source stdin": Command(LIVE, "streamer.commands.json_lines:source", "From lines of JSON on standard input."),
    "sink jsonl": Command(LIVE, "streamer.commands.json_lines:sink", "To standard output, as lines of JSON."),
    "sink websocket": Command(
        LIVE, "streamer.commands.websocket:sink", "To browsers and programs over WebSocket.", "websocket"
    ),
    "sink sonic": Command(LIVE, "streamer.commands.sonic:sink", "To a humanoid robot that NVIDIA's SONIC controls."),
    "source lsl": Command(LIVE, "streamer.commands.lsl:source", "From a LabStreamingLayer stream.", "lsl"),
    "sink lsl": Command(LIVE, "streamer.commands.lsl:sink", "To LabStreamingLayer, a stream an actor.", "lsl"),
    "source mediapipe": Command(
        LIVE, "streamer.commands.mediapipe:source", "From a camera or a video, by MediaPipe.", "mediapipe"
    ),
    "replay": Command(FILES, "streamer.commands.replay:replay", "Play a file through a server, score what comes out."),
    "look": Command(FILES, "streamer.commands.look:look", "Say what a motion file or a recording holds, and draw it."),
    "record": Command(FILES, "streamer.commands.record:record", "Write what a server publishes to a file."),
    "convert": Command(FILES, "streamer.commands.convert:convert", "Write a recording or a motion file as another."),
    "models mediapipe": Command(
        FILES, "streamer.commands.models:mediapipe", "Make the .task file of source mediapipe."
    ),
    "adapt": Command(
        FILES,
        "streamer.commands.adapt:adapt",
        "Say what noise a source has, and if the filter is known to help on such.",
    ),
    "refine": Command(FILES, "streamer.commands.refine:refine", "Refine folders of takes offline."),
    "prepare": Command(RESEARCH, "model.prepare:command", "Pack motion files for training and scoring.", "train"),
    "train": Command(RESEARCH, "model.training.command:command", "Train the causal model, or fine-tune it.", "train"),
    "train-windowed": Command(
        RESEARCH, "model.peers.train_windowed:command", "Train a windowed peer that the bench compares with.", "train"
    ),
    "export": Command(
        RESEARCH,
        "streamer.commands.export:export",
        "Write the ONNX model, engines of it, a model for Triton.",
        "train",
    ),
    "evaluate": Command(
        RESEARCH, "bench.accuracy.accuracy:command", "Score the filter on known truth, beside baselines.", "train,bench"
    ),
    "bench all": Command(
        MEASURE, "bench.documents.command:command", "All that the documents say, written into them.", "train,bench"
    ),
    "bench latency": Command(MEASURE, "bench.latency.latency:command", "One push, and its stages.", "train,bench"),
    "bench alternatives": Command(
        MEASURE, "bench.latency.alternatives:command", "One step, by what else could compute it.", "train"
    ),
    "bench gpu": Command(MEASURE, "bench.latency.gpu:command", "GPU runtimes against the CPU.", "train"),
    "bench wire": Command(MEASURE, "bench.service.wire:command", "Latency through a server.", "bench"),
    "bench throughput": Command(MEASURE, "bench.service.throughput:command", "The most actors in time.", "bench"),
    "bench soak": Command(MEASURE, "bench.service.soak:command", "A day of uptime, on a simulated clock.", "bench"),
    "bench feet": Command(
        MEASURE, "bench.accuracy.feet:command", "Foot-lock: what it holds, and its price.", "train,bench"
    ),
    "bench streams": Command(MEASURE, "bench.streams.streams:command", "What real sources do, case by case.", "bench"),
    "bench fuzz": Command(MEASURE, "bench.service.fuzz:command", "Harmed messages, by the million.", "bench"),
    "bench accuracy": Command(MEASURE, "bench.accuracy.accuracy:command", "The same as evaluate.", "train,bench"),
    "bench ablation": Command(MEASURE, "bench.accuracy.ablation:command", "What each part is worth.", "train"),
    "bench tune": Command(MEASURE, "bench.accuracy.tune:command", "The baselines' best settings.", "train"),
    "bench velocity": Command(
        MEASURE,
        "bench.accuracy.velocity:command",
        "How fast joints are said to move, against the truth.",
        "train,bench",
    ),
    "bench noise": Command(
        MEASURE, "bench.accuracy.known_noise:command", "Measure what adapt compares a stream with.", "train,bench"
    ),
    "bench targets": Command(
        MEASURE, "bench.accuracy.targets:command", "What the next model is to hold, measured and judged.", "train,bench"
    ),
}
FAMILIES = {  # first words that several commands share
    "source": (LIVE, "Another program's stream into a server: {}."),
    "sink": (LIVE, "A server's poses to another program: {}."),
    "models": (FILES, "Models of estimators, for sources: {}."),
    "bench": (MEASURE, "Measure: {}."),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code. Expected errors are one line on stderr and exit code 2."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        _check_command(words)
        code = int(application(_called(words))(words) or 0)
        sys.stdout.flush()  # here, where a broken pipe is expected, and not at the interpreter's end
        return code
    except HPSTMError as error:
        print(f"hpstm: {error}", file=sys.stderr)
    except CycloptsError as error:
        print(f"hpstm: {' '.join(str(error).split())}", file=sys.stderr)
    except ImportError as error:
        print(f"hpstm: {_to_install(words, error)}", file=sys.stderr)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `hpstm listen | head`: nor may the interpreter's last flush fail
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except SystemExit as end:  # rich's word for a broken pipe
        if not isinstance(end.__context__, BrokenPipeError):
            raise
        return 0
    return 2


def application(called: str | None = None, complete: bool = False) -> App:
    """The command line.

    Args:
        called: this command's help is its docstring; of the others, the line in the table is all that is needed.
        complete: with the options of every command that can be imported here, for completion.
    """
    root = App(
        name="hpstm", help="Live refinement of 3D pose streams.", help_format="plaintext",
        version=f"hpstm {__version__}", version_flags=("--version",), version_format="plaintext",
        group_commands=Group("options", sort_key=len(GROUPS)),
        default_parameter=Parameter(negative=(), consume_multiple=1, show_default=shown),
        print_error=False, exit_on_error=False, suppress_keyboard_interrupt=False, result_action="return_value",
    )  # fmt: skip
    groups = {name: Group(name, sort_key=n) for n, name in enumerate(GROUPS)}
    parents = {"": root}
    for first, (room, line) in FAMILIES.items():
        names = {name.partition(" ")[2]: n for n, name in enumerate(COMMANDS) if name.startswith(f"{first} ")}
        where = min(names.values())
        parents[first] = App(name=first, help=line.format(", ".join(names)), group=groups[room], sort_key=where)
        root.command(parents[first])
    for n, (name, command) in enumerate(COMMANDS.items()):
        first, _, last = name.rpartition(" ")
        target: Any = command.function if not complete or _importable(command) else _nothing
        text = None if name == called else command.help
        parents[first].command(target, name=last, help=text, group=groups[command.group], sort_key=n)
    root.command(_install_completion, name="--install-completion")
    return root


def shown(default: Any) -> str:
    """A default value as --help shows it."""
    if default is None or default == ():
        return "none"
    if isinstance(default, bool):
        return "on" if default else "off"
    if isinstance(default, (tuple, list)):
        return " ".join(map(shown, default))
    return f"{default:g}" if isinstance(default, float) else str(default)


def _called(words: Sequence[str]) -> str | None:
    """The command that is called, None when it is none of the table."""
    return next((name for name in (" ".join(words[:2]), " ".join(words[:1])) if name in COMMANDS), None)


def _check_command(words: Sequence[str]) -> None:
    """Raises ConfigError with the nearest command for one that is not in the table, without loading any."""
    names = [name.split() for name in COMMANDS]
    for n, word in enumerate(words):
        known = {name[n] for name in names if name[:n] == list(words[:n]) and len(name) > n}
        if not known or word.startswith("-"):
            return
        if word not in known:
            from difflib import get_close_matches

            near = get_close_matches(word, known, 1)
            lists = " ".join(["hpstm", *words[:n], "--help"])
            raise ConfigError(
                f"no command {word!r}; " + (f"did you mean {near[0]}?" if near else f"{lists} lists them")
            )


def _to_install(words: Sequence[str], error: ImportError) -> str:
    """Which extra a command lacks. Raises the error itself when it is ours."""
    command = COMMANDS.get(_called(words) or "")
    cause = error.__cause__ if isinstance(error.__cause__, ImportError) else error  # cyclopts has wrapped it
    missing = cause.name or ""
    if command is None or not command.extra or missing.partition(".")[0] in ("", "streamer", "model", "bench"):
        raise error
    return f"this needs {missing}; install it with: pip install 'hpstm-live[{command.extra}]'"


# -- completion -------------------------------------------------------------------------------------------------------


def _install_completion(*, shell: Literal["bash", "zsh", "fish"] | None = None, output: Path | None = None) -> None:
    """Complete commands, options and choices on TAB, from the next shell on.

    Args:
        shell: For this shell (default: the one it is called from).
        output: Write the script there and change no start-up file.
    """
    from cyclopts.completion.detect import ShellDetectionError

    try:
        path = application(complete=True).install_completion(shell=shell, output=output, add_to_startup=output is None)
    except ShellDetectionError as error:
        raise ConfigError("which shell is this? Give --shell bash, zsh or fish") from error
    print(f"{path}: read by shells that start from now on; after an update or a new extra, run this again")


def _importable(command: Command) -> bool:
    try:
        import_module(command.function.partition(":")[0])
    except ImportError:
        return False
    return True


def _nothing() -> None:
    """Stands in for a command whose extra is not installed: its name is completed, its options are not."""
