"""Collecting over a Ray cluster: what processes would collect, whoever is lost on the way."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
from rollout_rig import STEPS, assert_completed, assert_same, collected_here, fresh_weights, small

from agents import ray_rollouts
from agents.ray_rollouts import RayWorkers
from agents.train_config import TrainConfig
from agents.training import learn
from dsd_gym.config import ConfigError

pytestmark = pytest.mark.slow


def interpreted() -> TrainConfig:
    """Return a small config that the nodes, to whom each clone is new, need not compile: a minute saved."""
    return small(**{"scenario.targets.0.padded": True})


def test_a_cluster_collects_what_one_process_would_and_begins_anew_what_is_lost(
    tmp_path: Path, cluster: str, capsys: pytest.CaptureFixture[str]
) -> None:
    config = interpreted()
    weights = fresh_weights(config, tmp_path)
    workers = RayWorkers(config, config.seed, cluster, 2)
    try:
        first = workers.collect(weights)
        workers._ray.kill(workers.actors[0])
        second, third = workers.collect(weights), workers.collect(weights)
    finally:
        workers.close()
    assert [r.steps // STEPS for r in (*first, *second, *third)] == [2, 3, 3, 2, 3]
    assert "rollout worker 1 of 2 is lost (The actor died" in capsys.readouterr().err
    expected = collected_here(config, 2, weights, times=3)
    for ours, theirs in ((first[0], expected[0][0]), (first[1], expected[0][1])):
        assert_completed(ours)
        assert_same(ours, theirs)
    assert_same(second[0], expected[1][1])
    assert_same(third[1], expected[2][1])


def test_training_on_a_cluster_takes_its_processors_but_the_learners(tmp_path: Path, cluster: str) -> None:
    opened = []

    def open_workers(config: TrainConfig, seed: int) -> RayWorkers:
        opened.append(RayWorkers(config, seed, cluster))
        return opened[0]

    config = interpreted()
    assert learn(config, tmp_path, open_workers=open_workers).num_timesteps == config.decisions
    assert len(opened[0].actors) == 1


def test_a_cluster_without_room_is_one_line(tmp_path: Path, cluster: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_rollouts, "ROOM_S", 20.0)
    with pytest.raises(ConfigError, match=r"no room on the Ray cluster: \d of 4 workers have not begun after 20 s"):
        learn(interpreted(), tmp_path, open_workers=partial(RayWorkers, address=cluster, count=4))
