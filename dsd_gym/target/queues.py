"""All that waits at a target."""

from __future__ import annotations

import math
from bisect import insort
from typing import NamedTuple

from dsd_gym.request import Request
from dsd_gym.target.batch import Batch, Window
from dsd_gym.target.orders import Order


class Queued(NamedTuple):
    """A request with prefill to do. Ordered by rank, then admission."""

    rank: float
    admitted: int
    request: Request

    @property
    def tokens(self) -> int:
        """Return the tokens to prefill."""
        return self.request.prefill_tokens


class Queues:
    """Windows, decoding streams, and requests before and in their prefill. Who has lost memory may stand twice."""

    def __init__(self, order: Order) -> None:
        self.order = order
        self.windows: list[Window] = []
        """Sorted by the pass that looks at them."""
        self.decoding: dict[int, Request] = {}
        """By stream; those whose turn was longest ago come first."""
        self.waiting: list[Queued] = []
        self.prefilling: list[Queued] = []
        """These two are kept sorted. A request holds memory from when it goes from the first to the second."""
        self.preempted = 0
        """Of the requests in these two, those that have been there before."""

    def add_window(self, request: Request, drafted: int, now_ms: float) -> None:
        """Let a window wait for the next pass."""
        self.windows.append(Window(self.order.rank(request), now_ms, request.arrival.stream, drafted, request))

    def add_waiting(self, request: Request) -> None:
        """Let a request wait for memory; one that comes again is ahead of all that were admitted after it."""
        insort(self.waiting, Queued(self.order.rank(request), request.admitted, request))

    def put_back(self, request: Request, now_ms: float) -> None:
        """Let a request wait whose cache was dropped: its prompt and its verified tokens must be prefilled again."""
        if request.prefilled < request.prefill_tokens:
            self.remove_prefilling(request)
            if request.prefilled and not request.verified:
                request.queued_ms = now_ms - request.queued_ms  # its waits add up
        else:
            self.preempted += 1
        request.prefilled, request.prefill_tokens = 0, request.cached_tokens
        self.add_waiting(request)

    def remove_prefilling(self, request: Request) -> None:
        """Take out a request whose prefill is done, or has lost its memory."""
        self.prefilling = [queued for queued in self.prefilling if queued.request is not request]

    def others(self, batch: Batch) -> int:
        """Return the requests that an iteration has held up, less one: those in it, and all that wait at its end."""
        served = len(batch.windows) + len(self.windows) + len(self.decoding)
        return served + len(self.waiting) + len(self.prefilling) - self._counted_twice() - 1

    def _counted_twice(self) -> int:
        """Return the windows and decoding streams whose requests have lost their memory and wait to be prefilled."""
        if not self.preempted:
            return 0
        streams = [*(window.request for window in self.windows), *self.decoding.values()]
        return sum(request.prefilled < request.prefill_tokens for request in streams)

    @property
    def unread_tokens(self) -> int:
        """Return the tokens that wait to be prefilled."""
        return self.unread_tokens_to(math.inf)

    def unread_tokens_to(self, rank: float) -> int:
        """Return those of requests up to a rank: what is ahead of one of that rank that comes now."""
        queued = (q for part in (self.waiting, self.prefilling) for q in part if q.rank <= rank)
        return sum(q.request.prefill_tokens - q.request.prefilled for q in queued)

    def sequences_and_tokens(self, tokens_per_decode: int) -> tuple[int, int]:
        """Return the size of a pass that would take all that is here."""
        sequences = len(self.windows) + len(self.decoding) + len(self.waiting) + len(self.prefilling)
        tokens = sum(window.tokens for window in self.windows) + len(self.decoding) * tokens_per_decode
        return sequences, tokens + self.unread_tokens
