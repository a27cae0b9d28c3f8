"""Collecting in several processes: what is learned from is what one process would have collected."""

from __future__ import annotations

import os
import signal
import struct
from collections.abc import Iterator
from functools import partial
from multiprocessing import Pipe
from pathlib import Path

import numpy as np
import pytest
from rollout_rig import N_ENVS, STEPS, assert_completed, assert_same, collected_here, fresh_weights, small
from stable_baselines3.common.callbacks import BaseCallback

from agents.checkpoint import decisions_done, unfinished
from agents.gathered import GatheringPPO
from agents.ppo import TAIL
from agents.rollouts import Rollout, RolloutWorker, Weights
from agents.shares import Share, shares
from agents.training import learn, make_learner
from agents.workers import LOST, ProcessWorkers, Worker, WorkersLost
from dsd_gym.config import ConfigError
from policies.kinds import KINDS, PRICED


@pytest.fixture
def two() -> Iterator[ProcessWorkers]:
    """Two workers of `small()`, which are ended."""
    workers = ProcessWorkers(small(), 0, 2)
    yield workers
    workers.close()
    assert not any(worker.process.is_alive() for worker in workers.workers)


def test_deployments_are_shared_out_evenly_and_none_twice() -> None:
    assert shares(5, 2) == [Share(0, 2), Share(2, 3)]
    for workers in range(1, 8):
        found = shares(7, workers)
        assert [place for share in found for place in range(share.first, share.first + share.size)] == list(range(7))
        assert max(share.size for share in found) - min(share.size for share in found) <= 1


@pytest.mark.parametrize("workers", [0, 6])
def test_more_workers_than_deployments_are_refused(workers: int) -> None:
    with pytest.raises(ConfigError, match=r"from 1 to ppo.n_envs, which is 5: "):
        shares(5, workers)


def test_processes_collect_what_one_would_with_the_same_seeds_and_weights(tmp_path: Path, two: ProcessWorkers) -> None:
    """Two rollouts each, so that decisions are carried over: advantages and all, to the last bit."""
    weights = fresh_weights(small(), tmp_path)
    for theirs in collected_here(small(), 2, weights, times=2):
        ours = two.collect(weights)
        assert [rollout.steps for rollout in ours] == [2 * STEPS, 3 * STEPS]
        for mine, its in zip(ours, theirs, strict=True):
            assert_completed(mine)
            assert_same(mine, its)


def test_one_worker_collects_what_the_learner_itself_would(tmp_path: Path) -> None:
    """The first update learns from the same decisions, whoever has made them."""
    alone = make_learner(small(), tmp_path / "alone", resume=False)
    alone.learn(N_ENVS * STEPS)
    (rollout,) = collected_here(small(), 1, fresh_weights(small(), tmp_path / "fresh"), times=1)[0]
    np.testing.assert_array_equal(alone.rollout_buffer.learned().observation, rollout.slots.observation)
    np.testing.assert_array_equal(alone.rollout_buffer.advantages, rollout.advantages)


def test_seeds_of_deployments_may_be_larger_than_torch_and_numpy_take(tmp_path: Path) -> None:
    """As those of large seeds of a config are, and of runs that were resumed."""
    weights = fresh_weights(small(), tmp_path)
    first, other = (RolloutWorker(small(), 2, seed).collect(weights) for seed in (5, 2**32 + 5))
    assert not np.array_equal(first.slots.observation, other.slots.observation), "other deployments"


def test_the_learner_learns_from_the_decisions_of_all(tmp_path: Path, two: ProcessWorkers) -> None:
    model = make_learner(small(), tmp_path, False, GatheringPPO)
    assert isinstance(model, GatheringPPO)
    model.workers = two
    model.learn(N_ENVS * STEPS, reset_num_timesteps=False)
    expected = collected_here(small(), 2, fresh_weights(small(), tmp_path / "fresh"), times=1)[0]
    buffer = model.rollout_buffer
    assert model.num_timesteps == N_ENVS * STEPS
    assert len(buffer.advantages) == sum(len(rollout.advantages) for rollout in expected)
    np.testing.assert_array_equal(buffer.advantages, np.concatenate([rollout.advantages for rollout in expected]))
    seen = np.concatenate([rollout.slots.observation for rollout in expected])
    np.testing.assert_array_equal(buffer.learned().observation, seen)
    assert sum(len(batch.actions) for batch in buffer.get(64)) >= len(seen) - 1
    features = list(KINDS[PRICED].features.values())
    assert len(model.lows) == len(features)
    tails = [TAIL if one.knee is None and one.unit != "flag" else 0.0 for one in features]
    for inputs, tail, low, high in zip(seen.T, tails, model.lows, model.highs, strict=False):  # the critic sees more
        assert (low, high) == pytest.approx(np.quantile(inputs, [tail, 1.0 - tail]), abs=1e-6)


class Killer(BaseCallback):
    """Kills a worker in one of the rollouts, and notes how many decisions there were after each."""

    def __init__(self, worker: Worker, rollout: int) -> None:
        super().__init__()
        self._worker, self._rollout, self.steps = worker, rollout, list[int]()

    def _on_step(self) -> bool:
        self.steps.append(self.num_timesteps)
        return True

    def _on_rollout_start(self) -> None:
        if len(self.steps) == self._rollout - 1:
            assert self._worker.process.pid
            os.kill(self._worker.process.pid, signal.SIGKILL)


def test_a_worker_that_ends_while_it_sends_is_gone_too() -> None:
    ours, theirs = Pipe()
    os.write(theirs.fileno(), struct.pack("!i", 1000) + b"the first bytes of a thousand")
    theirs.close()
    with pytest.raises(LOST):
        ours.recv()


def test_a_killed_worker_loses_its_rollout_alone(
    tmp_path: Path, two: ProcessWorkers, capsys: pytest.CaptureFixture[str]
) -> None:
    killed = two.workers[0].process.pid
    model = make_learner(small(), tmp_path, False, GatheringPPO)
    assert isinstance(model, GatheringPPO)
    model.workers, killer = two, Killer(two.workers[0], rollout=2)
    model.learn(3 * N_ENVS * STEPS, killer, reset_num_timesteps=False)
    assert np.diff([0, *killer.steps]).tolist() == [5 * STEPS, 3 * STEPS, 5 * STEPS, 5 * STEPS]
    assert two.workers[0].process.pid != killed and two._arguments(two._places[0])[2] == N_ENVS
    assert "rollout worker 1 of 2 is lost (exit code -9), and its rollout" in capsys.readouterr().err


class DoomedWorkers(ProcessWorkers):
    """Workers that are killed before every rollout but the first."""

    rollouts = 0

    def _collect(self, weights: Weights) -> list[Rollout]:
        self.rollouts += 1
        for worker in self.workers if self.rollouts > 1 else []:
            worker.process.kill()
            worker.process.join()
        return super()._collect(weights)


def test_workers_that_are_killed_again_and_again_end_in_one_line_and_leave_a_checkpoint(tmp_path: Path) -> None:
    config = small(**{"ppo.n_envs": 2, "ppo.minibatch": 16, "ppo.rollout_steps": 16})
    with pytest.raises(WorkersLost, match=r"lost again and again \(exit code -9\); fewer of them take less memory"):
        learn(config, tmp_path, open_workers=partial(DoomedWorkers, count=1))
    assert decisions_done(tmp_path) == 32 and unfinished(tmp_path)
    resumed = make_learner(config, tmp_path, True, GatheringPPO)
    assert resumed.num_timesteps == 32


def test_an_error_in_a_worker_is_raised_as_it_is(tmp_path: Path) -> None:
    nobody = small(**{"scenario.workload.load": None, "scenario.workload.rate_per_s": 1e-9})
    with pytest.raises(ConfigError, match="nobody ever asks"):
        learn(nobody, tmp_path, open_workers=partial(ProcessWorkers, count=1))
