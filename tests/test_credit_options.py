"""The other ways to judge a decision, each by hand."""

from typing import Any

import numpy as np
from credit_rig import REFERENCE_MS, decide, interleaved, make_buffer, reward

from agents.credit import PRIOR_DECISIONS
from dsd_gym.vector.layout import ROUND, STREAM


def judged_by(**judged: Any) -> list[float]:
    """Return the advantages of the interleaved streams, under another way to judge them."""
    buffer = make_buffer(5, **judged)
    interleaved(buffer)
    buffer.finish()
    return list(buffer.advantages)


def test_a_discount_for_each_decision_weighs_all_decisions_alike() -> None:
    """The rewards of `interleaved`, with discount .9 and trace .72 whatever was committed."""
    last7, second8 = reward(1, 2, 9, 6) - 3.0, 3.0 + 0.9 * 5.0 - 4.0
    first7 = reward(2, 3, 3, 2) + 0.9 * 3.0 - 1.0 + 0.72 * last7
    first8 = reward(3, 4, 7, 5) + 0.9 * 4.0 - 2.0 + 0.72 * second8
    np.testing.assert_allclose(judged_by(span="decision"), [first7, first8, last7, second8], rtol=1e-6)


def test_costs_may_be_relative_to_the_reference_and_stand_alone() -> None:
    """Costs 3 and 2 of stream 7 and 4 and 1 of stream 8, as they are."""
    last7, second8 = -2.0 - 3.0, -1.0 + 0.9**4 * 5.0 - 4.0
    first7 = -3.0 + 0.81 * 3.0 - 1.0 + 0.72**2 * last7
    first8 = -4.0 + 0.9**3 * 4.0 - 2.0 + 0.72**3 * second8
    judged = judged_by(form="discounted", relative_to="reference")
    np.testing.assert_allclose(judged, [first7, first8, last7, second8], rtol=1e-6)


def test_a_team_pays_for_all_who_waited() -> None:
    """Here three requests live: every round costs three times its ms, and no externality on top."""
    last7, second8 = 1.0 - 6.0 - 3.0, 4.0 - 3.0 + 0.9**4 * 5.0 - 4.0
    first7 = 2.0 - 9.0 + 0.81 * 3.0 - 1.0 + 0.72**2 * last7
    first8 = 3.0 - 6.0 + 0.9**3 * 4.0 - 2.0 + 0.72**3 * second8
    judged = judged_by(cost="team", relative_to="reference")
    np.testing.assert_allclose(judged, [first7, first8, last7, second8], rtol=1e-6)


def test_in_the_order_of_the_env_a_decision_is_followed_by_the_next_step_and_paid_by_its_reward() -> None:
    buffer = make_buffer(2, chain="env", span="decision", relative_to="reference", form="discounted")
    for step, stream in enumerate((7, 8)):
        decide(buffer, stream, value=1.0 + step)
        told = np.zeros(1, ROUND)
        told["committed"] = 3
        buffer.happened(told, np.zeros(0, STREAM), np.full(1, REFERENCE_MS))
        buffer.stepped(np.array([-2.0 - step], np.float32), told, np.array([step == 1]))
    buffer.finish()
    last = -3.0 - 2.0
    np.testing.assert_allclose(buffer.advantages, [-2.0 + 0.9 * 2.0 - 1.0 + 0.72 * last, last], rtol=1e-6)


def test_scaled_in_each_deployment_a_tenfold_one_counts_as_much() -> None:
    """Two deployments with the same decisions, but that one's costs and values are ten times the other's."""
    buffer = make_buffer(40, n_envs=2, scaled_in="deployment", form="discounted", relative_to="reference")
    random, both = np.random.default_rng(0), np.array([1.0, 10.0])
    for stream in range(40):
        streams, seen = np.full(2, stream), np.zeros((2, 2), np.float32)
        value, cost_ms = random.normal() * both, random.uniform(10.0, 90.0) * both
        buffer.decided(streams, seen, np.full(2, 4), value.astype(np.float32), np.zeros(2, np.float32))
        told, gone = np.zeros(2, ROUND), np.zeros(2, STREAM)
        told["deployment"] = gone["deployment"] = [0, 1]
        told["stream"] = gone["stream"] = stream
        told["end_ms"], told["committed"] = cost_ms, 1
        buffer.happened(told, gone, np.full(2, REFERENCE_MS))
    buffer.finish()
    small, large = np.reshape(buffer.advantages, (-1, 2)).T
    overall, own = ((1.0 + 100.0) / 2.0), np.array([1.0, 100.0])
    expected = np.sqrt((40.0 * own + PRIOR_DECISIONS * overall) / (40.0 + PRIOR_DECISIONS))
    np.testing.assert_allclose(large / small, 10.0 * expected[0] / expected[1], rtol=1e-4)
    unscaled = np.reshape(buffer.returns - buffer.values, (-1, 2)).T  # what the critic learns is not scaled
    np.testing.assert_allclose(unscaled[1], 10.0 * unscaled[0], rtol=1e-3)
