"""Decide with a policy of logits, in numpy: microseconds a decision, and a count of what training had not seen."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dsd_gym.observation import Observation, to_array
from dsd_gym.records import Decision
from policies.errors import PolicyError
from policies.kinds import LOGITS
from policies.policy import Policy
from policies.ranges import ranges_of_observations

Array = NDArray[np.float32]


class PolicyRunner:
    """A policy at work. Holds buffers and counters, so it serves any number of streams but one thread."""

    def __init__(self, policy: Policy) -> None:
        if policy.header.kind != LOGITS:
            raise PolicyError(f"a {policy.header.kind} has no logits")
        self.policy = policy
        self.seen = ranges_of_observations(policy.header)
        """Counts what training had not seen."""
        self._thresholds = policy.header.stop_thresholds
        self._relu = policy.header.activation == "relu"
        self._layers = [(np.ascontiguousarray(layer.weight.T), layer.bias) for layer in policy.layers]
        self._buffers = [np.empty(len(layer.bias), np.float32) for layer in policy.layers]

    def decide(self, observation: Observation) -> Decision:
        """Return the window of the highest logit (the shortest one of equals), and a threshold where one is chosen."""
        features = to_array(observation)
        self.seen.count(features)
        logits = self._forward(features, self._buffers)
        if not self._thresholds:
            return Decision(int(logits.argmax()))
        windows = self.policy.header.max_window + 1
        threshold = self._thresholds[int(logits[windows:].argmax())]
        return Decision(int(logits[:windows].argmax()), threshold or None)

    def logits(self, features: Array) -> Array:
        """Return the logits for scaled features; count nothing.

        Features (n_features,) give logits (max_window + 1,), and (n, n_features) give (n, max_window + 1).
        """
        return self._forward(features, [None] * len(self._layers))

    def _forward(self, values: Array, buffers: Sequence[Array | None]) -> Array:
        last = len(self._layers) - 1
        for index, (weight, bias) in enumerate(self._layers):
            values = np.dot(values, weight, out=buffers[index])
            values += bias
            if index == last:
                break
            if self._relu:
                np.maximum(values, 0.0, out=values)
            else:
                np.tanh(values, out=values)
        return values
