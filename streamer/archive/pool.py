"""Tasks on processes of this machine; one that is killed takes its pool with it, and both are begun again.

Nobody knows which task killed a pool: those that were at work then are tried again one by one, each alone in a pool.
Which is killed a second time is refused.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool

from streamer.archive.task import Row, Task, work

KILLED = "{}: the process at work on it was killed, twice; not enough memory?"
ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")  # several add in another order


def rows_of_pool(tasks: Sequence[Task], jobs: int, work: Callable[[Task], Row] = work) -> Iterator[Row]:
    """A row for each task, as they are done, by ``jobs`` processes of one thread each."""
    waiting, suspects = deque(tasks), deque[Task]()
    with one_thread():
        while waiting or suspects:
            if suspects:
                yield from _alone(suspects.popleft(), work)
            else:
                yield from _together(waiting, suspects, jobs, work)


def _together(waiting: deque[Task], suspects: deque[Task], jobs: int, work: Callable[[Task], Row]) -> Iterator[Row]:
    """Rows until all is done or the pool breaks; what was at work then goes to ``suspects``."""
    with _pool(min(jobs, len(waiting))) as pool:
        running: dict[Future[Row], Task] = {}
        while waiting or running:
            while waiting and len(running) < jobs and not suspects:
                task = waiting.popleft()
                try:
                    running[pool.submit(work, task)] = task
                except BrokenProcessPool:  # just now: what is running will say so
                    waiting.appendleft(task)
                    break
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                task, error = running.pop(future), future.exception()
                if isinstance(error, BrokenProcessPool):
                    suspects.append(task)
                else:
                    yield future.result() if error is None else failed(task, error)


def _alone(task: Task, work: Callable[[Task], Row]) -> Iterator[Row]:
    with _pool(1) as pool:
        future = pool.submit(work, task)
        error = future.exception()
        if isinstance(error, BrokenProcessPool):
            yield Row(task.label, "refused", KILLED.format(task.path))
        else:
            yield future.result() if error is None else failed(task, error)


def _pool(processes: int) -> ProcessPoolExecutor:
    # Ctrl-C is the driver's: what is at work then is finished, and left.
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(processes, context, signal.signal, (signal.SIGINT, signal.SIG_IGN))


def failed(task: Task, error: BaseException) -> Row:
    """An error that nobody expected is a fault of ours; it costs this file, and no other."""
    said = " ".join(str(error).split())[-400:]
    return Row(task.label, "refused", f"{task.path}: failed ({type(error).__name__}: {said}); please report it")


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Child processes that start meanwhile use one thread in each of their libraries, as they read it at the start."""
    before = {name: os.environ.get(name) for name in ONE_THREAD}
    os.environ.update(dict.fromkeys(ONE_THREAD, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
