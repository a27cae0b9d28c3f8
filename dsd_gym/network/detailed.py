"""A link with everything that the plain one lacks: queues, recorded bandwidth, loss, outages and hand-over."""

from __future__ import annotations

from typing import Protocol

from dsd_gym import luck
from dsd_gym.latency import transmission_ms
from dsd_gym.network.bandwidth import Way
from dsd_gym.network.handover import Cells
from dsd_gym.network.link import Link
from dsd_gym.network.loss import Losses
from dsd_gym.network.outages import Outages
from dsd_gym.network.trace_file import read_bandwidth
from dsd_gym.scenario import LinkSpec


class _Hold(Protocol):
    def clear_ms(self, at_ms: float) -> float: ...


class DetailedLink(Link):
    """A message waits for its turn and for what holds it, is transmitted, travels, and is sent again where it is lost.

    Bandwidth, round trip and luck are those of the moment at which its first byte leaves, but for a trace, which is
    followed to the last byte; what begins to hold messages later lets it pass. Copies sent again take no bandwidth from
    others. Waiting in the queue counts as propagation: an edge sees a full queue as a longer round trip.
    """

    def __init__(self, spec: LinkSpec, seed: int, device: int) -> None:
        super().__init__(spec, seed, device)
        self.queues = spec.queueing != "none"
        self._free_ms = [0.0, 0.0]
        """When each pipe will have sent what it has taken: down, up."""
        self._cells = Cells(spec.handover, seed, device) if spec.handover else None
        outages = Outages(spec.outages) if spec.outages else None
        self._holds: list[_Hold] = [hold for hold in (self._regimes, outages, self._cells) if hold]
        self._losses = Losses(spec.loss, spec.retransmit_ms, seed, device) if spec.loss else None
        self._trace = read_bandwidth(spec.trace) if spec.trace else None
        self._shift_ms = 0.0
        if self._trace:
            self.up_mbps, self.down_mbps = self._trace.up.mean_mbps, self._trace.down.mean_mbps
            if spec.trace_shift:
                self._shift_ms = luck.uniform(seed, luck.TRACE_SHIFT, device, 0) * self._trace.length_ms

    def uplink(self, now_ms: float, message_bytes: float) -> tuple[float, float]:
        """Return (propagation ms, transmission ms) of a message from the device, and book the pipe if it queues."""
        return self._pass(now_ms, message_bytes, up=True)

    def downlink(self, now_ms: float, message_bytes: float) -> tuple[float, float]:
        """Return (propagation ms, transmission ms) of a message from the cloud, and book the pipe if it queues."""
        return self._pass(now_ms, message_bytes, up=False)

    def clear_ms(self, at_ms: float) -> float:
        """Return when what is sent at `at_ms` can leave: then, or when nothing holds it any more."""
        held_ms = None
        while at_ms != held_ms:
            held_ms = at_ms
            for hold in self._holds:
                at_ms = hold.clear_ms(at_ms)
        return at_ms

    def _pass(self, now_ms: float, message_bytes: float, up: bool) -> tuple[float, float]:
        leaves_ms = self.clear_ms(max(now_ms, self._free_ms[up]))
        transmit_ms = self._transmission_ms(leaves_ms, message_bytes, up)
        if self.queues:
            self._free_ms[up] = leaves_ms + transmit_ms
        rtt_ms = self._rtt_ms(leaves_ms)
        share = self.spec.up_share if up else self._down_share
        again_ms = self._losses.delay_ms(leaves_ms, message_bytes, up, rtt_ms) if self._losses else 0.0
        return leaves_ms - now_ms + share * (rtt_ms + self._jitter_ms(leaves_ms)) + again_ms, transmit_ms

    def _transmission_ms(self, leaves_ms: float, message_bytes: float, up: bool) -> float:
        factor = self.regime(leaves_ms)[0].bandwidth_factor
        if self._trace:
            way: Way = self._trace.up if up else self._trace.down
            return way.transmission_ms(self._phase_ms(leaves_ms), message_bytes / factor)
        return transmission_ms(message_bytes, (self.up_mbps if up else self.down_mbps) * factor)

    def _rtt_ms(self, now_ms: float) -> float:
        """Return the round trip, jitter aside."""
        recorded_ms = self._trace.rtt_ms(self._phase_ms(now_ms)) if self._trace else None
        rtt_ms = self.spec.rtt_ms if recorded_ms is None else recorded_ms
        cell_factor = self._cells.rtt_factor(now_ms) if self._cells else 1.0
        return rtt_ms * self.regime(now_ms)[0].rtt_factor * cell_factor

    def _phase_ms(self, now_ms: float) -> float:
        assert self._trace
        return (now_ms + self._shift_ms) % self._trace.length_ms
