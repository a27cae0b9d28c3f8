"""How long to wait before trying again, and when to give up."""

from __future__ import annotations

import random
from collections.abc import Callable

from runtime.messages import Busy, Disconnected

FIRST_MS = 50.0
LONGEST_MS = 2000.0


class Backoff:
    """Pauses between the attempts of one failure: doubling where nobody answers, as told where the target is full."""

    def __init__(self, retry_for_s: float, clock: Callable[[], float]) -> None:
        self._retry_for_s, self._clock = retry_for_s, clock
        self._since_ms = clock()
        self._next_ms = FIRST_MS

    def spare(self, ms: float) -> None:
        """Leave out a time in which a target was found: it does not count as looking for one."""
        self._since_ms += ms

    def pause_ms(self, error: Disconnected | Busy) -> float:
        """Return the ms to wait after `error`; raise one that says so once the time is up."""
        left_ms = self._since_ms + 1000.0 * self._retry_for_s - self._clock()
        if left_ms <= 0.0:
            tried = f"{error} (tried for {self._retry_for_s:g} s)"
            raise Busy(tried, error.retry_ms) if isinstance(error, Busy) else Disconnected(tried)
        if isinstance(error, Busy):
            longest_ms = min(max(error.retry_ms, FIRST_MS), LONGEST_MS)
        else:
            longest_ms, self._next_ms = self._next_ms, min(2.0 * self._next_ms, LONGEST_MS)
        return min(longest_ms * random.uniform(0.5, 1.0), left_ms)  # edges that lost the same target spread out
