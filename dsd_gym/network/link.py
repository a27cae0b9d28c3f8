"""The link between a device and the cloud: a function of wall-clock alone, so that no decision can change the luck."""

from __future__ import annotations

import math
from bisect import bisect_right

from dsd_gym import luck
from dsd_gym.latency import transmission_ms
from dsd_gym.scenario import LinkSpec, Regime

_STEADY = Regime("steady", dwell_ms=1.0)


class Link:
    """One device's link. Messages pay half the round trip of the moment they leave, plus their own transmission.

    Messages of a device do not queue behind each other: a stream has one in flight at a time.
    """

    def __init__(self, spec: LinkSpec, seed: int, device: int) -> None:
        self.spec, self._seed, self._device = spec, seed, device
        self._ends_ms: list[float] = []
        self._states: list[int] = []
        self._slot, self._slot_jitter_ms = -1, 0.0

    def uplink(self, now_ms: float, message_bytes: float) -> tuple[float, float]:
        """Return (propagation ms, transmission ms) of a message that leaves the device at `now_ms`."""
        return self._send(now_ms, message_bytes, self.spec.up_mbps)

    def downlink(self, now_ms: float, message_bytes: float) -> tuple[float, float]:
        """Return (propagation ms, transmission ms) of a message that leaves the cloud at `now_ms`."""
        return self._send(now_ms, message_bytes, self.spec.down_mbps)

    def _send(self, now_ms: float, message_bytes: float, bandwidth_mbps: float) -> tuple[float, float]:
        leaves_ms, regime = now_ms, _STEADY
        if self.spec.regimes:
            regime, ends_ms = self.regime(now_ms)
            while regime.outage:
                leaves_ms = ends_ms
                regime, ends_ms = self.regime(leaves_ms)
        one_way_ms = 0.5 * (self.spec.rtt_ms * regime.rtt_factor + self._jitter_ms(leaves_ms))
        return leaves_ms - now_ms + one_way_ms, transmission_ms(message_bytes, bandwidth_mbps * regime.bandwidth_factor)

    def _jitter_ms(self, now_ms: float) -> float:
        if self.spec.jitter_ms == 0.0:
            return 0.0
        slot = int(now_ms / self.spec.jitter_slot_ms)
        if slot != self._slot:  # messages of one slot share its number
            number = luck.uniform(self._seed, luck.JITTER, self._device, slot)
            self._slot, self._slot_jitter_ms = slot, -self.spec.jitter_ms * math.log(number)
        return self._slot_jitter_ms

    def regime(self, now_ms: float) -> tuple[Regime, float]:
        """Return the regime in force at `now_ms` and the time it ends; drawn lazily, the same in any order."""
        while not self._ends_ms or self._ends_ms[-1] <= now_ms:
            self._draw_next()
        at = bisect_right(self._ends_ms, now_ms)
        return self.spec.regimes[self._states[at]], self._ends_ms[at]

    def _draw_next(self) -> None:
        regimes, index = self.spec.regimes, len(self._states)
        which = luck.uniform(self._seed, luck.REGIME, self._device, 2 * index)
        if index == 0:
            state = self._stationary(which)
        else:
            state = int(which * (len(regimes) - 1)) if len(regimes) > 1 else 0
            state += len(regimes) > 1 and state >= self._states[-1]
        dwell = luck.uniform(self._seed, luck.REGIME, self._device, 2 * index + 1)
        dwell_ms = -regimes[state].dwell_ms * math.log(dwell) if len(regimes) > 1 else math.inf
        self._states.append(state)
        self._ends_ms.append((self._ends_ms[-1] if self._ends_ms else 0.0) + dwell_ms)

    def _stationary(self, uniform: float) -> int:
        """Return a first regime drawn by share of time, which for equally likely visits is the share of dwell."""
        total = uniform * sum(regime.dwell_ms for regime in self.spec.regimes)
        for state, regime in enumerate(self.spec.regimes):
            total -= regime.dwell_ms
            if total < 0.0:
                return state
        return len(self.spec.regimes) - 1
