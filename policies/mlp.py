"""Decide with a policy, in numpy: microseconds a decision, and a count of what training had not seen."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dsd_gym.observation import FEATURE_NAMES, Observation, to_array
from policies.policy import Policy

Array = NDArray[np.float32]

_SLACK = np.float32(1e-6)
"""Scaled units: ranges may have been written from float32 values, a rounding away from those seen here."""


class PolicyRunner:
    """A policy at work. Holds buffers and counters, so it serves any number of streams but one thread."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.decisions = 0
        self.out_of_range_decisions = 0
        """Decisions in which at least one feature was outside the range seen in training."""
        self._relu = policy.header.activation == "relu"
        self._layers = [(np.ascontiguousarray(layer.weight.T), layer.bias) for layer in policy.layers]
        self._buffers = [np.empty(len(layer.bias), np.float32) for layer in policy.layers]
        self._low, self._high = _scaled_ranges(policy)
        self._inside = np.empty(len(FEATURE_NAMES), np.bool_)
        self._below_high = np.empty(len(FEATURE_NAMES), np.bool_)
        self._outside_counts = np.zeros(len(FEATURE_NAMES), np.int64)

    def window(self, observation: Observation) -> int:
        """Return the window of the highest logit (the shortest one of equals); 0 lets the cloud decode."""
        features = to_array(observation)
        self._count(features)
        return int(self._forward(features, self._buffers).argmax())

    def logits(self, features: Array) -> Array:
        """Return the logits for scaled features; count nothing.

        Features (n_features,) give logits (max_window + 1,), and (n, n_features) give (n, max_window + 1).
        """
        return self._forward(features, [None] * len(self._layers))

    @property
    def out_of_range(self) -> dict[str, int]:
        """Return {feature: decisions in which it was outside the range seen in training}, without zeros.

        A value beyond a feature's bound counts as that bound, as it does for the network.
        """
        counts = self._outside_counts.tolist()
        return {name: count for name, count in zip(FEATURE_NAMES, counts, strict=True) if count}

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

    def _count(self, features: Array) -> None:
        self.decisions += 1
        inside = self._inside
        np.greater_equal(features, self._low, out=inside)
        np.less_equal(features, self._high, out=self._below_high)
        np.logical_and(inside, self._below_high, out=inside)
        if np.count_nonzero(inside) != len(inside):
            self.out_of_range_decisions += 1
            self._outside_counts += ~inside


def _scaled_ranges(policy: Policy) -> tuple[Array, Array]:
    """Return the ranges seen in training as `to_array` scales them: one comparison covers all features."""
    ranges = policy.header.feature_ranges
    low = to_array(Observation(**{name: ranges[name][0] for name in FEATURE_NAMES}))  # type: ignore[arg-type]
    high = to_array(Observation(**{name: ranges[name][1] for name in FEATURE_NAMES}))  # type: ignore[arg-type]
    return low - _SLACK, high + _SLACK
