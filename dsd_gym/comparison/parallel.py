"""Independent pieces of work over processes, that end with their parent."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import connection, get_context, parent_process
from typing import TypeVar

from dsd_gym.config import ConfigError

T = TypeVar("T")
R = TypeVar("R")


def cpu_count() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_all(work: Callable[[T], R], items: Sequence[T], jobs: int) -> Iterator[tuple[int, R]]:
    """Yield (index, work(item)) as they finish; an error ends the rest. `work` must be importable by name.

    Processes are spawned, not forked, so that a parent that has loaded torch is safe: a script needs its
    `if __name__ == "__main__"`.
    """
    if jobs <= 1 or len(items) <= 1:
        yield from enumerate(map(work, items))
        return
    jobs = min(jobs, len(items))
    pool = ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=_end_with_parent)
    try:
        index = {pool.submit(work, item): i for i, item in enumerate(items)}
        for future in as_completed(index):
            yield index.pop(future), future.result()
    except BrokenProcessPool:
        raise ConfigError("a worker process was killed; fewer jobs take less memory") from None
    finally:
        pool.shutdown(cancel_futures=True)


def _end_with_parent() -> None:
    """Die without a word when the user interrupts, and when the parent has been killed."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    parent = parent_process()
    if parent is not None:
        threading.Thread(target=_exit_after, args=(parent.sentinel,), daemon=True).start()


def _exit_after(sentinel: int) -> None:
    connection.wait([sentinel])
    os._exit(1)
