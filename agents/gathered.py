"""The learner of several workers: PPO on what they all have collected with the weights of the last update."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv

from agents.credit import Slots, StreamCredit
from agents.ppo import StreamPPO
from agents.rollouts import Rollout, weights_of
from agents.workers import Workers


class GatheredCredit(StreamCredit):
    """Completed decisions of several workers, who have judged them."""

    def take(self, rollouts: Sequence[Rollout]) -> None:
        """Hold these rollouts, one after the other, in place of the last."""
        self._slots = Slots(0, self._width, self._action_shape)
        for name in vars(self._slots):
            setattr(self._slots, name, np.concatenate([getattr(rollout.slots, name) for rollout in rollouts]))
        self._used = len(self._slots.value)
        self._learned = np.arange(self._used)
        self.values = self._slots.value
        self.advantages = np.concatenate([rollout.advantages for rollout in rollouts])
        self.returns = np.concatenate([rollout.returns for rollout in rollouts])


class GatheringPPO(StreamPPO):
    """`StreamPPO` whose rollouts are made by `workers`; its own deployments only tell the spaces and stand still."""

    rollout_buffer: GatheredCredit
    workers: Workers

    def _setup_model(self) -> None:
        self.rollout_buffer_class = GatheredCredit
        super()._setup_model()
        assert self.env is not None
        self._last_obs = np.zeros((self.env.num_envs, *(self.observation_space.shape or ())), np.float32)  # never reset

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "workers"]

    def collect_rollouts(
        self, env: VecEnv, callback: BaseCallback, rollout_buffer: RolloutBuffer, n_rollout_steps: int
    ) -> bool:
        """Have the workers step their deployments `n_steps` times each."""
        assert isinstance(rollout_buffer, GatheredCredit) and self.ep_info_buffer is not None
        callback.on_rollout_start()
        rollouts = self.workers.collect(weights_of(self))
        self.num_timesteps += sum(rollout.steps for rollout in rollouts)
        callback.update_locals(locals())
        if not callback.on_step():
            return False
        rollout_buffer.take(rollouts)
        for rollout in rollouts:
            self.ep_info_buffer.extend(rollout.episodes)
        self._log(rollout_buffer)
        callback.on_rollout_end()
        return True
