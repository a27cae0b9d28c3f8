"""Labels for the window regressor: of one drawn deployment, the fixed window that serves it best, and what was seen.

A label needs no controller's skill: every window is run in the same deployment with the same luck, and the score of
the records says which was best. Rows of inputs are sampled from those same runs, and from one in which every pair goes
to and fro between windows and the cloud.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from agents.awc_mlp_inputs import PairHistory
from agents.base import Controller
from agents.pairs import Pairs
from agents.train_config import Labels
from dsd_gym.config import ConfigError
from dsd_gym.family import Family
from dsd_gym.metrics import meets_slos, request_latencies, scored_requests
from dsd_gym.observation import Observation
from dsd_gym.records import Decision, Records, Round
from dsd_gym.scenario import Scenario
from dsd_gym.simulator import simulate
from policies.window_inputs import WindowInputs

SHORTEST = 2
"""Windows from here to the longest are tried, and cloud mode (0) beside them: the paper's 2..12 and fused."""
DRAWS = 50
HELD_DECISIONS = 6
"""How long a pair keeps a window, where it goes to and fro."""


@dataclass(frozen=True)
class Labelled:
    """One deployment: what each window costs there, and rows of inputs seen in it."""

    costs: dict[int, float]
    """SLO-weighted latency in ms a token, by window."""
    rows: tuple[WindowInputs, ...]

    @property
    def best_window(self) -> int:
        """Return the window of least cost, the shortest of equals; 0 is cloud mode."""
        return min(self.costs, key=self.costs.__getitem__)

    @property
    def label(self) -> int:
        """Return what the regressor is to predict: the best window, and 1 for cloud mode."""
        return max(self.best_window, 1)


def slo_weighted_ms(records: Records, miss_weight: float) -> float:
    """Return the mean ms a token of the scored requests, those that miss an SLO weighted by `miss_weight`; nan of none.

    The paper's labels have the best "SLO-weighted score" and it gives no formula. Here a request counts by its
    normalised latency, and by `miss_weight` times that if its TTFT or its TPOT is beyond the scenario's limit; one that
    was rejected or not finished counts with the cap and has missed.
    """
    scored = scored_requests(records)
    if not scored:
        return math.nan
    met = np.array([meets_slos(request, records.slo_ttft_ms, records.slo_tpot_ms) for request in scored])
    return float((request_latencies(records).normalised_latency_ms * np.where(met, 1.0, miss_weight)).mean())


def make_label(source: Family | Scenario, seed: int, index: int, settings: Labels) -> Labelled:
    """Draw the deployment number `index`, and another in its place while nobody arrives in one; label it.

    Raises:
        ConfigError: nobody arrives in any of `DRAWS`.
    """
    random = np.random.default_rng([seed, index])
    for _ in range(DRAWS):
        labelled = label_deployment(draw_deployment(source, random, settings), settings)
        if labelled is not None:
            return labelled
    span = f"{settings.warm_up_ms:g} and {settings.horizon_ms:g} ms"
    raise ConfigError(f"labels: nobody arrives between {span} in {DRAWS} deployments drawn")


def draw_deployment(source: Family | Scenario, random: np.random.Generator, settings: Labels) -> Scenario:
    """Return a deployment, shortened, with one class of edges: the label is that of one kind of pair.

    Of a family's classes either is kept, equally likely, with everybody's number of devices; the load stays.
    """
    scenario = source.sample(random) if isinstance(source, Family) else source
    edge = scenario.edges[int(random.integers(len(scenario.edges)))]
    return replace(
        scenario,
        edges=(replace(edge, count=sum(other.count for other in scenario.edges)),),
        horizon_ms=settings.horizon_ms,
        warm_up_ms=settings.warm_up_ms,
        drain_ms=settings.drain_ms,
        max_requests=settings.max_requests,
        seed=int(random.integers(2**31)),
    )


def label_deployment(scenario: Scenario, settings: Labels) -> Labelled | None:
    """Run every window in a deployment and return the costs and the rows sampled; None where nobody arrives."""
    costs: dict[int, float] = {}
    rows: list[WindowInputs] = []
    for window in (0, *range(SHORTEST, scenario.max_window + 1)):
        watched = Watched([window])
        costs[window] = slo_weighted_ms(simulate(scenario, watched), settings.miss_weight)
        if math.isnan(costs[window]):
            return None
        rows += watched.sample(settings.rows_per_window)
    wandering = Watched([mode for window in range(SHORTEST, scenario.max_window + 1) for mode in (window, 0)])
    simulate(scenario, wandering)
    return Labelled(costs, (*rows, *wandering.sample(settings.wandering_rows)))


class Watched(Controller):
    """Answer with windows in turn, each for a while, and keep what a regressor would have seen."""

    def __init__(self, windows: Sequence[int]) -> None:
        self._windows = windows
        self._pairs = Pairs(self._new_pair)
        self._made = 0
        self._first: list[WindowInputs] = []
        self._later: list[WindowInputs] = []

    def _new_pair(self) -> tuple[int, PairHistory]:
        self._made += 2
        return self._made, PairHistory()

    def begin(self, stream: int, device: int, target: int) -> None:
        """Find the stream's pair."""
        self._pairs.begin(stream, device, target)

    def decide(self, observation: Observation, stream: int) -> Decision:
        """Return the window whose turn it is; each pair begins with another."""
        begins, history = self._pairs.of(stream)
        window = self._windows[(begins + history.decisions // HELD_DECISIONS) % len(self._windows)]
        (self._later if history.decisions else self._first).append(history.observed(observation))
        history.decided(window)
        return Decision(window)

    def record(self, round: Round) -> None:
        """Take in a round."""
        self._pairs.of(round.stream)[1].record(round)

    def forget(self, stream: int) -> None:
        """Drop a stream."""
        self._pairs.forget(stream)

    def sample(self, count: int) -> list[WindowInputs]:
        """Return `count` rows at even distances over the run, and one of a pair's very first decision."""
        places = np.linspace(0, len(self._later), count + 2)[1:-1].astype(int)
        later = [self._later[place] for place in places] if self._later else []
        return [*later, *self._first[len(self._first) // 2 :][:1]]
