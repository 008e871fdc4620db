"""Training of the windowed peers that the bench compares the live filter with: resumable, on the same data and noise.

``hpstm train-windowed --model offline|smoothnet --data train.npz --out runs/NAME --minutes 30`` continues a run that is
there. Validation is on the subjects that model.train leaves out, with an estimator's noise.
"""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from cyclopts import CycloptsError
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.data import DataLoader

from model.motion.endless import Motion
from model.noise.config import REALISTIC
from model.peers.offline import OfflineConfig, OfflineModel
from model.peers.smoothnet import SmoothNet, SmoothNetConfig, smoothnet_loss
from model.peers.windows import Windows, WindowSampler, WindowStream
from model.prepare import ClipError
from model.training import checkpoint
from model.training.dataset import Packed
from model.training.held_out import VALIDATION, validation_clips

Peer = OfflineModel | SmoothNet
# A tenth of HPSTM's published size and no dropout: what trains well in half an hour on one core.
OFFLINE = OfflineConfig(d_model=192, heads=6, encoder_layers=3, decoder_layers=3, feedforward=576, dropout=0.0)


@dataclass(frozen=True)
class Kind:
    """What differs between the peers."""

    config: Callable[..., Any]
    model: Callable[..., Peer]
    default: OfflineConfig | SmoothNetConfig
    loss: Callable[[Tensor, Tensor], Tensor]
    batch: int  # windows
    rate: float


def offline_loss(positions: Tensor, clean: Tensor) -> Tensor:
    """HPSTM's pose, velocity and acceleration terms at its weights, as mean distances, (B, W, J, 3) each [m]."""
    error = positions - clean
    velocity = error[:, 1:] - error[:, :-1]
    terms = zip((1.0, 0.75, 0.5), (error, velocity, velocity[:, 1:] - velocity[:, :-1]), strict=True)
    return torch.stack([weight * term.norm(dim=-1).mean() for weight, term in terms]).sum()


KINDS = {
    "offline": Kind(OfflineConfig, OfflineModel, OFFLINE, offline_loss, 48, 1e-3),
    "smoothnet": Kind(SmoothNetConfig, SmoothNet, SmoothNetConfig(), smoothnet_loss, 48, 1e-3),
}


@dataclass(frozen=True)
class Plan:
    """One training run; its budget is processor time, for a busy machine gives little in an hour, and the schedule
    follows the part of it that is spent."""

    model: str
    data: Path
    out: Path
    minutes: float = 30.0
    config: OfflineConfig | SmoothNetConfig | None = None
    fast: float = 0.9  # part of the budget with the network's products in bfloat16
    warmup: int = 200
    average: float = 0.999
    seed: int = 0
    threads: int = 1
    save_every: int = 200
    check_every: int = 500

    @property
    def kind(self) -> Kind:
        return KINDS[self.model]


def smoothed(model: Peer, noisy: Tensor, fast: bool = False) -> Tensor:
    """(B, W, J, 3) a peer's joints of noisy windows [m]."""
    out = model(noisy, fast)
    return out if isinstance(model, SmoothNet) else out.positions


def rate_at(step: int, minutes: float, plan: Plan) -> float:
    """Linear warm-up over steps, then a half cosine over the budget, to 1 % of the rate."""
    cosine = 0.01 + 0.99 * 0.5 * (1 + float(np.cos(np.pi * min(1.0, minutes / plan.minutes))))
    return plan.kind.rate * cosine * min(1.0, (step + 1) / plan.warmup)


def train(plan: Plan) -> Path:
    """Train or resume; returns the file of the averaged weights in float16 (safetensors), as the bench reads it."""
    torch.set_num_threads(plan.threads)
    torch.manual_seed(plan.seed)
    plan.out.mkdir(parents=True, exist_ok=True)
    model = plan.kind.model(plan.config or plan.kind.default)
    kept = copy.deepcopy(model).eval()
    optimizer = torch.optim.AdamW(model.parameters(), lr=plan.kind.rate, weight_decay=0.01, betas=(0.9, 0.98))
    step, minutes = checkpoint.resume(plan.out, model, kept, optimizer)
    metadata = {"model": plan.model, "config": json.dumps(asdict(model.config))}
    held_out = validation_windows(plan.data, model.config.window)
    stream = WindowStream(plan.data, plan.kind.batch, model.config.window, plan.seed * 100_003 + step, VALIDATION)
    loader = iter(DataLoader(stream, batch_size=None, num_workers=1, prefetch_factor=3, multiprocessing_context="fork"))
    started, recent = time.process_time() - 60 * minutes, 0.0
    while minutes < plan.minutes:
        for group in optimizer.param_groups:
            group["lr"] = rate_at(step, minutes, plan)
        loss = train_step(model, optimizer, next(loader), plan.kind.loss, minutes < plan.fast * plan.minutes)
        step, minutes = step + 1, (time.process_time() - started) / 60
        checkpoint.average(kept, model, min(plan.average, step / (step + 10)))
        recent += 0.02 * (loss - recent) if recent else loss
        if step % plan.check_every == 0:
            _log(plan, {"step": step, "minutes": minutes, "loss_mm": 1e3 * recent, **validate(kept, held_out)})
        if step % plan.save_every == 0:
            checkpoint.save(plan.out, model, kept, optimizer, (step, minutes), metadata)
    _log(plan, {"step": step, "minutes": minutes, "loss_mm": 1e3 * recent, **validate(kept, held_out)})
    checkpoint.save(plan.out, model, kept, optimizer, (step, minutes), metadata)
    return checkpoint.pack(plan.out, plan.model)


def train_step(
    model: Peer,
    optimizer: torch.optim.Optimizer,
    batch: Windows,
    loss_of: Callable[[Tensor, Tensor], Tensor],
    fast: bool = False,
) -> float:
    """One update and its loss [m]; a batch whose gradient is not finite is passed over."""
    with sdpa_kernel(SDPBackend.MATH):  # in bfloat16 on a CPU twice as fast as the flash kernel and its gradient
        loss = loss_of(smoothed(model, batch.noisy, fast), batch.clean)
        optimizer.zero_grad(set_to_none=True)
        (10 * loss).backward()
    if bool(torch.isfinite(torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0))):
        optimizer.step()
    return float(loss.detach())


def validation_windows(data: Path, window: int) -> Windows:
    """Fixed windows of the held-out subjects with the noise of an estimator."""
    motion = Motion.from_clips(validation_clips(data, VALIDATION))
    return WindowSampler(motion, 7, window, REALISTIC, augment=False).windows(256)


@torch.no_grad()
def validate(model: Peer, windows: Windows) -> dict[str, float]:
    """Errors of input and output: joints in the world [mm] over the window, in its middle and last frame, from the
    pelvis [mm], and of the acceleration [mm/frame^2]."""
    row: dict[str, float] = {}
    out = torch.cat([smoothed(model, noisy) for noisy in windows.noisy.split(32)])
    for name, x in (("raw", windows.noisy), ("out", out)):
        error = 1e3 * (x - windows.clean)
        distance = error.norm(dim=-1).mean((0, 2))  # (W,)
        row[f"{name}_mm"] = float(distance.mean())
        row[f"{name}_middle_mm"] = float(distance[len(distance) // 2])
        row[f"{name}_last_mm"] = float(distance[-1])
        row[f"{name}_root_relative_mm"] = float((error - error[:, :, :1]).norm(dim=-1).mean())
        second = error[:, 2:] - 2 * error[:, 1:-1] + error[:, :-2]
        row[f"{name}_accel"] = float(second.norm(dim=-1).mean())
    return row


def _log(plan: Plan, row: dict[str, float]) -> None:
    with (plan.out / "log.jsonl").open("a") as file:
        file.write(json.dumps({k: round(v, 3) for k, v in row.items()}) + "\n")
    print("check", row, flush=True)


def load_peer(path: Path) -> Peer:
    """The model of a weights file (float16 or float32) in float32, in the sizes that its metadata states."""
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    kind = KINDS[metadata["model"]]
    model = kind.model(kind.config(**json.loads(metadata["config"])))
    model.load_state_dict({name: value.float() for name, value in load_file(path).items()})
    return model.eval()


def command(
    *, model: Literal["offline", "smoothnet"], data: Packed, out: Path, minutes: float = 30.0, threads: int = 1
) -> int:
    """Train a windowed peer of the bench, or continue the run that is in --out.

    Args:
        model: Which one.
        out: Folder of the run.
        minutes: Of processor time, of the whole run [min].
        threads: Of the training process.
    """
    try:
        weights = train(Plan(model, data, out, minutes, threads=threads))
    except ClipError as error:
        raise CycloptsError(str(error)) from error
    print(f"{weights}: the bench reads it from bench/weights/")
    return 0
