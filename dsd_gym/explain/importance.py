"""What a policy heeds: how it fares where some features are those of another moment, in whole runs on the same luck."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from dsd_gym.comparison.cells import MakeController
from dsd_gym.comparison.compare import Progress
from dsd_gym.comparison.statistics import Ratio, log_ratios, mean_ratio
from dsd_gym.explain.acts import ByPolicyMisled, Rows
from dsd_gym.explain.groups import flags_kept, groups, singles
from dsd_gym.explain.runs import Seen, Work, pooled, run_each
from dsd_gym.scenario import Scenario

POOL_ROWS = 12_000
"""Decisions that features are drawn from, as many of each scenario."""


class Importance(NamedTuple):
    """What replacing some features does."""

    name: str
    features: tuple[str, ...]
    is_group: bool
    changed: float
    """Share of decisions that come out otherwise; the mean of the scenarios' shares."""
    latency: Ratio
    """Normalised latency over the policy's own, paired by seed; geometric mean over scenarios."""


def importances(
    policy: str,
    make_controller: MakeController,
    scenarios: Sequence[Scenario],
    seeds: Sequence[int],
    jobs: int = 1,
    progress: Progress | None = None,
) -> list[Importance]:
    """Return the importance of every group and of every feature alone, the costliest first, groups before features.

    Each decision draws its features from another decision of any scenario: so far as a policy heeds them, it acts as
    if it were elsewhere.
    """
    keep = max(1, POOL_ROWS // (len(scenarios) * len(seeds)))
    cells = [(scenario, seed) for scenario in scenarios for seed in seeds]
    (own,) = run_each([Work(cells, policy, make_controller, keep=keep)], jobs, progress)
    pool, _, _ = pooled(own)
    asked = [(name, members, True) for name, members in groups().items()]
    asked += [(name, members, False) for name, members in singles().items()]
    works = [Work(cells, policy, make_controller, _misled(members, pool)) for _, members, _ in asked]
    seen = run_each(works, jobs, progress)
    found = [
        Importance(*question, *_effect(runs, own, len(seeds))) for question, runs in zip(asked, seen, strict=True)
    ]
    return sorted(found, key=lambda found: (not found.is_group, -found.latency.estimate))


def _misled(names: tuple[str, ...], pool: Rows) -> ByPolicyMisled:
    return ByPolicyMisled(names, pool, flags_kept(names))


def _effect(seen: Sequence[Seen], own: Sequence[Seen], seeds: int) -> tuple[float, Ratio]:
    """Return the share of decisions changed, and the ratio of latencies; runs by scenario, then seed."""
    changed = np.mean([run.differing / max(run.decisions, 1) for run in seen])
    logs = log_ratios([run.latency_ms for run in seen], [run.latency_ms for run in own])
    return float(changed), mean_ratio(np.reshape(logs, (-1, seeds)).mean(axis=0).tolist())
