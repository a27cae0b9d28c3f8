"""A recorded bandwidth: piecewise constant, repeated; a message takes the exact time that its bytes need."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import accumulate, pairwise

BYTES_A_MS = 125.0
"""Bytes in a ms at 1 Mb/s."""


class Way:
    """One direction: `rates_mbps[i]` holds from `bounds_ms[i]` to `bounds_ms[i + 1]`; the first bound is 0."""

    def __init__(self, bounds_ms: Sequence[float], rates_mbps: Sequence[float]) -> None:
        self._bounds_ms = bounds_ms
        self._bytes_a_ms = [rate * BYTES_A_MS for rate in rates_mbps]
        spans = [(end - start) * rate for (start, end), rate in zip(pairwise(bounds_ms), self._bytes_a_ms, strict=True)]
        self._passed = list(accumulate(spans, initial=0.0))
        self.mean_mbps = self._passed[-1] / bounds_ms[-1] / BYTES_A_MS

    def transmission_ms(self, phase_ms: float, message_bytes: float) -> float:
        """Return the ms that a message takes which begins `phase_ms` after the trace does."""
        if message_bytes == 0.0:
            return 0.0
        piece = bisect_right(self._bounds_ms, phase_ms) - 1
        before = self._passed[piece] + (phase_ms - self._bounds_ms[piece]) * self._bytes_a_ms[piece]
        laps, rest = divmod(before + message_bytes, self._passed[-1])
        if rest == 0.0:  # its last byte ends the lap, not the pause with which the next may begin
            laps, rest = laps - 1.0, self._passed[-1]
        piece = bisect_left(self._passed, rest) - 1
        end_ms = self._bounds_ms[piece] + (rest - self._passed[piece]) / self._bytes_a_ms[piece]
        return max(0.0, laps * self._bounds_ms[-1] + end_ms - phase_ms)


class BandwidthTrace:
    """Both directions and, if recorded, the round trip; one is shared by all links that follow it."""

    def __init__(
        self, bounds_ms: Sequence[float], up_mbps: Sequence[float], down_mbps: Sequence[float], rtt_ms: Sequence[float]
    ) -> None:
        self._bounds_ms, self._rtt_ms = bounds_ms, rtt_ms
        self.length_ms = bounds_ms[-1]
        self.up, self.down = Way(bounds_ms, up_mbps), Way(bounds_ms, down_mbps)

    def rtt_ms(self, phase_ms: float) -> float | None:
        """Return the recorded round trip; None where the trace has none."""
        return self._rtt_ms[bisect_right(self._bounds_ms, phase_ms) - 1] if self._rtt_ms else None
