"""Rollouts small enough to take seconds, and the processes that make them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from agents.rollouts import Rollout, RolloutWorker, Weights, weights_of
from agents.shares import shares
from agents.stream_links import TERMINAL
from agents.train_config import TrainConfig, load_train_config
from agents.training import make_learner

N_ENVS, STEPS = 5, 64
SMALL = {
    "name": "small",
    "scenario": "train/single",
    "decisions": 3 * N_ENVS * STEPS,
    "ppo.n_envs": N_ENVS,
    "ppo.rollout_steps": STEPS,
    "ppo.minibatch": 64,
    "ppo.epochs": 1,
    "ppo.hidden": [8],
    "imitation": 0,
}


def small(**changes: Any) -> TrainConfig:
    config = load_train_config(None, SMALL | changes)
    assert isinstance(config, TrainConfig)
    return config


def fresh_weights(config: TrainConfig, folder: Path) -> Weights:
    """Return those that a run of this config begins with."""
    return weights_of(make_learner(config, folder, resume=False))


def collected_here(config: TrainConfig, workers: int, weights: Weights, times: int) -> list[list[Rollout]]:
    """Return what workers in this process collect, one after the other: rollouts by time and worker."""
    found = []
    for share in shares(config.ppo.n_envs, workers):
        worker = RolloutWorker(config, share.size, config.seed + share.first)
        found.append([worker.collect(weights) for _ in range(times)])
    return [list(at_a_time) for at_a_time in zip(*found, strict=True)]


def assert_same(ours: Rollout, theirs: Rollout) -> None:
    """Compare to the last bit all but how long episodes took."""
    assert ours.steps == theirs.steps
    for name, column in vars(ours.slots).items():
        np.testing.assert_array_equal(column, getattr(theirs.slots, name), err_msg=name)
    np.testing.assert_array_equal(ours.advantages, theirs.advantages)
    np.testing.assert_array_equal(ours.returns, theirs.returns)
    assert [(e["r"], e["l"]) for e in ours.episodes] == [(e["r"], e["l"]) for e in theirs.episodes]


def assert_completed(rollout: Rollout) -> None:
    """Each decision is followed by one of its stream, or by the stream's end, and has committed tokens."""
    assert len(rollout.slots.value) == len(rollout.advantages) == len(rollout.returns) > 0
    assert (rollout.slots.next >= TERMINAL).all() and (rollout.slots.tokens > 0).all()


def group_members(group: int) -> list[int]:
    """Return the live processes of a process group."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, pgrp = stat.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if int(pgrp) == group and state != "Z":
            found.append(int(stat.parent.name))
    return found
