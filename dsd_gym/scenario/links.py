"""The way between a device and the cloud."""

from __future__ import annotations

from dataclasses import dataclass

from dsd_gym.config import NonNegative, Positive


@dataclass(frozen=True)
class Regime:
    """A state of a moving device's link, held for an exponential time; then another is drawn, all equally likely."""

    name: str
    dwell_ms: Positive
    rtt_factor: Positive = 1.0
    bandwidth_factor: Positive = 1.0
    outage: bool = False
    """Nothing passes: a message sent now leaves when the regime ends."""


@dataclass(frozen=True)
class LinkSpec:
    """A device's path to the cloud. Round trip = `rtt_ms` x regime + jitter, half of it each way."""

    rtt_ms: NonNegative = 20.0
    jitter_ms: NonNegative = 2.0
    """Mean of an exponential addition to the round trip, drawn anew every `jitter_slot_ms` of wall-clock."""
    jitter_slot_ms: Positive = 50.0
    up_mbps: Positive = 50.0
    """10^6 bits a second from the device; a regime's `bandwidth_factor` multiplies it."""
    down_mbps: Positive = 100.0
    regimes: tuple[Regime, ...] = ()

    def __post_init__(self) -> None:
        if self.regimes and all(regime.outage for regime in self.regimes):
            raise ValueError("regimes must not all be outages")
