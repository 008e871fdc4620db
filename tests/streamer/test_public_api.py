"""The public API with its types, in one place: whoever changes it sees it here, and says it in CHANGELOG.md."""

from __future__ import annotations

import dataclasses
import inspect
import re
from typing import Any

import streamer
import streamer.client
from streamer import errors

API = """
class Frame
    actor: str
    seq: int
    t_ns: int
    positions: Array
    confidence: Array | None = None
    layout: str = 'smpl_24'
    received_ns: int = 0
    rotations: Array | None = None
class Pose
    actor: str
    seq: int
    t_ns: int
    status: Status
    positions: Array
    rotations: Array
    root: Array
    lengths_m: Array
    offsets_m: Array
    covariance: Array
    contact: Array
    captured_ns: int = 0
    received_ns: int = 0
    inferred_ns: int = 0
    published_ns: int = 0
    skipped: int = 0
    skeleton_version: int = 0
    layout: str = ''
    source: Array | None = None
    sigma_rad: Array | None = None
    velocity: Array | None = None
    angular_velocity: Array | None = None
    rotation_sigma -> Array
class PoseFilter
    .runtime
    .rejected
    __init__(
        runtime: Runtime,
        delay_s: float = 0.0,
        predict_s: float = 0.0,
        max_actors: int = 64,
        source: bool = True,
        landmarks: bool = False,
        velocities: bool = False,
        foot_lock: bool = False
    )
    load(
        path: str | Path | None = None,
        runtime: str = 'auto',
        threads: int = 1,
        delay_s: float = 0.0,
        predict_s: float = 0.0,
        max_actors: int = 64,
        source: bool = True,
        landmarks: bool = False,
        velocities: bool = False,
        foot_lock: bool = False,
        **options: Any
    ) -> PoseFilter
    actors -> Mapping[str, Actor]
    counts -> Counter[str]
    warnings(actor: str | None = None) -> list[str]
    push(frame: Frame) -> Pose
    push_many(frames: Iterable[Frame]) -> list[Pose | None]
    push_each(frames: Iterable[Frame]) -> list[Pose | FrameError]
    pose_at(t_ns: int, actor: str) -> Pose
    poses_at(times_ns: Mapping[str, int]) -> dict[str, Pose]
    delay_s -> float
    predict_s -> float
    set_time(delay_s: float = 0.0, predict_s: float = 0.0)
    wanted_ns(t_ns: int, actor: str) -> int
    reset(actor: str)
    calibrate(actor: str, seconds: float | None = None)
    standing(actor: str) -> Standing | None
    remove(actor: str)
    get_skeleton(actor: str) -> SkeletonInUse | None
    set_skeleton(actor: str, offsets_m: F32, version: int | None = None)
__version__: str
class ClientKeys
    public: bytes
    secret: bytes
    server: bytes
    load(key: str | Path, server_key: str | Path) -> ClientKeys
    apply(socket: zmq.Socket[bytes])
class ControlClient
    __init__(
        endpoint: str = 'tcp://127.0.0.1:5752',
        timeout_s: float = 1.0,
        curve: ClientKeys | None = None
    )
    ask(command: str, **fields: Any) -> dict[str, Any] | None
    status() -> dict[str, Any]
    set_time(
        delay_s: float | None = None,
        predict_s: float | None = None,
        rate_hz: float | None = None
    ) -> dict[str, float]
    clock(trips: int = 8) -> Offset | None
    close()
class FrameSender
    .dropped
    __init__(
        endpoint: str | None = None,
        wait_s: float = 2.0,
        curve: ClientKeys | None = None,
        inside: zmq.Context[Any] | None = None,
        servers: Sequence[str] = ()
    )
    joined -> bool
    sent -> int
    server_of(actor: str) -> str | None
    send(frame: Frame)
    send_bytes(message: bytes)
    close()
class PoseSubscriber
    .skeletons
    .stale
    __init__(
        endpoint: str | None = None,
        actor: str | None = None,
        every: bool = False,
        stale_s: float = 0.1,
        curve: ClientKeys | None = None,
        clock: HostClock | None = None,
        inside: zmq.Context[Any] | None = None,
        servers: Sequence[str] = ()
    )
    receive(timeout_s: float | None = None) -> Pose | None
    poses(stopped: Callable[[], bool]) -> Iterator[Pose]
    newest() -> list[Pose]
    close()
    offset -> Offset | None
    age_ns(pose: Pose) -> int | None
class HPSTMError(Exception)
class ConfigError(HPSTMError)
class SecurityError(ConfigError)
class ContractError(HPSTMError)
class RuntimeUnavailable(HPSTMError)
class RecordingError(HPSTMError)
class FrameError(HPSTMError)
    .reason
    __init__(reason: str, message: str = '')
class ProtocolError(HPSTMError)
    .reason
    .field
    __init__(reason: str, field: str = '', message: str = '')
"""


def described(name: str, thing: Any) -> list[str]:
    """The lines of one name: a class with its fields, properties and methods, or a value."""
    if not isinstance(thing, type):
        return [f"{name}: {type(thing).__name__}"]
    bases = [base.__name__ for base in thing.__bases__ if base is not object]
    lines = [f"class {name}({', '.join(bases)})" if bases else f"class {name}"]
    fields = dataclasses.fields(thing) if dataclasses.is_dataclass(thing) else ()
    for field in fields:
        default = "" if field.default is dataclasses.MISSING else f" = {field.default!r}"
        lines.append(f"    {field.name}: {field.type}{default}")
    lines += attributes(thing)
    for member, value in vars(thing).items():
        if isinstance(value, property):
            lines.append(f"    {member} -> {inspect.signature(value.fget).return_annotation}")  # type: ignore[arg-type]
        elif isinstance(value, classmethod):
            lines.append(f"    {member}{signature(value.__func__)}")
        elif inspect.isfunction(value) and (not member.startswith("_") or (member == "__init__" and not fields)):
            lines.append(f"    {member}{signature(value)}")
    return lines


def signature(function: Any) -> str:
    """As it is written, without self or cls; a line a parameter where it is long."""
    found = inspect.signature(function)
    words = [str(parameter) for parameter in list(found.parameters.values())[1:]]
    returned = "" if found.return_annotation in ("None", None) else f" -> {found.return_annotation}"
    short = f"({', '.join(words)}){returned}"
    text = short if len(short) < 90 else "(\n        " + ",\n        ".join(words) + f"\n    ){returned}"
    return re.sub(r"(: )'([^']*)'", r"\1\2", text)  # types are strings here


def attributes(thing: type) -> list[str]:
    """Names that ``__init__`` gives to the object for everybody: ``self.name = ...``."""
    if dataclasses.is_dataclass(thing) or "__init__" not in vars(thing):
        return []
    names = re.findall(r"self\.([a-z]\w*)(?:: [^=\n]+)?(?=[, ]*=[^=]| = )", inspect.getsource(vars(thing)["__init__"]))
    return [f"    .{name}" for name in dict.fromkeys(names)]


def api() -> str:
    names = [(name, getattr(streamer, name)) for name in streamer.__all__]
    names += [(name, getattr(streamer.client, name)) for name in streamer.client.__all__]
    names += [(name, thing) for name, thing in vars(errors).items() if isinstance(thing, type)]
    lines: list[str] = []
    for name, thing in names:
        lines += described(name, thing)
    return "\n".join(lines)


def test_the_public_api_is_the_one_that_is_listed() -> None:
    now, listed = api().splitlines(), API.strip().splitlines()
    gone = [line for line in listed if line not in now]
    new = [line for line in now if line not in listed]
    assert not gone, "taken away or changed: is it meant, and in CHANGELOG.md?"
    assert not new, "new or changed: list it here, and in CHANGELOG.md"
    assert now == listed


def test_all_that_is_public_says_what_it_does() -> None:
    for module in (streamer, streamer.client):
        for name in module.__all__:
            thing = getattr(module, name)
            if isinstance(thing, type):
                silent = [
                    member
                    for member, value in vars(thing).items()
                    if inspect.isfunction(value) and not member.startswith("_") and not value.__doc__
                ]
                assert thing.__doc__
                assert set(silent) <= {"close"}
