"""Independent pieces of work over a Ray cluster (the extra `ray`).

The address is what `ray.init` takes: `auto` or `host:port` on a machine of the cluster, `ray://host:port` elsewhere.
Every node needs the project's dependencies; the clone itself is sent along and is the working directory there, so that
all nodes run this code. Files outside it, and what git ignores, are not sent: a trace or a policy file there must lie
on every node under the same absolute path. Results are equal to the last digit on processors of one kind; between
kinds, the vector instructions behind numpy's logarithm and exponential may differ in the last bit.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import dsd_gym
from dsd_gym.config import ConfigError

T = TypeVar("T")
R = TypeVar("R")

RETRIES = 3
"""How often a piece is done again after its worker or its node was lost."""
REACH_S = 5.0
"""How long a head node has to answer."""
CLONE = Path(dsd_gym.__file__).resolve().parents[1]
NOT_SENT = [".git", ".hypothesis", ".mypy_cache", ".pytest_cache", ".ruff_cache", "docs", "runs"]


def run_on_ray(work: Callable[[T], R], items: Sequence[T], address: str) -> Iterator[tuple[int, R]]:
    """Yield (index, work(item)) as they finish; an error of `work` ends the rest.

    Raises:
        ConfigError: Ray is not installed, the cluster cannot be reached, or a piece's workers were lost too often.
    """
    ray = connect(address)
    try:
        call, sent = ray.remote(num_cpus=1, max_retries=RETRIES)(_call), ray.put(work)
        index = {call.remote(sent, item): i for i, item in enumerate(items)}
        while index:
            (done, *_), _ = ray.wait(list(index), num_returns=1)
            yield index.pop(done), _done(ray, done)
    finally:
        ray.shutdown()


def _call(work: Callable[[T], R], item: T) -> R:
    return work(item)


def connect(address: str) -> Any:
    """Return the module `ray`, connected; ConfigError if Ray is not installed or nobody answers."""
    if find_spec("ray") is None:
        raise ConfigError('Ray is not installed: pip install -e ".[ray]"')
    import ray

    _reach(address)
    environment = {"working_dir": str(CLONE), "excludes": NOT_SENT}
    try:
        ray.init(address, runtime_env=environment, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ConfigError(f"no Ray cluster at {address}: {line(error)}") from None
    return ray


def _reach(address: str) -> None:
    """Refuse an address where nobody answers at once: Ray itself would try for a minute."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not (colon and port.isdecimal()):
        return
    try:
        socket.create_connection((host, int(port)), REACH_S).close()
    except OSError as error:
        raise ConfigError(f"no Ray cluster at {address}: {error.strerror or error}") from None


def _done(ray: Any, done: Any) -> Any:
    try:
        return result(ray, done)
    except ray.exceptions.RayError as error:
        raise ConfigError(f"work was lost {RETRIES + 1} times: {line(error)}") from None


def result(ray: Any, done: Any) -> Any:
    """Return what remote work has returned, or raise what it has raised.

    Raises:
        ConfigError: the code could not be run there.
        ray.exceptions.RayError: the worker or its node was lost.
    """
    try:
        return ray.get(done)
    except ray.exceptions.RayTaskError as error:
        cause = error.cause or error
        if isinstance(cause, ray.exceptions.RayError) or "failed to import" in str(cause):
            raise ConfigError(f"a Ray worker cannot do the work: {line(cause, -1)}") from None
        raise cause from None


def line(error: BaseException, which: int = 0) -> str:
    """Return a line of what an error says: its first, or another by number."""
    return (str(error).strip() or type(error).__name__).splitlines()[which]
