"""The settings of a server, checked before anything is opened."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from model.layouts import LayoutError, get_layout
from streamer.errors import ConfigError
from streamer.server.output_clock import check_rate
from streamer.wire.endpoints import DEFAULT_CONTROL, DEFAULT_IN, DEFAULT_OUT
from streamer.wire.security import ServerKeys, check_endpoint

LONGEST_BUDGET_S = 60.0
GPU_RUNTIMES = ("tensorrt", "torch_cuda")


@dataclass(frozen=True)
class ServerConfig:
    """Settings of one server; checked when it starts."""

    in_endpoint: str = DEFAULT_IN
    out_endpoint: str = DEFAULT_OUT
    control_endpoint: str = DEFAULT_CONTROL
    connect_in: tuple[str, ...] = ()  # sources that bind, which we connect to
    layouts: tuple[str, ...] = ()  # TOML files; frames name such a layout by the file's stem
    weights: str | None = None
    runtime: str = "auto"
    threads: int = 1
    delay_s: float = 0.0
    predict_s: float = 0.0
    source_joints: bool = False  # poses carry the source's own joints, refined
    landmarks: bool = False  # face, fingers and heels turn head, hands and feet
    velocities: bool = False  # poses carry how fast joints move and turn
    foot_lock: bool = False  # planted feet stand still
    rate_hz: float = 0.0  # 0: one pose per frame; else a steady output clock
    max_actors: int = 64
    evict_s: float = 30.0
    rehearse: bool = True  # keep the filter warm while waiting: sooner answers, some per cent of a core
    budget_s: float = 0.020  # frames that would take longer than this to infer are skipped, oldest first
    metrics_port: int = 0
    allow_remote: bool = False
    curve: str | None = None  # the folder of the server's keys: encrypted, for listed clients only
    skeletons: str | None = None  # the folder where skeletons outlive the server; None: nowhere

    def check(self) -> None:
        """Raises ConfigError, or SecurityError, in one line that says what to do."""
        for endpoint in (self.in_endpoint, self.out_endpoint, self.control_endpoint, *self.connect_in):
            check_endpoint(endpoint, self.allow_remote or self.curve is not None)
        check_rate(self.rate_hz, "--rate")
        if not 0 < self.budget_s <= LONGEST_BUDGET_S:
            most = 1e3 * LONGEST_BUDGET_S
            raise ConfigError(f"--budget-ms must be between 0 and {most:g}, not {1e3 * self.budget_s:g}")
        if not self.evict_s > 0:
            raise ConfigError(f"--evict must be positive, not {self.evict_s:g}")
        if not 0 <= self.metrics_port <= 65535:
            raise ConfigError(f"--metrics-port must be between 0 (none) and 65535, not {self.metrics_port}")
        for path in self.layouts:
            _check_layout(path)
        self.keys()

    def keys(self) -> ServerKeys | None:
        """What ``curve`` names. Raises SecurityError."""
        return None if self.curve is None else ServerKeys.load(self.curve)

    @property
    def rehearses(self) -> bool:
        """On a CPU's caches only: on a GPU it would take a row that an actor may need."""
        return self.rehearse and self.runtime not in GPU_RUNTIMES

    def layout_paths(self) -> dict[str, str]:
        """Name as frames give it -> file, for the operator's own layouts."""
        return {Path(path).stem: str(Path(path).resolve()) for path in self.layouts}


def _check_layout(path: str) -> None:
    try:
        get_layout(path)
    except LayoutError as error:
        raise ConfigError(str(error)) from error
