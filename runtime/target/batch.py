"""Who rides in the next pass: windows in order of arrival, then cloud decoding, then prefill chunks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from runtime.kv_cache import Sequence
from runtime.target.session import Session, State


class Part(NamedTuple):
    """A session's share of a pass. It holds the cache, whatever becomes of the session meanwhile."""

    session: Session
    purpose: State
    sequence: Sequence
    tokens: list[int]
    rows: int
    """Tokens at its end after which a prediction is wanted: 0 in a prefill chunk before the last."""
    waited: bool
    """Whether the session has been waiting for this pass: a window, or the first chunk of a prompt."""


class Lanes:
    """Sessions that wait for a pass, by what they wait for; each lane in its own order."""

    def __init__(self) -> None:
        self._lanes: dict[State, dict[Session, None]] = {
            State.VERIFYING: {},
            State.DECODING: {},
            State.PREFILLING: {},
        }

    def __iter__(self) -> Iterator[Session]:
        """Yield all sessions."""
        for lane in self._lanes.values():
            yield from lane

    def enter(self, session: Session) -> None:
        """Put a session at the end of the lane of its state."""
        self._lanes[session.state][session] = None

    def leave(self, session: Session) -> None:
        """Take a session out; one that is in no lane is left alone."""
        for lane in self._lanes.values():
            lane.pop(session, None)

    def next_batch(self, max_tokens: int) -> list[Part]:
        """Fill a pass. Windows leave their lane; the others stay until they have what they wait for."""
        batch = self._windows(max_tokens)
        batch += self._decoding(max_tokens - sum(len(part.tokens) for part in batch))
        return batch + self._prefills(max_tokens - sum(len(part.tokens) for part in batch))

    def _windows(self, budget: int) -> list[Part]:
        lane, parts = self._lanes[State.VERIFYING], []
        while lane:
            session = next(iter(lane))
            tokens = [*session.unread, *session.window]
            if len(tokens) > budget:
                break
            del lane[session]
            budget -= len(tokens)
            parts.append(_part(session, tokens, len(tokens), waited=True))
        return parts

    def _decoding(self, budget: int) -> list[Part]:
        """Take one token of each stream; where not all fit, they take turns."""
        lane = self._lanes[State.DECODING]
        riders = list(lane)[:budget]
        if len(riders) < len(lane):
            for session in riders:
                del lane[session]
                lane[session] = None
        return [_part(session, session.unread, 1, waited=False) for session in riders]

    def _prefills(self, budget: int) -> list[Part]:
        parts = []
        for session in self._lanes[State.PREFILLING]:
            if not budget:
                break
            unread = session.unread
            chunk = unread[:budget]
            budget -= len(chunk)
            last, first = len(chunk) == len(unread), len(unread) == len(session.text)
            parts.append(_part(session, chunk, int(last), waited=first))
        return parts


def _part(session: Session, tokens: list[int], rows: int, waited: bool) -> Part:
    assert session.sequence is not None  # it has memory as soon as it is in a lane
    return Part(session, session.state, session.sequence, tokens, rows, waited)
