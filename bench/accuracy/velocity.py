"""``hpstm bench velocity``: how fast joints are said to move, against how fast they do; and what saying it costs.

Three ways, all for the same times and from the same frames: the filter's own velocities, differences of its poses, and
differences of a tuned One-Euro filter's, which is what people do. Truth: differences of the motion at its own rate.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from time import thread_time_ns
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from cyclopts import Parameter
from rich.table import Table

from bench.accuracy.answers import Seen
from bench.accuracy.methods import Case, corrupted, held, smoothed_positions
from bench.accuracy.takes import RATE_HZ, Take, load_takes
from bench.options import Json, RuntimeName, Weights
from bench.report import console, machine, machine_line, write_json
from bench.track import Floats, Times
from model.noise.fixed import NOISES
from model.prepare import ClipError
from streamer.clock import SECOND_NS
from streamer.errors import ConfigError
from streamer.filter import PoseFilter
from streamer.frames import Frame
from streamer.runtimes import load_runtime
from streamer.runtimes.block import Runtime

START_S = 1.5  # of each take, left out: filters settle
SLOWEST_TRUTH_HZ = 60.0  # differences of slower motion are no truth
OWN, DIFFERENCES, ONE_EURO = "HPSTM Live", "differences of its poses", "differences of One-Euro's"
METHODS = (OWN, DIFFERENCES, ONE_EURO)
ANY_NUMBER = Parameter(consume_multiple=True)


def true_velocity(take: Take, t_ns: Times) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """(T, 24, 3) true velocities [m/s], and where they are known: over one captured frame to either side."""
    step_ns = int(np.median(np.diff(take.native_ns)))
    before, after = t_ns - step_ns, t_ns + step_ns
    velocity = (take.truth_at(after) - take.truth_at(before)) / (2 * step_ns / SECOND_NS)
    return velocity, take.holds(before) & take.holds(after) & (take.t_ns - take.t_ns[0] > START_S * SECOND_NS)


def differences(t_ns: Times, positions: Floats) -> Floats:
    """(T, 24, 3) of each pose against the one before [m/s]; NaN for the first."""
    steps = np.diff(positions, axis=0) / (np.diff(t_ns) / SECOND_NS)[:, None, None]
    return np.concatenate([np.full_like(positions[:1], np.nan), steps])


def said(runtime: Runtime, take: Take, seen: Seen, case: Case) -> dict[str, Floats]:
    """What each method says (T, 24, 3) [m/s]; NaN where it says nothing yet."""
    shift = {"delay_s": max(0.0, -case.at_s), "predict_s": max(0.0, case.at_s)}
    pose_filter = PoseFilter(runtime, velocities=True, **shift)  # type: ignore[arg-type]
    own, positions = np.full((2, len(take.t_ns), 24, 3), np.nan)
    for k, t_ns in enumerate(take.t_ns.tolist()):
        (pose,) = pose_filter.push_many([Frame("a", k, t_ns, seen.positions[k], seen.confidence[k])])
        if pose is not None and pose.velocity is not None:
            own[k], positions[k] = pose.velocity, pose.positions
    given = held(take.t_ns / SECOND_NS, seen.positions)
    smooth = smoothed_positions("One-Euro", take.t_ns, given, case)
    return {OWN: own, DIFFERENCES: differences(take.t_ns, positions), ONE_EURO: differences(take.t_ns, smooth)}


def errors(runtime: Runtime, takes: Sequence[Take], case: Case) -> dict[str, Any]:
    """A row: the mean error of each method, and the mean speed [m/s], over joints, frames and then takes."""
    each: list[dict[str, float]] = []
    for take in takes:
        true, counts = true_velocity(take, take.t_ns + round(case.at_s * SECOND_NS))
        row = {"speed": float(np.linalg.norm(true[counts], axis=-1).mean())}
        for method, velocity in said(runtime, take, corrupted(take, case.noise), case).items():
            row[method] = float(np.nanmean(np.linalg.norm(velocity[counts] - true[counts], axis=-1)))
        each.append(row)
    return case._asdict() | {name: float(np.mean([row[name] for row in each])) for name in each[0]}


def cost_us(runtime: Runtime, take: Take, seen: Seen) -> dict[str, float]:
    """Median processor time of a push [us], without and with velocities, frame by frame in turn."""
    filters = {"without": PoseFilter(runtime), "with": PoseFilter(runtime, velocities=True)}
    took: dict[str, list[int]] = {name: [] for name in filters}
    for k, t_ns in enumerate(take.t_ns.tolist()):
        for name, pose_filter in filters.items():
            frame = Frame("a", k, t_ns, seen.positions[k], seen.confidence[k])
            start = thread_time_ns()
            pose_filter.push_many([frame])
            took[name].append(thread_time_ns() - start)
    return {name: float(np.median(some[len(some) // 4 :])) / 1e3 for name, some in took.items()}


def table(result: dict[str, Any]) -> Table:
    """Errors of the methods, a row a case."""
    costs = result["push_us"]
    caption = f"a push takes {costs['without']:.0f} us, {costs['with']:.0f} with velocities (processor time)"
    shown = Table(title="Error of the velocity of joints, m/s", caption=caption)
    for name in ("noise", "rate", "pose for", "speed", *METHODS):
        shown.add_column(name, justify="right")
    for row in result["rows"]:
        when = f"{1e3 * row['at_s']:+.0f} ms" if row["at_s"] else "now"
        numbers = [f"{row[name]:.3f}" for name in ("speed", *METHODS)]
        shown.add_row(row["noise"], f"{row['rate_hz']:g} Hz", when, *numbers)
    return shown


def command(
    data: str,
    /,
    *,
    clips: int = 8,
    seconds: float = 8.0,
    noise: tuple[str, ...] = ("clean", "white10", "realistic"),
    delay: Annotated[tuple[float, ...], ANY_NUMBER] = (0.0, 0.1),
    predict: Annotated[tuple[float, ...], ANY_NUMBER] = (0.05,),
    rate: tuple[float, ...] = (RATE_HZ, 60.0),
    runtime: RuntimeName = "auto",
    weights: Weights = None,
    json: Json = None,
) -> int:
    """Score the velocities of poses, beside differences of poses.

    Args:
        data: A file that hpstm prepare packed, the folder of clips.csv, or: synthetic.
        clips: Clips to score, of those captured at 60 Hz or more.
        seconds: The middle of each clip [s].
        noise: What is done to the clips.
        delay: Score poses so long before the newest frame [s].
        predict: And so long after it [s].
        rate: Frames a second that a source sees [Hz].
    """
    for name in noise:
        if name not in NOISES:
            raise ConfigError(f"--noise {name!r}: choose from {', '.join(NOISES)}")
    if clips < 1 or seconds <= 2 * START_S or min(rate) <= 0 or min([*delay, *predict], default=0.0) < 0:
        raise ConfigError(
            f"--clips at least 1, --seconds more than {2 * START_S:g}, --rate positive, times not negative"
        )
    loaded = load_runtime(runtime, Path(weights) if weights else None)
    rows, takes = [], []
    for rate_hz in rate:
        takes = takes_of(data, clips, seconds, rate_hz)
        for kind, at_s in product(noise, [*(0.0 - s for s in delay), *predict]):
            rows.append(errors(loaded, takes, Case(kind, rate_hz, at_s)))
    result: dict[str, Any] = {
        "benchmark": "velocity", "machine": machine(), "rows": rows,
        "settings": {"data": Path(data).name, "clips": len(takes), "seconds": seconds, "runtime": loaded.name,
                     "weights_sha256": loaded.contract.weights_sha256},
        "push_us": cost_us(loaded, takes[0], corrupted(takes[0], noise[0])),
    }  # fmt: skip
    out = console()
    out.print(table(result))
    out.print(f"{len(takes)} clips of {Path(data).name}; {machine_line(result['machine'])}")
    if json is not None:
        write_json(json, result)
    return 0


def takes_of(data: str, clips: int, seconds: float, rate_hz: float) -> list[Take]:
    """The first clips whose own rate tells how fast joints are. Raises ConfigError: there are none."""
    try:
        takes = load_takes(data, "test", None if data != "synthetic" else clips, seconds, rate_hz)
    except ClipError as error:
        raise ConfigError(str(error)) from error
    fast = [take for take in takes if np.median(np.diff(take.native_ns)) < 1.01 * SECOND_NS / SLOWEST_TRUTH_HZ]
    if not fast:
        raise ConfigError(f"{data}: no clip captured at {SLOWEST_TRUTH_HZ:g} Hz or more")
    return fast[:clips]
