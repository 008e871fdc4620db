"""Training: resumable, with progress, validation on subjects left out of training, and one log file a run.

``hpstm train --data train.npz --out runs/NAME --minutes 60`` continues a run that is there. Several processes share one
run's batches under torchrun (ranks.py); command.py holds the command's options.
"""

from __future__ import annotations

import copy
import json
import platform
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from model.network.causal import CausalFilter, Config
from model.noise.config import SOURCES
from model.training import checkpoint
from model.training.dataset import (
    FOR_COVARIANCES,
    FOR_POSES,
    FOR_TRUST,
    Batch,
    Drawn,
    Mix,
    Stream,
    moved,
)
from model.training.forward import raw_positions, run_batch
from model.training.held_out import VALIDATION
from model.training.losses import WEIGHTS, losses
from model.training.ranks import Ranks, RunError, joined
from model.training.uncertainty import fit_covariance
from model.training.validation import validate, validation_batches
from model.training.weighing import fit_trust

T = TypeVar("T")


@dataclass(frozen=True)
class Plan:
    """One training run. Its budget is time on the machine at hand, or updates; the schedule follows the part of it that
    is spent, over all resumes."""

    data: Path
    out: Path
    pairs: tuple[Path, ...] = ()  # recordings of a real estimator with truth, for some of the batches
    minutes: float = 60.0
    steps: int | None = None  # the budget in updates instead of minutes
    batch: int = 48
    parts: int = 1  # of each batch: drawn with seeds of their own and scored by themselves, shared out to processes
    length: int = 96  # or half of the batch and twice the length, by turns
    rate: float = 2e-3
    fast: float = 0.92  # part of the budget with the network's products in bfloat16
    warmup: int = 100
    average: float = 0.999  # of the weights that are kept
    seed: int = 0
    threads: int = 1
    device: str = "cpu"
    start: Path | None = None  # weights to begin with; what they lack starts as new
    save_every: int = 100
    check_every: int = 500
    trust_steps: int = 450  # after all others, of how far filters are to be trusted alone,
    spread_steps: int = 500  # and at last of the covariances

    def spent(self, step: int, minutes: float) -> float:
        """The part of the budget that is spent, 1 at its end."""
        return minutes / self.minutes if self.steps is None else step / self.steps


def batch_losses(model: CausalFilter, batch: Batch, fast: bool = False) -> dict[str, Tensor]:
    pose, observed, running = run_batch(model, batch, fast)
    return losses(
        pose, batch.target, batch.dt_s, batch.tau_s, observed, running, batch.own_target_m, raw_positions(batch)
    )


def rate_at(step: int, minutes: float, plan: Plan) -> float:
    """Linear warm-up over steps, then a half cosine over the budget, to 2 % of the rate."""
    part = min(1.0, plan.spent(step, minutes))
    cosine = 0.02 + 0.98 * 0.5 * (1 + float(np.cos(np.pi * part)))
    return plan.rate * cosine * min(1.0, (step + 1) / plan.warmup)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate


def train(plan: Plan, config: Config | None = None) -> Path:
    """Train or resume, alone or as one of several processes; returns the file of the averaged weights (safetensors).

    Raises:
        RunError: the processes cannot share the batches, or not all of them see the run that is in ``plan.out``.
    """
    with joined(plan.device) as ranks:
        return _train(plan, config, ranks)


def _train(plan: Plan, config: Config | None, ranks: Ranks) -> Path:
    mine = ranks.share(plan.batch, plan.parts)
    torch.set_num_threads(plan.threads)
    torch.manual_seed(plan.seed)
    plan.out.mkdir(parents=True, exist_ok=True)
    model = _new_model(plan, config)
    kept = copy.deepcopy(model).eval()
    optimizer = torch.optim.AdamW(model.parameters(), lr=plan.rate, weight_decay=0.05, betas=(0.9, 0.98))
    step, spent = checkpoint.resume(plan.out, model, kept, optimizer)
    if step != ranks.of_first(step):
        raise RunError(f"--out {plan.out}: process {ranks.rank} finds another run there; give a folder all share")
    if step and plan.spent(step, ranks.of_first(spent)) >= 1.0:
        return plan.out / checkpoint.AVERAGED
    checks: dict[str, Batch] = {}
    if ranks.first:
        if step == 0:
            _log(plan, settings_of(plan, model))
        checks = {n: moved(batch, torch.device(plan.device)) for n, batch in validation_batches(plan.data).items()}
    batches = repeated(parts_of_batches(plan, plan.seed * 100_003 + step, mine))
    started, recent, minutes = time.monotonic(), dict.fromkeys(WEIGHTS, 0.0), ranks.of_first(spent)
    while plan.spent(step, minutes) < 1.0:
        set_rate(optimizer, rate_at(step, minutes, plan))
        fast = plan.spent(step, minutes) < plan.fast
        terms = shared_step(model, optimizer, next(batches), fast, ranks, step)
        step += 1
        minutes = ranks.of_first(spent + (time.monotonic() - started) / 60)
        checkpoint.average(kept, model, min(plan.average, step / (step + 10)))
        recent = {name: recent[name] + 0.05 * (float(term) - recent[name]) for name, term in terms.items()}
        if not ranks.first:
            continue
        if step % 20 == 0:
            print(f"step {step} {minutes:.1f}/{plan.minutes:.0f} min  {shown(recent)}", flush=True)
        if step % plan.check_every == 0:
            row = validate(kept, checks)
            _log(plan, {"step": step, "minutes": minutes, **row})
            checkpoint.keep_best(plan.out, kept, row["left"], step)
        if step % plan.save_every == 0:
            checkpoint.save(plan.out, model, kept, optimizer, (step, minutes), _sizes(model))
    if ranks.first:
        _finish(plan, kept, checks, step)
        _log(plan, {"step": step, "minutes": minutes, **validate(kept, checks)})
        checkpoint.save(plan.out, model, kept, optimizer, (step, minutes), _sizes(model))
    return plan.out / checkpoint.AVERAGED


def _sizes(model: CausalFilter) -> dict[str, str]:
    """What the file of the weights says of them."""
    return {"config": json.dumps(model.config.to_dict())}


def _new_model(plan: Plan, config: Config | None) -> CausalFilter:
    model = CausalFilter(config)
    if plan.start is not None:
        take_weights(model, plan.start)
    return model.to(plan.device)


def _finish(plan: Plan, kept: CausalFilter, checks: dict[str, Batch], step: int) -> None:
    """The best weights of the run; how far they trust filters, and their covariances, learned once more."""
    if checkpoint.keep_best(plan.out, kept, validate(kept, checks)["left"], step) < step:  # it was better before
        kept.load_state_dict(checkpoint.best(plan.out))
    fit_trust(kept, repeated(drawn_batches(plan, plan.seed, FOR_TRUST)), plan.trust_steps)
    fit_covariance(kept, repeated(drawn_batches(plan, plan.seed, FOR_COVARIANCES)), plan.spread_steps)


def parts_of_batches(plan: Plan, seed: int, mine: range) -> Iterator[tuple[Batch, ...]]:
    """Those parts of every batch that are this process's: a part is the same whoever draws it."""
    part = replace(plan, batch=plan.batch // plan.parts)
    return zip(*(drawn_batches(part, seed + 1_000_000_007 * n) for n in mine))


def drawn_batches(plan: Plan, seed: int, mix: Mix = FOR_POSES) -> Iterator[Batch]:
    """Batches for ever, of one worker process."""
    on_cpu = torch.device(plan.device).type == "cpu"
    stream = Stream(plan.data, plan.batch, plan.length, seed, VALIDATION, plan.pairs, on_cpu, mix)
    return loaded(stream, torch.device(plan.device))


def loaded(stream: IterableDataset[Drawn | Batch], device: torch.device) -> Iterator[Batch]:
    """What a stream draws in a process of its own; the front runs there, or on the device if that is another."""
    loader = DataLoader(stream, batch_size=None, num_workers=1, prefetch_factor=3, multiprocessing_context="fork")
    for drawn in loader:
        yield drawn if isinstance(drawn, Batch) else Batch.of(moved(drawn, device))


def repeated(batches: Iterator[T], later: int = 6) -> Iterator[T]:
    """Every batch twice, the second time ``later`` batches on: making one takes nearly as long as learning from it."""
    waiting: deque[T] = deque()
    for batch in batches:
        yield batch
        waiting.append(batch)
        if len(waiting) > later:
            yield waiting.popleft()


def train_step(
    model: CausalFilter, optimizer: torch.optim.Optimizer, batch: Batch, fast: bool = False, more: Tensor | None = None
) -> dict[str, Tensor]:
    """One update; a batch whose gradient is not finite is passed over. ``more`` is a loss beside those of WEIGHTS."""
    optimizer.zero_grad(set_to_none=True)
    terms = _add_gradient(model, batch, fast, 1.0, more)
    _update(model, optimizer)
    return terms


def shared_step(
    model: CausalFilter, optimizer: torch.optim.Optimizer, parts: Sequence[Batch], fast: bool, ranks: Ranks, step: int
) -> dict[str, Tensor]:
    """One update by the mean over the parts of a batch, those of the other processes too; the terms' means."""
    optimizer.zero_grad(set_to_none=True)
    every = ranks.size * len(parts)
    means: dict[str, Tensor] = {}
    for n, part in enumerate(parts, ranks.rank * len(parts)):
        torch.manual_seed(step * every + n)  # dropout is the part's own, too
        for name, term in _add_gradient(model, part, fast, 1 / every).items():
            means[name] = means.get(name, 0.0) + term / every
    summed = ranks.add_up(model, torch.stack(list(means.values())))
    _update(model, optimizer)
    return dict(zip(means, summed.unbind(), strict=True))


def _add_gradient(
    model: CausalFilter, batch: Batch, fast: bool, share: float, more: Tensor | None = None
) -> dict[str, Tensor]:
    terms = batch_losses(model, batch, fast)
    total = torch.stack([WEIGHTS[name] * term for name, term in terms.items()]).sum()
    total = total if more is None else total + more
    (10 * share * total).backward()
    return {name: term.detach() for name, term in terms.items()}


def _update(model: CausalFilter, optimizer: torch.optim.Optimizer) -> None:
    if bool(torch.isfinite(torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0))):
        optimizer.step()


def shown(terms: dict[str, Tensor] | dict[str, float]) -> str:
    """Terms of a loss in thousandths."""
    return " ".join(f"{name} {1e3 * float(value):.1f}" for name, value in terms.items())


def settings_of(plan: Plan, model: CausalFilter) -> dict[str, Any]:
    """What a run is, for its log: plan, sizes, loss weights, noise."""
    said = {name: str(value) if isinstance(value, Path) else value for name, value in asdict(plan).items()}
    said["pairs"] = len(plan.pairs)
    return {
        "plan": said, "network": model.config.to_dict() | {"parameters": sum(p.numel() for p in model.parameters())},
        "loss weights": WEIGHTS, "noise": asdict(SOURCES), "processor": platform.processor(),
    }  # fmt: skip


def _log(plan: Plan, row: dict[str, Any]) -> None:
    with (plan.out / "log.jsonl").open("a") as file:
        file.write(json.dumps({k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()}) + "\n")
    print("check", row, flush=True)


def take_weights(model: CausalFilter, path: Path) -> None:
    """Begin with another model's weights: those of the same shape, and rows or columns that it has more of as zero."""
    new = model.state_dict()
    for name, old in load_file(path).items():
        if name not in new:
            continue
        if old.shape == new[name].shape:
            new[name] = old
        elif old.ndim == new[name].ndim and all(a <= b for a, b in zip(old.shape, new[name].shape, strict=True)):
            new[name] = torch.zeros_like(new[name])
            new[name][tuple(slice(n) for n in old.shape)] = old
    model.load_state_dict(new)


def load_model(path: Path) -> CausalFilter:
    """The model of a weights file, with the sizes its metadata states."""
    with safe_open(path, "pt") as file:
        raw = json.loads(file.metadata()["config"])
    model = CausalFilter(Config(**(raw | {"period_s": tuple(raw["period_s"])})))
    model.load_state_dict(load_file(path))
    return model.eval()
