"""The deployments and the learner that a training config describes."""

from __future__ import annotations

from typing import TypeVar

import torch
from stable_baselines3.common.utils import LinearSchedule

from agents.credit import StreamCredit
from agents.network import VisibleFeatures, WindowPolicy
from agents.ppo import StreamPPO
from agents.stacked_env import StackedVecEnv
from agents.train_config import TrainConfig
from agents.vec_env import SimulatedVecEnv, StreamVecEnv, make_vec_env
from dsd_gym.config import ConfigError
from dsd_gym.family import load_scenario_or_family
from dsd_gym.observation import FEATURE_NAMES
from dsd_gym.vector.support import unsupported
from policies.kinds import KINDS, LOGITS, STACKED

P = TypeVar("P", bound=StreamPPO)
ACTIVATIONS = {"tanh": torch.nn.Tanh, "relu": torch.nn.ReLU}


def make_env(train_config: TrainConfig, count: int) -> StreamVecEnv:
    """Return `count` of the config's deployments; ConfigError if the credit asked for cannot be had in them."""
    source = load_scenario_or_family(train_config.scenario, train_config.overrides)
    thresholds, foresight = train_config.stop_thresholds or None, train_config.critic == "informed"
    env = make_vec_env(source, count, thresholds, foresight, train_config.kind != LOGITS)
    if train_config.credit.cost == "team" and isinstance(env, SimulatedVecEnv):
        raise ConfigError(f"credit.cost: team needs a compiled scenario, and {unsupported(source)} is not compiled")
    return StackedVecEnv(env) if train_config.kind == STACKED else env


def build(kind: type[P], train_config: TrainConfig, env: StreamVecEnv, seed: int) -> P:
    """Return a fresh learner in these deployments; the seed is the first one's, its network's and torch's alike."""
    torch.set_num_threads(1)
    torch.distributions.Distribution.set_default_validate_args(False)
    ppo, credit = train_config.ppo, train_config.credit
    return kind(
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
            "activation_fn": ACTIVATIONS[ppo.activation],
            "features_extractor_class": VisibleFeatures,
            "features_extractor_kwargs": {"hidden": [FEATURE_NAMES.index(n) for n in train_config.hidden_features]},
            "optimizer_kwargs": {"eps": 1e-5, "fused": True},  # stable-baselines3's eps
            "inputs": len(KINDS[train_config.kind].features),
            "averaging": ppo.averaging,
        },
        seed=seed,
        device="cpu",
    )
