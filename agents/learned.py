"""An exported policy as a controller."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from agents.awc_mlp import AwcMlp
from agents.base import Controller
from dsd_gym.observation import Observation
from dsd_gym.records import Decision
from policies import REGRESSOR, TREE, Policy, PolicyRunner, TreeRunner


class Learned(Controller):
    """Answer with the policy's most probable window, or a tree's.

    `runner.seen` counts observations outside the trained ranges.
    """

    def __init__(self, policy: Policy) -> None:
        self.runner = TreeRunner(policy) if policy.header.kind == TREE else PolicyRunner(policy)

    def decide(self, observation: Observation, stream: int) -> Decision:
        """Return the argmax of the network's logits, of windows and of thresholds apart, or the leaf's window."""
        return self.runner.decide(observation)

    def decide_many(self, seen: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64] | None]:
        """Return windows, and thresholds (-1: none) or None, for rows of features in their own units.

        `runner.seen` does not count them.
        """
        return self.runner.decide_many(seen)


def learned_controller(policy: Policy) -> Controller:
    """Return the controller for a policy's kind: a regressor's windows are AWC's, which smooths them."""
    return AwcMlp(policy) if policy.header.kind == REGRESSOR else Learned(policy)
