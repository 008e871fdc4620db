"""``hpstm bench feet``: what foot-lock holds on motion with known truth, how it lets go, and what it costs.

The same noisy takes go through two filters, one that locks feet and one that does not. A foot is planted where the
truth of its ball is low and moves by less than PLANTED_M_S.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from time import process_time_ns
from typing import Annotated, Any, NamedTuple

import numpy as np
from cyclopts import Parameter
from rich.table import Table

from bench.accuracy.methods import corrupted
from bench.accuracy.takes import RATE_HZ, Bools, Take, load_takes
from bench.options import Json, RuntimeName, Weights
from bench.report import console, machine, machine_line, write_json
from bench.track import Floats
from model.evaluate import FEET, MM, mpjpe_mm, mpjpe_root_mm
from model.noise.fixed import NOISES
from streamer.errors import ConfigError
from streamer.filter import PoseFilter
from streamer.frames import Frame
from streamer.runtimes import load_runtime
from streamer.runtimes.block import Runtime

PLANTED_M_S = 0.06  # the truth itself slides 2 mm a frame at 30 Hz then
SMOOTH_S = 0.05  # its speed is a mean over twice this
AFTER_S = 0.15  # what an acceleration at release is looked for in, from the last planted frame on
SETTLED_S = 4.3  # bones are measured then
LEGS = (4, 5, 7, 8, 10, 11)


class Ways(NamedTuple):
    """One take's poses, scored: in frames of one after the other."""

    slide_mm: Floats  # of planted feet, a frame, level
    pop_m_s2: Floats  # the largest acceleration at each release
    world_mm: float
    root_mm: float
    legs_mm: float
    covered: float  # share of the legs' errors inside one sigma
    push_us: Floats


def planted(take: Take) -> Bools:
    """(T, 2) at the take's frames: feet that stand in truth."""
    step_s = float(np.diff(take.native_ns).mean()) / 1e9
    speed = np.linalg.norm(np.gradient(take.native[:, list(FEET)], step_s, axis=0), axis=-1)
    reach = max(1, round(SMOOTH_S / step_s))
    mean = np.ones(2 * reach + 1) / (2 * reach + 1)
    slow = np.stack([np.convolve(speed[:, i], mean, "same") for i in (0, 1)], 1) < PLANTED_M_S
    return np.asarray((slow & take.contact)[take.nearest(take.t_ns)])


def ways(runtime: Runtime, take: Take, noise: str, rate_hz: float, lock: bool) -> Ways:
    """A take with a noise through a filter, scored after the bones are measured."""
    seen, pose_filter = corrupted(take, noise), PoseFilter(runtime, foot_lock=lock)
    positions, covariance, push_us = [], [], []
    for k, t_ns in enumerate(take.t_ns):
        frame = Frame("a", k, int(t_ns), seen.positions[k], seen.confidence[k])
        began = process_time_ns()
        (pose,) = pose_filter.push_many([frame])
        push_us.append((process_time_ns() - began) / 1e3)
        positions.append(np.full((24, 3), np.nan) if pose is None else pose.positions)
        covariance.append(np.full((24, 3, 3), np.nan) if pose is None else pose.covariance)
    start = round(SETTLED_S * rate_hz)
    said, true, stand = np.array(positions, np.float64)[start:], take.truth_at(take.t_ns)[start:], planted(take)[start:]
    feet = said[:, list(FEET)]
    slide = MM * np.linalg.norm(np.diff(feet, axis=0)[..., [0, 2]], axis=-1)
    bend = np.linalg.norm(np.diff(feet, 2, axis=0), axis=-1) * rate_hz**2  # row k: about frame k + 1
    window = max(2, round(AFTER_S * rate_hz))
    pops = [
        bend[k - 1 : k - 1 + window, i].max()
        for i in (0, 1) for k in np.flatnonzero(stand[:-1, i] & ~stand[1:, i]) if 0 < k < len(bend) - window
    ]  # fmt: skip
    error, legs = said - true, list(LEGS)
    spread = np.array(covariance, np.float64)[start:][:, legs]
    inside = np.einsum("tji,tjik,tjk->tj", error[:, legs], np.linalg.inv(spread), error[:, legs]) <= 3.5267
    return Ways(
        slide[stand[1:] & stand[:-1]], np.array(pops), mpjpe_mm(said, true), mpjpe_root_mm(said, true),
        mpjpe_mm(said[:, legs], true[:, legs]), float(inside.mean()), np.array(push_us)[start:],
    )  # fmt: skip


def row_of(noise: str, lock: bool, takes: Sequence[Ways]) -> dict[str, Any]:
    """The means over takes, of which all count alike; percentiles are over all frames, and releases, of all."""
    slide, pop = (np.concatenate([getattr(take, name) for take in takes]) for name in ("slide_mm", "pop_m_s2"))
    row: dict[str, Any] = {"noise": noise, "foot_lock": lock, "planted": len(slide), "releases": len(pop)}
    for name, values, marks in (("slide_mm", slide, (50, 90, 99)), ("release_m_s2", pop, (50, 99))):
        row |= {f"{name}_p{q}": float(np.percentile(values, q)) if len(values) else float("nan") for q in marks}
    row["under_2_mm"] = float((slide < 2.0).mean()) if len(slide) else float("nan")
    for name in ("world_mm", "root_mm", "legs_mm", "covered"):
        row[name] = float(np.mean([getattr(take, name) for take in takes]))
    row["push_us"] = float(np.median(np.concatenate([take.push_us for take in takes])))
    return row


def run(takes: Iterable[Take], runtime: Runtime, noises: Sequence[str], rate_hz: float) -> list[dict[str, Any]]:
    """Two rows for each noise: without the lock, and with it."""
    takes = [take for take in takes if len(take.t_ns) > (SETTLED_S + 1.0) * rate_hz]
    if not takes:
        raise ConfigError(f"no clip is longer than {SETTLED_S + 1.0:g} s")
    return [
        row_of(noise, lock, [ways(runtime, take, noise, rate_hz, lock) for take in takes])
        for noise in noises for lock in (False, True)
    ]  # fmt: skip


def table(rows: Sequence[dict[str, Any]], title: str, caption: str) -> Table:
    out = Table(title=title, caption=caption)
    heads = "noise|lock|slide p50|p90|p99|under 2 mm|release p50|p99|world|root|legs|in 1 sigma|push"
    for head in heads.split("|"):
        out.add_column(head, justify="left" if head in ("noise", "lock") else "right")
    for row in rows:
        numbers = [f"{row[f'slide_mm_p{q}']:.2f}" for q in (50, 90, 99)]
        numbers += [f"{row['under_2_mm']:.1%}", *(f"{row[f'release_m_s2_p{q}']:.1f}" for q in (50, 99))]
        numbers += [f"{row[name]:.2f}" for name in ("world_mm", "root_mm", "legs_mm")]
        numbers += [f"{row['covered']:.3f}", f"{row['push_us']:.0f}"]
        out.add_row(str(row["noise"]), "on" if row["foot_lock"] else "off", *numbers)
    return out


def command(
    data: str = "synthetic",
    /,
    *,
    noise: Annotated[tuple[str, ...], Parameter(consume_multiple=True)] = ("clean", "white10", "realistic"),
    rate: float = RATE_HZ,
    clips: int = 8,
    seconds: float = 12.0,
    runtime: RuntimeName = "auto",
    weights: Weights = None,
    json: Json = None,
) -> int:
    """Measure foot-lock against the same poses without: slide, releases, error, price.

    Args:
        data: A file that `hpstm prepare` packed, the folder of clips.csv, or: synthetic.
        noise: Noises of evaluate.
        rate: Frames a second [Hz].
        clips: How many clips.
        seconds: Of each clip [s].
    """
    if unknown := [name for name in noise if name not in NOISES]:
        raise ConfigError(f"--noise {unknown[0]}: one of {', '.join(NOISES)}")
    if not 5 <= rate <= 240:
        raise ConfigError(f"--rate must be between 5 and 240 Hz, not {rate:g}")
    where = Path(weights) if weights is not None else None
    rows = run(load_takes(data, "test", clips, seconds, rate), load_runtime(runtime, where), noise, rate)
    about = machine()
    caption = f"slide of planted feet: mm a frame; release: m/s2; errors: mm; push: us; {machine_line(about)}"
    console().print(table(rows, f"Foot-lock at {rate:g} Hz, {Path(data).name}", caption))
    if json:
        settings = {"data": Path(data).name, "rate_hz": rate, "clips": clips, "seconds": seconds}
        print(
            f"written: {write_json(json, {'benchmark': 'feet', 'machine': about, 'settings': settings, 'rows': rows})}"
        )
    return 0
