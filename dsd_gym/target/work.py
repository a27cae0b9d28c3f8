"""What a target did inside the measured interval, added up pass by pass."""

from __future__ import annotations

from typing import Protocol, TypeAlias

from dsd_gym.records import TargetRecord

Pass: TypeAlias = tuple[float, float, int, int]
"""(start_ms, end_ms, tokens, requests preempted to make room for it)."""


class PassLog(Protocol):
    """What is told of every pass when it ends."""

    def append(self, entry: Pass, /) -> None:
        """Take note of a pass."""


class Work:
    """The passes that overlap [`start_ms`, `end_ms`): their time inside it, their number, their tokens."""

    def __init__(self, start_ms: float, end_ms: float) -> None:
        self._start_ms, self._end_ms = start_ms, end_ms
        self._busy_ms, self._iterations, self._tokens, self._preemptions = 0.0, 0, 0, 0

    def append(self, entry: Pass, /) -> None:
        """Add a pass."""
        start_ms, end_ms, tokens, preemptions = entry
        if start_ms < self._end_ms and end_ms > self._start_ms:
            self._busy_ms += min(end_ms, self._end_ms) - max(start_ms, self._start_ms)
            self._iterations += 1
            self._tokens += tokens
            self._preemptions += preemptions

    def record(self) -> TargetRecord:
        """Return the work so far; a pass counts once it has ended."""
        return TargetRecord(self._busy_ms, self._iterations, self._tokens, self._preemptions)
