"""KV memory, in tokens: who holds how much of it, and who gives way when it runs out.

reserve: a request takes what its whole life can need before its prefill begins, and waits until that is free.
preempt: it takes its prompt then, and more as it grows. Where a pass needs more than is free, the request admitted last
(of the lowest class) loses its cache and is prefilled again, with all that was verified (as vLLM recomputes). A request
takes nothing from those before it: it sits the pass out. So the first in the order of admission always gets what it
needs, and since nothing is admitted that could not have the memory alone, all end.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable
from typing import Protocol

from dsd_gym.request import Request


class Memory(Protocol):
    """Where requests get memory from, and give it back."""

    capacity: int
    free: int
    preemptions: int
    fixed: bool
    """Whether a request's memory stays as it is from `begin` to `release`: passes need not ask then."""

    def new_pass(self) -> None:
        """Begin to fill a pass: nobody rides in it yet."""
        ...

    def begin(self, request: Request) -> bool:
        """Take what a prefill needs; False: too little is free."""
        ...

    def grow(self, request: Request, tokens: int) -> bool:
        """Take what `tokens` more in this pass need; False: this request cannot ride in it."""
        ...

    def settle(self, request: Request) -> None:
        """Give back what a pass took and did not commit."""
        ...

    def release(self, request: Request) -> None:
        """Give back all: the last token is verified."""
        ...


class Reserve:
    """Memory for a request's whole life, taken when its prefill begins."""

    fixed = True

    def __init__(self, capacity: int) -> None:
        self.capacity = self.free = capacity
        self.preemptions = 0

    def new_pass(self) -> None:
        """Do nothing."""

    def begin(self, request: Request) -> bool:
        """Take prompt and output."""
        if request.kv_tokens > self.free:
            return False
        request.held_tokens = request.kv_tokens
        self.free -= request.kv_tokens
        return True

    def grow(self, request: Request, tokens: int) -> bool:
        """Take nothing: it is there."""
        return True

    def settle(self, request: Request) -> None:
        """Keep all until the end."""

    def release(self, request: Request) -> None:
        """Give back prompt and output."""
        self.free += request.held_tokens
        request.held_tokens = 0


class Preempt:
    """Memory as it is needed, taken from those admitted last where it runs out; `evicted` is told of each of them."""

    fixed = False

    def __init__(self, capacity: int, evicted: Callable[[Request], None]) -> None:
        self.capacity = self.free = capacity
        self.preemptions = 0
        self._evicted = evicted
        self._holders: list[Request] = []
        """In the order in which they may take from each other."""
        self._riding: set[Request] = set()

    def new_pass(self) -> None:
        """Let everybody's memory be taken again: those in a pass are safe only while it is filled."""
        self._riding.clear()

    def begin(self, request: Request) -> bool:
        """Take the prompt, and what was verified before the cache was lost."""
        if request.prefill_tokens > self.free:
            return False
        insort(self._holders, request, key=_seniority)
        self._take(request, request.prefill_tokens)
        return True

    def grow(self, request: Request, tokens: int) -> bool:
        """Take room for the tokens in flight, but none for those past the request's end."""
        if request.prefilled < request.prefill_tokens:
            return False
        need = min(request.cached_tokens + tokens, request.kv_tokens) - request.held_tokens
        if need > self.free and not self._make_room(request, need):
            return False
        self._take(request, need)
        self._riding.add(request)
        return True

    def settle(self, request: Request) -> None:
        """Keep what is verified."""
        self._take(request, request.cached_tokens - request.held_tokens)

    def release(self, request: Request) -> None:
        """Give back all."""
        self._take(request, -request.held_tokens)
        self._holders.remove(request)

    def _take(self, request: Request, tokens: int) -> None:
        request.held_tokens += tokens
        self.free -= tokens

    def _make_room(self, request: Request, need: int) -> bool:
        """Preempt as few as will do, the last first; none if all that come after `request` would not do."""
        victims, room = [], self.free
        for holder in reversed(self._holders):
            if room >= need or holder is request:
                break
            if holder not in self._riding:
                victims.append(holder)
                room += holder.held_tokens
        if room < need:
            return False
        for victim in victims:
            self._preempt(victim)
        return True

    def _preempt(self, request: Request) -> None:
        self._holders.remove(request)
        self._take(request, -request.held_tokens)
        self.preemptions += 1
        self._evicted(request)


def _seniority(request: Request) -> tuple[int, int]:
    return request.priority, request.admitted
