"""Rollout workers over a Ray cluster (the extra `ray`); `dsd_gym.comparison.ray_workers` says what its nodes need."""

from __future__ import annotations

from typing import Any

from agents.rollouts import Rollout, RolloutWorker, Weights
from agents.train_config import TrainConfig
from agents.workers import Place, Workers
from dsd_gym.comparison.ray_workers import connect, line, result
from dsd_gym.config import ConfigError

ROOM_S = 120.0
"""How long the cluster has to start all workers."""


class Actor:
    """A `RolloutWorker` built when it is first asked: waiting for room is not waiting for what a node compiles."""

    def __init__(self, *arguments: Any) -> None:
        self._arguments = arguments
        self._worker: RolloutWorker | None = None

    def begun(self) -> bool:
        """Tell that there is room."""
        return True

    def collect(self, weights: Weights) -> Rollout:
        """Play as `RolloutWorker.collect` does."""
        self._worker = self._worker or RolloutWorker(*self._arguments)
        return self._worker.collect(weights)


class RayWorkers(Workers):
    """Workers that are actors of a Ray cluster.

    Each reserves a processor. One that is started anew does not: where a node was lost, those that are left share.

    Args:
        address: of the cluster, as `ray.init` takes it.
        count: workers; by default one for each processor of the cluster but the learner's, at least one.

    Raises:
        ConfigError: Ray is not installed, the cluster cannot be reached or has no room for so many.
    """

    def __init__(self, train_config: TrainConfig, seed: int, address: str, count: int | None = None) -> None:
        self._ray = connect(address)
        try:
            super().__init__(train_config, seed, count or self._spare(train_config.ppo.n_envs))
            self.actors = [self._start(place) for place in self._places]
            self._wait_for_room()
        except BaseException:
            self.close()
            raise

    def _spare(self, most: int) -> int:
        processors = int(self._ray.cluster_resources().get("CPU", 1))
        return min(max(1, processors - 1), most)

    def _start(self, place: Place) -> Any:
        options = {"num_cpus": 0 if place.lost else 1, "scheduling_strategy": "SPREAD"}
        return self._ray.remote(**options)(Actor).remote(*self._arguments(place))

    def _wait_for_room(self) -> None:
        answers = [actor.begun.remote() for actor in self.actors]
        _, waiting = self._ray.wait(answers, num_returns=len(answers), timeout=ROOM_S)
        if waiting:
            told = f"{len(waiting)} of {len(answers)} workers have not begun after {ROOM_S:.0f} s"
            raise ConfigError(f"no room on the Ray cluster: {told}; give fewer (--workers)")

    def _collect(self, weights: Weights) -> list[Rollout]:
        sent = self._ray.put(weights)
        answers = [actor.collect.remote(sent) for actor in self.actors]
        found = [self._receive(place, answer) for place, answer in zip(self._places, answers, strict=True)]
        return [rollout for rollout in found if rollout is not None]

    def _receive(self, place: Place, answer: Any) -> Rollout | None:
        try:
            rollout: Rollout = result(self._ray, answer)
        except self._ray.exceptions.RayError as error:
            told = line(error)
            self._lose(place, line(error, -1) if "creation task" in told else told)
            self.actors[place.number - 1] = self._start(place)
            return None
        return rollout

    def close(self) -> None:
        """End all workers at once: they belong to the connection."""
        self._ray.shutdown()
