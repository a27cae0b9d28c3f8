"""What the simulator and the runtime ask of whoever decides."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from dsd_gym.observation import Observation
from dsd_gym.records import Decision, Round


class Controller(Protocol):
    """Whoever decides. One object serves every stream."""

    def begin(self, stream: int, device: int, target: int) -> None:
        """Meet a stream before it first asks, with the numbers of its device and target."""

    def decide(self, observation: Observation, stream: int) -> Decision:
        """Return the next window of `stream`, 0 for cloud decoding."""

    def record(self, round: Round) -> None:
        """Take note of a round that ended; for those that learn from outcomes."""

    def forget(self, stream: int) -> None:
        """Drop what is kept for a stream that ended."""


NO_THRESHOLD = -1.0
"""Among many stop thresholds: drafting does not stop early."""


@runtime_checkable
class DecidesMany(Protocol):
    """A controller whose decisions depend on the observation alone, and that can take many at once."""

    def decide_many(self, seen: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64] | None]:
        """Return windows, and stop thresholds (negative: none) or None, for rows of features in their own units."""


@runtime_checkable
class PredictsMany(Protocol):
    """A controller that remembers, but predicts from the observation alone before it decides."""

    def predict_many(self, seen: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return predictions for rows of features in their own units, (n, features)."""

    def settle(self, predicted: int, stream: int) -> Decision:
        """Decide on a stream's prediction, as `decide` does on its observation."""
