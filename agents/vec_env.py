"""Deployments as stable-baselines3 wants them: compiled where the scenario allows it, else the SimPy simulator's."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

import gymnasium
import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvObs, VecEnvStepReturn

from dsd_gym.env import EdgeCloudEnv
from dsd_gym.family import Family
from dsd_gym.observation import FEATURES, to_raw
from dsd_gym.priced_inputs import PRICED_INPUTS, priced_many
from dsd_gym.scenario import Scenario
from dsd_gym.vector.env import EdgeCloudVectorEnv
from dsd_gym.vector.foresight import FORESIGHT
from dsd_gym.vector.layout import ROUND, STREAM, Records
from dsd_gym.vector.support import unsupported


class StreamVecEnv(VecEnv):
    """A VecEnv that tells of the last step what credit along streams needs.

    Attributes:
        rounds: those that ended (`dsd_gym.vector.layout.ROUND`); the column `deployment` says where. Simulated ones
            lack `team_ms`: it is nan.
        ended: the requests that finished or were rejected (`layout.STREAM`).
        streams: the stream that asks in each deployment, (n_envs,).
        reference_ms: of the deployments as they were before those that ended began anew, (n_envs,).
    """

    rounds: Records
    ended: Records
    streams: NDArray[np.int64]
    reference_ms: NDArray[np.float64]


class CompiledVecEnv(StreamVecEnv):
    """`EdgeCloudVectorEnv` as a stable-baselines3 VecEnv: fresh arrays, terminal observations, truncation flags.

    An observation goes on, after its features, with what windows are expected to cost where it is `priced`
    (`dsd_gym.priced_inputs`); then, with `foresight`, with what a critic may know (`dsd_gym.vector.foresight`) and a
    last column of zeros, where the learner writes what it alone knows.
    """

    def __init__(self, env: EdgeCloudVectorEnv, foresight: bool = False, priced: bool = False) -> None:
        self.env = env
        self._foresight, self._priced = foresight, priced
        self._added = priced * len(PRICED_INPUTS) + foresight * (len(FORESIGHT) + 1)
        super().__init__(env.num_envs, _space(self._added), env.single_action_space)
        self.rounds, self.ended = np.zeros(0, ROUND), np.zeros(0, STREAM)
        self._actions = np.zeros(0, np.int64)
        self._returns, self._lengths = np.zeros(self.num_envs), np.zeros(self.num_envs, np.int64)
        self._started_s = time.perf_counter()

    def reset(self) -> VecEnvObs:
        """Begin new runs, with the seeds given by `seed`."""
        observations, info = self.env.reset(seed=self._seeds)
        self._reset_seeds()
        self._reset_options()
        self.streams, self.reference_ms = info["stream"].copy(), info["reference_ms"].copy()
        self.reset_infos = [{} for _ in range(self.num_envs)]
        self._returns[:], self._lengths[:] = 0.0, 0
        return self._widened(observations, info)

    def _widened(self, observations: NDArray[np.float32], info: dict[str, Any]) -> NDArray[np.float32]:
        parts = [observations]
        if self._priced:
            parts.append(priced_many(to_raw(observations)))
        if self._foresight:
            parts += [info["foresight"], np.zeros((self.num_envs, 1), np.float32)]
        return np.hstack(parts) if self._added else observations

    def step_async(self, actions: NDArray[Any]) -> None:
        """Keep the actions until `step_wait`."""
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Step all deployments."""
        observations, rewards, terminated, truncated, info = self.env.step(self._actions)
        self.rounds, self.ended, self.streams = info["rounds"], info["ended"], info["stream"].copy()
        self.reference_ms = info["reference_ms"].copy()
        self._returns += rewards
        self._lengths += 1
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        over = terminated | truncated
        if over.any():
            self.reference_ms = np.where(over, info["final_info"]["reference_ms"], self.reference_ms)
            for place in np.flatnonzero(over):
                last = np.pad(info["final_obs"][place], (0, self._added))
                infos[place] = self._told(int(place), last, bool(truncated[place]))
        return self._widened(observations, info), rewards.astype(np.float32), over, infos

    def _told(self, place: int, observation: NDArray[np.float32], truncated: bool) -> dict[str, Any]:
        """Return the info of a deployment's last step, with what stable-baselines3's Monitor would add."""
        elapsed_s = round(time.perf_counter() - self._started_s, 6)
        episode = {"r": float(self._returns[place]), "l": int(self._lengths[place]), "t": elapsed_s}
        self._returns[place], self._lengths[place] = 0.0, 0
        return {"terminal_observation": observation, "TimeLimit.truncated": truncated, "episode": episode}

    def close(self) -> None:
        """Close nothing: there are no processes."""
        self.env.close()

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """Return an attribute of the vector environment, once for each deployment asked for."""
        return [getattr(self.env, attr_name) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Refuse: the deployments have no attributes of their own."""
        raise AttributeError(f"{attr_name}: compiled deployments have no attributes of their own")

    def env_method(
        self, method_name: str, *method_args: Any, indices: VecEnvIndices = None, **method_kwargs: Any
    ) -> list[Any]:
        """Refuse: the deployments have no methods of their own."""
        raise AttributeError(f"{method_name}: compiled deployments have no methods of their own")

    def env_is_wrapped(
        self, wrapper_class: type[gymnasium.Wrapper[Any, Any, Any, Any]], indices: VecEnvIndices = None
    ) -> list[bool]:
        """Return False for each: nothing is wrapped."""
        return [False for _ in self._get_indices(indices)]


class SimulatedVecEnv(DummyVecEnv, StreamVecEnv):
    """The same over the SimPy simulator: every mechanism, a seventieth of the speed."""

    def __init__(self, env_fns: Sequence[Callable[[], gymnasium.Env[Any, Any]]]) -> None:
        super().__init__(list(env_fns))
        self.rounds, self.ended = np.zeros(0, ROUND), np.zeros(0, STREAM)

    def reset(self) -> VecEnvObs:
        """Begin new runs."""
        observations = super().reset()
        self.streams = np.array([info["stream"] for info in self.reset_infos])
        self.reference_ms = np.array([info["reference_ms"] for info in self.reset_infos])
        return observations

    def step_wait(self) -> VecEnvStepReturn:
        """Step all deployments."""
        observations, rewards, dones, infos = super().step_wait()
        rounds = ((place, round._asdict()) for place, info in enumerate(infos) for round in info["rounds"])
        self.rounds = _table(ROUND, rounds)
        self.rounds["team_ms"] = np.nan
        streams = ((place, {"stream": r.stream}) for place, info in enumerate(infos) for r in info["ended"])
        self.ended = _table(STREAM, streams)
        self.reference_ms = np.array([info["reference_ms"] for info in infos])
        asking = (self.reset_infos[place] if done else infos[place] for place, done in enumerate(dones))
        self.streams = np.array([info["stream"] for info in asking])
        return observations, rewards, dones, infos


def make_vec_env(
    source: Scenario | Family,
    count: int,
    stop_thresholds: Sequence[float] | None,
    foresight: bool = False,
    priced: bool = False,
) -> StreamVecEnv:
    """Return `count` deployments, compiled if all mechanisms of the scenario are; only then is there foresight."""
    if unsupported(source) is None:
        env = EdgeCloudVectorEnv(count, source, stop_thresholds=stop_thresholds, foresight=foresight)
        return CompiledVecEnv(env, foresight, priced)

    def simulated() -> gymnasium.Env[Any, Any]:
        env: gymnasium.Env[Any, Any] = EdgeCloudEnv(source, stop_thresholds=stop_thresholds)
        return Monitor(Priced(env) if priced else env)

    return SimulatedVecEnv([simulated] * count)


class Priced(gymnasium.ObservationWrapper[NDArray[np.float32], Any, NDArray[np.float32]]):
    """Observations that go on with what windows are expected to cost."""

    def __init__(self, env: gymnasium.Env[NDArray[np.float32], Any]) -> None:
        super().__init__(env)
        self.observation_space = cast(gymnasium.Space[NDArray[np.float32]], _space(len(PRICED_INPUTS)))

    def observation(self, observation: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the wider observation."""
        return np.hstack([observation, priced_many(to_raw(observation[None]))[0]])


def _space(added: int) -> gymnasium.spaces.Box:
    """Return the space of observations with so many columns more."""
    return gymnasium.spaces.Box(0.0, 1.0, (len(FEATURES) + added,), np.float32)


def _table(kind: np.dtype[np.void], rows: Iterable[tuple[int, dict[str, Any]]]) -> Records:
    """Return records of a kind from what Python objects tell."""
    listed = list(rows)
    table = np.zeros(len(listed), kind)
    for entry, (place, told) in zip(table, listed, strict=True):
        entry["deployment"] = place
        for name, value in told.items():
            entry[name] = value
    return table
