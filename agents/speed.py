"""How fast the compiled environment and PPO over it run, and how long compiling takes. `benchmark.py` prints it.

Rates are per CPU second of one thread, which is a second where nothing else runs. What shares the machine can only
make a figure worse, so each is the best of `REPEATS` short measurements, but for the family's.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from agents.train_config import TrainConfig, load_train_config
from agents.training import make_learner
from dsd_gym.family import load_scenario_or_family
from dsd_gym.scenario import Scenario
from dsd_gym.vector.env import EdgeCloudVectorEnv

DEPLOYMENTS = 256
WINDOW = 4
REPEATS = 5
FAMILY = "train/broad"
CARTPOLE = "CartPole-v1"
_FIRST_STEP = """
import time, numpy
from dsd_gym.vector.env import EdgeCloudVectorEnv
env = EdgeCloudVectorEnv(8)
env.reset(seed=0)
env.step(numpy.full(8, 4))
print(time.process_time())
"""


def measure(scenario: Scenario, seconds: float) -> dict[str, float]:
    """Return every figure by name; `seconds` of CPU time for each rate, or what one repeat takes."""
    compile_s, cached_start_s = start_s()
    return {
        "vector_decisions_per_s": round(best_rate(whole_runs(scenario), seconds)),
        "vector_family_decisions_per_s": round(family_rate(seconds)),
        "cartpole_vector_steps_per_s": round(best_rate(cartpole(), seconds)),
        "ppo_steps_per_s": round(ppo_rate(load_default(), seconds)),
        "compile_s": round(compile_s, 1),
        "cached_start_s": round(cached_start_s, 1),
    }


def best_rate(work: Callable[[], int], seconds: float) -> float:
    """Return the most that `work` did in a CPU second, of short measurements that take `seconds` together."""
    work()
    start_s, rates = time.process_time(), list[float]()
    while not rates or time.process_time() - start_s < seconds:
        rates.append(rate(work, seconds / REPEATS))
    return max(rates)


def rate(work: Callable[[], int], seconds: float) -> float:
    """Return how much `work` does in a CPU second; it returns how much it has done, and is repeated for `seconds`."""
    start_s, done = time.process_time(), 0
    while not done or time.process_time() - start_s < seconds:
        done += work()
    return done / (time.process_time() - start_s)


def whole_runs(scenario: Scenario) -> Callable[[], int]:
    """Return what steps on until as many runs have ended as there are deployments, and returns the decisions."""
    env, actions = EdgeCloudVectorEnv(DEPLOYMENTS, scenario), np.full(DEPLOYMENTS, WINDOW)
    env.reset(seed=0)

    def runs() -> int:
        steps = ended = 0
        while ended < DEPLOYMENTS:
            _, _, terminated, truncated, _ = env.step(actions)
            ended += int(np.count_nonzero(terminated) + np.count_nonzero(truncated))
            steps += 1
        return steps * DEPLOYMENTS

    return runs


def family_rate(seconds: float) -> float:
    """Return the decisions a CPU second in a randomised family, on average: its runs are too long to be repeated."""
    env, actions = EdgeCloudVectorEnv(DEPLOYMENTS, load_scenario_or_family(FAMILY)), np.full(DEPLOYMENTS, WINDOW)
    env.reset(seed=0)
    rate(lambda: _steps(env, actions), seconds / REPEATS)
    return rate(lambda: _steps(env, actions), seconds)


def cartpole() -> Callable[[], int]:
    """Return what steps Gymnasium's own vector environment, and returns the steps of all its carts."""
    env = gymnasium.make_vec(CARTPOLE, DEPLOYMENTS, vectorization_mode="vector_entry_point")
    env.reset(seed=0)
    actions = np.random.default_rng(0).integers(2, size=DEPLOYMENTS)
    return lambda: _steps(env, actions)


def _steps(env: gymnasium.vector.VectorEnv[Any, Any, Any], actions: NDArray[np.int64], steps: int = 20) -> int:
    for _ in range(steps):
        env.step(actions)
    return steps * DEPLOYMENTS


def load_default() -> TrainConfig:
    """Return the training config of `configs/train/default.yaml`."""
    chosen = load_train_config(None, {})
    assert isinstance(chosen, TrainConfig)
    return chosen


def ppo_rate(chosen: TrainConfig, seconds: float) -> float:
    """Return the decisions a CPU second of training: rollouts, credit and updates."""
    rollout = chosen.ppo.n_envs * chosen.ppo.rollout_steps
    with tempfile.TemporaryDirectory() as folder:
        model = make_learner(replace(chosen, imitation=0), Path(folder), resume=False)

        def learn() -> int:
            model.learn(rollout, reset_num_timesteps=False)
            return rollout

        best = best_rate(learn, seconds)
        model.logger.close()
    return best


def start_s() -> tuple[float, float]:
    """Return the CPU s of a fresh process up to its first step: with nothing compiled yet, and after that."""
    with tempfile.TemporaryDirectory() as folder:
        surroundings = os.environ | {"NUMBA_CACHE_DIR": folder, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        command = [sys.executable, "-c", _FIRST_STEP]
        first, second = (
            subprocess.run(command, env=surroundings, capture_output=True, text=True, check=True).stdout
            for _ in range(2)
        )
    return float(first), float(second)
