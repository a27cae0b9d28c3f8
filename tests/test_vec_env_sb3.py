"""The deployments as stable-baselines3's VecEnv: its contract, its wrappers, and the same over SimPy as compiled."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
import pytest
from numpy.typing import NDArray
from stable_baselines3 import PPO
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import (
    VecCheckNan,
    VecEnv,
    VecFrameStack,
    VecMonitor,
    VecNormalize,
    is_vecenv_wrapped,
    unwrap_vec_normalize,
)

from agents.vec_env import CompiledVecEnv, SimulatedVecEnv, StreamVecEnv, make_vec_env
from dsd_gym.env import EdgeCloudEnv
from dsd_gym.family import Family, load_scenario_or_family
from dsd_gym.observation import FEATURE_NAMES
from dsd_gym.scenario import Acceptance, EdgeClass, Lengths, Scenario, TargetClass, Workload
from dsd_gym.vector.env import EdgeCloudVectorEnv
from dsd_gym.vector.layout import ROUND, STREAM

COUNT = 4
SMALL = Scenario(
    name="small",
    edges=(EdgeClass(count=4),),
    targets=(TargetClass(count=2),),
    workload=Workload(rate_per_s=3.0),
    lengths=Lengths(100, 80, 10, 6),
    acceptance=Acceptance("constant", 0.7),
    warm_up_ms=0.0,
    horizon_ms=1500.0,
)
CUT = replace(SMALL, drain_ms=60.0)
SHORT = {"horizon_ms": 2500.0, "warm_up_ms": 0.0, "lengths.output_mean": 12, "lengths.output_median": 10}


def compiled(source: Scenario | Family = SMALL, thresholds: tuple[float, ...] | None = None) -> CompiledVecEnv:
    env = make_vec_env(source, COUNT, thresholds)
    assert isinstance(env, CompiledVecEnv)
    return env


def simulated(source: Scenario | Family = SMALL, thresholds: tuple[float, ...] | None = None) -> SimulatedVecEnv:
    return SimulatedVecEnv([lambda: Monitor(EdgeCloudEnv(source, stop_thresholds=thresholds))] * COUNT)


def actions_of(env: VecEnv, steps: int) -> list[NDArray[np.int64]]:
    env.action_space.seed(0)
    return [np.array([env.action_space.sample() for _ in range(COUNT)]) for _ in range(steps)]


# --- one like the other -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("thresholds", [None, (0.0, 0.4)])
@pytest.mark.parametrize("source", [SMALL, CUT, load_scenario_or_family("train/family", SHORT)], ids=lambda s: s.name)
def test_compiled_and_simulated_deployments_tell_the_same(
    source: Scenario | Family, thresholds: tuple[float, ...] | None
) -> None:
    ours, theirs = compiled(source, thresholds), simulated(source, thresholds)
    assert (ours.observation_space, ours.action_space) == (theirs.observation_space, theirs.action_space)
    assert ours.seed(5) == theirs.seed(5) == [5, 6, 7, 8]
    np.testing.assert_array_equal(ours.reset(), theirs.reset())
    names = [name for name in ROUND.names or () if name != "team_ms"]  # only the twin counts that
    ends = 0
    for actions in actions_of(ours, 200):
        for env in (ours, theirs):
            assert env.reference_ms.shape == env.streams.shape == (COUNT,)
        assert ours.streams.tolist() == theirs.streams.tolist()
        (seen, rewards, dones, infos), (others, paid, over, told) = ours.step(actions), theirs.step(actions)
        np.testing.assert_array_equal(seen, others)
        np.testing.assert_array_equal(rewards, paid)
        np.testing.assert_array_equal(dones, over)
        assert seen.dtype == others.dtype and rewards.dtype == paid.dtype and dones.dtype == over.dtype
        for place in range(COUNT):
            mine, other = (e.rounds[e.rounds["deployment"] == place][names].tolist() for e in (ours, theirs))
            assert mine == other
        assert sorted(ours.ended[["deployment", "stream"]].tolist()) == sorted(
            theirs.ended[["deployment", "stream"]].tolist()
        )
        np.testing.assert_array_equal(ours.reference_ms, theirs.reference_ms)
        for place in np.flatnonzero(dones):
            ends += 1
            np.testing.assert_array_equal(infos[place]["terminal_observation"], told[place]["terminal_observation"])
            assert infos[place]["TimeLimit.truncated"] == told[place]["TimeLimit.truncated"]
            assert infos[place]["episode"]["l"] == told[place]["episode"]["l"]
            assert infos[place]["episode"]["r"] == pytest.approx(told[place]["episode"]["r"], abs=1e-5)
        assert all(not info for info, done in zip(infos, dones, strict=True) if not done)
    assert ends > 3


def test_what_is_not_compiled_is_simulated() -> None:
    padded = replace(SMALL, targets=(TargetClass(padded=True),))
    env = make_vec_env(padded, 2, None)
    assert isinstance(env, SimulatedVecEnv)
    env.seed(0)
    env.reset()
    env.step(np.array([4, 0]))
    assert env.rounds.dtype == ROUND and env.ended.dtype == STREAM and np.isnan(env.rounds["team_ms"]).all()


# --- the contract -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [compiled, simulated])
def test_is_made_and_stepped_without_a_warning(make: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env: StreamVecEnv = make()
        assert (env.render_mode, env.metadata) == (None, {"render_modes": []})
        env.reset()
        env.step(np.full(COUNT, 3))
        env.close()


@pytest.mark.parametrize("make", [compiled, simulated])
def test_nothing_has_ended_before_the_first_step(make: Any) -> None:
    env: StreamVecEnv = make()
    assert len(env.rounds) == len(env.ended) == 0
    env.reset()
    assert len(env.reset_infos) == len(env.streams) == COUNT
    assert (env.reference_ms > 0.0).all()


def test_an_episodes_end_tells_of_itself_and_the_next_one_has_begun() -> None:
    env = compiled(CUT)
    env.seed(1)
    env.reset()
    returns, lengths, cut = np.zeros(COUNT), np.zeros(COUNT, np.int64), set()
    for actions in actions_of(env, 300):
        seen, rewards, dones, infos = env.step(actions)
        returns += rewards
        lengths += 1
        for place in np.flatnonzero(dones):
            info = infos[place]
            np.testing.assert_array_equal(info["terminal_observation"], np.zeros(len(FEATURE_NAMES)))
            assert seen[place].any()
            assert info["episode"]["r"] == pytest.approx(returns[place], rel=1e-4)
            assert info["episode"]["l"] == lengths[place]
            assert info["episode"]["t"] > 0.0
            returns[place], lengths[place] = 0.0, 0
            cut.add(info["TimeLimit.truncated"])
    assert cut == {False, True}


def test_a_reset_forgets_the_episode_under_way() -> None:
    env = compiled()
    env.seed(1)
    env.reset()
    for _ in range(5):
        env.step(np.full(COUNT, 2))
    env.reset()
    steps, told = 0, []
    while not told:
        _, _, dones, infos = env.step(np.full(COUNT, 2))
        steps += 1
        told = [info for info, done in zip(infos, dones, strict=True) if done]
    assert told[0]["episode"]["l"] == steps


def test_seeds_are_for_the_next_reset_and_used_up_by_it() -> None:
    env = compiled()
    assert env.seed(3) == [3, 4, 5, 6]
    first, second = env.reset(), env.reset()
    env.seed(3)
    np.testing.assert_array_equal(env.reset(), first)
    assert not np.array_equal(first, second)
    assert env.seed() != env.seed(), "without a number, random ones"
    alone = EdgeCloudEnv(SMALL).reset(seed=5)[0]
    np.testing.assert_array_equal(np.asarray(first)[2], alone)


@pytest.mark.parametrize("make", [compiled, simulated])
def test_what_is_returned_is_never_written_over(make: Any) -> None:
    env: StreamVecEnv = make()
    env.seed(0)
    kept: list[Any] = [env.reset(), env.streams, env.reference_ms]
    copies = [part.copy() for part in kept]
    for actions in actions_of(env, 80):
        step = [*env.step(actions)[:3], env.streams, env.reference_ms]
        kept += step
        copies += [part.copy() for part in step]
    for part, copy in zip(kept, copies, strict=True):
        np.testing.assert_array_equal(part, copy)


def test_attributes_are_those_of_the_vector_environment() -> None:
    env = compiled()
    assert env.get_attr("max_window") == [SMALL.max_window] * COUNT
    assert env.get_attr("max_window", indices=1) == [SMALL.max_window]
    assert env.get_attr("render_mode", indices=[0, 2]) == [None, None]
    assert env.has_attr("max_window") and not env.has_attr("wind")
    assert env.env_is_wrapped(Monitor) == [False] * COUNT
    assert env.env_is_wrapped(gymnasium.wrappers.TimeLimit, indices=[0, 3]) == [False, False]
    assert env.unwrapped is env
    assert isinstance(env.env, EdgeCloudVectorEnv)


def test_what_a_single_deployment_cannot_do_is_refused() -> None:
    env = compiled()
    with pytest.raises(AttributeError, match="wind"):
        env.get_attr("wind")
    with pytest.raises(AttributeError, match="max_window: compiled deployments have no attributes of their own"):
        env.set_attr("max_window", 4)
    with pytest.raises(AttributeError, match="reset: compiled deployments have no methods of their own"):
        env.env_method("reset", indices=0)


# --- what is built on it ----------------------------------------------------------------------------------------------


def test_the_usual_wrappers_hold_around_it() -> None:
    env = VecNormalize(VecFrameStack(VecCheckNan(VecMonitor(compiled())), 3), norm_reward=True)
    assert is_vecenv_wrapped(env, VecFrameStack) and unwrap_vec_normalize(env) is env
    env.seed(0)
    assert np.asarray(env.reset()).shape == (COUNT, 3 * len(FEATURE_NAMES))
    episodes = []
    for actions in actions_of(env, 120):
        seen, rewards, dones, infos = env.step(actions)
        assert np.isfinite(seen).all() and np.isfinite(rewards).all()
        for place in np.flatnonzero(dones):
            assert infos[place]["terminal_observation"].shape == (3 * len(FEATURE_NAMES),)
            episodes.append(infos[place]["episode"]["l"])
    assert len(episodes) > 3
    assert env.get_attr("max_window") == [12] * COUNT


def test_stable_baselines3s_own_learner_learns_on_it() -> None:
    env = compiled()
    model = PPO("MlpPolicy", env, n_steps=32, batch_size=32, n_epochs=1, seed=0, device="cpu")
    model.learn(256)
    assert model.ep_info_buffer is not None and len(model.ep_info_buffer) > 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that nothing is wrapped in a Monitor
        mean, _ = evaluate_policy(model, env, n_eval_episodes=4)
    assert mean < 0.0
