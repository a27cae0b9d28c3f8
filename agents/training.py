"""A training run: the learner, its log, its checkpoints, and the held-out score along the way."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import configure
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import DummyVecEnv

from agents.checkpoint import WEIGHTS, read_state, write_state
from agents.credit import StreamCredit
from agents.export import warm_start
from agents.network import WindowPolicy
from agents.ppo import StreamPPO
from agents.train_config import TrainConfig
from dsd_gym.env import EdgeCloudEnv
from dsd_gym.family import load_scenario_or_family


def make_learner(train_config: TrainConfig, folder: Path, resume: bool) -> StreamPPO:
    """Return a learner in its deployments: fresh, warm-started, or as the folder's checkpoint left it."""
    torch.set_num_threads(1)
    torch.distributions.Distribution.set_default_validate_args(False)
    source = load_scenario_or_family(train_config.scenario, train_config.overrides)
    thresholds = train_config.stop_thresholds or None
    env = DummyVecEnv([lambda: Monitor(EdgeCloudEnv(source, stop_thresholds=thresholds))] * train_config.ppo.n_envs)
    env.seed(train_config.seed)
    model = _learner(train_config, env)
    if resume:
        _resume(model, train_config, folder)
    elif train_config.warm_start:
        warm_start(model, train_config.warm_start, train_config.ppo.activation)
    model.set_logger(configure(str(folder / "logs" / f"from-{model.num_timesteps}"), ["tensorboard", "csv"]))
    return model


def _learner(train_config: TrainConfig, env: DummyVecEnv) -> StreamPPO:
    ppo, credit = train_config.ppo, train_config.credit
    activation = {"tanh": torch.nn.Tanh, "relu": torch.nn.ReLU}[ppo.activation]
    return StreamPPO(
        WindowPolicy,
        env,
        learning_rate=LinearSchedule(ppo.learning_rate, 0.1 * ppo.learning_rate, 1.0),
        n_steps=ppo.rollout_steps,
        batch_size=ppo.minibatch,
        n_epochs=ppo.epochs,
        clip_range=ppo.clip_range,
        ent_coef=ppo.entropy,
        vf_coef=ppo.value_weight,
        gamma=credit.discount,
        gae_lambda=credit.trace_decay,
        rollout_buffer_class=StreamCredit,
        rollout_buffer_kwargs={"externality_weight": credit.externality_weight},
        policy_kwargs={"net_arch": {"pi": list(ppo.hidden), "vf": list(ppo.hidden)}, "activation_fn": activation},
        seed=train_config.seed,
        device="cpu",
    )


def _resume(model: StreamPPO, train_config: TrainConfig, folder: Path) -> None:
    state = read_state(folder, train_config)
    model.set_parameters(str(folder / WEIGHTS), device="cpu")
    model.num_timesteps = state["decisions"]
    assert model.env is not None
    model.env.seed(train_config.seed + model.num_timesteps)  # other deployments than those it has seen
    model.restore_ranges(state["lows"], state["highs"])


class Progress(BaseCallback):
    """Checkpoints, held-out scores, and whoever watches; all between rollouts."""

    def __init__(
        self,
        train_config: TrainConfig,
        folder: Path,
        score: Callable[[StreamPPO], dict[str, float]],
        watch: Callable[[int, dict[str, float]], None],
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

    def _on_rollout_end(self) -> None:
        assert isinstance(self.model, StreamPPO)
        now = time.perf_counter()
        speed = (self.num_timesteps - self._last[1]) / max(now - self._last[0], 1e-9)
        self._last = (now, self.num_timesteps)
        self.logger.record("time/decisions_per_s", speed)
        done = min(1.0, self.num_timesteps / self._config.decisions)
        self.model.ent_coef = self._config.ppo.entropy * (1.0 - 0.9 * done)
        if self.num_timesteps - self._scored >= self._config.comparison.score_every:
            self._scored = self.num_timesteps
            for name, value in self._score(self.model).items():
                self.logger.record(f"held_out/{name}", value)
        if self.num_timesteps - self._saved >= self._config.checkpoint_every:
            self._saved = self.num_timesteps
            save_checkpoint(self.model, self._config, self._folder)
        self._watch(self.num_timesteps, dict(self.logger.name_to_value))


def save_checkpoint(model: StreamPPO, train_config: TrainConfig, folder: Path) -> None:
    """Write the learner's weights, optimiser and counters, each under a temporary name first."""
    temporary = folder / f"tmp-{WEIGHTS}"
    model.save(temporary)
    temporary.replace(folder / WEIGHTS)
    lows, highs = model.lows.tolist(), model.highs.tolist()
    write_state(folder, train_config, decisions=model.num_timesteps, lows=lows, highs=highs)
