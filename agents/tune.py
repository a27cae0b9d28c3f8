"""Choose the rules' constants on deployments drawn from the training family, never on the held-out ones.

python -m agents.tune all --deployments 24 --jobs 2

Every rule gets the same number of trials, every trial the same deployments and the same luck. The objective is the
geometric mean, over the deployments, of normalised latency relative to `static:4`; a request that is rejected or
unfinished is charged the cap. The chosen values are printed; they stand as defaults in the rules' own files.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np

from agents.awc import Awc
from agents.base import Controller
from agents.heuristic import Heuristic
from agents.leviathan import Leviathan
from agents.static import Static
from dsd_gym.comparison.parallel import run_all
from dsd_gym.comparison.progress import progress_bar
from dsd_gym.config import ConfigError, did_you_mean
from dsd_gym.family import Family, load_scenario_or_family
from dsd_gym.files import exits_cleanly
from dsd_gym.metrics import request_latencies
from dsd_gym.scenario import Scenario
from dsd_gym.simulator import simulate

FAMILY = "train/family"
REFERENCE = "static:4"
HORIZON_MS, DRAIN_MS, MAX_REQUESTS = 20_000.0, 30_000.0, 150
"""Shorter runs than those of training: every trial is one run of every deployment."""

Constants = dict[str, float]


@dataclass(frozen=True)
class Rule:
    """A rule and the values of its constants that are tried."""

    make: Callable[..., Controller]
    tried: dict[str, tuple[float, ...]]

    def trials(self) -> list[Constants]:
        """Return every combination."""
        return [dict(zip(self.tried, values, strict=True)) for values in product(*self.tried.values())]


RULES = {
    "heuristic": Rule(Heuristic, {"first_window": tuple(range(1, 13))}),
    "leviathan": Rule(Leviathan, {"cloud_margin": (-0.1, 0.0, 0.1, 0.2), "confidence_weight": (0.0, 0.2, 0.4)}),
    "awc": Rule(Awc, {"price": (0.0, 1.0, 2.0, 4.0), "cloud_margin": (0.0, 0.1, 0.2)}),
}
"""Twelve trials each."""


@dataclass(frozen=True)
class Run:
    """One trial in one deployment."""

    scenario: Scenario
    seed: int
    rule: str
    constants: Constants


def draw(deployments: int, seed: int) -> list[Scenario]:
    """Return deployments of the training family, shortened."""
    family = load_scenario_or_family(FAMILY)
    assert isinstance(family, Family)
    drawn: list[Scenario] = []
    random = np.random.default_rng(seed)
    while len(drawn) < deployments:
        scenario = family.sample(random)
        scenario = replace(scenario, horizon_ms=HORIZON_MS, drain_ms=DRAIN_MS, max_requests=MAX_REQUESTS)
        if not math.isnan(normalised_latency_ms(Run(scenario, seed, REFERENCE, {}))):  # somebody must arrive
            drawn.append(scenario)
    return drawn


def normalised_latency_ms(run: Run) -> float:
    """Return the mean normalised latency of a run; nan where nobody arrived."""
    max_window = run.scenario.max_window
    rule = RULES.get(run.rule)
    controller = rule.make(max_window, **run.constants) if rule else Static(int(REFERENCE.partition(":")[2]))
    records = simulate(run.scenario, controller, run.seed)
    return float(request_latencies(records).normalised_latency_ms.mean()) if records.requests else math.nan


def tune(rule: str, scenarios: Sequence[Scenario], seed: int, jobs: int) -> list[tuple[float, Constants]]:
    """Return (relative latency, constants) of every trial of a rule, the best first."""
    trials = RULES[rule].trials()
    runs = [Run(scenario, seed, REFERENCE, {}) for scenario in scenarios]
    runs += [Run(scenario, seed, rule, constants) for constants in trials for scenario in scenarios]
    latencies = np.zeros(len(runs))
    with progress_bar() as progress:
        for done, (index, latency_ms) in enumerate(run_all(normalised_latency_ms, runs, jobs), 1):
            latencies[index] = latency_ms
            if progress:
                progress(done, len(runs))
    reference, *rows = np.log(latencies).reshape(-1, len(scenarios))
    scores = [(math.exp(float((row - reference).mean())), c) for row, c in zip(rows, trials, strict=True)]
    return sorted(scores, key=lambda score: score[0])


@exits_cleanly
def main(arguments: Sequence[str] | None = None) -> None:
    """Tune one rule, or all, and print every trial."""
    options = _parser().parse_args(arguments)
    if min(options.deployments, options.jobs) < 1 or options.seed < 0:
        raise ConfigError("--deployments and --jobs must be at least 1, and --seed at least 0")
    if options.rule != "all" and options.rule not in RULES:
        raise ConfigError(f"{options.rule}: no such rule{did_you_mean(options.rule, [*RULES, 'all'])}")
    scenarios = draw(options.deployments, options.seed)
    for rule in RULES if options.rule == "all" else [options.rule]:
        trials = tune(rule, scenarios, options.seed, options.jobs)
        print(f"{rule}: normalised latency relative to {REFERENCE}, {len(scenarios)} deployments of {FAMILY}")
        for score, constants in trials:
            print(f"  {score:.4f}  {_shown(constants)}")
        print(f"{rule}: chosen {_shown(trials[0][1])}", flush=True)


def _shown(constants: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in constants.items())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m agents.tune", description="Choose the rules' constants.")
    parser.add_argument("rule", nargs="?", default="all", help=f"{', '.join(RULES)}, or all (default)")
    parser.add_argument("--deployments", type=int, default=24, help="how many are drawn (default: 24)")
    parser.add_argument("--seed", type=int, default=0, help="of the draws and of the luck in them (default: 0)")
    parser.add_argument("--jobs", type=int, default=2, help="processes (default: 2)")
    return parser


if __name__ == "__main__":
    main()
