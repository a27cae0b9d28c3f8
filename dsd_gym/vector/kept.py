"""The rounds of runs that go on side by side, sorted out run by run."""

from __future__ import annotations

import numpy as np

from dsd_gym.rounds import RoundArray
from dsd_gym.vector.layout import ROUND

PILE = 1 << 16
"""Rounds that are sorted at a time."""


class KeptRounds:
    """Takes rounds of all places as they end; gives those of one place in their order."""

    def __init__(self, places: int) -> None:
        self._pile: list[RoundArray] = []
        self._piled = 0
        self._sorted: list[list[RoundArray]] = [[] for _ in range(places)]

    def add(self, rounds: RoundArray) -> None:
        """Keep a copy of rounds; `deployment` says of which place each is."""
        self._pile.append(rounds.copy())
        self._piled += len(rounds)
        if self._piled >= PILE:
            self._sort()

    def take(self, place: int) -> RoundArray:
        """Return the rounds of a place, and forget them."""
        self._sort()
        taken, self._sorted[place] = self._sorted[place], []
        return np.concatenate([np.zeros(0, ROUND), *taken])

    def _sort(self) -> None:
        if not self._piled:
            return
        rounds = np.concatenate(self._pile)
        order = np.argsort(rounds["deployment"].astype(np.int16), kind="stable")
        ends = np.bincount(rounds["deployment"], minlength=len(self._sorted)).cumsum()
        for place, part in enumerate(np.split(rounds[order], ends[:-1])):
            if len(part):
                self._sorted[place].append(part.copy())  # a view would keep the whole pile
        self._pile, self._piled = [], 0
