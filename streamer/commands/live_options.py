"""Which source ``hpstm live`` reads and which sinks it feeds: its options, and what they open."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Group, Parameter

from streamer.commands.mediapipe import MODEL
from streamer.commands.options import Height, Pitch
from streamer.errors import ConfigError
from streamer.wire.endpoints import host_and_port, is_local

if TYPE_CHECKING:
    from streamer.sinks.recorder import Recorder
    from streamer.sinks.sink import Sink
    from streamer.sinks.vmc import Receivers
    from streamer.sources.source import Source
    from streamer.sources.told import Told

Say = Callable[[str], None]


@contextmanager
def needed_by(option: str, extra: str) -> Iterator[None]:
    """Raises ConfigError for a library that is not installed: which extra has it."""
    try:
        yield
    except ImportError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in ("", "streamer", "model"):
            raise
        raise ConfigError(f"{option} needs {missing}; install it with: pip install 'hpstm-live[{extra}]'") from error


@Parameter(name="*", group=Group("Source (one of these)", sort_key=0))
@dataclass(frozen=True)
class SourceOptions:
    """Where frames come from.

    Args:
        camera: Number of a camera of this machine, from 0, or the http:// or rtsp:// address of another.
        video: Video file; every picture is used, at its own time.
        model: MediaPipe's pose landmarker bundle (.task), for a camera or a video; hpstm models mediapipe makes one.
        people: How many are followed, of a camera or a video.
        fov_deg: Field of view across the picture's longer side [degrees].
        no_root: Leave people where they are, feet on the ground; else they move in the room, approximately.
        vmc_in: UDP port that a VMC performer sends to.
        stdin: Lines of JSON on standard input.
        replay: A recording or a motion file, in its own time.
        actor: Name to give the actor; none: the source's own.
        layout: Of lines of JSON that name none; a TOML file is one of your own, for any source; may be repeated.
    """

    camera: str | None = None
    video: Path | None = None
    model: Path = MODEL
    people: int = 1
    fov_deg: Annotated[float, Parameter("--fov")] = 60.0
    no_root: bool = False
    height_m: Height = None
    pitch_deg: Pitch = 0.0
    vmc_in: int | None = None
    stdin: bool = False
    replay: Path | None = None
    actor: str | None = None
    layout: tuple[str, ...] = ()

    def check(self) -> None:
        """Raises ConfigError: none of the sources is asked for, or several; a height or a pitch that cannot be."""
        asked = {
            "--camera N": self.camera, "--video FILE": self.video, "--vmc-in PORT": self.vmc_in,
            "--stdin": self.stdin or None, "--replay FILE": self.replay,
        }  # fmt: skip
        given = [name for name, value in asked.items() if value is not None]
        if len(given) != 1:
            raise ConfigError(
                f"give one source: {', '.join(asked)}" + (f"; not {' and '.join(given)}" if given else "")
            )
        if self.vmc_in is not None and (self.height_m is not None or self.pitch_deg):
            raise ConfigError(f"--height and --pitch are for a camera's landmarks, not for {given[0]}")
        self.told()  # before a model is loaded

    def told(self) -> Told:
        """What is known of the camera and of the people. Raises ConfigError: that cannot be."""
        from streamer.sources.told import Told

        return Told(self.height_m, self.pitch_deg)

    @property
    def own_layouts(self) -> tuple[str, ...]:
        """The layouts that are files."""
        from model.layouts import LAYOUTS

        return tuple(layout for layout in self.layout if layout not in LAYOUTS)

    def open(self, remote: bool, say: Say) -> Source:
        """The source that is asked for.

        Args:
            remote: other machines may send, too.
            say: takes a line about what comes and cannot be used.
        Raises:
            ConfigError: it cannot be had.
        """
        from streamer.wire.protocol import is_actor_name

        if self.actor is not None and not is_actor_name(f"{self.actor}-{self.people}"):
            raise ConfigError(f"--actor {self.actor!r}: give a name of at most 60 bytes without spaces")
        if self.camera is not None or self.video is not None:
            with needed_by("--camera" if self.video is None else "--video", "mediapipe"):
                from streamer.sources.mediapipe import open_mediapipe

                who = (self.people, self.actor or "person", self.fov_deg, not self.no_root)
                return open_mediapipe(self.camera, self.video, self.model, *who, told=self.told())
        if self.vmc_in is not None:
            from streamer.sources.vmc import VmcReceiver

            return VmcReceiver(self.vmc_in, "" if remote else "127.0.0.1", self.actor or "vmc")
        if self.replay is not None:
            from streamer.sources.playback import Playback
            from streamer.sources.replay import read_take

            return Playback(self.told().take(read_take(self.replay, self.actor)))
        from streamer.sources.json_lines import LineSource, line_reader
        from streamer.wire.json_lines import DEFAULT_ACTOR

        reader = line_reader(self.layout[0] if self.layout else None, self.actor or DEFAULT_ACTOR)
        # A file of its own: a thread that waits for a line may be left behind, with the file's lock.
        return LineSource(os.fdopen(os.dup(sys.stdin.fileno()), "rb"), reader, say, known=self.told())


@Parameter(name="*", group=Group("Sinks (any of these)", sort_key=1))
@dataclass(frozen=True)
class SinkOptions:
    """Where poses go.

    Args:
        vmc: UDP address of an avatar program, HOST:PORT; may be repeated: one for each actor.
        bone_positions: In VMC, each bone's true place in its parent, or zeros for all but the hips.
        no_upper_chest: In VMC, turn Chest for both: for avatars without the bone UpperChest.
        websocket: Port for browsers and programs; 0: one that is free.
        jsonl: Lines of JSON on standard output; what is said for people then goes to standard error.
        record: A recording, or .bvh, .glb, .vrma, .npz, .jsonl: the motion alone.
        view: A page in the browser that shows what the filter does.
        origin: Web pages of this origin may connect, too, as https://example.org or null (files).
    """

    vmc: tuple[str, ...] = ()
    bone_positions: Literal["all", "hips"] = "all"
    no_upper_chest: bool = False
    websocket: int | None = None
    jsonl: bool = False
    record: Path | None = None
    view: bool = False
    origin: tuple[str, ...] = ()

    def check(self, vmc_in: int | None, curve: str | None) -> None:
        """Raises ConfigError: no such port; what goes out would come in again at ``vmc_in``; no key for a view; pages
        come in to nothing.
        """
        for host, port in map(host_and_port, self.vmc):
            shown = f"[{host}]" if ":" in host else host
            if port == vmc_in and is_local(f"tcp://{shown}:{port}"):
                raise ConfigError(f"--vmc {shown}:{port} is where --vmc-in listens; give the two different ports")
        if self.websocket is not None and not 0 <= self.websocket <= 65535:
            raise ConfigError(f"--websocket must be between 0 and 65535, not {self.websocket}")
        if self.view and curve is not None:
            raise ConfigError("--view has no key for --curve; start hpstm view with --key and --server-key beside it")
        if self.origin and self.websocket is None and not self.view:
            raise ConfigError("--origin lets web pages in to --websocket and --view; give one of them")

    def open(self, stack: ExitStack, say: Say) -> tuple[Receivers | None, list[Sink], Recorder | None]:
        """The VMC receivers, and the sinks that need a thread, the recorder among them; closed with ``stack``.

        Raises:
            ConfigError: one cannot be had.
        """
        from streamer.sinks.json_lines import JsonLines
        from streamer.sinks.recorder import Recorder
        from streamer.sinks.vmc import receivers_at

        receivers = recorder = None
        sinks: list[Sink] = [JsonLines()] if self.jsonl else []
        if self.vmc:
            told = (self.bone_positions, not self.no_upper_chest)
            receivers = stack.enter_context(receivers_at("--vmc", self.vmc, (), say, *told))
        if self.websocket is not None:
            with needed_by("--websocket", "websocket"):
                from streamer.sinks.websocket import WebSocketSink
            sinks.append(WebSocketSink(self.websocket, say, self.origin))
        if self.view:
            from streamer.sinks.view import ViewSink

            sinks.append(ViewSink(say, self.origin))
        if self.record is not None:
            recorder = stack.enter_context(Recorder(self.record))
            sinks.append(recorder)
        return receivers, sinks, recorder


FROM, TO = SourceOptions(), SinkOptions()
