"""A training run: the learner, its log, its checkpoints, and the held-out score along the way."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import configure
from stable_baselines3.common.utils import LinearSchedule

from agents.checkpoint import WEIGHTS, read_state, write_state
from agents.credit import StreamCredit
from agents.export import warm_start
from agents.network import VisibleFeatures, WindowPolicy
from agents.ppo import StreamPPO
from agents.train_config import TrainConfig
from agents.vec_env import SimulatedVecEnv, StreamVecEnv, make_vec_env
from dsd_gym.config import ConfigError
from dsd_gym.family import load_scenario_or_family
from dsd_gym.observation import FEATURE_NAMES
from dsd_gym.vector.support import unsupported


def make_learner(train_config: TrainConfig, folder: Path, resume: bool) -> StreamPPO:
    """Return a learner in its deployments: fresh, warm-started, or as the folder's checkpoint left it."""
    torch.set_num_threads(1)
    torch.distributions.Distribution.set_default_validate_args(False)
    source = load_scenario_or_family(train_config.scenario, train_config.overrides)
    thresholds, foresight = train_config.stop_thresholds or None, train_config.critic == "informed"
    env = make_vec_env(source, train_config.ppo.n_envs, thresholds, foresight)
    if train_config.credit.cost == "team" and isinstance(env, SimulatedVecEnv):
        raise ConfigError(f"credit.cost: team needs a compiled scenario, and {unsupported(source)} is not compiled")
    env.seed(train_config.seed)
    model = _learner(train_config, env)
    if resume:
        _resume(model, train_config, folder)
    elif train_config.warm_start:
        warm_start(model, train_config.warm_start, train_config.ppo.activation)
    model.set_logger(configure(str(folder / "logs" / f"from-{model.num_timesteps}"), ["tensorboard", "csv"]))
    return model


def _learner(train_config: TrainConfig, env: StreamVecEnv) -> StreamPPO:
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
        rollout_buffer_kwargs={"credit": credit},
        policy_kwargs={
            "net_arch": {"pi": list(ppo.hidden), "vf": list(ppo.hidden)},
            "activation_fn": activation,
            "averaging": ppo.averaging,
            "features_extractor_class": VisibleFeatures,
            "features_extractor_kwargs": {"hidden": [FEATURE_NAMES.index(n) for n in train_config.hidden_features]},
            "optimizer_kwargs": {"eps": 1e-5, "fused": True},  # stable-baselines3's eps
        },
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


Score = Callable[[StreamPPO], dict[str, float]]
Watch = Callable[[int, dict[str, float]], None]


def learn(
    train_config: TrainConfig,
    folder: Path,
    resume: bool = False,
    score: Score | None = None,
    watch: Watch | None = None,
) -> StreamPPO:
    """Run a learner to its last decision; interrupted, it leaves what `resume` goes on from."""
    model = make_learner(train_config, folder, resume)
    try:
        left = train_config.decisions - model.num_timesteps
        model.learn(left, Progress(train_config, folder, score, watch), reset_num_timesteps=False)
    except KeyboardInterrupt:
        save_checkpoint(model, train_config, folder)
        print(f"\nstopped at {model.num_timesteps} decisions; go on with --resume", file=sys.stderr)
        raise
    save_checkpoint(model, train_config, folder)
    return model


class Progress(BaseCallback):
    """Checkpoints, held-out scores, and whoever watches; all between rollouts."""

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

    def _on_rollout_end(self) -> None:
        assert isinstance(self.model, StreamPPO)
        now = time.perf_counter()
        speed = (self.num_timesteps - self._last[1]) / max(now - self._last[0], 1e-9)
        self._last = (now, self.num_timesteps)
        self.logger.record("time/decisions_per_s", speed)
        done = min(1.0, self.num_timesteps / self._config.decisions)
        self.model.ent_coef = self._config.ppo.entropy * (1.0 - 0.9 * done)
        if self._score and self.num_timesteps - self._scored >= self._config.comparison.score_every:
            self._scored = self.num_timesteps
            for name, value in self._score(self.model).items():
                self.logger.record(f"held_out/{name}", value)
        if self.num_timesteps - self._saved >= self._config.checkpoint_every:
            self._saved = self.num_timesteps
            save_checkpoint(self.model, self._config, self._folder)
        if self._watch:
            self._watch(self.num_timesteps, dict(self.logger.name_to_value))


def save_checkpoint(model: StreamPPO, train_config: TrainConfig, folder: Path) -> None:
    """Write the learner's weights, optimiser and counters, each under a temporary name first."""
    temporary = folder / f"tmp-{WEIGHTS}"
    model.save(temporary)
    temporary.replace(folder / WEIGHTS)
    lows, highs = model.lows.tolist(), model.highs.tolist()
    write_state(folder, train_config, decisions=model.num_timesteps, lows=lows, highs=highs)
