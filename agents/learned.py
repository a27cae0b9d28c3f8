"""An exported policy as a controller."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from agents.awc import CLOUD_MARGIN, PRICE
from agents.awc_mlp import AwcMlp
from agents.base import Controller
from agents.rows import windows_of
from dsd_gym.controller import NO_THRESHOLD
from dsd_gym.observation import Observation
from dsd_gym.pricing import best_window
from dsd_gym.records import Decision
from policies import REGRESSOR, STACKED, TREE, Policy, PolicyRunner, TreeRunner
from policies.past_rounds import NO_ROUNDS, after


class OfPolicy(Controller):
    """Answers with a policy's windows.

    Where an input was rare in training, or is far from all that it has seen, a rule answers that needs none: `awc`'s
    predictor.
    `runner.seen` counts what lies outside at all.
    """

    def __init__(self, policy: Policy) -> None:
        self.runner = TreeRunner(policy) if policy.header.kind == TREE else PolicyRunner(policy)
        self._rule = policy.header.max_window, PRICE, CLOUD_MARGIN

    def _unless_far(self, decision: Decision, observation: Observation) -> Decision:
        """Return the runner's decision on `observation`, or the rule's."""
        return Decision(best_window(observation, *self._rule)) if self.runner.seen.last_far else decision


class Learned(OfPolicy):
    """Answer with the policy's most probable window, or a tree's."""

    def decide(self, observation: Observation, stream: int) -> Decision:
        """Return the argmax of the network's logits, of windows and of thresholds apart, or the leaf's window."""
        return self._unless_far(self.runner.decide(observation), observation)

    def decide_many(self, seen: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64] | None]:
        """Return windows, and thresholds (-1: none) or None, for rows of features in their own units.

        `runner.seen` does not count them.
        """
        windows, thresholds, far = self.runner.decide_many(seen)
        if far.any():
            windows[far] = windows_of(best_window, seen[far], *self._rule)
            if thresholds is not None:
                thresholds[far] = NO_THRESHOLD
        return windows, thresholds


class Stacked(OfPolicy):
    """Answer with the most probable window of a policy that sees its request's last rounds one by one."""

    runner: PolicyRunner

    def __init__(self, policy: Policy) -> None:
        super().__init__(policy)
        self._past: dict[int, tuple[float, ...]] = {}

    def decide(self, observation: Observation, stream: int) -> Decision:
        """Return the argmax of the network's logits, of windows and of thresholds apart."""
        past = self._past[stream] = after(self._past.get(stream, NO_ROUNDS), observation)
        return self._unless_far(self.runner.decide(observation, past), observation)

    def forget(self, stream: int) -> None:
        """Drop the rounds of a request that ended."""
        self._past.pop(stream, None)


def learned_controller(policy: Policy) -> Controller:
    """Return the controller for a policy's kind: a regressor's windows are AWC's, which smooths them."""
    return {REGRESSOR: AwcMlp, STACKED: Stacked}.get(policy.header.kind, Learned)(policy)
