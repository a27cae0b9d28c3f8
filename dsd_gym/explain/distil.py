"""A small tree that does nearly what a policy does: fitted to its answers, where it goes and where the tree goes."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dsd_gym.comparison.cells import MakeController
from dsd_gym.comparison.compare import Progress
from dsd_gym.config import ConfigError
from dsd_gym.explain.acts import ByTree, Rows, Windows
from dsd_gym.explain.runs import Cells, Seen, Work, pooled, run_each
from dsd_gym.family import Family, load_scenario_or_family
from dsd_gym.priced_inputs import ASKED, asked_many
from dsd_gym.scenario import Scenario
from dsd_gym.scenario_files import SCENARIO_FOLDER, load_scenarios
from dsd_gym.window_tree import LEAF, WindowTree

ROUNDS = 6
"""The tree of each round is tried; they get no better steadily, so the best in its own deployments is taken."""
KEPT_ROWS = 1500
"""Of each run, so that busy deployments do not drown quiet ones."""
CLOUD_WEIGHT = 3.0
"""Tokens of window that the choice between edge and cloud counts for, in what a tree is fitted by."""
LEAST_SHARE = 0.002
"""Of the observations, that a leaf must hold."""
DEPLOYMENTS = 48
FIRST_SEED = 2_000_000
"""Training, validation and comparisons use other seeds."""


class Trial(NamedTuple):
    """One round: a tree, and how it fares in the deployments that it is fitted in."""

    tree: WindowTree
    rows: int
    agreement: float
    """Share of its own decisions that are the policy's."""
    latency: float
    """Normalised latency over the policy's on the same luck, geometric mean."""


def deployments(name: str, count: int = DEPLOYMENTS) -> list[tuple[Scenario, int]]:
    """Return `count` deployments of a family, a scenario or a folder of scenarios, each with the seed of its luck."""
    seeds = range(FIRST_SEED, FIRST_SEED + count)
    if any(path.is_dir() for path in (Path(name), SCENARIO_FOLDER / name)):
        scenarios = load_scenarios([name], {})
        return [(scenarios[place % len(scenarios)], seed) for place, seed in enumerate(seeds)]
    source = load_scenario_or_family(name)
    if isinstance(source, Family):
        return [(source.sample(np.random.default_rng(seed)), seed) for seed in seeds]
    return [(source, seed) for seed in seeds]


def distil(
    policy: str,
    make_controller: MakeController,
    cells: Cells,
    leaves: int,
    jobs: int = 1,
    progress: Progress | None = None,
) -> list[Trial]:
    """Return a tree of each round: the first fits what the policy meets, later ones also what the trees before met.

    The policy says what is right everywhere (DAgger: Ross, Gordon and Bagnell 2011, arXiv 1011.0686).

    Raises:
        ConfigError: scikit-learn or numba is not installed, or nobody was served in any deployment.
    """
    check_installed()
    (own,) = run_each([Work(cells, policy, make_controller, keep=KEPT_ROWS)], jobs, progress)
    rows, windows, _ = pooled(own)
    if not len(rows):
        raise ConfigError("nothing was decided in the deployments that a tree is to be fitted in")
    trials = []
    for _ in range(ROUNDS):
        tree = fit(rows, windows, leaves)
        (seen,) = run_each([Work(cells, policy, make_controller, ByTree(tree), KEPT_ROWS)], jobs, progress)
        trials.append(Trial(tree, len(rows), _agreement(seen), _latency(seen, own)))
        met, meant, _ = pooled(seen)
        rows, windows = np.concatenate([rows, met]), np.concatenate([windows, meant])
    return trials


def check_installed() -> None:
    """Raise ConfigError where a tree cannot be fitted."""
    for module, name in {"sklearn": "scikit-learn", "numba": "numba"}.items():
        if find_spec(module) is None:
            raise ConfigError(f"a tree needs {name}, which is not installed (it comes with the extra `train`)")


def _agreement(seen: Sequence[Seen]) -> float:
    return 1.0 - sum(run.differing for run in seen) / max(1, sum(run.decisions for run in seen))


def _latency(seen: Sequence[Seen], own: Sequence[Seen]) -> float:
    logs = [np.log(a.latency_ms / b.latency_ms) for a, b in zip(seen, own, strict=True)]
    return float(np.exp(np.nanmean(logs)))


def fit(rows: Rows, windows: Windows, leaves: int) -> WindowTree:
    """Return a tree of at most `leaves` (2 or more) leaves for `windows`, given observations in their own units.

    A tree is fitted by least squares to the indicators window >= 1, 2, ...: that is half of the mean difference
    between two windows of a leaf, with `CLOUD_WEIGHT` for the first. A leaf answers with the median of its windows,
    which is nearest to them in that sense. Thresholds are rounded to three digits.
    """
    from sklearn.tree import DecisionTreeRegressor

    indicators = (windows[:, None] >= np.arange(1, max(2, windows.max() + 1))).astype(np.float64)
    indicators[:, 0] *= CLOUD_WEIGHT**0.5
    least = max(1, int(LEAST_SHARE * len(rows)))
    model = DecisionTreeRegressor(max_leaf_nodes=leaves, min_samples_leaf=least, random_state=0)
    clipped = np.clip(asked_many(rows), 0.0, _HIGH).astype(np.float32)
    held = model.fit(clipped, indicators).apply(clipped)
    answers = {int(leaf): central_window(windows[held == leaf]) for leaf in np.unique(held)}
    return as_window_tree(model.tree_, answers)


def central_window(windows: Windows) -> int:
    """Return the window of those given that differs least from all: a median, the shorter of two."""
    return int(np.sort(windows)[(len(windows) - 1) // 2])


def as_window_tree(fitted: Any, answers: dict[int, int]) -> WindowTree:
    """Return scikit-learn's tree with `answers` at its leaves, without questions that make no difference."""
    nodes: list[tuple[int, float, int, int, int]] = []

    def below(node: int) -> set[int]:
        if node in answers:
            return {answers[node]}
        return below(fitted.children_left[node]) | below(fitted.children_right[node])

    def grow(node: int) -> int:
        place = len(nodes)
        if len(windows := below(node)) == 1:
            nodes.append((LEAF, 0.0, LEAF, LEAF, windows.pop()))
            return place
        nodes.append((LEAF, 0.0, LEAF, LEAF, 0))
        feature = int(fitted.feature[node])
        threshold = _rounded(float(fitted.threshold[node]), feature)
        left, right = grow(fitted.children_left[node]), grow(fitted.children_right[node])
        nodes[place] = (feature, threshold, left, right, 0)
        return place

    grow(0)
    return WindowTree(*(tuple(column) for column in zip(*nodes, strict=True)))


_HIGH = tuple(feature.high for feature in ASKED.values())


def _rounded(threshold: float, feature: int) -> float:
    """Return three digits of a threshold, where that is still below what the feature can be at most."""
    rounded = float(f"{threshold:.3g}")
    return rounded if rounded < _HIGH[feature] else threshold


def leaf_shares(tree: WindowTree, rows: Rows) -> list[float]:
    """Return the share of `rows` that ends in each node, 0 for those that are no leaves."""
    counts = np.bincount(tree.leaves_of(rows), minlength=len(tree.feature))
    return (counts / max(1, len(rows))).tolist()  # type: ignore[no-any-return]
