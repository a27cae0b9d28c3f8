"""The regimes that a moving device's link goes through."""

from __future__ import annotations

import math
from collections.abc import Sequence

from dsd_gym import luck
from dsd_gym.network.timeline import Timeline
from dsd_gym.scenario import Regime


class Regimes:
    """A semi-Markov chain: exponential dwells, and after each another regime, all equally likely."""

    def __init__(self, regimes: tuple[Regime, ...], seed: int, device: int) -> None:
        self._regimes, self._seed, self._device = regimes, seed, device
        self._dwells_ms = tuple(regime.dwell_ms for regime in regimes)
        self._timeline = Timeline(self._draw)

    def at(self, now_ms: float) -> tuple[Regime, float]:
        """Return the regime in force at `now_ms` and the time it ends."""
        state, _, ends_ms = self._timeline.at(now_ms)
        return self._regimes[state], ends_ms

    def clear_ms(self, at_ms: float) -> float:
        """Return when what is sent at `at_ms` can leave: then, or when the outage ends."""
        regime, ends_ms = self.at(at_ms)
        while regime.outage:
            at_ms = ends_ms
            regime, ends_ms = self.at(at_ms)
        return at_ms

    def _draw(self, index: int, last: int | None) -> tuple[int, float]:
        which = luck.uniform(self._seed, luck.REGIME, self._device, 2 * index)
        if len(self._regimes) == 1:
            return 0, math.inf
        state = first_state(which, self._dwells_ms) if last is None else next_state(which, last, len(self._regimes))
        dwell = luck.uniform(self._seed, luck.REGIME, self._device, 2 * index + 1)
        return state, luck.exponential(self._dwells_ms[state], dwell)


def first_state(number: float, dwells_ms: Sequence[float]) -> int:
    """Return a first regime drawn by share of time, which for equally likely visits is the share of dwell."""
    total_ms = 0.0
    for dwell_ms in dwells_ms:
        total_ms += dwell_ms
    left_ms = number * total_ms
    for state, dwell_ms in enumerate(dwells_ms):
        left_ms -= dwell_ms
        if left_ms < 0.0:
            return state
    return len(dwells_ms) - 1


def next_state(number: float, last: int, count: int) -> int:
    """Return the regime after `last`: another of the `count`, all equally likely."""
    state = int(number * (count - 1))
    return state + 1 if state >= last else state
