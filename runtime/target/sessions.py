"""All sessions of an engine: who waits for memory, who for a pass, who for the edge."""

from __future__ import annotations

from collections.abc import Callable

from runtime.kv_cache import Sequence
from runtime.target.admission import Admission
from runtime.target.batch import Lanes, Part
from runtime.target.limits import Limits
from runtime.target.session import Session, State


class Sessions:
    """Whoever calls holds the engine's lock; the counts may be read without it."""

    def __init__(self, limits: Limits, new_sequence: Callable[[int], Sequence]) -> None:
        self.memory = Admission(limits.kv_budget_tokens, limits.max_queue)
        self._new_sequence = new_sequence
        self._max_batch_tokens = limits.max_batch_tokens
        self._lanes = Lanes()
        self._all: set[Session] = set()

    def __len__(self) -> int:
        """Return their number, those that wait for memory included."""
        return len(self._all)

    def enter(self, session: Session, now_ms: float) -> None:
        """Take a session in; `Busy` where too many wait for memory."""
        self.memory.enter(session, now_ms)
        self._all.add(session)
        self.admit()

    def admit(self) -> None:
        """Begin the prefill of everybody for whom there is memory."""
        for session in self.memory.admit():
            session.sequence = self._new_sequence(session.kv_tokens)
            self._lanes.enter(session)

    def queue(self, session: Session) -> None:
        """Have a session ride in the next passes."""
        self._lanes.enter(session)

    def next_batch(self, now_ms: float) -> list[Part]:
        """Return who rides in the next pass, marked as riding."""
        batch = self._lanes.next_batch(self._max_batch_tokens)
        for part in batch:
            part.session.riding = True
            if part.waited:
                part.session.queue_wait_ms = now_ms - part.session.arrived_ms
        return batch

    def held_up(self, batch: list[Part]) -> int:
        """Return how many a pass has held up: those in it, and all that wait at its end."""
        return len(batch) + self.memory.waiting + sum(not session.riding for session in self._lanes)

    def alight(self, session: Session, now_ms: float) -> None:
        """Mark the end of a session's pass; one that was closed meanwhile leaves its memory now."""
        session.riding = False
        if session.state is State.ENDED:
            self.memory.release(session, now_ms)

    def rest(self, session: Session) -> None:
        """Have a session wait for the edge."""
        self._lanes.leave(session)
        session.state = State.IDLE

    def end(self, session: Session, now_ms: float) -> None:
        """Take a session out; one that is in the pass in progress keeps its memory until `alight`."""
        if session.state is State.ENDED:
            return
        queued, session.state = session.state is State.QUEUED, State.ENDED
        self._all.discard(session)
        self._lanes.leave(session)
        if queued:
            self.memory.give_up(session)
        elif not session.riding:
            self.memory.release(session, now_ms)
        self.admit()

    def end_all(self, now_ms: float) -> list[Session]:
        """Take everybody out, and return them."""
        left = list(self._all)
        for session in left:
            session.riding = False
            self.end(session, now_ms)
        return left
