"""What tuning runs: deployments of the training family, shortened, each the same for every rule that is tried."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np

from agents.static import Static
from dsd_gym.comparison.parallel import run_all
from dsd_gym.comparison.progress import progress_bar
from dsd_gym.family import Family, load_scenario_or_family
from dsd_gym.metrics import request_latencies, scored_requests
from dsd_gym.records import Records
from dsd_gym.scenario import Scenario
from dsd_gym.simulator import simulate

FAMILY = "train/family"
HORIZON_MS, DRAIN_MS, MAX_REQUESTS = 20_000.0, 30_000.0, 150
"""Shorter runs than those of training: every trial is one run of every deployment."""
SOMEBODY_ARRIVES = 4
"""The window under which a deployment is tried out before it is taken."""

T = TypeVar("T")
R = TypeVar("R")


def shortened(scenario: Scenario) -> Scenario:
    """Return the scenario as tuning runs it."""
    return replace(scenario, warm_up_ms=0.0, horizon_ms=HORIZON_MS, drain_ms=DRAIN_MS, max_requests=MAX_REQUESTS)


def draw(deployments: int, seed: int, family: Family | None = None) -> list[Scenario]:
    """Return deployments of a family (the training family by default), shortened; somebody arrives in each."""
    if family is None:
        loaded = load_scenario_or_family(FAMILY)
        assert isinstance(loaded, Family)
        family = loaded
    drawn: list[Scenario] = []
    random = np.random.default_rng(seed)
    while len(drawn) < deployments:
        scenario = shortened(family.sample(random))
        if not math.isnan(latency_ms(simulate(scenario, Static(SOMEBODY_ARRIVES), seed))):
            drawn.append(scenario)
    return drawn


def latency_ms(records: Records) -> float:
    """Return the mean normalised latency of a run; nan where nobody arrived."""
    return float(request_latencies(records).normalised_latency_ms.mean()) if scored_requests(records) else math.nan


def run_each(work: Callable[[T], R], runs: Sequence[T], jobs: int) -> list[R]:
    """Return work(run) for each, in order, with a bar on a terminal."""
    results: dict[int, R] = {}
    with progress_bar() as progress:
        for done, (index, result) in enumerate(run_all(work, runs, jobs), 1):
            results[index] = result
            if progress:
                progress(done, len(runs))
    return [results[index] for index in range(len(runs))]
