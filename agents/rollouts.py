"""A rollout made elsewhere: a worker plays its share of the deployments with the weights it is sent.

It may live in this process, in another, or on another machine; what it does and returns is the same.
"""

from __future__ import annotations

import sys
from typing import Any, NamedTuple

import torch
from numpy.typing import NDArray
from stable_baselines3.common.logger import Logger

from agents.credit import Floats, Slots
from agents.learner import build, make_env
from agents.ppo import StreamPPO
from agents.train_config import TrainConfig

Weights = dict[str, NDArray[Any]]
"""Of a policy, by the names of its `state_dict`: arrays, which any process can unpickle."""


class Rollout(NamedTuple):
    """What a worker's deployments taught in one rollout: completed decisions, in the order they were made."""

    slots: Slots
    advantages: Floats
    returns: Floats
    episodes: list[dict[str, Any]]
    """Return and length of the episodes that ended, as stable-baselines3's Monitor tells them."""
    steps: int
    """Decisions made, (n_envs x rollout_steps); those not yet completed are carried over to the next rollout."""


class RolloutWorker:
    """Deployments, a copy of the policy, and a buffer that carries pending decisions from rollout to rollout.

    Args:
        count: deployments.
        seed: that of the first; the others have those that follow.
    """

    def __init__(self, train_config: TrainConfig, count: int, seed: int) -> None:
        env = make_env(train_config, count)
        self._model = build(StreamPPO, train_config, env, seed % 2**32)  # more than which numpy and torch do not take
        env.seed(seed)
        self._model.set_logger(Logger(None, []))
        _, self._callback = self._model._setup_learn(sys.maxsize)

    def collect(self, weights: Weights) -> Rollout:
        """Play `rollout_steps` decisions in each deployment with these weights."""
        model, buffer = self._model, self._model.rollout_buffer
        assert model.env is not None and model.ep_info_buffer is not None
        model.policy.load_state_dict({name: torch.tensor(array) for name, array in weights.items()})
        model.ep_info_buffer.clear()
        before = model.num_timesteps
        model.collect_rollouts(model.env, self._callback, buffer, model.n_steps)
        episodes = list(model.ep_info_buffer)
        return Rollout(buffer.learned(), buffer.advantages, buffer.returns, episodes, model.num_timesteps - before)


def weights_of(model: StreamPPO) -> Weights:
    """Return a copy of the learner's weights."""
    return {name: tensor.numpy(force=True).copy() for name, tensor in model.policy.state_dict().items()}
