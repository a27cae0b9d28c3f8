"""The way between a device and the cloud."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from dsd_gym.config import NonNegative, Positive, Probability


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
class Outage:
    """A time in which nothing passes: a message sent in it leaves at its end. It may outlast the run."""

    start_ms: NonNegative
    duration_ms: Positive


@dataclass(frozen=True)
class Handover:
    """A moving device changes its cell at exponential times: a gap, and another round trip from then on."""

    every_ms: Positive
    """Mean time between two changes."""
    gap_ms: NonNegative
    """Nothing passes for so long after a change."""
    rtt_spread: Annotated[float, Field(ge=1)] = 1.0
    """Each cell multiplies `rtt_ms` by a factor drawn log-uniformly from 1 / spread to spread."""

    def __post_init__(self) -> None:
        if self.gap_ms >= self.every_ms:
            raise ValueError(f"gap_ms ({self.gap_ms:g}) must be less than every_ms ({self.every_ms:g})")


@dataclass(frozen=True)
class LinkSpec:
    """A device's path to the cloud. Round trip = `rtt_ms` x regime x cell + jitter, shared between the two ways."""

    rtt_ms: NonNegative = 20.0
    jitter_ms: NonNegative = 2.0
    """Mean of an exponential addition to the round trip, drawn anew every `jitter_slot_ms` of wall-clock."""
    jitter_slot_ms: Positive = 50.0
    up_mbps: Positive = 50.0
    """10^6 bits a second from the device; a regime's `bandwidth_factor` multiplies it."""
    down_mbps: Positive = 100.0
    regimes: tuple[Regime, ...] = ()
    up_share: Probability = 0.5
    """Part of the round trip that the way up takes."""
    queueing: Literal["none", "device", "site"] = "none"
    """Whether messages wait for each other's bandwidth, first come first served in each direction: not at all, those of
    one device, or those of all devices of a site, which then share one link and its luck."""
    trace: str | None = None
    """A CSV of time_ms,up_mbps,down_mbps[,rtt_ms], repeated, that replaces `up_mbps`, `down_mbps` and `rtt_ms`."""
    trace_shift: bool = True
    """Start each link's trace at a place of its own."""
    loss: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of 1,448-byte segments that are lost and sent again."""
    retransmit_ms: Positive = 200.0
    """Least time until a loss is noticed and the segment sent again (Linux's least timeout); doubles with each loss."""
    outages: tuple[Outage, ...] = ()
    """In ms of the run, for all devices that have this link."""
    handover: Handover | None = None

    def __post_init__(self) -> None:
        if self.regimes and all(regime.outage for regime in self.regimes):
            raise ValueError("regimes must not all be outages")
