"""The learner: whose decision follows whose across steps and resets, what it logs, and that it learns."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.monitor import Monitor

from agents.credit import StreamCredit
from agents.ppo import TAIL, StreamPPO
from agents.train_config import Credit, load_train_config
from agents.training import make_learner
from agents.vec_env import SimulatedVecEnv, StreamVecEnv, make_vec_env
from dsd_gym.config import ConfigError
from dsd_gym.env import EdgeCloudEnv
from dsd_gym.observation import FEATURES
from dsd_gym.records import Round
from dsd_gym.scenario import Acceptance, Cloud, EdgeClass, Lengths, LinkSpec, Scenario, Workload
from dsd_gym.simulator import simulate

SHORT = Scenario(
    name="short",
    edges=(EdgeClass(count=3),),
    workload=Workload(rate_per_s=6.0),
    lengths=Lengths(60, 50, 12, 8),
    warm_up_ms=0.0,
    horizon_ms=1500.0,
    drain_ms=800.0,
)


def a_learner(env: StreamVecEnv, **judged: Any) -> StreamPPO:
    """Return a small learner whose buffer judges as told."""
    env.seed(0)
    return StreamPPO(
        "MlpPolicy",
        env,
        n_steps=32,
        batch_size=32,
        n_epochs=1,
        rollout_buffer_class=StreamCredit,
        rollout_buffer_kwargs={"credit": Credit(**judged)},
        policy_kwargs={"net_arch": [8]},
        seed=0,
        device="cpu",
    )


def simulated(count: int) -> SimulatedVecEnv:
    return SimulatedVecEnv([lambda: Monitor(EdgeCloudEnv(SHORT))] * count)


def test_ranges_are_extremes_and_of_bounded_features_leave_out_what_is_rare() -> None:
    learner, met = a_learner(make_vec_env(SHORT, 4, None)), list[np.ndarray[Any, Any]]()

    class Keep(BaseCallback):
        def _on_step(self) -> bool:
            return True

        def _on_rollout_end(self) -> None:
            met.append(learner.rollout_buffer.learned().observation)

    learner.learn(512, Keep())
    names, ends = list(FEATURES), np.array([learner.lows, learner.highs])
    quantiles = np.mean([np.quantile(rows, [TAIL, 1.0 - TAIL], axis=0) for rows in met], axis=0)
    extremes = np.array([np.concatenate(met).min(axis=0), np.concatenate(met).max(axis=0)])
    bounded = ["acceptance_estimate", "last_window", "last_accepted", "first_guess_confidence", "last_mean_confidence"]
    for place, name in enumerate(names):
        np.testing.assert_allclose(ends[:, place], (quantiles if name in bounded else extremes)[:, place], atol=1e-6)
    inside = [names.index(name) for name in bounded if name != "last_window"]
    assert len(met) == 4 and (ends[1, inside] < extremes[1, inside]).any()


@pytest.mark.parametrize("chain", ["stream", "env"])
def test_compiled_and_simulated_deployments_teach_the_same(chain: str) -> None:
    """Over several rollouts and episodes, down to the last bit of every weight."""
    ours, theirs = (a_learner(env, chain=chain).learn(512) for env in (make_vec_env(SHORT, 4, None), simulated(4)))
    assert len(ours.ep_info_buffer or ()) == len(theirs.ep_info_buffer or ()) > 4, "episodes have ended"
    for name, weights in ours.policy.state_dict().items():
        assert torch.equal(weights, theirs.policy.state_dict()[name]), name


def test_learning_goes_on_in_the_same_deployments_and_begins_anew_in_fresh_ones() -> None:
    model = a_learner(make_vec_env(SHORT, 4, None))
    model.learn(128)
    buffer = model.rollout_buffer
    before = int((buffer._slot_of >= 0).sum())
    assert before >= 4
    model._setup_learn(128, None, reset_num_timesteps=False)
    assert int((buffer._slot_of >= 0).sum()) == before, "decisions in flight are still to be completed"
    model._setup_learn(128, None, reset_num_timesteps=True)
    assert int((buffer._slot_of >= 0).sum()) == 0, "streams of a fresh run are other requests"


def test_a_rollout_logs_what_was_decided_and_what_it_cost() -> None:
    model, told = a_learner(make_vec_env(SHORT, 4, None)), dict[str, Any]()

    class Reader(BaseCallback):
        def _on_step(self) -> bool:
            return True

        def _on_rollout_end(self) -> None:
            told.update(self.logger.name_to_value)

    model.learn(128, Reader())
    seen = model.rollout_buffer.learned()
    assert told["rollout/relative_ms_per_token"] == pytest.approx(seen.cost.sum() / seen.tokens.sum())
    edge = seen.action > 0
    assert told["rollout/mean_window"] == pytest.approx(seen.action[edge].mean())
    assert told["rollout/tokens_per_round"] == pytest.approx(seen.tokens[edge].mean())
    assert told["rollout/cloud_share"] == pytest.approx(seen.tokens[~edge].sum() / seen.tokens.sum())


def test_only_compiled_deployments_can_charge_a_team(tmp_path: Path) -> None:
    chosen = {"scenario": "train/single", "credit.cost": "team", "scenario.targets.0.padded": True}
    config = load_train_config(None, chosen | {"ppo.n_envs": 2, "ppo.rollout_steps": 8, "ppo.minibatch": 8})
    with pytest.raises(ConfigError, match=r"credit.cost: team needs .* targets.0.padded: True is not compiled"):
        make_learner(config, tmp_path, False)


class Chooser:
    """A learner, or chance, as a controller."""

    def __init__(self, choose: Any) -> None:
        self._choose = choose

    def decide(self, observation: Any, stream: int) -> Any:
        from dsd_gym.observation import to_array
        from dsd_gym.records import Decision

        return Decision(int(self._choose(to_array(observation))))

    def begin(self, stream: int, device: int, target: int) -> None:
        pass

    def record(self, round: Round) -> None:
        pass

    def forget(self, stream: int) -> None:
        pass


TINY = Scenario(
    name="tiny",
    edges=(EdgeClass(count=8, draft_ms_per_token=1.0),),
    link=LinkSpec(rtt_ms=120.0, jitter_ms=0.0),
    workload=Workload(rate_per_s=2.0),
    lengths=Lengths(50, 50, 60, 60),
    acceptance=Acceptance("constant", 0.97),
    cloud=Cloud(chunk_tokens=1),
    warm_up_ms=0.0,
    horizon_ms=6000.0,
)
"""A far target and a draft that is nearly always right: the longer the window, the better."""


@pytest.mark.slow
def test_learns_the_window_that_is_obviously_best() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    env = make_vec_env(TINY, 8, None)
    env.seed(0)
    model = StreamPPO(
        "MlpPolicy",
        env,
        n_steps=128,
        batch_size=256,
        n_epochs=4,
        learning_rate=3e-3,
        gamma=0.999,
        gae_lambda=0.98,
        rollout_buffer_class=StreamCredit,
        policy_kwargs={"net_arch": [32]},
        seed=0,
        device="cpu",
    )
    model.learn(12 * 1024)
    chance = np.random.default_rng(0)

    def tokens_ms(choose: Any) -> float:
        rounds = simulate(TINY, Chooser(choose), 99).rounds
        return sum(round.elapsed_ms for round in rounds) / sum(round.committed for round in rounds)

    learned = tokens_ms(lambda seen: model.predict(seen, deterministic=True)[0])
    best = min(tokens_ms(lambda seen, k=k: k) for k in range(13))
    assert learned < 0.8 * tokens_ms(lambda seen: chance.integers(13))
    assert learned < 1.15 * best
