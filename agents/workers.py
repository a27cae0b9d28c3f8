"""Rollout workers elsewhere, and those that are processes of this machine."""

from __future__ import annotations

import sys
import traceback
from abc import ABC, abstractmethod
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, NamedTuple

from agents.rollouts import Rollout, RolloutWorker, Weights
from agents.shares import Share, shares
from agents.train_config import TrainConfig
from dsd_gym.comparison.parallel import end_with_parent, interrupts_ignored
from dsd_gym.config import ConfigError

RETRIES = 2
"""How often in a row all workers may be lost before anything has been collected."""
GONE = (EOFError, BrokenPipeError, ConnectionResetError)
"""What a pipe says when the process at its other end has ended."""
LOST = (EOFError, OSError)
"""The same, or that it has ended in the middle of what it sent."""


class WorkersLost(ConfigError):
    """No worker lives long enough for a rollout."""


@dataclass
class Place:
    """A worker's place: its share of the deployments, and how many workers were lost there."""

    number: int
    share: Share
    lost: int = 0


class Workers(ABC):
    """Rollout workers elsewhere. One that is lost loses its rollout alone, and is started anew for the next.

    Args:
        seed: of the first deployment. Deployment i, counted over all workers, has seed + i, as in one process; those
            of a worker that was started anew have seeds that no deployment has had.
        count: workers, among which the config's `ppo.n_envs` deployments are divided.
    """

    def __init__(self, train_config: TrainConfig, seed: int, count: int) -> None:
        self._config, self._seed, self._why = train_config, seed, ""
        self._places = [Place(i, share) for i, share in enumerate(shares(train_config.ppo.n_envs, count), 1)]

    def collect(self, weights: Weights) -> list[Rollout]:
        """Return the rollouts of all workers but those lost on the way; WorkersLost if it is all of them each time."""
        for _ in range(RETRIES + 1):
            if rollouts := self._collect(weights):
                return rollouts
        raise WorkersLost(f"rollout workers are lost again and again ({self._why}); fewer of them take less memory")

    @abstractmethod
    def _collect(self, weights: Weights) -> list[Rollout]:
        """Let every worker collect once; start anew those that are lost."""

    @abstractmethod
    def close(self) -> None:
        """End all workers at once, whatever they are doing."""

    def _arguments(self, place: Place) -> tuple[TrainConfig, int, int]:
        """Return those of the place's next `RolloutWorker`."""
        seed = self._seed + place.share.first + place.lost * self._config.ppo.n_envs
        return self._config, place.share.size, seed

    def _lose(self, place: Place, why: str) -> None:
        """Tell of a loss."""
        place.lost, self._why = place.lost + 1, why
        of = f"{place.number} of {len(self._places)}"
        print(f"rollout worker {of} is lost ({why}), and its rollout; another begins anew", file=sys.stderr)


class Worker(NamedTuple):
    """A process, and this end of the pipe to it."""

    process: BaseProcess
    pipe: Connection[Any, Any]


class ProcessWorkers(Workers):
    """Workers that are processes of this machine, spawned: a script needs its `if __name__ == "__main__"`."""

    def __init__(self, train_config: TrainConfig, seed: int, count: int) -> None:
        super().__init__(train_config, seed, count)
        self.workers = [self._start(place) for place in self._places]

    def _start(self, place: Place) -> Worker:
        context = get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_work, args=(theirs, *self._arguments(place)), daemon=True)
        with interrupts_ignored():
            process.start()
        theirs.close()
        return Worker(process, ours)

    def _collect(self, weights: Weights) -> list[Rollout]:
        for worker in self.workers:
            with suppress(*GONE):  # its end is noticed below
                worker.pipe.send(weights)
        return [rollout for place in self._places if (rollout := self._receive(place)) is not None]

    def _receive(self, place: Place) -> Rollout | None:
        worker = self.workers[place.number - 1]
        try:
            answer = worker.pipe.recv()
        except LOST:
            _end(worker)
            self._lose(place, f"exit code {worker.process.exitcode}")
            self.workers[place.number - 1] = self._start(place)
            return None
        if isinstance(answer, Exception):
            raise answer
        assert isinstance(answer, Rollout)
        return answer

    def close(self) -> None:
        """End all workers at once, whatever they are doing."""
        for worker in self.workers:
            _end(worker)


def _end(worker: Worker) -> None:
    worker.process.kill()
    worker.process.join()
    worker.pipe.close()


def _work(pipe: Connection[Any, Any], train_config: TrainConfig, count: int, seed: int) -> None:
    """Collect for each set of weights that arrives, until the parent goes; send it the error if there is one."""
    end_with_parent()
    with suppress(*GONE):
        try:
            worker = RolloutWorker(train_config, count, seed)
            while True:
                pipe.send(worker.collect(pipe.recv()))
        except GONE:
            raise
        except Exception as error:
            error.add_note(f"in a rollout worker:\n{traceback.format_exc()}")
            pipe.send(error)
