"""Sequences of requests, as Triton numbers them, through one PoseFilter: each is an actor, gone with its sequence.

Nothing here knows Triton: backend.py translates, repository.py writes the settings that ``load`` reads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from model.layouts import LAYOUTS, LayoutError, get_layout
from streamer.clock import SECOND_NS
from streamer.errors import ConfigError, FrameError
from streamer.filter import PoseFilter
from streamer.frames import Array, Frame, Pose
from streamer.server.loading import warm_up
from streamer.triton.repository import FLAGS, SETTINGS, WEIGHTS_FOLDER


class Request(NamedTuple):
    """One frame of one sequence; arrays as of a Frame."""

    sequence: int | str  # the correlation id: 5 and "5" are two
    start: bool
    end: bool
    t_ns: int
    positions: Array
    confidence: Array | None = None
    rotations: Array | None = None
    layout: str | None = None  # None: the model's own


class _Actor:
    """What is known of a sequence that goes on."""

    __slots__ = ("frames", "last_ns")

    def __init__(self) -> None:
        self.frames, self.last_ns = 0, 0


class Sequences:
    """Answers requests of any number of sequences together; each one's answers depend on its own frames alone.

    Args:
        most: of them at a time; then who was silent longest makes room for the next.
        idle_s: a sequence that was silent for longer is forgotten.
        layout: of requests that name none.
    """

    def __init__(self, pose_filter: PoseFilter, most: int, idle_s: float, layout: str = "smpl_24") -> None:
        try:
            get_layout(layout)
        except (LayoutError, OSError) as error:
            raise ConfigError(f"layout: {error}") from error
        self._filter, self._most, self._idle_ns, self._layout = pose_filter, most, round(idle_s * SECOND_NS), layout
        self._actors: dict[str, _Actor] = {}  # who was silent longest first

    def __len__(self) -> int:
        return len(self._actors)

    @property
    def runtime(self) -> str:
        """What computes the network."""
        return self._filter.runtime.name

    def answer(self, requests: Sequence[Request], now: int) -> list[Pose | FrameError]:
        """A pose, or what is wrong with the frame, for each request; of one sequence in their order.

        Args:
            now: any clock [ns] that never goes back.
        """
        self._forget_idle(now)
        answers: list[Pose | FrameError] = []
        while len(answers) < len(requests):
            answers += self._together(_of_different(requests[len(answers) :]), now)
        return answers

    def _together(self, requests: Sequence[Request], now: int) -> list[Pose | FrameError]:
        """The same for requests of different sequences."""
        answers: dict[int, Pose | FrameError] = {}
        frames: dict[int, Frame] = {}
        for place, request in enumerate(requests):
            try:
                frames[place] = self._frame(request, now)
            except FrameError as error:
                answers[place] = error
        answers |= zip(frames, self._filter.push_each(frames.values()))
        for request in requests:
            if request.end:
                self._forget(_name(request))
        return [answers[place] for place in range(len(requests))]

    def _frame(self, request: Request, now: int) -> Frame:
        layout, name = request.layout or self._layout, _name(request)
        if request.start:
            self._forget(name)
        actor = self._actors.pop(name, None) or self._new()
        self._actors[name] = actor  # as the last one
        actor.frames, actor.last_ns = actor.frames + 1, now
        if layout not in (self._layout, *LAYOUTS):  # no file that a request names is opened
            raise FrameError("layout", f"layout: {layout!r} is none of {', '.join(LAYOUTS)}")
        return Frame(
            name, actor.frames, request.t_ns, request.positions, request.confidence, layout, now, request.rotations
        )

    def _new(self) -> _Actor:
        if len(self._actors) >= self._most:
            self._forget(next(iter(self._actors)))
        return _Actor()

    def _forget_idle(self, now: int) -> None:
        for name in [name for name, actor in self._actors.items() if now - actor.last_ns > self._idle_ns]:
            self._forget(name)

    def _forget(self, name: str) -> None:
        self._actors.pop(name, None)
        self._filter.remove(name)


def load(folder: Path, config: Mapping[str, Any]) -> Sequences:
    """Sequences on the model in the version ``folder`` of a repository, warm, with the settings of its config.pbtxt.

    Args:
        config: of the model, as Triton hands it to a backend: the message ModelConfig in JSON.
    Raises:
        ConfigError, ContractError, RuntimeUnavailable: one line each that says what to do.
    """
    settings = _settings(config.get("parameters", {}))
    layout = settings.pop("layout")
    try:
        batching = config["sequence_batching"]
        idle_s = int(batching["max_sequence_idle_microseconds"]) / 1e6
        most = int(batching["oldest"]["max_candidate_sequences"])
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            "config.pbtxt: sequence_batching must have max_sequence_idle_microseconds and oldest { "
            "max_candidate_sequences }, as hpstm export --triton writes it"
        ) from error
    room = 2 * most  # Triton may have given up, by its own watch, some that are not idle here yet
    pose_filter = PoseFilter.load(folder / WEIGHTS_FOLDER, max_actors=room, **settings)
    warm_up(pose_filter)
    return Sequences(pose_filter, room, idle_s, layout)


def _settings(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The model's own parameters as values; those in capitals are for Triton."""
    settings = dict(SETTINGS)
    for name, value in parameters.items():
        if name.isupper():
            continue
        if name not in SETTINGS:
            raise ConfigError(f"config.pbtxt: parameter {name!r} is none of {', '.join(SETTINGS)}")
        settings[name] = _value(name, str(value["string_value"]))
    return settings


def _value(name: str, text: str) -> Any:
    kind = type(SETTINGS[name])
    try:
        return FLAGS[text] if kind is bool else kind(text)
    except (KeyError, ValueError) as error:
        wanted = "true or false" if kind is bool else "a number"
        raise ConfigError(f"config.pbtxt: parameter {name} must be {wanted}, not {text!r}") from error


def _of_different(requests: Sequence[Request]) -> Sequence[Request]:
    """The first of some requests, up to the second one of a sequence: one that has ended may begin again at once."""
    names = set[str]()
    for n, request in enumerate(requests):
        if _name(request) in names:
            return requests[:n]
        names.add(_name(request))
    return requests


def _name(request: Request) -> str:
    return repr(request.sequence)
