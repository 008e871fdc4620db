"""One training by several processes, as torchrun starts them: gloo between CPUs, nccl between NVIDIA GPUs.

What a process is told of the others it finds in the environment (RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR,
MASTER_PORT); where nothing is said it is alone. All processes hold the same weights at every step.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn


class RunError(ValueError):
    """Processes that cannot train together as asked: the message says what to give instead."""


@dataclass(frozen=True)
class Ranks:
    """The process's place among all: ``rank`` of ``size``; the first one checks, writes and speaks for all."""

    rank: int = 0
    size: int = 1
    device: str = "cpu"

    @classmethod
    def of_environment(cls, device: str = "cpu") -> Ranks:
        return cls(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")), device)

    @property
    def first(self) -> bool:
        return self.rank == 0

    def share(self, batch: int, parts: int) -> range:
        """Which of the parts of a batch are this process's.

        Raises:
            RunError: they cannot be shared out evenly.
        """
        if parts < 1 or batch % parts:
            raise RunError(f"--parts {parts}: a batch is {batch} sequences; give a divisor of that")
        if parts % self.size:
            raise RunError(f"--parts {parts}: give a multiple of the {self.size} processes")
        each = parts // self.size
        return range(self.rank * each, (self.rank + 1) * each)

    def of_first(self, value: float) -> float:
        """What the first process says of a value, the same for all: clocks differ."""
        if self.size == 1:
            return value
        told = torch.tensor(value, dtype=torch.float64, device=self.device)
        dist.broadcast(told, 0)
        return float(told)

    def add_up(self, model: nn.Module, terms: Tensor) -> Tensor:
        """Sums the gradients of all processes, in place, and ``terms`` (N,), in one message; the sum of the terms."""
        if self.size == 1:
            return terms
        parameters = list(model.parameters())
        for parameter in parameters:  # those that no part's loss reaches
            parameter.grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        flat = torch.cat([terms, *(p.grad.flatten() for p in parameters if p.grad is not None)])
        dist.all_reduce(flat)
        summed, *rest = flat.split([len(terms), *(p.numel() for p in parameters)])
        for parameter, total in zip(parameters, rest, strict=True):
            parameter.grad = total.view_as(parameter)
        return summed


@contextmanager
def joined(device: str) -> Iterator[Ranks]:
    """This process among those of its run; connected for as long as the block lasts.

    Raises:
        RunError: there are more processes on this machine than GPUs.
    """
    ranks = Ranks.of_environment(device)
    if ranks.size == 1:
        yield ranks
        return
    if device == "cuda":
        local, gpus = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if local >= gpus:
            raise RunError(f"--device cuda: {gpus} GPUs are here; give torchrun --nproc-per-node {gpus}")
        torch.cuda.set_device(local)
    dist.init_process_group("nccl" if device == "cuda" else "gloo")
    try:
        yield ranks
        dist.barrier()  # nobody leaves while the first is still checking
    finally:
        dist.destroy_process_group()
