"""The rule of transformers' assisted generation: longer after success, shorter after a rejection."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from agents.base import Controller
from agents.rows import windows_of
from dsd_gym.observation import Observation
from dsd_gym.records import Decision


class Heuristic(Controller):
    """+2 when the whole window was accepted, else -1, never below 1 (the `heuristic_transient` schedule of
    transformers, which begins each request anew; its `heuristic` takes the last window of one over into the next).

    transformers starts at 20 tokens; `first_window` is tuned by `python -m agents.tune heuristic`.
    """

    def __init__(self, max_window: int, first_window: int = 5) -> None:
        self._max_window, self._first_window = max_window, min(first_window, max_window)

    def decide(self, observation: Observation, stream: int) -> Decision:
        """Return the next window from the last one and how it fared."""
        return Decision(next_window(observation, self._max_window, self._first_window))

    def decide_many(self, seen: NDArray[np.float64]) -> tuple[NDArray[np.int64], None]:
        """Return the windows for rows of features in their own units."""
        return windows_of(next_window, seen, self._max_window, self._first_window), None


def next_window(observation: Observation, max_window: int, first_window: int) -> int:
    """Return the window after the last one."""
    if not observation.has_last_round:
        return first_window
    change = 2 if observation.all_accepted else -1
    return min(max(observation.last_window + change, 1), max_window)
