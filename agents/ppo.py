"""PPO with credit along streams: stable-baselines3's learner, fed by rollouts of its own kind."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv
from torch.nn.utils import parametrize

from agents.credit import StreamCredit
from agents.network import WindowPolicy
from agents.vec_env import StreamVecEnv
from policies.kinds import KINDS, PRICED

TAIL = 0.005
"""Share of decisions at either end of a bounded input that are too few to have taught much."""
_BOUNDED = [one.knee is None and one.unit != "flag" for one in KINDS[PRICED].features.values()]
"""Past rounds of a stacked policy are not among them: what was rare of each counted once, when it was the last."""


class StreamPPO(PPO):
    """`stable_baselines3.PPO` whose advantages run along each request's own rounds (see `StreamCredit`).

    stable-baselines3's own rollout buffer would chain a decision to whichever request asks next. Its handling of time
    limits does not apply: a request's end is terminal, an episode's end cuts every stream.
    """

    rollout_buffer: StreamCredit
    lows: np.ndarray[Any, Any]
    highs: np.ndarray[Any, Any]

    def _setup_model(self) -> None:
        super()._setup_model()
        self.restore_ranges(*([bound] * self._inputs for bound in (np.inf, -np.inf)))

    @property
    def _inputs(self) -> int:
        """Return how many columns of an observation the policy sees."""
        if isinstance(self.policy, WindowPolicy):
            return self.policy.inputs
        return spaces.utils.flatdim(self.observation_space)

    def _setup_learn(self, *args: Any, **kwargs: Any) -> tuple[int, BaseCallback]:
        """Begin each call of `learn` whose deployments were reset with streams of its own."""
        before = self._last_obs
        result = super()._setup_learn(*args, **kwargs)
        if self._last_obs is not before:
            assert isinstance(self.env, StreamVecEnv)
            self.rollout_buffer.cut(np.arange(self.env.num_envs))
        return result

    def restore_ranges(self, lows: list[float], highs: list[float]) -> None:
        """Set the range of each scaled input of the policy that training has met, as `PolicyHeader` tells it."""
        self.lows, self.highs = np.array(lows), np.array(highs)

    def collect_rollouts(
        self, env: VecEnv, callback: BaseCallback, rollout_buffer: RolloutBuffer, n_rollout_steps: int
    ) -> bool:
        """Step all deployments until the buffer holds `n_steps` decisions of each."""
        assert isinstance(rollout_buffer, StreamCredit) and isinstance(env, StreamVecEnv)
        self.policy.set_training_mode(False)
        rollout_buffer.reset()
        callback.on_rollout_start()
        while not rollout_buffer.full:
            assert isinstance(self._last_obs, np.ndarray)
            if self._last_obs.shape[1] > self._inputs:  # only the critic sees it
                self._last_obs[:, -1] = rollout_buffer.averages()
            with torch.no_grad(), parametrize.cached():
                actions, values, log_probs = self.policy(torch.from_numpy(self._last_obs))
            chosen = actions.numpy()
            rollout_buffer.decided(
                env.streams, self._last_obs, chosen, values.flatten().numpy(), log_probs.numpy()
            )
            self._last_obs, rewards, dones, infos = env.step(chosen)  # type: ignore[assignment]
            self.num_timesteps += env.num_envs
            callback.update_locals(locals())
            if not callback.on_step():
                return False
            rollout_buffer.happened(env.rounds, env.ended, env.reference_ms)
            rollout_buffer.stepped(rewards, env.rounds, dones)
            if dones.any():
                rollout_buffer.cut(np.flatnonzero(dones))
                self._update_info_buffer(infos, dones)
        rollout_buffer.finish()
        self._log(rollout_buffer)
        callback.on_rollout_end()
        return True

    def train(self) -> None:
        """Update the weights from a rollout, and their average."""
        super().train()
        if isinstance(self.policy, WindowPolicy):
            self.policy.averaged.update_parameters(self.policy.actor())

    def _log(self, buffer: StreamCredit) -> None:
        seen = buffer.learned()
        if not len(seen.action):
            return
        actions, tokens = seen.action, seen.tokens
        if actions.ndim > 1:  # a window and a stop threshold
            actions = actions[:, 0]
        self._extend_ranges(seen.observation[:, : self._inputs])
        edge = actions > 0
        self.logger.record("rollout/relative_ms_per_token", float(seen.cost.sum() / tokens.sum()))
        self.logger.record("rollout/tokens_per_round", float(tokens[edge].mean()) if edge.any() else 0.0)
        self.logger.record("rollout/mean_window", float(actions[edge].mean()) if edge.any() else 0.0)
        self.logger.record("rollout/cloud_share", float(tokens[~edge].sum() / tokens.sum()))
        self.logger.record("rollout/window", torch.from_numpy(actions), exclude=("stdout", "log", "json", "csv"))

    def _extend_ranges(self, inputs: np.ndarray[Any, Any]) -> None:
        """Take in a rollout's inputs: their extremes, and of bounded ones the mean over rollouts of their quantiles."""
        bounded = np.flatnonzero(_BOUNDED[: self._inputs])
        tails = np.quantile(inputs[:, bounded], [TAIL, 1.0 - TAIL], axis=0)
        share = self.n_steps * self.n_envs / self.num_timesteps
        if share < 1.0:
            tails = share * tails + (1.0 - share) * np.array([self.lows, self.highs])[:, bounded]
        self.lows, self.highs = np.minimum(self.lows, inputs.min(axis=0)), np.maximum(self.highs, inputs.max(axis=0))
        self.lows[bounded], self.highs[bounded] = tails
