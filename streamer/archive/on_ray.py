"""Tasks on a Ray cluster, or on a small one of this machine: each is a remote call that writes its file, answers a row.

All nodes see the same files under the same names, and have the same hpstm-live installed.
"""

from __future__ import annotations

import os
import socket
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from typing import Any

from streamer.archive.pool import KILLED, failed, one_thread
from streamer.archive.task import Row, Task, work
from streamer.errors import ConfigError

_STORE_BYTES = 100 << 20  # rows are all that goes through it
_AHEAD = 2  # tasks in flight a core: the next is there when one is done
_TRIES = 2
_ANSWER_S = 3.0  # for a cluster to take a connection


def rows_of_ray(
    tasks: Sequence[Task], jobs: int, address: str = "", work: Callable[[Task], Row] = work
) -> Iterator[Row]:
    """A row for each task, as they are done.

    Args:
        jobs: cores of the cluster on this machine; with an ``address`` the cluster has its own.
        address: of a cluster: auto, host:port or ray://host:port; "": one of this machine, gone afterwards.
    Raises:
        ConfigError: ray is not installed, or the cluster does not answer.
    """
    with one_thread():  # of a cluster of its own; any other's tasks of one core have one thread by Ray's own rule
        ray = _started(jobs, address)
    try:
        remote = ray.remote(num_cpus=1, max_retries=_TRIES - 1)(work)
        most = _AHEAD * max(1, int(ray.cluster_resources().get("CPU", 1)))
        waiting, running = deque(tasks), dict[Any, Task]()
        while waiting or running:
            while waiting and len(running) < most:
                task = waiting.popleft()
                running[remote.remote(task)] = task
            for done in ray.wait(list(running), num_returns=1)[0]:
                yield _row(ray, running.pop(done), done)
    finally:
        ray.shutdown()


def _check_answers(address: str) -> None:
    """Raises where nothing listens: Ray itself would go on trying for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host, int(port)), _ANSWER_S).close()
    except (OSError, ValueError, OverflowError) as error:
        raise ConfigError(f"--ray {address}: no cluster there; give auto, HOST:PORT or ray://HOST:PORT") from error


def _started(jobs: int, address: str) -> Any:
    if address not in ("", "auto"):
        _check_answers(address)
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # else it warns of GPUs, which nobody asks for
    try:
        ray: Any = import_module("ray")  # its own types are others in each of its versions
    except ImportError as error:
        raise ConfigError("--ray needs ray; install it with: pip install 'hpstm-live[ray]'") from error
    own = {} if address else {"num_cpus": jobs, "object_store_memory": _STORE_BYTES, "include_dashboard": False}
    try:
        ray.init(address=address or "local", log_to_driver=False, logging_level="ERROR", **own)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise ConfigError(
            f"--ray {address or '(this machine)'}: no cluster ({' '.join(str(error).split())})"
        ) from error
    return ray


def _row(ray: Any, task: Task, done: Any) -> Row:
    try:
        row = ray.get(done)
    except ray.exceptions.WorkerCrashedError:
        return Row(task.label, "refused", KILLED.format(task.path))
    except ray.exceptions.RayError as error:
        return failed(task, error)
    assert isinstance(row, Row)
    return row
