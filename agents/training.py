"""A training run: the learner, its log, its checkpoints, and the held-out score along the way."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import configure

from agents.checkpoint import WEIGHTS, read_state, write_state
from agents.export import warm_start
from agents.gathered import GatheringPPO
from agents.imitation import imitate
from agents.learner import build, make_env
from agents.ppo import StreamPPO
from agents.train_config import TrainConfig
from agents.workers import Workers
from dsd_gym.config import ConfigError
from dsd_gym.errors import UserError

RESUMED = 10**9
"""Seeds from here on are for resumed runs."""


def make_learner(train_config: TrainConfig, folder: Path, resume: bool, kind: type[StreamPPO] = StreamPPO) -> StreamPPO:
    """Return a learner in its deployments: fresh, warm-started, or as the folder's checkpoint left it."""
    model = build(kind, train_config, make_env(train_config, train_config.ppo.n_envs), train_config.seed)
    assert model.env is not None
    if resume:
        _resume(model, train_config, folder)
    model.env.seed(first_seed(model, train_config))
    if train_config.warm_start and not resume:
        warm_start(model, train_config)
    elif train_config.imitation and not resume:
        agreed = imitate(model, train_config.imitation, train_config.seed)
        print(f"{train_config.name}: begins as awc's predictor ({100.0 * agreed:.0f} % alike)", file=sys.stderr)
    model.set_logger(configure(str(folder / "logs" / f"from-{model.num_timesteps}"), ["tensorboard", "csv"]))
    return model


def _resume(model: StreamPPO, train_config: TrainConfig, folder: Path) -> None:
    state = read_state(folder, train_config)
    try:
        model.set_parameters(str(folder / WEIGHTS), device="cpu")
    except (ValueError, KeyError, RuntimeError, EOFError) as error:
        told = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError(f"{folder / WEIGHTS}: cannot be resumed from ({told}); delete it to begin anew") from None
    model.num_timesteps = state["decisions"]
    model.restore_ranges(state["lows"], state["highs"])


def first_seed(model: StreamPPO, train_config: TrainConfig) -> int:
    """Return the seed of the first deployment: no other run has had it or the next ones."""
    again = RESUMED + model.num_timesteps if model.num_timesteps else 0
    return again + train_config.seed * train_config.ppo.n_envs


Score = Callable[[StreamPPO], dict[str, float]]
Watch = Callable[[int, dict[str, float]], None]
OpenWorkers = Callable[[TrainConfig, int], Workers]


def learn(
    train_config: TrainConfig,
    folder: Path,
    resume: bool = False,
    score: Score | None = None,
    watch: Watch | None = None,
    open_workers: OpenWorkers | None = None,
) -> StreamPPO:
    """Run a learner to its last decision; interrupted, it leaves what `resume` goes on from.

    Args:
        open_workers: starts the workers that collect in its place, given the config and their first seed.
    """
    model = make_learner(train_config, folder, resume, GatheringPPO if open_workers else StreamPPO)
    with ExitStack() as stack:
        if open_workers:
            assert isinstance(model, GatheringPPO)
            model.workers = open_workers(train_config, first_seed(model, train_config))
            stack.callback(model.workers.close)
        _learn_on(model, train_config, folder, Progress(train_config, folder, score, watch))
    save_checkpoint(model, train_config, folder)
    return model


def _learn_on(model: StreamPPO, train_config: TrainConfig, folder: Path, progress: Progress) -> None:
    try:
        model.learn(train_config.decisions - model.num_timesteps, progress, reset_num_timesteps=False)
    except (KeyboardInterrupt, UserError):  # of workers that are lost, or a comparison on the way that cannot be made
        save_checkpoint(model, train_config, folder)
        print(f"\nstopped at {model.num_timesteps} decisions; go on with --resume", file=sys.stderr)
        raise


class Progress(BaseCallback):
    """Checkpoints and held-out scores once an update is made, and whoever watches."""

    def __init__(
        self,
        train_config: TrainConfig,
        folder: Path,
        score: Score | None = None,
        watch: Watch | None = None,
    ) -> None:
        super().__init__()
        self._config, self._folder, self._score, self._watch = train_config, folder, score, watch
        self._saved = self._scored = 0
        self._last = (0.0, 0)

    def _on_training_start(self) -> None:
        self._saved = self._scored = self.num_timesteps
        self._last = (time.perf_counter(), self.num_timesteps)

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        assert isinstance(self.model, StreamPPO)
        if self._score and self.num_timesteps - self._scored >= self._config.comparison.score_every:
            self._scored = self.num_timesteps
            for name, value in self._score(self.model).items():
                self.logger.record(f"held_out/{name}", value)
        if self.num_timesteps - self._saved >= self._config.checkpoint_every:
            self._saved = self.num_timesteps
            save_checkpoint(self.model, self._config, self._folder)

    def _on_rollout_end(self) -> None:
        assert isinstance(self.model, StreamPPO)
        now = time.perf_counter()
        speed = (self.num_timesteps - self._last[1]) / max(now - self._last[0], 1e-9)
        self._last = (now, self.num_timesteps)
        self.logger.record("time/decisions_per_s", speed)
        done = min(1.0, self.num_timesteps / self._config.decisions)
        self.model.ent_coef = self._config.ppo.entropy * (1.0 - 0.9 * done)
        if self._watch:
            self._watch(self.num_timesteps, dict(self.logger.name_to_value))


def save_checkpoint(model: StreamPPO, train_config: TrainConfig, folder: Path) -> None:
    """Write the learner's weights, optimiser and counters, each under a temporary name first."""
    temporary = folder / f"tmp-{WEIGHTS}"
    model.save(temporary)
    temporary.replace(folder / WEIGHTS)
    lows, highs = model.lows.tolist(), model.highs.tolist()
    write_state(folder, train_config, decisions=model.num_timesteps, lows=lows, highs=highs)
