"""What an exported model says of itself: the metadata inside the ONNX files, and the check that refuses another.

Pure Python: the streamer imports it. export.py writes it, every runtime reads it before it starts.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from model.skeleton import JOINTS, PARENTS

VERSION = 2
KEY = "hpstm_contract"  # name of the metadata entry
UNITS = "m"
AXES = "right-handed, Y up"
ROTATIONS = "parent_from_joint xyzw relative to the T-pose; the root's is world_from_joint"
WEIGHTS = Path(__file__).parent / "weights"
GRAPHS = ("step", "head", "skeleton")
POSE = ("positions", "source", "rotations", "covariance", "contact")
WEIGHTS_FILE = "weights.safetensors"
SUMS = "SHA256SUMS"  # of a model folder, as `sha256sum -c` reads it


class ContractError(ValueError):
    """A model file that this code cannot run; says which entry differs and what to do."""


@dataclass(frozen=True)
class Contract:
    """Everything a runtime in any language needs to drive the graphs, whose inputs export.py lists."""

    version: int
    joints: tuple[str, ...]
    parents: tuple[int, ...]
    units: str  # of positions: metres
    axes: str  # world axes
    rotations: str
    window: int  # ring slots W
    layers: int
    heads: int
    head_width: int
    latent: int
    state: Mapping[str, tuple[int, ...]]  # groups of the actor's state and their shapes; all zeros at the start
    angular_hz: tuple[float, ...]  # (D,) rotary angular frequencies [rad/s]; phase = these x seconds since any epoch
    blocked: float  # what an empty ring slot holds in ``blocked``
    tau_s: tuple[float, float]  # reach of the pose head
    calibration_events_s: tuple[float, ...]
    calibration_longest_step_s: float
    rest_offsets_m: tuple[tuple[float, float, float], ...]
    tolerance_mm: float  # how far a runtime may be from the torch reference
    weights_sha256: str
    name: str

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str, source: str) -> Contract:
        """Raises ContractError when an entry is missing or of another version or skeleton."""
        try:
            raw = json.loads(text)
        except json.JSONDecodeError as error:
            raise ContractError(f"{source}: the model's contract is not JSON ({error}); export it again") from error
        if not isinstance(raw, dict):
            raise ContractError(f"{source}: the model's contract is not a JSON object; export the model again")
        if raw.get("version") != VERSION:
            raise ContractError(
                f"{source}: contract version {raw.get('version')!r}, this program runs version {VERSION}; "
                "export the model again with `hpstm export`, or install the hpstm-live version that wrote it"
            )
        missing = [field.name for field in fields(cls) if field.name not in raw]
        if missing:
            raise ContractError(f"{source}: the contract lacks {', '.join(missing)}; export the model again")
        known: dict[str, Any] = {field.name: _tuples(raw[field.name]) for field in fields(cls)}
        contract = cls(**known)
        expected = {"joints": JOINTS, "parents": PARENTS, "units": UNITS, "axes": AXES, "rotations": ROTATIONS}
        for name, want in expected.items():
            if getattr(contract, name) != want:
                raise ContractError(f"{source}: the contract's {name} are not what this program runs; export it again")
        for name, length in (("tau_s", 2), ("rest_offsets_m", len(JOINTS)), ("angular_hz", contract.head_width)):
            value = getattr(contract, name)
            if not isinstance(value, tuple) or len(value) != length:
                raise ContractError(f"{source}: the contract's {name} must be {length} entries; export the model again")
        return contract

    def check_shapes(self, shapes: dict[str, tuple[int | str | None, ...]], source: str) -> None:
        """Compare a graph's input shapes with the contract; symbolic axes (the batch) pass."""
        want = self.input_shapes()
        for name, shape in shapes.items():
            if name not in want:
                raise ContractError(f"{source}: input {name!r} is not in the contract; export the model again")
            got = tuple(shape[1:])
            if got != want[name]:
                raise ContractError(
                    f"{source}: input {name!r} has shape {got} after the batch, the contract {want[name]}"
                )

    def check_outputs(self, graph: str, outputs: Iterable[str], source: str) -> None:
        """Raises ContractError when the outputs are not those of the graph called ``graph``: it is another one."""
        of = {"step": {"latent", "rows", *POSE, *(f"out_{name}" for name in self.state)}, "head": {*POSE},
              "skeleton": {"skeleton"}}  # fmt: skip
        got = set(outputs)
        if got != of[graph]:
            found = next((f"this is the {name}" for name in GRAPHS if of[name] == got), "its outputs are others")
            raise ContractError(f"{source} is not the {graph} that it is called: {found}; export the model again")

    def pose_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every part of a pose after the batch axis, in the order of the graphs' outputs."""
        j = len(self.joints)
        return dict(zip(POSE, ((j, 3), (j, 3), (j, 4), (j, 3, 3), (2,)), strict=True))

    def input_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every input of the graphs after the batch axis."""
        j, ring = len(self.joints), (self.heads, self.window, self.head_width)
        rings = {f"{kind}_{i}": ring for i in range(self.layers) for kind in ("keys", "values")}
        return rings | dict(self.state) | {
            "frame": (6, j), "time": (1 + 2 * len(self.angular_hz),), "blocked": (self.window,),
            "latent": (self.latent,), "tau_s": (), "offsets_m": (j, 3), "previous": (j, 4),
        }  # fmt: skip


def _tuples(value: object) -> object:
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_sums(folder: Path) -> None:
    """Writes the checksums of a model folder's files, which ``check_sums`` compares."""
    names = [name for name in (*(f"{graph}.onnx" for graph in GRAPHS), WEIGHTS_FILE) if (folder / name).exists()]
    (folder / SUMS).write_text("".join(f"{sha256(folder / name)}  {name}\n" for name in names), encoding="utf-8")


def check_sums(folder: Path, contract: Contract) -> None:
    """Compares the graphs of a model folder with the checksums that were exported with them.

    Raises:
        ContractError: a byte of one is another, or they come from other weights than the contract says.
    """
    try:
        lines = (folder / SUMS).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ContractError(f"{folder / SUMS} cannot be read ({error}); export the model again") from error
    known = {name.strip(): digest for digest, _, name in (line.partition(" ") for line in lines)}
    for graph in GRAPHS:
        path = folder / f"{graph}.onnx"
        if sha256(path) != known.get(path.name):
            raise ContractError(f"{path} is damaged: its bytes are not those of {SUMS}; copy or export it again")
    if known.get(WEIGHTS_FILE, contract.weights_sha256) != contract.weights_sha256:
        raise ContractError(f"{folder}: the graphs come from other weights than {SUMS} says; export the model again")
