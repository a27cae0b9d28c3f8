"""The same window always: what engines ship by default."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from agents.base import Controller
from dsd_gym.observation import Observation
from dsd_gym.records import Decision


class Static(Controller):
    """Answer every question with `window`."""

    def __init__(self, window: int) -> None:
        self._decision = Decision(window)

    def decide(self, observation: Observation, stream: int) -> Decision:
        """Return the fixed window."""
        return self._decision

    def decide_many(self, seen: NDArray[np.float64]) -> tuple[NDArray[np.int64], None]:
        """Return the fixed window for each row."""
        return np.full(len(seen), self._decision.window), None
