"""What the requests of one edge share: the draft on its thread, first come, first served, and the link's figures."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, ParamSpec, TypeVar

from dsd_gym.stream_view import LinkEstimate
from runtime.edge.draft import Draft, DraftState, Guess

P = ParamSpec("P")
T = TypeVar("T")

LARGE_BYTES = 4096
"""Messages from here on tell the bandwidth; of smaller ones, transmission drowns in the noise of a round trip."""
INLINE_MS = 5.0
"""Work that is expected to take no longer is done at once, in the event loop: two changes of thread cost more."""
MEMORY = 8
"""Large messages that the estimate looks back on."""


class Uplink:
    """The uplink's bandwidth, from the time that large messages (prompts) took beyond a round trip.

    That time also holds queueing, handshakes and TCP's slow start, so the least of the last `MEMORY` counts, and the
    estimate errs on the slow side. It is 0 until the first large message.
    """

    def __init__(self) -> None:
        self._found: deque[float] = deque(maxlen=MEMORY)

    @property
    def ms_per_byte(self) -> float:
        """Return the transmission ms of a byte."""
        return min(self._found, default=0.0)

    def measured(self, message_bytes: int, excess_ms: float) -> None:
        """Take in that a message took `excess_ms` longer than a round trip."""
        if message_bytes >= LARGE_BYTES:
            self._found.append(max(0.0, excess_ms) / message_bytes)


class Device:
    """An edge device: one draft model, which serves its requests in order, and one link."""

    def __init__(self, draft: Draft, clock: Callable[[], float]) -> None:
        self.draft, self._clock = draft, clock
        self.estimate = LinkEstimate()
        self.uplink = Uplink()
        self.reconnects = 0
        self.busy_until_ms = 0.0
        """When the passes that are booked will be done, going by the times that passes take."""
        self._thread = ThreadPoolExecutor(1, "draft")
        self._booked = 0

    def read(self, state: DraftState) -> asyncio.Future[None]:
        """Let the draft read the prompt."""
        return self._compute(self.reading_ms(state.prompt_tokens), self.draft.read, state)

    def guess(self, state: DraftState) -> asyncio.Future[Guess]:
        """Let the draft make its first guess."""
        return self._compute(self.draft.draft_ms_per_token, self.draft.guess, state)

    def window(
        self,
        state: DraftState,
        first: Guess | None,
        length: int,
        missed_tokens: int,
        stop_threshold: float | None = None,
    ) -> asyncio.Future[list[Guess]]:
        """Let the draft guess a window, after it has read what it missed."""
        stopped = first is not None and first.confidence < (stop_threshold or 0.0)
        if first is not None and (length == 1 or stopped or first.token in state.ends):
            guessed: asyncio.Future[list[Guess]] = asyncio.get_running_loop().create_future()
            guessed.set_result([first])  # nothing is left to do: not worth a visit to the thread
            return guessed
        steps = length - (first is not None)
        work_ms = self.reading_ms(missed_tokens) + steps * self.draft.draft_ms_per_token
        return self._compute(work_ms, self.draft.window, state, first, length, stop_threshold)

    def reading_ms(self, tokens: int) -> float:
        """Return the ms in which the draft reads `tokens`, as measured."""
        return tokens * self.draft.read_ms_per_token

    def close(self) -> None:
        """End the thread; a pass that runs is left to end by itself."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _compute(self, work_ms: float, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[T]:
        """Book the draft for `work_ms` and run `work` after whatever is booked already."""
        if work_ms <= INLINE_MS and not self._booked:
            return _done_here(work, *args, **kwargs)
        self.busy_until_ms = max(self._clock(), self.busy_until_ms) + work_ms
        self._booked += 1
        loop, running = asyncio.get_running_loop(), self._thread.submit(work, *args, **kwargs)
        running.add_done_callback(partial(self._ended, loop))
        return asyncio.wrap_future(running)

    def _ended(self, loop: asyncio.AbstractEventLoop, _: Future[Any]) -> None:
        """Learn, in the draft's thread, that work has ended: not when whoever waited for it gave up."""
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(self._done)

    def _done(self) -> None:
        self._booked -= 1
        if not self._booked:
            self.busy_until_ms = self._clock()


def _done_here(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[T]:
    """Do the work in this thread and return it as a future that is done."""
    done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
    try:
        done.set_result(work(*args, **kwargs))
    except Exception as error:
        done.set_exception(error)
    return done
