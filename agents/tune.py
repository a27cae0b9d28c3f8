"""Choose the rules' constants on deployments drawn from the training family, never on the held-out ones.

python -m agents.tune all --deployments 24 --jobs 2

Every rule gets the same number of trials, every trial the same deployments and the same luck. The objective is the
geometric mean, over the deployments, of normalised latency relative to `static:4`; a request that is rejected or
unfinished is charged the cap. The chosen values are printed; they stand as defaults in the rules' own files.
A table's trials are fixed windows, from which `agents.tune_table` fills it; it is scored like the others.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product

import numpy as np

from agents.average_reward import AverageReward
from agents.awc import Awc
from agents.base import Controller
from agents.heuristic import Heuristic
from agents.leviathan import Leviathan
from agents.sglang import SGLang
from agents.specdec import SpecDec
from agents.static import Static
from agents.table import BatchTable, Table
from agents.tune_runs import FAMILY, draw, latency_ms, run_each
from agents.tune_sweep import sweep
from agents.tune_table import WINDOWS, for_vllm
from agents.turbospec import TurboSpec
from agents.ucb import Ucb
from dsd_gym.config import ConfigError, did_you_mean
from dsd_gym.files import Parser, exits_cleanly, whole_number
from dsd_gym.scenario import Scenario
from dsd_gym.simulator import simulate

TRIALS = 12
"""Of each rule."""
REFERENCE_WINDOW = 4
REFERENCE = f"static:{REFERENCE_WINDOW}"

Constants = dict[str, float]
Make = Callable[[int], Controller]
"""The longest window in, a fresh controller out; a class or a partial, which another process can import by name."""


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
    "leviathan": Rule(Leviathan, {"cloud_margin": (0.0, 0.1, 0.2, 0.3), "confidence_weight": (0.0, 0.2, 0.4)}),
    "awc": Rule(Awc, {"price": (0.0, 1.0, 2.0, 4.0), "cloud_margin": (0.1, 0.2, 0.3)}),
    "average-reward": Rule(AverageReward, {"price": (0.0, 1.0, 2.0, 4.0), "cloud_margin": (0.1, 0.2, 0.3)}),
    "sglang": Rule(SGLang, {"batch_scale": (0.25, 0.5, 1.0), "up_hysteresis": (0.0, -1.0), "first_window": (3, 5)}),
    "specdec": Rule(SpecDec, {"stop_threshold": (0.1, 0.3, 0.5, 0.7), "cloud_margin": (0.0, 0.1, 0.2)}),
    "turbospec": Rule(TurboSpec, {"link_weight": (0.0, 0.5, 1.0), "cloud_margin": (0.0, 0.1, 0.2, 0.3)}),
    "ucb": Rule(Ucb, {"exploration": (0.03, 0.1, 0.2, 0.4), "hold": (1, 3, 8)}),
}
TUNED = [*RULES, "table"]


@dataclass(frozen=True)
class Run:
    """One trial in one deployment."""

    scenario: Scenario
    seed: int
    make: Make


def normalised_latency_ms(run: Run) -> float:
    """Return the mean normalised latency of a run; nan where nobody arrived."""
    return latency_ms(simulate(run.scenario, run.make(run.scenario.max_window), run.seed))


def reference(max_window: int) -> Controller:
    """Return what all are compared with."""
    return Static(min(REFERENCE_WINDOW, max_window))


def relative_latencies(makes: Sequence[Make], scenarios: Sequence[Scenario], seed: int, jobs: int) -> list[float]:
    """Return the geometric mean over deployments of each one's latency relative to the reference."""
    runs = [Run(scenario, seed, make) for make in (reference, *makes) for scenario in scenarios]
    latencies = run_each(normalised_latency_ms, runs, jobs)
    first, *rows = np.log(latencies).reshape(-1, len(scenarios))
    return [math.exp(float((row - first).mean())) for row in rows]


def tune(rule: str, scenarios: Sequence[Scenario], seed: int, jobs: int) -> list[tuple[float, Constants]]:
    """Return (relative latency, constants) of every trial of a rule, the best first."""
    trials = RULES[rule].trials()
    makes = [partial(RULES[rule].make, **constants) for constants in trials]
    scores = zip(relative_latencies(makes, scenarios, seed, jobs), trials, strict=True)
    return sorted(scores, key=lambda score: score[0])


def tune_table(scenarios: Sequence[Scenario], seed: int, jobs: int) -> tuple[float, BatchTable]:
    """Return the relative latency of the table that as many fixed windows fill, and the table."""
    table = sweep(scenarios, WINDOWS, seed, jobs).table()
    return relative_latencies([partial(Table, table=table)], scenarios, seed, jobs)[0], table


@exits_cleanly
def main(arguments: Sequence[str] | None = None) -> None:
    """Tune one rule, or all, and print every trial."""
    options = _parser().parse_args(arguments)
    if options.seed < 0:
        raise ConfigError("--seed must be at least 0")
    if options.rule not in ("all", *TUNED):
        raise ConfigError(f"{options.rule}: no such rule{did_you_mean(options.rule, [*TUNED, 'all'])}")
    scenarios = draw(options.deployments, options.seed)
    for rule in TUNED if options.rule == "all" else [options.rule]:
        print(f"{rule}: normalised latency relative to {REFERENCE}, {len(scenarios)} deployments of {FAMILY}")
        if rule == "table":
            score, table = tune_table(scenarios, options.seed, options.jobs)
            print(f"  {score:.4f}  {for_vllm(table)}", flush=True)
            continue
        trials = tune(rule, scenarios, options.seed, options.jobs)
        for score, constants in trials:
            print(f"  {score:.4f}  {_shown(constants)}")
        print(f"{rule}: chosen {_shown(trials[0][1])}", flush=True)


def _shown(constants: Constants) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in constants.items())


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m agents.tune", description="Choose the rules' constants.")
    parser.add_argument("rule", nargs="?", default="all", help=f"{', '.join(TUNED)}, or all (default)")
    parser.add_argument("--deployments", type=whole_number, default=24, help="how many are drawn (default: 24)")
    parser.add_argument("--seed", type=int, default=0, help="of the draws and of the luck in them (default: 0)")
    parser.add_argument("--jobs", type=whole_number, default=2, help="processes (default: 2)")
    return parser


if __name__ == "__main__":
    main()
