"""Whole runs beside a policy: somebody acts, perhaps the policy itself, and the policy says what it would have done."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dsd_gym.comparison.cells import MakeController
from dsd_gym.comparison.compare import Progress
from dsd_gym.comparison.parallel import run_all
from dsd_gym.controller import Controller
from dsd_gym.metrics import request_latencies, scored_requests
from dsd_gym.observation import FEATURE_NAMES, Observation
from dsd_gym.records import Decision, Round
from dsd_gym.scenario import Scenario
from dsd_gym.simulator import simulate
from dsd_gym.window_tree import WindowTree

Rows = NDArray[np.float64]
"""Observations in their own units, (n, features)."""
Windows = NDArray[np.int64]

Decide = Callable[[Observation, int], Decision]
Act = Callable[[Controller, int], Decide]
"""Given the policy and the run's seed, return who acts. Called in worker processes: a plain object."""


@dataclass(frozen=True)
class ByPolicy:
    """The policy acts."""

    def __call__(self, policy: Controller, seed: int) -> Decide:
        return policy.decide


@dataclass(frozen=True)
class ByTree:
    """A tree acts."""

    tree: WindowTree

    def __call__(self, policy: Controller, seed: int) -> Decide:
        return lambda observation, stream: Decision(self.tree.choose(observation))


@dataclass(frozen=True)
class ByPolicyMisled:
    """The policy acts on observations in which some features are those of another decision, drawn anew each time."""

    names: tuple[str, ...]
    values: tuple[tuple[float, ...], ...]
    """What `names` were together at other decisions."""

    def __call__(self, policy: Controller, seed: int) -> Decide:
        names, values, random = self.names, self.values, Random(f"{seed} {self.names}")

        def decide(observation: Observation, stream: int) -> Decision:
            drawn = values[int(random.random() * len(values))]
            misled = observation._replace(**dict(zip(names, drawn, strict=True)))  # type: ignore[arg-type]
            return policy.decide(misled, stream)

        return decide


class Run(NamedTuple):
    """What to run."""

    scenario: Scenario
    seed: int
    policy: str
    make_controller: MakeController
    act: Act = ByPolicy()
    keep: int = 0
    """Observations to bring home, drawn at random of all."""


class Seen(NamedTuple):
    """What came of a run."""

    latency_ms: float
    """Mean normalised latency (ms a token) of the scored requests; nan if there were none."""
    decisions: int
    differing: int
    """Those that the policy would have taken otherwise."""
    rows: Rows
    meant: Windows
    """What the policy would have done with `rows`."""
    done: Windows


def run_each(runs: Sequence[Run], jobs: int, progress: Progress | None = None) -> list[Seen]:
    """Return what came of each run, in order; the same whatever the number of processes."""
    found: dict[int, Seen] = {}
    for index, seen in run_all(run, runs, jobs):
        found[index] = seen
        if progress:
            progress(len(found), len(runs))
    return [found[index] for index in range(len(runs))]


def run(work: Run) -> Seen:
    """Simulate one run."""
    policy = work.make_controller(work.policy, work.scenario.max_window)
    watched = _Watched(policy, work.act(policy, work.seed))
    records = simulate(work.scenario, watched, work.seed)
    scored = bool(scored_requests(records))
    latency_ms = float(request_latencies(records).normalised_latency_ms.mean()) if scored else math.nan
    return Seen(latency_ms, len(watched.seen), watched.differing, *_kept(watched, work.keep, work.seed))


class _Watched:
    """A controller that acts as it is told and asks the policy too."""

    def __init__(self, policy: Controller, decide: Decide) -> None:
        self.seen: list[tuple[Observation, int, int]] = []
        self.differing = 0
        self._policy, self._decide = policy, decide
        self._is_policy = decide == policy.decide

    def begin(self, stream: int, device: int, target: int) -> None:
        self._policy.begin(stream, device, target)

    def decide(self, observation: Observation, stream: int) -> Decision:
        meant = self._policy.decide(observation, stream)
        done = meant if self._is_policy else self._decide(observation, stream)
        self.differing += done != meant
        self.seen.append((observation, meant.window, done.window))
        return done

    def record(self, round: Round) -> None:
        self._policy.record(round)

    def forget(self, stream: int) -> None:
        self._policy.forget(stream)


def _kept(watched: _Watched, keep: int, seed: int) -> tuple[Rows, Windows, Windows]:
    drawn = Random(seed).sample(watched.seen, min(keep, len(watched.seen)))
    rows = np.array([row for row, _, _ in drawn], np.float64).reshape(-1, len(FEATURE_NAMES))
    meant, done = (np.array([decision[place] for decision in drawn], np.int64) for place in (1, 2))
    return rows, meant, done


def pooled(seen: Iterable[Seen]) -> tuple[Rows, Windows, Windows]:
    """Return the rows kept of all runs, and what was meant and done."""
    kept = [(found.rows, found.meant, found.done) for found in seen]
    rows, meant, done = (np.concatenate([part[place] for part in kept]) for place in range(3))
    return rows, meant, done
