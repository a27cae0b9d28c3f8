"""The way from the devices' access network on to a target's region."""

from __future__ import annotations

from dsd_gym.network.link import Link


class RegionLink:
    """A device's link and what lies behind it: half of `extra_rtt_ms` more each way, without limits of bandwidth.

    Messages meet the device's link at the moment they are sent, those of the cloud too.
    """

    def __init__(self, link: Link, extra_rtt_ms: float) -> None:
        self._link, self._extra_ms = link, 0.5 * extra_rtt_ms

    def uplink(self, now_ms: float, message_bytes: float) -> tuple[float, float]:
        """Return (propagation ms, transmission ms) of a message that leaves the device at `now_ms`."""
        propagation_ms, transmission_ms = self._link.uplink(now_ms, message_bytes)
        return propagation_ms + self._extra_ms, transmission_ms

    def downlink(self, now_ms: float, message_bytes: float) -> tuple[float, float]:
        """Return (propagation ms, transmission ms) of a message that leaves the cloud at `now_ms`."""
        propagation_ms, transmission_ms = self._link.downlink(now_ms, message_bytes)
        return propagation_ms + self._extra_ms, transmission_ms
