"""How often a policy meets what its training had not seen."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dsd_gym.observation import scale_feature
from policies.header import PolicyHeader

Array = NDArray[np.float32]

_SLACK = np.float32(1e-6)
"""Scaled units: ranges may have been written from float32 values, a rounding away from those seen here."""


FAR = np.float32(0.1)
"""Scaled units beyond a range from which on a network's answer is no longer trusted: just outside it is smooth.

For inputs on a logarithmic scale. A bounded one, with no such room, is not trusted anywhere outside.
"""


class SeenRanges:
    """Compares scaled features with the ranges met in training, `low` to `high`, scaled too; and counts."""

    def __init__(self, low: Array, high: Array, names: tuple[str, ...], margin: Array) -> None:
        self.decisions = 0
        self.out_of_range_decisions = 0
        """Decisions in which at least one feature was outside its range."""
        self.last_far = False
        """Whether one of the last decision's was outside by more than its `margin`."""
        self.far_decisions = 0
        """Decisions of which that was true: they are left to a rule (`agents.learned`)."""
        self._names = names
        self._low, self._high = low - _SLACK, high + _SLACK
        self._least, self._most = self._low - margin, self._high + margin
        self._inside = np.empty(len(names), np.bool_)
        self._below_high = np.empty(len(names), np.bool_)
        self._outside_counts = np.zeros(len(names), np.int64)

    @property
    def out_of_range(self) -> dict[str, int]:
        """Return {feature: decisions in which it was outside the range seen in training}, without zeros.

        A value beyond a feature's bound counts as that bound, as it does for the network.
        """
        counts = self._outside_counts.tolist()
        return {name: count for name, count in zip(self._names, counts, strict=True) if count}

    def count(self, features: Array) -> None:
        """Take note of one decision's features."""
        self.decisions += 1
        inside = self._inside
        np.greater_equal(features, self._low, out=inside)
        np.less_equal(features, self._high, out=self._below_high)
        np.logical_and(inside, self._below_high, out=inside)
        self.last_far = False
        if np.count_nonzero(inside) != len(inside):
            self.out_of_range_decisions += 1
            self._outside_counts += ~inside
            self.last_far = bool(self.far(features))
            self.far_decisions += self.last_far

    def far(self, features: Array) -> NDArray[np.bool_]:
        """Return whether a feature of each row is outside by more than its margin, (n,); count nothing."""
        beyond: NDArray[np.bool_] = np.any((features < self._least) | (features > self._most), axis=-1)
        return beyond


def seen_ranges(header: PolicyHeader, inputs: int | None = None) -> SeenRanges:
    """Return the ranges of a policy's inputs, or of the first so many, scaled as they are."""
    names, scales = header.feature_names[:inputs], header.feature_scaling
    low, high = (
        np.array([scale_feature(header.feature_ranges[name][end], *scales[name]) for name in names], np.float32)
        for end in (0, 1)
    )
    margin = np.array([FAR if knee else 0.0 for _, knee in (scales[name] for name in names)], np.float32)
    return SeenRanges(low, high, names, margin)
