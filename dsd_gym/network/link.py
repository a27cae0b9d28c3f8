"""The link between a device and the cloud: a function of wall-clock alone, so that no decision can change the luck."""

from __future__ import annotations

import math

from dsd_gym import luck
from dsd_gym.latency import one_way_ms, transmission_ms
from dsd_gym.network.regimes import Regimes
from dsd_gym.scenario import LinkSpec, Regime

_STEADY = Regime("steady", dwell_ms=1.0)


class Link:
    """One device's link. Messages pay their share of the round trip of the moment they leave, plus transmission.

    Here messages do not queue behind each other: `dsd_gym.network.detailed` has links on which they do, and more.
    """

    queues = False
    """Whether messages wait for each other: then they must be sent in order of time, each when it leaves."""

    def __init__(self, spec: LinkSpec, seed: int, device: int) -> None:
        self.spec, self._seed, self._device = spec, seed, device
        self.up_mbps, self.down_mbps = spec.up_mbps, spec.down_mbps
        """Mean bandwidth, regimes and outages aside."""
        self._down_share = 1.0 - spec.up_share
        self._regimes = Regimes(spec.regimes, seed, device) if spec.regimes else None
        self._jitter = luck.stem(seed, luck.JITTER, device)
        self._slot, self._slot_jitter_ms = -1, 0.0

    def uplink(self, now_ms: float, message_bytes: float) -> tuple[float, float]:
        """Return (propagation ms, transmission ms) of a message that leaves the device at `now_ms`.

        Propagation is all but transmission: what the message waits for, its way, and what loss adds to it.
        """
        return self._send(now_ms, message_bytes, self.spec.up_share, self.spec.up_mbps)

    def downlink(self, now_ms: float, message_bytes: float) -> tuple[float, float]:
        """Return (propagation ms, transmission ms) of a message that leaves the cloud at `now_ms`."""
        return self._send(now_ms, message_bytes, self._down_share, self.spec.down_mbps)

    def _send(self, now_ms: float, message_bytes: float, share: float, bandwidth_mbps: float) -> tuple[float, float]:
        leaves_ms, regime = now_ms, _STEADY
        if self._regimes:
            regime, ends_ms = self._regimes.at(now_ms)
            while regime.outage:
                leaves_ms = ends_ms
                regime, ends_ms = self._regimes.at(leaves_ms)
        way_ms = one_way_ms(share, self.spec.rtt_ms, regime.rtt_factor, self._jitter_ms(leaves_ms))
        return leaves_ms - now_ms + way_ms, transmission_ms(message_bytes, bandwidth_mbps * regime.bandwidth_factor)

    def _jitter_ms(self, now_ms: float) -> float:
        if self.spec.jitter_ms == 0.0:
            return 0.0
        slot = int(now_ms / self.spec.jitter_slot_ms)
        if slot != self._slot:  # messages of one slot share its number
            number = luck.uniform_from(self._jitter, slot)
            self._slot, self._slot_jitter_ms = slot, luck.exponential(self.spec.jitter_ms, number)
        return self._slot_jitter_ms

    def regime(self, now_ms: float) -> tuple[Regime, float]:
        """Return the regime in force at `now_ms` and the time it ends."""
        return self._regimes.at(now_ms) if self._regimes else (_STEADY, math.inf)

    def clear_ms(self, at_ms: float) -> float:
        """Return when what is sent at `at_ms` can leave: then, or when nothing holds it any more."""
        return self._regimes.clear_ms(at_ms) if self._regimes else at_ms
