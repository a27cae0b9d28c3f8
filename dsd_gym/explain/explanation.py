"""All that is found out about a policy, in one go."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from dsd_gym.comparison.cells import MakeController
from dsd_gym.comparison.compare import Progress, compare
from dsd_gym.comparison.evaluation import OVERALL, Evaluation
from dsd_gym.config import ConfigError
from dsd_gym.explain.acts import ByTree
from dsd_gym.explain.crossover import Crossover, crossovers
from dsd_gym.explain.distil import Trial, check_installed, distil, leaf_shares
from dsd_gym.explain.importance import Importance, importances
from dsd_gym.explain.runs import Cells, Work, pooled, run_each
from dsd_gym.explain.sides import Side, sides
from dsd_gym.scenario import Scenario
from dsd_gym.window_tree import WindowTree

RIVAL = "awc"
KEPT_ROWS = 1000

SaveTree = Callable[[WindowTree, dict[str, Any]], str]
"""Writes a tree, with what is known of how it does, as a policy file; returns the spec of its controller."""


@dataclass(frozen=True)
class Question:
    """What is to be explained, and where."""

    policy: str
    scenarios: Sequence[Scenario]
    seeds: Sequence[int]
    make_controller: MakeController
    fit_cells: Cells
    """Where the tree is fitted."""
    fitted_in: str
    """What those are called."""
    leaves: int
    jobs: int = 1
    command: str = ""
    progress: Progress | None = None


@dataclass(frozen=True)
class Explanation:
    """What the page tells."""

    policy: str
    tree_spec: str
    command: str
    evaluation: Evaluation
    """The policy, its tree and the rival; the window maps of all three."""
    crossovers: dict[str, list[Crossover]]
    sides: list[Side]
    importances: list[Importance]
    trials: list[Trial]
    fitted_in: str
    """Name of the family or scenario that the tree was fitted in."""
    fitted_cells: int
    tree: WindowTree
    shares: list[float]
    """Of the tree's own decisions in the evaluated scenarios, by node; each run counted alike."""
    agreement: float
    """Share of those decisions that are the policy's."""
    agreement_within_one: float
    """The same, a window one longer or shorter let pass; the cloud is not next to a window of 1."""


def explain(asked: Question, save_tree: SaveTree) -> Explanation:
    """Find out what a policy, whose decisions depend on the observation alone, has learned.

    Raises:
        ConfigError: no scenario is scored by latency, or scikit-learn or numba is not installed.
    """
    policy, make, jobs, progress = asked.policy, asked.make_controller, asked.jobs, asked.progress
    scored = [scenario for scenario in asked.scenarios if scenario.score == "latency"]
    if not scored:
        raise ConfigError("--explain measures losses of latency: none of these scenarios is scored by it")
    check_installed()
    found = importances(policy, make, scored, asked.seeds, jobs, progress)
    trials = distil(policy, make, asked.fit_cells, asked.leaves, jobs, progress)
    tree = min(trials, key=lambda trial: trial.latency).tree
    spec = save_tree(tree, {})
    evaluation = _compared(asked, [policy, spec, RIVAL])
    save_tree(tree, _header_evaluation(evaluation, spec))
    shortest = min(scenario.max_window for scenario in asked.scenarios)
    return Explanation(
        policy,
        spec,
        asked.command,
        evaluation,
        {name: crossovers(name, make, shortest) for name in (policy, RIVAL)},
        sides(policy, make, [(scenario, seed) for scenario in asked.scenarios for seed in asked.seeds], jobs, progress),
        found,
        trials,
        asked.fitted_in,
        len(asked.fit_cells),
        tree,
        *_beside_policy(asked, tree),
    )


def _compared(asked: Question, specs: list[str]) -> Evaluation:
    """Return all of them against the first, with the maps of their windows."""
    return compare(
        asked.scenarios,
        specs,
        asked.seeds,
        asked.make_controller,
        reference=specs[0],
        jobs=asked.jobs,
        map_controllers=specs,
        command=asked.command,
        progress=asked.progress,
    )


def _beside_policy(asked: Question, tree: WindowTree) -> tuple[list[float], float, float]:
    """Return the shares of the tree's decisions by node, and how many are the policy's, exactly and within one."""
    cells = [(scenario, seed) for scenario in asked.scenarios for seed in asked.seeds]
    work = Work(cells, asked.policy, asked.make_controller, ByTree(tree), KEPT_ROWS)
    (seen,) = run_each([work], asked.jobs, asked.progress)
    rows, meant, done = pooled(seen)
    near = (abs(meant - done) <= 1) & ((meant == 0) == (done == 0))
    return leaf_shares(tree, rows), float((meant == done).mean()), float(near.mean())


def _header_evaluation(evaluation: Evaluation, spec: str) -> dict[str, Any]:
    """Return what the tree's file says of how it does against the policy that it was made of."""
    ratio = evaluation.summaries[OVERALL, spec].ratio
    figures = {"estimate": ratio.estimate, "low": ratio.low, "high": ratio.high}
    return {
        "scenarios": sorted(evaluation.scores),
        "seeds": len(evaluation.seeds),
        "latency_over_policy": {name: round(value, 4) for name, value in figures.items() if value == value},
    }
