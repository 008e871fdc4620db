"""A filter of one actor in a fresh process: how long until its first pose, and how much memory it then keeps."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from time import perf_counter
from typing import Any

FRAMES = 120


def footprint(runtime: str, folder: Path, threads: int = 1) -> dict[str, Any]:
    """``start_s``: from the first import to the first pose; ``peak_mib``: most memory resident, None where the system
    does not say.

    Raises:
        RuntimeError: the child ended without an answer; its last line is the message.
    """
    command = [sys.executable, "-m", "bench.latency.footprint", runtime, str(folder), str(threads)]
    child = subprocess.run(command, capture_output=True, text=True, check=False)
    if child.returncode:
        raise RuntimeError((child.stderr.strip().splitlines() or ["no message"])[-1])
    told: dict[str, Any] = json.loads(child.stdout)
    return told


def _peak_mib() -> float | None:
    try:  # not getrusage: it also counts the parent's memory, from before exec
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), None)


def _main(runtime: str, folder: str, threads: str) -> None:
    started = perf_counter()
    from model.motion.synthetic import SyntheticActor
    from streamer.filter import PoseFilter
    from streamer.frames import Frame

    pose_filter = PoseFilter.load(folder, runtime, int(threads))
    for seq in range(FRAMES):
        pose_filter.push(Frame("a", seq, seq * 16_666_667, SyntheticActor(1).positions([seq / 60])[0]))
        if seq == 0:
            start_s = perf_counter() - started
    print(json.dumps({"start_s": start_s, "peak_mib": _peak_mib()}))


if __name__ == "__main__":
    _main(*sys.argv[1:])
