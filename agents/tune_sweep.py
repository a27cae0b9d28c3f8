"""Every fixed window at every load, with the same luck: what a batch-size table is filled from."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from agents.static import Static
from agents.table import BatchTable, Row
from agents.tune_runs import latency_ms, run_each
from dsd_gym.config import ConfigError
from dsd_gym.scenario import Scenario
from dsd_gym.simulator import simulate

LAST_BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 1024)
"""The ranges of batch sizes end here, inclusive."""
LEAST_SHARE = 0.05
"""A range that makes up less than this of one run, over all runs together, has not occurred."""

Floats = NDArray[np.float64]


class Run(NamedTuple):
    """A fixed window in one deployment."""

    scenario: Scenario
    seed: int
    window: int


class Outcome(NamedTuple):
    """What a run came to: normalised latency, and tokens committed in batches of each range of sizes."""

    latency_ms: float
    tokens: list[int]


def outcome(run: Run) -> Outcome:
    """Run a fixed window."""
    records = simulate(run.scenario, Static(run.window), run.seed)
    tokens = [0] * len(LAST_BATCHES)
    for round in records.rounds:
        tokens[min(bisect_left(LAST_BATCHES, round.batch_size), len(tokens) - 1)] += round.committed
    return Outcome(latency_ms(records), tokens)


@dataclass(frozen=True)
class Sweep:
    """Latencies of every window in every deployment, and how common each range of batch sizes was there."""

    windows: tuple[int, ...]
    latencies_ms: Floats
    """Shape (deployments, windows)."""
    shares: Floats
    """Shape (deployments, ranges), rows sum to 1: pooled over windows, so that all windows are judged on the same."""

    def regret(self) -> Floats:
        """Return, by range and window, the mean log of latency over the deployment's best; nan where it never was."""
        logs = np.log(self.latencies_ms)
        logs -= logs.min(axis=1, keepdims=True)
        weights = self.shares.sum(axis=0)
        with np.errstate(invalid="ignore", divide="ignore"):
            regret: Floats = (self.shares.T @ logs) / np.where(weights < LEAST_SHARE, np.nan, weights)[:, None]
        return regret

    def table(self, command: str = "") -> BatchTable:
        """Return the table of the windows with the least regret."""
        regret = self.regret()
        known = ~np.isnan(regret[:, 0])
        best = [self.windows[int(np.argmin(row))] if seen else None for row, seen in zip(regret, known, strict=True)]
        window = next(found for found in best if found is not None)
        rows: list[Row] = []
        first = 1
        for last, found in zip(LAST_BATCHES, best, strict=True):
            window = window if found is None else found
            if rows and rows[-1][2] == window:
                rows[-1] = (rows[-1][0], last, window)
            else:
                rows.append((first, last, window))
            first = last + 1
        return BatchTable(tuple(rows), command)


def sweep(scenarios: Sequence[Scenario], windows: Sequence[int], seed: int, jobs: int) -> Sweep:
    """Run every window in every deployment; those in which nobody arrives are left out."""
    runs = [Run(scenario, seed, window) for scenario in scenarios for window in windows]
    outcomes = run_each(outcome, runs, jobs)
    shape = (len(scenarios), len(windows))
    latencies = np.array([result.latency_ms for result in outcomes]).reshape(shape)
    tokens = np.array([result.tokens for result in outcomes], dtype=np.float64).reshape(*shape, -1).sum(axis=1)
    peopled = ~np.isnan(latencies).any(axis=1) & (tokens.sum(axis=1) > 0.0)
    if not peopled.any():
        raise ConfigError("nobody arrives in these deployments: raise --loads")
    shares = tokens[peopled] / tokens[peopled].sum(axis=1, keepdims=True)
    return Sweep(tuple(windows), latencies[peopled], shares)
