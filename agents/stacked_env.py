"""Deployments whose observations tell of the last rounds of the request that asks, one by one."""

from __future__ import annotations

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

from agents.vec_env import StreamVecEnv
from dsd_gym.priced_inputs import ASKED
from policies.past_rounds import PAST_INPUTS, after_many

_PLACE = len(ASKED)
"""Rounds come after what priced policies see, before what only a critic may know."""


class StackedVecEnv(VecEnvWrapper, StreamVecEnv):
    """Insert what a stacked policy remembers (`policies.past_rounds`) into priced observations.

    stable-baselines3's `VecFrameStack` would stack what follows in a deployment: other requests' moments.
    """

    def __init__(self, venv: StreamVecEnv) -> None:
        (width,) = venv.observation_space.shape or ()
        super().__init__(venv, spaces.Box(0.0, 1.0, (width + len(PAST_INPUTS),), np.float32))
        self._rows = np.arange(venv.num_envs)
        self._past = self._nothing(64)

    def _nothing(self, streams: int) -> NDArray[np.float32]:
        return np.zeros((self.num_envs, streams, len(PAST_INPUTS)), np.float32)

    def reset(self) -> VecEnvObs:
        """Begin new runs."""
        observations = self.venv.reset()
        self._past[:] = 0.0
        return self._stacked(observations)

    def step_wait(self) -> VecEnvStepReturn:
        """Step all deployments; a run that begins anew remembers nothing."""
        observations, rewards, dones, infos = self.venv.step_wait()
        self._past[dones] = 0.0
        for place in np.flatnonzero(dones):
            last = infos[place]["terminal_observation"]
            infos[place]["terminal_observation"] = np.insert(last, [_PLACE] * len(PAST_INPUTS), 0.0)
        return self._stacked(observations), rewards, dones, infos

    def _stacked(self, observations: VecEnvObs) -> NDArray[np.float32]:
        assert isinstance(observations, np.ndarray)
        streams: NDArray[np.int64] = self.streams
        if (longest := int(streams.max())) >= self._past.shape[1]:
            self._past = np.hstack([self._past, self._nothing(longest)])
        past = after_many(self._past[self._rows, streams], observations)
        self._past[self._rows, streams] = past
        return np.hstack([observations[:, :_PLACE], past, observations[:, _PLACE:]])
