"""Advantages along each request's own rounds: by hand, across rollouts, and in learning."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv

from agents.credit import PRIOR_TOKENS, StreamCredit
from agents.ppo import StreamPPO
from dsd_gym.env import EdgeCloudEnv
from dsd_gym.records import Round
from dsd_gym.scenario import Acceptance, Cloud, EdgeClass, Lengths, LinkSpec, Scenario, Workload
from dsd_gym.simulator import simulate

REFERENCE_MS = 10.0


def make_buffer(decisions: int, gamma: float = 0.9, gae_lambda: float = 0.8, n_envs: int = 1) -> StreamCredit:
    box = spaces.Box(0.0, 1.0, (2,), np.float32)
    buffer = StreamCredit(
        decisions, box, spaces.Discrete(13), gamma=gamma, gae_lambda=gae_lambda, n_envs=n_envs, externality_weight=2.0
    )
    buffer.reset()
    return buffer


def decide(buffer: StreamCredit, stream: int, value: float, action: int = 4, log_prob: float = -1.0) -> None:
    """Enter one env's decision; the observation tells the stream and the value."""
    seen = np.array([[stream, value]], np.float32)
    buffer.decided([stream], seen, np.array([action]), np.array([value], np.float32), np.array([log_prob], np.float32))


def ended(stream: int, tokens: int, elapsed_ms: float, externality_ms: float = 0.0) -> Round:
    return Round(stream, 0.0, 0.0, elapsed_ms, 4, 4, 3, 0, tokens, 20.0, 0.0, 30.0, 2, externality_ms, 0.0, 0.0)


def happened(buffer: StreamCredit, rounds: Sequence[Round] = (), over: Sequence[int] = (), env: int = 0) -> None:
    buffer.happened(env, rounds, over, REFERENCE_MS)


def reward(tokens: float, cost: float, all_cost: float, all_tokens: float) -> float:
    """Return n - c / rho, rho the average of all so far and of the prior."""
    return tokens - cost * (PRIOR_TOKENS + all_tokens) / (PRIOR_TOKENS + all_cost)


def interleaved(buffer: StreamCredit) -> None:
    """Streams 7 and 8 take turns; 7 ends, 8 is still drafting when its third decision is pending.

    With a prior of 200 tokens at cost 200 the rewards are
    7: 2 - 3 x 202/203 = -.985222, then 1 - 2 x 206/209 = -.971292;  8: 3 - 4 x 205/207 = -.961353, then 4 - 1 = 3;
    and with discount .9 and trace .72 a token the advantages, last to first,
    8: 3 + .6561 x 5 - 4 = 2.2805, -.961353 + .729 x 4 - 2 + .373248 x 2.2805 = .805839;
    7: -.971292 - 3 = -3.971292, -.985222 + .81 x 3 - 1 - .5184 x 3.971292 = -1.613940.
    """
    decide(buffer, 7, value=1.0)
    decide(buffer, 8, value=2.0)
    happened(buffer, [ended(7, 2, 30.0)])  # 7's first: 2 tokens, cost 3
    decide(buffer, 7, value=3.0)
    happened(buffer, [ended(8, 3, 20.0, externality_ms=10.0)])  # 8's first: 3 tokens, cost (20 + 2 x 10) / 10 = 4
    decide(buffer, 8, value=4.0)
    happened(buffer, [ended(7, 1, 20.0)], over=[7])  # 7's second and last: 1 token, cost 2
    happened(buffer, [ended(8, 4, 10.0)])  # 8's second: 4 tokens, cost 1
    decide(buffer, 8, value=5.0)


def expected_advantages() -> list[float]:
    r7, r8 = reward(2, 3, 3, 2), reward(3, 4, 7, 5)
    r7_last, r8_second = reward(1, 2, 9, 6), reward(4, 1, 10, 10)
    last7 = r7_last - 3.0  # terminal: nothing follows
    first7 = r7 + 0.9**2 * 3.0 - 1.0 + (0.9 * 0.8) ** 2 * last7
    second8 = r8_second + 0.9**4 * 5.0 - 4.0  # cut off: the pending decision's value stands for the rest
    first8 = r8 + 0.9**3 * 4.0 - 2.0 + (0.9 * 0.8) ** 3 * second8
    return [first7, first8, last7, second8]


def test_advantages_of_two_interleaved_streams_match_a_hand_calculation() -> None:
    buffer = make_buffer(5)
    interleaved(buffer)
    assert buffer.full
    buffer.finish()
    np.testing.assert_allclose(buffer.advantages, expected_advantages(), rtol=1e-6)
    np.testing.assert_allclose(buffer.advantages, [-1.613940, 0.805839, -3.971292, 2.2805], atol=1e-6)
    np.testing.assert_allclose(buffer.returns, buffer.advantages + np.array([1.0, 2.0, 3.0, 4.0]), rtol=1e-6)
    assert buffer.learned().observation[:, 0].tolist() == [7.0, 8.0, 7.0, 8.0]


def test_an_episodes_end_cuts_every_stream() -> None:
    """Decisions in flight are not learned from; those before them bootstrap from their value, as at a rollout's end."""
    buffer = make_buffer(5)
    interleaved(buffer)
    buffer.cut(0)
    buffer.finish()
    np.testing.assert_allclose(buffer.advantages, expected_advantages(), rtol=1e-6)
    buffer.reset()
    assert buffer.learned().tokens.size == 4
    decide(buffer, 8, value=9.0)  # a stream of that number in the next episode is another request
    happened(buffer, [ended(8, 1, 10.0)], over=[8])
    buffer.finish()
    np.testing.assert_allclose(buffer.advantages, [1.0 - 1.0 - 9.0], atol=1e-6)


def test_a_pending_decision_is_carried_over_with_its_data() -> None:
    buffer = make_buffer(5)
    interleaved(buffer)
    buffer.finish()
    buffer.reset()
    assert not buffer.full
    happened(buffer, [ended(8, 2, 40.0)], over=[8])
    for _ in range(5):
        assert not buffer.full
        decide(buffer, 9, value=0.0, action=1)
        happened(buffer, [ended(9, 1, 10.0)])
    assert buffer.full, "a rollout is as long with decisions carried over as without"
    buffer.finish()
    carried = reward(2, 4, 14, 12) - 5.0
    assert buffer.advantages[0] == pytest.approx(carried, rel=1e-6)
    rows = buffer.learned()
    assert (rows.action[0], rows.value[0], rows.log_prob[0], rows.tokens[0]) == (4, 5.0, -1.0, 2.0)
    assert rows.observation[0].tolist() == [8.0, 5.0]


def test_deployments_do_not_mix() -> None:
    """Stream 0 of one deployment is not stream 0 of the other."""
    buffer = make_buffer(2, n_envs=2)
    for step in range(2):
        values = np.array([1.0 + step, 10.0 + step], np.float32)
        buffer.decided([0, 0], np.zeros((2, 2), np.float32), np.array([1, 2]), values, np.zeros(2, np.float32))
        happened(buffer, [ended(0, 1, 10.0)], over=[0] if step else [], env=0)
        happened(buffer, [ended(0, 3, 30.0)], over=[0] if step else [], env=1)
    buffer.finish()  # costs equal the reference: every reward is 0
    last = np.array([-2.0, -11.0])
    first = np.array([0.9 * 2.0 - 1.0 + 0.72 * -2.0, 0.9**3 * 11.0 - 10.0 + 0.72**3 * -11.0])
    np.testing.assert_allclose(buffer.advantages, [*first, *last], rtol=1e-6)


def test_minibatches_hold_every_completed_decision_once() -> None:
    buffer = make_buffer(40)
    for step in range(40):
        decide(buffer, step % 3, value=float(step))
        happened(buffer, [ended(step % 3, 2, 10.0)])
    buffer.finish()
    batches = list(buffer.get(10))
    seen = torch.cat([batch.old_values for batch in batches])
    assert sorted(seen.tolist()) == [float(step) for step in range(37)], "three are pending"
    for batch in batches:
        assert torch.equal(batch.observations[:, 1], batch.old_values)
        torch.testing.assert_close(batch.returns, batch.advantages + batch.old_values)


def return_of(tokens_each: int, cost_per_token: float, gamma: float) -> float:
    """Return what 384 tokens are worth at the first decision, in decisions of `tokens_each`; the average is settled."""
    count = 384 // tokens_each
    buffer = make_buffer(count + 1, gamma=gamma, gae_lambda=1.0)
    decide(buffer, 1, value=0.0)
    happened(buffer, [ended(1, 20_000, 20_000 * REFERENCE_MS)], over=[1])
    for step in range(count):
        decide(buffer, 0, value=0.0)
        round = ended(0, tokens_each, tokens_each * cost_per_token * REFERENCE_MS)
        happened(buffer, [round], over=[0] if step == count - 1 else [])
    buffer.finish()
    return float(buffer.advantages[1])


@pytest.mark.parametrize("tokens_each", [1, 2, 4, 8, 16, 32])
def test_equal_ms_per_token_has_equal_value_however_large_a_decision_is(tokens_each: int) -> None:
    """At the average cost nothing is earned; off it, lumps of 32 tokens weigh less than 2.5 % more than single ones.

    A lump's tokens are not discounted among themselves: (32 / 2) x .001 = 1.6 %.
    """
    assert return_of(tokens_each, 1.0, 0.999) == pytest.approx(0.0, abs=1e-4)
    for cost_per_token in (0.7, 1.4):
        single = return_of(1, cost_per_token, 0.999)
        assert return_of(tokens_each, cost_per_token, 0.999) == pytest.approx(single, rel=0.025)


def test_a_cheaper_token_is_worth_more_whatever_the_size_of_its_decision() -> None:
    values = [return_of(n, cost, 0.999) for cost in (0.9, 1.0, 1.1) for n in (1, 8, 32)]
    assert min(values[:3]) > max(values[3:6]) >= min(values[3:6]) > max(values[6:])


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
    env = DummyVecEnv([lambda: EdgeCloudEnv(TINY)] * 8)
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
