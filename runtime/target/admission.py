"""Who gets KV memory, who waits for it, and when somebody who was turned away should come again."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from runtime.messages import Busy
from runtime.target.session import Session, State

FIRST_GUESS_MS = 500.0
"""Between two departures, before any was seen."""
SHORTEST_RETRY_MS = 20.0
LONGEST_RETRY_MS = 30_000.0
GAIN = 0.25


class Admission:
    """Memory for a request's whole life is reserved before its prefill; requests get it in order of arrival."""

    def __init__(self, budget_tokens: int, max_queue: int) -> None:
        self.budget_tokens, self.used_tokens = budget_tokens, 0
        self._max_queue = max_queue
        self._waiting: deque[Session] = deque()
        self._departure_ms = FIRST_GUESS_MS
        self._measured_from_ms = 0.0
        self._turned_away = 0

    @property
    def waiting(self) -> int:
        """Return how many wait for memory."""
        return len(self._waiting)

    def enter(self, session: Session, now_ms: float) -> None:
        """Queue a request that fits the budget; `Busy` where too many wait already."""
        if len(self._waiting) >= self._max_queue:
            raise Busy(f"{len(self._waiting)} requests wait for memory already", self._retry_ms())
        if not self._waiting:
            self._measured_from_ms = now_ms
        self._waiting.append(session)

    def admit(self) -> Iterator[Session]:
        """Reserve memory for those who have waited longest, and yield them."""
        while self._waiting and self._waiting[0].kv_tokens <= self.budget_tokens - self.used_tokens:
            session = self._waiting.popleft()
            self.used_tokens += session.kv_tokens
            session.state = State.PREFILLING
            yield session

    def give_up(self, session: Session) -> None:
        """Take a request out of the queue."""
        self._waiting.remove(session)

    def release(self, session: Session, now_ms: float) -> None:
        """Free an admitted request's memory. How often that happens while others wait makes the hint to come again."""
        self.used_tokens -= session.kv_tokens
        session.sequence = None
        self._turned_away = 0
        if self._waiting:
            self._departure_ms += GAIN * (now_ms - self._measured_from_ms - self._departure_ms)
            self._measured_from_ms = now_ms

    def _retry_ms(self) -> float:
        """Return when a place should be free: one departure for each that was turned away since the last."""
        self._turned_away += 1
        return min(max(self._departure_ms * self._turned_away, SHORTEST_RETRY_MS), LONGEST_RETRY_MS)
