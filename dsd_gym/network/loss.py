"""Loss as those who send over TCP see it: not as loss, but as delay until the segment has been sent again.

A loss that three or more later segments follow shows in their acknowledgements, after one round trip (fast retransmit,
RFC 5681); without them it takes a timeout, which doubles with each loss of the same segment (RFC 6298). A round's few
tokens fit one segment, so nearly every loss of theirs takes a timeout.
"""

from __future__ import annotations

import math

from dsd_gym import luck

SEGMENT_BYTES = 1448
"""Data in an Ethernet frame of 1,500 bytes with TCP timestamps."""
TAIL_SEGMENTS = 3
"""The last segments of a message, too few of which follow for a fast retransmit."""
LONGEST_TIMEOUT_MS = 120_000.0
"""Where doubling ends (Linux)."""


def segments(message_bytes: float) -> int:
    """Return how many segments a message takes."""
    return max(1, math.ceil(message_bytes / SEGMENT_BYTES))


def is_lost(uniform: float, probability: float, count: int) -> bool:
    """Return whether any of `count` segments is lost, from one uniform number."""
    return uniform > (1.0 - probability) ** count


def times_lost(uniform: float, probability: float, count: int) -> int:
    """Return how often the unluckiest of `count` segments is lost; P(at most k) = (1 - probability^(k + 1))^count."""
    if not is_lost(uniform, probability, count):
        return 0
    all_pass = -math.expm1(math.log(uniform) / count)  # 1 - uniform^(1 / count), which may be next to nothing
    return max(1, math.ceil(math.log(all_pass) / math.log(probability)) - 1)


def timeout_ms(rtt_ms: float, retransmit_ms: float) -> float:
    """Return the first retransmission timeout: no timer is set below two round trips."""
    return max(retransmit_ms, 2.0 * rtt_ms)


def backoff_ms(losses: int, timeout_ms: float) -> float:
    """Return the sum of `losses` timeouts, each twice the one before up to two minutes."""
    total_ms, longest_ms = 0.0, max(timeout_ms, LONGEST_TIMEOUT_MS)
    while losses and timeout_ms < longest_ms:
        total_ms += timeout_ms
        losses, timeout_ms = losses - 1, 2.0 * timeout_ms
    return total_ms + losses * longest_ms


class Losses:
    """What loss adds to a link's messages. Its luck is the clock's: messages of one direction and ms share a number."""

    def __init__(self, probability: float, retransmit_ms: float, seed: int, device: int) -> None:
        self._probability, self._retransmit_ms = probability, retransmit_ms
        self._seed, self._device = seed, device

    def delay_ms(self, leaves_ms: float, message_bytes: float, up: bool, rtt_ms: float) -> float:
        """Return the ms until a message that leaves at `leaves_ms` has been sent in full, after the first attempt."""
        count, ms = segments(message_bytes), int(leaves_ms)
        losses = times_lost(self._uniform(up, 2 * ms), self._probability, min(count, TAIL_SEGMENTS))
        if losses:
            return backoff_ms(losses, timeout_ms(rtt_ms, self._retransmit_ms))
        earlier = count - TAIL_SEGMENTS
        if earlier > 0 and is_lost(self._uniform(up, 2 * ms + 1), self._probability, earlier):
            return rtt_ms
        return 0.0

    def _uniform(self, up: bool, index: int) -> float:
        return luck.uniform(self._seed, luck.LOSS, 2 * self._device + up, index)
