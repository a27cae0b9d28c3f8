"""Independent pieces of work over processes that end with their parent, or over a Ray cluster."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import active_children, connection, get_context, parent_process
from multiprocessing.process import BaseProcess
from typing import TypeVar

from dsd_gym.config import ConfigError

T = TypeVar("T")
R = TypeVar("R")

RETRIES = 2
"""How often in a row workers may be killed before anything more gets done."""


def cpu_count() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_all(
    work: Callable[[T], R], items: Sequence[T], jobs: int, ray_address: str | None = None
) -> Iterator[tuple[int, R]]:
    """Yield (index, work(item)) as they finish; an error of `work` ends the rest. `work` must be importable by name.

    What a killed worker had in hand is done again, so `work` must give the same result whenever it is called.
    Processes are spawned, not forked, so that a parent that has loaded torch is safe: a script needs its
    `if __name__ == "__main__"`.

    Args:
        jobs: processes on this machine; 1 works in this one.
        ray_address: of a Ray cluster to work on instead; see `ray_workers`.

    Raises:
        ConfigError: workers were killed again and again, or the cluster cannot be used.
    """
    if ray_address is not None:
        from dsd_gym.comparison.ray_workers import run_on_ray

        yield from run_on_ray(work, items, ray_address)
    elif jobs <= 1 or len(items) <= 1:
        yield from enumerate(map(work, items))
    else:
        yield from _run_in_processes(work, items, jobs)


def _run_in_processes(work: Callable[[T], R], items: Sequence[T], jobs: int) -> Iterator[tuple[int, R]]:
    """Begin again with what is left when a worker is killed; the second time with half as many: memory may be short."""
    left, failures = dict(enumerate(items)), 0
    while left:
        try:
            for index, result in _run_in_pool(work, left, min(jobs, len(left))):
                del left[index]
                failures = 0
                yield index, result
        except BrokenProcessPool:
            failures += 1
            jobs = max(1, jobs // 2) if failures > 1 else jobs
            if failures > RETRIES:
                raise ConfigError("worker processes are killed again and again; fewer jobs take less memory") from None


def _run_in_pool(work: Callable[[T], R], items: dict[int, T], jobs: int) -> Iterator[tuple[int, R]]:
    pool = ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=end_with_parent)
    own: set[BaseProcess] = set()
    try:
        with interrupts_ignored():
            others = active_children()
            index = {pool.submit(work, item): i for i, item in items.items()}
            own = set(active_children()).difference(others)
        for future in as_completed(index):
            yield index.pop(future), future.result()
    except BaseException:  # the user's interrupt too: nobody waits for what is in hand
        for worker in own:
            worker.kill()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def interrupts_ignored() -> Iterator[None]:
    """Let processes that start ignore Ctrl-C while they import: they would tell of it at length."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def end_with_parent() -> None:
    """Die without a word when the user interrupts, and when the parent has been killed."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    parent = parent_process()
    if parent is not None:
        threading.Thread(target=_exit_after, args=(parent.sentinel,), daemon=True).start()


def _exit_after(sentinel: int) -> None:
    connection.wait([sentinel])
    os._exit(1)
