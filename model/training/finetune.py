"""Fine-tuning in minutes: the weights at hand, taught a user's own motion, or their own estimator's errors.

``hpstm train --from bundled --data DIR --pairs FILE... --out runs/mine``. Part of the batches are endless motions of
synthetic people with all the noise of training, so that what was known is not forgotten. Whole people or recordings are
held out; where the new weights are not better on them, the old ones stay.
"""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError

from model.contract import WEIGHTS as BUNDLED
from model.kinematics import forward_kinematics
from model.motion.endless import Motion, regauge
from model.motion.synthetic import SyntheticActor
from model.network.causal import CausalFilter
from model.prepare import Clip
from model.training import checkpoint, tuning_scores
from model.training.dataset import Batch, Drawn, Sampler
from model.training.own_data import LITTLE_S, Own, OwnDataError, Split, clips_of, pairs_of, split
from model.training.pairs import PairTake
from model.training.train import Plan, load_model, loaded, rate_at, repeated, set_rate, shown, train_step
from model.training.tuning_scores import Case, Score

OWN_MOTION = 0.5  # share of the motions that are the user's, if there are any; the rest are synthetic people's
LEAST_GAIN = 0.005  # part of the error that must go, or the old weights stay
TEACHERS, OTHERS, SECONDS = range(12), range(100, 106), 60.0  # seeds of synthetic people: to rehearse, to score
NOT_BETTER = "not_better.safetensors"


class Shares(NamedTuple):
    """Of the batches: recordings as they are, and their errors lent to other motions; the rest has all the noise of
    training, so that what was known is not forgotten."""

    paired: float
    lent: float


# With the whole network more of a few recordings would be learned by heart; how far to trust what cannot be.
WHOLE, TRUST = Shares(0.15, 0.4), Shares(0.5, 0.2)


@dataclass(frozen=True)
class Tuning:
    """One fine-tuning; ``plan`` is its training, of the data here."""

    start: Path
    plan: Plan
    data: Path | None = None
    pairs: tuple[Path, ...] = ()
    held_out: tuple[str, ...] = ()


class OwnData(NamedTuple):
    """What the user brings, in parts to learn from and held out."""

    motion: Split[Clip] | None
    pairs: Split[PairTake] | None


def weights_file(given: str) -> Path:
    """The file of "bundled", of a model's folder or of a training run.

    Raises:
        OwnDataError: there is none.
    """
    path = BUNDLED if given == "bundled" else Path(given)
    for file in (path / "weights.safetensors", path / checkpoint.AVERAGED, path):
        if file.is_file():
            return file
    raise OwnDataError(f"--from {given}: no weights there; give bundled, a .safetensors file, or a model's folder")


def plan_of(out: Path, minutes: float, steps: int | None, rate: float, threads: int, device: str) -> Plan:
    """The training of a fine-tuning: small batches, a low rate, a short memory of the averaged weights."""
    return Plan(
        data=Path(), out=out, minutes=minutes, steps=steps, batch=24, rate=rate, warmup=30, average=0.99,
        threads=threads, device=device,
    )  # fmt: skip


def finetune(tuning: Tuning) -> Path | None:
    """The new weights' file, or None where the old ones stay; what was found is printed, and kept in finetune.json.

    Raises:
        OwnDataError, PairError: there is too little, or it cannot be read.
    """
    out = tuning.plan.out
    if (out / checkpoint.AVERAGED).exists():
        raise OwnDataError(f"--out {out}: there are weights already; give another folder")
    before, own = _model(tuning.start), own_data(tuning)
    torch.set_num_threads(tuning.plan.threads)
    torch.manual_seed(tuning.plan.seed)
    out.mkdir(parents=True, exist_ok=True)
    before = before.to(tuning.plan.device)
    cases = watched(own)
    scores = [tuning_scores.score(before, case.batch) for case in cases]
    print(f"before: {_error_mm(cases, scores):.1f} mm on what is held out", flush=True)
    after = tuned(tuning.plan, before, own)
    tuning_scores.scale_covariance(after, [case.batch for case in cases if not case.others])
    return judged(tuning, own, after, cases, scores)


def own_data(tuning: Tuning) -> OwnData:
    """Reads what the user brings, and says how much it is and who is held out."""
    motion = pairs = None
    if tuning.data is not None:
        motion = split(clips_of(tuning.data, _say), f"--data {tuning.data}", tuning.held_out)
        _describe("motion", motion)
    if tuning.pairs:
        pairs = split(pairs_of(tuning.pairs, _say), "--pairs", tuning.held_out)
        _describe("pairs", pairs)
    return OwnData(motion, pairs)


def watched(own: OwnData) -> list[Case]:
    """What is scored before and after."""
    cases = [] if own.pairs is None else tuning_scores.cases_of_pairs(own.pairs.held_out)
    if own.motion is not None:
        cases += tuning_scores.cases_of_motion(_motion(own.motion.held_out))
    return cases + tuning_scores.cases_of_motion(synthetic(OTHERS), others=True)


def tuned(plan: Plan, before: CausalFilter, own: OwnData) -> CausalFilter:
    """The averaged weights after the plan's budget: all are learned where there is motion to learn from; of pairs alone
    only how far to trust the input, its filters and the network's own joints, since a few recordings teach no motion.
    """
    model, kept = copy.deepcopy(before).train(), copy.deepcopy(before).eval()
    if own.motion is None:
        only_trust(model)
    learning = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learning, lr=plan.rate, weight_decay=0.0, betas=(0.9, 0.98))
    batches = repeated(loaded(Mixture(own, plan), torch.device(plan.device)))
    started, step, minutes = time.monotonic(), 0, 0.0
    while plan.spent(step, minutes) < 1.0:
        set_rate(optimizer, rate_at(step, minutes, plan))
        terms = train_step(model, optimizer, next(batches), plan.spent(step, minutes) < plan.fast)
        step, minutes = step + 1, (time.monotonic() - started) / 60
        checkpoint.average(kept, model, min(plan.average, step / (step + 10)))
        if step % 50 == 0:
            print(f"step {step} {minutes:.1f} min  {shown(terms)}", flush=True)
    return kept


def only_trust(model: CausalFilter) -> None:
    """Leaves nothing to learn but what of the head's last layer says how far to trust what, and how sure it is."""
    last = model.head.fc3
    rows = torch.zeros(len(last.bias), dtype=last.bias.dtype, device=last.bias.device)
    rows[model.head.trust_rows()] = 1.0
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    for learned in (last, model.head.misfit):
        learned.requires_grad_(True)
    last.weight.register_hook(lambda gradient: gradient * rows[:, None])
    last.bias.register_hook(lambda gradient: gradient * rows)


def judged(tuning: Tuning, own: OwnData, after: CausalFilter, cases: list[Case], before: list[Score]) -> Path | None:
    """The table and what follows from it; the weights, where they are better, else None."""
    scores = [tuning_scores.score(after, case.batch) for case in cases]
    left = tuning_scores.left(before, scores, cases)
    better = left < 1.0 - LEAST_GAIN
    out = tuning.plan.out
    path = out / (checkpoint.AVERAGED if better else NOT_BETTER)
    checkpoint.write_weights(after, path, {"config": json.dumps(after.config.to_dict()), "step": "0"})
    _keep_report(tuning, own, left, tuning_scores.as_json(cases, before, scores))
    print("mean error [mm] / Accel [mm/frame^2], before and after\n" + tuning_scores.table(cases, before, scores))
    for name in tuning_scores.forgotten(cases, before, scores):
        print(f"forgotten in part: {name} of other people is worse than before; keep the old ones for other sources")
    if better:
        print(f"{path}: {100 * (1 - left):.1f} % less error on what was held out. Next:\n"
              f"  hpstm export {path} --out {out}/model --int8\n  hpstm serve --weights {out}/model")  # fmt: skip
        return path
    print(f"not {100 * LEAST_GAIN:g} % better on what is held out ({100 * (left - 1):+.1f} %): the old weights stay, "
          f"{tuning.start}; the new ones are in {path}. More recordings of more people help most.")  # fmt: skip
    return None


# -- batches


class Mixture(torch.utils.data.IterableDataset[Drawn | Batch]):
    """Batches for ever: the user's motion, the user's pairs, and synthetic people."""

    def __init__(self, own: OwnData, plan: Plan) -> None:
        self.own, self.plan = own, plan

    def __iter__(self) -> Iterator[Drawn | Batch]:
        torch.set_num_threads(1)
        for drawn in self._draw():
            yield Batch.of(drawn) if self.plan.device == "cpu" else drawn

    def _draw(self) -> Iterator[Drawn]:
        plan, own, rng = self.plan, self.own, np.random.default_rng(self.plan.seed)
        rehearsal = Sampler(synthetic(TEACHERS), plan.seed)
        motion = None if own.motion is None else Sampler(_motion(own.motion.train), plan.seed + 1)
        takes = [] if own.pairs is None else [taken.take for taken in own.pairs.train]
        shares = TRUST if motion is None else WHOLE
        usual = int(np.median([len(take.times_s) for take in takes])) if takes else 0
        for n in range(1 << 62):
            size, length = (plan.batch, plan.length) if n % 2 else (max(1, plan.batch // 2), 2 * plan.length)
            people = motion if motion is not None and rng.random() < OWN_MOTION else rehearsal
            kind, cut = rng.random(), min(length, usual)
            if takes and kind < shares.paired:
                yield people.pairs(takes, size, cut)
            elif takes and kind < shares.paired + shares.lent:
                yield people.lent(takes, size, cut)
            else:
                yield people.draw(size, length)


def synthetic(seeds: range) -> Motion:
    """The motion of some synthetic people, a minute of each."""
    clips = []
    for seed in seeds:
        actor, fps = SyntheticActor(seed), 30.0
        world, root = actor.poses(np.arange(round(SECONDS * fps)) / fps)
        offsets = regauge(actor.offsets_m)
        clips.append(Clip(str(seed), forward_kinematics(world, offsets, root), world, fps, offsets))
    return Motion.from_clips(clips)


def _motion(takes: list[Own[Clip]]) -> Motion:
    return Motion.from_clips([own.take for own in takes])


def _model(path: Path) -> CausalFilter:
    try:
        return load_model(path)
    except (RuntimeError, KeyError, TypeError, SafetensorError) as error:
        first = str(error).partition("\n")[0]
        raise OwnDataError(f"--from {path}: not weights of the model in this version ({first})") from error


# -- what is said


def _say(line: str) -> None:
    print(line, flush=True)


def _describe(what: str, parts: Split[Any]) -> None:
    learned, held = (sum(own.seconds for own in part) for part in (parts.train, parts.held_out))
    print(f"{what}: {len(parts.train)} takes, {learned / 60:.1f} min, to learn from; {len(parts.held_out)} takes, "
          f"{held / 60:.1f} min, held out by {parts.by} and only scored: {', '.join(parts.groups)}")  # fmt: skip
    if learned + held < LITTLE_S:
        print(f"{what}: that is little; below {LITTLE_S / 60:.0f} min read the table with care")


def _error_mm(cases: list[Case], scores: list[Score]) -> float:
    return float(np.mean([s.out_mm for case, s in zip(cases, scores, strict=True) if not case.others]))


def _keep_report(tuning: Tuning, own: OwnData, left: float, rows: list[dict[str, Any]]) -> None:
    parts = {"motion": own.motion, "pairs": own.pairs}
    report = {
        "from": str(tuning.start), "minutes": tuning.plan.minutes, "steps": tuning.plan.steps, "rate": tuning.plan.rate,
        "held_out": {what: list(part.groups) for what, part in parts.items() if part is not None},
        "learned_from": {what: [own.name for own in part.train] for what, part in parts.items() if part is not None},
        "left": left, "cases": rows,
    }  # fmt: skip
    (tuning.plan.out / "finetune.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
