"""Noisy synthetic people to a Triton server with the model of ``hpstm export --triton``: latency, and is it the same.

    python triton_client.py 127.0.0.1:8001 [--actors 1] [--rate 30] [--seconds 10]

Each actor is a sequence: a number or a name as its id, START with the first frame, END with the last. Every pose is
compared with that of a PoseFilter in this process, the actor alone in it; so it needs hpstm-live, and of Triton
``pip install 'tritonclient[grpc]'``. A client of yours needs the part above ``main``, in any language.
"""

from __future__ import annotations

import argparse
import json
import threading
import time
from typing import Any

import numpy as np
import tritonclient.grpc as triton

from model.motion.synthetic import SyntheticActor
from streamer import Frame, PoseFilter

OUTPUTS = ("positions", "rotations", "covariance", "t_ns", "status")  # of what the model has, what is to be sent


def tensor(name: str, kind: str, array: np.ndarray) -> triton.InferInput:
    """An input with the batch axis, whose length is 1."""
    made = triton.InferInput(name, [1, *array.shape], kind)
    made.set_data_from_numpy(array[None])
    return made


def refined(
    client: triton.InferenceServerClient, model: str, sequence: int | str, positions: np.ndarray, t_ns: int,
    start: bool, end: bool,
) -> dict[str, np.ndarray]:  # fmt: skip
    """The pose for a frame (J, 3) [m], Y up. Raises InferenceServerException, which says what is wrong with it."""
    inputs = [
        tensor("positions", "FP32", positions.astype(np.float32)),
        tensor("t_ns", "INT64", np.array([t_ns], np.int64)),
    ]
    wanted = [triton.InferRequestedOutput(name) for name in OUTPUTS]
    answer = client.infer(
        model, inputs, outputs=wanted, sequence_id=sequence, sequence_start=start, sequence_end=end,
        client_timeout=10.0,
    )  # fmt: skip
    return {name: answer.as_numpy(name)[0] for name in OUTPUTS}


def stream(url: str, model: str, sequence: int | str, seen: np.ndarray, rate: float) -> tuple[list[Any], list[float]]:
    """The answers to frames (T, J, 3) sent in real time, and how long each took [ms]."""
    answers, took_ms = [], []
    with triton.InferenceServerClient(url) as client:
        begun = time.perf_counter()
        for n, positions in enumerate(seen):
            time.sleep(max(0.0, begun + n / rate - time.perf_counter()))
            sent = time.perf_counter()
            t_ns = round(n * 1e9 / rate)
            answers.append(refined(client, model, sequence, positions, t_ns, n == 0, n == len(seen) - 1))
            took_ms.append(1e3 * (time.perf_counter() - sent))
    return answers, took_ms


def difference_mm(answers: list[Any], seen: np.ndarray, rate: float) -> float:
    """The farthest that a joint is from where a PoseFilter in this process has it [mm]; NaN where all else differs."""
    alone, farthest = PoseFilter.load(), 0.0
    for n, (answer, positions) in enumerate(zip(answers, seen)):
        pose = alone.push(Frame("alone", n, round(n * 1e9 / rate), positions.astype(np.float32)))
        farthest = max(farthest, 1e3 * float(np.abs(pose.positions - answer["positions"]).max()))
        same = np.array_equal(pose.rotations, answer["rotations"]) and pose.t_ns == answer["t_ns"][0]
        if not (same and pose.status.encode() == answer["status"][0]):
            return float("nan")
    return farthest


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("url", nargs="?", default="127.0.0.1:8001", help="of Triton's gRPC service")
    options.add_argument("--model", default="hpstm-live")
    options.add_argument("--actors", type=int, default=1)
    options.add_argument("--rate", type=float, default=30.0, help="frames a second of each")
    options.add_argument("--seconds", type=float, default=10.0)
    options.add_argument("--json", action="store_true", help="print the figures as JSON")
    asked = options.parse_args()
    times = np.arange(round(asked.seconds * asked.rate)) / asked.rate
    noise, found, threads = np.random.default_rng(0), {}, []
    for n in range(asked.actors):
        seen = SyntheticActor(n).positions(times) + 0.02 * noise.standard_normal((len(times), 24, 3))
        seen[noise.random(seen.shape[:2]) < 0.05] = np.nan  # missing

        def run(n: int = n, seen: np.ndarray = seen) -> None:
            sequence = f"actor {n}" if n % 2 else n + 1
            found[n] = (seen, *stream(asked.url, asked.model, sequence, seen, asked.rate))

        threads.append(threading.Thread(target=run))
        threads[-1].start()
    for thread in threads:
        thread.join()
    if len(found) < asked.actors:
        raise SystemExit("a sequence was broken off: see above")
    took_ms = np.concatenate([took for _, _, took in found.values()])
    median, late = np.percentile(took_ms, [50, 99])
    off = max(difference_mm(answers, seen, asked.rate) for seen, answers, _ in found.values())
    figures = {"requests": len(took_ms), "p50_ms": median, "p99_ms": late, "difference_mm": off}
    if asked.json:
        print(json.dumps(figures))
    else:
        print(f"{len(took_ms)} requests: p50 {median:.2f} ms, p99 {late:.2f} ms; {off:g} mm from a PoseFilter here")


if __name__ == "__main__":
    main()
