"""What a training run keeps in its folder, in safetensors: averaged weights with their sizes, and all a resume needs.

Files are written beside and renamed, so that a cut never leaves half a file.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

AVERAGED, RESUME, BEST = "averaged.safetensors", "resume.safetensors", "best.safetensors"


@torch.no_grad()
def average(kept: nn.Module, model: nn.Module, share: float) -> None:
    """Moves the averaged weights towards the newest, which count 1 - ``share``."""
    for old, new in zip(kept.parameters(), model.parameters(), strict=True):
        old.lerp_(new, 1 - share)


def save(
    out: Path,
    model: nn.Module,
    kept: nn.Module,
    optimizer: torch.optim.Optimizer,
    at: tuple[int, float],
    metadata: Mapping[str, str],
) -> None:
    """``at``: steps done and minutes spent. ``metadata`` goes into the file of the averaged weights."""
    step, minutes = at
    _write(kept.state_dict(), out / AVERAGED, {**metadata, "step": str(step)})
    parts = {f"model.{k}": v for k, v in model.state_dict().items()}
    for i, state in optimizer.state_dict()["state"].items():
        parts |= {f"optimizer.{i}.{k}": torch.as_tensor(v).clone() for k, v in state.items()}
    _write(parts, out / RESUME, {"step": str(step), "minutes": str(minutes)})


def keep_best(out: Path, kept: nn.Module, left: float, step: int) -> int:
    """Keeps these weights if less is ``left`` of the error with them than with those kept before; the best's step."""
    if (out / BEST).exists():
        with safe_open(out / BEST, "pt") as file:
            said = file.metadata()
        if float(said["left"]) <= left:
            return int(said["step"])
    _write(kept.state_dict(), out / BEST, {"left": str(left), "step": str(step)})
    return step


def best(out: Path) -> dict[str, Tensor]:
    """The weights that ``keep_best`` kept."""
    return load_file(out / BEST)


def write_weights(model: nn.Module, path: Path, metadata: Mapping[str, str]) -> None:
    """One model's weights, with its sizes in ``metadata``."""
    _write(model.state_dict(), path, dict(metadata))


def resume(out: Path, model: nn.Module, kept: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[int, float]:
    """Loads the run that is in ``out``, if any; steps done and minutes spent."""
    if not (out / RESUME).exists():
        return 0, 0.0
    parts = load_file(out / RESUME)
    model.load_state_dict({k[6:]: v for k, v in parts.items() if k.startswith("model.")})
    kept.load_state_dict(load_file(out / AVERAGED))
    whole = optimizer.state_dict()
    whole["state"] = {}
    for name, value in parts.items():
        if name.startswith("optimizer."):
            _, index, key = name.split(".", 2)
            whole["state"].setdefault(int(index), {})[key] = value
    optimizer.load_state_dict(whole)
    with safe_open(out / RESUME, "pt") as file:
        return int(file.metadata()["step"]), float(file.metadata()["minutes"])


def pack(out: Path, name: str) -> Path:
    """The averaged weights of a run as float16, in ``out``/``name``.safetensors: half the size, to keep beside code."""
    with safe_open(out / AVERAGED, "pt") as file:
        metadata = file.metadata()
    path = out / f"{name}.safetensors"
    _write({key: value.half() for key, value in load_file(out / AVERAGED).items()}, path, metadata)
    return path


def _write(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
    save_file(tensors, path.with_suffix(".tmp"), metadata=metadata)
    path.with_suffix(".tmp").replace(path)
