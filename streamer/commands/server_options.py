"""What a server can be told on the command line: options of ``hpstm serve``, and of ``hpstm live`` for its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from cyclopts import Group, Parameter
from cyclopts.validators import mutually_exclusive

from streamer.commands.options import BUNDLED, Control, In, Out
from streamer.wire.endpoints import DEFAULT_CONTROL, DEFAULT_IN, DEFAULT_OUT

if TYPE_CHECKING:
    from streamer.server.config import ServerConfig

LATE_OR_EARLY = Group("Which pose (at most one of these)", validator=mutually_exclusive)


@Parameter(name="*")
@dataclass(frozen=True)
class ServerOptions:
    """Settings of a server.

    Args:
        connect_in: Also connect to a source that binds this endpoint; may be repeated.
        delay: Fixed lag for a smoother pose [s], 0 to 0.2.
        predict: Predict ahead [s], 0 to 0.15.
        rate: Steady output clock [Hz], coasting over gaps; 0: one pose a frame.
        source_joints: Send the source's own joints, refined, in each pose as well.
        landmarks: Turn head, hands and feet as face, fingers and heels say, where those are good.
        velocities: Say how fast joints move and turn, in each pose.
        foot_lock: Hold planted feet where they stand.
        runtime: auto (native, else onnx), native, onnx, tensorrt, torch, torch_cuda.
        threads: Threads that share a crowd of actors.
        weights: Folder of another model.
        max_actors: Most actors at a time.
        evict: Forget actors that were silent this long [s].
        budget_ms: Skip frames that would take longer than this [ms].
        no_rehearsal: Let the filter grow cold between frames: less work, later answers.
        metrics_port: Prometheus text on 127.0.0.1 at this port; 0: none.
        allow_remote: Open endpoints to other machines: no encryption, no password.
        curve: Encrypt, and let in only whose key is in clients/ of this folder; hpstm keys makes them.
        skeletons: Keep actors' skeletons in this folder, over restarts.
    """

    in_endpoint: In = DEFAULT_IN
    out_endpoint: Out = DEFAULT_OUT
    control_endpoint: Control = DEFAULT_CONTROL
    connect_in: tuple[str, ...] = ()
    delay: Annotated[float, Parameter(group=LATE_OR_EARLY)] = 0.0
    predict: Annotated[float, Parameter(group=LATE_OR_EARLY)] = 0.0
    rate: float = 0.0
    source_joints: bool = False
    landmarks: bool = False
    velocities: bool = False
    foot_lock: bool = False
    runtime: str = "auto"
    threads: int = 1
    weights: Annotated[str | None, Parameter(show_default=BUNDLED)] = None
    max_actors: int = 64
    evict: float = 30.0
    budget_ms: float = 20.0
    no_rehearsal: bool = False
    metrics_port: int = 0
    allow_remote: bool = False
    curve: str | None = None
    skeletons: str | None = None

    def config(self, layouts: tuple[str, ...]) -> ServerConfig:
        """The settings, with TOML files of layouts."""
        from streamer.server.config import ServerConfig

        return ServerConfig(
            in_endpoint=self.in_endpoint, out_endpoint=self.out_endpoint, control_endpoint=self.control_endpoint,
            connect_in=self.connect_in, layouts=layouts, weights=self.weights, runtime=self.runtime,
            threads=self.threads, delay_s=self.delay, predict_s=self.predict, rate_hz=self.rate,
            max_actors=self.max_actors, evict_s=self.evict, budget_s=self.budget_ms / 1e3,
            metrics_port=self.metrics_port, allow_remote=self.allow_remote, curve=self.curve,
            rehearse=not self.no_rehearsal, skeletons=self.skeletons, source_joints=self.source_joints,
            landmarks=self.landmarks, velocities=self.velocities,
            foot_lock=self.foot_lock,
        )  # fmt: skip


DEFAULTS = ServerOptions()
