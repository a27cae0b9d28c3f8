"""The edge: one draft, one target, one controller, and any number of requests at once."""

from __future__ import annotations

import itertools
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing

from dsd_gym.controller import Controller
from dsd_gym.records import RequestRecord, Status
from runtime.edge.connection import Connection
from runtime.edge.device import Device
from runtime.edge.draft import Draft
from runtime.edge.guard import Guard
from runtime.edge.log import SessionLog
from runtime.edge.request import Progress, Request
from runtime.messages import Description, Opening, Refused, Sampling, Target
from runtime.sampling import check

__all__ = ["Edge", "Progress", "monotonic_ms"]


def monotonic_ms() -> float:
    """Return the ms of a clock that never goes back."""
    return time.monotonic() * 1000.0


class Edge:
    """Generate with `draft` here and `target` there; `controller` says how far to draft. Needs no connection yet."""

    def __init__(
        self,
        draft: Draft,
        target: Target,
        controller: Controller,
        *,
        max_window: int,
        fallback_window: int = 4,
        log: SessionLog | None = None,
        retry_for_s: float = 60.0,
        clock: Callable[[], float] = monotonic_ms,
    ) -> None:
        self.draft, self.target = draft, target
        self.controller = Guard(controller, max_window, min(fallback_window, max_window))
        self.requests = 0
        self._log, self._retry_for_s, self._clock = log, retry_for_s, clock
        self._device = Device(draft, clock)
        self._streams = itertools.count()

    @property
    def fallbacks(self) -> int:
        """Return how many decisions the fallback window took."""
        return self.controller.fallbacks

    @property
    def reconnects(self) -> int:
        """Return how many lost connections were made again."""
        return self._device.reconnects

    async def describe_target(self) -> Description:
        """Return what the target says of itself."""
        return await self.target.describe()

    async def generate(
        self, prompt: Sequence[int], sampling: Sampling, max_new_tokens: int, ignore_eos: bool = False
    ) -> AsyncGenerator[Progress, None]:
        """Yield tokens as they are committed, to the end, or until the generator is closed.

        Raises:
            Refused: this can never be served.
            Busy, Disconnected: the target was full, or not there, for as long as was tried.
        """
        self._check(prompt, sampling, max_new_tokens)
        opening = Opening(tuple(prompt), (), max_new_tokens, sampling, ignore_eos)
        connection = Connection(self.target, opening, self._device, self._clock, self._retry_for_s)
        request = Request(next(self._streams), opening, self._device, connection, self.controller, self._clock)
        self.requests += 1
        self.controller.begin(request.stream, device=0, target=0)
        status = Status.IN_FLIGHT
        try:
            async with aclosing(request.life()) as life:
                async for progress in life:
                    self._note(request, progress)
                    yield progress
        except Exception:
            status = Status.REJECTED
            raise
        finally:
            self._ended(request, status)
            await request.close()

    def close(self) -> None:
        """End the draft's thread and the log."""
        self._device.close()
        if self._log:
            self._log.close()

    def _check(self, prompt: Sequence[int], sampling: Sampling, max_new_tokens: int) -> None:
        """Raise Refused for what the draft cannot read."""
        check(sampling)
        model = self.draft.model
        if not prompt or max_new_tokens < 1:
            raise Refused("a request needs at least one prompt token and one new token")
        if not 0 <= min(prompt) <= max(prompt) < model.vocab_size:
            raise Refused(f"the prompt has tokens outside the draft's vocabulary of {model.vocab_size}")
        if len(prompt) + max_new_tokens > model.max_context_tokens:
            whole = f"{len(prompt)} prompt tokens and {max_new_tokens} new ones"
            raise Refused(f"{whole} are more than the {model.max_context_tokens} that the draft can read")

    def _note(self, request: Request, progress: Progress) -> None:
        """Let the controller and the log know of a round."""
        if progress.round:
            self.controller.record(progress.round)
            if self._log and request.observation:
                self._log.round(progress.round, request.observation, request.confidences)

    def _ended(self, request: Request, status: Status) -> None:
        """Enter how the request ended: a client that leaves after the first token has got what it asked for."""
        self.controller.forget(request.stream)
        tokens = request.draft.committed
        served = status is Status.IN_FLIGHT and tokens > 0
        if self._log:
            self._log.request(
                RequestRecord(
                    request.stream,
                    0,
                    0,
                    0,
                    request.arrival_ms,
                    len(request.opening.prompt),
                    tokens if served else request.opening.max_new_tokens,
                    tokens,
                    request.first_token_ms,
                    request.round_start_ms if served else None,
                    Status.FINISHED if served else status,
                )
            )
