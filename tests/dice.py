"""Random choices of deployments and of windows, looked up by key as all luck of a simulation is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from agents.base import Controller
from dsd_gym import luck
from dsd_gym.observation import Observation
from dsd_gym.records import Decision


class Dice:
    """Independent choices, all from one seed: two seeds next to each other have nothing in common."""

    def __init__(self, seed: int) -> None:
        self._seed, self._thrown = seed, 0

    def uniform(self) -> float:
        """Return a number in (0, 1)."""
        self._thrown += 1
        return luck.uniform(self._seed, 999, 0, self._thrown)

    def pick(self, *options: Any) -> Any:
        """Return one of the options, all equally likely; one that stands twice is twice as likely."""
        return options[int(self.uniform() * len(options))]

    def some(self, make: Callable[[Dice], Any], most: int) -> list[Any]:
        """Return up to `most` things."""
        return [make(self) for _ in range(int(self.uniform() * (most + 1)))]


class RandomDecisions(Controller):
    """Any window and any threshold, keyed by how often who has been asked: the same in every run of a seed."""

    def __init__(self, seed: int, max_window: int) -> None:
        self._seed, self._max_window = seed, max_window
        self._asked: dict[int, int] = {}

    def decide(self, observation: Observation, stream: int) -> Decision:
        """Return a random decision: a fifth of them leave it to the cloud."""
        asked = self._asked[stream] = self._asked.get(stream, -1) + 1
        cloud, window, threshold = (luck.uniform(self._seed, 1000 + part, stream, asked) for part in range(3))
        if cloud < 0.2:
            return Decision(0)
        return Decision(1 + int(window * self._max_window), threshold if threshold < 0.5 else None)

    def forget(self, stream: int) -> None:
        """Drop the count."""
        self._asked.pop(stream, None)
