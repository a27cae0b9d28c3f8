"""The other ways to judge a decision, each by hand."""

from typing import Any

import numpy as np
from credit_rig import REFERENCE_MS, decide, interleaved, make_buffer, reward

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
