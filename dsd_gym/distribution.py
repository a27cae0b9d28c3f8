"""A distribution as its values come: all of them, or a histogram of bounded size."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

RELATIVE_ERROR = 0.005
"""Of a histogram's percentiles: at most this share of the exact one, above or below."""

_GROWTH = (1.0 + RELATIVE_ERROR) / (1.0 - RELATIVE_ERROR)
_LOG_GROWTH = math.log(_GROWTH)
_MIDDLE = 2.0 / (_GROWTH + 1.0)


class Distribution(Protocol):
    """Values that are not negative, as they come."""

    def add(self, value: float) -> None:
        """Take in a value."""

    def mean(self) -> float:
        """Return the mean, nan where there is no value."""

    def percentile(self, percentile: float) -> float:
        """Return a percentile, 0 to 100, interpolated between neighbours as numpy does; nan where there is none."""


class Exact:
    """Every value."""

    def __init__(self) -> None:
        self.values: list[float] = []

    def add(self, value: float) -> None:
        """Take in a value."""
        self.values.append(value)

    def mean(self) -> float:
        """Return the mean."""
        return float(np.mean(self.values)) if self.values else math.nan

    def percentile(self, percentile: float) -> float:
        """Return a percentile."""
        return float(np.percentile(self.values, percentile)) if self.values else math.nan


@dataclass
class Histogram:
    """Counts in bins that grow in step with their values, so that a percentile is known to `RELATIVE_ERROR`.

    A value x > 0 is counted in bin ceil(log x / log g), g = (1 + e) / (1 - e), whose middle 2 g^i / (g + 1) is
    within e of all of it (Masson, Rim and Lee, DDSketch, VLDB 2019). The mean is exact. Two add up to one.
    """

    zeros: int = 0
    count: int = 0
    total: float = 0.0
    bins: dict[int, int] = field(default_factory=dict)

    def add(self, value: float) -> None:
        """Take in a value."""
        self.count += 1
        self.total += value
        if value <= 0.0:
            self.zeros += 1
            return
        index = math.ceil(math.log(value) / _LOG_GROWTH)
        self.bins[index] = self.bins.get(index, 0) + 1

    def merge(self, other: Histogram) -> None:
        """Take in all values of another."""
        self.zeros += other.zeros
        self.count += other.count
        self.total += other.total
        for index, count in other.bins.items():
            self.bins[index] = self.bins.get(index, 0) + count

    def mean(self) -> float:
        """Return the mean."""
        return self.total / self.count if self.count else math.nan

    def percentile(self, percentile: float) -> float:
        """Return a percentile to within `RELATIVE_ERROR` of the exact one."""
        if not self.count:
            return math.nan
        rank = percentile / 100.0 * (self.count - 1)
        low, high = self._at(math.floor(rank)), self._at(math.ceil(rank))
        return low + (high - low) * (rank - math.floor(rank))

    def _at(self, rank: int) -> float:
        """Return about the value that `rank` others precede."""
        passed = self.zeros
        if rank < passed:
            return 0.0
        for index in sorted(self.bins):
            passed += self.bins[index]
            if rank < passed:
                return _MIDDLE * math.exp(index * _LOG_GROWTH)
        raise IndexError(f"rank {rank} of {self.count} values")
