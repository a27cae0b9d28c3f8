"""Decide with a policy of logits, in numpy: microseconds a decision, and a count of what training had not seen.

A lone observation goes through the network twice, as two rows: BLAS has another kernel for a vector, whose sums differ
in the last bit, so that a decision would depend on how many were taken at once.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dsd_gym.observation import Observation, scaled, to_array
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
        self._pair = np.empty((2, len(policy.header.feature_names)), np.float32)
        self._buffers = [np.empty((2, len(layer.bias)), np.float32) for layer in policy.layers]

    def decide(self, observation: Observation) -> Decision:
        """Return the window of the highest logit (the shortest one of equals), and a threshold where one is chosen."""
        features = to_array(observation)
        self.seen.count(features)
        self._pair[:] = features
        logits = self._forward(self._pair, self._buffers)[0]
        if not self._thresholds:
            return Decision(int(logits.argmax()))
        windows = self.policy.header.max_window + 1
        threshold = self._thresholds[int(logits[windows:].argmax())]
        return Decision(int(logits[:windows].argmax()), threshold or None)

    def decide_many(self, seen: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64] | None]:
        """Return windows, and thresholds (-1: none) or None, for features in their own units, (n, features).

        They are those of `decide`; nothing is counted.
        """
        logits = self.logits(scaled(seen.copy()))
        count = self.policy.header.max_window + 1
        windows: NDArray[np.int64] = logits[:, :count].argmax(axis=1)
        if not self._thresholds:
            return windows, None
        thresholds = np.array([value or -1.0 for value in self._thresholds])
        return windows, thresholds[logits[:, count:].argmax(axis=1)]

    def logits(self, features: Array) -> Array:
        """Return the logits for scaled features; count nothing.

        Features (n_features,) give logits (max_window + 1,), and (n, n_features) give (n, max_window + 1).
        """
        rows = np.atleast_2d(features)
        if len(rows) == 1:
            rows = np.repeat(rows, 2, axis=0)
        logits = self._forward(rows, [None] * len(self._layers))
        return logits[0] if features.ndim == 1 else logits[: len(features)]

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
