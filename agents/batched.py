"""Exported policies that decide for many requests at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dsd_gym.observation import scaled
from policies import Policy, PolicyRunner


class ManyDecisions:
    """A policy's windows (and stop thresholds) for rows of observations; see `dsd_gym.vector.running.DecidesMany`.

    Products of many rows may differ from those of one in their last bit, and then, where two logits are equal but for
    that, so may the window.
    """

    def __init__(self, policy: Policy) -> None:
        self._runner = PolicyRunner(policy)
        self._windows = policy.header.max_window + 1
        self._thresholds = np.array([value or -1.0 for value in policy.header.stop_thresholds])

    def decide_many(
        self, seen: NDArray[np.float64]
    ) -> tuple[NDArray[np.int64], NDArray[np.float64] | None]:
        """Return windows, and thresholds or None, for features in their own units, (n, features)."""
        logits = self._runner.logits(scaled(seen.copy()))
        windows = logits[:, : self._windows].argmax(axis=1)
        if not len(self._thresholds):
            return windows, None
        return windows, self._thresholds[logits[:, self._windows :].argmax(axis=1)]
