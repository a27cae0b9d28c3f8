"""Who goes first: the order of windows, of requests that wait for their prefill, and of decoding where not all fit.

fifo: by time of arrival; decoding streams take turns. priority: by class, smaller first, fifo within a class; a class
that fills the target starves those after it. edf: by the time when the next token is due, so that who waits long comes
first in the end. length_aware: the oldest, then those whose lengths are nearest to its own. It stands for the
length-aware batching of the DSD paper (arXiv 2511.21669), which gives no rule; it has something to win where passes are
padded, and nobody starves, since the oldest always rides.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

from dsd_gym.request import Request


class Sized(Protocol):
    """Something that waits for a pass."""

    @property
    def tokens(self) -> int:
        """Tokens that it brings."""
        ...


Waiting = TypeVar("Waiting", bound=Sized)


class Order(Protocol):
    """A rule of precedence."""

    def rank(self, request: Request) -> float:
        """Return where something of this request belongs that begins to wait, or would decode, now; smaller first.

        Ties are broken by arrival; among decoding streams by turns.
        """
        ...

    def arrange(self, waiting: list[Waiting]) -> list[Waiting]:
        """Return those that wait, sorted by rank and arrival, in the order in which a pass takes them."""
        ...


class Fifo:
    """First come, first served."""

    def rank(self, request: Request) -> float:
        """Rank all alike."""
        return 0.0

    def arrange(self, waiting: list[Waiting]) -> list[Waiting]:
        """Change nothing."""
        return waiting


class Priority(Fifo):
    """Classes strictly one after another."""

    def rank(self, request: Request) -> float:
        """Rank by the class."""
        return request.priority


class EarliestDeadline(Fifo):
    """Whose next token is due first."""

    def rank(self, request: Request) -> float:
        """Return when the next token is due: each has `tpot_ms` from the one before, the first one `ttft_ms`."""
        slo = request.slo
        return request.arrival.arrival_ms + slo.ttft_ms + slo.tpot_ms * request.verified


class LengthAware(Fifo):
    """The oldest, and those most like it."""

    def arrange(self, waiting: list[Waiting]) -> list[Waiting]:
        """Put the oldest first, then the others by how far their tokens are from its own, older first in a tie."""
        if len(waiting) < 3:
            return waiting
        oldest = waiting[0].tokens
        return sorted(waiting, key=lambda other: abs(other.tokens - oldest))


_ORDERS: dict[str, Callable[[], Order]] = {
    "fifo": Fifo,
    "priority": Priority,
    "length_aware": LengthAware,
    "edf": EarliestDeadline,
}


def make_order(name: str) -> Order:
    """Return the order that a target's class names."""
    return _ORDERS[name]()
