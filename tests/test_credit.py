"""Advantages along each request's own rounds: by hand, and across rollouts."""

import numpy as np
import pytest
import torch
from credit_rig import REFERENCE_MS, decide, ended, happened, interleaved, make_buffer, reward


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
    buffer.cut(np.array([0]))
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


def test_rounds_and_ends_of_requests_that_nobody_decided_for_change_nothing() -> None:
    """Those that admission left to the cloud, rejected, or ended with their first token: whatever their number."""
    buffer = make_buffer(5)
    interleaved(buffer)
    happened(buffer, [ended(5000, 8, 9000.0)])
    happened(buffer, [ended(9, 8, 9000.0)], over=[20_000, 3])
    buffer.finish()
    np.testing.assert_allclose(buffer.advantages, expected_advantages(), rtol=1e-6)


def test_deployments_do_not_mix() -> None:
    """Stream 0 of one deployment is not stream 0 of the other."""
    buffer = make_buffer(2, n_envs=2)
    for step in range(2):
        values = np.array([1.0 + step, 10.0 + step], np.float32)
        nothing = np.zeros((2, 2), np.float32)
        buffer.decided(np.zeros(2, np.int64), nothing, np.array([1, 2]), values, nothing[:, 0])
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
