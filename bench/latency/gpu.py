"""``hpstm bench gpu``: on a machine with an NVIDIA GPU, build, compare with the CPU, time one actor and many.

Each GPU runtime that runs here is compared with ONNX Runtime on the CPU over the same noisy frames, in millimetres, and
timed through ``PoseFilter``: one actor's push, and drains of one frame from each of many. The JSON names the device.
What cannot run says why, there too; the exit code is 1 when nothing ran or a difference is over its tolerance.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from time import perf_counter, perf_counter_ns
from typing import Annotated, Any

import numpy as np
from cyclopts import Parameter

from bench.drive import Pushing, noisy_frames
from bench.options import Json, Weights
from bench.report import Percentiles, console, frozen_gc, machine, machine_line, percentile_table, write_json
from streamer.cli import main
from streamer.errors import ConfigError, HPSTMError
from streamer.filter import PoseFilter
from streamer.frames import Frame
from streamer.runtimes import load_runtime
from streamer.runtimes.block import Runtime
from streamer.runtimes.cuda import find_gpu
from streamer.sources.replay import read_take

RUNTIMES: dict[str, tuple[str, dict[str, Any]]] = {
    "tensorrt, fp16 trunk": ("tensorrt", {"precision": "fp16"}),
    "tensorrt, fp32": ("tensorrt", {"precision": "fp32"}),
    "torch, CUDA graph": ("torch_cuda", {}),
}
TOLERANCE_MM = 0.1  # of a runtime that states none of its own: two float32 orders of summation
PACKAGES = ("tensorrt_rtx", "tensorrt", "cuda-bindings", "torch", "onnxruntime", "numpy")


def frames_of(file: str | None, count: int) -> list[Frame]:
    """Frames of one actor: a recording's (any format that ``hpstm replay`` reads), or a synthetic noisy walk."""
    if file is None:
        return noisy_frames(count)
    return [replace(frame, actor="a") for frame in read_take(file).frames[:count]]


def compare(runtime: Runtime, reference: Runtime, frames: list[Frame]) -> dict[str, Any]:
    """Differences of positions [mm] from the reference, of each frame's pose and of every tenth 0.1 s before it."""
    one, other = PoseFilter(runtime), PoseFilter(reference)
    differences, bones = [], 0.0
    for i, frame in enumerate(frames):
        pairs = [(one.push_many([frame])[0], other.push_many([frame])[0])]
        if i % 10 == 9 and pairs[0][1] is not None:
            at_ns = frame.t_ns - 100_000_000
            pairs.append((one.pose_at(at_ns, frame.actor), other.pose_at(at_ns, frame.actor)))
        for a, b in pairs:
            if (a is None) != (b is None):
                raise HPSTMError(f"frame {i} is taken by one runtime and rejected by the other")
            if a is not None and b is not None:
                differences.append(1e3 * np.linalg.norm(a.positions.astype(np.float64) - b.positions, axis=1).max())
                bones = max(bones, 1e3 * float(np.abs(a.lengths_m - b.lengths_m).max()))
    tolerance = float(getattr(runtime, "tolerance_mm", TOLERANCE_MM))
    p50, p99, worst = (float(x) for x in np.percentile(differences, [50, 99, 100]))
    return {
        "frames": len(frames), "p50_mm": p50, "p99_mm": p99, "max_mm": worst, "bones_max_mm": bones,
        "tolerance_mm": tolerance, "within": worst <= tolerance,  # not so for NaN, either
    }  # fmt: skip


def time_drains(runtime: Runtime, frames: list[Frame], actors: int, drains: int, warmup: int) -> dict[str, Any]:
    """Durations of ``push_many`` with one frame of each of ``actors``, and frames a second."""
    pose_filter = PoseFilter(runtime, max_actors=actors)
    batches = [[replace(frame, actor=str(n)) for n in range(actors)] for frame in frames[: warmup + drains]]
    for batch in batches[:warmup]:
        pose_filter.push_many(batch)
    taken = np.empty(len(batches) - warmup, np.int64)
    with frozen_gc():
        for i, batch in enumerate(batches[warmup:]):
            started = perf_counter_ns()
            pose_filter.push_many(batch)
            taken[i] = perf_counter_ns() - started
    spent = Percentiles.of_ns(taken)
    return {"actors": actors, "drain_ms": spent, "frames_per_s": 1e3 * actors / spent.mean}


def time_pushes(runtime: Runtime, frames: list[Frame], warmup: int) -> dict[str, Percentiles]:
    """One actor's latency; its lane is free again afterwards."""
    one = Pushing(runtime, frames)
    one.advance(warmup)
    one.forget()
    with frozen_gc():
        one.advance(len(frames) - warmup)
    return {"push_ms": Percentiles.of_ns(one.push_ns), "step_ms": Percentiles.of_ns(one.step_ns)}


def measure(runtime: Runtime, frames: list[Frame], actors: list[int], warmup: int, drains: int) -> dict[str, Any]:
    """Latency of one actor, and throughput of many; bones are calibrated in the warm-up, as in a running server."""
    return {
        **time_pushes(runtime, frames, warmup),
        "throughput": [time_drains(runtime, frames, n, drains, warmup) for n in actors],
    }


def run(file: str | None, steps: int, warmup: int, most: int, weights: str | None = None) -> dict[str, Any]:
    """Everything that the JSON says; ``most``: actors at a time."""
    folder = Path(weights) if weights else None
    frames = frames_of(file, warmup + steps)
    if len(frames) <= warmup:
        raise HPSTMError(f"{file} has {len(frames)} frames, the warm-up alone takes {warmup}")
    reference = load_runtime("onnx", folder)
    result: dict[str, Any] = {
        "benchmark": "gpu", "machine": machine(), "packages": {name: _version(name) for name in PACKAGES},
        "device": _device(), "input": file or "synthetic", "model": reference.contract.name,
        "weights_sha256": reference.contract.weights_sha256, "runtimes": {},
    }  # fmt: skip
    actors = [n for n in (1, 4, 16, 64, 256) if n <= most]
    for name, (kind, settings) in RUNTIMES.items():
        try:
            started = perf_counter()
            runtime = load_runtime(kind, folder, lanes=most, **settings)
            load_s = perf_counter() - started
            found = compare(runtime, reference, frames)
            timed = measure(runtime, frames, actors, warmup, min(steps, 300))
        except HPSTMError as error:
            result["runtimes"][name] = {"refused": str(error)}
        else:
            result["runtimes"][name] = {"load_s": load_s, "against_onnx_cpu": found, **timed}
    result["runtimes"]["onnx, CPU"] = measure(reference, frames, actors[:2], warmup, min(steps, 100))
    return result


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _device() -> dict[str, Any] | None:
    try:
        return find_gpu()._asdict()
    except HPSTMError:
        return None


def show(result: dict[str, Any]) -> None:
    """Prints the tables."""
    screen, device = console(), result["device"]
    named = f"{device['name']}, sm_{device['capability'][0]}{device['capability'][1]}" if device else "no GPU"
    rows = {name: row["push_ms"] for name, row in result["runtimes"].items() if "push_ms" in row}
    screen.print(percentile_table(f"One push of 24 joints; {named}", rows, machine_line(result["machine"])))
    for name, row in result["runtimes"].items():
        if "refused" in row:
            screen.print(f"{name}: did not run: {row['refused']}", markup=False)
            continue
        for many in row["throughput"]:
            spent = f"{many['drain_ms'].p50:.3f} ms p50"
            screen.print(
                f"{name}: {many['actors']} actors, {spent}, {many['frames_per_s']:,.0f} frames/s", markup=False
            )
        if "against_onnx_cpu" in row:
            found = row["against_onnx_cpu"]
            verdict = "within" if found["within"] else "OVER"
            screen.print(f"{name}: {found['max_mm']:.4f} mm at most from ONNX on the CPU, {verdict} its "
                         f"{found['tolerance_mm']:g} mm", markup=False)  # fmt: skip


def command(
    *,
    json: Json = None,
    file: Annotated[str | None, Parameter(show_default="a synthetic noisy walk")] = None,
    steps: int = 2000,
    warmup: int = 400,
    actors: int = 64,
    weights: Weights = None,
) -> int:
    """Build the engines of a GPU, compare them with the CPU, time one actor and many.

    Args:
        file: A recording or motion file to compare on.
        steps: Pushes to compare and time.
        warmup: Pushes before; bones take 4 s.
        actors: Most actors at a time.
    Returns:
        0 when some GPU runtime ran and all that ran agree with the CPU.
    """
    if steps < 1 or warmup < 1 or actors < 1:
        raise ConfigError("--steps, --warmup and --actors must be at least 1")
    result = run(file, steps, warmup, actors, weights)
    show(result)
    if json:
        print(f"written: {write_json(json, result)}")
    ran = [row["against_onnx_cpu"]["within"] for row in result["runtimes"].values() if "against_onnx_cpu" in row]
    return 0 if ran and all(ran) else 1


if __name__ == "__main__":
    sys.exit(main(["bench", "gpu", *sys.argv[1:]]))
