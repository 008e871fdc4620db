"""``hpstm bench ablation``: what each part of the design is worth, by short trainings side by side on the same batches.

Every variant starts from the same seed, sees the same motion and noise in the same order and is scored on the training
subjects held out. The runs are short: differences count, not the level.
"""

from __future__ import annotations

import copy
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import torch
from cyclopts import Parameter
from rich.table import Table
from torch import Tensor

from bench.options import Json
from bench.report import console, machine, machine_line, write_json
from model.motion.endless import Motion
from model.network.causal import CausalFilter, Config
from model.network.evidence import MEMBERS, Evidence
from model.network.head import PoseHead, Said
from model.skeleton import J
from model.training import checkpoint
from model.training.dataset import Batch, Packed, Sampler
from model.training.forward import run_batch
from model.training.held_out import VALIDATION, training_clips
from model.training.train import load_model, train_step
from model.training.validation import validate, validation_batches
from streamer.cli import main
from streamer.errors import ConfigError


class FreeJoints(PoseHead):
    """No skeleton: the mixed joints as they are; rotations as before."""

    def placed(self, world_rot: Tensor, offsets_m: Tensor, wanted_m: Tensor, seen: Tensor) -> Tensor:
        return wanted_m


class EachBoneAlone(PoseHead):
    """The skeleton, but each bone only turned: no step towards the nearest pose that fits."""

    def fit(self, bones: Tensor, offsets_m: Tensor) -> Tensor:
        return bones


class Redraw(PoseHead):
    """The network's own pose alone; the input is only what it looks at."""

    def mix(self, said: Said, evidence: Evidence, tau_s: Tensor) -> Tensor:
        return said.own


class Nudge(PoseHead):
    """Input, filters and an offset; the network's own pose takes no part."""

    def mix(self, said: Said, evidence: Evidence, tau_s: Tensor) -> Tensor:
        never = torch.zeros(MEMBERS + 1, J)
        never[MEMBERS] = -1e5  # below even an input that is not there
        all_seen = evidence._replace(seen=torch.ones_like(evidence.seen))
        return super().mix(said._replace(gates=said.gates + never.flatten()), all_seen, tau_s)


class NoSettling(CausalFilter):
    """Each frame's latent as attention leaves it."""

    def settled_sequence(self, latents: Tensor, dt_s: Tensor) -> Tensor:
        return latents


@dataclass(frozen=True)
class Variant:
    """One training: what differs from the shipped design, and what it is trained for (tau None: any time)."""

    name: str
    head: type[PoseHead] = PoseHead
    model: type[CausalFilter] = CausalFilter
    window: int = 64
    tau_s: float | None = None
    taught: bool = False


VARIANTS = (
    Variant("as shipped"),
    Variant("free joints, no skeleton", FreeJoints),
    Variant("each bone turned by itself", EachBoneAlone),
    Variant("redraw: own pose only", Redraw),
    Variant("nudge: no own pose", Nudge),
    Variant("window 16", window=16),
    Variant("window 32", window=32),
    Variant("no settling of the latent", model=NoSettling),
    Variant("for now only", tau_s=0.0),
    Variant("for -100 ms only", tau_s=-0.1),
    Variant("taught by the twin", taught=True),
)
TEACHING = 0.5  # weight of the distance to the twin's joints, beside 1 of the distance to the true ones
COLUMNS = {"realistic": "now", "late": "-100 ms", "ahead": "+100 ms", "mild": "mild", "white10": "white 10 mm",
           "lost_arm": "lost arm", "clean": "clean"}  # fmt: skip


class Run:
    """A variant's network, its average and its optimiser."""

    def __init__(self, variant: Variant, seed: int) -> None:
        torch.manual_seed(seed)
        self.variant = variant
        self.network = variant.model(Config(window=variant.window), variant.head)
        self.kept = copy.deepcopy(self.network).eval()
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=1.0, weight_decay=0.05, betas=(0.9, 0.98))

    def learn(self, batch: Batch, step: int, rate: float, teacher: CausalFilter | None) -> None:
        """One update at a learning rate."""
        torch.manual_seed(step)  # the same dropout for all
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        more = None
        if self.variant.taught and teacher is not None:
            with torch.no_grad():
                goal = run_batch(teacher, batch, True)[0].positions
            distance = (run_batch(self.network, batch, True)[0].positions - goal).norm(dim=-1)
            more = TEACHING * distance.mean()
        train_step(self.network, self.optimizer, batch, True, more)
        checkpoint.average(self.kept, self.network, min(0.99, step / (step + 10)))


def run(data: Path, variants: Sequence[Variant], steps: int, size: int, teacher: CausalFilter | None) -> dict[str, Any]:
    """Trains all variants side by side; the result as it is written to JSON."""
    torch.set_num_threads(1)
    motion = Motion.from_clips(training_clips(data, VALIDATION))
    samplers = {tau: Sampler(motion, 11) for tau in dict.fromkeys(v.tau_s for v in variants)}
    runs = [Run(variant, 0) for variant in variants]
    started = time.monotonic()
    for step in range(steps):
        rate = 2e-3 * min(1.0, (step + 1) / 50) * (0.02 + 0.98 * (1 - step / steps))
        batches = {tau: sampler.batch(size, 96, tau) for tau, sampler in samplers.items()}
        for one in runs:
            one.learn(batches[one.variant.tau_s], step, rate, teacher)
        if step % 20 == 19:
            print(f"step {step + 1}/{steps}  {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    checks = validation_batches(data)
    rows = [{"variant": one.variant.name, **validate(one.kept, checks)} for one in runs]
    settings = {"steps": steps, "batch": size, "frames": 96, "subjects": list(VALIDATION), "data": data.name}
    return {"benchmark": "ablation", "machine": machine(), "settings": settings, "rows": rows}


def table(result: dict[str, Any]) -> Table:
    """MPJPE / Accel of every variant and case [mm, mm/frame^2]."""
    s = result["settings"]
    title = (
        f"After {s['steps']} steps of {s['batch']} x {s['frames']} frames: MPJPE / Accel, held-out training subjects"
    )
    out = Table(title=title, title_justify="left", caption=machine_line(result["machine"]), caption_justify="left")
    out.add_column("variant", no_wrap=True)
    for text in COLUMNS.values():
        out.add_column(text, justify="right", no_wrap=True)
    for row in result["rows"]:
        out.add_row(row["variant"], *(f"{row[f'{c}_out_mm']:.1f} / {row[f'{c}_out_accel']:.1f}" for c in COLUMNS))
    return out


if TYPE_CHECKING:
    Name = str
else:
    Name = Literal[tuple(v.name for v in VARIANTS)]  # the choices, as the command line shows and checks them


def command(
    *,
    data: Packed,
    steps: int = 500,
    batch: int = 24,
    teacher: Path | None = None,
    only: Annotated[tuple[Name, ...], Parameter(show_default="all of them")] = (),
    json: Json = None,
) -> int:
    """What each part of the network is worth: short trainings side by side on the same batches.

    Args:
        steps: Updates of each variant.
        batch: Sequences of 96 frames a step.
        teacher: Weights of the twin; none: no taught variant.
        only: These variants.
    """
    if steps < 1 or batch < 1:
        raise ConfigError("--steps and --batch must be at least 1")
    taught_by = load_model(teacher) if teacher else None
    chosen = [v for v in VARIANTS if (not only or v.name in only) and (taught_by or not v.taught)]
    result = run(data, chosen, steps, batch, taught_by)
    console().print(table(result))
    if json:
        print(f"written: {write_json(json, result)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(["bench", "ablation", *sys.argv[1:]]))
