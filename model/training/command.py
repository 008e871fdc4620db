"""``hpstm train``: a training from nothing, one that goes on, or a fine-tuning; and as one of torchrun's processes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import torch
from cyclopts import CycloptsError, Parameter

from model.network.causal import Config
from model.prepare import ClipError
from model.training import checkpoint
from model.training.finetune import Tuning, finetune, plan_of, weights_file
from model.training.own_data import OwnDataError
from model.training.pair_files import PairError
from model.training.ranks import Ranks, RunError
from model.training.train import Plan, train

MINUTES = (60.0, 5.0)  # of a training, of a fine-tuning
RATE, RATE_ON_MOTION, RATE_ON_PAIRS = 2e-3, 3e-4, 5e-3  # of a training; of a fine-tuning of all weights, of trust alone


def _usable(_: Any, device: str) -> None:
    if device not in ("cpu", "cuda"):
        raise ValueError(f"{device!r}: give cpu or cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"cuda: torch {torch.__version__} finds no NVIDIA GPU here; give cpu")


Device = Annotated[str, Parameter(validator=_usable)]


def command(
    *,
    out: Path,
    data: Path | None = None,
    from_: Annotated[str | None, Parameter(name="--from", show_default="a training from nothing")] = None,
    pairs: tuple[Path, ...] = (),
    held_out: Annotated[tuple[str, ...], Parameter(show_default="a fifth or more, by a fixed draw")] = (),
    minutes: Annotated[float | None, Parameter(show_default="60; with --from 5")] = None,
    steps: Annotated[int | None, Parameter(show_default="as the minutes allow")] = None,
    threads: int = 1,
    device: Device = "cpu",
    rate: Annotated[float | None, Parameter(show_default="0.002; with --from 0.0003, of pairs alone 0.005")] = None,
    start: Annotated[Path | None, Parameter(show_default="from nothing")] = None,
    twin: bool = False,
    parts: Annotated[int | None, Parameter(show_default="one for each process")] = None,
) -> int:
    """Train the causal model, or continue the run that is in --out; with --from, fine-tune on your own data.

    Args:
        out: Folder of the run.
        data: train.npz, from `hpstm prepare`; with --from also a folder of motion files.
        from_: Fine-tune these weights: bundled, a .safetensors file, or a model's folder.
        pairs: Recordings of a real estimator with truth, for 3 % of the sequences; with --from: of yours.
        held_out: With --from: the people or recordings that are only scored.
        minutes: Of the whole run [min].
        steps: Budget of the whole run in updates, instead of minutes.
        threads: Of each training process.
        device: cpu, or cuda: the network and the front of its batches run there.
        rate: Peak learning rate.
        start: Weights file to begin with.
        twin: Attention sees the future, too: the offline twin.
        parts: Of each batch, drawn and scored by themselves; they are shared out to torchrun's processes.
    """
    ranks, tuning = Ranks.of_environment(device), from_ is not None
    minutes = MINUTES[tuning] if minutes is None else minutes
    if rate is None:
        rate = RATE if not tuning else RATE_ON_PAIRS if data is None else RATE_ON_MOTION
    try:
        if from_ is not None:
            _only_for_training(ranks, start, twin, parts)
            if data is None and not pairs:
                raise OwnDataError("--from needs --data, your motion files, or --pairs, recordings with truth")
            plan = plan_of(out, minutes, steps, rate, threads, device)
            better = finetune(Tuning(weights_file(from_), plan, data, pairs, held_out))
            return 0 if better else 1
        if data is None or not data.is_file():
            raise OwnDataError(f"--data {data}: no such file; `hpstm prepare` writes it (a folder is for --from)")
        if held_out:
            raise OwnDataError("--held-out is for --from; a training's validation subjects are fixed")
        plan = Plan(
            data=data, out=out, pairs=pairs, minutes=minutes, steps=steps, threads=threads, device=device, rate=rate,
            start=start, parts=ranks.size if parts is None else parts,
        )  # fmt: skip
        weights = train(plan, Config(bidirectional=twin))
    except (OwnDataError, PairError, ClipError, RunError) as error:
        raise CycloptsError(str(error)) from error
    if ranks.first and twin:
        print(f"{checkpoint.pack(plan.out, 'twin')}: the bench looks for it in bench/weights")
    elif ranks.first:
        print(f"{weights}: make a model of it with `hpstm export {weights}`")
    return 0


def _only_for_training(ranks: Ranks, start: Path | None, twin: bool, parts: int | None) -> None:
    if ranks.size > 1 or parts is not None:
        raise OwnDataError("--from runs in one process, and takes minutes: leave out torchrun and --parts")
    if start is not None or twin:
        raise OwnDataError("--from names the weights to begin with, of the live model: leave out --start and --twin")
