"""The regimes that a moving device's link goes through."""

from __future__ import annotations

import math

from dsd_gym import luck
from dsd_gym.network.timeline import Timeline
from dsd_gym.scenario import Regime


class Regimes:
    """A semi-Markov chain: exponential dwells, and after each another regime, all equally likely."""

    def __init__(self, regimes: tuple[Regime, ...], seed: int, device: int) -> None:
        self._regimes, self._seed, self._device = regimes, seed, device
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
        count = len(self._regimes)
        which = luck.uniform(self._seed, luck.REGIME, self._device, 2 * index)
        if count == 1:
            return 0, math.inf
        if last is None:
            state = self._stationary(which)
        else:
            state = int(which * (count - 1))
            state += state >= last
        dwell = luck.uniform(self._seed, luck.REGIME, self._device, 2 * index + 1)
        return state, -self._regimes[state].dwell_ms * math.log(dwell)

    def _stationary(self, uniform: float) -> int:
        """Return a first regime drawn by share of time, which for equally likely visits is the share of dwell."""
        total = uniform * sum(regime.dwell_ms for regime in self._regimes)
        for state, regime in enumerate(self._regimes):
            total -= regime.dwell_ms
            if total < 0.0:
                return state
        return len(self._regimes) - 1
