"""Outages at times that are known beforehand."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from dsd_gym.scenario import Outage


class Outages:
    """Windows of time in which nothing passes; they may overlap."""

    def __init__(self, windows: Sequence[Outage]) -> None:
        self._starts_ms: list[float] = []
        self._ends_ms: list[float] = []
        for window in sorted(windows, key=lambda window: window.start_ms):
            end_ms = window.start_ms + window.duration_ms
            if self._ends_ms and window.start_ms <= self._ends_ms[-1]:
                self._ends_ms[-1] = max(self._ends_ms[-1], end_ms)
            else:
                self._starts_ms.append(window.start_ms)
                self._ends_ms.append(end_ms)

    def clear_ms(self, at_ms: float) -> float:
        """Return when what is sent at `at_ms` can leave: then, or when the outage ends."""
        window = bisect_right(self._starts_ms, at_ms) - 1
        return max(at_ms, self._ends_ms[window]) if window >= 0 else at_ms
