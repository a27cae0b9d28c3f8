"""Which of a run's deployments each of several workers has."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

from dsd_gym.config import ConfigError


class Share(NamedTuple):
    """One worker's part: how many deployments, and the number of its first, counted from 0 over all workers."""

    first: int
    size: int


def shares(deployments: int, workers: int) -> list[Share]:
    """Divide deployments among workers as evenly as can be; ConfigError if some would have none."""
    if not 1 <= workers <= deployments:
        raise ConfigError(f"workers: from 1 to ppo.n_envs, which is {deployments}: {workers} cannot share those out")
    ends = [deployments * worker // workers for worker in range(workers + 1)]
    return [Share(first, end - first) for first, end in pairwise(ends)]
