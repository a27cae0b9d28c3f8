"""The rule of transformers' assisted generation: longer after success, shorter after a rejection."""

from __future__ import annotations

from agents.base import Controller
from dsd_gym.observation import Observation
from dsd_gym.records import Decision


class Heuristic(Controller):
    """+2 when the whole window was accepted, else -1, never below 1 (the `heuristic` schedule of transformers).

    transformers starts at 20 tokens; `first_window` is tuned by `python -m agents.tune heuristic`.
    """

    def __init__(self, max_window: int, first_window: int = 9) -> None:
        self._max_window, self._first_window = max_window, min(first_window, max_window)

    def decide(self, observation: Observation, stream: int) -> Decision:
        """Return the next window from the last one and how it fared."""
        if not observation.has_last_round:
            return Decision(self._first_window)
        change = 2 if observation.all_accepted else -1
        return Decision(min(max(observation.last_window + change, 1), self._max_window))
