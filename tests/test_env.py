"""The Gymnasium environment: found by name, valid, reproducible, and rewarded by what requests wait."""

import subprocess
import sys
import warnings
from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode

import dsd_gym  # noqa: F401 (registers the environment)
from dsd_gym.config import ConfigError
from dsd_gym.env import EdgeCloudEnv
from dsd_gym.family import Family, load_scenario_or_family
from dsd_gym.observation import FEATURE_NAMES
from dsd_gym.scenario import Acceptance, EdgeClass, Lengths, Scenario, Workload
from dsd_gym.scenario_files import scenario_path

ENV_ID = "dsd_gym/EdgeCloud-v0"
SMALL = Scenario(
    name="small",
    edges=(EdgeClass(count=4),),
    workload=Workload(rate_per_s=4.0),
    lengths=Lengths(100, 100, 40, 30),
    acceptance=Acceptance("constant", 0.7),
    warm_up_ms=0.0,
    horizon_ms=3000.0,
)


def rollout(env: gymnasium.Env[Any, Any], seed: int) -> list[tuple[Any, ...]]:
    observation, info = env.reset(seed=seed)
    actions = np.random.default_rng(seed)
    steps: list[tuple[Any, ...]] = [(observation.tolist(), info["stream"])]
    over = False
    while not over:
        observation, reward, terminated, truncated, info = env.step(int(actions.integers(6)))
        over = terminated or truncated
        steps.append((observation.tolist(), float(reward), terminated, truncated, info["stream"], info["rounds"]))
    return steps


@pytest.mark.parametrize(
    "scenario", ["held_out/mobile_4g", scenario_path("train/single"), SMALL, load_scenario_or_family("train/family")]
)
def test_is_made_by_name_path_or_object(scenario: Any) -> None:
    env = gymnasium.make(ENV_ID, scenario=scenario)
    observation, _ = env.reset(seed=1)
    assert observation.shape == (len(FEATURE_NAMES),)
    assert env.observation_space.contains(observation)


@pytest.mark.parametrize(
    "code",
    [
        f"import dsd_gym, gymnasium; gymnasium.make('{ENV_ID}')",
        f"import gymnasium, dsd_gym; gymnasium.make('{ENV_ID}')",
        f"import gymnasium; gymnasium.make('dsd_gym:{ENV_ID}')",
        f"import dsd_gym, gymnasium; gymnasium.make('dsd_gym:{ENV_ID}')",
    ],
)
def test_is_registered_whatever_is_imported_first(code: str) -> None:
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=60)


def test_unknown_scenario_says_what_there_is() -> None:
    with pytest.raises(ConfigError, match="no such scenario"):
        EdgeCloudEnv("held_out/mobile_5g")


def test_passes_gymnasiums_checker_without_a_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(gymnasium.make(ENV_ID, scenario=SMALL).unwrapped)


def test_passes_stable_baselines3s_checker_without_a_warning() -> None:
    from stable_baselines3.common.env_checker import check_env as check

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check(EdgeCloudEnv(SMALL))


def test_same_seed_gives_the_same_rollout() -> None:
    env = EdgeCloudEnv(SMALL)
    first = rollout(env, 3)
    assert rollout(env, 3) == first == rollout(EdgeCloudEnv(SMALL), 3)
    assert rollout(env, 4) != first


@pytest.mark.parametrize("drain_ms", [60_000.0, 50.0])
def test_rewards_add_up_to_what_requests_waited(drain_ms: float) -> None:
    env = EdgeCloudEnv(replace(SMALL, drain_ms=drain_ms))
    steps = rollout(env, 5)
    assert env.simulation is not None
    records = env.simulation.records()
    alive_ms = sum((r.finish_ms or records.stopped_ms) - r.arrival_ms for r in records.requests)
    assert sum(step[1] for step in steps[1:]) * env.simulation.reference_ms == pytest.approx(-alive_ms, rel=1e-9)
    terminated, truncated = steps[-1][2:4]
    assert (terminated, truncated) == ((True, False) if drain_ms > 1000.0 else (False, True))


def test_info_tells_streams_rounds_and_the_reference() -> None:
    env = EdgeCloudEnv(SMALL)
    _, info = env.reset(seed=0)
    asked, committed, ended = {info["stream"]}, 0, []
    over = False
    while not over:
        _, _, terminated, truncated, info = env.step(np.int64(3))
        over = terminated or truncated
        assert info["reference_ms"] > 0.0
        committed += sum(round.committed for round in info["rounds"])
        assert {round.stream for round in info["rounds"]} <= asked
        ended += [request.stream for request in info["ended"]]
        asked.add(info["stream"])
    assert env.simulation is not None
    requests = env.simulation.records().requests
    assert sorted(ended) == sorted(request.stream for request in requests)
    assert committed == sum(request.output_tokens - 1 for request in requests), "the first token is the prefill's"
    assert info["stream"] == -1


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_gymnasiums_own_vector_environments_go_past_the_end_of_a_run(mode: AutoresetMode) -> None:
    """They serve scenarios that the compiled one refuses; each env ends at a step of its own."""
    kwargs = {"vector_kwargs": {"autoreset_mode": mode}, "scenario": SMALL}
    env = gymnasium.make_vec(ENV_ID, 3, vectorization_mode="sync", **kwargs)
    _, info = env.reset(seed=0)
    over, ends = np.zeros(3, np.bool_), np.zeros(3, np.int64)
    while ends.min() < 2:
        options = {"options": {"reset_mask": over}} if mode is AutoresetMode.DISABLED and over.any() else None
        if options:
            env.reset(**options)
        _, _, terminated, truncated, info = env.step(np.full(3, 4))
        over = terminated | truncated
        ends += over
        if mode is not AutoresetMode.SAME_STEP:
            np.testing.assert_array_equal(info["stream"] == -1, over)
    env.close()


def test_a_family_draws_another_deployment_for_another_seed() -> None:
    family = load_scenario_or_family("train/family")
    assert isinstance(family, Family)
    env = EdgeCloudEnv(family)

    def drawn(seed: int | None) -> Scenario:
        env.reset(seed=seed)
        assert env.simulation is not None
        return env.simulation.scenario

    first = drawn(0)
    assert drawn(0) == first
    assert drawn(1) != first
    assert drawn(None) != drawn(None), "and anew at each reset"


def test_a_window_past_the_longest_is_refused() -> None:
    env = EdgeCloudEnv(SMALL)
    env.reset(seed=0)
    for action in (-1, SMALL.max_window + 1):
        with pytest.raises(ValueError, match=r"outside 0\.\.12"):
            env.step(np.int64(action))
    env.step(np.int64(SMALL.max_window))


def test_a_step_before_reset_or_after_the_end_is_refused() -> None:
    env = EdgeCloudEnv(SMALL)
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(np.int64(1))
    rollout(env, 0)
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(np.int64(1))


def test_a_second_dimension_chooses_the_stop_threshold() -> None:
    env = gymnasium.make(ENV_ID, scenario=SMALL, stop_thresholds=(0.0, 1.0))
    assert env.action_space == gymnasium.spaces.MultiDiscrete([13, 2])
    drafted: dict[int, set[int]] = {0: set(), 1: set()}
    for threshold in drafted:
        env.reset(seed=0)
        over = False
        while not over:
            _, _, terminated, truncated, info = env.step(np.array([6, threshold]))
            over = terminated or truncated
            drafted[threshold] |= {round.drafted for round in info["rounds"]}
    assert drafted == {0: {6}, 1: {1}}  # no confidence reaches 1


@pytest.mark.parametrize("threshold", [-1, 2])
def test_a_threshold_that_is_not_among_them_is_refused(threshold: int) -> None:
    env = gymnasium.make(ENV_ID, scenario=SMALL, stop_thresholds=(0.0, 1.0), disable_env_checker=True).unwrapped
    env.reset(seed=0)
    with pytest.raises(ValueError, match=rf"threshold {threshold} is outside 0\.\.1"):
        env.step(np.array([6, threshold]))


@pytest.mark.parametrize("thresholds", [(), (0.5, 1.5)])
def test_thresholds_outside_0_to_1_are_refused(thresholds: tuple[float, ...]) -> None:
    with pytest.raises(ConfigError, match="stop_thresholds must be numbers from 0 to 1"):
        gymnasium.make(ENV_ID, scenario=SMALL, stop_thresholds=thresholds)
